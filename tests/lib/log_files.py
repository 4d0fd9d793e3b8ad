# SPDX-License-Identifier: MIT
"""Log files made and read byte by byte, without holdfast's own code: for tests that need a header of an older version,
a hostile record, or a value that nobody would write."""

import collections
import pathlib
import struct

Field = collections.namedtuple("Field", "at value")
SCHEMA_FILE = pathlib.Path(__file__).resolve().parents[2] / "conf" / "datagram.avsc"
NOON_US = 1760000000000000


def crc_of_byte(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc


CRC_OF_BYTES = [crc_of_byte(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC_OF_BYTES[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def varint(number, width=0):
    """Zigzag, base 128; padded to `width` bytes."""
    value = (number << 1 ^ number >> 63) & (1 << 64) - 1
    out = bytearray()
    while value > 0x7f or len(out) + 1 < width:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return varint(len(value)) + value


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value >> 1 ^ -(value & 1), at


def read_header(data):
    """{key: Field(offset of the value, value)}, the sync marker, the header's length."""
    assert data[:4] == b"Obj\x01"
    entries, at = {}, 4
    count, at = read_varint(data, at)
    while count:
        for _ in range(count):
            length, at = read_varint(data, at)
            key, at = data[at:at + length].decode(), at + length
            length, at = read_varint(data, at)
            entries[key] = Field(at, bytes(data[at:at + length]))
            at += length
        count, at = read_varint(data, at)
    return entries, bytes(data[at:at + 16]), at + 16


def header(schema, sync, channel="engine", first_seq=0, created=NOON_US * 1000):
    """As versions wrote it before there was a checksum in it."""
    entries = {"avro.schema": schema, "avro.codec": "null", "holdfast.channel": channel,
               "holdfast.first_seq": f"{first_seq:020}", "holdfast.created": f"{created:020}", "holdfast.version": "1"}
    return (b"Obj\x01" + varint(len(entries)) + b"".join(text(key) + text(value) for key, value in entries.items())
            + b"\0" + sync)


def record(seq, payload=b"x", time_us=None, flags=0, pad=False, cut=0, lost=0, source=b"10.0.0.7:1"):
    """pad: every number in ten bytes, far more than it needs, and the longest source."""
    def number(value):
        return varint(value, 10 if pad else 0)
    source = b"s" * 79 if pad else source
    body = (number(seq) + number(NOON_US + seq if time_us is None else time_us) + number(0) + number(len(source)) + source
            + number(lost) + number(cut) + number(flags) + number(len(payload)) + payload)
    return body + crc32c(body).to_bytes(4, "little")


def block(records, sync):
    body = b"".join(records)
    return varint(len(records), 5) + varint(len(body), 5) + body + sync


def age(data):
    """The same file as an older version would have written it."""
    entries, sync, length = read_header(data)
    return header(entries["avro.schema"].value, sync, entries["holdfast.channel"].value.decode(),
                  int(entries["holdfast.first_seq"].value), int(entries["holdfast.created"].value)) + data[length:]


def with_entry(data, key, value):
    """The same file with another value of this width in its header, and holdfast.sum made to match."""
    data = bytearray(data)
    entries = read_header(data)[0]
    assert len(entries[key].value) == len(value)
    data[entries[key].at:entries[key].at + len(value)] = value
    at = entries["holdfast.sum"].at
    data[at:at + 8] = f"{crc32c(data[entries['holdfast.check'].at:at]):08x}".encode()
    return bytes(data)


def sealed(template, first_seq, times_ns, latest_ns):
    """The header of another segment of this recording: its first number, its records' receive times, and the latest one in
    it and before it."""
    data, (entries, sync, length) = bytearray(template), read_header(template)
    values = {"first_seq": first_seq, "created": times_ns[0], "last_seq": first_seq + len(times_ns) - 1,
              "records": len(times_ns), "first_time": times_ns[0], "last_time": times_ns[-1], "latest": latest_ns}
    for key, value in values.items():
        at = entries["holdfast." + key].at
        data[at:at + 20] = b"%020d" % value
    check, at = entries["holdfast.check"].at, entries["holdfast.sum"].at
    data[check:check + 8] = b"%08x" % crc32c(data[:check] + sync)
    data[at:at + 8] = b"%08x" % crc32c(data[check:at])
    return bytes(data[:length])


def struct_flock(kind):
    """For fcntl(2): the whole file."""
    return struct.pack("hhqqi4x", kind, 0, 0, 0, 0)
