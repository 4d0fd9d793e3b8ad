# SPDX-License-Identifier: MIT
"""Does a rude crowd of readers delay a takeover? Workers are killed with and without one, in turns, and the supervisor's own
time from a death until the successor receives is taken."""

import os
import re
import shutil
import time

import report
import systems
from lib.holdfast import channel
from lib.place import kill, wait_until
from lib.reading import STRANGER, Hostile
from run_relay_latency import percentile


class Scene:
    """A channel whose workers are killed."""

    def __init__(self, bench):
        self.listen = bench.address(0, 15400)
        self.folder = bench.disk_folder("crowd")
        bench.place.folder.chmod(0o711)
        self.socket = bench.place.folder / f"{bench.unique('crowd')}.sock"
        head = f'read {{ socket = "{self.socket}" mode = "0666" }}\n'
        self.daemon = systems.BenchDaemon(bench.place, channel("engine", self.listen, record={"segment_size": "64M"}),
                                          name=bench.unique("holdfastd"), log_dir=self.folder, head=head).start()

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


def measure(bench, crowd, kills):
    scene = Scene(bench)
    hostile = crowd_of(bench, scene.socket) if crowd else []
    try:
        return scene.kill(kills)
    finally:
        for one in hostile:
            one.end()
        scene.stop()


def run(bench):
    rows = {"no readers": False, "1,000 idle, one deaf, one with half requests, one with garbage, from other users": True}
    table = bench.result.table("Death of a worker until the successor receives, by the supervisor's clock",
                               ["readers", "p50", "p99", "max"])
    if os.geteuid() != 0:
        table.add("only root can become other users", "", "", "")
        return
    runs, kills = bench.choose((3, 40), (1, 5))
    counts = {name: [] for name in rows}
    for _ in range(runs):
        for name, crowd in rows.items():
            counts[name] += [(ns, 1) for ns in measure(bench, crowd, kills)]
    for name, taken in counts.items():
        taken.sort()
        figures = {part: report.Figure([percentile(taken, p) / 1e6], unit="ms") for part, p in
                   (("p50", 50), ("p99", 99), ("max", 100))}
        table.add(name, *figures.values())
        bench.result.figures[f"takeover, {name}"] = figures
