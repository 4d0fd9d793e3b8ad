# SPDX-License-Identifier: MIT
"""One bit of a channel's shared memory flips while it stands idle, and its worker dies. What lies in the ring from the lap
before is never recorded or relayed again, the counters go on, and where they can't be read, `check` says no."""

import socket
import struct

from lib import oracle
from lib.holdfast import Daemon, channel
from lib.place import core, kill, wait_until

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
ROUND = 20


class Idle:
    """A channel whose ring has gone around, and that waits for the next datagram."""

    def __init__(self, place):
        self.place = place
        listen = place.ipv4()
        self.daemon = Daemon(place, channel("engine", listen, ring_size="64K", max_datagram=256,
                                            relays={"out": place.ipv4()}, record={"segment_size": "1M"}),
                             head=EAGER, spare_workers=2).start()
        host, _, port = listen.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        place.on_exit(self.socket.close)
        self.socket.connect((host, int(port)))
        self.sent = 0
        for _ in range(700 // ROUND):
            self.send()

    def send(self):
        """A round, until all of it is recorded."""
        before = self.daemon.counters("engine")["recorded"]
        for _ in range(ROUND):
            self.socket.send(struct.pack("<I", self.sent) * (1 + self.sent % 15))
            self.sent += 1
        self.daemon.wait_counter("engine", "recorded", before + ROUND)

    def flip(self, word, bit):
        self.place.run(self.place.program("tool_page"), self.daemon.process.pid, "engine", "flip", word, bit)

    def die_of(self, word, bit):
        before = self.daemon.status("engine")
        kill(before["pid"], 19)  # SIGSTOP: it waits in recvmmsg
        self.flip(word, bit)
        kill(before["pid"])
        wait_until(lambda: (lambda now: now["generation"] > before["generation"] and now["state"] == "RUNNING")(
            self.daemon.status("engine")), 20, "a successor")

    def refused(self):
        return self.daemon.log_text().count("can't trust the ring")

    def assert_log(self):
        """Each datagram once, in order."""
        self.daemon.stop()
        records = oracle.read_with_avro_c(self.place, self.daemon.segments("engine"))
        assert [struct.unpack_from("<I", record.payload)[0] for record in records] == list(range(self.sent))


@core
def test_no_flipped_bit_brings_an_old_datagram_back(place):
    """The sentinel of the armed batch, and the number of datagrams there are."""
    idle = Idle(place)
    for word, bits in (("length", (0, 3, 7, 8, 15, 16, 20, 31)), ("published", (0, 1, 2, 3)), ("start", (2, 4, 7))):
        for bit in bits:
            refused = idle.refused()
            idle.die_of(word, bit)
            idle.send()
            if word == "length":
                assert idle.refused() == refused, f"bit {bit} of a sentinel: the ring was given up"
                assert idle.daemon.counters("engine")["received"] == idle.sent, (word, bit)
            elif idle.refused() > refused:
                idle.send()  # the fresh ring is to have an old lap, too
    idle.assert_log()


@core
def test_the_counters_go_on_over_a_flipped_bit(place):
    """In the newest datagram's sum of bytes, of which the two before it know better; in a destination's use."""
    idle = Idle(place)
    for word, bits in (("bytes", (0, 5, 20, 31, 40, 63)), ("use", (0,))):
        for bit in bits:
            before = idle.daemon.status("engine")["counters"]
            idle.die_of(word, bit)
            idle.send()
            after = idle.daemon.status("engine")
            counters = after["counters"]
            assert after["counters_current"], (word, bit)
            assert counters["received"] == idle.sent and counters["relayed"] == idle.sent, (word, bit, counters)
            told = sum(4 * (1 + number % 15) for number in range(idle.sent))
            assert counters["received_bytes"] == told, (word, bit, counters, before)
    assert idle.refused() == 0
    idle.daemon.ctl("check")
    idle.assert_log()


def test_counters_that_can_not_be_read_are_told(place):
    idle = Idle(place)
    idle.daemon.ctl("check")
    idle.flip("relay", 3)
    wait_until(lambda: idle.daemon.ctl("check", expect=None).returncode == 1, 20, "check to say no")
    assert not idle.daemon.status("engine")["counters_current"]
    problems = idle.daemon.call("check")["problems"]
    assert [problem["kind"] for problem in problems] == ["counters_stuck"], problems
    assert "engine's counters stand still: its ring's memory is damaged" in idle.daemon.ctl("check", expect=1).stdout
    generation = idle.daemon.status("engine")["generation"]
    idle.daemon.ctl("restart", "engine")
    wait_until(lambda: (lambda now: now["generation"] > generation and now["state"] == "RUNNING")(
        idle.daemon.status("engine")), 20, "a worker with a fresh ring")
    wait_until(lambda: idle.daemon.ctl("check", expect=None).returncode == 0, 20, "check to say yes")
    idle.send()
    assert idle.daemon.counters("engine")["received"] == idle.sent
    idle.assert_log()
