# SPDX-License-Identifier: MIT
"""Judges by comparing sets: what was sent against what was recorded, relayed and decimated. Everything here reads
files that independent programs wrote; nothing asks holdfast how well it did, except the ledger, which must agree."""

import collections
import multiprocessing
import signal
import struct
import subprocess

FLAT = struct.Struct("<qqiiii4sII")
HEAD = struct.Struct("<IIQ")

Record = collections.namedtuple("Record", "seq received_at received_ns source lost_before cut flags payload crc32c")


def read_datagrams(path):
    """The record of a sender or sink: for each socket index the list of payloads, in order."""
    sockets = collections.defaultdict(list)
    data = path.read_bytes()
    at = 0
    while at < len(data):
        length, index, _time = HEAD.unpack_from(data, at)
        at += HEAD.size
        payload = data[at:at + length]
        assert len(payload) == length, f"{path} ends inside a datagram"
        sockets[index].append(payload)
        at += length
    return sockets


def read_with_avro_c(place, files):
    """All records of the files, through avro-c's reader."""
    files = [str(file) for file in files]
    result = subprocess.run([place.program("tool_avro_dump"), *files], capture_output=True, check=False, timeout=300)
    assert result.returncode == 0, f"avro-c cannot read {files}: {result.stderr.decode()}"
    data, at, records = result.stdout, 0, []
    while at < len(data):
        (seq, received_at, received_ns, lost_before, cut, flags, crc, source_length,
         payload_length) = FLAT.unpack_from(data, at)
        at += FLAT.size
        source = data[at:at + source_length].decode()
        at += source_length
        records.append(Record(seq, received_at, received_ns, source, lost_before, cut, flags,
                              data[at:at + payload_length], crc))
        at += payload_length
    return records


def read_one_with_python_avro(path):
    """All records of one file, through Apache's Python reader."""
    from avro.datafile import DataFileReader  # pylint: disable=import-outside-toplevel
    from avro.io import DatumReader  # pylint: disable=import-outside-toplevel
    with open(path, "rb") as file, DataFileReader(file, DatumReader()) as reader:
        return [Record(datum["seq"], microseconds(datum["received_at"]), datum["received_ns"], datum["source"],
                       datum["lost_before"], datum["cut"], datum["flags"], datum["payload"], datum["crc32c"])
                for datum in reader]


def microseconds(moment):
    """python3-avro makes a datetime of a timestamp-micros; the number behind it is what is compared."""
    if isinstance(moment, int):
        return moment
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1000000 + moment.microsecond


def read_with_python_avro(files, jobs=2):
    if jobs == 1 or len(files) == 1:
        parts = map(read_one_with_python_avro, files)
    else:
        pool = multiprocessing.Pool(jobs, initializer=signal.signal, initargs=(signal.SIGTERM, signal.SIG_DFL))
        parts = pool.map(read_one_with_python_avro, files)
        pool.close()  # no terminate(): its SIGTERM may meet a process in the middle of its exit
        pool.join()
    return [record for part in parts for record in part]


# ---- CRC-32C, slowly and by the book (RFC 3720 appendix B.4) ----

def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def varint(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def check_crc(record):
    """Is the record's crc32c that of its encoded fields?"""
    source = record.source.encode()
    encoded = b"".join((varint(record.seq), varint(record.received_at), varint(record.received_ns),
                        varint(len(source)), source, varint(record.lost_before), varint(record.cut),
                        varint(record.flags), varint(len(record.payload)), record.payload))
    assert int.from_bytes(record.crc32c, "little") == crc32c(encoded), f"wrong CRC in the record of seq {record.seq}"


# ---- verdicts ----

def describe(difference, limit=5):
    shown = [f"{len(payload)} bytes {payload[:12].hex()} x{count}" for payload, count in
             list(difference.items())[:limit]]
    return f"{sum(difference.values())} ({'; '.join(shown)})"


def assert_same_payloads(expected, actual, what):
    """Both are lists of payloads; every one as often as it was sent, byte by byte, in any order."""
    expected, actual = collections.Counter(expected), collections.Counter(actual)
    missing, surplus = expected - actual, actual - expected
    assert not missing and not surplus, f"{what}: missing {describe(missing)}, surplus {describe(surplus)}"


def assert_at_least_once(expected, actual, what):
    missing = collections.Counter(set(expected)) - collections.Counter(set(actual))
    strange = set(actual) - set(expected)
    assert not missing, f"{what}: missing {describe(missing)}"
    assert not strange, f"{what}: {len(strange)} payloads that nobody sent"


def assert_consecutive(records, first=None):
    """Sequence numbers go up by one, from file to file too."""
    for before, after in zip(records, records[1:]):
        assert after.seq == before.seq + 1, f"seq {before.seq} is followed by {after.seq}"
    if first is not None and records:
        assert records[0].seq == first, f"the first seq is {records[0].seq}, expected {first}"


def cut_to(payloads, size):
    return [payload[:size] for payload in payloads]


def assert_ledger(entry):
    """The identities of DESIGN §6 on one channel of `status`, at a quiet moment. Returns its counters."""
    counters, pending = entry["counters"], entry["ring"]["pending"]
    named = counters["recorded"] + counters["record_lost"] + counters["unrecorded"] + pending
    assert counters["received"] == named, (
        f"received != recorded + record_lost + unrecorded + pending: {counters}, pending {pending}")
    relays = entry.get("relays")
    if relays is not None:
        for relay in relays:
            assert counters["received"] == relay["sent"] + relay["dropped"], (
                f"received != relayed + relay_dropped: {relay}, {counters}")
    return counters


def assert_verified(daemon, files):
    """holdfastctl verify finds no fault in these files."""
    daemon.ctl("verify", *files)
