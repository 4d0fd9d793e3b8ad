# SPDX-License-Identifier: MIT
"""What was recorded, exported: other programs find in the file what was sent, no more and no less; and a file that isn't
whole never bears the name that was asked for."""

import base64
import csv
import json
import os
import shutil
import signal
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel, send_all
from lib.place import core, skip, wait_until

PAYLOADS = [b"plain text", b"", b"\0", b"a\0b\0", b"\xff\xfe\xfd", b"line\r\n", bytes(range(256)) * 3, os.urandom(1400),
            bytes(65507), os.urandom(65507)]
FIELDS = ("frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_name", "ip.src", "ip.dst", "ipv6.src",
          "ipv6.dst", "udp.srcport", "udp.dstport", "udp.length", "ip.checksum.status", "udp.checksum.status",
          "udp.payload")
GOOD = "1"  # a checksum's status


def ctl(place, *arguments, expect=0, **options):
    return place.run(place.program("holdfastctl"), *arguments, expect=expect, **options)


def record(place, listen, payloads, **settings):
    """A recording of these, of a daemon that has ended."""
    daemon = Daemon(place, channel("engine", listen, record={}, **settings)).start()
    port = int(send_all(listen, payloads).rpartition(":")[2])
    daemon.wait_drained("engine", len(payloads))
    daemon.stop()
    return daemon.log_dir / "engine", port


def records(place, folder, *arguments):
    return [json.loads(line) for line in ctl(place, "cat", folder, "--json", *arguments).stdout.splitlines()]


def read_with_tshark(path):
    """Each packet's fields, by their names."""
    if not shutil.which("tshark"):
        skip("tshark is not installed")
    command = ["tshark", "-r", str(path), "-n", "-T", "fields", "-E", "separator=/t", "-E", "occurrence=f", "-o",
               "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    for field in FIELDS:
        command += ["-e", field]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    complaints = [line for line in result.stderr.splitlines() if line and "Running as user" not in line]
    assert result.returncode == 0 and not complaints, result.stderr
    return [dict(zip(FIELDS, line.split("\t"))) for line in result.stdout.splitlines()]


def split(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]").partition("%")[0], port


def compare_with_tshark(path, lines, listen):
    """Every packet against every record."""
    packets = read_with_tshark(path)
    assert len(packets) == len(lines)
    for packet, line in zip(packets, lines):
        version = "ipv6" if line["source"].startswith("[") else "ip"
        headers = 48 if version == "ipv6" else 28
        host, port = split(line["source"])
        assert (packet[f"{version}.src"], packet["udp.srcport"]) == (host, port), packet
        assert (packet[f"{version}.dst"], packet["udp.dstport"]) == split(listen), packet
        seconds, _, nanoseconds = packet["frame.time_epoch"].partition(".")
        assert int(seconds) * 10**9 + int(nanoseconds) == line["time_ns"], packet
        whole = line["length"] + line["cut"]
        assert int(packet["udp.length"]) == 8 + whole and int(packet["frame.len"]) == headers + whole, packet
        assert int(packet["frame.cap_len"]) == headers + line["length"], packet
        assert packet["frame.interface_name"] == "engine", packet
        if version == "ip":
            assert packet["ip.checksum.status"] == GOOD, packet
        if not line["cut"]:
            assert packet["udp.checksum.status"] == GOOD, packet
            assert bytes.fromhex(packet["udp.payload"]) == base64.b64decode(line["payload_base64"])


@core
def test_text_and_avro_hold_every_payload(place):
    folder, _ = record(place, place.ipv4(), PAYLOADS, max_datagram="65507")
    lines = records(place, folder)

    result = ctl(place, "export", folder, "--format", "json", "-o", place.folder / "all.json")
    assert f"{len(PAYLOADS)} datagrams" in result.stdout and "read again" in result.stdout
    assert [json.loads(line) for line in (place.folder / "all.json").read_text().splitlines()] == lines

    ctl(place, "export", folder, "--format", "csv", "-o", place.folder / "all.csv")
    with open(place.folder / "all.csv", newline="", encoding="utf-8") as file:
        assert [bytes.fromhex(row["payload_hex"]) for row in csv.DictReader(file)] == PAYLOADS

    report = json.loads(ctl(place, "export", folder, "--format", "avro", "-o", place.folder / "all.avro", "--from",
                            "seq:1", "--to", f"seq:{len(PAYLOADS) - 2}", "--json").stdout)
    assert report["records"] == len(PAYLOADS) - 2 and report["lost"] == 0, report
    for read in (oracle.read_with_avro_c(place, [place.folder / "all.avro"]),
                 oracle.read_one_with_python_avro(place.folder / "all.avro")):
        assert [entry.payload for entry in read] == PAYLOADS[1:-1]
        assert [entry.seq for entry in read] == list(range(1, len(PAYLOADS) - 1))
        assert [entry.received_at * 1000 + entry.received_ns for entry in read] == \
            [line["time_ns"] for line in lines[1:-1]]
        assert {entry.source for entry in read} == {lines[0]["source"]}
    verified = json.loads(ctl(place, "verify", place.folder / "all.avro", "--json").stdout)["files"][0]
    assert verified["ok"] and verified["totals"]["records"] == len(PAYLOADS) - 2, verified
    assert records(place, place.folder / "all.avro") == lines[1:-1], "it is a recording itself"
    assert not list(place.folder.glob("*.partial")), "what is done leaves nothing behind"


@core
def test_packets_of_ipv4(place):
    listen = place.ipv4()
    folder, _ = record(place, listen, PAYLOADS, max_datagram="65507")
    ctl(place, "export", folder, "--format", "pcapng", "-o", place.folder / "all.pcapng")
    compare_with_tshark(place.folder / "all.pcapng", records(place, folder), listen)


def test_packets_of_ipv6(place):
    listen = place.ipv6()
    folder, _ = record(place, listen, PAYLOADS, max_datagram="65507")
    ctl(place, "export", folder, "--format", "pcapng", "-o", place.folder / "all.pcapng")
    compare_with_tshark(place.folder / "all.pcapng", records(place, folder), listen)


def test_packets_that_were_cut(place):
    for number, listen in enumerate((place.ipv4(), place.ipv6())):
        daemon = Daemon(place, channel("engine", listen, record={}, max_datagram="512"), name=f"cut{number}",
                        log_dir=str(place.folder / f"cut{number}.recording")).start()
        send_all(listen, [b"x" * 100, os.urandom(513), os.urandom(2000)])
        daemon.wait_drained("engine", 3)
        daemon.stop()
        path = place.folder / f"cut{number}.pcapng"
        ctl(place, "export", daemon.log_dir, "--format", "pcapng", "-o", path)
        lines = records(place, daemon.log_dir)
        assert [line["cut"] for line in lines] == [0, 1, 1488]
        compare_with_tshark(path, lines, listen)


def test_packets_of_multicast(place):
    place.private_network()
    listen = place.group()
    daemon = Daemon(place, channel("engine", listen, record={}, interface="lo")).start()
    Sender(place, listen, 50).wait()
    daemon.wait_drained("engine", 50)
    daemon.stop()
    ctl(place, "export", daemon.log_dir, "--format", "pcapng", "-o", place.folder / "all.pcapng")
    compare_with_tshark(place.folder / "all.pcapng", records(place, daemon.log_dir), listen)


def test_what_is_lost_is_counted_in_the_packet_behind_it(place):
    folder, _ = record(place, place.ipv4(), [b"number %d, and what belongs to it" % number for number in range(100)])
    path = next(folder.glob("*.avro"))
    data = bytearray(path.read_bytes())
    for number in (50, 51):
        data[data.index(b"number %d," % number)] ^= 1
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / path.name).write_bytes(data)
    target = place.folder / "all.pcapng"
    result = ctl(place, "export", elsewhere, "--format", "pcapng", "-o", target)
    assert "from number 50: damaged" in result.stderr and "98 datagrams" in result.stdout
    ctl(place, "export", elsewhere, "--format", "pcapng", "-o", place.folder / "strict.pcapng", "--strict", expect=1)
    assert not list(place.folder.glob("strict*")), "what is not whole has no name"
    # epb_dropcount: code 4, 8 bytes
    assert (4).to_bytes(2, "little") + (8).to_bytes(2, "little") + (2).to_bytes(8, "little") in target.read_bytes()
    assert len(read_with_tshark(target)) == 98


@core
def test_no_file_is_overwritten_and_none_is_left_unfinished(place):
    folder, _ = record(place, place.ipv4(), [b"one", b"two"])
    target = place.folder / "out.csv"
    target.write_text("mine")
    arguments = ["export", folder, "--format", "csv", "-o", target]
    assert "--force" in ctl(place, *arguments, expect=1).stderr and target.read_text() == "mine"
    ctl(place, *arguments, "--force")
    assert target.read_text().count("\n") == 3
    before = target.read_bytes()
    ctl(place, *arguments, "--force", "--from", "gestern", expect=2)
    assert target.read_bytes() == before
    assert "segment" in ctl(place, "export", folder, "--format", "avro", "-o",
                            folder / "engine-00000000000000000000-20251009T085320Z.avro", expect=1).stderr
    empty = ctl(place, "export", folder, "--format", "avro", "-o", place.folder / "none.avro", "--from", "seq:9",
                expect=1)
    assert "no datagrams in this range" in empty.stderr
    nothing = ctl(place, "export", folder, "--format", "csv", "-o", "-", "--from", "seq:9")
    assert "nothing of what was asked for is in it; it has the numbers 0 to 1" in nothing.stderr
    ctl(place, "export", folder, "--format", "csv", "-o", place.folder / "absent" / "x.csv", expect=1)
    full = subprocess.run(["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", place.program("holdfastctl"), "export",
                           str(folder), "--format", "json", "-o", "/dev/full"], capture_output=True, text=True,
                          check=False, timeout=60)
    assert full.returncode == 1 and "no ordinary file" in full.stderr, full.stderr
    os.mkfifo(place.folder / "pipe")
    (place.folder / "link").symlink_to(target)
    for name in ("pipe", "link"):
        arguments = ["export", folder, "--format", "csv", "-o", place.folder / name, "--force"]
        assert "no ordinary file" in ctl(place, *arguments, expect=1).stderr
    assert (place.folder / "pipe").is_fifo() and (place.folder / "link").is_symlink()
    assert {path.name for path in place.folder.iterdir() if "partial" in path.name or path.name.startswith("none")} == set()
    for wrong, expected in (([], "format"), (["--format", "xml", "-o", "x"], "pcapng, csv"),
                            (["--format", "csv"], "file to write"), (["--format", "avro", "-o", "-"], "name a file"),
                            (["--format", "csv", "-o", str(place.folder)], "folder")):
        assert expected in ctl(place, "export", folder, *wrong, expect=2).stderr, wrong
    piped = ctl(place, "export", folder, "--format", "json", "-o", "-").stdout
    assert [json.loads(line)["payload_text"] for line in piped.splitlines()] == ["one", "two"]


def test_an_interrupted_export_leaves_nothing(place):
    """Stopped in the middle of a recording that takes a while."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 60000, sizes=(1200,), rate=30000).wait()
    daemon.wait_drained("engine", daemon.counters("engine")["received"])
    daemon.stop()
    target = place.folder / "all.json"
    with subprocess.Popen([place.program("holdfastctl"), "export", str(daemon.log_dir), "--format", "json", "-o",
                           str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: process.poll() is not None or list(place.folder.glob("all.json.*")), 20, "it to begin")
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    if process.returncode == 0:
        assert target.exists()  # it was faster
    else:
        assert "interrupted" in complaint and not target.exists(), complaint
    assert not list(place.folder.glob("all.json.*"))


def test_several_channels_go_into_one_capture(place):
    listens = [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], record={}), channel("gps", listens[1], record={})).start()
    for number in range(10):
        send_all(listens[number % 2], [b"%d" % number])
        wait_until(lambda number=number: sum(daemon.counters(name)["received"] for name in ("engine", "gps")) > number,
                   20, "it to be received")
    daemon.stop()
    target = place.folder / "both.pcapng"
    ctl(place, "export", daemon.log_dir, "--format", "pcapng", "-o", target)
    packets = read_with_tshark(target)
    assert [bytes.fromhex(packet["udp.payload"]) for packet in packets] == [b"%d" % number for number in range(10)]
    assert [packet["frame.interface_name"] for packet in packets] == ["engine", "gps"] * 5
    assert [(packet["ip.dst"], packet["udp.dstport"]) for packet in packets] == list(map(split, listens)) * 5
    assert "one channel" in ctl(place, "export", daemon.log_dir, "--format", "avro", "-o", place.folder / "x.avro",
                                expect=2).stderr
