# SPDX-License-Identifier: MIT
"""Replay: how late datagrams come, by the kernel's stamps at a receiver, against the times in the recording, and whether that
grows. (tcpreplay can't be measured beside it here: what it puts on a loopback interface, the kernel takes for forged.) And
what it takes to get all of a recording out of its files at the command line."""

import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

import report
import systems
from lib.holdfast import channel
from run_relay_latency import percentile

RATE = 1000
SIZE = 256
SO_TIMESTAMPNS = 35


class Receiver:
    """Where it is replayed to: takes kernel's stamps until there were so many, or none for a while."""

    def __init__(self, address, count):
        host, _, port = address.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, int(port)))
        self.socket.settimeout(5)
        self.count, self.stamps = count, []
        self.thread = threading.Thread(target=self.receive)
        self.thread.start()

    def receive(self):
        try:
            while len(self.stamps) < self.count:
                _, control, _, _ = self.socket.recvmsg(2048, 64)
                seconds, ns = struct.unpack("qq", control[0][2])
                self.stamps.append(seconds * 10**9 + ns)
        except TimeoutError:
            pass
        self.socket.close()

    def result(self):
        self.thread.join()
        return self.stamps


def ctl(bench, *arguments):
    return subprocess.run([str(bench.place.program("holdfastctl")), *map(str, arguments)], capture_output=True, text=True,
                          check=True).stdout


def record(bench, folder, listen, count):
    """Returns their times in the recording."""
    daemon = systems.BenchDaemon(bench.place, channel("engine", listen, record={}), name=bench.unique("replay"),
                                 log_dir=folder).start()
    bench.traffic([listen], count=count, rate=RATE, size=SIZE, segments=1)
    daemon.wait_drained("engine", count)
    daemon.stop()
    lines = ctl(bench, "cat", "--json", folder / "engine").splitlines()
    return [json.loads(line)["time_ns"] for line in lines]


def judge(times, stamps, row):
    """Late by so much more than the least late one."""
    if len(stamps) != len(times):
        row["p50"].why = f"{len(stamps)} of {len(times)} came"
        return
    late = [(stamp - stamps[0]) - (moment - times[0]) for stamp, moment in zip(stamps, times)]
    counts = [(value - min(late), 1) for value in sorted(late)]
    for name, p in (("p50", 50), ("p99", 99), ("max", 100)):
        row[name].add(percentile(counts, p) / 1000)
    part = len(late) // 10
    row["drift"].add((sorted(late[-part:])[part // 2] - sorted(late[:part])[part // 2]) / 1000)


def lateness(bench):
    runs, seconds = bench.choose((3, 20), (1, 2))
    row = {part: report.Figure(unit="us") for part in ("p50", "p99", "max", "drift")}
    for _ in range(runs):
        folder, listen = bench.disk_folder("replay"), bench.address(0, 15300)
        try:
            times = record(bench, folder, listen, RATE * seconds)
            receiver = Receiver(listen, len(times))
            ctl(bench, "replay", folder / "engine", "--to", listen)
            judge(times, receiver.result(), row)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    table = bench.result.table(f"Replay at {RATE:,}/s, {SIZE} B, in its own time for {seconds} s: later than the least late one",
                               ["with", "p50", "p99", "max", "drift, last tenth against first"])
    table.add("holdfastctl replay", *row.values())
    bench.result.figures["replay"] = row


def time_of(arguments, output=os.devnull):
    with open(output, "wb") as sink:
        started = time.monotonic()
        subprocess.run([str(argument) for argument in arguments], stdout=sink, stderr=subprocess.DEVNULL, check=True)
        return time.monotonic() - started


def get_out(bench):
    """All payloads of sealed segments, at the command line."""
    folder = bench.disk_folder("out")
    rows = {name: report.Figure(unit="M/s") for name in ("holdfastctl cat --output raw", "holdfastctl cat --json",
                                                         "tcpdump -r … -w, of a capture of the same")}
    try:
        made = bench.run_tool("bench_read", "--what", "make", "--folder", folder, "--payload", SIZE, "--size", "64M", "--count",
                              bench.choose(8, 1))
        program = bench.place.program("holdfastctl")
        ctl(bench, "export", f"{folder}/", "--format", "pcapng", "-o", folder / "all.pcapng")
        for _ in range(bench.choose(5, 1)):
            for name, output in (("holdfastctl cat --output raw", "raw"), ("holdfastctl cat --json", "json")):
                rows[name].add(made["records"] / time_of([program, "cat", f"{folder}/", "--output", output]) / 1e6)
            try:
                rows["tcpdump -r … -w, of a capture of the same"].add(
                    made["records"] / time_of([systems.need("tcpdump"), "-r", folder / "all.pcapng", "-w", "-"]) / 1e6)
            except systems.Absent as absent:
                rows["tcpdump -r … -w, of a capture of the same"].why = str(absent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = bench.result.table(f"All of a recording at the command line, {SIZE} B, page cache, to /dev/null", ["with", "records"])
    for name, figure in rows.items():
        table.add(name, figure)
        bench.result.figures[f"out, {name}"] = figure


def run(bench):
    lateness(bench)
    get_out(bench)
