# SPDX-License-Identifier: MIT
"""Workers die in every other way too: by SIGSEGV and SIGABRT from outside, stopped until they count as hung, by exit(0)
between two steps, by the kernel's OOM killer; three channels at once, with the archive and spares dying in between.
Every datagram is recorded exactly once and relayed at least once, nothing is ever put in quarantine, and a neighbour at a
steady rate shows neither a gap nor a delay."""

import collections
import pathlib
import random
import signal
import socket
import threading
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import is_alive, kill, skip, wait_until

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
BATCH_MOST = 64
NAMES = ("one", "two", "three")


class Heartbeat:
    """A neighbour's traffic: one datagram each 2 ms through its relay; how long each took is kept by phase."""

    def __init__(self, place, to, back):
        self.to, self.phase, self.delays = to, "before", collections.defaultdict(list)
        self.sent_at, self.ended = [], threading.Event()
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        host, _, port = back.rpartition(":")
        self.receiver.bind((host, int(port)))
        self.receiver.settimeout(0.2)
        self.numbers = []
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.send, self.receive)]
        for thread in self.threads:
            thread.start()
        place.on_exit(self.ended.set)

    def send(self):
        host, _, port = self.to.rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not self.ended.wait(0.002):
                self.sent_at.append((time.monotonic(), self.phase))
                sender.sendto(b"%d" % (len(self.sent_at) - 1), (host, int(port)))

    def receive(self):
        while not self.ended.is_set() or len(self.numbers) < len(self.sent_at):
            try:
                number = int(self.receiver.recv(64))
            except TimeoutError:
                if self.ended.is_set():
                    return
                continue
            sent, phase = self.sent_at[number]
            self.delays[phase].append(time.monotonic() - sent)
            self.numbers.append(number)

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(10)
        self.receiver.close()
        return len(self.sent_at)

    def p99(self, phase):
        delays = sorted(self.delays[phase])
        return delays[len(delays) * 99 // 100]


class Storm:
    """Three channels under load, and a neighbour."""

    def __init__(self, place, rate, **top):
        self.place = place
        self.outlets = [place.ipv4() for _ in NAMES]
        listens = [place.ipv4() for _ in NAMES]
        beside, back = place.ipv4(), place.ipv4()
        self.sink = Sink(place, self.outlets)
        channels = [channel(name, listen, relays={"display": outlet}, record={},
                            decimates={"slow": {"to": place.ipv4(), "keep_every": 5}})
                    for name, listen, outlet in zip(NAMES, listens, self.outlets)]
        self.daemon = Daemon(place, *channels, channel("neighbour", beside, relays={"back": back}, record={}), head=EAGER,
                             spare_workers=3, **top).start()
        self.heartbeat = Heartbeat(place, beside, back)
        self.senders = [Sender(place, listen, 10**9, name=name, rate=rate) for name, listen in zip(NAMES, listens)]
        for name in NAMES:
            self.daemon.wait_counter(name, "received", rate // 2)
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        self.chance = random.Random(seed)
        self.deaths = collections.Counter()
        self.helpers_hit = 0  # a spare may have become a worker by the time that the signal reaches it
        self.heartbeat.phase = "storm"

    def next_victim(self, last):
        """A channel whose worker is not the one that was hit last."""
        while True:
            entry = self.chance.choice([entry for entry in self.daemon.status()["channels"] if entry["name"] in NAMES])
            if entry["state"] in ("STARTING", "RUNNING") and entry["pid"] and last.get(entry["name"]) != entry["generation"]:
                last[entry["name"]] = entry["generation"]
                return entry

    def helpers(self):
        """Archive, gate and spares: every child that is no channel's worker."""
        workers = {entry["pid"] for entry in self.daemon.status()["channels"]}
        return [pid for pid in self.daemon.descendants() if pid not in workers]

    def judge(self):
        for sender in self.senders:
            sender.stop()
        beats = self.heartbeat.stop()
        caught, total = None, 0
        for name, sender in zip(NAMES, self.senders):
            sent = oracle.read_datagrams(sender.record)[0]
            self.daemon.wait_state(name, "RUNNING", 60)
            self.daemon.wait_drained(name, len(sent))
            counters = oracle.assert_ledger(self.daemon.status(name))
            assert counters["received"] == counters["recorded"] == len(sent), counters
            assert counters["kernel_dropped"] == counters["record_lost"] == counters["quarantined"] == 0, counters
            assert self.deaths[name] <= counters["restarts"] <= self.deaths[name] + self.helpers_hit, (name, counters)
            self.deaths[name] = counters["restarts"]
        self.daemon.wait_drained("neighbour", beats)
        assert self.daemon.status("neighbour")["restarts"] <= self.helpers_hit
        self.sink.wait_received([len(oracle.read_datagrams(sender.record)[0]) for sender in self.senders])
        self.daemon.stop()
        self.sink.stop()
        caught = oracle.read_datagrams(self.sink.record)
        for index, (name, sender) in enumerate(zip(NAMES, self.senders)):
            sent = oracle.read_datagrams(sender.record)[0]
            self.judge_channel(name, sent, caught[index])
            total += len(sent)
        self.judge_neighbour(beats)
        print(f"{total} datagrams, {sum(self.deaths.values())} deaths")

    def judge_channel(self, name, sent, relayed):
        files = self.daemon.segments(name)
        assert not self.daemon.segments(name, ".avro.open")
        oracle.assert_verified(self.daemon, files)
        records = oracle.read_with_avro_c(self.place, files)
        oracle.assert_consecutive(records, first=0)
        oracle.assert_same_payloads(sent, [record.payload for record in records], f"recorded by {name}")
        assert not any(record.flags for record in records)
        oracle.assert_at_least_once(sent, relayed, f"relayed by {name}")
        assert len(relayed) - len(sent) <= self.deaths[name] * BATCH_MOST

    def judge_neighbour(self, beats):
        records = oracle.read_with_avro_c(self.place, self.daemon.segments("neighbour"))
        oracle.assert_consecutive(records, first=0)
        assert [int(record.payload) for record in records] == list(range(beats)) == self.heartbeat.numbers
        before, during = self.heartbeat.p99("before"), self.heartbeat.p99("storm")
        print(f"neighbour: p99 {before * 1e3:.2f} ms before, {during * 1e3:.2f} ms in the storm")
        # Two cores carry the storm, the senders and this clock: the neighbour may wait for a core, but never for a death.
        assert during < max(20 * before, 0.1), f"the neighbour's p99 went from {before:.4f} s to {during:.4f} s"


def violence(storm, kills, numbers):
    """Signals to workers at random instants; each tenth time to the archive, the gate or a spare as well."""
    last = {}
    for count in range(kills):
        victim = storm.next_victim(last)
        time.sleep(storm.chance.random() * 0.02)  # the random instant itself, not a wait for anything
        kill(victim["pid"], storm.chance.choice(numbers))
        storm.deaths[victim["name"]] += 1
        if count % 10 == 9:
            helpers = storm.helpers()
            if helpers:
                kill(storm.chance.choice(helpers), storm.chance.choice(numbers))
                storm.helpers_hit += 1
        wait_until(lambda pid=victim["pid"]: not is_alive(pid), 20, f"worker {victim['pid']} to be gone")


def test_crashes_and_kills_on_three_channels(place):
    storm = Storm(place, 4000)
    violence(storm, 300, (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGBUS, signal.SIGTERM))
    storm.judge()


def test_stopped_workers_are_hung_and_replaced(place):
    """Each waits out hang_timeout, so three are stopped at a time. Meanwhile the kernel's buffer has to hold on."""
    storm = Storm(place, 1000, hang_timeout="500ms")
    for _ in range(10):
        running = [entry for entry in storm.daemon.status()["channels"] if entry["name"] in NAMES]
        time.sleep(storm.chance.random() * 0.05)
        for entry in running:
            kill(entry["pid"], signal.SIGSTOP)
            storm.deaths[entry["name"]] += 1
        for entry in running:
            wait_until(lambda entry=entry: (lambda now: now["state"] == "RUNNING"
                                            and now["generation"] > entry["generation"])(
                storm.daemon.status(entry["name"])), 20, f"a successor of {entry['name']}'s stopped worker")
    for name in NAMES:
        crashes = storm.daemon.call("crashes", {"channel": name})["crashes"]
        assert {crash["cause"] for crash in crashes} == {"hang"}, crashes
        assert all(crash["hung_thread"] for crash in crashes)
    storm.judge()


def test_workers_that_exit_without_having_been_asked(place):
    place.with_hooks()
    storm = Storm(place, 2000)
    steps = place.run(place.program("tool_page"), storm.daemon.process.pid, "one", "steps").stdout.split()
    steps = [step for step in steps if not step.startswith(("lap", "roll", "fail", "disk", "intake"))]
    for count in range(150):
        name = NAMES[count % len(NAMES)]
        before = storm.daemon.wait_state(name, "RUNNING")
        place.run(place.program("tool_page"), storm.daemon.process.pid, name, "exit-at", storm.chance.choice(steps))
        storm.deaths[name] += 1
        wait_until(lambda: storm.daemon.status(name)["generation"] > before["generation"], 20,
                   f"a successor of the worker that exited ({name})")
    crash = storm.daemon.call("crashes", {"channel": "one"})["crashes"][0]
    assert crash["cause"] == "exit" and crash["exit_status"] == 0, crash
    storm.judge()


class MemoryLimit:
    """A memory cgroup of this test's own (version 1 or 2), for one worker after the other."""

    def __init__(self, place):
        for root, self.limit, self.usage, self.kills in (
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"),
                ("/sys/fs/cgroup", "memory.max", "memory.current", "memory.events")):
            self.folder = pathlib.Path(root) / f"holdfast-test-{place.slot}"
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError:
                continue
            if (self.folder / self.limit).exists():
                place.on_exit(self.remove)
                return
            self.folder.rmdir()
        skip("no memory cgroup can be made here (needs root and the memory controller)")

    def remove(self):
        wait_until(lambda: not (self.folder / "cgroup.procs").read_text().strip(), 10, "the memory cgroup to be empty")
        self.folder.rmdir()

    def hold(self, pid, room):
        """Put a process in; it and its heirs may take `room` bytes more."""
        (self.folder / self.limit).write_text(str(int((self.folder / self.usage).read_text()) + room))
        (self.folder / "cgroup.procs").write_text(str(pid))

    def killed(self):
        words = (self.folder / self.kills).read_text().split()
        return int(words[words.index("oom_kill") + 1])


def test_the_kernel_kills_workers_for_their_memory(place):
    """Each worker sweeps through descriptors of the ring that nobody touched yet, and may not have the memory."""
    limit = MemoryLimit(place)
    storm = Storm(place, 3000)
    for count in range(12):
        name = NAMES[count % len(NAMES)]
        before = storm.daemon.wait_state(name, "RUNNING")
        limit.hold(before["pid"], 128 << 10)
        storm.deaths[name] += 1
        wait_until(lambda: storm.daemon.status(name)["generation"] > before["generation"], 30,
                   f"the kernel to kill the worker of {name}")
        wait_until(lambda: not is_alive(before["pid"]), 10, "it to be gone")
    assert limit.killed() == 12
    for name in NAMES:
        assert {crash["signal"] for crash in storm.daemon.call("crashes", {"channel": name})["crashes"]} == {"SIGKILL"}
    storm.judge()
