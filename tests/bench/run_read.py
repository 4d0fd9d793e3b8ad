# SPDX-License-Identifier: MIT
"""Reading sealed segments: libholdfast, which checks every record's CRC, beside avro-c's reader, which checks nothing;
finding a time among ten thousand segments, from nothing open to the first datagram; and readers of a running daemon."""

import os
import random
import shutil

import report
import run_read_crowd
import run_read_live
import run_read_replay

WAYS = {"library": "libholdfast", "avro": "avro-c"}
MANY = 10000


def drop_names():
    """Forget cached directory entries and inodes, where this user and machine allow that."""
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("2\n")
        return True
    except OSError:
        return False


def read_all(bench, payload):
    folder = bench.disk_folder("read")
    try:
        made = bench.run_tool("bench_read", "--what", "make", "--folder", folder, "--payload", payload, "--size", "64M",
                              "--count", bench.choose(8, 1))
        rates = {way: report.Figure(unit="M/s") for way in WAYS}
        cpu = {way: report.Figure(unit="ns") for way in WAYS}
        for _ in range(bench.choose(7, 2)):
            for way in WAYS:
                result = bench.run_tool("bench_read", "--what", "read", "--folder", folder, "--by", way)
                assert result["records"] == made["records"] and result["bytes"] == made["records"] * payload
                rates[way].add(result["records"] / result["ns"] * 1000)
                cpu[way].add(result["cpu_ns"] / result["records"])
                bench.say(f"{payload} B, {WAYS[way]}: {rates[way]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rates, cpu


def tabulate_reading(bench, payload):
    rates, cpu = read_all(bench, payload)
    table = bench.result.table(f"Sealed segments in the page cache, {payload} B, one thread",
                               ["reader", "records", "CPU per record", "of avro-c"])
    for way, name in WAYS.items():
        table.add(name, rates[way], cpu[way], report.ratio(rates[way], rates["avro"]))
    bench.result.figures[str(payload)] = {name: {"million_per_s": rates[way], "cpu_ns": cpu[way]}
                                          for way, name in WAYS.items()}


def tabulate_finding(bench):
    count = bench.choose(MANY, 200)
    folder = bench.disk_folder("find")
    try:
        made = bench.run_tool("bench_read", "--what", "make", "--folder", folder, "--records", 20, "--count", count)
        os.sync()
        found = {"cold names": report.Figure(unit="ms"), "warm": report.Figure(unit="ms")}
        parts = {name: {part: report.Figure(unit="ms") for part in ("list_ns", "find_ns")} for name in found}
        choose = random.Random(1)
        for _ in range(bench.choose(15, 3)):
            seq = choose.randrange(made["records"])
            for name, figure in found.items():
                if name != "warm" and not drop_names():
                    figure.why = "drop_caches is not allowed here"
                    continue
                result = bench.run_tool("bench_read", "--what", "find", "--folder", folder, "--seq", seq)
                figure.add(result["ns"] / 1e6)
                for part, value in parts[name].items():
                    value.add(result[part] / 1e6)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = bench.result.table(f"A time among {count:,} segments, by hf_open_files(), hf_read(), hf_next()",
                               ["directory entries", "all", "listing", "finding"])
    for name, figure in found.items():
        table.add(name, figure, parts[name]["list_ns"], parts[name]["find_ns"])
    bench.result.figures["find"] = {name: {"all": found[name], **parts[name]} for name in found}


def run(bench):
    for payload in (48, 256):
        tabulate_reading(bench, payload)
    tabulate_finding(bench)
    run_read_live.run(bench)
    run_read_replay.run(bench)
    run_read_crowd.run(bench)
