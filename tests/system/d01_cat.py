# SPDX-License-Identifier: MIT
"""What was recorded, read with holdfastctl: payloads of every kind come out of every format as they were sent, whatever is
between; losses are told; and every word that can't be meant says what could."""

import base64
import csv
import io
import json
import os
import pathlib
import re
import shutil
import time

from lib import log_files
from lib.holdfast import Daemon, Sender, channel, send_all
from lib.place import core, wait_until

# With zeros, with what is no UTF-8, with what a terminal would obey, none at all, and as much as there can be.
PAYLOADS = [b"plain text", b"", b"\0", b"a\0b\0", b"\xff\xfe\xfd", b"\x1b[2J\x1b]0;title\x07", b"$GPGGA,1*00\r\n",
            "grüße € 🚀".encode(), b"\xc0\xaf", b"tab\tand\\back", bytes(range(256)) * 3, b'quote",comma\r\n',
            b"\xe2\x80\xae turned", os.urandom(1400), bytes(65507), os.urandom(65507)]


def record(place, payloads=None, **settings):
    """A recording of these payloads, of a daemon that has ended. The folder of its channel, and the sender's address."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, **settings)).start()
    source = send_all(listen, payloads or PAYLOADS)
    daemon.wait_drained("engine", len(payloads or PAYLOADS))
    daemon.stop()
    return daemon.log_dir / "engine", source


def ctl(place, *arguments, expect=0, **options):
    return place.run(place.program("holdfastctl"), *arguments, expect=expect, **options)


def ctl_bytes(place, *arguments):
    import subprocess  # pylint: disable=import-outside-toplevel
    result = subprocess.run([place.program("holdfastctl"), *map(str, arguments)], capture_output=True, check=False,
                            timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@core
def test_every_format_gives_every_payload_back(place):
    folder, source = record(place, max_datagram="65507")
    lines = [json.loads(line) for line in ctl_bytes(place, "cat", folder, "--json").splitlines()]
    assert [base64.b64decode(line["payload_base64"]) for line in lines] == PAYLOADS
    assert [line["seq"] for line in lines] == list(range(len(PAYLOADS)))
    assert all(line["source"] == source and line["channel"] == "engine" for line in lines)
    assert [line["length"] for line in lines] == list(map(len, PAYLOADS))
    texts = {line["seq"]: line["payload_text"] for line in lines if "payload_text" in line}
    assert texts == {number: PAYLOADS[number].decode() for number in (0, 1, 6, 7, 9, 11)}, texts

    rows = list(csv.reader(io.StringIO(ctl_bytes(place, "cat", folder, "--output", "csv").decode(), newline="")))
    head, rows = rows[0], [dict(zip(rows[0], row)) for row in rows[1:]]
    assert head[0] == "channel" and [bytes.fromhex(row["payload_hex"]) for row in rows] == PAYLOADS
    assert [(row["time"], int(row["time_ns"])) for row in rows] == [(line["time"], line["time_ns"]) for line in lines]

    assert ctl_bytes(place, "cat", folder, "--output", "raw") == b"".join(PAYLOADS)

    dumped, whole = [], ctl_bytes(place, "cat", folder, "--output", "hex").decode()
    for line in whole.splitlines():
        if re.match(r"[0-9a-f]{8}  ", line):
            dumped[-1] += bytes.fromhex(line[10:59].replace(" ", ""))
        else:
            dumped.append(b"")
    assert dumped == PAYLOADS

    short = ctl_bytes(place, "cat", folder)
    assert b"\x1b" not in short and b"\0" not in short and short.count(b"\n") == len(PAYLOADS)
    shown = [line.partition(f"{source} {len(payload)}".encode())[2].strip()
             for line, payload in zip(short.splitlines(), PAYLOADS)]
    for line, payload in zip(shown, PAYLOADS):
        if line.startswith(b"0x"):
            assert bytes.fromhex(line[2:].decode()) == payload
        else:
            assert line.replace(b"\\t", b"\t").replace(b"\\r", b"\r").replace(b"\\n", b"\n").replace(
                b"\\\\", b"\\") == payload.strip(b" "), (line, payload)


def numbers(place, *arguments):
    return [json.loads(line)["seq"] for line in ctl(place, "cat", "--json", *arguments).stdout.splitlines()]


@core
def test_ranges_and_senders(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    first = send_all(listen, [b"%d" % number for number in range(10)])
    daemon.wait_drained("engine", 10)
    between = time.time_ns()
    second = send_all(listen, [b"%d" % number for number in range(10, 20)])
    daemon.wait_drained("engine", 20)
    daemon.stop()
    folder = daemon.log_dir / "engine"
    every = list(range(20))
    assert numbers(place, folder) == every
    assert numbers(place, daemon.log_dir) == every, "a log_dir is taken, too"
    assert numbers(place, *daemon.segments("engine")) == every
    assert numbers(place, folder, "--from", "seq:5", "--to", "seq:7") == [5, 6, 7]
    assert numbers(place, folder, "--from", "first", "--until", "seq:0") == [0]
    assert numbers(place, folder, "-n", "3", "--from", "seq:4") == [4, 5, 6]
    assert numbers(place, folder, "-n", "0") == []
    moment = f"@{between // 10**9}.{between % 10**9:09}"
    assert numbers(place, folder, "--from", moment) == every[10:]
    assert numbers(place, folder, "--to", moment) == every[:10]
    assert numbers(place, folder, "--from", "-1h") == every
    assert numbers(place, folder, "--from", "tomorrow") == []
    assert numbers(place, folder, "--source", first) == every[:10]
    assert numbers(place, folder, "--source", second) == every[10:]
    assert numbers(place, folder, "--source", first.rpartition(":")[0]) == every
    assert numbers(place, folder, "--source", "10.9.9.9") == []
    for nothing in (["--from", "seq:20"], ["--from", "tomorrow"], ["--source", "10.9.9.9"]):
        assert "it has the numbers 0 to 19" in ctl(place, "cat", folder, *nothing).stderr, nothing


@core
def test_wrong_words_say_what_would_be_right(place):
    folder, _ = record(place, [b"x"])
    for line, expected in (
            (["--from", "seq:x"], "seq:1234"), (["--from", "12"], "@12"), (["--from", "gestern"], "yesterday"),
            (["--to", "2026-02-30"], "28 days"), (["--to", "seq:1", "--until", "seq:2"], "twice"),
            (["--from", "seq:2", "--to", "seq:1"], "ends before it begins"), (["--to", "first"], "for --from"),
            (["--from", "12:00", "--to", "12:00"], "ends before it begins"),
            (["--source", "engine.example"], "10.0.0.7:50123"), (["--output", "xml"], "short, json, csv"),
            (["--count", "many"], "whole number"), (["--from", "new"], "-f"), (["-f"], "can't be followed"),
            (["--position", "mine"], "files have no positions"), (["--position", "a/b"], "letters"),
            (["--rate", "2"], "no option of cat"), (["--json", "--output", "csv"], "two formats")):
        result = ctl(place, "cat", folder, *line, expect=2)
        assert expected in result.stderr and not result.stdout, (line, result.stderr)
    nothing = place.folder / "nothing"
    nothing.mkdir()
    assert ctl(place, "cat", f"{nothing}/", expect=1).stderr.count("no file with a log file's name") == 1
    assert "No such file" in ctl(place, "cat", "./absent.avro", expect=1).stderr
    (place.folder / "else.avro").write_bytes(b"something else")
    assert "else.avro" in ctl(place, "cat", place.folder / "else.avro", expect=1).stderr
    nowhere = place.folder / "nowhere.sock"
    result = ctl(place, "cat", "engine", "--read-socket", nowhere, expect=3)
    assert str(nowhere) in result.stderr and "without it" in result.stderr, result.stderr
    result = ctl(place, "--socket", nowhere, "cat", "engine", expect=3)
    assert f"no holdfastd answers at {nowhere}" in result.stderr, "it is what was named"
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), head="read { enabled = false }").start()
    assert f"{daemon.socket} has no socket for readers" in daemon.ctl("cat", "engine", expect=3).stderr
    daemon.stop()


def sound_segment(folder):
    """Its path and its bytes; the archive has taken no care of what tests do to it."""
    path = next(pathlib.Path(folder).glob("*.avro"))
    return path, bytearray(path.read_bytes())


@core
def test_what_is_lost_is_told(place):
    folder, _ = record(place, [b"number %d, and what belongs to it" % number for number in range(100)])
    path, data = sound_segment(folder)
    at = data.index(b"number 50,")
    data[at] ^= 1
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / path.name).write_bytes(data)
    result = ctl(place, "cat", elsewhere, "--json")
    seen = [json.loads(line)["seq"] for line in result.stdout.splitlines()]
    assert seen == [number for number in range(100) if number != 50]
    assert "lost 1 datagram from number 50: damaged" in result.stderr
    strict = ctl(place, "cat", elsewhere, "--json", "--strict", expect=1)
    assert [json.loads(line)["seq"] for line in strict.stdout.splitlines()] == list(range(50))
    assert "number 50" in strict.stderr
    assert ctl(place, "cat", elsewhere, "--strict", "--to", "seq:49").stderr == ""
    info = json.loads(ctl(place, "info", elsewhere, "--json").stdout)["channels"][0]
    assert info["records"] == 99 and info["lost"]["damaged"] == {"count": 1, "range_count": 1, "ranges": [[50, 50]]}
    assert "damaged" in ctl(place, "info", elsewhere).stdout


def test_an_unfinished_file_is_read_as_far_as_it_goes(place):
    folder, _ = record(place, [b"number %d" % number for number in range(50)])
    path, data = sound_segment(folder)
    unfinished = place.folder / "unfinished"
    unfinished.mkdir()
    # As a power cut leaves it: the last record in parts, then zeros.
    (unfinished / (path.name + ".open")).write_bytes(data[:data.index(b"number 49")] + bytes(100000))
    assert numbers(place, unfinished) == list(range(49))
    log = json.loads(ctl(place, "logs", unfinished, "--json").stdout)["logs"]
    assert len(log) == 1 and log[0]["open"], log


def test_what_others_wrote_is_harmless(place):
    """Numbers of every size, a source that is none, times that nobody had: of a file that only looks like ours."""
    sync = os.urandom(16)
    folder, _ = record(place, [b"x"])
    schema = log_files.read_header(sound_segment(folder)[1])[0]["avro.schema"].value.decode()
    records = [log_files.record(0, b"\x1b[31m", time_us=-5), log_files.record(1, cut=70000, lost=2**31 - 1),
               log_files.record(2, time_us=2**62, flags=255)]
    name = "engine-00000000000000000000-20251009T085320Z.avro"
    odd = place.folder / "odd"
    odd.mkdir()
    (odd / name).write_bytes(log_files.header(schema, sync) + log_files.block(records, sync))
    for form in ("short", "json", "csv", "hex"):
        result = ctl(place, "cat", odd, "--output", form)
        assert "\x1b" not in result.stdout
    lines = [json.loads(line) for line in ctl(place, "cat", odd, "--json").stdout.splitlines()]
    assert [line["seq"] for line in lines] == [0, 1, 2], lines
    ctl(place, "info", odd)
    ctl(place, "logs", odd)


def test_publishers_are_told_apart(place):
    """Of a channel that programs of this machine write into: who wrote is in every format, and can be asked for."""
    sync = os.urandom(16)
    folder, _ = record(place, [b"x"])
    schema = log_files.read_header(sound_segment(folder)[1])[0]["avro.schema"].value.decode()
    sources = ["local:10/7/a", "local:10/70/a", "local:1000/7/a", "local:10/7/fourteen-bytes", 'local:10/7/a,"b"', "10.0.0.7:10"]
    records = [log_files.record(number, source=source.encode()) for number, source in enumerate(sources)]
    flight = place.folder / "flight"
    flight.mkdir()
    (flight / "engine-00000000000000000000-20251009T085320Z.avro").write_bytes(
        log_files.header(schema, sync) + log_files.block(records, sync))
    lines = [json.loads(line) for line in ctl(place, "cat", flight, "--json").stdout.splitlines()]
    assert [line["source"] for line in lines] == sources
    rows = list(csv.DictReader(io.StringIO(ctl(place, "cat", flight, "--output", "csv").stdout, newline="")))
    assert [row["source"] for row in rows] == sources
    for source, expected in (("local:10", [0, 1, 3, 4]), ("local:10/7", [0, 3, 4]), ("local:10/7/a", [0]),
                             ("local:1000/7/a", [2]), ("local:10/7/fourteen-bytes", [3]), ("local:10/7/fourteen-bytes2", [3]),
                             ("local:1", []), ("10.0.0.7", [5])):
        assert numbers(place, flight, "--source", source) == expected, source
    for wrong in ("local:", "local:10/", "local:x", "local:10/7/", "local:10/7/a/b"):
        assert "local:UID" in ctl(place, "cat", flight, "--source", wrong, expect=2).stderr
    info = json.loads(ctl(place, "info", flight, "--json").stdout)["channels"][0]
    assert sorted(each["source"] for each in info["sources"]) == sorted(sources), info
    ctl(place, "export", flight, "--format", "pcapng", "-o", place.folder / "flight.pcapng")
    assert b"local:10/7/fourteen-bytes" in (place.folder / "flight.pcapng").read_bytes()
    ctl(place, "export", flight, "--format", "avro", "-o", place.folder / "again.avro")
    again = [json.loads(line) for line in ctl(place, "cat", place.folder / "again.avro", "--json").stdout.splitlines()]
    assert [line["source"] for line in again] == sources


def test_whoever_has_read_enough_ends_it(place):
    folder, _ = record(place, [b"line %d\n" % number for number in range(5000)])
    import subprocess  # pylint: disable=import-outside-toplevel
    with subprocess.Popen([place.program("holdfastctl"), "cat", str(folder)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"", "a broken pipe is no news"
        process.wait(20)
    with open("/dev/full", "wb") as full:
        for verb in ("info", "logs"):
            result = subprocess.run([place.program("holdfastctl"), verb, str(folder)], stdout=full, stderr=subprocess.PIPE,
                                    check=False)
            assert result.returncode == 1 and b"could not be written: No space left on device" in result.stderr, result


@core
def test_info_and_logs_count_what_is_there(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    Sender(place, listen, 3000, sizes=(1000,), rate=20000).wait()
    source = send_all(listen, [b"one more"])
    daemon.wait_drained("engine", 3001)
    daemon.stop()
    folder = daemon.log_dir / "engine"
    info = json.loads(ctl(place, "info", folder, "--json").stdout)["channels"][0]
    assert (info["records"], info["first_seq"], info["last_seq"]) == (3001, 0, 3000), info
    assert info["payload_bytes"] == 3000 * 1000 + 8 and info["listen"] == listen and info["complete"]
    assert info["source_count"] == 2 and sum(each["datagrams"] for each in info["sources"]) == 3001
    assert info["sources"][1]["source"] == source and info["sources"][1]["datagrams"] == 1
    assert all(info["lost"][why]["count"] == 0 for why in ("expired", "lapped", "unrecorded", "damaged"))
    human = ctl(place, "info", folder).stdout
    assert "3,001" in human and source in human and "missing     none" in human, human
    logs = json.loads(ctl(place, "logs", folder, "--json").stdout)["logs"]
    assert len(logs) == len(daemon.segments("engine")) > 1
    assert sum(log["records"] for log in logs) == 3001 and not any(log["open"] for log in logs)
    assert [log["first_seq"] for log in logs[1:]] == [log["last_seq"] + 1 for log in logs[:-1]]
    assert logs[0]["name"] in ctl(place, "logs", folder).stdout
    shutil.rmtree(folder)


def test_two_recordings_are_one_in_time(place):
    listens = [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], record={}), channel("gps", listens[1], record={})).start()
    for number in range(20):
        send_all(listens[number % 2], [b"%d" % number])
        wait_until(lambda number=number: sum(daemon.counters(name)["received"] for name in ("engine", "gps")) > number,
                   20, "it to be received")
    daemon.stop()
    lines = [json.loads(line) for line in ctl(place, "cat", daemon.log_dir, "--json").stdout.splitlines()]
    assert [line["payload_text"] for line in lines] == [str(number) for number in range(20)]
    assert {line["channel"] for line in lines} == {"engine", "gps"}
    assert " gps #0 " in ctl(place, "cat", daemon.log_dir).stdout
