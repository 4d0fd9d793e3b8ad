# SPDX-License-Identifier: MIT
"""Handing out log files: how long until a program has a descriptor of one, or all of its bytes. Few connections and many, for
a while, alone and beside others that are sent megabytes, files of every size; beside it, in turns, loops that do nothing but
open a file and pass it on, or send it. Then what the gate takes for itself: memory, descriptors, wake-ups."""

import os
import resource
import shutil
import subprocess
import threading
import time

import report
import systems
from lib.holdfast import channel
from lib.place import children_of, state_of, wait_until
from run_relay_latency import percentile

SEGMENT = 10 << 20
CONNECTIONS = (1, 10, 100, 1_000, 10_000)  # of one user: as many as the gate takes of one
LENGTHS = (1 << 10, 16 << 10, 256 << 10, 1 << 20, 10 << 20)
SIZES = (1 << 10, 1 << 20, 32 << 20, 1 << 30)
DESCRIPTORS = 1 << 20


def raise_limit():
    """As many descriptors as this user may have: the daemon's connections go by it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0:
        with open("/proc/sys/fs/nr_open", encoding="ascii") as most:
            hard = max(hard, min(DESCRIPTORS, int(most.read())))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def name_of(size):
    return f"{size >> 30} GiB" if size >> 30 else f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


class Scene:
    """A channel with a few sealed segments, and beside them files of every size, which take no room."""

    def __init__(self, bench):
        self.bench = bench
        raise_limit()
        self.listen = bench.address(0, 15500)
        self.folder = bench.disk_folder("handout")
        self.socket = bench.place.folder / f"{bench.unique('handout')}.sock"
        text = channel("engine", self.listen, record={"segment_size": f"{SEGMENT >> 20}M"})
        self.daemon = systems.BenchDaemon(bench.place, text, name=bench.unique("holdfastd"), log_dir=self.folder,
                                          head=f'read {{ socket = "{self.socket}" }}\n').start()
        bench.traffic([self.listen], also=[], on=[], count=60_000, rate=60_000, size=1000, segments=1)
        wait_until(lambda: len(self.daemon.segments("engine")) >= 4, 60, "sealed segments")
        found = self.daemon.segments("engine")[:4]
        self.names = [path.name for path in found]
        self.path = found[0]
        self.largest = max(found, key=lambda path: path.stat().st_size)
        self.sized = [self.add(size, number) for number, size in enumerate(SIZES)]
        self.gate = self.daemon.status()["read"]["pid"]

    def add(self, size, number):
        """With the header of a sealed one, as far as there is room for it."""
        path = self.path.with_name(f"engine-{0:020}-20200101T00000{number}Z.avro")
        with open(self.path, "rb") as sealed, open(path, "wb") as file:
            file.write(sealed.read(min(size, 4096)))
            file.truncate(size)
        return path.name

    def ask(self, connections, *options, names=None):
        return self.bench.run_tool("bench_handout", "-c", connections, *options, self.socket, "engine", *(names or self.names),
                                   deadline=300)

    def bare(self, *options, path=None):
        return self.bench.run_tool("bench_handout", "-b", *options, path or self.path, deadline=300)

    def memory(self):
        with open(f"/proc/{self.gate}/status", encoding="ascii") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024

    def used(self):
        """Memory of the gate in MiB, its descriptors, and how many children of the daemon are dead and not yet buried."""
        dead = [pid for pid in children_of(self.daemon.process.pid) if state_of(pid) == "Z"]
        return self.memory(), len(os.listdir(f"/proc/{self.gate}/fd")), len(dead)

    def wakeups(self):
        """How often threads of the gate have gone to sleep so far."""
        count = 0
        for thread in os.listdir(f"/proc/{self.gate}/task"):
            with open(f"/proc/{self.gate}/task/{thread}/status", encoding="ascii") as status:
                count += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
        return count

    def wait_alone(self):
        wait_until(lambda: self.daemon.status()["read"]["counters"]["connections"] == 0, 60, "all connections to be gone")

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- rows ----

PERCENTILES = (("p50", 50), ("p99", 99), ("p99.9", 99.9))


def new_row(unit="us"):
    return {name: report.Figure(unit=unit) for name in ("p50", "p99", "p99.9", "max")} | {"answers": report.Figure(unit="/s")}


def add(row, result, kind="lent", scale=1000):
    counts, lossy = [tuple(entry) for entry in result[kind]], result["refused"] > 0
    for name, p in PERCENTILES:
        row[name].add(percentile(counts, p) / scale, lossy)
    row["max"].add(result[f"{kind}_max_ns"] / scale, lossy)
    row["answers"].add(sum(count for _, count in counts) / result["seconds"], lossy)


def put(bench, table, figures, rows, base=None):
    for name, row in rows.items():
        table.add(name, *row.values(), *([report.ratio(row["p50"], rows[base]["p50"])] if base else []))
        bench.result.figures[f"{figures}, {name}"] = row


COLUMNS = ["p50", "p99", "p99.9", "max", "answers"]


# ---- one bench after the other ----

def descriptors(bench, scene):
    """The same number of requests in all rows: with 100 connections, each asks 1,000 times."""
    runs, requests = bench.choose((3, 100_000), (1, 5_000))
    bare, taken = "a loop that opens and passes on", {}
    rows = {bare: new_row()}
    for _ in range(runs):
        add(rows[bare], scene.bare("-r", requests))
        for count in CONNECTIONS:
            scene.wait_alone()
            result = scene.ask(count, "-r", max(requests, count))
            add(rows.setdefault(count, new_row()), result)
            taken[count] = result["connections"]
            if taken[count] < count:
                break  # more would be as many

    def title(count):
        if count == bare:
            return bare
        if taken[count] < count:
            return f"{taken[count]:,} connections: of {count:,}, no more are taken of one user"
        return f"{count:,} connection{'s' if count > 1 else ''}"
    table = bench.result.table(f"A descriptor of a log file, one request of each connection under way, {requests:,} requests",
                               ["asked by"] + COLUMNS + ["p50 of the loop's"])
    put(bench, table, "descriptors", {title(count): row for count, row in rows.items()}, bare)


def for_a_while(bench, scene):
    """A thousand connections without a pause; the gate's memory meanwhile."""
    seconds, highest, over = bench.choose(60, 3), [0.0], threading.Event()
    scene.wait_alone()

    def look():
        while not over.wait(0.2):
            highest[0] = max(highest[0], scene.memory())
    thread = threading.Thread(target=look)
    thread.start()
    try:
        result = scene.ask(1_000, "-t", seconds)
    finally:
        over.set()
        thread.join()
    row = new_row("ms")
    add(row, result, scale=1e6)
    table = bench.result.table(f"A thousand connections for {seconds} s, a descriptor each time",
                               ["connections"] + COLUMNS + ["refused", "memory of the gate"])
    table.add(f"{result['connections']:,}", *row.values(), f"{result['refused']:,}", f"{highest[0]:.1f} MiB")
    bench.result.figures["for a while"] = row


def sizes(bench, scene):
    """Files of all sizes in turns, so that whatever else the machine does meets all of them."""
    runs, requests = bench.choose((5, 40_000), (1, 4_000))
    rows = {size: report.Figure(unit="us") for size in SIZES}
    for _ in range(runs):
        result = scene.ask(1, "-r", requests, names=scene.sized)
        for size, counts in zip(SIZES, result["of_name"]):
            rows[size].add(mean([tuple(entry) for entry in counts], 0.9) / 1000)
    table = bench.result.table("A descriptor of a file of this size, one connection: mean of the fastest nine of ten",
                               ["size", "whole round trip", f"beside {name_of(SIZES[0])}"])
    for size, figure in rows.items():
        table.add(name_of(size), figure, report.ratio(figure, rows[SIZES[0]]))
        bench.result.figures[f"size, {name_of(size)}"] = figure


def mean(counts, share):
    """Of the lowest, by their number: a median of buckets would be no finer than they are."""
    left = total = int(sum(count for _, count in counts) * share)
    value = 0
    for lowest, count in sorted(counts):
        value += lowest * min(left, count)
        left -= min(left, count)
    return value / total


def mixed(bench, scene):
    """80 connections that get descriptors, alone and beside 20 that are sent 10 MiB each time."""
    runs, seconds = bench.choose((5, 3), (1, 1))
    rows = {"80 alone": new_row("ms"), f"80, and 20 that are sent {name_of(SEGMENT)}": new_row("ms")}
    sent = new_row("ms")
    for _ in range(runs):
        for name, row in rows.items():
            alone = name == "80 alone"
            result = scene.ask(80 if alone else 100, "-t", seconds, "-s", 0 if alone else 20)
            add(row, result, scale=1e6)
            if not alone:
                add(sent, result, "sent", 1e6)
    rows[f"... these 20, {name_of(SEGMENT)} each"] = sent
    table = bench.result.table("The same beside connections that are sent files", ["asked by"] + COLUMNS)
    put(bench, table, "mixed", rows)


def lengths(bench, scene):
    """All bytes have come: one connection, and loops that open the file, pass a pipe on, and write or splice into it."""
    runs, most = bench.choose((5, 2_000), (1, 50))
    rows, ways = {}, {"copy": (), "splice": ("-S",)}
    for _ in range(runs):
        for length in LENGTHS:
            requests = max(10, min(most, (256 << 20) // length))
            for way, more in ways.items():
                arguments = ("-r", requests, "-s", 100, "-l", length, *more)
                key = f"{name_of(length)}, {way}"
                pair = rows.setdefault(key, (new_row(), new_row()))
                add(pair[0], scene.ask(1, *arguments, names=[scene.largest.name]), "sent")
                add(pair[1], scene.bare(*arguments, path=scene.largest), "sent")
    table = bench.result.table("So many bytes of a log file through a pipe, page cache, one connection",
                               ["bytes", "p50", "p99", "max", "a bare loop's p50", "p99", "p50 of the loop's"])
    for name, (own, bare) in rows.items():
        table.add(name, own["p50"], own["p99"], own["max"], bare["p50"], bare["p99"], report.ratio(own["p50"], bare["p50"]))
        bench.result.figures[f"sent, {name}"] = own
        bench.result.figures[f"sent by a loop, {name}"] = bare


def timed(command):
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return time.monotonic() - started


def bytes_of(bench, scene):
    """All segments again and again, into /dev/null."""
    runs, times = bench.choose((5, 20), (1, 2))
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


def idle(bench, scene):
    """Connections that say nothing: how often the gate wakes up for them."""
    seconds, wanted = bench.choose(5, 1), 1_000
    scene.wait_alone()
    process = subprocess.Popen([str(bench.tool("bench_handout")), "-i", "-c", str(wanted), str(scene.socket)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        count, before = int(process.stdout.readline()), [scene.wakeups()]

        def quiet():
            time.sleep(1.2)  # its last report comes a second behind the last change
            before.append(scene.wakeups())
            return before[-1] == before[-2]
        settled = bool(wait_until(quiet, 20, "the gate to have reported"))
        time.sleep(seconds)  # what is counted is what happens in that time
        woken, memory = scene.wakeups() - before[-1], scene.memory()
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
    table = bench.result.table("Connections that say nothing", ["connections", "seconds", "wake-ups of the gate", "its memory"])
    table.add(f"{count:,}", f"{seconds}", f"{woken}" if settled else "—", f"{memory:.1f} MiB")
    bench.result.figures["idle, wake-ups"] = report.Figure([woken])


def run(bench):
    scene = Scene(bench)
    try:
        before = scene.used()
        for part in (descriptors, for_a_while, sizes, mixed, lengths, bytes_of, idle):
            part(bench, scene)
        scene.wait_alone()
        wait_until(lambda: scene.used()[1] <= before[1] + 2, 30, "the gate to have let go of all descriptors")
        after = scene.used()
        table = bench.result.table("The gate before and after all that", ["", "resident", "descriptors", "zombies"])
        table.add("before", f"{before[0]:.1f} MiB", str(before[1]), str(before[2]))
        table.add("after", f"{after[0]:.1f} MiB", str(after[1]), str(after[2]))
    finally:
        scene.stop()
