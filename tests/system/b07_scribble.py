# SPDX-License-Identifier: MIT
"""Random bytes are written over a channel's shared memory, and its worker is killed: a few hundred times, in every area,
few bytes and many. The supervisor never dies, the channel always comes back, nobody reads out of bounds (the sanitizer
builds run this too), what is in the log is sound, and a ring that was given up is told and its loss is counted."""

import os
import random
import socket
import struct
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
AREAS = {"page": (1, 4, 30, 300), "batch": (1, 10, 500), "descriptors": (1, 50, 3000), "data": (1, 100, 5000),
         "all": (10, 1000, 100000)}


def scribble(place, daemon, seed, area, count):
    result = place.run(place.program("tool_page"), daemon.process.pid, "engine", "scribble", seed, area, count, expect=None)
    return result.returncode == 0  # else it was scribbled over so badly before that the tool does not find its way


@core
def test_takeovers_of_damaged_memory(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, ring_size="256K", max_datagram=256, relays={"out": place.ipv4()},
                                   decimates={"slow": {"to": place.ipv4(), "keep_every": 3}},
                                   record={"segment_size": "1M", "keep_at_most": "24M"}),
                    channel("neighbour", place.ipv4(), record={"segment_size": "1M"}), head=EAGER, spare_workers=2,
                    hang_timeout="1s")
    # A worker that is killed while it looks for leaks at its exit is never waited for: its own tracer holds it.
    daemon.start(environment={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "").replace("detect_leaks=1",
                                                                                         "detect_leaks=0")})
    sender = Sender(place, listen, 10**9, rate=place.scaled(4000), sizes=(0, 64, 200))
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rounds, done = place.scaled(240), 0
    for _ in range(rounds):
        area = chance.choice(list(AREAS))
        before = daemon.wait_state("engine", "RUNNING", 60)
        if place.sanitized or chance.random() < 0.5:
            kill(before["pid"], 19)  # SIGSTOP: only the successor meets the damage; else this one does too
        done += scribble(place, daemon, chance.randrange(1 << 32), area, chance.choice(AREAS[area]))
        kill(before["pid"])
        wait_until(lambda before=before: daemon.status("engine")["generation"] > before["generation"], 30, "a successor")
        counters = daemon.counters("engine")
        assert all(value >= 0 for value in counters.values())
        daemon.call("crashes", {"channel": "engine"})
    assert done > rounds * 3 // 4, f"only {done} of {rounds} rounds have scribbled"
    daemon.wait_state("engine", "RUNNING", 60)
    lowest = [daemon.counters("engine")["recorded"]]

    def goes_on():  # from the lowest that is seen: the first may have been scribbled over
        recorded = daemon.counters("engine")["recorded"]
        lowest[0] = min(lowest[0], recorded)
        return recorded > lowest[0] + 100
    wait_until(goes_on, 60, "recording to go on")
    sender.stop()
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 30, "everything to be recorded or counted")
    counters = daemon.counters("engine")
    # What was scribbled may say that it came while nothing was to be recorded.
    assert counters["received"] == counters["recorded"] + counters["record_lost"] + counters["unrecorded"], counters
    assert daemon.status("neighbour")["restarts"] == 0
    refused = daemon.log_text().count("can't trust the ring")
    print(f"{rounds} takeovers, {refused} rings given up")
    assert refused > 0, "no ring was refused: the damage does not reach what is checked"
    daemon.disconnect()
    daemon.stop(expect=None)
    files = daemon.segments("engine")
    assert files
    for file in files:
        report = place.run(place.program("holdfastctl"), "verify", file, expect=None)
        assert report.returncode in (0, 1), report.stdout + report.stderr
    records = [record for file in files for record in oracle.read_with_avro_c(place, [file])]
    for record in chance.sample(records, min(2000, len(records))):
        oracle.check_crc(record)


def test_what_was_pending_in_a_refused_ring_is_counted(place):
    """The archive is stopped and the segment full, so that datagrams are pending; then the ring's identity is lost."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, max_datagram=256, record={"segment_size": "1M"}), head=EAGER,
                    spare_workers=0).start()
    sender = Sender(place, listen, 10**9, rate=10000, sizes=(200,))
    daemon.wait_counter("engine", "recorded", 100)
    helpers = daemon.helpers()
    for pid in helpers:
        kill(pid, 19)  # SIGSTOP
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] > 5000, 60, "pending datagrams")
    sender.stop()
    received = len(oracle.read_datagrams(sender.record)[0])
    daemon.wait_counter("engine", "received", received)
    pending = daemon.status("engine")["ring"]["pending"]
    daemon.lose_identity()
    before = daemon.status("engine")
    kill(before["pid"])
    daemon.wait_for_log("can't trust the ring: no channel page (magic)")
    for pid in helpers:
        kill(pid, 18)  # SIGCONT
    wait_until(lambda: daemon.status("engine")["state"] == "RUNNING", 20, "the channel on a fresh ring")
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == received and counters["record_lost"] == pending, (counters, pending)
    assert f"{pending} datagrams were received but not recorded" in daemon.log_text()
    daemon.stop(expect=None)


def settled(daemon, sent):
    """Is everything received or known to be dropped, within a moment?"""
    for _ in range(10):
        counters = daemon.counters("engine")
        if counters["received"] + counters["kernel_dropped"] == sent:
            return True
        time.sleep(0.02)
    return False


def test_drops_are_counted_once_over_a_fresh_ring(place):
    """The socket's drop counter goes on when the ring does not: each drop counts once, also those that no datagram has
    told yet when the ring is given up."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, receive_buffer="16K", max_datagram=1024, record={}), head=EAGER).start()
    host, _, port = listen.rpartition(":")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    place.on_exit(sender.close)
    sent = 0
    for damaged in (False, True, False, True, True, False):
        before = daemon.wait_state("engine", "RUNNING")
        kill(before["pid"], 19)
        for _ in range(300):
            sender.sendto(struct.pack("I", sent) * 100, (host, int(port)))
            sent += 1
        if damaged:
            daemon.lose_identity()
        kill(before["pid"])
        wait_until(lambda before=before: (lambda now: now["state"] == "RUNNING" and now["generation"] > before["generation"])(
            daemon.status("engine")), 20, "a successor")
        # While the queue is full, the datagram that would tell is dropped itself.
        for _ in range(50):
            sender.sendto(b"the one that tells", (host, int(port)))
            sent += 1
            if settled(daemon, sent):
                break
        assert settled(daemon, sent), (sent, daemon.counters("engine"))
    dropped = daemon.counters("engine")["kernel_dropped"]
    assert dropped > 1000
    daemon.stop(expect=None)
    told = sum(record.lost_before for record in oracle.read_with_avro_c(place, daemon.segments("engine")))
    assert 0 < told <= dropped, (told, dropped)
