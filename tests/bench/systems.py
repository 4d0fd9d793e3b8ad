# SPDX-License-Identifier: MIT
"""The systems under test, all handled alike: start them between a listen address and a destination, ask what they have
cost and what they lost, end them. Every one gets the same receive buffer."""

import os
import re
import resource
import shutil
import signal
import subprocess
import threading
import time

import machine
from lib.holdfast import Daemon, channel
from lib.place import wait_until

RECEIVE_BUFFER = 4 << 20
START_DEADLINE = 20
DRAIN_DEADLINE = 10


class Absent(Exception):
    """This peer can't be measured here; the text says why and stands in its row."""


def need(program):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if not path:
        raise Absent("not installed")
    return path


class BenchDaemon(Daemon):
    """holdfastd whose notifications are read all the time: a socket that it stores with its manager (FDSTORE=1) stays
    bound as long as the message waits to be read."""

    reader = None

    def wait_ready(self, deadline=START_DEADLINE):
        super().wait_ready(deadline)
        self.reading = True
        self.reader = threading.Thread(target=self.read_on, daemon=True)
        self.reader.start()

    def read_on(self):
        while self.reading:
            self.notifications.poll()
            self.notifications.messages.clear()
            time.sleep(0.05)

    def read_no_more(self):
        self.reading = False
        if self.reader:
            self.reader.join()
            self.reader = None
            self.notifications.poll()
            self.notifications.socket.close()

    def stop(self, *arguments, **options):
        super().stop(*arguments, **options)
        self.read_no_more()

    def kill_all(self):
        super().kill_all()
        self.read_no_more()


class Route:
    """One way through the system under test."""

    def __init__(self, listen, to, decimated=None):
        self.listen, self.to, self.decimated = listen, to, decimated


class System:
    """One or more processes that relay (or record) on one or more routes."""
    relays = True
    drain_s = 0.0  # how long it went on working after the last run's end
    segments = 64  # what the sender may hand to the kernel in one call

    def __init__(self, bench, routes):
        self.bench = bench
        self.routes = routes
        self.processes = []

    def spawn(self, arguments, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        with machine.OnCpus(self.bench.pinning.under_test):
            process = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def spawn_ready(self, arguments):
        """One of the bench's own relays: it says when it is ready."""
        path = self.bench.place.log_file(self.bench.unique(arguments[0].name) + ".log")
        with open(path, "wb") as log:
            process = self.spawn(arguments, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout.readline() == b"ready\n", f"{arguments[0].name} could not start: {path.read_text()}"

    def wait_bound(self, address):
        """Until somebody has this UDP address."""
        host, _, port = address.rpartition(":")
        pattern = "".join(f"{int(part):02X}" for part in reversed(host.split("."))) + f":{int(port):04X}"

        def bound():
            with open("/proc/net/udp", encoding="ascii") as table:
                return any(line.split()[1] == pattern for line in list(table)[1:])
        wait_until(bound, START_DEADLINE, f"a socket on {address}")

    def cpu_ns(self):
        return machine.tree_cpu_ns([process.pid for process in self.processes])

    def mark(self):
        """Counters before a run."""
        return None

    def settle(self, _mark, sent, result):
        """After a run: wait until everything is worked off, and return how many datagrams were lost."""
        return sent - result["received"]

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        self.processes = []


class Holdfast(System):
    name = "holdfast, full job"
    relay, record, decimate = True, True, True
    settings = {}

    def start(self):
        place = self.bench.place
        texts = []
        for index, route in enumerate(self.routes):
            texts.append(channel(f"c{index}", route.listen, receive_buffer=RECEIVE_BUFFER,
                                 relays={"out": route.to} if self.relay else None,
                                 decimates={"slow": {"to": route.decimated, "keep_every": 5}}
                                 if self.decimate and route.decimated else None,
                                 record={"segment_size": "256M", "keep_at_most": "2G"} if self.record else None,
                                 **self.settings))
        self.log_dir = self.bench.disk_folder("holdfast")
        self.daemon = BenchDaemon(place, *texts, name=self.bench.unique("holdfastd"), log_dir=self.log_dir)
        with machine.OnCpus(self.bench.pinning.under_test):
            self.daemon.start()
        self.processes = []

    def cpu_ns(self):
        return machine.tree_cpu_ns([self.daemon.process.pid])

    def sums(self):
        total = {}
        pending = 0
        for entry in self.daemon.status()["channels"]:
            for name, value in entry["counters"].items():
                total[name] = total.get(name, 0) + value
            pending += entry["ring"]["pending"] if entry.get("ring") else 0
        return total, pending

    def mark(self):
        return self.sums()[0]

    def settle(self, mark, sent, result):
        started = time.monotonic()
        end = started + DRAIN_DEADLINE
        while True:
            now, pending = self.sums()
            if pending == 0 or time.monotonic() > end:
                break
            time.sleep(0.02)
        self.drain_s = time.monotonic() - started
        delta = {name: value - mark.get(name, 0) for name, value in now.items()}
        lost = [sent - delta["received"]]
        if self.relay:
            lost.append(sent - result["received"])
        if self.record:
            lost.append(sent - delta["recorded"])
        if self.decimate:
            lost.append(delta["decimate_lost"])
        return max(lost)

    def stop(self):
        self.daemon.stop()
        shutil.rmtree(self.log_dir, ignore_errors=True)


class HoldfastOffload(Holdfast):
    name = "holdfast, full job, receive_offload"
    settings = {"receive_offload": True}


class HoldfastRelay(Holdfast):
    name = "holdfast, relay only"
    record, decimate = False, False


class HoldfastRelayRecord(Holdfast):
    name = "holdfast, relay and record"
    decimate = False


class HoldfastRecord(Holdfast):
    name = "holdfast, record only"
    relays = False
    relay, decimate = False, False


class Bare(System):
    name = "bare recvmmsg + GSO loop"
    options = ()

    def extra(self, _index, _route):
        return ()

    def start(self):
        for index, route in enumerate(self.routes):
            self.spawn_ready([self.bench.tool("bench_bare_relay"), "--listen", route.listen, "--to", route.to,
                              "--buffer", f"{RECEIVE_BUFFER >> 20}M", *self.options, *self.extra(index, route)])


class WriteRelay(System):
    name = "the same ring, recording with write()"

    def start(self):
        self.folder = self.bench.disk_folder("write")
        for index, route in enumerate(self.routes):
            self.spawn_ready([self.bench.tool("bench_write_relay"), "--listen", route.listen, "--to", route.to,
                              "--buffer", f"{RECEIVE_BUFFER >> 20}M", "--file", self.folder / f"{index}.avro"])

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Socat(System):
    name = "socat"

    def start(self):
        program = need("socat")
        for route in self.routes:
            host, _, port = route.listen.rpartition(":")
            self.spawn([program, "-u", f"UDP4-RECV:{port},bind={host},rcvbuf={RECEIVE_BUFFER}",
                        f"UDP4-SENDTO:{route.to}"])
        for route in self.routes:
            self.wait_bound(route.listen)


class Nginx(System):
    """With a session per client that stays: proxy_responses 0 would make and end one per datagram, at three times the
    cost."""
    name = "nginx stream"

    def start(self):
        program = need("nginx")
        module = machine.nginx_stream_module()
        if not module:
            raise Absent("not installed")
        folder = self.bench.folder / self.bench.unique("nginx")
        folder.mkdir()
        buffer = f"{RECEIVE_BUFFER >> 20}m"
        servers = "".join(f"  server {{ listen {route.listen} udp rcvbuf={buffer}; proxy_pass {route.to};"
                          " proxy_timeout 60s; }\n" for route in self.routes)
        config = folder / "nginx.conf"
        config.write_text(f"load_module {module};\ndaemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\n"
                          f"error_log {folder}/error.log;\nevents {{ worker_connections 4096; }}\n"
                          f"stream {{\n{servers}}}\n")
        self.spawn([program, "-p", folder, "-e", folder / "error.log", "-c", config])
        for route in self.routes:
            self.wait_bound(route.listen)


class Tcpdump(System):
    """Listens in on what goes straight from the sender to the sink."""
    name = "tcpdump -w (records only)"
    relays = False
    segments = 1  # it would see a run that is sent in one call as one packet

    def start(self):
        program = need("tcpdump")
        if os.geteuid() != 0:
            raise Absent("needs root")
        host, _, port = self.routes[0].to.rpartition(":")
        self.folder = self.bench.disk_folder("tcpdump")
        self.log = self.folder / "stderr"
        with open(self.log, "wb") as log:
            self.spawn([program, "-i", "lo", "-n", "-s", "0", "-B", "65536", "-Z", "root", "-w", self.folder / "x.pcap",
                        "udp", "and", "dst", "host", host, "and", "dst", "port", port], stderr=log)
        wait_until(lambda: "listening on" in self.log.read_text(), START_DEADLINE, "tcpdump to listen")

    def captured(self):
        lines = self.log.read_text().count("packets captured")
        self.processes[0].send_signal(signal.SIGUSR1)
        wait_until(lambda: self.log.read_text().count("packets captured") > lines, 5, "tcpdump's count")
        return int(re.findall(r"(\d+) packets captured", self.log.read_text())[-1])

    def mark(self):
        return self.captured()

    def settle(self, mark, sent, result):
        end = time.monotonic() + 3  # it looks into a block that is not full after a second
        while True:
            got = self.captured() - mark
            if got >= sent or time.monotonic() > end:
                return sent - got
            time.sleep(0.1)

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def fd_limit(wanted):
    """Raise the soft limit of open files for this process and all that it starts."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):  # only a privileged process may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
