# SPDX-License-Identifier: MIT
"""SIGKILL of a relay: how long until a datagram comes through again, and what was lost meanwhile. All systems are up at
once and are killed in turn; s6 and runit wait a second between two starts, so each is killed less often."""

import json
import pathlib
import shutil
import subprocess
import time

import report
import systems
from lib.holdfast import channel
from lib.place import wait_until


class Supervised:
    """A relay that somebody starts again. pid() is the one to kill, once it runs."""
    kills = 1  # per round

    def __init__(self, bench, listen, sink):
        self.bench, self.listen, self.sink = bench, listen, sink
        self.times = report.Figure(unit="ms")
        self.lost = 0
        self.last_pid = None

    def next_pid(self):
        """A pid that was not killed yet."""
        return wait_until(lambda: (lambda pid: pid if pid and pid != self.last_pid else None)(self.pid()), 20,
                          f"{self.name} to start its relay again", 0.005)


class HoldfastSpare(Supervised):
    name = "holdfast, spare worker"
    spares = 1
    kills = 8

    def start(self):
        text = channel("c", self.listen, relays={"out": self.sink}, record={"segment_size": "64M"})
        self.log_dir = self.bench.disk_folder("takeover")
        self.daemon = systems.BenchDaemon(self.bench.place, text, name=self.bench.unique("holdfastd"),
                                          log_dir=self.log_dir, spare_workers=self.spares,
                                          head='restart { healthy_after = "10ms" }')
        self.daemon.start()

    def pid(self):
        entry = self.daemon.status("c")
        return entry["pid"] if entry["state"] == "RUNNING" else None

    def before_kill(self):
        time.sleep(0.06)  # healthy, and the next spare waits

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.log_dir, ignore_errors=True)


class HoldfastNoSpare(HoldfastSpare):
    name = "holdfast, no spare"
    spares = 0


class ServiceFolder(Supervised):
    """socat below a supervisor that takes a folder with a run script."""

    def start(self):
        self.program = systems.need(self.supervisor)
        socat = systems.need("socat")
        self.folder = self.bench.folder / self.bench.unique("service")
        self.folder.mkdir()
        host, _, port = self.listen.rpartition(":")
        script = self.folder / "run"
        (self.folder / "notification-fd").write_text("3\n")
        script.write_text(f"#!/bin/sh\n{self.ready}exec {socat} -u UDP4-RECV:{port},bind={host} "
                          f"UDP4-SENDTO:{self.sink}\n")
        script.chmod(0o755)
        self.process = subprocess.Popen([self.program, str(self.folder)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def before_kill(self):
        time.sleep(1.1)  # both wait until a second has passed since the last start

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class S6(ServiceFolder):
    name = "s6 supervising socat"
    supervisor = "s6-supervise"
    # Without a word of readiness, s6 would wait a second after every death.
    ready = "echo >&3; exec 3>&-; "

    def pid(self):
        result = subprocess.run(["s6-svstat", "-o", "pid", str(self.folder)], capture_output=True, text=True,
                                check=False)
        pid = result.stdout.strip()
        return int(pid) if pid.isdigit() else None


class Runit(ServiceFolder):
    name = "runit supervising socat"
    supervisor = "runsv"
    ready = ""

    def pid(self):
        path = pathlib.Path(self.folder) / "supervise" / "pid"
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text.isdigit() else None


class Killer:
    """bench_takeover: sends SIGKILL, probes, and says when the first probe came through."""

    def __init__(self, bench, sink):
        self.process = subprocess.Popen([bench.tool("bench_takeover"), "--on", sink], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def kill(self, pid, listen):
        self.process.stdin.write(f"{pid} {listen}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "bench_takeover ended: its message is above"
        return json.loads(line)

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(15)


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, round((len(values) - 1) * p / 100))]


def kill_in_turn(bench, killer, present):
    for _ in range(bench.choose(30, 3)):
        for relay in present:
            for _ in range(relay.kills):
                pid = relay.next_pid()
                relay.before_kill()
                answer = killer.kill(pid, relay.listen)
                relay.last_pid = pid
                assert answer["takeover_ns"] > 0, f"{relay.name} did not come back"
                relay.times.add(answer["takeover_ns"] / 1e6)
                relay.lost += answer["lost"]


def run(bench):
    sink = bench.address(1, 13001)
    relays = [kind(bench, bench.address(0, 13000 + index), sink)
              for index, kind in enumerate((HoldfastSpare, HoldfastNoSpare, S6, Runit))]
    present = []
    killer = Killer(bench, sink)
    try:
        for relay in relays:
            try:
                relay.start()
                present.append(relay)
            except systems.Absent as absent:
                relay.times.why = str(absent)
        kill_in_turn(bench, killer, present)
    finally:
        for relay in present:
            relay.stop()
        killer.stop()

    table = bench.result.table("Takeover: SIGKILL to the next datagram relayed",
                               ["system", "p50", "p99", "lowest", "highest", "kills", "datagrams lost"],
                               ["A probe of 800 B every 100 us from the kill on; lost ones never came through. Nothing "
                                "is pinned here."])
    for relay in relays:
        values = relay.times.values
        cells = [f"{report.number(value)} ms" for value in (percentile(values, 50), percentile(values, 99), min(values),
                                                            max(values))] if values else [relay.times.why] + ["—"] * 3
        table.add(relay.name, *cells, report.number(len(values)), report.number(relay.lost))
        bench.result.figures[relay.name] = {"ms": relay.times, "lost": relay.lost}
