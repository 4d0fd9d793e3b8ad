# SPDX-License-Identifier: MIT
"""Programs that ask for log files and behave badly: they never take an answer, never read, read slowly, go away in the
middle, are stopped or killed. Others are served beside them all the time, and nothing of them stays behind."""

import errno
import os
import struct

from lib import oracle
from lib.fetching import HOWS, Fetcher, Keeper, judge, zombies
from lib.holdfast import Daemon, Sender, channel
from lib.place import alone, core, freeze, kill, skip, wait_until
from lib.raw_reader import OBJECT, OBJECT_LENT, REFUSED, RawReader, object_request
from lib.reading import STRANGER, gate_of

COPY, SPLICE = 2, 3
MEMORY_KIB = 4096  # more than threads' stacks and what malloc(3) keeps, less than what a leak of a round would be


class Rude(RawReader):
    """A connection of another user that asks for files."""

    def __init__(self, socket, uid):
        os.seteuid(uid)
        try:
            super().__init__(socket)
        finally:
            os.seteuid(0)
        self.hello()

    def take_pipe(self, name, how):
        """None: too many are being sent to this user already."""
        self.send(OBJECT, object_request("engine", name, how))
        kind, payload = self.receive(OBJECT_LENT, REFUSED)
        if kind == REFUSED:
            assert struct.unpack_from("=i", payload)[0] == errno.EBUSY, payload
            return None
        pipe, self.memory = self.memory, -1
        return pipe


def used(pid):
    """Descriptors and threads of the gate, and its memory in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        words = dict(line.split(":", 1) for line in status)
    return len(os.listdir(f"/proc/{pid}/fd")), int(words["Threads"]), int(words["VmRSS"].split()[0])


def deaf(socket, name):
    """Asks as long as the socket takes it, and takes nothing of what is answered."""
    readers = [Rude(socket, STRANGER) for _ in range(10)]
    for number, reader in enumerate(readers):
        reader.socket.setblocking(False)
        try:
            while True:
                reader.send(OBJECT, object_request("engine", name, 1 + number % 3))
        except BlockingIOError:
            pass
    return readers


def with_pipes(socket, name, uid, count):
    """As many as one user may have; what is read of them is the caller's business."""
    pairs = []
    for number in range(count):
        reader = Rude(socket, uid)
        pairs.append((reader, reader.take_pipe(name, COPY if number % 2 else SPLICE)))
    assert any(pipe is not None for _, pipe in pairs)
    return pairs


def leave_in_the_middle(socket, name, turn):
    """With some of the bytes, with none, or before the answer has come; the pipe first, or the connection."""
    reader = Rude(socket, STRANGER + 3)
    if turn % 4 == 0:
        reader.send(OBJECT, object_request("engine", name, COPY))
        reader.close()
        return
    pipe = reader.take_pipe(name, COPY if turn % 2 else SPLICE)
    if pipe is None:
        reader.close()
        return
    if turn % 4 != 1:
        os.set_blocking(pipe, True)
        assert os.read(pipe, 1 + turn * 997 % 65536)
    for close in ([reader.close, lambda: os.close(pipe)] if turn % 8 < 4 else [lambda: os.close(pipe), reader.close]):
        close()


def let_go(pairs):
    for reader, pipe in pairs:
        reader.close()
        if pipe is not None:
            os.close(pipe)


def a_round(place, daemon, socket, name, turns):
    """All of them at once, while three that behave go on; what these have fetched."""
    good = [Fetcher(place, daemon, how) for how in HOWS]
    stopped = [Fetcher(place, daemon, how) for how in HOWS]
    crowd = deaf(socket, name)
    never = with_pipes(socket, name, STRANGER + 1, 10)
    slow = with_pipes(socket, name, STRANGER + 2, 4)
    wait_until(lambda: all(fetcher.whole() > 0 for fetcher in stopped), 60, "those that are to be stopped to have begun")
    for fetcher in stopped:
        freeze(fetcher.process.pid)
    before = [fetcher.whole() for fetcher in good]
    for turn in range(turns):
        leave_in_the_middle(socket, name, turn)
        for _, pipe in slow:
            if pipe is not None:
                try:
                    os.read(pipe, 512)
                except BlockingIOError:
                    pass
    wait_until(lambda: all(fetcher.whole() > count + 20 for fetcher, count in zip(good, before)), 60,
               "those that behave to be served", interval=0.1)
    for fetcher in stopped:
        kill(fetcher.process.pid)  # as it is: in the middle of anything
        fetcher.process.wait()
    let_go(never + slow)
    for reader in crowd:
        reader.close()
    return [(fetcher, fetcher.stop()) for fetcher in good]


@core
@alone
def test_nobody_else_is_held_up_and_nothing_stays_behind(place):
    if os.geteuid() != 0:
        skip("only root can become another user")
    place.folder.chmod(0o711)
    listen, count = place.ipv4(), place.scaled(8000)
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "2M"}),
                    head='read { mode = "0666" }').start()
    socket = daemon.socket.with_name("read.sock")
    sender = Sender(place, listen, count, rate=place.scaled(8000), sizes=(1400,))
    sender.wait()
    daemon.wait_drained("engine", count)
    daemon.ctl("rotate", "engine")
    keeper = Keeper(place, daemon)
    wait_until(lambda: not keeper.look() and keeper.known, 30, "a sealed segment")
    name, gate = max(keeper.known, key=keeper.known.get), gate_of(daemon)
    assert keeper.known[name] > 1 << 18, "it is more than pipes hold"
    figures = [used(gate)]
    for _ in range(3):
        results = a_round(place, daemon, socket, name, place.scaled(200))
        keeper.look()
        counts = judge(keeper, results)
        assert counts["judged"] > 0 and counts["not judged"] == 0, counts
        wait_until(lambda: daemon.status()["read"]["counters"]["connections"] == 0, 30, "all connections to be gone")
        wait_until(lambda: used(gate)[0] <= figures[0][0], 30, f"as many descriptors as before: {figures[0]}, not {used(gate)}")
        figures.append(used(gate))
    print(f"descriptors, threads, KiB: {figures}")
    assert gate_of(daemon) == gate, "the gate has died of them"
    assert figures[-1][1] == figures[1][1], figures
    assert place.sanitized or figures[-1][2] < figures[1][2] + MEMORY_KIB, figures
    assert not zombies(daemon)
    daemon.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
