# SPDX-License-Identifier: MIT
"""Appending records to a file: holdfast's mapped Avro log, the limit of memcpy, and what others do."""

import os
import pathlib
import re
import shutil
import tempfile

import machine
import report

BACKENDS = ["memcpy", "map", "map-ahead", "write", "io_uring", "avro-c", "lmdb", "sqlite"]
WANTED = 8 << 30
COUNTED = {"faults": "page faults", "disk_faults": "with a disk", "waited": "waits", "preempted": "preemptions",
           "tlb_misses": "TLB misses"}


def affordable(folder):
    """(bytes to fill, why it is less than wanted)."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    memory = machine.memory_available()
    size, why = WANTED, ""
    if free // 3 < size:
        size, why = free // 3, f"only {free >> 30} GiB of disk are free"
    if machine.file_system(folder) == "tmpfs" and memory // 3 < size:
        size, why = memory // 3, f"only {memory >> 30} GiB of memory are available"
    return max(size >> 20 << 20, 64 << 20), why


def prove_valid(bench, folder):
    """What the backends write that claim it is a sound Avro log."""
    for backend in ("map", "map-ahead", "write", "io_uring"):
        path = folder / "proof.avro"
        if "unavailable" in bench.run_tool("bench_append", "--backend", backend, "--path", path, "--size", "64M",
                                           "--payload", 256):
            continue
        output = bench.place.run(bench.build / "bin" / "holdfastctl", "verify", path).stdout
        assert re.search(r"\d", output), output
        path.unlink()


class Combination:
    def __init__(self):
        self.ns = report.Figure(unit="ns")
        self.rate = report.Figure(unit="M/s")
        self.followed = report.Figure(unit="%")
        self.written = report.Figure(unit="GiB")
        self.what = ""
        self.counted = {name: report.Figure(digits=2) for name in COUNTED}

    def add(self, result):
        if "unavailable" in result:
            for figure in (self.ns, self.rate, *self.counted.values()):
                figure.why = result["unavailable"]
            return
        self.what = result["what"]
        self.ns.add(result["ns"] / result["records"])
        self.rate.add(result["records"] / result["ns"] * 1000)
        self.written.add(result["bytes"] / 2**30)
        for name, figure in self.counted.items():
            if result[name] is None:
                figure.why = result["tlb_why"]
            else:
                figure.add(1e6 * result[name] / result["records"])
        if result["reader_records"]:
            self.followed.add(100 * min(result["reader_records"]) / result["records"])


def milliseconds(bench, backend, readers):
    """Long enough to fill the file where a user would: populated ahead, with nobody reading."""
    return bench.choose(8000 if backend == "map-ahead" and readers == 0 else 2000, 300)


def measure(bench, folder, size, job):
    backend, payload, readers = job
    path = folder / "file"
    try:
        return bench.run_tool("bench_append", "--backend", backend, "--path", path, "--size", f"{size >> 20}M",
                              "--payload", payload, "--readers", readers, "--ms", milliseconds(bench, backend, readers),
                              "--cpu", bench.pinning.under_test[0])
    finally:
        for leftover in folder.glob("file*"):
            leftover.unlink()


def tabulate(bench, title, combinations, notes):
    table = bench.result.table(title, ["means", "ns per record", "records", "of memcpy", "slowest reader got",
                                       "written"], notes)
    limit = combinations["memcpy"].ns
    for backend in BACKENDS:
        cell = combinations[backend]
        table.add(cell.what or backend, cell.ns, cell.rate, report.ratio(cell.ns, limit), cell.followed, cell.written)


def tabulate_counts(bench, title, combinations):
    table = bench.result.table(f"{title}: what the writer's thread cost beside time, per million records",
                               ["means", *COUNTED.values()])
    for backend in BACKENDS:
        cell = combinations[backend]
        table.add(cell.what or backend, *cell.counted.values())


def run_on(bench, folder):
    kind = machine.file_system(folder)
    size, why = affordable(folder)
    if bench.quick:
        size, why = 256 << 20, "QUICK"
    notes = [f"At most {size / 2**30:.2g} GiB or {bench.choose(2, 0.3)} s each (without readers, "
             f"{milliseconds(bench, 'map-ahead', 0) / 1000:g} s where the map is populated ahead); the populated maps "
             "at most 1 GiB. Nobody syncs: writeback is the kernel's."
             + (f" Less than 8 GiB: {why}." if why else "")]
    for payload in (48, 256):
        for readers in (0, 4):
            combinations = {backend: Combination() for backend in BACKENDS}
            for _ in range(bench.choose(3, 1)):
                for backend in BACKENDS:
                    combinations[backend].add(measure(bench, folder, size, (backend, payload, readers)))
                    bench.say(f"{kind}, {payload} B, {readers} readers, {backend}: {combinations[backend].ns}")
            title = f"Append, {payload} B, {readers} live readers, {kind}"
            tabulate(bench, title, combinations, notes)
            tabulate_counts(bench, title, combinations)
            bench.result.figures[f"{kind}/{payload}/{readers}"] = {
                name: {"ns": cell.ns, "million_per_s": cell.rate, "followed_percent": cell.followed,
                       "written_gib": cell.written, "per_million": cell.counted}
                for name, cell in combinations.items()}


def run(bench):
    disk = bench.disk_folder("append")
    prove_valid(bench, disk)
    run_on(bench, disk)
    memory = pathlib.Path("/dev/shm")
    if memory.is_dir() and machine.file_system(memory) == "tmpfs" and machine.file_system(disk) != "tmpfs":
        folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=memory))
        try:
            run_on(bench, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
