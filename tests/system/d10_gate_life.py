# SPDX-License-Identifier: MIT
"""The process that serves readers: it may die, be stopped, or be turned off, and its socket's path may be taken, and
no channel notices. What readers are lent is theirs to read and nobody's to change. Who sleeps is woken."""

import ctypes
import errno
import fcntl
import mmap
import os
import pathlib
import resource
import signal
import socket
import threading
import time
import traceback

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, is_alive, kill, skip, wait_until
from lib.raw_reader import CLAIM, FOR_COMMITTED, FOR_PUBLISHED, FORGET, NEW, SAVE, Gone, RawReader
from lib.reading import Reader

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
NOBODY = 65534
F_ADD_SEALS = 1033


def read_socket(daemon):
    return daemon.call("ping")["read_socket"]


def wait_reader(daemon, deadline=20):
    """A connection to a gate that answers; there may be a new one just now."""
    end = time.monotonic() + deadline
    while True:
        try:
            return RawReader(read_socket(daemon)).hello()
        except (OSError, Gone):
            assert time.monotonic() < end, "no gate answers"
            time.sleep(0.02)


def judge(place, daemon, sender, count, name="engine"):
    counters = oracle.assert_ledger(daemon.status(name))
    assert counters["received"] == counters["recorded"] == count and counters["restarts"] == 0, counters
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments(name))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records], "recorded")


@core
def test_it_dies_again_and_again_and_no_channel_notices(place):
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=EAGER).start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000))
    daemon.wait_counter("engine", "received", 100)
    worker = daemon.status("engine")["pid"]
    for number in range(20):
        pid = daemon.gate()
        with wait_reader(daemon) as reader:
            reader.attach("engine")
            kill(pid, (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)[number % 3])
            try:
                while True:
                    reader.receive()
            except (Gone, ConnectionResetError):
                pass
        wait_until(lambda was=pid: daemon.gate() != was, 20, "another gate")
    with wait_reader(daemon) as reader:
        reader.attach("engine")
        assert reader.memory >= 0
    assert daemon.status()["read"]["restarts"] >= 20
    assert daemon.status("engine")["pid"] == worker
    assert "nobody reads until the next gate runs" in daemon.log_text()
    sender.stop()
    count = len(oracle.read_datagrams(sender.record)[0])
    daemon.wait_drained("engine", count)
    judge(place, daemon, sender, count)


def test_what_it_had_no_room_for_is_lent_when_it_has(place):
    """For a moment there is not even the memory to look at a new ring: who reads then is told, and has it later."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    wait_reader(daemon).close()
    gate = daemon.gate()
    size = int(next(line for line in pathlib.Path(f"/proc/{gate}/status").read_text().splitlines() if line.startswith("VmSize")).split()[1])
    before = resource.prlimit(gate, resource.RLIMIT_AS, (size * 512, resource.RLIM_INFINITY))
    daemon.call("stop", ["engine"])
    daemon.wait_state("engine", "STOPPED")
    daemon.call("start", ["engine"])
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_for_log("readers can't be lent its memory")
    resource.prlimit(gate, resource.RLIMIT_AS, before)
    reader = Reader(place, daemon, "later", user=None, mode="newest")
    Sender(place, listen, 10, rate=1000).wait()
    reader.wait_next(10)
    assert daemon.gate() == gate
    daemon.stop()


@core
def test_its_deaths_are_kept_with_what_it_said(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    pids = []
    for number in (signal.SIGSEGV, signal.SIGKILL):
        pids.append(daemon.gate())
        kill(pids[-1], number)
        wait_until(lambda: daemon.gate() not in (None, pids[-1]), 20, "another gate")
        wait_reader(daemon).close()
    killed, crashed = wait_until(lambda: [death for death in [daemon.call("crashes")["crashes"]] if
                                          all(one["takeover_ms"] for one in death)], 10, "the takeovers to be noted")[0]
    assert [(death["process"], death["channel"], death["signal"]) for death in (killed, crashed)] == [
        ("gate", None, "SIGKILL"), ("gate", None, "SIGSEGV")], (killed, crashed)
    assert [killed["pid"], crashed["pid"]] == pids[::-1]
    assert crashed["sent_by"] == os.getpid() and "frames" not in killed, (killed, crashed)
    if not place.sanitized:  # their code is built otherwise
        assert "gate_run" in [frame["name"] for frame in crashed["frames"]], crashed
    assert daemon.status()["read"]["last_death"]["signal"] == "SIGKILL"
    assert daemon.call("crashes", {"channel": "engine"})["crashes"] == []
    text = daemon.ctl("crashes").stdout
    assert "gate: killed, SIGSEGV" in text and "readers connect again by themselves" in text, text
    assert f"gate {pids[0]} (generation" in daemon.log_text() and "died: killed, SIGSEGV, after" in daemon.log_text()
    daemon.stop()


def test_one_that_is_stopped_is_replaced(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    pid = daemon.gate()
    kill(pid, signal.SIGSTOP)
    sender = Sender(place, listen, 1000, rate=1000)
    daemon.wait_for_log(f"gate {pid}")
    daemon.wait_for_log("has been stopped for 5 s; it is killed", 30)
    wait_until(lambda: daemon.gate() != pid, 20, "another gate")
    wait_reader(daemon).close()
    death, = daemon.call("crashes")["crashes"]
    assert (death["process"], death["pid"], death["cause"], death["hung_thread"]) == ("gate", pid, "hang", "process"), death
    sender.wait()
    daemon.wait_drained("engine", 1000)
    judge(place, daemon, sender, 1000)


@core
def test_an_end_waits_for_no_reader_and_no_gate(place):
    """It is stopped and can't hear that it is to end; readers are connected and read nothing."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    readers = [wait_reader(daemon).attach("engine") for _ in range(5)]
    path, pid = read_socket(daemon), daemon.gate()
    kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    daemon.stop()
    print(f"stopped within {time.monotonic() - began:.2f} s")
    assert not is_alive(pid) and not os.path.lexists(path)
    for reader in readers:
        reader.close()


def test_it_leaves_with_a_supervisor_that_is_killed(place):
    """Also if it is stopped; and the next supervisor has its own."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    pid, path = daemon.gate(), read_socket(daemon)
    kill(pid, signal.SIGSTOP)
    daemon.disconnect()
    daemon.process.kill()
    daemon.process.wait(10)
    wait_until(lambda: not is_alive(pid), 15, "it to leave")
    daemon.start()
    assert read_socket(daemon) == path and daemon.gate() != pid
    wait_reader(daemon).close()
    daemon.stop()


@core
def test_an_upgrade_keeps_the_socket_and_starts_another_one(place):
    """Whoever connects meanwhile waits in its queue."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"gather": "7ms"})).start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000))
    daemon.wait_counter("engine", "received", 100)
    daemon.config.write_text(daemon.config.read_text().replace("7ms", "1ms"))  # that is no other ring
    path, pid, reader = read_socket(daemon), daemon.gate(), wait_reader(daemon).attach("engine")
    inode, answers, done = os.stat(path).st_ino, [], threading.Event()

    def connect_all_the_time():
        while not done.is_set():
            try:
                with RawReader(path) as other:
                    answers.append(bool(other.hello()))
            except (Gone, ConnectionResetError, BrokenPipeError):
                answers.append(False)  # taken by the gate that was about to end
            except OSError as error:
                answers.append(error)

    thread = threading.Thread(target=connect_all_the_time)
    thread.start()
    daemon.ctl("upgrade")
    daemon.disconnect()
    new = wait_until(lambda: daemon.gate() not in (None, pid) and daemon.gate(), 20, "another gate")
    done.set()
    thread.join()
    assert new != pid and not is_alive(pid)
    assert os.stat(path).st_ino == inode, "the socket was made anew"
    assert not [error for error in answers if isinstance(error, OSError)], answers
    try:
        while True:
            reader.receive()
    except (Gone, ConnectionResetError):
        pass
    ring = reader.ring
    with wait_reader(daemon) as again:
        again.attach("engine")
        assert again.ring == ring, "an upgrade goes on with the ring"
    sender.stop()
    count = len(oracle.read_datagrams(sender.record)[0])
    daemon.wait_drained("engine", count)
    judge(place, daemon, sender, count)


def test_where_reading_is_turned_off_there_is_neither_socket_nor_gate(place):
    off = "read { enabled = false }"
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), head=off).start()
    status = daemon.status()["read"]
    assert status["state"] == "disabled" and status["pid"] is None and status["socket"] is None, status
    assert read_socket(daemon) is None and not list(place.folder.glob("**/read.sock"))
    assert "reader" not in daemon.ctl("status").stdout
    daemon.config.write_text(daemon.config.read_text().replace(off, ""))
    daemon.ctl("upgrade")
    daemon.disconnect()
    wait_reader(daemon).close()
    path, pid = read_socket(daemon), daemon.gate()
    assert ", 0 readers" in daemon.ctl("status").stdout
    daemon.config.write_text(off + "\n" + daemon.config.read_text())
    daemon.ctl("upgrade")
    daemon.disconnect()
    assert daemon.status()["read"]["state"] == "disabled"
    assert not os.path.lexists(path) and not is_alive(pid)
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()


@core
def test_a_path_that_is_taken_keeps_no_channel_from_running(place):
    listen, path = place.ipv4(), place.folder / "taken"
    path.write_text("precious")
    daemon = Daemon(place, channel("engine", listen, record={}), head=f'read {{ socket = "{path}" }}').start()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    status = daemon.status()["read"]
    assert status["state"] == "no socket" and "is no socket" in status["trouble"], status
    problems = daemon.call("check")["problems"]
    assert [problem["kind"] for problem in problems] == ["nobody_can_read"], problems
    assert "warning: nobody can read: " in daemon.ctl("check").stdout
    assert "nobody can read: " in daemon.ctl("status").stdout
    assert path.read_text() == "precious"
    path.unlink()
    daemon.wait_for_log("the readers' socket is open")
    wait_reader(daemon).attach("engine").close()
    assert daemon.call("check")["problems"] == []
    daemon.stop()
    assert not path.exists()


def in_another_process(uid, work):
    """Runs it there as that user; fails with what it said."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b""
        try:
            os.close(reading)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work()
        except BaseException:  # pylint: disable=broad-exception-caught
            said = traceback.format_exc().encode()
        os.write(writing, said[-60000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode()
    os.waitpid(pid, 0)
    assert not text, text


def refuses(*errors):
    class Refuses:
        def __enter__(self):
            return self

        def __exit__(self, _kind, error, _traceback):
            assert isinstance(error, OSError) and error.errno in errors, f"it is not refused: {error!r}"
            return True
    return Refuses()


def descriptors():
    return {int(number) for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")}


def try_everything(path):
    """On what a reader of another user is lent."""
    denied = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL)
    before = descriptors()
    with RawReader(path).hello().attach("engine") as reader:
        assert descriptors() - before == {reader.socket.fileno(), reader.memory}, "nothing else is lent"
        size = os.fstat(reader.memory).st_size
        assert os.fstat(reader.memory).st_mode & 0o7777 == 0o400
        with mmap.mmap(reader.memory, size, prot=mmap.PROT_READ) as memory:
            assert memory[:8] == b"tsafdloh", memory[:8]
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            with refuses(*denied):
                os.close(os.open(f"/proc/self/fd/{reader.memory}", flags))
        with refuses(*denied):
            mmap.mmap(reader.memory, size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        for change in (lambda: os.pwrite(reader.memory, b"x", 0), lambda: os.ftruncate(reader.memory, 0),
                       lambda: os.fchmod(reader.memory, 0o777), lambda: os.fchown(reader.memory, NOBODY, NOBODY),
                       lambda: fcntl.fcntl(reader.memory, F_ADD_SEALS, 0x8 | 0x10),
                       lambda: fallocate(reader.memory, 3, 0, size)):
            with refuses(*denied):
                change()
        # These are a reader's to do, and are nobody else's business.
        fcntl.flock(reader.memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(reader.memory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        reader.arm(FOR_COMMITTED, 1 << 60)


def fallocate(fd, mode, offset, length):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


@core
def test_another_user_can_read_the_memory_and_change_nothing(place):
    """Also of a ring that an upgrade goes on with, and that one after it made."""
    if os.geteuid() != 0:
        skip("to be another user needs root")
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), head='read { mode = "0666" }').start()
    place.folder.chmod(0o711)
    for number in range(3):
        Sender(place, listen, 100, name=f"sent{number}").wait()
        daemon.wait_counter("engine", "received", 100 * (number + 1))
        path = read_socket(daemon)
        wait_reader(daemon).close()
        in_another_process(NOBODY, lambda path=path: try_everything(path))
        if number == 0:
            daemon.ctl("upgrade")
            daemon.disconnect()
        if number == 1:
            daemon.ctl("stop", "engine")
            daemon.ctl("start", "engine")
    # And whoever has the lock that its reader held: a worker takes over all the same.
    worker = daemon.status("engine")["pid"]
    with wait_reader(daemon).attach("engine") as reader:
        fcntl.flock(reader.memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kill(worker)
        wait_until(lambda: daemon.status("engine")["pid"] not in (None, worker), 20, "a successor")
        daemon.wait_state("engine", "RUNNING")
        Sender(place, listen, 100, name="last").wait()
        daemon.wait_drained("engine", 400)
    daemon.stop()


def wake_often(place, daemon, listen, name, what):
    """One datagram at a time, and each wakes."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host, port = listen.rsplit(":", 1)
    with wait_reader(daemon).attach(name, NEW) as reader, out:
        for seq in range(place.scaled(300)):
            reader.arm(what, seq)
            out.sendto(b"datagram %d" % seq, (host, int(port)))
            assert reader.woken() == reader.ring


@core
def test_who_sleeps_is_woken_by_every_datagram(place):
    """Where it is recorded, when it is committed; where it is not, when it is there."""
    listens = [place.ipv4(), place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], record={}),
                    channel("plain", listens[1], relays={"out": place.ipv4()}),
                    channel("quick", listens[2], record={"gather": "0"})).start()
    wake_often(place, daemon, listens[0], "engine", FOR_COMMITTED)
    wake_often(place, daemon, listens[1], "plain", FOR_PUBLISHED)
    wake_often(place, daemon, listens[2], "quick", FOR_PUBLISHED)
    assert daemon.status()["read"]["counters"] is not None
    daemon.stop()


def rounds_of_the_control_thread(daemon):
    pid = daemon.status("engine")["pid"]
    status = pathlib.Path(f"/proc/{pid}/task/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("voluntary")).split()[1])


@core
def test_who_waits_for_the_newest_is_woken_while_nothing_can_be_recorded(place):
    """By the receiver: the control thread, which looks as well, does it more seldom."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), spare_workers=0).start()
    daemon.wait_state("engine", "RUNNING")
    archive, = daemon.helpers()
    freeze(archive)
    Sender(place, listen, 3000, rate=5000, sizes=(800,)).wait()
    daemon.wait_counter("engine", "received", 3000)
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] > 0, 10, "datagrams that can't be recorded")
    with wait_reader(daemon).attach("engine") as reader, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        host, port = listen.rsplit(":", 1)
        before = rounds_of_the_control_thread(daemon)
        for seq in range(3000, 3100):
            reader.arm(FOR_PUBLISHED, seq)
            out.sendto(b"datagram", (host, int(port)))
            assert reader.woken() == reader.ring
        assert rounds_of_the_control_thread(daemon) - before < 50
    assert daemon.status("engine")["ring"]["pending"] > 0
    kill(archive, signal.SIGCONT)
    daemon.wait_drained("engine", 3100)
    daemon.stop()


def memory_of(daemon, name):
    """Bytes of the channel's public memory that are in use."""
    for path in pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        if os.readlink(path).startswith(f"/memfd:holdfast:{name} "):
            return path.stat().st_blocks * 512
    return 0


def test_what_is_not_recorded_stays_in_the_ring_for_readers(place):
    """Where nobody can read, little of the ring is touched, and stays in the processor's cache."""
    used = {}
    for enabled in ("true", "false"):
        listen = place.ipv4()
        daemon = Daemon(place, channel("plain", listen, relays={"out": place.ipv4()}), name=f"daemon-{enabled}",
                        head=f"read {{ enabled = {enabled} }}").start()
        Sender(place, listen, 10000, name=f"sent-{enabled}", rate=place.scaled(10000), sizes=(1000,)).wait()
        daemon.wait_counter("plain", "received", 10000)
        used[enabled] = memory_of(daemon, "plain")
        daemon.stop()
    assert used["true"] > 10 << 20 and used["false"] < 5 << 20, used


@core
def test_who_sleeps_over_a_takeover_is_woken_by_the_successor(place):
    """Whatever the worker before was about to say."""
    listens = [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], record={}), channel("plain", listens[1], relays={"out": place.ipv4()}),
                    head=EAGER).start()
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with wait_reader(daemon).attach("engine") as engine, wait_reader(daemon).attach("plain", NEW) as plain, out:
        for seq in range(20):
            engine.arm(FOR_COMMITTED, seq)
            plain.arm(FOR_PUBLISHED, seq)
            for listen in listens:
                host, port = listen.rsplit(":", 1)
                out.sendto(b"datagram", (host, int(port)))
            for name in ("engine", "plain"):
                pid = daemon.status(name)["pid"]
                if pid:
                    kill(pid)
            assert engine.woken() == engine.ring and plain.woken() == plain.ring
            for name in ("engine", "plain"):
                daemon.wait_state(name, "RUNNING")
                daemon.wait_counter(name, "received", seq + 1)
    daemon.stop()


def test_who_sleeps_hears_that_the_ring_is_another_one(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    with wait_reader(daemon).attach("engine") as reader:
        ring = reader.ring
        reader.arm(FOR_COMMITTED, 0)
        daemon.ctl("stop", "engine")
        reader.woken()
        daemon.ctl("start", "engine")
        daemon.wait_state("engine", "RUNNING")

        def other_ring():
            reader.attach("engine")
            return reader.ring not in (0, ring)
        wait_until(other_ring, 20, "another ring")
    daemon.stop()


@core
def test_a_position_outlives_gate_archive_and_daemon(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), channel("plain", place.ipv4(), relays={"out": place.ipv4()}),
                    head=EAGER).start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    with wait_reader(daemon).attach("engine") as reader:
        assert reader.position(CLAIM, "engine", "store") == (0, 0, 0)
        assert reader.position(SAVE, "engine", "store", 10)[0] == 0
        for pid in daemon.helpers():
            kill(pid)
        assert reader.position(SAVE, "engine", "store", 20)[0] == 0
        with wait_reader(daemon).attach("engine") as other:
            assert other.position(CLAIM, "engine", "store")[0] == errno.EBUSY
    file = daemon.log_dir / ".positions" / "engine" / "store"
    assert file.read_text().startswith("seq 20\n"), file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    gate = daemon.gate()
    kill(gate)
    wait_until(lambda: daemon.gate() != gate, 20, "another gate")
    with wait_reader(daemon).attach("engine") as reader:
        assert reader.position(CLAIM, "engine", "store") == (0, 20, 1)
    daemon.stop()
    daemon.start()
    with wait_reader(daemon).attach("engine") as reader:
        assert reader.position(CLAIM, "engine", "store") == (0, 20, 1)
        assert reader.position(SAVE, "engine", "store", 1000)[0] == 0, "nothing of that has come: it is kept as what has"
        assert reader.position(CLAIM, "engine", "store") == (0, 100, 1)
        assert reader.position(FORGET, "engine", "store")[0] == 0
    assert not file.exists()
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_avro_c(place, daemon.segments("engine")), first=0)
