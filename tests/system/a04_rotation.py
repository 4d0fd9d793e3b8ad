# SPDX-License-Identifier: MIT
"""Segments change under load, by size, by time and by an operator's wish: no gap between files, and each sealed one
is a whole Avro file that says in its name where it begins."""

import re

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, wait_until

NAME = re.compile(r"engine-(\d{20})-\d{8}T\d{6}Z\.avro$")


def judge(place, daemon, sender, at_least):
    files = daemon.segments("engine")
    assert len(files) >= at_least, f"{len(files)} files, expected {at_least} or more"
    assert not daemon.segments("engine", ".avro.open")
    oracle.assert_verified(daemon, files)
    everything = []
    for file in files:
        records = oracle.read_with_avro_c(place, [file])
        assert int(NAME.search(file.name).group(1)) == records[0].seq, f"{file.name} begins at {records[0].seq}"
        everything += records
    assert oracle.read_with_python_avro(files) == everything
    oracle.assert_consecutive(everything, first=0)
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in everything],
                                "recorded")
    return files


@core
def test_rotation_by_size(place):
    listen, count = place.ipv4(), place.scaled(20000)
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    sender = Sender(place, listen, count, rate=place.scaled(8000), sizes=(800, 64, 1472))
    wait_until(lambda: daemon.segments("engine"), 30, "the first sealed segment")
    first = daemon.segments("engine")[0]
    daemon.ctl("verify", first)  # complete as soon as it bears its name, while the next ones are written
    sender.wait()
    daemon.wait_drained("engine", count)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["record_lost"] == 0, counters
    daemon.stop()
    files = judge(place, daemon, sender, at_least=count * 800 // (1 << 20) - 2)
    assert all(file.stat().st_size <= 1 << 20 for file in files)


def test_rotation_by_time(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_time": "1s"})).start()
    sender = Sender(place, listen, 5000, rate=1000)
    sender.wait()
    daemon.wait_drained("engine", 5000)
    daemon.stop()
    files = judge(place, daemon, sender, at_least=4)
    assert len(files) <= 8


@core
def test_rotation_by_an_operator(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    sender = Sender(place, listen, place.scaled(6000), rate=place.scaled(2000))
    for number in range(1, 4):
        daemon.wait_counter("engine", "recorded", place.scaled(1500) * number)
        before = daemon.status("engine")["log"]["segment"]
        daemon.ctl("rotate", "engine")
        wait_until(lambda before=before: daemon.status("engine")["log"]["segment"] != before, 20, "another segment")
        wait_until(lambda number=number: len(daemon.segments("engine")) >= number, 20, "the one before to be sealed")
    sender.wait()
    daemon.wait_drained("engine", place.scaled(6000))
    daemon.stop()
    judge(place, daemon, sender, at_least=4)


def test_old_segments_expire_and_the_log_says_so(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "keep_at_most": "3M"})).start()
    sender = Sender(place, listen, 10000, rate=5000, sizes=(1000,))
    sender.wait()
    daemon.wait_drained("engine", 10000)
    wait_until(lambda: sum(file.stat().st_size for file in daemon.segments("engine")) <= 3 << 20, 90,
               "old segments to be removed")
    daemon.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records)
    assert records[-1].seq == 9999, "the newest are kept"
    assert "keep_at_most" in daemon.log_text(), "a removal without a word about it"
