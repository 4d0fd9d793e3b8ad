# SPDX-License-Identifier: MIT
"""Whatever is found in a channel's folder, no sound record is lost or there twice, no number is given twice, and neither
this channel nor another one is kept from recording."""

import fcntl
import os
import shutil

from lib import log_files, oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import children_of, core, skip, wait_until
from system.c10_log_header import SYNC, ctl, facts, schema_of

PAGE = 4096
ROTTEN = b"\xa5" * PAGE


def recorded(place, *counts, size=200, **record):
    """A daemon with one segment of so many datagrams each, the last one open."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record=record)).start()
    for i, count in enumerate(counts):
        if i:
            daemon.ctl("rotate", "engine")
        Sender(place, listen, count, rate=20000, sizes=(size,), name=f"sent{i}").wait()
        daemon.wait_drained("engine", sum(counts[:i + 1]))
    return daemon, listen


def open_segment(daemon):
    """Once it has the name of one that was begun."""
    def begun():
        return [path for path in daemon.segments("engine", ".avro.open") if "prepared" not in path.name]
    wait_until(begun, 20, "a segment to be begun")
    file, = begun()
    return file


def spoil(file, at, content=ROTTEN):
    with open(file, "r+b") as stream:
        stream.seek(at)
        stream.write(content)


def record_more(place, daemon, listen, count=100):
    Sender(place, listen, count, name="more").wait()
    daemon.wait_drained("engine", count)


# ---- numbers ----

def go_on_after(place, damage):
    daemon, listen = recorded(place, 2000)
    daemon.stop()
    file, = daemon.segments("engine")
    damage(file)
    daemon.start()
    record_more(place, daemon, listen)
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine")[-1:])
    assert records[0].seq >= 2000, f"number {records[0].seq} was another datagram's"


def test_numbers_that_a_cut_file_had_are_not_given_again(place):
    go_on_after(place, lambda file: os.truncate(file, file.stat().st_size // 2))


def test_numbers_of_a_rotten_end_are_not_given_again(place):
    go_on_after(place, lambda file: spoil(file, file.stat().st_size - PAGE))


def test_nor_those_of_a_rotten_end_where_the_header_says_nothing(place):
    """As in a file of an older version."""
    def damage(file):
        entries, sync, length = log_files.read_header(file.read_bytes())
        body = file.read_bytes()[length:]
        file.write_bytes(log_files.header(entries["avro.schema"].value, sync) + body)
        spoil(file, file.stat().st_size - PAGE)
    go_on_after(place, damage)


def test_nor_those_before_a_copy_of_an_earlier_block(place):
    """A disk has put one over the last block, in a file that does not say what is in it."""
    folder = empty_folder(place)
    blocks = [log_files.block([log_files.record(n, b"p" * 300) for n in range(at, at + 50)], SYNC) for at in range(1000, 2000, 50)]
    assert len({len(block) for block in blocks}) == 1
    blocks[-1] = blocks[2]
    (folder / f"engine-{1000:020}-20250101T000000Z.avro").write_bytes(
        log_files.header(put_segment.schema, SYNC, first_seq=1000) + b"".join(blocks))
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    record_more(place, daemon, listen)
    about, = facts(place, open_segment(daemon))
    assert about["first_seq"] >= 1950, about


def test_nor_those_of_a_rotten_end_of_an_unfinished_segment(place):
    """Its last page, or all that it had; and nothing is removed of it."""
    for count, is_rotten in ((2000, lambda end, header: end - PAGE), (20, lambda end, header: header)):
        shutil.rmtree(place.folder / "log", ignore_errors=True)
        daemon, listen = recorded(place, count)
        wait_until(lambda: daemon.status("engine")["log"]["durable_bytes"], 20, "it to be durable")
        daemon.kill_all()
        file = open_segment(daemon)
        data = file.read_bytes()
        end = len(data.rstrip(b"\0"))
        at = is_rotten(end, log_files.read_header(data)[2])
        spoil(file, at, b"\xa5" * (end - at))
        spoilt = file.read_bytes()
        daemon.start()
        record_more(place, daemon, listen)
        about, = facts(place, open_segment(daemon))
        assert about["first_seq"] >= count, about
        daemon.stop()
        kept, = daemon.segments("engine", ".avro.damaged")
        assert kept.read_bytes() == spoilt


def test_of_two_files_of_one_number_the_longer_one_counts(place):
    folder = empty_folder(place)
    put_segment(folder, f"engine-{0:020}-20250101T000000Z.avro.open", 0, 5)
    put_segment(folder, f"engine-{0:020}-20250101T000005Z.avro.open", 0, 100)
    assert recovered_numbers(place) == list(range(100))


def test_numbers_go_on_when_retention_has_removed_everything(place):
    daemon, listen = recorded(place, 500, keep_free="99%", segment_size="1M")
    daemon.ctl("rotate", "engine")
    wait_until(lambda: not daemon.segments("engine"), 30, "the only segment to be removed")
    for _ in range(2):
        daemon.stop()
        daemon.start()
        wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a segment")
    record_more(place, daemon, listen)
    about, = facts(place, open_segment(daemon))
    assert about["first_seq"] == 500, about


@core
def test_numbers_of_what_was_not_recorded_are_not_given_again(place):
    """The disk is full but for a page or two when the daemon ends."""
    place.private_mounts()
    disk, listen = place.folder / "disk", place.ipv4()
    place.mount_tmpfs(disk, "16M")
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "2M"}), log_dir=disk / "log").start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(65536))
        except OSError:
            filler.truncate(filler.tell() // 65536 * 65536 - 16384)
    Sender(place, listen, 15000, name="many", rate=20000, sizes=(1000,)).wait()
    wait_until(lambda: daemon.status("engine")["log"]["trouble"], 20, "the disk to be full")
    daemon.wait_counter("engine", "received", 15100)
    received = daemon.counters("engine")["received"]
    assert daemon.counters("engine")["recorded"] < received
    wait_until(lambda: daemon.ctl("check", expect=None).returncode == 1, 20, "the check to tell that nothing is recorded")
    daemon.stop()
    (disk / "filler").unlink()
    daemon.start()
    Sender(place, listen, 100, name="again").wait()
    daemon.wait_drained("engine", 100)
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert [record.seq for record in records[-100:]] == list(range(received, received + 100))
    about = facts(place, *daemon.segments("engine"))
    assert sum(file["missing_since_previous_file"] + file["losses"]["not_recorded"]["count"] for file in about) == \
        received + 100 - len(records), "the gap is told"


def test_the_file_that_remembers_the_numbers_outlives_retention(place):
    """It is the only one left, and the disk has no room for another segment."""
    place.private_mounts()
    disk, listen = place.folder / "disk", place.ipv4()
    place.mount_tmpfs(disk, "8M")
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "2M", "keep_free": "50%"}),
                    log_dir=disk / "log").start()
    Sender(place, listen, 500).wait()
    daemon.wait_drained("engine", 500)
    daemon.stop()
    (disk / "filler").write_bytes(bytes(7 << 20))
    daemon.start()
    wait_until(lambda: daemon.status("engine")["log"]["trouble"], 20, "the disk to be full")
    daemon.wait_for_log("no sealed segment is left to remove")
    daemon.stop(expect=None)
    (disk / "filler").unlink()
    daemon.start()
    record_more(place, daemon, listen)
    about, = facts(place, open_segment(daemon))
    assert about["first_seq"] == 500, about


NO_LOG_REACHES = 1 << 62


def test_a_record_of_a_number_that_no_log_reaches_costs_itself_alone(place):
    """Its marker and its CRC are right, as somebody may make them who has read the file. Behind it are others, or none."""
    for behind in (20, 0):
        folder, sync = empty_folder(place), os.urandom(16)
        blocks = [range(100), [(1 << 63) - 1], range(100, 100 + behind)]
        (folder / f"engine-{0:020}-20250101T000000Z.avro.open").write_bytes(
            log_files.header(put_segment.schema, sync) +
            b"".join(log_files.block([log_files.record(n) for n in block], sync) for block in blocks if block) + bytes(65536))
        listen = place.ipv4()
        daemon = Daemon(place, channel("engine", listen, record={})).start()
        record_more(place, daemon, listen)
        daemon.stop()
        numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
        sound = 100 + behind
        assert numbers[:sound] == list(range(sound)) and sound <= numbers[sound] < 10000, numbers[95:125]


def test_a_name_of_a_number_that_no_log_reaches_is_told_and_the_recording_comes_back(place):
    """Somebody has put it there. Nobody can go on behind it; everything else does, and so does the recording without it."""
    folder, listen, outlet = empty_folder(place), place.ipv4(), place.ipv4()
    strange = folder / f"engine-{NO_LOG_REACHES:020}-20250101T000000Z.avro"
    strange.write_bytes(b"rubbish")
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={})).start()
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: "a number that no log reaches" in (daemon.status("engine")["log"]["trouble"] or ""), 20, "the trouble")
    daemon.ctl("check", expect=1)
    Sender(place, listen, 100).wait()
    sink.wait_received(100)
    strange.rename(place.folder / strange.name)
    wait_until(lambda: daemon.status("engine")["log"]["state"] == "open", 60, "the recording to come back by itself")
    record_more(place, daemon, listen, 100)
    daemon.wait_drained("engine", 200)
    assert oracle.assert_ledger(daemon.status("engine"))["recorded"] == 200, "what waited in the ring, too"
    daemon.ctl("check")
    daemon.stop()
    sink.stop()


# ---- records ----

def put_segment(folder, name, first, end, leftovers=0, spoiled=None):
    """Unfinished: with zeros at its end. leftovers: what a worker that died on its way to the next one left behind the end."""
    sync = os.urandom(16)
    schema = put_segment.schema
    data = bytearray(log_files.header(schema, sync, first_seq=first))
    for at in range(first, end, 50):
        data += log_files.block([log_files.record(n, b"p" * 300) for n in range(at, min(at + 50, end))], sync)
    if leftovers:
        data += log_files.varint(0, 5) * 2 + b"".join(log_files.record(n, b"p" * 300) for n in range(end, end + leftovers))
    if spoiled:
        data[spoiled[0]:spoiled[1]] = bytes(spoiled[1] - spoiled[0])
    (folder / name).write_bytes(data + (bytes(65536) if name.endswith(".open") else b""))


def empty_folder(place):
    put_segment.schema = schema_of(place)
    folder = place.folder / "log" / "engine"
    shutil.rmtree(place.folder / "log")
    folder.mkdir(parents=True)
    return folder


def recovered_numbers(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a new segment")
    daemon.stop()
    return [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]


def test_a_lost_header_costs_no_other_file_a_record(place):
    """Two or three are open, as after two deaths in a row; the header of one is lost."""
    for lost in range(3):
        folder = empty_folder(place)
        for i in range(3):
            put_segment(folder, f"engine-{100 * i:020}-20250101T00000{i}Z.avro.open", 100 * i, 100 * i + 100,
                        leftovers=5 if i < 2 else 0, spoiled=(100, 200) if i == lost else None)
        assert recovered_numbers(place) == list(range(300)), f"header {lost}"


def test_leftovers_of_a_file_without_header_are_not_kept_twice(place):
    folder = empty_folder(place)
    put_segment(folder, f"engine-{0:020}-20250101T000000Z.avro.open", 0, 100, leftovers=10, spoiled=(0, 400))
    put_segment(folder, f"engine-{100:020}-20250101T000010Z.avro", 100, 200)
    assert recovered_numbers(place) == list(range(200))


def test_a_file_whose_first_page_is_lost_is_no_unused_one(place):
    """It has the name of a prepared one, and the disk is too full to copy what is in it."""
    place.private_mounts()
    daemon, listen = recorded(place, 5000, size=800)
    daemon.stop()
    file, = daemon.segments("engine")
    disk = place.folder / "disk"
    place.mount_tmpfs(disk, "24M")
    folder = disk / "log" / "engine"
    folder.mkdir(parents=True)
    orphan = folder / "engine-prepared-00000000deadbeef.avro.open"
    orphan.write_bytes(bytes(PAGE) + file.read_bytes()[PAGE:])
    (disk / "filler").write_bytes(bytes((23 << 20) - orphan.stat().st_size))
    second = Daemon(place, channel("engine", listen, record={}), name="second", log_dir=disk / "log").start()
    wait_until(lambda: "space" in (second.status("engine")["log"]["trouble"] or ""), 20, "a request for a segment")
    second.stop(expect=1)  # it is still there
    (disk / "filler").unlink()
    second.start()
    second.stop()
    sound = oracle.read_with_avro_c(place, second.segments("engine"))
    assert len(sound) > 4900, len(sound)


@core
def test_damage_that_is_found_while_a_segment_is_sealed(place):
    """What becomes of it is for any reader, and nothing else is lost."""
    daemon, listen = recorded(place, 5000, size=400)
    file = open_segment(daemon)
    before = file.read_bytes()
    spoil(file, 1 << 20)
    daemon.ctl("rotate", "engine")
    wait_until(lambda: daemon.segments("engine") and daemon.segments("engine", ".avro.damaged"), 20, "it to be sealed")
    daemon.stop()
    ctl(place, "verify", *daemon.segments("engine"))
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert oracle.read_with_python_avro(daemon.segments("engine")) == records
    assert 5000 - 330 < len(records) < 5000, "at most the two blocks that the page lies in are lost"
    damaged, = daemon.segments("engine", ".avro.damaged")
    assert damaged.read_bytes()[:1 << 20][PAGE:] == before[:1 << 20][PAGE:]


# ---- what is in the way ----

def test_something_else_has_the_copys_name(place):
    daemon, listen = recorded(place, 3000)
    daemon.kill_all()
    file = open_segment(daemon)
    spoil(file, 200000)
    in_the_way = file.with_name(file.name.replace(".avro.open", ".avro.mending"))
    in_the_way.mkdir()
    daemon.start()
    record_more(place, daemon, listen)
    assert file.name in daemon.log_text() and file.exists()
    daemon.stop(expect=1)  # it was tried once more
    in_the_way.rmdir()
    daemon.start()
    daemon.stop()
    assert not file.exists() and len(oracle.read_with_avro_c(place, daemon.segments("engine"))) > 2500


def test_a_copys_name_may_be_another_files_too(place):
    daemon, _ = recorded(place, 3000, 3000)
    sealed, current = daemon.segments("engine")[0], open_segment(daemon)
    before = sealed.read_bytes()
    os.link(sealed, str(current).replace(".avro.open", ".avro.mending"))
    spoil(current, 200000)
    os.truncate(current, 8 << 20)  # the worker gives it up, and it has to be mended
    wait_until(lambda: not current.exists(), 20, "it to be finished")
    daemon.stop()
    assert sealed.read_bytes() == before


# ---- others go on ----

def two_channels(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("aaa", place.ipv4(), record={}),
                    channel("engine", listen, ring_size="1M", record={"segment_size": "1M"}))
    return daemon, listen


def test_a_hole_of_terabytes(place):
    """In a channel's own folder, and in one of no channel."""
    for name in ("aaa", "former"):
        folder = place.folder / "log" / name
        folder.mkdir(parents=True)
        (folder / f"{name}-{0:020}-20250101T000000Z.avro.open").write_bytes(b"")
        with open(folder / f"{name}-{0:020}-20250101T000000Z.avro.damaged", "wb") as file:
            file.truncate(8 << 40)
    daemon, listen = two_channels(place)
    daemon.start()
    wait_until(lambda: daemon.status("aaa")["log"]["segment"], 20, "the channel with the hole to record")
    go_on_while_swept(place, daemon, listen, lambda: "no channel of this name" in daemon.log_text())


def go_on_while_swept(place, daemon, listen, is_swept):
    sender = Sender(place, listen, 10**9, rate=5000, sizes=(800,))
    wait_until(is_swept, 60, "the folders of no channel to be looked at")
    wanted = len(daemon.segments("engine")) + 8
    wait_until(lambda: len(daemon.segments("engine")) >= wanted, 60, "segments to come and go")
    sender.stop()
    assert daemon.counters("engine")["record_lost"] == 0


def test_folders_of_no_channel_that_somebody_holds(place):
    held = []
    for i in range(25):
        folder = place.folder / "log" / f"former{i}"
        folder.mkdir(parents=True)
        held.append(open(folder / f"former{i}-{0:020}-20250101T000000Z.avro.open", "w+b"))
        held[-1].write(b"x" * 5000)
        held[-1].flush()
        fcntl.fcntl(held[-1], 37, log_files.struct_flock(fcntl.F_WRLCK))  # F_OFD_SETLK, as a worker has it
    daemon, listen = two_channels(place)
    daemon.start()
    go_on_while_swept(place, daemon, listen,
                      lambda: any(children_of(pid) for pid in daemon.descendants()))  # the archive's
    assert all(file.readable() for file in held)


def test_who_may_read_a_recording_cannot_stop_it(place):
    """Locks on everything that another user can open, taken while no daemon runs."""
    if os.geteuid() != 0:
        skip("only root can become another user")
    daemon, listen = recorded(place, 100)
    daemon.kill_all()
    for path in (place.folder, daemon.log_dir, daemon.log_dir / "engine", *daemon.segments("engine", ".avro.open")):
        os.chmod(path, os.stat(path).st_mode | 0o555)
    ready, done = os.pipe(), os.pipe()
    reader = os.fork()
    if reader == 0:
        os.close(done[1])
        os.setgid(65534)
        os.setuid(65534)
        held = lock_all(daemon.log_dir)
        os.write(ready[1], bytes([len(held)]))
        os.read(done[0], 1)
        os._exit(0)
    place.on_exit(lambda: os.waitpid(reader, 0))
    place.on_exit(lambda: os.close(done[1]))
    assert os.read(ready[0], 1) > b"\2", "the folders and the segment"
    daemon.start()
    record_more(place, daemon, listen)
    daemon.stop()
    assert len(oracle.read_with_avro_c(place, daemon.segments("engine"))) == 200


def lock_all(log_dir):
    held = []
    for folder, _, names in os.walk(log_dir):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            try:
                held.append(os.open(path, os.O_RDONLY))
            except PermissionError:
                continue
            fcntl.flock(held[-1], fcntl.LOCK_EX)
            if not os.path.isdir(path):
                fcntl.lockf(held[-1], fcntl.LOCK_SH)
    return held
