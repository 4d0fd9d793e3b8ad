# SPDX-License-Identifier: MIT
"""1 to 1,000 channels, each relaying and recording: how long the start takes, what they cost while nothing happens, and
how much goes through all of them together."""

import re
import shutil
import statistics
import time

import machine
import report
import systems
from lib.holdfast import Control, channel
from lib.place import wait_until

SIZE = 800
SAMPLE = 20  # workers whose maps are read
START_DEADLINE = 120
RETRY_DEADLINE = 30


class Row:
    def __init__(self):
        self.sender_limit = False
        self.retried = 0  # channels that did not run at their first try
        self.figures = {"start": report.Figure(unit="s"), "private": report.Figure(unit="KiB"),
                        "ring": report.Figure(unit="KiB"), "log": report.Figure(unit="KiB"),
                        "supervisor": report.Figure(unit="MiB"), "idle": report.Figure(unit="%"),
                        "status": report.Figure(unit="ms"), "rate": report.Figure(unit="/s")}


def memory_of(pid):
    """KiB of a process by kind: what it has alone, and its share of ring and log maps."""
    sums = {"private": 0, "ring": 0, "log": 0}
    kind = "private"
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as maps:
        for line in maps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                kind = "ring" if "/memfd:" in line else "log" if ".avro" in line else "private"
                continue
            name, _, value = line.partition(":")
            if kind == "private" and name in ("Private_Clean", "Private_Dirty"):
                sums[kind] += int(value.split()[0])
            elif kind != "private" and name == "Pss":
                sums[kind] += int(value.split()[0])
    return sums


def wait_running(bench, daemon):
    """READY=1 may come when a channel has said why it does not run: wait until it does. Returns how many there were."""
    def waiting():
        return [entry for entry in daemon.status()["channels"] if entry["state"] != "RUNNING"]
    late = waiting()
    if late:
        causes = sorted({f"{entry['state']}: {entry['cause']}" for entry in late})
        bench.say(f"{len(late)} channels run later: {causes}")
        wait_until(lambda: not waiting(), RETRY_DEADLINE, f"all channels to run; {len(late)} did not: {causes}", 0.1)
    return len(late)


def worker_memory(pids):
    step = max(1, len(pids) // SAMPLE)
    memories = [memory_of(pid) for pid in pids[::step]]
    return {kind: statistics.median(memory[kind] for memory in memories) for kind in memories[0]}


def status_ms(daemon):
    """Median of several calls over one connection, from the request to the last byte of the answer."""
    control = Control(daemon.socket)
    times = []
    for _ in range(9):
        started = time.monotonic()
        control.call("status")
        times.append((time.monotonic() - started) * 1000)
    control.close()
    return statistics.median(times)


def idle_percent(daemon, seconds):
    before, started = machine.tree_cpu_ns([daemon.process.pid]), time.monotonic()
    time.sleep(seconds)  # what is measured is that nothing happens
    cpu = machine.tree_cpu_ns([daemon.process.pid]) - before
    return cpu / 1e9 / (time.monotonic() - started) * 100


def attempt(bench, daemon, rate, route, seconds):
    """Does this rate over all channels arrive, recorded too, without loss? (did it, the rate that was reached)."""
    listens, sink = route
    before = sum(entry["counters"]["recorded"] for entry in daemon.status()["channels"])
    result = bench.traffic(listens, [sink], rate=rate, count=rate * seconds, size=SIZE, idle_ms=200)
    end = time.monotonic() + 10
    while True:
        recorded = sum(entry["counters"]["recorded"] for entry in daemon.status()["channels"]) - before
        if recorded >= result["sent"] or time.monotonic() > end:
            break
        time.sleep(0.05)
    bench.say(f"{len(listens)} channels: {result['rate']:,.0f}/s, {result['sent'] - result['received']} lost, "
              f"{result['sent'] - recorded} not recorded")
    return result["received"] == result["sent"] == recorded, result["rate"]


def highest_rate(bench, daemon, route):
    """(loss-free rate or None, was the sender the limit)."""
    machine.move_tree(daemon.process.pid, bench.pinning.under_test)
    attempt(bench, daemon, 20000, route, bench.choose(1, 0.3))  # everybody touches memory for the first time
    best, worst, rate = None, None, 60000
    for _ in range(bench.choose(8, 3)):
        good, reached = attempt(bench, daemon, int(rate), route, bench.choose(0.8, 0.3))
        if good:
            best = max(reached, best or 0)
            if reached < rate * 0.95:
                return best, True
        else:
            worst = rate
        if best and worst and worst / best < 1.1:
            break
        rate = rate * 1.7 if worst is None else (best + worst) / 2 if best else worst / 2
    return best, False


def measure(bench, count, row):
    listens = [bench.address(2, 12000 + index) for index in range(count)]
    sink = bench.address(1, 13001)
    log_dir = bench.disk_folder("scale")
    texts = [channel(f"c{index}", listen, relays={"out": sink}, record={"segment_size": "4M"})
             for index, listen in enumerate(listens)]
    daemon = systems.BenchDaemon(bench.place, *texts, name=bench.unique("holdfastd"), log_dir=log_dir)
    figures = row.figures
    try:
        started = time.monotonic()
        daemon.start(wait=False)
        daemon.wait_ready(START_DEADLINE)
        row.retried = max(row.retried, wait_running(bench, daemon))
        figures["start"].add(time.monotonic() - started)
        time.sleep(1)  # the start's last echoes; what follows is idle
        figures["idle"].add(idle_percent(daemon, bench.choose(4, 1)))
        figures["status"].add(status_ms(daemon))
        rate, limited = highest_rate(bench, daemon, (listens, sink))
        row.sender_limit = row.sender_limit or limited
        if rate:
            figures["rate"].add(rate)
        else:
            figures["rate"].why = "loss"
        memory = worker_memory([entry["pid"] for entry in daemon.status()["channels"]])
        for kind, kib in memory.items():
            figures[kind].add(kib)
        figures["supervisor"].add(memory_of(daemon.process.pid)["private"] / 1024)
        daemon.stop()
    finally:
        daemon.kill_all()
        shutil.rmtree(log_dir, ignore_errors=True)


def run(bench):
    systems.fd_limit(65536)
    counts = bench.choose((1, 10, 100, 1000), (1, 10, 100))
    rows = {count: Row() for count in counts}
    for _ in range(bench.choose(3, 1)):
        for count in counts:
            measure(bench, count, rows[count])
    table = bench.result.table(
        f"Scale: channels that relay and record, {SIZE} B",
        ["channels", "start", "private per worker", "ring per worker", "log map per worker", "supervisor", "idle CPU",
         "status", "all together, loss-free"],
        ["Memory after traffic, median of up to 20 workers; ring and log are this process's share of shared pages. "
         "Idle CPU is of one core, all processes together. Everything runs on all CPUs until the traffic starts, then "
         "beside the sender. ≥: the sender could not send faster."])
    for count, row in rows.items():
        figures = row.figures
        if row.retried:
            table.notes.append(f"Of {count:,} channels, {row.retried:,} did not run at their first try.")
        table.add(report.number(count), *(figures[name] for name in ("start", "private", "ring", "log", "supervisor",
                                                                     "idle", "status")),
                  ("≥ " if row.sender_limit else "") + str(figures["rate"]))
        bench.result.figures[str(count)] = figures
