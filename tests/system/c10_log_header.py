# SPDX-License-Identifier: MIT
"""A segment says in its header what it is part of and what it holds, and any Avro reader passes over that. verify holds
it against the records; files of an older version, without it, are read as ever."""

import json
import subprocess

from lib import log_files, oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, wait_until

SYNC = bytes(range(100, 116))


def schema_of(place):
    """As the programs write it: from a segment of theirs."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), name="schema").start()
    Sender(place, listen, 10).wait()
    daemon.wait_drained("engine", 10)
    daemon.stop()
    return log_files.read_header(daemon.segments("engine")[0].read_bytes())[0]["avro.schema"].value


def ctl(place, *arguments, expect=0):
    return place.run(place.program("holdfastctl"), *arguments, expect=expect)


def facts(place, *files, expect=0):
    return json.loads(ctl(place, "verify", *files, "--json", expect=expect).stdout)["files"]


def total(entries, key):
    return int(entries["holdfast." + key].value)


def receive_ns(record):
    return record.received_at * 1000 + record.received_ns


def judge_header(place, file, listen, latest):
    """Of one sealed segment; returns its recording and its latest time."""
    entries, _sync, _length = log_files.read_header(file.read_bytes())
    records = oracle.read_with_avro_c(place, [file])
    assert oracle.read_with_python_avro([file]) == records
    times = [receive_ns(record) for record in records]
    assert entries["holdfast.listen"].value.decode() == listen, entries
    assert total(entries, "last_seq") == records[-1].seq and total(entries, "records") == len(records), entries
    assert (total(entries, "first_time"), total(entries, "last_time")) == (min(times), max(times)), entries
    assert total(entries, "latest") == max(latest, *times), (entries, latest)
    data = file.read_bytes()
    sum_at, check_at = entries["holdfast.sum"].at, entries["holdfast.check"].at
    assert int(entries["holdfast.sum"].value, 16) == log_files.crc32c(data[check_at:sum_at])
    assert int(entries["holdfast.check"].value, 16) == log_files.crc32c(data[:check_at] + _sync)
    return entries["holdfast.log"].value, total(entries, "latest")


@core
def test_every_segment_of_a_recording_says_what_it_is(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    sent = 0
    for turn in range(4):
        Sender(place, listen, 500, rate=10000, sizes=(100,)).wait()
        sent += 500
        daemon.wait_drained("engine", 500 if turn == 3 else sent)
        if turn < 2:
            daemon.ctl("rotate", "engine")
        if turn == 2:
            still_open = daemon.segments("engine", ".avro.open")
            begun = [file for file in still_open if "prepared" not in file.name]
            assert log_files.read_header(begun[0].read_bytes())[0]["holdfast.sum"].value == b" " * 8
            daemon.stop()
            daemon.start()
    daemon.stop()
    files = daemon.segments("engine")
    assert len(files) == 4, files
    recordings, latest = set(), 0
    for file in files:
        recording, latest = judge_header(place, file, listen, latest)
        recordings.add(recording)
    assert len(recordings) == 1 and recordings != {b"0" * 32}, recordings
    for file, about in zip(files, facts(place, *files)):
        assert about["ok"] and about["log"] == next(iter(recordings)).decode() and about["listen"] == listen, about
        assert about["totals"]["records"] == about["records"] == 500, (file, about)
    assert "its header says the same" in ctl(place, "verify", files[0]).stdout


@core
def test_the_recording_stays_the_same_through_an_upgrade(place):
    """What the supervisor had prepared has no header yet, and its successor knows it by its descriptor only."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    sent = 0
    for _ in range(3):
        Sender(place, listen, 1000, rate=10000, sizes=(700,)).wait()  # more than half of a segment: the next is prepared
        sent += 1000
        daemon.wait_drained("engine", sent)
        wait_until(lambda: any("prepared" in file.name for file in daemon.segments("engine", ".avro.open")), 20,
                   "the next segment to be prepared")
        daemon.disconnect()
        daemon.ctl("upgrade")
        daemon.wait_state("engine", "RUNNING")
        daemon.ctl("rotate", "engine")
    daemon.stop()
    files = daemon.segments("engine")
    recordings = {log_files.read_header(file.read_bytes())[0]["holdfast.log"].value for file in files}
    assert len(files) >= 3 and len(recordings) == 1 and recordings != {b"0" * 32}, (files, recordings)
    assert all(about["ok"] and about["totals"] for about in facts(place, *files))


@core
def test_files_of_an_older_version(place):
    daemon_listen = place.ipv4()
    daemon = Daemon(place, channel("engine", daemon_listen, record={})).start()
    Sender(place, daemon_listen, 1000, rate=10000).wait()
    daemon.wait_drained("engine", 1000)
    daemon.stop()
    new, = daemon.segments("engine")
    old = place.folder / "old.avro"
    old.write_bytes(log_files.age(new.read_bytes()))
    records = oracle.read_with_avro_c(place, [new])
    assert oracle.read_with_avro_c(place, [old]) == records == oracle.read_with_python_avro([old])
    about, = facts(place, old)
    assert about["ok"] and about["totals"] is None and about["log"] is None and about["records"] == 1000, about
    ctl(place, "recover", old)
    mended = place.folder / "old.recovered.avro"
    assert oracle.read_with_avro_c(place, [mended]) == records
    about, = facts(place, mended)
    assert about["ok"] and about["totals"]["records"] == 1000, about


@core
def test_a_header_that_does_not_tell_the_truth(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    daemon.stop()
    data = daemon.segments("engine")[0].read_bytes()
    entries = log_files.read_header(data)[0]
    file = place.folder / "lie.avro"
    for key in "last_seq", "records", "first_time", "last_time", "latest":
        value = total(entries, key) + (-1 if key == "latest" else 1)
        file.write_bytes(log_files.with_entry(data, "holdfast." + key, f"{value:020}".encode()))
        about, = facts(place, file, expect=1)
        assert not about["ok"] and about["totals_fault"] and about["faults"] == 0, (key, about)
        assert "FAULT" in ctl(place, "verify", file, expect=1).stdout
    # Without the sum to match, nobody claims anything; and somebody wrote a byte that isn't as it was written.
    at = entries["holdfast.records"].at
    file.write_bytes(data[:at] + b"%020d" % 7 + data[at + 20:])
    about, = facts(place, file, expect=1)
    assert about["totals"] is None and "damaged" in about["totals_fault"] and about["records"] == 100, about
    # What was written at begin is vouched for: a segment is never taken for one of other numbers.
    at = entries["holdfast.first_seq"].at
    file.write_bytes(data[:at] + b"%020d" % 7 + data[at + 20:])
    about, = facts(place, file, expect=1)
    assert about["records"] == 100 and "holdfast.check" in about["first_fault"]["what"], about


def recording(place, count, name="one", **more):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), name=name, log_dir=place.folder / name).start()
    Sender(place, listen, count, name="s" + name, **more).wait()
    daemon.wait_drained("engine", count)
    daemon.stop()
    return daemon.segments("engine")


def test_whatever_bit_is_wrong_is_told(place):
    file, = recording(place, 12, sizes=(30,))
    data = file.read_bytes()
    folder = place.folder / "bits"
    folder.mkdir()
    ok = []
    flips = [(at, bit) for at in range(len(data)) for bit in (0, 7)]
    for begin in range(0, len(flips), 500):
        part = {folder / f"{at}.{bit}.avro": (at, bit) for at, bit in flips[begin:begin + 500]}
        for path, (at, bit) in part.items():
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:])
        ok += [about["file"] for about in facts(place, *part, expect=None) if about["ok"]]
        for path in part:
            path.unlink()
    assert not ok, ok


def test_recordings_of_two_machines_do_not_overlap(place):
    """Their channels have one name, and each begins at 0."""
    files = recording(place, 100, "one") + recording(place, 100, "two")
    assert all(about["ok"] and not about["overlaps_previous_file"] for about in facts(place, *files))


def test_text_in_a_header_is_harmless_on_a_terminal(place):
    file, = recording(place, 10)
    entries, sync, _ = log_files.read_header(file.read_bytes())
    length = len(entries["holdfast.listen"].value)
    data = log_files.with_entry(file.read_bytes(), "holdfast.listen", (b"\x1b[2J\xff" + b"x" * length)[:length])
    check = log_files.read_header(data)[0]["holdfast.check"].at
    data = log_files.with_entry(data, "holdfast.check", b"%08x" % log_files.crc32c(data[:check] + sync))
    file.write_bytes(data)
    said = subprocess.run([place.program("holdfastctl"), "verify", str(file)], capture_output=True, check=True).stdout
    assert b"\x1b" not in said and b"ok" in said, said
    about, = facts(place, file)
    assert about["listen"].startswith("\\x1b[2J\\xff"), about


def test_a_folder_without_log_files(place):
    """The answer is no, as for a file that is not there; beside files it is no fault."""
    folder = place.folder / "engine"
    folder.mkdir()
    (folder / "notes.txt").write_bytes(b"x")
    assert "without log files" in ctl(place, "verify", folder, expect=1).stdout
    report = json.loads(ctl(place, "--json", "verify", folder, expect=1).stdout)
    assert report == {"ok": False, "files": [
        {"file": str(folder), "ok": False, "error": "a folder without log files in it"}]}
    assert "folder" in ctl(place, "recover", folder, expect=1).stderr
    report = json.loads(ctl(place, "--json", "recover", folder, expect=1).stdout)
    assert not report["ok"] and "folder" in report["files"][0]["error"]
    assert list(place.folder.glob("*recovered*")) == []
    (folder / "engine-prepared-0123456789abcdef.avro.open").write_bytes(bytes(1 << 20))
    ctl(place, "verify", folder)


def test_a_folder_is_looked_at_while_segments_come_and_go(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    sender = Sender(place, listen, 10**9, rate=10000, sizes=(800,))
    rounds = 0
    while len(daemon.segments("engine")) < 80:
        ctl(place, "verify", daemon.log_dir / "engine")
        rounds += 1
    sender.stop()
    daemon.stop()
    assert rounds > 3
    assert len(facts(place, daemon.log_dir / "engine")) == len(daemon.segments("engine"))


@core
def test_times_without_a_receiver_are_told(place):
    schema = schema_of(place)
    first, second = place.folder / "1.avro", place.folder / "2.avro"
    noon = log_files.NOON_US
    minute = 60 * 1000000
    first.write_bytes(log_files.header(schema, SYNC) + log_files.block(
        [log_files.record(0, time_us=noon, flags=2), log_files.record(1, time_us=noon + minute),
         log_files.record(2, time_us=noon + 5 * minute, flags=3)], SYNC))
    second.write_bytes(log_files.header(schema, SYNC, first_seq=3) + log_files.block(
        [log_files.record(3, time_us=noon + 9 * minute, flags=2)], SYNC))
    about = facts(place, first, second)
    assert all(file["ok"] for file in about)
    assert about[0]["losses"]["not_covered"] == {"count": 2, "before": [
        {"seq": 0, "from_us": None, "until_us": noon},
        {"seq": 2, "from_us": noon + minute, "until_us": noon + 5 * minute}]}, about
    assert about[0]["losses"]["quarantined"]["ranges"] == [[2, 2]], about
    assert about[1]["losses"]["not_covered"]["before"] == [
        {"seq": 3, "from_us": noon + 5 * minute, "until_us": noon + 9 * minute}], about
    told = ctl(place, "verify", first).stdout
    assert "nobody was receiving: before 2 records" in told and "before seq 2: 2025-10-09T08:54:20Z to " in told, told


def test_what_the_kernel_dropped_is_told_as_so_many_at_least(place):
    """It counts a joined run as one, and who reads the file doesn't know whether there were any."""
    file = place.folder / "1.avro"
    file.write_bytes(log_files.header(schema_of(place), SYNC) + log_files.block(
        [log_files.record(seq, lost=7 * (seq == 3)) for seq in range(5)], SYNC))
    about, = facts(place, file)
    assert about["losses"]["kernel_dropped"] == 7 and about["losses"]["kernel_dropped_before"]["ranges"] == [[3, 3]], about
    told = ctl(place, "verify", file).stdout
    assert "dropped by the kernel, 7 datagrams, or more with receive_offload; just before these records: " in told, told


@core
def test_verify_takes_what_a_shell_gives_it(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    daemon.ctl("rotate", "engine")
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 200)
    daemon.stop()
    folder = daemon.segments("engine")[0].parent
    (folder / "engine-prepared-0123456789abcdef.avro.open").write_bytes(bytes(1 << 20))
    (folder / "elsewhere").mkdir()
    about = facts(place, *sorted(folder.glob("[!.]*")))
    assert len(about) == 3 and all(file["ok"] for file in about), about
    assert [file["begun"] for file in about] == [True, True, False], about
    assert facts(place, folder) == about
    assert "prepared and not begun" in ctl(place, "verify", folder).stdout
    # Options may come last; one that isn't known is not a file.
    file = daemon.segments("engine")[0]
    assert "--jsn" in ctl(place, "verify", file, "--jsn", expect=2).stderr
    ctl(place, "recover", file, "-o", place.folder / "copy.avro")
    assert oracle.read_with_avro_c(place, [place.folder / "copy.avro"]) == oracle.read_with_avro_c(place, [file])
