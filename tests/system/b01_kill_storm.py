# SPDX-License-Identifier: MIT
"""Workers die all the time, at random instants, under load, with default settings: every datagram is recorded exactly once and relayed at
least once, the ledger is exact, and a neighbour does not notice."""

import collections
import random
import signal
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import alone, kill

BATCH_MOST = 64
RUN_MOST = 16  # datagrams in one coalesced run of the sender


def storm(place, kills, rate, numbers=(signal.SIGKILL,), coalesced=False, **settings):
    """Kill the worker of `engine` again and again while datagrams flow. Returns daemon, sink, sender, kills done."""
    listen, neighbour, outlet = place.ipv4(), place.ipv4(), place.ipv4()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet},
                                   decimates={"slow": {"to": place.ipv4(), "keep_every": 5}},
                                   record={"segment_size": "16M"}, **settings),
                    channel("neighbour", neighbour, record={})).start()
    sender = Sender(place, listen, 10**9, rate=rate, sizes=(64,), coalesced=coalesced)
    beside = Sender(place, neighbour, 10**9, name="beside", rate=1000, sizes=(64,))
    done = 0
    generation = 0
    while done < kills:
        entry = daemon.status("engine")
        if entry["state"] not in ("RUNNING", "STARTING") or not entry["pid"] or entry["generation"] == generation:
            continue
        generation = entry["generation"]
        time.sleep(chance.random() * 0.03)  # the random instant itself, not a wait for anything
        kill(entry["pid"], chance.choice(numbers))
        done += 1
    return daemon, sink, sender, beside


def judge(place, daemon, sink, sender, beside, kills, batch=BATCH_MOST):
    sender.stop()
    beside.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    sent_beside = oracle.read_datagrams(beside.record)[0]
    daemon.wait_state("engine", "RUNNING", 60)
    daemon.wait_drained("engine", len(sent))
    daemon.wait_drained("neighbour", len(sent_beside))
    entry = daemon.status("engine")
    counters = oracle.assert_ledger(entry)
    assert counters["received"] == len(sent) == counters["recorded"], counters
    assert counters["kernel_dropped"] == 0 and counters["record_lost"] == 0, counters
    assert counters["restarts"] == kills, counters
    assert daemon.status("neighbour")["restarts"] == 0
    sink.wait_received(len(sent))
    daemon.stop()
    sink.stop()

    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    relayed = oracle.read_datagrams(sink.record)[0]
    oracle.assert_at_least_once(sent, relayed, "relayed")
    often = collections.Counter(relayed)
    repeated = sum(count - 1 for count in often.values())
    assert max(often.values()) <= kills + 1
    assert repeated <= kills * batch, f"{repeated} datagrams relayed twice by {kills} deaths"
    assert repeated <= counters["relay_repeated"], f"{repeated} repeated, but counted {counters['relay_repeated']}"
    print(f"{len(sent)} datagrams, {kills} kills, {repeated} relayed twice")
    records = oracle.read_with_avro_c(place, daemon.segments("neighbour"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent_beside, [record.payload for record in records], "neighbour")


@alone
def test_a_thousand_kills_at_random_instants(place):
    kills = place.scaled(1000)
    judge(place, *storm(place, kills, place.scaled(20000)), kills)


@alone
def test_the_same_with_receive_offload(place):
    """Runs of datagrams that arrive in one piece are told apart again, also when a worker dies over them."""
    kills = place.scaled(300)
    judge(place, *storm(place, kills, place.scaled(20000), coalesced=True, receive_offload=True), kills,
          BATCH_MOST * RUN_MOST)
