# SPDX-License-Identifier: MIT
"""A reader that dies at any moment goes on at its named position: every datagram at least once, and again only those
that came after the last save. And what a reader comes too late for is told by number."""

import collections
import random
import time

from lib import oracle
from lib.disk import cut_off
from lib.holdfast import Daemon, Sender, channel
from lib.place import kill, wait_until
from lib.reading import (EXPIRED, LAPPED, Reader, assert_in_order, assert_same_as_log, gate_of, lost_of)

OPEN_TO_ALL = 'read { mode = "0666" }'


def last_saved(reader):
    return max([event.first for event in reader.events() if event.kind == "saved"], default=0)


def test_killed_at_random_again_and_again(place):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, listen = random.Random(seed), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), head=OPEN_TO_ALL).start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(10000), sizes=(64,))
    kills = max(place.scaled(500), 20)
    due, seen, repeated = 0, set(), 0
    for number in range(kills):
        reader = Reader(place, daemon, f"life{number}", save_every=chance.choice((1, 10, 100)), position="mine",
                        **{"from": "position"})
        time.sleep(chance.random() * 0.05)  # the random instant itself, not a wait for anything
        gate = gate_of(daemon)
        kills_gate = number % 100 == 9
        if kills_gate:
            kill(gate)
            time.sleep(chance.random() * 0.05)
        reader.end()
        got = [seq for seq, _ in reader.datagrams()]
        if got:
            assert got == list(range(got[0], got[-1] + 1)), "no hole in one life"
            # A save may have become durable although its reader did not live to hear of it.
            assert due <= got[0] <= len(seen), f"it began at {got[0]}; saved was {due}, seen up to {len(seen)}"
            repeated += len(seen & set(got))
            seen |= set(got)
        due = max(due, last_saved(reader))
        # Who opens while a gate that dies often is waited with would be told that nobody answers.
        wait_until(lambda: gate_of(daemon) not in (None, gate if kills_gate else None), 30, "another gate")
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    last = Reader(place, daemon, "last", save_every=1000, position="mine", **{"from": "position"})
    last.wait_next(len(sent))
    last.stop()
    seen |= {seq for seq, _ in last.datagrams()}
    assert seen == set(range(len(sent))), "every one at least once"
    assert_same_as_log(last, oracle.read_with_avro_c(place, stop_and_list(daemon)))
    print(f"{len(sent)} datagrams, {kills} kills, {repeated} given twice")


def test_a_power_cut_takes_what_was_saved_as_done_with(place):
    """The log has lost its end, and gives its numbers again. Nobody has read what gets them, whatever was saved, and
    however far the log has come when the reader is back."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "4M"}), head=OPEN_TO_ALL).start()
    Sender(place, listen, 2000, rate=20000, sizes=(200,), name="before", tag=1).wait()
    daemon.wait_drained("engine", 2000)
    reader = Reader(place, daemon, "before", save_every=100, position="mine", **{"from": "position"})
    reader.wait_next(2000)
    reader.stop()
    daemon.kill_all()
    cut_off(daemon.segments("engine", ".avro.open")[0], 100_000)
    daemon.start()
    daemon.wait_for_log("beyond the log's end")
    sender = Sender(place, listen, 5000, rate=20000, sizes=(200,), name="after", tag=2)
    sender.wait()
    daemon.wait_drained("engine", 5000)
    reader = Reader(place, daemon, "after", position="mine", **{"from": "position"})
    reader.wait_for(lambda counts: counts["live"], 30, "all to be read")
    reader.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    oracle.assert_same_payloads(sent, [payload for _, payload in reader.datagrams()], "read after the power cut")


def stop_and_list(daemon):
    daemon.stop()
    return daemon.segments("engine")


def test_retention_is_faster_than_the_reader(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "keep_at_most": "3M"}),
                    head=OPEN_TO_ALL).start()
    reader = Reader(place, daemon, "slow", slow=1000)
    count = place.scaled(20000)
    Sender(place, listen, count, rate=place.scaled(5000), sizes=(800,)).wait()
    daemon.wait_drained("engine", count)
    wait_until(lambda: reader.counts()["lost"] > 0, 60, "the reader to have lost something")
    late = Reader(place, daemon, "late", **{"from": "seq:0"})
    late.wait_next(count)
    late.stop()
    assert_in_order(late, first=0)
    reader.end()
    records = oracle.read_with_avro_c(place, stop_and_list(daemon))
    oldest = records[0].seq
    lost = lost_of(late)
    assert set(lost) == {EXPIRED} and 0 < lost[EXPIRED] <= oldest, (lost, oldest)
    assert lost[EXPIRED] + len(late.datagrams()) == count
    assert set(lost_of(reader)) == {EXPIRED}
    assert_in_order(reader, first=0)
    assert_same_as_log(late, records)


def test_the_newest_one(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), head=OPEN_TO_ALL).start()
    reader = Reader(place, daemon, "newest", mode="newest", slow=200)
    count = place.scaled(20000)
    sender = Sender(place, listen, count, rate=place.scaled(10000), sizes=(64, 700))
    sender.wait()
    daemon.wait_drained("engine", count)
    reader.wait_next(count)
    counts = reader.stop()
    records = oracle.read_with_avro_c(place, stop_and_list(daemon))
    got = reader.datagrams()
    assert [number for number, _ in got] == sorted({number for number, _ in got})
    assert_same_as_log(reader, records)
    passed = sum(event.second for event in reader.events() if event.kind == "passed")
    assert passed + len(got) + counts["torn"] >= count - 1 - got[0][0], (passed, len(got), got[0][0])
    assert got[-1][0] == count - 1 or counts["torn"] > 0


def test_a_channel_that_does_not_record(place):
    """Datagrams come out of memory, each one; and who is too slow for that is told how many were overwritten."""
    listen, outlet = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"away": outlet}, ring_size="4M"), head=OPEN_TO_ALL).start()
    fast = Reader(place, daemon, "fast", mode="new")
    slow = Reader(place, daemon, "slow", mode="new", slow=3000)
    count = place.scaled(20000)
    sender = Sender(place, listen, count, rate=place.scaled(5000), sizes=(64, 300))
    sender.wait()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_counter("engine", "received", count)
    kill(daemon.status("engine")["pid"])
    fast.wait_next(count)
    slow.wait_next(count, deadline=120)
    fast.stop()
    slow.stop()
    assert assert_in_order(fast, first=0)[1] == count
    oracle.assert_same_payloads(sent, [payload for _, payload in fast.datagrams()], "read")
    assert assert_in_order(slow, first=0)[1] == count
    assert set(lost_of(slow)) == {LAPPED} and lost_of(slow)[LAPPED] + len(slow.datagrams()) == count, (
        lost_of(slow), len(slow.datagrams()), count, slow.events()[:9])
    got = collections.Counter(payload for _, payload in slow.datagrams())
    assert not got - collections.Counter(sent)
    daemon.stop()
