# SPDX-License-Identifier: MIT
"""Handing out log files: how long until a program has a descriptor of one, with few connections and many, alone and beside
others that are sent megabytes; beside it a loop that does nothing but open a file and pass it on. Then how fast a file is
sent, beside cat(1) of the same through a pipe."""

import os
import resource
import shutil
import subprocess
import time

import report
import systems
from lib.holdfast import channel
from lib.place import wait_until
from run_relay_latency import percentile

SEGMENT = 10 << 20
CONNECTIONS = (1, 10, 100, 500)  # one user gets a quarter of what there may be


class Scene:
    """A channel with a few sealed segments."""

    def __init__(self, bench):
        self.bench = bench
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the daemon's connections go by it
        self.listen = bench.address(0, 15500)
        self.folder = bench.disk_folder("handout")
        self.socket = bench.place.folder / f"{bench.unique('handout')}.sock"
        text = channel("engine", self.listen, record={"segment_size": f"{SEGMENT >> 20}M"})
        self.daemon = systems.BenchDaemon(bench.place, text, name=bench.unique("holdfastd"), log_dir=self.folder,
                                          head=f'read {{ socket = "{self.socket}" }}\n').start()
        bench.traffic([self.listen], also=[], on=[], count=60_000, rate=60_000, size=1000, segments=1)
        wait_until(lambda: len(self.daemon.segments("engine")) >= 4, 60, "sealed segments")
        self.names = [path.name for path in self.daemon.segments("engine")][:4]

    def ask(self, connections, requests, copiers=0):
        return self.bench.run_tool("bench_handout", self.socket, "engine", connections, requests, copiers, *self.names,
                                   deadline=300)

    def used(self):
        """Resident memory of the gate in MiB, and its descriptors."""
        pid = self.daemon.status()["read"]["pid"]
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            kib = int(next(line for line in status if line.startswith("VmRSS")).split()[1])
        return kib / 1024, len(os.listdir(f"/proc/{pid}/fd"))

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def add(row, result, requests):
    counts = [tuple(entry) for entry in result["lent"]]
    for name, p in (("p50", 50), ("p99", 99), ("p99.9", 99.9)):
        row[name].add(percentile(counts, p) / 1000, result["refused"] > 0)
    row["answers"].add(requests / result["seconds"], result["refused"] > 0)


def new_row():
    return {"p50": report.Figure(unit="us"), "p99": report.Figure(unit="us"), "p99.9": report.Figure(unit="us"),
            "answers": report.Figure(unit="/s")}


def descriptors(bench, scene):
    runs, requests = bench.choose((5, 100_000), (1, 5_000))
    path = scene.folder / "engine" / scene.names[0]
    bare = "a loop that opens and passes on"
    rows = {bare: new_row()} | {f"{count:,} connections": new_row() for count in CONNECTIONS}
    for _ in range(runs):
        add(rows[bare], bench.run_tool("bench_handout", "bare", path, requests), requests)
        for count in CONNECTIONS:
            add(rows[f"{count:,} connections"], scene.ask(count, requests), requests)
    table = bench.result.table("A descriptor of a log file, each connection with one request under way",
                               ["asked by", "p50", "p99", "p99.9", "answers", "p50 of the loop's"])
    for name, row in rows.items():
        table.add(name, *row.values(), report.ratio(row["p50"], rows[bare]["p50"]))
        bench.result.figures[f"descriptors, {name}"] = row


def mixed(bench, scene):
    """80 connections that get descriptors, alone and beside 20 that are sent 10 MiB each time."""
    runs, requests = bench.choose((5, 5_000), (1, 500))
    rows = {"80 alone": new_row(), f"80, and 20 that are sent {SEGMENT >> 20} MiB": new_row()}
    for _ in range(runs):
        for name, row in rows.items():
            connections, copiers = (80, 0) if name == "80 alone" else (100, 20)
            add(row, scene.ask(connections, requests, copiers), requests)
    table = bench.result.table("The same beside connections that are sent files", ["asked by", "p50", "p99", "p99.9", "answers"])
    for name, row in rows.items():
        table.add(name, *row.values())
        bench.result.figures[f"mixed, {name}"] = row


def timed(command):
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return time.monotonic() - started


def bytes_of(bench, scene):
    """All segments again and again, into /dev/null."""
    runs, times = bench.choose((5, 40), (1, 2))
    folder = scene.folder / "engine"
    size = sum((folder / name).stat().st_size for name in scene.names) * times
    files = [str(folder / name) for name in scene.names] * times
    rows = {}
    for _ in range(runs):
        for how in ("copy", "splice"):
            seconds = bench.run_tool("bench_fetch", scene.socket, "engine", how, times, *scene.names)["seconds"]
            rows.setdefault(f"hf_log_copy(), {how}", report.Figure(unit="GB/s")).add(size / seconds / 1e9)
        rows.setdefault("cat FILE... | cat > /dev/null", report.Figure(unit="GB/s")).add(
            size / timed(["sh", "-c", 'cat "$@" | cat > /dev/null', "sh", *files]) / 1e9)
    table = bench.result.table(f"Bytes of log files of {SEGMENT >> 20} MiB, page cache, to /dev/null", ["with", "bytes"])
    for name, figure in rows.items():
        table.add(name, figure)
        bench.result.figures[f"bytes, {name}"] = figure


def run(bench):
    scene = Scene(bench)
    try:
        before = scene.used()
        descriptors(bench, scene)
        mixed(bench, scene)
        bytes_of(bench, scene)
        wait_until(lambda: scene.used()[1] <= before[1] + 2, 30, "the gate to have let go of all descriptors")
        after = scene.used()
        table = bench.result.table("The gate before and after all that", ["", "resident", "descriptors"])
        table.add("before", f"{before[0]:.1f} MiB", str(before[1]))
        table.add("after", f"{after[0]:.1f} MiB", str(after[1]))
    finally:
        scene.stop()
