# SPDX-License-Identifier: MIT
"""Readers of a running daemon: how late a datagram is when a program has it, what four readers cost the recorder, and what
a reader costs that has nothing to read. Beside them, as one does without holdfast: a text log that is followed with tail, and
a journal of its own that is followed with journalctl."""

import json
import os
import subprocess
import threading
import time

import report
import systems
from run_relay_latency import percentile

RATE = 1000
SIZE = 256
WRITER_SIZE = 48


class Follower:
    """bench_follow in the background."""

    def __init__(self, bench, socket, name, *arguments):
        self.log = bench.place.log_file(bench.unique("follow") + ".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(bench.tool("bench_follow")), str(socket), name,
                                             *map(str, arguments), str(bench.pinning.sender)],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        bench.place.on_exit(self.end)
        assert self.process.stdout.readline() == b"ready\n", self.log.read_text()

    def result(self, deadline):
        output, _ = self.process.communicate(timeout=deadline)
        assert self.process.returncode == 0, self.log.read_text()
        return json.loads(output)

    def sleeps(self):
        """Voluntary context switches so far."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(next(line for line in status if line.startswith("voluntary")).split()[1])

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Recorder(systems.HoldfastRecord):
    """Records only; readers may come."""

    @property
    def read_socket(self):
        return self.daemon.call("ping")["read_socket"]


class Quick(Recorder):
    """Its recorder lets nothing gather."""

    def start(self):
        ordinary = systems.channel
        systems.channel = lambda *arguments, **settings: ordinary(
            *arguments, **{**settings, "record": {**settings["record"], "gather": "0"}})
        try:
            super().start()
        finally:
            systems.channel = ordinary


class Unrecorded(Recorder):
    """It has to do something with its data: it relays, to where nobody is."""
    relay, record = True, False


def send(bench, route, count, rate, size=SIZE):
    bench.traffic([route.listen], also=[], on=[], count=count, rate=rate, size=size, segments=1)


WAYS = [("joined, sleeping", Recorder, "joined", "sleep"), ("joined, sleeping, gather = 0", Quick, "joined", "sleep"),
        ("joined, spinning, gather = 0", Quick, "joined", "spin"), ("newest, spinning", Recorder, "newest", "spin"),
        ("newest, sleeping", Recorder, "newest", "sleep"), ("newest, not recorded, sleeping", Unrecorded, "newest", "sleep"),
        ("new, not recorded, sleeping", Unrecorded, "new", "sleep")]
SINCE = {"received": "the kernel's receipt", "published": "its being published"}


def measure_delay(bench, way, since, seconds, row):
    _title, kind, mode, wait = way
    route = systems.Route(bench.address(0, 15000), bench.address(0, 15001))
    system = kind(bench, [route])
    system.start()
    try:
        follower = Follower(bench, system.read_socket, "c0", mode, wait, since, RATE * seconds)
        sink = threading.Thread(target=send, args=(bench, route, RATE * seconds, RATE))
        sink.start()
        result = follower.result(seconds + 20)
        sink.join()
        missing = (result["lost"] + (0 if mode == "newest" else RATE * seconds - result["datagrams"])
                   + max(0, result["unseen"] - RATE * seconds // 100))
        counts = [tuple(entry) for entry in result["delays"]]
        for name, p in (("p50", 50), ("p99", 99)):
            row[name].add(percentile(counts, p) / 1000, missing > 0)
        row["max"].add(result["max_ns"] / 1000, missing > 0)
    finally:
        system.stop()


def measure_tail(bench, seconds):
    path = bench.folder / bench.unique("lines.txt")
    path.touch()
    return bench.run_tool("bench_text_follow", path, RATE * seconds, RATE, systems.need("tail"), "-f", "-n", "0", path,
                          deadline=seconds + 30)


# A journald that nobody else sees, in namespaces that end with the measurement; everything in memory, no limit of rate.
JOURNAL = """
mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d || exit 1
printf '[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=0\\n' > /run/systemd/journald.conf.d/bench.conf
"$1" 2> /dev/null & shift
until [ -S /run/systemd/journal/socket ] && ls /run/log/journal/*/system.journal > /dev/null 2>&1; do sleep 0.05; done
exec "$@"
"""


def measure_journal(bench, seconds):
    journald = "/lib/systemd/systemd-journald"
    if not os.path.exists(journald):
        raise systems.Absent("systemd-journald is not installed")
    if os.geteuid() != 0:
        raise systems.Absent("only root can have a journal of its own")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", JOURNAL, "sh", journald,
               str(bench.tool("bench_text_follow")), "/run/systemd/journal/socket", str(RATE * seconds), str(RATE),
               systems.need("journalctl"), "-f", "-n", "0", "-o", "cat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    assert done.returncode == 0, f"journalctl -f: {done.stderr.strip()}"
    return json.loads(done.stdout)


TEXTS = {f"lines of {SIZE} B in a file, tail -f": measure_tail, f"entries of {SIZE} B, journalctl -f": measure_journal}


def measure_text(bench, text, seconds, row):
    result = TEXTS[text](bench, seconds)
    counts = [tuple(entry) for entry in result["delays"]]
    for name, p in (("p50", 50), ("p99", 99)):
        row[name].add(percentile(counts, p) / 1000)
    row["max"].add(result["max_ns"] / 1000)


def delays(bench):
    runs, seconds = bench.choose((3, 5), (1, 2))
    titles = {"received": [*(way[0] for way in WAYS), *TEXTS], "published": [way[0] for way in WAYS]}
    figures = {since: {title: {name: report.Figure(unit="us") for name in ("p50", "p99", "max")} for title in titles[since]}
               for since in SINCE}
    for _ in range(runs):
        for way in WAYS:
            for since in SINCE:
                measure_delay(bench, way, since, seconds, figures[since][way[0]])
        for text in TEXTS:
            try:
                measure_text(bench, text, seconds, figures["received"][text])
            except systems.Absent as absent:
                for figure in figures["received"][text].values():
                    figure.why = str(absent)
    for since, what in SINCE.items():
        table = bench.result.table(f"From {what} to a program that reads, {RATE:,}/s, {SIZE} B", ["reader", "p50", "p99", "max"])
        for title, row in figures[since].items():
            table.add(title, *row.values())
            bench.result.figures[f"delay since {since}, {title}"] = row


def measure_writer(bench, readers, count, figures):
    """As fast as one sender can: what is recorded, lost, and read."""
    route = systems.Route(bench.address(0, 15100), None)
    system = Recorder(bench, [route])
    system.start()
    try:
        followers = [Follower(bench, system.read_socket, "c0", "joined", "sleep", "fast", count) for _ in range(readers)]
        mark, cpu = system.mark(), system.cpu_ns()
        started = time.monotonic()
        send(bench, route, count, 10_000_000, WRITER_SIZE)
        lost = system.settle(mark, count, {"received": count})
        seconds = time.monotonic() - started
        figures["recorded"].add((count - lost) / seconds, lost > 0)
        figures["cpu"].add((system.cpu_ns() - cpu) / count, lost > 0)
        for follower in followers:
            result = follower.result(30)
            figures["read"].add(result["datagrams"] / seconds, result["lost"] > 0)
    finally:
        system.stop()


def writers(bench):
    runs, count = bench.choose((3, 2_000_000), (1, 200_000))
    figures = {readers: {"recorded": report.Figure(unit="/s"), "read": report.Figure(unit="/s"),
                         "cpu": report.Figure(unit="ns")} for readers in (0, 1, 4)}
    for _ in range(runs):
        for readers, row in figures.items():
            measure_writer(bench, readers, count, row)
    table = bench.result.table(f"One writer at full speed and its live readers, {WRITER_SIZE} B",
                               ["readers", "recorded", "each reader", "CPU of the daemon per datagram", "CPU of none"])
    for readers, row in figures.items():
        if readers == 0:
            row["read"].why = "none"
        table.add(report.number(readers), row["recorded"], row["read"], row["cpu"],
                  report.ratio(row["cpu"], figures[0]["cpu"]))
        bench.result.figures[f"{readers} readers"] = row


def idle(bench):
    route = systems.Route(bench.address(0, 15200), None)
    system = Recorder(bench, [route])
    system.start()
    try:
        send(bench, route, 100, 1000)
        follower = Follower(bench, system.read_socket, "c0", "joined", "sleep", "received", 10**6)
        seconds = 2  # less than what it waits for in one go
        time.sleep(0.5)
        gate = system.daemon.status()["read"]["pid"]
        before = follower.sleeps(), switches(gate)
        time.sleep(seconds)
        after = follower.sleeps(), switches(gate)
        table = bench.result.table("A reader that has nothing to read", ["process", "wake-ups per second"])
        for name, first, last in zip(("reader", "gate"), before, after):
            table.add(name, report.number((last - first) / seconds))
            bench.result.figures[f"idle {name}"] = report.Figure([(last - first) / seconds], unit="/s")
    finally:
        system.stop()


def switches(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("voluntary")).split()[1])


def run(bench):
    delays(bench)
    writers(bench)
    idle(bench)
