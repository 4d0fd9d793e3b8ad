# SPDX-License-Identifier: MIT
"""What the benches run on, where they stand, and what a process has cost so far."""

import mmap
import os
import pathlib
import platform
import re
import shutil
import subprocess
import time

from lib.place import children_of

PROGRAMS = {
    "socat": ["socat", "-V"],
    "nginx": ["nginx", "-v"],
    "tcpdump": ["tcpdump", "--version"],
    "gnuplot": ["gnuplot", "--version"],
}
PACKAGES = {"s6": "s6", "runit": "runit", "LMDB": "liblmdb0", "SQLite": "libsqlite3-0", "avro-c": "libavro23"}
NGINX_STREAM = ("/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/share/nginx/modules/ngx_stream_module.so",
                "/usr/lib64/nginx/modules/ngx_stream_module.so")


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def first_version(text):
    found = re.search(r"\d+(\.\d+)+([-+.\w]*)", text)
    return found.group(0) if found else "unknown"


def versions():
    """Version of every peer; None when it is not installed."""
    found = {}
    for name, command in PROGRAMS.items():
        found[name] = None
        if shutil.which(command[0]):
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
            found[name] = first_version(re.sub(r"^socat by.*", "", result.stdout + result.stderr, flags=re.M))
    if not nginx_stream_module():
        found["nginx"] = None
    for name, package in PACKAGES.items():
        result = None
        if shutil.which("dpkg-query"):
            result = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", package], capture_output=True,
                                    text=True, check=False, timeout=10)
        found[name] = result.stdout if result and result.returncode == 0 else None
    return found


def nginx_stream_module():
    return next((path for path in NGINX_STREAM if os.path.exists(path)), None)


def file_system(folder):
    """Type of the file system below this folder."""
    best = ("", "unknown")
    path = os.path.realpath(folder)
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _device, point, kind = line.split()[:3]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def memory_available():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def touch_memory(size):
    """A virtual machine gets its memory from the host when it is touched for the first time, at some microseconds a page:
    whoever records first would pay for those who come after it."""
    size = min(size, memory_available() // 2)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


class Pinning:
    """Sender and sink on the last CPUs, the system under test on the others."""

    def __init__(self):
        self.all = sorted(os.sched_getaffinity(0))
        self.sender = self.all[-1]
        self.sink = self.all[-2] if len(self.all) > 3 else self.all[-1]
        rest = [cpu for cpu in self.all if cpu not in (self.sender, self.sink)]
        self.under_test = rest or self.all

    def describe(self):
        return (f"sender on CPU {self.sender}, sink on CPU {self.sink}, system under test on CPU "
                + ", ".join(map(str, self.under_test)))


class OnCpus:
    """with OnCpus({0}): processes started here inherit the affinity."""

    def __init__(self, cpus):
        self.cpus = set(cpus)

    def __enter__(self):
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus)

    def __exit__(self, *_unused):
        os.sched_setaffinity(0, self.before)


def process_cpu_ns(pid):
    """User and system time of all threads that a process has or had, in ns: its CPU clock (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def tree_cpu_ns(pids):
    """The same for processes and all below them."""
    everything = set(pids)
    for pid in pids:
        everything.update(children_of(pid))
    return sum(map(process_cpu_ns, everything))


def move_tree(pid, cpus):
    """All threads of a process and of all below it."""
    for process in [pid] + children_of(pid):
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setaffinity(int(thread), cpus)
        except OSError:
            continue  # it has just ended


def environment(quick):
    load = os.getloadavg()[0]
    pinning = Pinning()
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cpus": len(pinning.all),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "pinning": pinning.describe(),
        "load_before": round(load, 2),
        "quick": quick,
        "versions": versions(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def describe(about):
    known = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    absent = ", ".join(name for name, version in about["versions"].items() if not version)
    lines = [f"kernel {about['kernel']}, {about['cpus']} × {about['cpu']}, {about['memory_gib']} GiB",
             about["pinning"], known]
    if absent:
        lines.append(f"not installed: {absent} (scripts/deps bench installs them)")
    if about["load_before"] > 0.5:
        lines.append(f"the machine was not quiet: load {about['load_before']} before the first run")
    return lines
