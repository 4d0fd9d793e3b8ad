# SPDX-License-Identifier: MIT
"""Where one test runs: its folder, its addresses, its processes. A test gets a Place as its only argument; whatever it
started through it is ended and looked at when it leaves, however it leaves."""

import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
                   "FATAL: ThreadSanitizer", "runtime error:", "UndefinedBehaviorSanitizer")
PR_SET_CHILD_SUBREAPER = 36
PORTS = 60  # of a slot
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


class Skip(Exception):
    """This machine can't run the test; the text says why."""


def skip(why):
    raise Skip(why)


def core(function):
    """Marks a test that the sanitizer runs take too."""
    function.core = True
    return function


def alone(function):
    """Marks a test whose load needs all of the machine: it runs when the others are done. What is lost for want of a
    processor would say nothing about what is tried."""
    function.alone = True
    return function


def slow(function):
    """Marks a test that a quick run leaves out."""
    function.slow = True
    return function


def wait_until(predicate, deadline, what, interval=0.02):
    """Ask again and again until predicate() is true, and return its value; fail when `deadline` seconds have passed."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for: {what}"
        time.sleep(interval)


def children_of(pid):
    """Pids of the processes below pid, deepest first."""
    found = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listing:
                direct = [int(word) for word in listing.read().split()]
        except OSError:
            continue
        for child in direct:
            found += children_of(child) + [child]
    return found


def comm(pid):
    """The name that a process gives itself; "" when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as name:
            return name.read().rstrip("\n")
    except OSError:
        return ""


def state_of(process):
    """As the kernel names it ("S", "D", "Z") of a pid, or of "PID/task/TID"; "X" when it is gone, which it may be at any
    moment between a look at a list and a look at what stood there."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def states_of_threads(pid):
    """The states of those that are there."""
    try:
        return {state_of(f"{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")} - {"X"}
    except OSError:
        return set()


def is_alive(pid):
    return state_of(pid) not in "ZX"


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def freeze(pid):
    """SIGSTOP, and every thread has stopped: what is sent to the process from now on waits. A process that ends first is
    an error that says so."""
    os.kill(pid, signal.SIGSTOP)

    def is_stopped():
        if not is_alive(pid):
            raise ProcessLookupError(f"process {pid} has ended")
        return states_of_threads(pid) == {"T"}

    wait_until(is_stopped, 5, f"all threads of {pid} to be stopped", interval=0.002)


def libc_call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Slot:
    """A number that no other test on this machine has at the same time, so that addresses and ports don't meet. The
    kernel keeps it: an abstract Unix address is free again as soon as its holder is gone."""
    COUNT = 200

    def __init__(self):
        for number in range(self.COUNT):
            holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                holder.bind(f"\0holdfast-test-slot-{number}")
            except OSError:
                holder.close()
                continue
            self.number, self.holder = number, holder
            return
        raise RuntimeError("no free test slot: are 200 tests running?")


class Place:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.build = pathlib.Path(os.environ.get("HOLDFAST_TEST_BUILD", ROOT / "build"))
        self.variant = os.environ.get("HOLDFAST_TEST_VARIANT", "release")
        self.hooks = False
        self._slot = Slot()  # held as long as we live
        self.slot = self._slot.number
        self._counts = {}
        self._closers = []
        self._logs = []
        libc_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    # ---- names ----

    def with_hooks(self):
        """From here on the programs of the build with test hooks: workers that can be stopped at every step."""
        if self.variant != "release":
            skip("programs with test hooks are built without sanitizers only")
        self.hooks = True

    def program(self, name):
        tool = name.startswith("tool_")
        folder = self.build / "hooks" if self.hooks and not tool else self.build
        path = folder / ("tests" if tool else "bin") / name
        assert path.exists(), f"{path} is missing: build the programs and the test tools first (make, make test-tools)"
        return str(path)

    def move_programs(self):
        """The daemon's two in a folder of their own, from where they are started from now on. Returns the folder."""
        folder, present, own = self.folder / "bin", self.program, ("holdfastd", "holdfast-worker")
        folder.mkdir()
        for name in own:
            shutil.copy(present(name), folder / name)
        self.program = lambda name: str(folder / name) if name in own else present(name)
        return folder

    def count(self, what):
        """0, 1, 2, ... for each kind of thing."""
        self._counts[what] = self._counts.get(what, -1) + 1
        return self._counts[what]

    def port(self):
        """Below the range that the kernel gives out by itself (32768 and up)."""
        number = self.count("port")
        assert number < PORTS, "more ports than a slot has"
        return 20000 + self.slot * PORTS + number

    def ipv4(self):
        """A loopback address of this test alone, with a port."""
        return f"127.77.{self.slot}.1:{self.port()}"

    def ipv6(self):
        return f"[::1]:{self.port()}"

    def group(self):
        return f"239.77.{self.slot}.{self.count('group') + 1}:{self.port()}"

    def group6(self):
        """An IPv6 group; only in a private_network(), because lo has no multicast route of its own."""
        return f"[ff15::77:{self.slot}:{self.count('group') + 1}]:{self.port()}"

    # ---- surroundings ----

    @property
    def sanitized(self):
        return self.variant in ("asan", "ubsan", "tsan")

    def scaled(self, count):
        """A load that this variant can take: sanitizers make everything several times slower."""
        return count // {"asan": 4, "ubsan": 2, "tsan": 10, "cov": 2}.get(self.variant, 1)

    def private_network(self):
        """This test in a network namespace of its own, where lo carries IPv6 multicast too."""
        try:
            libc_call("unshare", CLONE_NEWNET)
        except OSError as error:
            skip(f"a private network needs root ({error.strerror})")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "-6", "route", "add", "local", "ff00::/8", "dev", "lo", "table", "local")

    def link(self, **addresses):
        """Two interfaces of that private_network(), with an address or None: what is sent on one comes in on the other."""
        name, other = addresses
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", other)
        for interface, address in addresses.items():
            if address:
                self.run("ip", "addr", "add", address, "dev", interface)
            for key, value in (("accept_local", "1"), ("rp_filter", "0")):
                pathlib.Path(f"/proc/sys/net/ipv4/conf/{interface}/{key}").write_text(value, encoding="ascii")
            self.run("ip", "link", "set", interface, "up")
        pathlib.Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0", encoding="ascii")

    def private_mounts(self):
        """This test in a mount namespace of its own: what it mounts, nobody else sees."""
        try:
            libc_call("unshare", CLONE_NEWNS)
            libc_call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
        except OSError as error:
            skip(f"private mounts need root ({error.strerror})")

    def mount_tmpfs(self, where, size):
        """A small file system, to be filled."""
        pathlib.Path(where).mkdir(parents=True, exist_ok=True)
        libc_call("mount", b"tmpfs", os.fsencode(where), b"tmpfs", 0, f"size={size}".encode())
        self.on_exit(lambda: self.unmount(where))

    @staticmethod
    def unmount(where):
        ctypes.CDLL(None).umount2(os.fsencode(where), 2)  # MNT_DETACH

    # ---- processes ----

    def run(self, *arguments, expect=0, **options):
        """Run a program to its end and return what it said; expect=None takes any exit status."""
        options.setdefault("timeout", 60)
        result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False, **options)
        assert expect is None or result.returncode == expect, (
            f"{' '.join(map(str, arguments))}: exit {result.returncode}, expected {expect}\n"
            f"{result.stdout[-4000:]}{result.stderr[-4000:]}")
        return result

    def log_file(self, name):
        path = self.folder / name
        if path not in self._logs:
            self._logs.append(path)
        return path

    def on_exit(self, close):
        self._closers.append(close)

    def close(self):
        """End everything, newest first."""
        errors = []
        for close in reversed(self._closers):
            try:
                close()
            except Exception as error:  # pylint: disable=broad-except
                errors.append(f"{type(error).__name__}: {error}")
        for pid in children_of(os.getpid()):
            kill(pid)
        while True:
            try:
                if os.waitpid(-1, 0)[0] == 0:
                    break
            except ChildProcessError:
                break
        return errors

    def sanitizer_reports(self):
        """What sanitizers wrote, into a daemon's log or into files of their own."""
        found = []
        for path in list(self._logs) + sorted(self.folder.glob("sanitizer.*")):
            if not path.exists():
                continue
            lines = path.read_text(errors="replace").splitlines()
            for number, line in enumerate(lines):
                if any(mark in line for mark in SANITIZER_MARKS):
                    found.append(f"{path.name}:\n" + "\n".join(lines[number:number + 60]))
                    break
        return found

    def log_tails(self, lines=40):
        parts = []
        for path in self._logs:
            if path.exists():
                text = path.read_text(errors="replace").splitlines()
                parts.append(f"--- the end of {path.name} ({len(text)} lines)")
                parts += text[-lines:]
        return "\n".join(parts)
