# SPDX-License-Identifier: MIT
"""The supervisor alone is killed, its workers are not. Without a store they commit and leave, and the next start recovers
their segments; with one, the next supervisor goes on with the same sockets and rings, and no worker of the one before
ever works beside its successor. What it gets back may be incomplete, strange or damaged."""

import fcntl
import os
import signal
import socket

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, freeze, is_alive, kill, wait_until
from lib.store import StoredDaemon

F_ADD_SEALS, RING_SEALS = 1033, 0x1 | 0x2 | 0x4


NOT_COVERED = 2  # of a record's flags

def one_channel(place, kind, **settings):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = kind(place, channel("engine", listen, relays={"display": outlet},
                                 record={"segment_size": "1M"}, **settings), spare_workers=1)
    return daemon, listen, sink


def judge(place, daemon, senders, sink):
    """Everything exactly once in the log and at least once on the relay, in one unbroken row of numbers."""
    sent = [payload for sender in senders for payload in oracle.read_datagrams(sender.record)[0]]
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0 and
               (daemon.status("engine")["log"] or {"next_seq": 0})["next_seq"] >= len(sent), 60, "all to be recorded")
    daemon.stop()
    sink.stop()
    files = daemon.segments("engine")
    assert not daemon.segments("engine", ".avro.open") and not daemon.segments("engine", ".damaged")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")


def worker_of(daemon):
    return daemon.status("engine")["pid"]


def replace(daemon, name, fd):
    for old in daemon.notifications.kept.pop(f"engine.{name}", []):
        os.close(old)
    daemon.notifications.kept[f"engine.{name}"] = [fd]


@core
def test_without_a_store_workers_leave_and_the_log_goes_on(place):
    """The next supervisor starts at once, while workers of the one before are still there."""
    daemon, listen, sink = one_channel(place, Daemon)
    daemon.start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(10000), sizes=(64, 400))
    recorded = 0
    for _ in range(4):
        daemon.wait_state("engine", "RUNNING", 30)
        before = daemon.counters("engine")["recorded"]
        daemon.wait_counter("engine", "recorded", before + place.scaled(2000))
        recorded += daemon.counters("engine")["recorded"]
        below = daemon.descendants()
        daemon.disconnect()
        kill(daemon.process.pid)
        daemon.process.wait(10)
        daemon.start()
        wait_until(lambda pids=tuple(below): not any(map(is_alive, pids)), 15, "orphaned workers to leave")
    daemon.wait_state("engine", "RUNNING", 30)
    daemon.wait_counter("engine", "recorded", place.scaled(2000))
    recorded += daemon.counters("engine")["recorded"]
    told = daemon.status("engine")["not_covered_before"]
    assert f"nobody was receiving for a while before datagram {told}\n" in daemon.ctl("status", "engine").stdout
    sender.stop()
    daemon.stop()
    sink.stop()
    files = daemon.segments("engine")
    assert not daemon.segments("engine", ".avro.open") and not daemon.segments("engine", ".damaged")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    payloads = [record.payload for record in records]
    assert len(payloads) >= recorded, f"{recorded} were said to be recorded, {len(payloads)} are there"
    assert len(set(payloads)) == len(payloads), "recorded twice"
    sent = oracle.read_datagrams(sender.record)[0]
    assert set(payloads) <= set(sent)
    # Numbers are continuous, so only the flag can tell where something may be missing.
    place_of = {payload: index for index, payload in enumerate(sent)}
    flagged = [record.seq for record in records if record.flags & NOT_COVERED]
    missing = [later.seq for earlier, later in zip(records, records[1:])
               if place_of[later.payload] != place_of[earlier.payload] + 1 and not later.lost_before]
    assert set(missing) <= set(flagged), (missing, flagged)
    assert len(flagged) == 4, f"four supervisors died: {flagged}"
    assert told == flagged[-1], f"status says {told}, the log has {flagged}"
    answer = daemon.ctl("verify", *files).stdout
    assert "nobody was receiving" in answer, answer


def test_without_a_store_a_stopped_orphan_keeps_its_socket_and_its_segment(place):
    """Nobody may mend a file that a process still has; everything goes on when it has ended."""
    daemon, listen, sink = one_channel(place, Daemon)
    daemon.start()
    first = Sender(place, listen, 1000, rate=10000, name="first")
    first.wait()
    daemon.wait_drained("engine", 1000)
    orphan = worker_of(daemon)
    kill(orphan, signal.SIGSTOP)
    daemon.disconnect()
    kill(daemon.process.pid)
    daemon.process.wait(10)
    place.on_exit(lambda: kill(orphan))
    daemon.start()
    entry = daemon.wait_state("engine", "BACKOFF")
    assert "in use" in entry["cause"], entry
    assert daemon.segments("engine", ".avro.open"), "the orphan's segment is left alone"
    kill(orphan)
    daemon.wait_state("engine", "RUNNING")
    second = Sender(place, listen, 1000, rate=10000, name="second", tag=2)
    second.wait()
    judge(place, daemon, [first, second], sink)


@core
def test_a_ring_that_was_given_up_is_not_counted_again(place):
    """The supervisor died when its history had the ring's sums, and the store still had the ring."""
    daemon, listen, _sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    sender = Sender(place, listen, 500, rate=5000)
    sender.wait()
    daemon.wait_drained("engine", 500)
    daemon.notifications.poll()
    old = {name: os.dup(daemon.notifications.kept[name][0]) for name in ("engine.ring", "engine.private")}
    daemon.ctl("stop", "engine")
    daemon.die()
    for name, fd in old.items():
        replace(daemon, name.partition(".")[2], fd)
    daemon.start_stored()
    daemon.wait_state("engine", "STOPPED")
    daemon.ctl("start", "engine")
    entry = daemon.wait_state("engine", "RUNNING")
    assert entry["counters"]["received"] == entry["relays"][0]["sent"] == 500, entry
    Sender(place, listen, 100, name="more", rate=5000).wait()
    daemon.wait_drained("engine", 600)
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)


def test_the_sums_of_a_ring_that_is_refused_go_on(place):
    """Its page tells what was received, sent and recorded, though its batch in flight is damaged. Nothing goes back, and nothing
    counts twice."""
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    Sender(place, listen, 500, rate=5000).wait()
    daemon.wait_drained("engine", 500)
    before = daemon.status("engine")
    freeze(worker_of(daemon))
    place.run(place.program("tool_page"), daemon.process.pid, "engine", "spoil-batch")
    daemon.die()
    daemon.start_stored()
    entry = daemon.wait_state("engine", "RUNNING")
    assert "the ring of the supervisor before can't be trusted" in daemon.log_text()
    for name in ("received", "received_bytes", "relayed", "recorded"):
        assert entry["counters"][name] == before["counters"][name], (name, entry["counters"], before["counters"])
    assert entry["relays"][0]["sent"] == 500, entry["relays"]
    oracle.assert_ledger(entry)
    Sender(place, listen, 100, name="more", rate=5000).wait()
    daemon.wait_drained("engine", 600)
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    sink.stop()
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)


def test_what_a_refused_ring_had_not_sent_is_counted_and_its_numbers_are_gone(place):
    """A datagram was published, and neither relayed nor recorded, when everything died over a damaged batch."""
    place.with_hooks()
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    Sender(place, listen, 40, rate=5000).wait()
    daemon.wait_drained("engine", 40)
    page = place.program("tool_page"), daemon.process.pid, "engine"
    place.run(*page, "stop-at", "receive_published")
    Sender(place, listen, 1, name="lost", rate=5000).wait()
    place.run(*page, "wait-stopped", "receive_published", 5000)
    place.run(*page, "spoil-batch")
    for pid in daemon.die_alone():
        kill(pid)
    daemon.start_stored()
    entry = daemon.wait_state("engine", "RUNNING")
    assert "the ring of the supervisor before can't be trusted" in daemon.log_text()
    assert oracle.assert_ledger(entry)["received"] == 41, entry
    assert (entry["relays"][0]["dropped"], entry["counters"]["relay_dropped"]) == (1, 1), entry
    Sender(place, listen, 10, name="more", rate=5000).wait()
    daemon.wait_drained("engine", 51)
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    sink.stop()
    numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
    assert numbers == [*range(40), *range(41, 51)], numbers


def evict(path):
    """Out of memory with what the kernel has of this file: the next look at it asks the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_segment_whose_start_is_not_in_memory_goes_on(place):
    """Supervisor and worker die between two steps: what is in the segment already, but not committed, comes once."""
    place.with_hooks()
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    sender = Sender(place, listen, 10**9, rate=2000, sizes=(64,))
    sent = 0
    for _ in range(3):
        daemon.wait_state("engine", "RUNNING")
        sent = daemon.counters("engine")["recorded"]
        daemon.wait_counter("engine", "recorded", sent + 200)
        tool = [place.program("tool_page"), daemon.process.pid, "engine"]
        place.run(*tool, "stop-at", "record_encoded")
        place.run(*tool, "wait-stopped", "record_encoded", 20000)
        [segment] = daemon.segments("engine", ".avro.open")
        daemon.die()
        evict(segment)
        daemon.start_stored()
        assert "can't be continued" not in daemon.log_text(), daemon.log_text()
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    daemon.stop()
    sink.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    assert [record.payload for record in records] == sent, "each datagram once"


@core
def test_no_worker_works_beside_its_successor(place):
    """A worker that is stopped can't leave by itself: the next supervisor ends it before the ring is lent again."""
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    sender = Sender(place, listen, 10**9, rate=place.scaled(10000), sizes=(64, 400))
    for number in range(5):
        received = daemon.counters("engine")["received"]
        daemon.wait_counter("engine", "received", received + place.scaled(2000))
        before, stopped = worker_of(daemon), number % 2 == 0
        if stopped:
            kill(before, signal.SIGSTOP)
        below = daemon.die_alone()
        if stopped:
            assert is_alive(before), "it is still there when the next supervisor starts"
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING")
        # It has no memory any more when it lets go of the ring; what else the kernel does with it may take a moment longer.
        wait_until(lambda pid=before: not is_alive(pid), 5, "it to be gone when its successor is at work")
        if stopped:
            assert f"process {before}, a worker of an earlier supervisor, still had the ring: killed" in daemon.log_text()
        wait_until(lambda pids=tuple(below): not any(map(is_alive, pids)), 15, "archive and spare to leave")
    sender.stop()
    judge(place, daemon, [sender], sink)


@core
def test_any_part_of_the_store_may_be_missing(place):
    """The supervisor died in the middle of storing, or the manager had no room."""
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    parts = [("log",), ("next",), ("ring",), ("rx",), ("out.0",), ("log", "next"), ("ring", "next"), ("rx", "ring"),
             ("rx", "ring", "log", "next", "out.0"), "log became next", "both are the same"]
    senders = []
    for number, missing in enumerate(parts):
        # more than half a segment, so that the next one is there
        senders.append(Sender(place, listen, 500, name=f"sent-{number}", tag=number + 1, rate=5000, sizes=(1200,)))
        senders[-1].wait()
        daemon.wait_drained("engine", 500 if number == 0 else daemon.counters("engine")["received"])
        wait_until(lambda count=500 * len(senders): daemon.status("engine")["log"]["next_seq"] >= count, 20, "the log")
        daemon.die()
        if isinstance(missing, str):  # between two messages of a rotation
            kept = daemon.notifications.kept
            replace(daemon, "next", os.dup(kept["engine.log"][0]))
            missing = ("log",) if missing == "log became next" else ()
        for name in missing:
            for fd in daemon.notifications.kept.pop(f"engine.{name}", []):
                os.close(fd)
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING")
        assert "READY=1" in daemon.notifications.poll()
    judge(place, daemon, senders, sink)


def sealed_memory(size, seals=RING_SEALS):
    fd = os.memfd_create("holdfast:engine", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def scribble(daemon):
    size = os.fstat(daemon.notifications.kept["engine.ring"][0]).st_size
    for at in range(0, min(size, 1 << 20), 512):
        os.pwrite(daemon.notifications.kept["engine.ring"][0], os.urandom(64), at)


@core
def test_what_comes_back_may_be_wrong(place):
    """Each of it is told, left out and removed from the store; the log goes on, and no descriptor is leaked."""
    daemon, listen, sink = one_channel(place, StoredDaemon)
    daemon.start_stored()
    wait_until(lambda: len(daemon.descendants()) == 4, 10, "worker, archive, gate and a spare to be there")
    descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    deleted = place.folder / "engine-00000000000000000000-20260101T000000Z.avro.open"

    def deleted_file():
        fd = os.open(deleted, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.ftruncate(fd, 1 << 20)
        deleted.unlink()
        return fd

    wrongs = {
        "a ring of another size": lambda: replace(daemon, "ring", sealed_memory(8 << 20)),
        "a ring without seals": lambda: replace(daemon, "ring", sealed_memory(
            os.fstat(daemon.notifications.kept["engine.ring"][0]).st_size, 0x1)),
        "an empty ring of the right size": lambda: replace(daemon, "ring", sealed_memory(
            os.fstat(daemon.notifications.kept["engine.ring"][0]).st_size)),
        "a scribbled ring": lambda: scribble(daemon),
        "a log whose file was deleted": lambda: replace(daemon, "log", deleted_file()),
        "a log that is no file": lambda: replace(daemon, "log", os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)),
        "a receiver that is a pipe": lambda: replace(daemon, "rx", os.pipe()[0]),
        "a channel that is not configured": lambda: daemon.notifications.kept.update(
            {"gone.ring": [sealed_memory(4096)], "gone.log": [deleted_file()]}),
    }
    senders = []
    for number, (what, make_wrong) in enumerate(wrongs.items()):
        senders.append(Sender(place, listen, 200, name=f"sent-{number}", tag=number + 1, rate=5000))
        senders[-1].wait()
        wait_until(lambda count=200 * len(senders): daemon.status("engine")["log"]["next_seq"] >= count and
                   daemon.status("engine")["ring"]["pending"] == 0, 20, "the log")
        daemon.die()
        make_wrong()
        seen = len(daemon.log_text())
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING")
        told = daemon.log_text()[seen:]
        assert "has no use here" in told or "can't be trusted" in told or "can't be continued" in told, f"{what}: {told}"
        wait_until(lambda: "engine.ring" in daemon.notifications.kept and daemon.status("engine")["log"], 10, what)
        wait_until(lambda: not [name for name in daemon.notifications.kept if name.startswith("gone.")], 10, what)
        assert all(len(fds) == 1 for fds in daemon.notifications.kept.values()), what
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= descriptors + 2, 10,
                   f"{what}: no descriptor to be leaked")
    judge(place, daemon, senders, sink)


def flood(daemon, sender):
    """Until datagrams were dropped, and one has told of them. Returns the counters."""
    before = daemon.counters("engine")

    def wait_for(count):
        def are_all_there():
            now = daemon.counters("engine")
            return now if sum(now[name] - before[name] for name in ("received", "kernel_dropped")) == count else None
        return wait_until(are_all_there, 20, f"{count} to be received or counted as dropped")
    worker = worker_of(daemon)
    freeze(worker)
    for i in range(2000):
        sender.send(b"flood %06d" % i + bytes(300))
    kill(worker, signal.SIGCONT)
    wait_for(2000)
    sender.send(b"it tells")
    return wait_for(2001)


def test_a_new_socket_comes_to_a_ring_with_a_batch_in_flight(place):
    """The store has lost the socket. What the kernel had given to the last worker is the former socket's: the new one's drops
    are counted from behind it, and so is the gap."""
    place.with_hooks()
    listen = place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, receive_buffer="16K", record={}), hang_timeout="60s")
    daemon.start_stored()

    def page(*words):
        place.run(place.program("tool_page"), daemon.process.pid, "engine", *words)
    host, _, port = listen.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, int(port)))
        before = flood(daemon, sender)
        assert before["kernel_dropped"] > 0, before
        page("stop-at", "receive_received")
        sender.send(b"in flight")
        page("wait-stopped", "receive_received", 5000)
        for pid in daemon.die_alone():  # or a successor would take the batch over
            kill(pid)
        os.close(daemon.notifications.kept.pop("engine.rx")[0])
        daemon.start_stored()
        sender.send(b"the new socket's first")
        daemon.wait_counter("engine", "received", before["received"] + 2)
        after = daemon.counters("engine")
        assert after["kernel_dropped"] == before["kernel_dropped"], (before, after)
        flood(daemon, sender)
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert [record.payload for record in records if record.flags & NOT_COVERED] == [b"the new socket's first"]


def test_no_more_is_stored_than_can_be_given_back(place):
    """All names come back in one environment variable of 128 KiB at most: a store beyond that could start nothing."""
    listen, port = place.ipv4(), place.port()
    relays = {f"display-{i}": f"127.77.{place.slot}.{i + 2}:{port}" for i in range(16)}
    absent = [channel(f"{'long-name-' * 4}{number}", f"192.0.2.1:{20000 + number}", relays=relays, ring_size="1M")
              for number in range(200)]  # an address that is not here: no worker
    daemon = StoredDaemon(place, channel("first", listen, relays=relays), *absent,
                          channel("last", place.ipv4(), relays=relays))
    daemon.start_stored()
    daemon.wait_state("first", "RUNNING")
    daemon.wait_state("last", "RUNNING")
    assert daemon.log_text().count("can't keep the descriptors of so many channels") == 1
    wait_until(lambda: "first.ring" in daemon.notifications.kept, 10, "the first channel to be stored")
    assert not [name for name in daemon.notifications.kept if name.startswith("last.")]
    daemon.die()
    daemon.start_stored()
    daemon.wait_state("last", "RUNNING")
    assert "restored" in daemon.log_text()
    daemon.stop()


def test_what_an_operator_has_stopped_stays_so(place):
    """Whoever dies, and until an operator starts it."""
    listens = [place.ipv4(), place.ipv4()]
    daemon = StoredDaemon(place, *(channel(name, listen, record={}) for name, listen in zip(("engine", "gps"), listens)))
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("stop", "engine")
    for _ in range(2):
        daemon.die()
        daemon.start_stored()
        daemon.wait_state("gps", "RUNNING")
        assert daemon.wait_state("engine", "STOPPED")["cause"] == "an operator stopped it"
    daemon.ctl("start", "engine")
    daemon.die()
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
