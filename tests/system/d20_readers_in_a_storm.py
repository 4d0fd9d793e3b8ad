# SPDX-License-Identifier: MIT
"""Whatever dies while they read, readers get each number once, in order, and are told of what is missing: workers and the
process that serves them are killed all the time, segments change under them, the program is replaced, and the whole
daemon is started anew while they stay."""

import random
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import alone, core, kill, wait_until
from lib.reading import Reader, assert_in_order, assert_same_as_log, gate_of, lost_of

OPEN_TO_ALL = 'read { mode = "0666" }'
GATES_COME_BACK_SOON = 'restart { max_delay = "100ms" }'


def start_daemon(place, listen, head="", **record):
    return Daemon(place, channel("engine", listen, record={"segment_size": "1M", **record}),
                  head=OPEN_TO_ALL + head).start()


def seeded():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def judge(place, daemon, sender, readers):
    """Everything that was sent is in the log once, and each reader got the log."""
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_state("engine", "RUNNING", 60)
    daemon.wait_drained("engine", len(sent))
    for reader in readers:
        reader.wait_next(len(sent))
        reader.stop()
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    for reader in readers:
        first, end = assert_in_order(reader)
        assert end == len(sent), f"it ended at {end} of {len(sent)}"
        assert not lost_of(reader), lost_of(reader)
        got = reader.datagrams()
        assert len(got) == end - first, f"{len(got)} datagrams for [{first}, {end})"
        assert [number for number, _ in got] == list(range(first, end))
        assert_same_as_log(reader, records)
    return len(sent)


def kill_worker(daemon, chance, generation):
    """The worker, if it is another one than last time."""
    entry = daemon.status("engine")
    if entry["state"] not in ("RUNNING", "STARTING") or not entry["pid"] or entry["generation"] == generation:
        return generation
    time.sleep(chance.random() * 0.03)  # the random instant itself, not a wait for anything
    kill(entry["pid"])
    return entry["generation"]


@core
@alone
def test_workers_and_gates_are_killed(place):
    chance, listen = seeded(), place.ipv4()
    daemon = start_daemon(place, listen, GATES_COME_BACK_SOON)
    readers = [Reader(place, daemon, "joined"), Reader(place, daemon, "slow", slow=20)]
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000), sizes=(64, 300))
    late, generation, gates, deaths = None, 0, set(), 0
    while deaths < place.scaled(200) or len(gates) <= place.scaled(20):
        before = generation
        generation = kill_worker(daemon, chance, generation)
        deaths += generation != before
        gate = gate_of(daemon)
        if gate and gate not in gates and deaths % 3 == 0:
            gates.add(gate)
            kill(gate)
        if deaths % 10 == 0:
            daemon.ctl("rotate", "engine", expect=None)
        if deaths >= place.scaled(100) and not late:
            wait_until(lambda: gate_of(daemon), 30, "another gate")
            late = Reader(place, daemon, "late")
            daemon.disconnect()
            daemon.ctl("upgrade")
    count = judge(place, daemon, sender, readers + [late])
    print(f"{count} datagrams, {deaths} workers and {len(gates)} gates killed")


def test_rotation_all_the_time(place):
    listen = place.ipv4()
    daemon = start_daemon(place, listen)
    readers = [Reader(place, daemon, "joined"), Reader(place, daemon, "new", mode="new")]
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000), sizes=(64,))
    for _ in range(100):
        daemon.ctl("rotate", "engine", expect=None)
        time.sleep(0.1)  # the rhythm of what is tested
    assert len(daemon.segments("engine")) > 30
    judge(place, daemon, sender, readers)


def test_everything_is_started_anew_while_readers_stay(place):
    listen = place.ipv4()
    daemon = start_daemon(place, listen)
    reader = Reader(place, daemon, "joined")
    total = 0
    for number in range(6):
        sender = Sender(place, listen, 2000, name=f"sent{number}", rate=place.scaled(10000), tag=number + 1)
        sender.wait()
        total += 2000
        daemon.wait_drained("engine", 2000)
        if number % 2:
            daemon.kill_all()
        else:
            daemon.stop()
        daemon.start()
        daemon.wait_state("engine", "RUNNING")
    last = Sender(place, listen, 2000, name="last", rate=place.scaled(10000), tag=99)
    last.wait()
    daemon.wait_drained("engine", 2000)
    total += 2000
    reader.wait_next(total)
    reader.stop()
    daemon.stop()
    assert assert_in_order(reader, first=0) == (0, total)
    assert set(lost_of(reader)) <= {5}, "nobody was receiving between two daemons; nothing else is missing"
    assert_same_as_log(reader, oracle.read_with_avro_c(place, daemon.segments("engine")))
    assert len(reader.datagrams()) == total


def test_everything_is_killed_under_load_while_a_reader_stays(place):
    """What the reader got is what the log has in the end, each number once."""
    listen = place.ipv4()
    daemon = start_daemon(place, listen)
    reader = Reader(place, daemon, "joined")
    sender = Sender(place, listen, 10**9, rate=place.scaled(20000), sizes=(64, 500))
    for _ in range(8):
        daemon.wait_counter("engine", "recorded", place.scaled(4000))
        daemon.kill_all()
        daemon.start()
        daemon.wait_state("engine", "RUNNING")
    daemon.wait_counter("engine", "recorded", place.scaled(4000))
    sender.stop()
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 30, "everything to be recorded")
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    daemon.start()  # the reader may be behind, and nobody but a gate can lend it another file
    reader.wait_next(records[-1].seq + 1)
    reader.stop()
    daemon.stop()
    assert_in_order(reader, first=0)
    assert_same_as_log(reader, records)
    assert [number for number, _ in reader.datagrams()] == [record.seq for record in records]


def test_old_and_new_meet(place):
    """Opened at one moment, HF_OLD ends where HF_NEW begins: nothing is in both, nothing in neither."""
    listen = place.ipv4()
    daemon = start_daemon(place, listen)
    sender = Sender(place, listen, 10**9, rate=place.scaled(20000), sizes=(64,))
    daemon.wait_counter("engine", "recorded", place.scaled(5000))
    pairs = []
    for number in range(5):
        new = Reader(place, daemon, f"new{number}", mode="new")
        begins = new.counts()["opened_seq"]
        pairs.append((new, Reader(place, daemon, f"old{number}", mode="old", until_finished=True), begins))
        rest = Reader(place, daemon, f"rest{number}", mode="new", **{"from": f"seq:{begins}"})
        pairs[-1] += (rest,)
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    for new, old, begins, rest in pairs:
        new.wait_next(len(sent))
        rest.wait_next(len(sent))
        assert old.process.wait(30) == 0
        new.stop()
        rest.stop()
        first, end = assert_in_order(new)
        assert (first, end) == (begins, len(sent))
        assert assert_in_order(rest) == (begins, len(sent))
        began, ended = assert_in_order(old, first=0)
        assert began == 0 and begins <= ended <= len(sent), (begins, ended)
        assert old.events()[-1].kind == "finished"
        assert len(old.datagrams()) == ended
    daemon.stop()


def test_idle_readers_sleep(place):
    """Where nothing comes, nothing wakes a reader; and one datagram is one wake-up."""
    listen = place.ipv4()
    daemon = start_daemon(place, listen)
    reader = Reader(place, daemon, "joined")
    Sender(place, listen, 100).wait()
    reader.wait_next(100)
    before = wait_until_quiet(reader)
    time.sleep(1.5)
    assert reader.counts()["wakeups"] == before
    for number in range(10):
        Sender(place, listen, 1, name=f"one{number}").wait()
        reader.wait_next(101 + number)
    assert wait_until_quiet(reader) - before <= 20
    reader.stop()
    daemon.stop()


def wait_until_quiet(reader):
    """The wake-ups up to now, when there were none for half a second."""
    last = [reader.counts()["wakeups"], time.monotonic()]

    def quiet():
        now = reader.counts()["wakeups"]
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > 0.5
    wait_until(quiet, 20, "the reader to be quiet")
    return last[0]
