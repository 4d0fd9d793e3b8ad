# SPDX-License-Identifier: MIT
"""A connection to the readers' socket that says what it is told to, packet by packet (common/read_protocol.h)."""

import array
import os
import socket
import struct

MAGIC, VERSION = 0x48465231, 1
HELLO, WELCOME, REFUSED, ATTACH, ATTACHED, ARM, WOKEN, CLAIM, SAVE, FORGET, POSITION = 1, 2, 3, 6, 7, 10, 11, 13, 14, 15, 16
OBJECT, OBJECT_LENT, OBJECT_SENT = 23, 24, 25
FOR_COMMITTED, FOR_PUBLISHED = 1, 2
BY_NAME = 6
FD, COPY, SPLICE = 1, 2, 3
OLD, NEW, JOINED, NEWEST = 1, 2, 3, 4
HEADER = struct.Struct("=IHHII")
NAME = 48
POSITION_SHAPE = struct.Struct(f"={NAME}s64sQII")


OBJECT_SHAPE = struct.Struct(f"={NAME}s128sIIQqQQ")
BY_NAME = 6


def object_request(channel, name, how, offset=0, length=0):
    """The payload of OBJECT, by the file's name."""
    return OBJECT_SHAPE.pack(channel.encode(), name.encode(), BY_NAME, how, 0, 0, offset, length)


class Gone(Exception):
    """The gate has closed the connection."""


class RawReader:
    def __init__(self, path, deadline=10):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(deadline)
        self.socket.connect(str(path))
        self.request = 0
        self.memory = -1
        self.ring = 0

    def close(self):
        self.socket.close()
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def send(self, kind, payload):
        self.request += 1
        self.socket.send(HEADER.pack(MAGIC, VERSION, kind, self.request, len(payload)) + payload)

    def receive(self, *expected):
        """Type and payload of the next packet; a descriptor that comes along is kept."""
        data, ancillary, _flags, _address = self.socket.recvmsg(65536, socket.CMSG_SPACE(64))
        if not data:
            raise Gone()
        for _level, _type, numbers in ancillary:
            fds = array.array("i")
            fds.frombytes(numbers)
            for fd in fds:
                if self.memory >= 0:
                    os.close(self.memory)
                self.memory = fd
        _magic, _version, kind, _request, size = HEADER.unpack_from(data)
        payload = data[HEADER.size:]
        assert len(payload) == size, data
        assert not expected or kind in expected, (kind, payload)
        return kind, payload

    def hello(self):
        self.send(HELLO, b"test".ljust(16, b"\0"))
        self.receive(WELCOME)
        return self

    def attach(self, channel, mode=3):
        """Keeps the channel's public memory, if it has any."""
        self.send(ATTACH, struct.pack(f"={NAME}sII", channel.encode(), mode, 0))
        _kind, payload = self.receive(ATTACHED)
        _records, has_ring, self.ring = struct.unpack("=IIQ", payload)
        assert (self.memory >= 0) == bool(has_ring)
        return self

    def send_object(self, channel, name, how):
        """The answer's descriptor is in memory."""
        self.send(OBJECT, struct.pack(f"={NAME}s128sIIQqQQ", channel.encode(), name.encode(), BY_NAME, how, 0, 0, 0, 0))

    def sent(self):
        """Of OBJECT_SENT: bytes and error."""
        _kind, payload = self.receive(OBJECT_SENT)
        return struct.unpack_from("=Qi", payload)

    def refused(self):
        """Error and reason of the refusal that comes next."""
        _kind, payload = self.receive(REFUSED)
        return struct.unpack_from("=i", payload)[0], payload[8:].split(b"\0")[0].decode()

    def arm(self, what, seq):
        self.send(ARM, struct.pack("=IIQQ", what, 0, seq, self.ring))

    def woken(self):
        """The channel's present ring."""
        _kind, payload = self.receive(WOKEN)
        return struct.unpack("=Q", payload)[0]

    def position(self, kind, channel, name, seq=0):
        """CLAIM, SAVE or FORGET: (0, seq, known), or (errno, 0, 0)."""
        self.send_position(kind, channel, name, seq)
        return self.answer_position()

    def send_position(self, kind, channel, name, seq=0):
        self.send(kind, POSITION_SHAPE.pack(channel.encode(), name.encode(), seq, 0, 0))

    def answer_position(self):
        answer, payload = self.receive(POSITION, REFUSED)
        if answer == REFUSED:
            return struct.unpack_from("=i", payload)[0], 0, 0
        _channel, _name, seq, known, _reserved = POSITION_SHAPE.unpack(payload)
        return 0, seq, known
