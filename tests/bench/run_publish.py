# SPDX-License-Identifier: MIT
"""Publishing without UDP: how many datagrams a second go from programs through the ring into the log, and how long until
a reader of the newest has one."""

import concurrent.futures
import shutil
import time

import report
import systems
from lib.holdfast import channel
from lib.place import wait_until
from run_relay_latency import percentile

SIZES = (48, 256, 1024)


class Scene:
    def __init__(self, bench):
        self.bench = bench
        self.folder = bench.disk_folder("publish")
        self.socket = bench.place.folder / f"{bench.unique('publish')}.sock"
        record = {"segment_size": "256M", "keep_at_most": "2G"}
        text = channel("engine", "local:engine", record=record).replace(
            "\n", "\n  publishers { outbox_size = \"4M\" }\n", 1)
        self.daemon = systems.BenchDaemon(bench.place, text, name=bench.unique("holdfastd"), log_dir=self.folder,
                                          head=f'read {{ socket = "{self.socket}" }}\n').start()

    def publish(self, *arguments):
        return self.bench.run_tool("bench_publishing", self.socket, "engine", *arguments, deadline=300)

    def recorded(self):
        return self.daemon.counters("engine")["recorded"]

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def rate_of(scene, publishers, count, size):
    """Datagrams a second, from the first commit until the last one is recorded."""
    before, started = scene.recorded(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(publishers) as pool:
        for each in [pool.submit(scene.publish, "rate", count // publishers, size) for _ in range(publishers)]:
            each.result()
    wait_until(lambda: scene.recorded() - before >= count // publishers * publishers, 60, "everything to be recorded")
    return count / (time.monotonic() - started)


def rates(bench, scene):
    runs, count = bench.choose((5, 8_000_000), (1, 200_000))
    table = bench.result.table("Datagrams a second through ring and log, default settings, outboxes of 4 MiB",
                               ["publishers", *[f"{size} B" for size in SIZES]])
    rows = {publishers: {size: report.Figure(unit="/s") for size in SIZES} for publishers in (1, 2)}
    for _ in range(runs):
        for publishers, row in rows.items():
            for size, figure in row.items():
                figure.add(rate_of(scene, publishers, count // (4 if size > 256 else 1), size))
    for publishers, row in rows.items():
        table.add(str(publishers), *row.values())
        bench.result.figures[f"publish, {publishers}"] = row


def lags(bench, scene):
    runs, count = bench.choose((5, 50_000), (1, 2_000))
    table = bench.result.table("From before hf_commit() until a reader of the newest has it, without sleep",
                               ["one each", "p50", "p99", "p99.9"])
    for pause in (10, 1000):
        row = {name: report.Figure(unit="us") for name in ("p50", "p99", "p99.9")}
        for _ in range(runs):
            counts = [tuple(entry) for entry in scene.publish("newest", count // (10 if pause > 100 else 1), pause)["lags"]]
            for name, p in (("p50", 50), ("p99", 99), ("p99.9", 99.9)):
                row[name].add(percentile(counts, p) / 1000)
        table.add(f"{pause} us", *row.values())
        bench.result.figures[f"lag, {pause}"] = row


def run(bench):
    scene = Scene(bench)
    try:
        rates(bench, scene)
        lags(bench, scene)
    finally:
        scene.stop()
