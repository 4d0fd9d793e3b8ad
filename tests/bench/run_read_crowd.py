# SPDX-License-Identifier: MIT
"""What does a rude crowd of readers cost a channel? With and without one, in turns: what is recorded at full speed, how late
the relay is, and the supervisor's own time from a worker's death until its successor receives."""

import os
import re
import shutil
import subprocess
import time

import report
import systems
from lib.holdfast import channel
from lib.place import kill, wait_until
from lib.reading import STRANGER, Hostile
from run_relay_latency import percentile

RATE = 5000  # where the relay is measured
SIZE = 256
FAST_SIZE = 48


class Scene:
    """A channel that relays and records."""

    def __init__(self, bench):
        self.bench = bench
        self.listen, self.to = bench.address(0, 15400), bench.address(1, 15401)
        self.folder = bench.disk_folder("crowd")
        bench.place.folder.chmod(0o711)
        self.socket = bench.place.folder / f"{bench.unique('crowd')}.sock"
        head = f'read {{ socket = "{self.socket}" mode = "0666" }}\n'
        text = channel("engine", self.listen, relays={"out": self.to}, receive_buffer=systems.RECEIVE_BUFFER,
                       record={"segment_size": "64M", "keep_at_most": "1G"})
        self.daemon = systems.BenchDaemon(bench.place, text, name=bench.unique("holdfastd"), log_dir=self.folder,
                                          head=head).start()

    def recorded(self):
        return self.daemon.counters("engine")["recorded"]

    def record_fast(self, count):
        """As fast as one sender can: recorded per second, and how many were lost."""
        before, started = self.recorded(), time.monotonic()
        self.bench.traffic([self.listen], also=[], on=[], count=count, rate=10_000_000, size=FAST_SIZE, segments=1)
        recorded, last = self.recorded(), None
        while recorded != last:  # what the kernel and the ring had when the sender ended
            last = recorded
            time.sleep(0.02)
            recorded = self.recorded()
        recorded -= before
        return recorded / (time.monotonic() - started), count - recorded

    def relay(self, seconds):
        """Histogram of how late it is, and how many were lost."""
        result = self.bench.traffic([self.listen], [self.to], count=RATE * seconds, rate=RATE, size=SIZE, segments=1, latency=1,
                                    coalesce_us=0)
        return [tuple(entry) for entry in result["latency"]], result["sent"] - result["received"]

    def kill(self, times):
        """Returns how long each takeover took, in ns."""
        generation, begin = 0, len(self.daemon.log_text())
        for _ in range(times):
            entry = wait_until(lambda last=generation: (lambda now: now if now["state"] == "RUNNING" and
                                                        now["generation"] != last else None)(self.daemon.status("engine")),
                               60, "a worker to kill", interval=0.005)
            generation = entry["generation"]
            time.sleep(0.4)  # the next spare waits, and restarts have taken their share of the processor
            kill(entry["pid"])

        def found():
            return re.findall(r"taken over within ([0-9.]+) ms", self.daemon.log_text()[begin:])
        wait_until(lambda: len(found()) >= times, 60, "the last one to be taken over")
        return [int(float(ms) * 1e6) for ms in found()]

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def crowd_of(bench, socket):
    return [Hostile(bench.place, socket, "idle", 1000, uid=STRANGER + 1), Hostile(bench.place, socket, "deaf", uid=STRANGER + 2),
            Hostile(bench.place, socket, "half", uid=STRANGER + 3),
            Hostile(bench.place, socket, "garbage", 10**9, uid=STRANGER + 4)]


class Computing:
    """A program of another user that has nothing to do with holdfast, and takes what it can of a processor."""

    def __init__(self, bench, uid):
        self.process = subprocess.Popen(["nice", "-n", "19", "sh", "-c", "while :; do :; done"], user=uid, group=uid,
                                        extra_groups=[], stdin=subprocess.DEVNULL)
        bench.place.on_exit(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def computing(bench, _socket):
    """As many as there are in the crowd that are never idle."""
    return [Computing(bench, STRANGER + number) for number in (1, 2)]


def measure(bench, crowd, sizes, row):
    scene = Scene(bench)
    hostile = crowd(bench, scene.socket) if crowd else []
    try:
        kills, seconds, count = sizes
        rate, lost = scene.record_fast(count)
        row["recorded"].add(rate, lost > 0)
        late, lost = scene.relay(seconds)
        for name, p in (("relay p50", 50), ("relay p99", 99)):
            row[name].add(percentile(late, p) / 1000, lost > 0)
        taken = sorted((ns, 1) for ns in scene.kill(kills))
        for name, p in (("takeover p50", 50), ("takeover p99", 99), ("takeover max", 100)):
            row[name].add(percentile(taken, p) / 1e6)
    finally:
        for one in hostile:
            one.end()
        scene.stop()


def run(bench):
    crowds = {"no readers": None, "none, but two programs of other users that only compute": computing,
              "1,000 idle, one deaf, one with half requests, one with garbage, from other users": crowd_of}
    units = {"recorded": "/s", "relay p50": "us", "relay p99": "us", "takeover p50": "ms", "takeover p99": "ms",
             "takeover max": "ms"}
    table = bench.result.table("A channel at full speed, its relay, and deaths of its worker until the successor receives",
                               ["readers", *units])
    if os.geteuid() != 0:
        table.add("only root can become other users", *("" for _ in units))
        return
    runs, *sizes = bench.choose((3, 40, 10, 2_000_000), (1, 5, 1, 200_000))
    rows = {name: {part: report.Figure(unit=unit) for part, unit in units.items()} for name in crowds}
    for _ in range(runs):
        for name, crowd in crowds.items():
            measure(bench, crowd, sizes, rows[name])
    for name, row in rows.items():
        table.add(name, *row.values())
        bench.result.figures[f"crowd, {name}"] = row
