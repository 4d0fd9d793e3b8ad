# SPDX-License-Identifier: MIT
"""40 channels at once. What happens to one, by an operator or by death, must not show in any other."""

import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until

CHANNELS = 40


def name_of(number):
    return f"channel-{number:02d}"


def start_many(place, count=CHANNELS):
    addresses = [place.ipv4() for _ in range(count)]
    texts = [channel(name_of(number), address, record={"segment_size": "2M"}, ring_size="512K", receive_buffer="2M",
                     max_datagram=512) for number, address in enumerate(addresses)]
    return Daemon(place, *texts, spare_workers=2).start(), addresses


def assert_untouched(place, daemon, number, sent, before):
    """This channel recorded all of its datagrams, by one and the same worker."""
    name = name_of(number)
    records = oracle.read_with_avro_c(place, daemon.segments(name))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent[number], [record.payload for record in records], name)
    assert before["restarts"] == 0


def test_forty_channels_and_disturbing_some_leaves_the_others_unbroken(place):
    daemon, addresses = start_many(place)
    states = {entry["name"]: entry["state"] for entry in daemon.status()["channels"]}
    assert states == {name_of(number): "RUNNING" for number in range(CHANNELS)}
    pids = {entry["name"]: entry["pid"] for entry in daemon.status()["channels"]}
    assert len(set(pids.values())) == CHANNELS, "each channel has a worker of its own"

    count = place.scaled(1500)
    sender = Sender(place, addresses, count, rate=place.scaled(300), sizes=(40, 200, 500))
    daemon.wait_counter(name_of(39), "received", count // 10)
    daemon.call("stop", {"channel": name_of(3)})
    daemon.wait_state(name_of(3), "STOPPED")
    daemon.call("start", {"channel": name_of(3)})
    daemon.wait_state(name_of(3), "RUNNING")
    daemon.call("restart", {"channel": name_of(7)})
    wait_until(lambda: daemon.status(name_of(7))["pid"] not in (None, 0, pids[name_of(7)])
               and daemon.status(name_of(7))["state"] == "RUNNING", 20, "a new worker for the restarted channel")
    kill(pids[name_of(11)], signal.SIGKILL)
    wait_until(lambda: daemon.status(name_of(11))["restarts"] == 1
               and daemon.status(name_of(11))["state"] == "RUNNING", 20, "a new worker for the killed one")
    sender.wait()

    disturbed = {3, 7, 11}
    for number in range(CHANNELS):
        if number != 3:  # while it was stopped nobody promised anything
            daemon.wait_drained(name_of(number), count)
    before = {entry["name"]: entry for entry in daemon.status()["channels"]}
    for number in range(CHANNELS):
        oracle.assert_ledger(before[name_of(number)])
        if number not in disturbed:
            assert before[name_of(number)]["pid"] == pids[name_of(number)]
    daemon.stop()

    sent = oracle.read_datagrams(sender.record)
    for number in set(range(CHANNELS)) - disturbed:
        assert_untouched(place, daemon, number, sent, before[name_of(number)])
    for number in disturbed:
        files = daemon.segments(name_of(number))
        oracle.assert_verified(daemon, files)
        records = oracle.read_with_avro_c(place, files)
        oracle.assert_consecutive(records, first=0)
        if number != 3:
            oracle.assert_same_payloads(sent[number], [record.payload for record in records], name_of(number))


@core
def test_a_stopped_channel_stays_stopped_until_started(place):
    daemon, addresses = start_many(place, 3)
    daemon.call("stop", {"channel": name_of(1)})
    entry = daemon.wait_state(name_of(1), "STOPPED")
    assert not entry["pid"] and entry["restarts"] == 0, "an operator's stop is not a failure"
    sender = Sender(place, [addresses[0], addresses[2]], 200, rate=1000)
    sender.wait()
    daemon.wait_drained(name_of(0), 200)
    daemon.wait_drained(name_of(2), 200)
    assert daemon.status(name_of(1))["state"] == "STOPPED"
    daemon.call("start", {"channel": name_of(1)})
    daemon.wait_state(name_of(1), "RUNNING")
    more = Sender(place, addresses[1], 200, rate=1000, name="more", tag=9)
    more.wait()
    daemon.wait_counter(name_of(1), "recorded", 200)
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments(name_of(1)))
    oracle.assert_same_payloads(oracle.read_datagrams(more.record)[0], [record.payload for record in records], "again")
