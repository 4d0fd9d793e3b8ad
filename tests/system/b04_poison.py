# SPDX-License-Identifier: MIT
"""A datagram that kills whoever reads it ends up in quarantine: recorded with its flag, not relayed or not decimated,
and the channel goes on with all the others. In every consumer, in every way of dying, with the default restart policy."""

import signal
import socket
import time

from lib import oracle
from lib.holdfast import Daemon, Sink, channel
from lib.place import freeze, is_alive, kill, wait_until

QUARANTINED = 1
POISON = b"POISON"


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


class Channel:
    """One channel whose workers die of payloads that begin with POISON."""

    def __init__(self, place, crash, **top):
        place.with_hooks()
        self.place = place
        self.listen, outlet, slow = place.ipv4(), place.ipv4(), place.ipv4()
        self.sink = Sink(place, [outlet, slow])
        self.daemon = Daemon(place, channel("engine", self.listen, relays={"display": outlet},
                                            decimates={"all": {"to": slow, "keep_every": 1}}, record={}), **top)
        self.daemon.start(environment={"HOLDFAST_TEST_CRASH": f"{crash}:{POISON.decode()}"})
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        place.on_exit(self.sender.close)
        self.sent = []

    def send(self, *payloads):
        for payload in payloads:
            self.sender.sendto(payload, address(self.listen))
            self.sent.append(payload)

    def good(self, count):
        self.send(*(b"datagram %d" % (len(self.sent) + i) for i in range(count)))

    def while_nobody_listens(self, *payloads):
        """All of these are in the socket when the next worker looks: one batch."""
        entry = self.daemon.wait_state("engine", "RUNNING")
        freeze(entry["pid"])
        self.send(*payloads)
        kill(entry["pid"])

    def judge(self, lost_by, deadline=60):
        """lost_by: relay, record or decimate."""
        poison = [payload for payload in self.sent if payload.startswith(POISON)]
        good = [payload for payload in self.sent if not payload.startswith(POISON)]
        wait_until(lambda: self.daemon.counters("engine")["quarantined"] >= len(poison), deadline, "the quarantine")
        self.daemon.wait_state("engine", "RUNNING", deadline)
        self.daemon.wait_drained("engine", len(self.sent), deadline)
        self.sink.wait_received([len(good), len(good)])
        counters = oracle.assert_ledger(self.daemon.status("engine"))
        assert counters["quarantined"] == len(poison), counters
        assert counters["recorded"] == len(self.sent) and counters["kernel_dropped"] == 0, counters
        restarts = counters["restarts"]
        self.daemon.stop()
        self.sink.stop()
        files = self.daemon.segments("engine")
        oracle.assert_verified(self.daemon, files)
        records = oracle.read_with_avro_c(self.place, files)
        oracle.assert_consecutive(records, first=0)
        assert [record.payload for record in records] == self.sent
        flagged = {record.payload for record in records if record.flags & QUARANTINED}
        # What kills the decimator may have been recorded before that is known; what kills the others can't.
        assert flagged == set(poison) or (lost_by == "decimate" and flagged <= set(poison)), flagged
        relayed, decimated = (oracle.read_datagrams(self.sink.record)[index] for index in (0, 1))
        assert set(good) <= set(relayed) and set(good) <= set(decimated), "all others are relayed and decimated"
        assert set(relayed) <= set(self.sent) and set(decimated) <= set(self.sent)
        if lost_by == "relay":
            assert not set(poison) & set(relayed), "what kills the relay is not relayed"
        if lost_by in ("relay", "decimate"):
            assert not set(poison) & set(decimated), "it is not decimated either"
        return restarts


def one_of_each_kind(place, crash, lost_by, **top):
    """In a trickle, alone; and two in the middle of one batch."""
    engine = Channel(place, crash, **top)
    engine.good(20)
    engine.daemon.wait_counter("engine", "received", 20)
    engine.send(POISON + b" alone")
    wait_until(lambda: engine.daemon.counters("engine")["quarantined"] >= 1, 60, "the first quarantine")
    engine.good(20)
    engine.daemon.wait_drained("engine", len(engine.sent))
    goods = [b"batch %d" % number for number in range(30)]
    engine.while_nobody_listens(*goods[:10], POISON + b" first", *goods[10:20], POISON + b" second", *goods[20:])
    wait_until(lambda: engine.daemon.counters("engine")["quarantined"] >= 3, 60, "the quarantine of both")
    engine.good(20)
    restarts = engine.judge(lost_by)
    print(f"{restarts} restarts for 3 poison datagrams")
    assert restarts <= 12


def test_poison_for_the_relay(place):
    one_of_each_kind(place, "relay", "relay")


def test_poison_for_the_recorder(place):
    one_of_each_kind(place, "record", "record")


def test_poison_for_the_decimator(place):
    one_of_each_kind(place, "decimate", "decimate")


def test_poison_that_makes_an_assertion_fail(place):
    one_of_each_kind(place, "assert-relay", "relay")


def test_poison_that_aborts(place):
    one_of_each_kind(place, "abort-record", "record")


def test_poison_that_hangs(place):
    """Each death takes hang_timeout here."""
    one_of_each_kind(place, "hang-record", "record", hang_timeout="500ms")


def test_poison_that_hangs_the_relay(place):
    one_of_each_kind(place, "hang-relay", "relay", hang_timeout="500ms")


def test_poison_that_exits(place):
    """An exit says nothing about its thread: it takes longer until somebody is blamed, but it converges."""
    engine = Channel(place, "exit-record")
    engine.good(10)
    engine.send(POISON)
    engine.good(10)
    restarts = engine.judge("record")
    assert restarts <= 12


def test_many_poison_datagrams_with_the_default_policy(place):
    """Twenty one after the other: each costs some deaths, and none makes the next one wait longer."""
    engine = Channel(place, "relay")
    began = time.monotonic()
    for number in range(20):
        engine.good(5)
        engine.send(POISON + b" %d" % number)
        wait_until(lambda number=number: engine.daemon.counters("engine")["quarantined"] > number, 20,
                   f"quarantine {number + 1}")
    engine.good(5)
    restarts = engine.judge("relay")
    print(f"20 poison datagrams, {restarts} restarts, {time.monotonic() - began:.1f} s")


def test_signals_from_outside_put_nothing_in_quarantine(place):
    """Killed again and again with the very same datagram in the relay's work: nobody blames the datagram."""
    engine = Channel(place, "relay", head='restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }')

    def tool(*words):
        place.run(place.program("tool_page"), engine.daemon.process.pid, "engine", *words)

    tool("stop-at", "relay_sent")
    engine.good(1)
    for _ in range(8):
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
            tool("wait-stopped", "relay_sent", 20000)
            pid = engine.daemon.status("engine")["pid"]
            tool("stop-at", "relay_sent")  # for the successor
            kill(pid, number)
            kill(pid, signal.SIGCONT)
            wait_until(lambda pid=pid: not is_alive(pid), 10, "the worker to be gone")
    tool("wait-stopped", "relay_sent", 20000)
    kill(engine.daemon.status("engine")["pid"])
    engine.good(5)
    engine.daemon.wait_drained("engine", len(engine.sent))
    causes = {crash["cause"] for crash in engine.daemon.call("crashes", {"channel": "engine"})["crashes"]}
    assert causes == {"killed"}, causes
    assert engine.judge("relay") == 25
