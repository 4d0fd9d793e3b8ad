# SPDX-License-Identifier: MIT
"""Trouble with the disk never reaches the relay. Whatever is done to the log's file system or to the archive: everything
is relayed and decimated, what could not be recorded is counted and is exactly what is missing in the files, files that
were sealed before stay as they are, recording resumes by itself, and no worker dies of it."""

import hashlib
import os
import pathlib
import shutil
import signal
import time

from lib import oracle
from lib.disk import EXT4_IOC_SHUTDOWN, SHUTDOWN_NOW, Disk, FarDisk, ThinDisk
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import freeze, kill, skip, states_of_threads, wait_until
from lib.reading import Reader, assert_in_order, lost_of

RATE, SIZE, KEEP_EVERY = 3000, 200, 4


class Scene:
    """A channel that records onto the disk, relays and decimates, under load."""

    def __init__(self, place, log_dir, rate=RATE, sync="100ms", **top):
        self.place, self.log_dir = place, log_dir
        listen, outlet, slow = place.ipv4(), place.ipv4(), place.ipv4()
        self.sink = Sink(place, [outlet, slow])
        self.daemon = Daemon(place, channel("engine", listen, ring_size="1M", max_datagram=256, relays={"display": outlet},
                                            decimates={"slow": {"to": slow, "keep_every": KEEP_EVERY}},
                                            record={"segment_size": "1M", "sync": sync}),
                             log_dir=log_dir, **top).start()
        self.sender = Sender(place, listen, 10**9, rate=rate, sizes=(SIZE,))
        wait_until(lambda: len(self.sealed()) >= 2, 30, "two sealed segments")
        self.hashes = self.sealed()

    def sealed(self):
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in self.daemon.segments("engine")}

    def counters(self):
        return self.daemon.counters("engine")

    def open_segment(self):
        return self.log_dir / "engine" / self.daemon.status("engine")["log"]["segment"]

    def wait_lost(self, count=1):
        """The trouble is there for good: the ring was lapped."""
        self.daemon.wait_counter("engine", "record_lost", self.counters()["record_lost"] + count, 30)

    def relays_on(self):
        """While the trouble lasts: the relay has everything that is received, within moments."""
        received = self.counters()["received"]
        self.sink.wait_received([received + RATE // 10], 10)
        assert self.daemon.status("engine")["state"] == "RUNNING"

    def wait_trouble(self, text):
        wait_until(lambda: text in (self.daemon.status("engine")["log"]["trouble"] or ""), 15,
                   f"{text!r} in status; it says {self.daemon.status('engine')['log']}")

    def wait_resumed(self):
        recorded = self.counters()["recorded"]
        self.daemon.wait_counter("engine", "recorded", recorded + RATE // 2, 30)
        wait_until(lambda: self.daemon.status("engine")["log"]["trouble"] is None, 30, "status to be free of trouble")

    def judge(self, expect_stop=0, survive=True, restarts=0, logs=()):
        """survive: no file was taken away or cut, so that gaps in the files are exactly record_lost."""
        self.sender.stop()
        sent = oracle.read_datagrams(self.sender.record)[0]
        self.daemon.wait_drained("engine", len(sent))
        counters = oracle.assert_ledger(self.daemon.status("engine"))
        assert counters["received"] == len(sent) and counters["kernel_dropped"] == 0, counters
        assert counters["restarts"] <= restarts, counters
        self.sink.wait_received([len(sent), len(sent) // KEEP_EVERY])
        for text in logs:
            assert text in self.daemon.log_text(), f"the log does not say {text!r}"
        self.daemon.stop(expect=expect_stop)
        self.sink.stop()
        caught = oracle.read_datagrams(self.sink.record)
        chosen = [payload for seq, payload in enumerate(sent) if seq % KEEP_EVERY == KEEP_EVERY - 1]
        if restarts == 0:
            assert caught[0] == sent, "everything is relayed once, in order"
            assert caught[1] == chosen, "everything chosen is decimated once, in order"
        else:
            oracle.assert_at_least_once(sent, caught[0], "relayed")
            oracle.assert_at_least_once(chosen, caught[1], "decimated")
        self.judge_files(sent, counters, survive)
        print(f"{len(sent)} datagrams, {counters['record_lost']} not recorded")

    def judge_files(self, sent, counters, survive):
        now = self.sealed()
        for path, digest in self.hashes.items():
            assert not survive or now[path] == digest, f"{path} was sealed before and has changed"
        oracle.assert_verified(self.daemon, now)
        records = oracle.read_with_avro_c(self.place, sorted(now))
        numbers = [record.seq for record in records]
        assert numbers == sorted(set(numbers)), "each number at most once, in order"
        assert all(record.payload == sent[record.seq] for record in records)
        if survive:
            assert len(sent) - len(records) == counters["record_lost"], (len(sent) - len(records), counters)
            assert len(records) == counters["recorded"]


def test_a_full_disk(place):
    disk = Disk(place, "tmpfs", 24)
    scene = Scene(place, disk.where / "log")
    disk.fill()
    scene.wait_trouble("no space")
    scene.wait_lost()
    scene.relays_on()
    said = scene.daemon.ctl("check", expect=None).stdout
    assert "no space" in said and "free some" in said, said
    disk.free()
    scene.wait_resumed()
    disk.fill()
    scene.wait_lost()
    disk.free()
    scene.wait_resumed()
    scene.judge(logs=("0 B free; free some", "datagrams are relayed but not recorded"))


def test_what_still_records_on_a_full_disk_is_not_said_not_to(place):
    disk, listen = Disk(place, "tmpfs", 8), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), log_dir=disk.where / "log").start()
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a segment")
    disk.fill()
    Sender(place, listen, 600, rate=10000, sizes=(1200,)).wait()  # more than half of it: the next one is wanted
    wait_until(lambda: daemon.status("engine")["log"]["trouble"], 20, "the trouble in status")
    daemon.wait_drained("engine", 600)
    assert daemon.status("engine")["log"]["recording"] and daemon.call("check")["healthy"]
    assert "engine: trouble with its recording: " in (told := daemon.ctl("status").stdout), told
    Sender(place, listen, 600, name="more", rate=10000, sizes=(1200,)).wait()
    wait_until(lambda: not daemon.call("check")["healthy"], 20, "the segment to be full")
    assert not daemon.status("engine")["log"]["recording"]
    assert "engine: not recording: " in (told := daemon.ctl("status").stdout), told
    disk.free()


def test_a_file_system_that_turns_read_only(place):
    """An ext4 with errors=remount-ro that met an error: the kernel makes it read-only under everybody's feet."""
    disk = Disk(place)
    scene = Scene(place, disk.where / "log")
    trigger = pathlib.Path("/sys/fs/ext4") / disk.device() / "trigger_fs_error"
    if not trigger.exists():
        skip("this kernel has no trigger_fs_error")
    trigger.write_text("holdfast's test\n")
    scene.wait_trouble("Read-only file system")
    scene.wait_lost()
    scene.relays_on()
    disk.mount()
    scene.wait_resumed()
    scene.judge(expect_stop=None, survive=False, logs=("relaying goes on",))


def test_a_disk_that_answers_with_errors(place):
    disk = Disk(place)
    scene = Scene(place, disk.where / "log")
    disk.ioctl(EXT4_IOC_SHUTDOWN, SHUTDOWN_NOW)
    wait_until(lambda: scene.daemon.status("engine")["log"]["trouble"], 15, "the trouble in status")
    scene.wait_lost()
    scene.relays_on()
    disk.mount()
    scene.wait_resumed()
    scene.judge(expect_stop=None, survive=False, logs=("Input/output error", "relaying goes on"))


def test_readers_beside_a_disk_that_answers_with_errors(place):
    """What is in no file any more is told to those who follow, nothing comes twice, and they go on with what is recorded
    elsewhere."""
    disk = Disk(place)
    scene = Scene(place, disk.where / "log", head='read { mode = "0666" }')
    readers = [Reader(place, scene.daemon, "joined"), Reader(place, scene.daemon, "slow", slow=200)]
    readers[0].wait_next(1000)
    disk.ioctl(EXT4_IOC_SHUTDOWN, SHUTDOWN_NOW)
    wait_until(lambda: scene.daemon.status("engine")["log"]["trouble"], 15, "the trouble in status")
    scene.wait_lost()
    complaint = scene.daemon.ctl("cat", "engine", expect=1).stderr
    assert "Input/output error" in complaint, "who comes now and wants what is on the disk is told"
    scene.relays_on()
    disk.mount()
    scene.wait_resumed()
    readers.append(Reader(place, scene.daemon, "last"))
    scene.sender.stop()
    sent = oracle.read_datagrams(scene.sender.record)[0]
    scene.daemon.wait_drained("engine", len(sent))
    for reader in readers:
        reader.wait_next(len(sent))
        reader.stop()
        first, end = assert_in_order(reader, forgive="Input/output error")
        assert end == len(sent)
        got = reader.datagrams()
        assert all(sent[number] == payload for number, payload in got), "what is given is what was sent"
        assert len(got) + sum(lost_of(reader).values()) == end - first, (len(got), lost_of(reader), first, end)
        print(f"{reader.folder.name}: {len(got)} of {len(sent)}, lost {dict(lost_of(reader))}")
    scene.daemon.stop(expect=None)


def test_what_the_disk_had_no_room_for_is_written_once_more(place):
    """A write-back fails, and the kernel takes the pages for written: they can be read as long as they are in memory, and
    a second fdatasync says that all is well. What is sealed later must be on the disk all the same."""
    disk = ThinDisk(place)
    scene = Scene(place, disk.where / "log")
    disk.exhaust()
    scene.daemon.wait_for_log("fdatasync: ")
    wait_until(lambda: scene.daemon.status("engine")["log"]["unsealed"] > 0, 20, "a segment that can't be sealed to be told")
    assert "unsealed" in [problem["kind"] for problem in scene.daemon.call("check")["problems"]]
    scene.relays_on()
    disk.replenish()
    scene.wait_resumed()
    scene.sender.stop()
    sent = oracle.read_datagrams(scene.sender.record)[0]
    scene.daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(scene.daemon.status("engine"))
    scene.daemon.stop()
    scene.sink.stop()
    assert "were copied to" in scene.daemon.log_text(), scene.daemon.log_text()
    disk.forget()
    assert {path.suffix for path in (disk.where / "log" / "engine").glob("engine*")} == {".avro"}, "the original is not needed"
    scene.judge_files(sent, counters, survive=True)


def test_so_is_a_segment_that_was_full_when_the_disk_refused_it(place):
    """Its worker has left it by then. The archive, which stands still meanwhile, would not learn of it: to whom the file is
    opened later, the kernel says that all is well. What the archive has sealed before is copied likewise."""
    disk = ThinDisk(place)
    scene = Scene(place, disk.where / "log", sync="3s", spare_workers=0)
    archive = archive_of(scene)
    wait_until(lambda: len(scene.daemon.segments("engine", ".avro.open")) == 2, 10, "the next segment to be prepared")
    freeze(archive)
    disk.exhaust()
    scene.daemon.wait_for_log("which is full: fdatasync: ", 30)
    scene.relays_on()
    disk.replenish()
    kill(archive, signal.SIGCONT)
    scene.daemon.wait_for_log("its records are copied to another file")
    scene.wait_resumed()
    scene.sender.stop()
    sent = oracle.read_datagrams(scene.sender.record)[0]
    scene.daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(scene.daemon.status("engine"))
    scene.daemon.stop()
    scene.sink.stop()
    disk.forget()
    assert {path.suffix for path in (disk.where / "log" / "engine").glob("engine*")} == {".avro"}, "the originals are not needed"
    scene.hashes = {}  # what was sealed just before the disk was exhausted may be among them
    scene.judge_files(sent, counters, survive=True)


def test_a_disk_that_does_not_answer(place):
    """Recorder and syncer sleep in the kernel, where no signal reaches them: waited for, not taken for a hang."""
    disk = Disk(place)
    scene = Scene(place, disk.where / "log", hang_timeout="500ms")
    before = scene.daemon.status("engine")
    disk.freeze()
    scene.wait_trouble("waits for the disk")
    scene.relays_on()
    time.sleep(2)  # several times hang_timeout, in which nothing may happen
    scene.relays_on()
    assert "degraded" in scene.daemon.ctl("--json", "check", expect=None).stdout
    disk.thaw()
    scene.daemon.wait_for_log("the disk answers again")
    scene.wait_resumed()
    after = scene.daemon.status("engine")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0), "the worker was not touched"
    scene.judge(logs=("has been waiting for the disk",))


def test_who_has_just_been_released_by_the_disk_has_time_to_go_on(place):
    """As long as hang_timeout says: here it can't go on at once, as where other processes have the processor."""
    disk = Disk(place)
    scene = Scene(place, disk.where / "log", hang_timeout="4s")
    before = scene.daemon.status("engine")
    disk.freeze()
    scene.daemon.wait_for_log("has been waiting for the disk", 30)
    kill(before["pid"], signal.SIGSTOP)
    disk.thaw()
    wait_until(lambda: states_of_threads(before["pid"]) == {"T"}, 2, "its threads to be stopped", interval=0.002)
    time.sleep(1)  # several looks, and much less than hang_timeout
    kill(before["pid"], signal.SIGCONT)
    scene.wait_resumed()
    after = scene.daemon.status("engine")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0), "the worker was not touched"
    scene.judge()


def test_a_segment_that_is_cut_under_the_map(place):
    """Three lengths: to nothing, to the middle of what is committed, just short of its end."""
    scene = Scene(place, place.folder / "log")
    for part in (0.0, 0.3, 0.99):
        path = scene.open_segment()
        wait_until(lambda path=path: path.exists(), 10, "the segment to have its name")
        with open(path, "r+b") as segment:
            segment.truncate(int(part * (1 << 20)))
        scene.daemon.wait_counter("engine", "recorded", scene.counters()["recorded"] + RATE, 30)
    scene.wait_resumed()
    scene.judge(expect_stop=None, survive=False)


def test_a_cut_segment_and_then_a_dead_worker(place):
    """The successor is handed a segment that is shorter than it was: it must not refuse to relay for that."""
    scene = Scene(place, place.folder / "log", rate=500)
    path = scene.open_segment()
    wait_until(path.exists, 10, "the segment to have its name")
    pid = scene.daemon.status("engine")["pid"]
    kill(pid, signal.SIGSTOP)
    with open(path, "r+b") as segment:
        segment.truncate(1000)
    kill(pid)
    wait_until(lambda: scene.counters()["restarts"] == 1, 10, "the successor")
    scene.wait_resumed()
    scene.judge(expect_stop=None, survive=False, restarts=1)


def test_log_dir_is_removed(place):
    scene = Scene(place, place.folder / "log")
    shutil.rmtree(scene.log_dir)
    scene.daemon.wait_for_log("its file was deleted")
    wait_until(lambda: scene.daemon.segments("engine"), 30, "sealed segments in a new folder")
    scene.wait_resumed()
    scene.hashes = {}
    scene.judge(expect_stop=None, survive=False)


def test_log_dir_is_moved_away(place):
    """The segment in use goes on in its new place; the next one is made where the configuration says."""
    scene = Scene(place, place.folder / "log")
    away = place.folder / "moved"
    segment = scene.open_segment()
    wait_until(segment.exists, 10, "the segment to have its name")
    scene.log_dir.rename(away)
    wait_until(lambda: scene.daemon.segments("engine"), 30, "sealed segments in a new folder")
    scene.wait_resumed()
    hashes, scene.hashes = scene.hashes, {}
    scene.judge(expect_stop=None, survive=False)
    for path, digest in hashes.items():
        assert hashlib.sha256((away / "engine" / path.name).read_bytes()).digest() == digest
    left = list((away / "engine").glob("*.avro.open"))
    assert left, "the segment that was in use when its folder went"
    scene.daemon.ctl("recover", "-o", place.folder, *left)
    records = oracle.read_with_avro_c(place, sorted((away / "engine").glob("*.avro")) +
                                      sorted(place.folder.glob("*.recovered.avro")) + scene.daemon.segments("engine"))
    sent = oracle.read_datagrams(scene.sender.record)[0]
    oracle.assert_consecutive(sorted(records, key=lambda record: record.seq), first=0)
    assert len(records) == len(sent), "nothing at all is missing in both folders together"


def archive_of(scene):
    """The child that is neither the channel's worker nor the spare: it has log_dir's files open, or had the first turn."""
    others = scene.daemon.helpers()
    for line in reversed(scene.daemon.log_text().splitlines()):
        if "archive" in line:
            for pid in others:
                if f"archive {pid}" in line:
                    return pid
    return min(others)  # the archive is started before the first spare


def test_the_archive_is_stopped(place):
    """Between two rotations, and long enough that the recorder runs out of segments."""
    scene = Scene(place, place.folder / "log", spare_workers=0)
    for _ in range(2):
        archive = archive_of(scene)
        kill(archive, signal.SIGSTOP)
        scene.wait_lost()
        scene.relays_on()
        wait_until(lambda: "archive_silent" in {problem["kind"] for problem in scene.daemon.call("check")["problems"]}, 30,
                   "the silence of the archive to be told")
        assert "the archive is silent" in scene.daemon.ctl("check", expect=1).stdout
        scene.daemon.wait_for_log("the archive has not answered")
        kill(archive, signal.SIGCONT)
        scene.wait_resumed()
        scene.daemon.wait_for_log("the archive answers again")
    scene.judge()


def test_the_archive_is_killed_again_and_again(place):
    scene = Scene(place, place.folder / "log", spare_workers=0,
                  head='restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }')
    for _ in range(60):
        for pid in scene.daemon.helpers():
            kill(pid)
        wait_until(scene.daemon.helpers, 10, "the next archive")
        time.sleep(0.03)  # some of its work is done, some is under way
    scene.wait_resumed()
    scene.judge()


def forget_cached(path):
    """Whoever reads it next needs the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_takeover_does_not_wait_for_the_disk(place):
    """The worker dies while the disk answers nobody. Its successor relays before it has seen the file that it goes on in."""
    disk = FarDisk(place)
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet},
                                   record={"segment_size": "16M", "sync": 0}),
                    log_dir=disk.where / "log", hang_timeout="60s").start()
    sender = Sender(place, listen, 10**9, rate=RATE, sizes=(1000,))
    log = wait_until(lambda: (lambda log: log if log and log["committed_bytes"] > 4 << 20 else None)(
        daemon.status("engine")["log"]), 30, "a segment that is begun")
    kill(daemon.status("engine")["pid"])  # the next one has no use for the file's first pages, nor mapped them
    wait_until(lambda: daemon.counters("engine")["restarts"] == 1, 20, "the first successor")
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    daemon.wait_counter("engine", "recorded", daemon.counters("engine")["recorded"] + 100)
    freeze(worker)
    forget_cached(daemon.log_dir / "engine" / log["segment"])
    disk.pull()
    kill(worker)
    wait_until(lambda: daemon.counters("engine")["restarts"] == 2, 20, "the successor")
    daemon.wait_state("engine", "RUNNING")
    assert daemon.status("engine")["pid"] != worker
    received = daemon.counters("engine")["received"]
    sink.wait_received([received + RATE // 2], 20)
    assert daemon.counters("engine")["restarts"] == 2, "nobody was ended for it"
    recorded = daemon.counters("engine")["recorded"]
    disk.plug_in()
    daemon.wait_counter("engine", "recorded", recorded + RATE, 30)
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == counters["recorded"] == len(sent), (len(sent), counters)
    daemon.stop()
    sink.stop()
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")
    assert [record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))] == sent


class Neighbours:
    """Two channels, of which one records onto a disk behind a cable."""

    def __init__(self, place):
        self.place, self.disk = place, FarDisk(place)
        self.names = ("engine", "gps")
        listens, outlets = [place.ipv4(), place.ipv4()], [place.ipv4(), place.ipv4()]
        self.sinks = {name: Sink(place, outlet, name=f"caught-{name}") for name, outlet in zip(self.names, outlets)}
        self.daemon = Daemon(place, *(channel(name, listen, relays={"display": outlet},
                                              **({"record": {"segment_size": "16M", "sync": "50ms"}} if name == "engine" else {}))
                                      for name, listen, outlet in zip(self.names, listens, outlets)),
                             log_dir=self.disk.where / "log", hang_timeout="2s").start()
        self.senders = {name: Sender(place, listen, 10**9, name=f"sent-{name}", rate=500, sizes=(200,))
                        for name, listen in zip(self.names, listens)}
        self.daemon.wait_counter("engine", "recorded", 100)

    def relays_on(self):
        for name in self.names:
            self.sinks[name].wait_received([self.daemon.counters(name)["received"] + 200], 20)

    def upgrade(self, expect=0):
        self.daemon.disconnect()
        return self.daemon.ctl("upgrade", expect=expect)

    def judge(self):
        sent = {}
        for name in self.names:
            self.senders[name].stop()
            sent[name] = oracle.read_datagrams(self.senders[name].record)[0]
            wait_until(lambda name=name: self.daemon.counters(name)["received"] == len(sent[name]), 20, "the rest")
        self.daemon.wait_drained("engine", len(sent["engine"]))
        self.daemon.stop()
        for name in self.names:
            self.sinks[name].stop()
            oracle.assert_at_least_once(sent[name], oracle.read_datagrams(self.sinks[name].record)[0], f"relayed of {name}")
        records = oracle.read_with_avro_c(self.place, self.daemon.segments("engine"))
        oracle.assert_same_payloads(sent["engine"], [record.payload for record in records], "recorded")


def test_no_upgrade_while_a_disk_does_not_answer(place):
    """What waits for a disk can't be ended: an upgrade would only stop the relay, and everybody else's with it."""
    scene = Neighbours(place)
    scene.disk.pull()
    wait_until(lambda: "has been waiting for the disk" in scene.daemon.log_text(), 60, "a thread that waits for the disk")
    worker = scene.daemon.status("engine")["pid"]
    result = scene.upgrade(expect=1)
    assert "waiting for its disk" in result.stderr and "channel engine" in result.stderr, result.stderr
    scene.relays_on()
    assert scene.daemon.status("engine")["pid"] == worker
    scene.disk.plug_in()
    wait_until(lambda: scene.upgrade(expect=None).returncode == 0, 30, "an upgrade that is taken")
    wait_until(lambda: scene.daemon.status("engine")["pid"] != worker, 30, "the next worker")
    scene.judge()


def test_an_upgrade_that_meets_a_disk_is_given_up(place):
    """The disk stops answering when the workers are asked to let go: those that can go on do."""
    scene = Neighbours(place)
    workers = {name: scene.daemon.status(name)["pid"] for name in scene.names}
    scene.disk.pull()
    wait_until(lambda: "D" in states_of_threads(workers["engine"]), 30, "a thread that waits for the disk")
    result = scene.upgrade(expect=None)
    if "accepted" not in scene.daemon.log_text():
        skip(f"no upgrade began: {result.stderr.strip()}")
    wait_until(lambda: scene.daemon.status("gps")["state"] == "RUNNING" and
               scene.daemon.status("gps")["pid"] not in (workers["gps"], None), 60, "the neighbour to go on")
    assert "the upgrade is given up" in scene.daemon.log_text()
    assert result.returncode == 1 and "the upgrade is given up" in result.stderr, result.stderr
    assert "given up" in scene.daemon.call("ping")["upgrade_failed"]
    received = scene.daemon.counters("gps")["received"]
    scene.sinks["gps"].wait_received([received + 200], 20)
    scene.disk.plug_in()
    wait_until(lambda: scene.daemon.status("engine")["state"] == "RUNNING" and
               scene.daemon.status("engine")["pid"] != workers["engine"], 60, "the channel with the disk")
    scene.judge()


def switches(pid, thread):
    """How often the thread has gone to sleep so far."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == thread:
            status = (task / "status").read_text()
            return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    raise AssertionError(f"{pid} has no thread {thread}")


def test_a_recorder_without_a_segment_sleeps(place):
    """The successor can't open the segment that it is to go on in, and the archive does not give it another one."""
    scene = Scene(place, place.folder / "log", spare_workers=0)
    path = scene.open_segment()
    wait_until(path.exists, 10, "the segment to have its name")
    pid = scene.daemon.status("engine")["pid"]
    archive = archive_of(scene)
    wait_until(lambda: scene.daemon.status("engine")["log"]["committed_bytes"] > 10000, 10, "something to be committed")
    freeze(archive)
    sent = scene.sender.stop()["sent"]
    scene.daemon.wait_drained("engine", sent)
    freeze(pid)  # before the second is over after which an open block is sealed
    with open(path, "r+b") as segment:
        segment.truncate(1000)
    kill(pid)
    wait_until(lambda: scene.counters()["restarts"] == 1, 10, "the successor")
    successor = scene.daemon.wait_state("engine", "RUNNING")["pid"]
    scene.daemon.wait_for_log("can't be used")
    before = switches(successor, "recorder")
    time.sleep(1)  # in which there is nothing to do
    assert (woke := switches(successor, "recorder") - before) < 100, f"the idle recorder woke up {woke} times"
    kill(archive, signal.SIGCONT)
    scene.daemon.stop(expect=None)
    scene.sink.stop()
