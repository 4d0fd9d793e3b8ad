# SPDX-License-Identifier: MIT
"""Readers of another user do whatever they can with what they are lent, and beside it: nothing is altered, nobody is held up,
nothing is lost, and others are served."""

import errno
import os
import random
import struct
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import alone, core, kill, skip, wait_until
from lib.reading import STRANGER, Hostile
from lib.raw_reader import ATTACH, ATTACHED, CLAIM, NAME, REFUSED, SAVE, Gone, RawReader

DAEMON = 54300  # nor this one: a daemon's that isn't root


def open_to_all(place, *channels):
    """A daemon whose read socket everybody may connect to."""
    if os.geteuid() != 0:
        skip("only root can become another user")
    place.folder.chmod(0o711)
    socket = place.folder / "read.sock"
    return Daemon(place, *channels, f'read {{ socket = "{socket}" mode = "0666" }}\n'), socket


def fed(place, rate=5000, **record):
    """(daemon, read socket, sender, sink, worker's channel under load)"""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon, socket = open_to_all(place, channel("engine", listen, relays={"display": outlet},
                                                record={"segment_size": "1M", **record}))
    daemon.start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(rate), sizes=(200,))
    daemon.wait_counter("engine", "recorded", place.scaled(rate) // 2)
    return daemon, socket, sender, sink


def judge(place, daemon, sender, sink, restarts):
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_state("engine", "RUNNING", 60)
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == counters["recorded"] == len(sent), counters
    assert counters["restarts"] == restarts, counters
    sink.wait_received(len(sent))
    daemon.stop()
    sink.stop()
    oracle.assert_verified(daemon, daemon.segments("engine"))
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")
    assert not daemon.segments("engine", ".avro.open"), "something could not be sealed"


def rotate(daemon, times):
    """Segments are begun and sealed as before."""
    for _ in range(times):
        before = daemon.status("engine")["log"]["segment"]
        daemon.ctl("rotate", "engine")
        wait_until(lambda last=before: daemon.status("engine")["log"]["segment"] != last, 20, "the next segment")


@core
def test_nothing_that_is_lent_can_be_altered_or_held_up(place):
    daemon, socket, sender, sink = fed(place)
    wait_until(lambda: daemon.segments("engine"), 30, "a sealed segment")
    hostile = Hostile(place, socket, "try")
    allowed = [line for line in hostile.text().splitlines() if line.endswith("ALLOWED")]
    assert not allowed, allowed
    assert hostile.text().count("refused") >= 3 * 14, hostile.text()
    rotate(daemon, 3)
    for _ in range(5):
        entry = daemon.wait_state("engine", "RUNNING")
        kill(entry["pid"])
        wait_until(lambda last=entry: daemon.status("engine")["generation"] != last["generation"], 20, "the successor")
    daemon.wait_state("engine", "RUNNING")
    rotate(daemon, 2)
    judge(place, daemon, sender, sink, restarts=5)
    hostile.stop()


def test_what_a_reader_holds_is_recovered_all_the_same(place):
    """The daemon dies as a whole while a stranger has locks on what it was writing; the next one finishes that."""
    daemon, socket, sender, sink = fed(place)
    wait_until(lambda: daemon.segments("engine"), 30, "a sealed segment")
    hostile = Hostile(place, socket, "try")
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    daemon.kill_all()
    daemon.start()
    daemon.wait_for_log("the log goes on at", 30)
    daemon.stop()
    hostile.stop()
    sink.end()
    assert not daemon.segments("engine", ".avro.open"), "something was not finished"
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")


@alone
def test_a_storm_of_rude_readers_and_of_kills(place):
    """They flood, connect by the thousand, never read, send nonsense and die, while workers die too."""
    kills = place.scaled(300)
    daemon, socket, sender, sink = fed(place, rate=4000)
    gate = daemon.status()["read"]["pid"]
    crowd = [Hostile(place, socket, "try"), Hostile(place, socket, "idle", 1000, uid=STRANGER + 1),
             Hostile(place, socket, "deaf", uid=STRANGER + 2), Hostile(place, socket, "half", uid=STRANGER + 3),
             Hostile(place, socket, "garbage", 10**9, uid=STRANGER + 4)]
    chance, generation = random.Random(42), 0
    for _ in range(kills):
        entry = wait_until(lambda last=generation: (lambda now: now if now["state"] == "RUNNING" and now["pid"] and
                                                    now["generation"] != last else None)(daemon.status("engine")),
                           60, "a worker to kill", interval=0)
        generation = entry["generation"]
        time.sleep(chance.random() * 0.03)  # the random instant itself, not a wait for anything
        kill(entry["pid"])
    assert daemon.status()["read"]["pid"] == gate, "the gate has died of its readers"
    kill(crowd[4].process.pid)  # dies in the middle of anything
    listing = place.run(place.program("holdfastctl"), "--socket", daemon.socket, "logs", "engine")
    assert "engine-" in listing.stdout, "others are served beside them"
    for hostile in (crowd[0], *crowd[1:4]):
        hostile.stop()
    judge(place, daemon, sender, sink, restarts=kills)


@alone
def test_the_gate_outlives_wrong_packets_by_the_hundred_thousand(place):
    count = place.scaled(200000)
    daemon, socket, sender, sink = fed(place, rate=1000)
    before = daemon.status()["read"]
    hostile = Hostile(place, socket, "garbage", count, uid=0)  # whom it does not make wait for the next one
    hostile.process.wait(150)
    assert "sent" in hostile.text()
    after = daemon.status()["read"]
    assert after["pid"] == before["pid"] and after["restarts"] == before["restarts"], after
    wait_until(lambda: daemon.status()["read"]["counters"]["connections"] == 0, 20, "the gate to be alone again")
    judge(place, daemon, sender, sink, restarts=0)


def nonsense(uid, socket):
    """Nothing but garbage; until the answer to it has come."""
    os.seteuid(uid)
    try:
        reader = RawReader(socket)
        reader.socket.send(b"garbage")
        _kind, payload = reader.receive(REFUSED)
        reader.close()
        return payload
    finally:
        os.seteuid(0)


def test_whoever_sends_nonsense_is_not_heard_for_a_moment(place):
    """Else one program keeps a processor busy with connections that are of no use to anybody."""
    _daemon, socket, sender, _sink = fed(place, rate=100)
    readers, rounds = [connect_as(STRANGER, socket)], 10
    began = time.monotonic()
    for _ in range(rounds):
        assert nonsense(STRANGER, socket)
    assert time.monotonic() - began >= 0.1 * (rounds - 1), "each but the first waits for the one before"
    began = time.monotonic()
    readers.append(connect_as(STRANGER + 1, socket))
    assert readers[1] and time.monotonic() - began < 5, "another user is served"
    assert readers[0].attach("engine"), "and who was there before"
    for reader in readers:
        reader.close()
    sender.stop()


# ---- another user's position ----

@core
def test_who_may_not_have_a_position_keeps_nobody_from_it(place):
    """Somebody asks to forget it, over and over, and is refused each time: its owner has it whenever he wants."""
    listen = place.ipv4()
    daemon, socket = open_to_all(place, channel("engine", listen, record={}))
    daemon.start()
    Sender(place, listen, 10).wait()
    daemon.wait_drained("engine", 10)
    with RawReader(socket).hello().attach("engine") as reader:
        assert reader.position(CLAIM, "engine", "mine") == (0, 0, 0)
        assert reader.position(SAVE, "engine", "mine", 7)[0] == 0
    hostile = Hostile(place, socket, "covet", "mine")
    for _ in range(50):
        with RawReader(socket).hello().attach("engine") as reader:
            answer = reader.position(CLAIM, "engine", "mine")
            assert answer == (0, 7, 1), f"{os.strerror(answer[0])}; {hostile.text()}"
        wait_until(lambda: daemon.status()["read"]["counters"]["connections"] == 1, 10, "the connection to be gone")
    hostile.stop()
    assert "ALLOWED" not in hostile.text()
    daemon.stop()


# ---- what is under way to those who don't read ----

ATTACH_ENGINE = struct.pack(f"={NAME}sII", b"engine", 3, 0)


def connect_as(uid, socket):
    """None: there may be no more."""
    os.seteuid(uid)
    try:
        return RawReader(socket).hello()
    except (AssertionError, Gone, ConnectionError):
        return None
    finally:
        os.seteuid(0)


def ask_and_never_read(place, socket, uids):
    """As many descriptors as these users can have under way: each asks for the channel's memory until nothing more goes."""
    readers = [reader for uid in uids for reader in iter(lambda user=uid: connect_as(user, socket), None)]
    for reader in readers:
        place.on_exit(reader.close)
        reader.socket.setblocking(False)
        try:
            while True:
                reader.send(ATTACH, ATTACH_ENGINE)
        except BlockingIOError:
            pass
    return readers


def is_refused(socket):
    """Does one that reads get no descriptor, because too many are under way?"""
    with RawReader(socket).hello() as reader:
        reader.send(ATTACH, ATTACH_ENGINE)
        kind, payload = reader.receive(ATTACHED, REFUSED)
        if kind == REFUSED:
            assert struct.unpack_from("=i", payload)[0] == errno.EBUSY, payload
        return kind == REFUSED


@core
def test_what_is_under_way_to_readers_is_not_the_supervisors(place):
    """The kernel counts descriptors under way for each user, and nothing exempts this daemon from its limit. Rude readers of
    as many users as there may be leave unread all that fits; workers are lent what they need all the same, and so is a
    reader that reads."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon, socket = open_to_all(place, channel("engine", listen, relays={"display": outlet}, record={"segment_size": "1M"}))
    place.move_programs().chmod(0o755)  # where anybody may execute them
    os.chown(place.folder, DAEMON, DAEMON)
    daemon.config.chmod(0o644)
    daemon.start(wait=False, wrapper=["setpriv", f"--reuid={DAEMON}", f"--regid={DAEMON}", "--clear-groups", "--inh-caps=-all",
                                      "--bounding-set=-all", "prlimit", "--nofile=1024:1024"])
    os.chmod(daemon.notifications.path, 0o666)
    daemon.wait_ready()
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000), sizes=(200,))
    daemon.wait_counter("engine", "recorded", 100)
    readers = ask_and_never_read(place, socket, range(STRANGER, STRANGER + 6))
    assert len(readers) > 20 and not is_refused(socket), f"{len(readers)} rude readers use up what the gate may send"
    kills = 5
    for _ in range(kills):
        entry = daemon.wait_state("engine", "RUNNING")
        kill(entry["pid"])
        wait_until(lambda last=entry: daemon.status("engine")["generation"] != last["generation"], 20, "the successor")
        daemon.wait_state("engine", "RUNNING")
    rotate(daemon, 2)
    assert not is_refused(socket)
    judge(place, daemon, sender, sink, restarts=kills)
