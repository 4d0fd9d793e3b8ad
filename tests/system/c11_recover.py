# SPDX-License-Identifier: MIT
"""recover makes a sound file of whatever it is given: a page that the disk can't read costs that page, a hostile record
costs that record and nobody's memory, and the result never lies where the archive would take it for a segment."""

import fcntl
import json
import os
import signal
import struct

from lib import log_files, oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, skip, wait_until
from system.c10_log_header import SYNC, ctl, facts, schema_of

FS_IOC_FIEMAP, EXT4_IOC_MOVE_EXT = 0xC020660B, 0xC028660F
PAGE = 4096


def extents(file):
    """(offset in the file, offset on the device, length) of each."""
    answer = bytearray(struct.pack("QQIIII", 0, 1 << 62, 1, 0, 500, 0) + bytes(56 * 500))
    fcntl.ioctl(file, FS_IOC_FIEMAP, answer)
    count = struct.unpack_from("I", answer, 20)[0]
    return [struct.unpack_from("QQQ", answer, 32 + 56 * i) for i in range(count)]


class DiskWithABadPage:
    """A file system on a loop device. One page of a file is moved to the device's end, and that is taken away."""

    def __init__(self, place):
        place.private_mounts()
        self.place, self.where, self.image = place, place.folder / "disk", place.folder / "disk.image"
        self.where.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(16 << 20)
        if place.run("mkfs.ext4", "-q", "-m", "0", "-b", str(PAGE), self.image, expect=None).returncode:
            skip("no mkfs.ext4 here (Debian package e2fsprogs)")
        made = place.run("losetup", "-f", "--show", "--direct-io=on", self.image, expect=None)
        if made.returncode:
            skip(f"no loop device with direct I/O here: {made.stderr.strip()}")
        self.device = made.stdout.strip()
        place.on_exit(lambda: place.run("losetup", "-d", self.device, expect=None))
        self.mount()
        place.on_exit(lambda: place.unmount(self.where))

    def mount(self):
        self.place.run("mount", self.device, self.where)

    def write(self, name, content, bad_page):
        """The file, with this page unreadable from now on."""
        file = os.open(self.where / name, os.O_CREAT | os.O_RDWR)
        filler = os.open(self.where / "filler", os.O_CREAT | os.O_RDWR)
        os.write(file, content)
        os.fsync(file)
        try:
            while True:
                os.write(filler, b"z" * 65536)
        except OSError:
            pass
        os.fsync(filler)
        logical, physical, length = max(extents(filler), key=lambda extent: extent[1])
        last = (logical + length) // PAGE - 1
        fcntl.ioctl(file, EXT4_IOC_MOVE_EXT,
                    bytearray(struct.pack("IIQQQQ", 0, filler, bad_page, last, 1, 0)))
        os.fsync(file)
        moved = next(extent for extent in extents(file) if extent[0] == bad_page * PAGE)
        assert moved[1] >= physical and moved[2] == PAGE, extents(file)
        os.close(file)
        os.close(filler)
        self.place.run("umount", self.where)
        self.mount()
        os.truncate(self.image, moved[1])
        return self.where / name


@core
def test_a_page_that_cannot_be_read(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 4000, rate=20000, sizes=(200,)).wait()
    daemon.wait_drained("engine", 4000)
    daemon.stop()
    whole, = daemon.segments("engine")
    content = whole.read_bytes()
    everything = oracle.read_with_avro_c(place, [whole])
    bad = len(content) // 2 // PAGE
    file = DiskWithABadPage(place).write("bad.avro", content, bad)
    try:
        file.read_bytes()
        skip("this kernel's loop device reads zeros where its file has ended")
    except OSError:
        pass
    about, = facts(place, file, expect=1)
    assert about["unreadable_pages"] == 1 and about["faults"] > 0, about
    assert "the disk can't read it here" in ctl(place, "verify", file, expect=1).stdout
    read = ctl(place, "cat", file, "--json")
    seen = [json.loads(line)["seq"] for line in read.stdout.splitlines()]
    assert seen == sorted(set(seen)) and 4000 - PAGE // 200 <= len(seen) < 4000, len(seen)
    assert f"lost {4000 - len(seen)} datagrams" in read.stderr and "damaged" in read.stderr, read.stderr
    result = json.loads(ctl(place, "--json", "recover", file, "-o", place.folder).stdout)["files"][0]
    assert result["unreadable_pages"] == 1, result
    back = oracle.read_with_avro_c(place, [result["result"]])
    numbers = {record.seq for record in back}
    assert back == [record for record in everything if record.seq in numbers]
    # What lies before the page, and behind the block it is in.
    assert len(back) >= len(everything) - (PAGE + 65536 + 1000) // 200, f"{len(back)} of {len(everything)}"
    assert everything[0] in back and everything[-1] in back


@core
def test_the_result_never_lies_in_a_recording(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    daemon.ctl("rotate", "engine")
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 200)
    file = daemon.segments("engine")[0]
    before = sorted(file.parent.iterdir())
    for arguments in ([file], [file, "-o", file.parent], [file, "-o", file.parent / "engine-x.avro"]):
        result = ctl(place, "recover", *arguments, expect=1)
        assert "own folder" in result.stderr and "-o" in result.stderr, result.stderr
    assert sorted(file.parent.iterdir()) == before
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    ctl(place, "recover", "-o", elsewhere, *daemon.segments("engine"))
    assert len(list(elsewhere.iterdir())) == len(daemon.segments("engine"))
    daemon.stop()


@core
def test_what_is_missing_at_the_end_is_told(place):
    """By the header, which says how far the file went."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 2000, rate=20000, sizes=(200,)).wait()
    daemon.wait_drained("engine", 2000)
    daemon.ctl("rotate", "engine")
    Sender(place, listen, 10, name="more").wait()
    daemon.wait_drained("engine", 2010)
    daemon.stop()
    whole, after = daemon.segments("engine")
    content, folder = whole.read_bytes(), place.folder / "engine"
    folder.mkdir()
    half = folder / whole.name
    half.write_bytes(content[:len(content) // 2])
    (folder / after.name).write_bytes(after.read_bytes())
    first, second = facts(place, half, folder / after.name, expect=1)
    missing = first["losses"]["not_recorded"]
    assert missing["ranges"] == [[first["last_seq"] + 1, 1999]], missing
    assert not second["missing_since_previous_file"], second
    assert "missing, because not recorded or damaged: " in ctl(place, "verify", half, expect=1).stdout
    result = json.loads(ctl(place, "--json", "recover", half, "-o", place.folder).stdout)["files"][0]
    assert result["last_seq"] == first["last_seq"] and result["not_in_it"] == 1999 - first["last_seq"] > 0, result


def test_errors_name_what_they_are_about(place):
    empty, blank = place.folder / "empty.avro", place.folder / "engine-prepared-0123456789abcdef.avro.open"
    empty.write_bytes(b"no log")
    blank.write_bytes(bytes(1 << 20))
    said = ctl(place, "recover", place.folder / "absent.avro", expect=1).stderr
    assert said == f"holdfastctl: {place.folder}/absent.avro: it can't be opened: No such file or directory\n", said
    said = ctl(place, "recover", empty, expect=1).stderr
    assert said == f"holdfastctl: {empty}: there is no sound record in it\n", said
    said = ctl(place, "recover", "-o", place.folder / "absent" / "x", empty, expect=1).stderr
    assert f"({place.folder}/absent/x: No such file or directory)" in said, said
    assert "there is nothing in it" in ctl(place, "recover", blank).stdout
    assert json.loads(ctl(place, "--json", "recover", blank).stdout)["files"][0]["result"] is None
    assert sorted(path.name for path in place.folder.glob("*avro*")) == ["empty.avro", blank.name]


@core
def test_a_path_that_is_no_text(place):
    schema = schema_of(place)
    name = os.fsencode(place.folder) + b"/b\xffd.avro"
    with open(name, "wb") as file:
        file.write(log_files.header(schema, SYNC) + log_files.block([log_files.record(0)], SYNC))
    report = json.loads(ctl(place, "--json", "recover", os.fsdecode(name)).stdout)["files"][0]
    assert report["file"].endswith("/b\\xffd.avro") and report["result"].endswith("/b\\xffd.recovered.avro"), report
    about, = facts(place, os.fsdecode(name))
    assert about["file"] == report["file"], about


@core
def test_a_record_longer_than_any_can_be(place):
    """Numbers of ten bytes each make a record of 65,670 bytes, where 65,641 is the most: through recover and the archive."""
    schema = schema_of(place)
    payload = bytes(range(256)) * 255 + bytes(227)
    hostile = log_files.record(14, payload, pad=True)
    assert len(payload) == 65507 and len(hostile) == 65670, len(hostile)
    # A copy's block is closed at 65,536 bytes, and has room for one record more: it comes where the block is fullest.
    fill = [log_files.record(seq, bytes(5000)) for seq in range(13)]
    fill.append(log_files.record(13, bytes(65530 - sum(map(len, fill)) - len(log_files.record(13, bytes(200))) + 200)))
    assert sum(map(len, fill)) == 65530
    blocks = log_files.block(fill + [hostile], SYNC) + \
        log_files.block([log_files.record(seq) for seq in range(15, 20)], SYNC)
    file = place.folder / "hostile.avro"
    file.write_bytes(log_files.header(schema, SYNC) + blocks)
    about, = facts(place, file, expect=1)
    assert about["faults"] > 0 and about["first_fault"]["what"], about
    ctl(place, "recover", file)
    back = oracle.read_with_avro_c(place, [place.folder / "hostile.recovered.avro"])
    assert [record.seq for record in back] == [seq for seq in range(20) if seq != 14]
    # The same as a segment that a daemon finds.
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), log_dir=place.folder / "found")
    folder = daemon.log_dir / "engine"
    folder.mkdir(parents=True)
    (folder / "engine-00000000000000000000-20250101T000000Z.avro.open").write_bytes(
        file.read_bytes() + bytes(1 << 20))
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    mended = folder / "engine-00000000000000000000-20250101T000000Z.avro"
    assert oracle.read_with_avro_c(place, [mended]) == back
    assert mended.with_suffix(".avro.damaged").exists()
    daemon.stop()


@core
def test_a_copy_of_what_is_being_written_is_for_any_reader(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    sender = Sender(place, listen, 10**9, rate=2000, sizes=(100,))
    wait_until(lambda: daemon.status("engine")["counters"]["recorded"] > 1000, 20, "records in the open segment")
    segment, = [file for file in daemon.segments("engine", ".avro.open") if "prepared" not in file.name]
    copy = place.folder / "now.avro"
    ctl(place, "recover", "-o", copy, segment)
    records = oracle.read_with_python_avro([copy])
    assert len(records) > 1000 and oracle.read_with_avro_c(place, [copy]) == records
    oracle.assert_consecutive(records, first=0)
    about, = facts(place, copy)
    assert about["ok"] and about["totals"]["records"] == len(records), about
    kill(sender.process.pid, signal.SIGTERM)
    sender.wait()
    daemon.stop()


def hostile_blocks(first, end):
    return log_files.block([log_files.record(n, b"p" * 300) for n in range(first, end)], SYNC)


def claims_much(seq):
    """The head of a record that claims the longest payload, and is none."""
    return (log_files.varint(seq) + log_files.varint(log_files.NOON_US) + log_files.varint(0) + log_files.text("10.0.0.7:1")
            + log_files.varint(0) * 3 + log_files.varint(65507))


def test_a_file_made_to_be_read_for_ever(place):
    """What its reader may waste is used up; then comes a block whose header alone is damaged, with something sound behind."""
    data = (log_files.header(schema_of(place), SYNC) + hostile_blocks(0, 10)
            + (b"\xff" * 10 + claims_much(5000) + SYNC) * 300 + b"Z" * 66000 + SYNC + hostile_blocks(10, 12)
            + b"\xff" * 10 + log_files.record(12, b"x" * 50) + SYNC + hostile_blocks(13, 20) + bytes(65536))
    bad = place.folder / "bad.avro.open"
    bad.write_bytes(data)
    said = place.run("timeout", "20", place.program("holdfastctl"), "verify", bad, "--json", expect=1).stdout
    assert json.loads(said)["files"][0]["records"] >= 19, said


def test_what_lies_behind_a_wrong_length_in_an_open_block(place):
    """Nothing but the block's own records tells where they go on."""
    records = [log_files.record(n, b"p" * (n % 7 * 40)) for n in range(60)]
    bad, out = place.folder / "bad.avro.open", place.folder / "out.avro"
    body = bytearray(b"".join(records))
    body[sum(map(len, records[:21])) - 4 - 20 % 7 * 40 - 1] ^= 0x20  # the last byte of the length of number 20's payload
    bad.write_bytes(log_files.header(schema_of(place), SYNC) + log_files.varint(0, 5) * 2 + bytes(body) + bytes(65536))
    said = json.loads(place.run(place.program("holdfastctl"), "verify", bad, "--json", expect=1).stdout)["files"][0]
    assert said["records"] == 59 and said["faults"] == 1, said
    ctl(place, "recover", "-o", out, bad)
    assert [record.seq for record in oracle.read_with_avro_c(place, [out])] == [n for n in range(60) if n != 20]


def test_a_copy_of_a_full_block_costs_what_it_lies_on(place):
    """As a recorder under load writes them: 64 KiB each, all of one length."""
    each, count = 200, 14
    blocks = [hostile_blocks(n * each, n * each + each) for n in range(10, 10 + count)]
    lengths = {len(block) for block in blocks}
    assert len(lengths) == 1 and lengths.pop() > 65536
    blocks[2] = blocks[10]
    bad, out = place.folder / "bad.avro", place.folder / "out.avro"
    bad.write_bytes(log_files.header(schema_of(place), SYNC, first_seq=10 * each) + b"".join(blocks))
    ctl(place, "recover", "-o", out, bad)
    numbers = [record.seq for record in oracle.read_with_avro_c(place, [out])]
    assert len(numbers) == (count - 1) * each and numbers == sorted(set(numbers)), len(numbers)


def recorded_file(place, is_sealed):
    """The only file of a recording of 2,000, and what it is to be named."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    Sender(place, listen, 2000, rate=20000, sizes=(200,)).wait()
    daemon.wait_drained("engine", 2000)
    if is_sealed:
        daemon.stop()
        file, = daemon.segments("engine")
        return file.name, log_files.age(file.read_bytes())
    daemon.kill_all()
    file, = [file for file in daemon.segments("engine", ".avro.open") if "prepared" not in file.name]
    return file.name, file.read_bytes()


def goes_on_over_a_bad_page(place, is_sealed, where):
    """What the daemon finds in its folder at the next start has a page that the disk can't read. Returns the daemon, ended,
    the file's name, and the name that it has by then."""
    name, content = recorded_file(place, is_sealed)
    disk = DiskWithABadPage(place)
    folder = disk.where / "log" / "engine"
    folder.mkdir(parents=True)
    file = disk.write(f"log/engine/{name}", content, where(len(content.rstrip(b"\0"))))
    (disk.where / "filler").unlink()
    try:
        file.read_bytes()
        skip("this kernel's loop device reads zeros where its file has ended")
    except OSError:
        pass
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), name="second",
                    log_dir=disk.where / "log").start()
    sender = Sender(place, listen, 500, rate=5000, name="more", tag=2)
    sender.wait()
    daemon.wait_drained("engine", 500)
    assert oracle.assert_ledger(daemon.status("engine"))["recorded"] == 500
    assert daemon.call("check")["healthy"]
    daemon.stop()
    newest = daemon.segments("engine")[-1]
    records = oracle.read_with_avro_c(place, [newest])
    assert [record.payload for record in records] == oracle.read_datagrams(sender.record)[0]
    assert records[0].seq >= 2000, f"number {records[0].seq} was given before"
    assert name in daemon.log_text(), daemon.log_text()
    return daemon, name


@core
def test_an_unfinished_segment_with_a_page_that_cannot_be_read_stops_no_recording(place):
    """It is set aside under its own name, and `recover` finds what is sound in it."""
    daemon, name = goes_on_over_a_bad_page(place, False, lambda size: size // 2 // PAGE)
    kept, = daemon.segments("engine", ".avro.damaged")
    assert kept.name == name.replace(".avro.open", ".avro.damaged")
    result = json.loads(ctl(place, "--json", "recover", kept, "-o", place.folder).stdout)["files"][0]
    assert result["unreadable_pages"] == 1 and result["records"] > 1500, result


@core
def test_nor_does_the_newest_file_where_its_last_page_cannot_be_read(place):
    """One of an older version, whose header doesn't say how far it goes."""
    daemon, name = goes_on_over_a_bad_page(place, True, lambda size: (size - 1) // PAGE)
    assert name in [file.name for file in daemon.segments("engine")], "it stays as it is"
