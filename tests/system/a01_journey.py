# SPDX-License-Identifier: MIT
"""The whole way of a datagram: 200,000 numbered ones of mixed sizes, over IPv4 and IPv6, unicast and multicast, go in;
each must come out on both relays and in the log, byte by byte, and every fifth on the decimated stream."""

import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, wait_until

MAX = 2048
SIZES = (0, 1, 64, 800, 1472, MAX, MAX + 1)
KEEP_EVERY = 5


class Journey:
    """One channel with everything: two relays, a decimated stream, a log."""

    def __init__(self, place, name, listen, tag):
        self.name, self.listen, self.tag = name, listen, tag
        self.outlets = [place.ipv4(), place.group(), place.ipv4()]
        self.place = place
        self.sender = self.sink = None

    def config(self):
        multicast = {"interface": "lo"} if self.listen.startswith(("239.", "[ff")) else {}
        return channel(self.name, self.listen,
                       relays={"near": self.outlets[0], "many": {"to": self.outlets[1], "interface": "lo", "ttl": 1}},
                       decimates={"slow": {"to": self.outlets[2], "keep_every": KEEP_EVERY}},
                       record={"segment_size": "64M"}, max_datagram=MAX, **multicast)

    def catch(self):
        self.sink = Sink(self.place, self.outlets, name=f"{self.name}-caught")

    def send(self, count, rate):
        self.sender = Sender(self.place, self.listen, count, name=f"{self.name}-sent", sizes=SIZES, rate=rate,
                             tag=self.tag)

    def judge(self, daemon, count, started):
        """After the stop: sent = recorded = relayed, in both Avro readers."""
        sent = oracle.read_datagrams(self.sender.record)[0]
        assert len(sent) == count
        expected = oracle.cut_to(sent, MAX)
        files = daemon.segments(self.name)
        assert files and not daemon.segments(self.name, ".avro.open")
        oracle.assert_verified(daemon, files)
        records = oracle.read_with_avro_c(self.place, files)
        oracle.assert_consecutive(records, first=0)
        oracle.assert_same_payloads(expected, [record.payload for record in records], f"{self.name}: recorded")
        assert sum(record.cut for record in records) == sum(max(0, len(payload) - MAX) for payload in sent)
        assert len({record.source for record in records}) == 1, "one socket sent them all"
        assert not any(record.flags or record.lost_before for record in records)
        assert all(started - 1 < record.received_at / 1e6 < time.time() for record in records)
        assert all(0 <= record.received_ns < 1000 for record in records)
        for record in records[:50] + records[-50:]:
            oracle.check_crc(record)
        caught = oracle.read_datagrams(self.sink.record)
        oracle.assert_same_payloads(expected, caught[0], f"{self.name}: relayed to unicast")
        oracle.assert_same_payloads(expected, caught[1], f"{self.name}: relayed to multicast")
        kept = [record.payload for record in records if record.seq % KEEP_EVERY == KEEP_EVERY - 1]
        oracle.assert_same_payloads(kept, caught[2], f"{self.name}: decimated")
        assert len(kept) == count // KEEP_EVERY
        return files, records


def travel(place, journeys, count, rate):
    daemon = Daemon(place, *[journey.config() for journey in journeys])
    started = time.time()
    for journey in journeys:
        journey.catch()
    daemon.start()
    for journey in journeys:
        journey.send(count, rate)
    for journey in journeys:
        assert journey.sender.wait()["sent"] == count
        daemon.wait_drained(journey.name, count)
        journey.sink.wait_received([count, count, count // KEEP_EVERY])
        entry = daemon.status(journey.name)
        counters = oracle.assert_ledger(entry)
        assert counters["received"] == counters["recorded"] == count
        assert counters["kernel_dropped"] == counters["record_lost"] == counters["relay_dropped"] == 0
        assert counters["relayed"] == 2 * count and counters["decimated"] == count // KEEP_EVERY
        assert counters["truncated"] == sum(SIZES[number % len(SIZES)] > MAX for number in range(count))
        assert counters["restarts"] == 0
    daemon.stop()
    for journey in journeys:
        journey.sink.stop()
    files = []
    records = []
    for journey in journeys:
        more_files, more_records = journey.judge(daemon, count, started)
        files += more_files
        records += more_records
    return files, records


@core
def test_unicast_and_multicast_datagrams_arrive_everywhere(place):
    count = place.scaled(50000)
    journeys = [Journey(place, "four", place.ipv4(), 1), Journey(place, "six", place.ipv6(), 2),
                Journey(place, "group-four", place.group(), 3)]
    files, records = travel(place, journeys, count, place.scaled(10000))
    assert oracle.read_with_python_avro(files) == records, "python3-avro and avro-c read different things"


def test_ipv6_multicast_datagrams_arrive_everywhere(place):
    place.private_network()
    count = place.scaled(50000)
    files, records = travel(place, [Journey(place, "group-six", place.group6(), 4)], count, place.scaled(20000))
    assert oracle.read_with_python_avro(files) == records, "python3-avro and avro-c read different things"


@core
def test_mirror_mapping_does_the_same(place):
    """The fallback for machines where the ring can't be mapped twice. The ring is so small that it wraps often; the
    receiver waits for the recorder rather than lap it."""
    listen, outlet = place.ipv4(), place.ipv4()
    count = place.scaled(20000)
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={"on_full": "wait"},
                                   mapping="mirror", ring_size="256K", max_datagram=MAX)).start()
    sender = Sender(place, listen, count, sizes=SIZES, rate=place.scaled(5000))
    sender.wait()
    daemon.wait_drained("engine", count)
    entry = daemon.status("engine")
    assert entry["ring"]["mapping"] == "mirror", entry["ring"]
    oracle.assert_ledger(entry)
    daemon.stop()
    sink.wait_received(count)
    sink.stop()
    expected = oracle.cut_to(oracle.read_datagrams(sender.record)[0], MAX)
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(expected, oracle.read_datagrams(sink.record)[0], "relayed")
    assert entry["counters"]["record_lost"] == 0, "lapped although it should wait"
    oracle.assert_same_payloads(expected, [record.payload for record in records], "recorded")


def test_max_rate_keeps_the_newest_and_no_more(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, decimates={"slow": {"to": outlet, "max_rate": 50}},
                                   record={})).start()
    sender = Sender(place, listen, 4000, rate=2000)
    took = sender.wait()["duration_s"]
    daemon.wait_drained("engine", 4000)
    daemon.stop()
    sink.stop()
    caught = oracle.read_datagrams(sink.record)[0]
    assert 0.6 * 50 * took <= len(caught) <= 50 * took + 2, f"{len(caught)} in {took:.2f} s"
    order = {record.payload: record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))}
    numbers = [order[payload] for payload in caught]
    assert numbers == sorted(set(numbers)), "old datagrams after newer ones"


def newest_after_bursts(place, coalesced, **settings):
    """Bursts that fill the warm part of the ring several times over. Each time the stream falls silent, the newest
    datagram must arrive, although the writer has gone back to the front in between."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, decimates={"slow": {"to": outlet, "max_rate": 20}},
                                   receive_buffer="16M", **settings)).start()
    count = 0
    for burst in range(12):
        sender = Sender(place, listen, 4000 + burst * 97, name=f"burst-{burst}", rate=40000, sizes=(800,), tag=burst,
                        coalesced=coalesced)
        count += sender.wait()["sent"]
        newest = oracle.read_datagrams(sender.record)[0][-1]

        def arrived(newest=newest):
            sink.counts()  # writes its record too
            caught = oracle.read_datagrams(sink.record)[0]
            return caught and caught[-1] == newest
        wait_until(arrived, 10, f"the newest datagram of burst {burst}")
    daemon.wait_drained("engine", count)
    daemon.stop()


@core
def test_the_newest_arrives_when_the_stream_falls_silent(place):
    newest_after_bursts(place, False, record={})


def test_the_newest_arrives_with_receive_offload_too(place):
    newest_after_bursts(place, True, record={}, receive_offload=True)


def test_the_newest_arrives_where_one_batch_needs_megabytes(place):
    newest_after_bursts(place, False, max_datagram=60000)
