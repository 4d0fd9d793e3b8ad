# SPDX-License-Identifier: MIT
"""Datagrams that hold records: another log that is relayed, or somebody who means harm. Behind a page that was lost they are
taken for nothing but bytes, and what is sound behind them is not lost over them."""

import socket

from lib import log_files, oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core
from system.c10_log_header import SYNC, ctl, schema_of

PAGE = 4096
UNREACHED = 1 << 61  # a number that no log comes to


def skip_record(data, at):
    for _ in range(3):
        _value, at = log_files.read_varint(data, at)
    length, at = log_files.read_varint(data, at)
    at += length
    for _ in range(3):
        _value, at = log_files.read_varint(data, at)
    length, at = log_files.read_varint(data, at)
    return at + length + 4


def records_of_blocks(data):
    """Of each sealed block, where its records begin."""
    _entries, sync, at = log_files.read_header(data)
    while at + 10 < len(data):
        count, behind = log_files.read_varint(data, at)
        size, begin = log_files.read_varint(data, behind)
        if count <= 0 or begin != at + 10 or data[begin + size:begin + size + 16] != sync:
            return
        starts = [begin]
        for _ in range(count - 1):
            starts.append(skip_record(data, starts[-1]))
        yield starts
        at = begin + size + 16


def page_over(data, which, skip=1):
    """The page in which a block's record of that index begins, and the one before it ends."""
    for starts in list(records_of_blocks(data))[skip:]:
        if len(starts) > which and 64 <= starts[which] % PAGE <= PAGE - 128:
            page = starts[which] // PAGE * PAGE
            if page > starts[which - 1] + 128:
                return page
    raise AssertionError("no record lies like that")


def without(data, page):
    return data[:page] + bytes(PAGE) + data[page + PAGE:]


def log_of(place, records, to_a_block):
    blocks = [log_files.block(records[n:n + to_a_block], SYNC) for n in range(0, len(records), to_a_block)]
    return log_files.header(schema_of(place), SYNC) + b"".join(blocks)


def recovered(place, data, suffix):
    """What is sound in such a file, by `recover`."""
    bad, out = place.folder / f"bad{suffix}", place.folder / f"out{suffix}.avro"
    bad.write_bytes(data + (bytes(65536) if suffix == ".avro.open" else b""))
    ctl(place, "recover", "-o", out, bad)
    return oracle.read_with_avro_c(place, [out])


@core
def test_a_log_that_is_relayed(place):
    """Its pieces have higher numbers."""
    inner = b"".join(log_files.record(1000000 + n, b"i" * 60) for n in range(190))[:16000]
    data = log_of(place, [log_files.record(n, inner) for n in range(45)], 5)
    for suffix in (".avro", ".avro.open"):
        numbers = [record.seq for record in recovered(place, without(data, page_over(data, 1)), suffix)]
        assert max(numbers) < 45 and len(numbers) >= 40, (suffix, numbers)


@core
def test_a_sender_who_counts(place):
    """Each datagram holds records with the numbers after its own."""
    forged = [log_files.record(n, b"f") for n in range(600)]
    data = log_of(place, [log_files.record(n, b"".join(forged[n + 1:n + 451])) for n in range(48)], 4)
    for suffix in (".avro", ".avro.open"):
        back = recovered(place, without(data, page_over(data, 2)), suffix)
        assert b"f" not in {record.payload for record in back} and len(back) >= 44, (suffix, [record.seq for record in back])


def test_records_that_fill_half_a_block(place):
    """What has hit the head of the first one costs that one."""
    data = bytearray(log_of(place, [log_files.record(n, bytes([n]) * 33000) for n in range(8)], 2))
    first = list(records_of_blocks(bytes(data)))[2][0]
    data[first + 2:first + 26] = b"\xa5" * 24
    assert [record.seq for record in recovered(place, bytes(data), ".avro")] == [0, 1, 2, 3, 5, 6, 7]


def test_heads_of_long_records(place):
    """Looking through them uses up no patience that the rest of the file needs."""
    head = (log_files.varint(1000000) + log_files.varint(log_files.NOON_US) + log_files.varint(0) + log_files.text("1:1")
            + log_files.varint(0) * 3 + log_files.varint(30000))
    payload = (head * 4000)[:60000]
    data = log_of(place, [log_files.record(n, payload) for n in range(16)], 2)
    data += log_files.varint(0, 5) * 2 + b"".join(log_files.record(16 + n, b"ordinary") for n in range(500))
    for starts in list(records_of_blocks(data))[1:3]:
        data = without(data, starts[1] // PAGE * PAGE)
    numbers = [record.seq for record in recovered(place, data, ".avro.open")]
    assert [n for n in numbers if n >= 16] == list(range(16, 516)), numbers[-1]


def test_numbers_that_no_log_reaches(place):
    """Power goes out while they are recorded, and a page with them. The channel records on."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, max_datagram=65507, record={"segment_size": "16M"})).start()
    payload = ((log_files.record(UNREACHED, b"f") + log_files.record(UNREACHED + 1, b"f")) * 2000)[:60000]
    host, _, port = listen.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(60):
            sender.sendto(payload[:60000 - 37 * number], (host, int(port)))
            daemon.wait_counter("engine", "received", number + 1)
    daemon.wait_drained("engine", 60)
    daemon.kill_all()
    file, = [file for file in daemon.segments("engine", ".avro.open") if "prepared" not in file.name]
    data = file.read_bytes()
    file.write_bytes(without(data, page_over(data, 1, skip=3)))
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 100, name="more").wait()
    daemon.wait_drained("engine", 100)
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert b"f" not in {record.payload for record in records}
    assert len([record for record in records if len(record.payload) > 1000]) >= 56
    assert len(records) >= 156, len(records)
