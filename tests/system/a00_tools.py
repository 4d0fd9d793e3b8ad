# SPDX-License-Identifier: MIT
"""First of all: can the measuring tools be believed? Sender and sink alone, without holdfast between them, must agree
on every byte, and the oracle must notice when they don't."""

from lib import oracle
from lib.holdfast import Sender, Sink
from lib.place import core

SIZES = (0, 1, 8, 64, 800, 1472, 2049)


@core
def test_sink_gets_exactly_what_the_sender_sends(place):
    addresses = [place.ipv4(), place.ipv6(), place.group()]
    sink = Sink(place, addresses)
    sender = Sender(place, addresses, 7000, sizes=SIZES, rate=10000)
    assert sender.wait()["sent"] == 21000
    sink.wait_received([7000, 7000, 7000])
    sink.stop()
    sent, caught = oracle.read_datagrams(sender.record), oracle.read_datagrams(sink.record)
    for index in range(3):
        oracle.assert_same_payloads(sent[index], caught[index], f"socket {index}")
        assert sorted(set(map(len, sent[index]))) == list(SIZES)
        long_enough = [payload for payload in sent[index] if len(payload) >= 8]
        assert len(set(long_enough)) == len(long_enough), "the sender repeated an id"


def test_oracle_notices_one_lost_one_doubled_one_changed(_place):
    sent = [bytes([number]) * 20 for number in range(100)]
    for broken in (sent[1:], sent + sent[:1], sent[:-1] + [b"x" * 20]):
        try:
            oracle.assert_same_payloads(sent, broken, "as it should")
        except AssertionError:
            continue
        raise AssertionError("a difference went unnoticed")
    assert oracle.crc32c(b"123456789") == 0xe3069283  # the check value of CRC-32C
