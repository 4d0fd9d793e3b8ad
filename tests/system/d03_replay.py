# SPDX-License-Identifier: MIT
"""What was recorded, sent again: the same datagrams, in their order, and in their own time, at any rate; and keys while it
runs. Times are compared with each other as the kernel stamped them, never with a clock on the wall."""

import base64
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import termios

from lib.holdfast import Daemon, channel, send_all
from lib.place import core, wait_until

PAYLOADS = [b"plain", b"", b"\0\0", b"\xff\xfe", bytes(range(256)), os.urandom(1400), os.urandom(65507)]


def ctl(place, *arguments, expect=0, **options):
    return place.run(place.program("holdfastctl"), *arguments, expect=expect, **options)


def records(place, *arguments):
    return [json.loads(line) for line in ctl(place, "cat", "--json", *arguments).stdout.splitlines()]


def payloads_of(lines):
    return [base64.b64decode(line["payload_base64"]) for line in lines]


def record(place, name, payloads, pause=0.0):
    """A recording of these, so far apart."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, max_datagram="65507"), name=name,
                    log_dir=str(place.folder / f"{name}.recording")).start()
    send_all(listen, payloads, pause)
    daemon.wait_drained("engine", len(payloads))
    daemon.stop()
    return daemon.log_dir


def second(place):
    """Another daemon, to send to."""
    listen = place.ipv4()
    return Daemon(place, channel("copy", listen, record={}, max_datagram="65507"), name="second",
                  log_dir=str(place.folder / "second.recording")).start(), listen


def gaps(lines):
    return [after["time_ns"] - before["time_ns"] for before, after in zip(lines, lines[1:])]


@core
def test_into_another_daemon(place):
    log = record(place, "first", PAYLOADS * 10, pause=0.01)
    daemon, listen = second(place)
    report = json.loads(ctl(place, "replay", log, "--to", listen, "--json").stdout)
    assert report["datagrams"] == len(PAYLOADS) * 10 and report["send_errors"] == 0, report
    assert report["lateness_ns"]["p50"] <= report["lateness_ns"]["p99"] <= report["lateness_ns"]["max"]
    daemon.wait_drained("copy", len(PAYLOADS) * 10)
    daemon.stop()
    before, after = records(place, log), records(place, daemon.log_dir)
    assert payloads_of(after) == payloads_of(before) == PAYLOADS * 10
    # Deadlines, not sums of pauses: what one is late, the next one catches up. So over the whole length nothing adds up,
    # and half of all pauses are nearly what they were.
    drift = (after[-1]["time_ns"] - after[0]["time_ns"]) - (before[-1]["time_ns"] - before[0]["time_ns"])
    assert abs(drift) < 250e6, f"{drift / 1e6} ms over the whole length"
    errors = sorted(abs(one - other) for one, other in zip(gaps(before), gaps(after)))
    assert errors[len(errors) // 2] < 5e6, f"{errors[len(errors) // 2] / 1e6} ms, half of them"


@core
def test_rates_ranges_and_loops(place):
    log = record(place, "first", [b"%d" % number for number in range(40)], pause=0.025)
    daemon, listen = second(place)
    length = sum(gaps(records(place, log)))
    received = 0

    def replay(*arguments, count):
        nonlocal received
        report = json.loads(ctl(place, "replay", log, "--to", listen, "--json", *arguments).stdout)
        assert report["datagrams"] == count, report
        received += count
        daemon.wait_drained("copy", received)
        lines = records(place, daemon.log_dir)[-count:]
        return [int(line["payload_text"]) for line in lines], sum(gaps(lines)), report

    numbers, took, _ = replay("--rate", "4", count=40)
    assert numbers == list(range(40)) and length / 4 * 0.9 < took < length, (took, length)
    numbers, took, report = replay("--rate", "max", count=40)
    assert numbers == list(range(40)) and took < length / 4 and report["lateness_ns"] is None
    numbers, _, _ = replay("--rate", "max", "--from", "seq:10", "--until", "seq:12", count=3)
    assert numbers == [10, 11, 12]
    numbers, _, _ = replay("--rate", "max", "--from", "seq:38", "--to", "seq:39", "--loop", "3", count=6)
    assert numbers == [38, 39] * 3
    numbers, took, _ = replay("--skip-silence", "1ms", count=40)
    assert numbers == list(range(40)) and took < length / 2, (took, length)
    daemon.stop()
    for wrong, expected in ((["--to", "nowhere"], "address"), ([], "--to ADDR:PORT"),
                            (["--to", listen, "--rate", "0"], "0.01 to 1000"),
                            (["--to", listen, "--rate", "nan"], "0.01 to 1000"),
                            (["--to", listen, "--rate", "1e9"], "max"), (["--to", listen, "--loop", "-1"], "whole"),
                            (["--to", listen, "--ttl", "256"], "255"), (["--to", listen, "--to", listen], "one only"),
                            (["--to", listen, "--to", "seq:1", "--until", "seq:2"], "twice"),
                            (["--to", listen, "--skip-silence", "5"], "5s"), (["--to", listen, "--from", "new"], "new")):
        assert expected in ctl(place, "replay", log, *wrong, expect=2).stderr, wrong
    assert "interface" in ctl(place, "replay", log, "--to", listen, "--interface", "absent0", expect=1).stderr


def test_nothing_to_send_ends_however_often(place):
    log = record(place, "first", [b"one"])
    for loops in ("0", "1000000000"):
        report = json.loads(ctl(place, "replay", log, "--to", place.ipv4(), "--from", "seq:9", "--loop", loops, "--json",
                                timeout=20).stdout)
        assert report["datagrams"] == 0 and report["duration_s"] < 10, report
    result = ctl(place, "replay", log, "--to", place.ipv4(), "--from", "seq:9")
    assert "nothing of what was asked for is in it; it has the numbers 0 to 0" in result.stderr, result.stderr


def test_what_was_cut_is_told(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, max_datagram="100")).start()
    send_all(listen, [b"short", b"x" * 101, b"y" * 1000])
    daemon.wait_drained("engine", 3)
    daemon.stop()
    result = ctl(place, "replay", daemon.log_dir, "--to", place.ipv4(), "--rate", "max")
    assert "sent 3 datagrams" in result.stdout and "2 of them are shorter than what was sent once" in result.stdout, result.stdout
    assert json.loads(ctl(place, "replay", daemon.log_dir, "--to", place.ipv4(), "--rate", "max", "--json").stdout)["cut"] == 2
    result = ctl(place, "replay", daemon.log_dir, "--to", place.ipv4(), "--ttl", "0", expect=2)
    assert "only multicast" in result.stderr, result.stderr


def test_nobody_there_is_no_error(place):
    log = record(place, "first", [b"%d" % number for number in range(20)])
    report = json.loads(ctl(place, "replay", log, "--to", place.ipv4(), "--rate", "max", "--json").stdout)
    assert report["datagrams"] == 20 and report["send_errors"] == 0, report


def test_what_the_network_refuses_is_counted(place):
    place.private_network()
    log = record(place, "first", [b"x", os.urandom(65507), b"y"])
    result = ctl(place, "replay", log, "--to", place.group(), "--rate", "max", "--interface", "lo", "--json", expect=None)
    report = json.loads(result.stdout)
    assert report["datagrams"] + report["send_errors"] == 3, report


def test_a_recording_whose_clock_was_set_back(place):
    """Receive times as in a file that a machine wrote whose clock was wrong at first: a pause of an hour, then back."""
    from lib import log_files  # pylint: disable=import-outside-toplevel
    folder = record(place, "first", [b"x"]) / "engine"
    schema = log_files.read_header(next(folder.glob("*.avro")).read_bytes())[0]["avro.schema"].value.decode()
    sync, odd = os.urandom(16), place.folder / "odd"
    odd.mkdir()
    times = [log_files.NOON_US, log_files.NOON_US + 50000, log_files.NOON_US - 3600 * 10**6,
             log_files.NOON_US - 3600 * 10**6 + 50000]
    (odd / "engine-00000000000000000000-20251009T085320Z.avro").write_bytes(
        log_files.header(schema, sync) + log_files.block(
            [log_files.record(number, b"%d" % number, time_us=moment) for number, moment in enumerate(times)], sync))
    daemon, listen = second(place)
    ctl(place, "replay", odd, "--to", listen)
    daemon.wait_drained("copy", 4)
    daemon.stop()
    lines = records(place, daemon.log_dir)
    assert [line["payload_text"] for line in lines] == ["0", "1", "2", "3"]
    between = gaps(lines)
    assert between[0] > 40e6 and between[2] > 40e6, "the recording's own time, before and behind"


class Terminal:
    """holdfastctl with a terminal for its keys and its errors."""

    def __init__(self, place, *arguments):
        self.leader, self.follower = os.openpty()
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.follower)
        self.shown = b""
        self.process = subprocess.Popen(
            [place.program("holdfastctl"), *map(str, arguments)], stdin=self.follower, stdout=subprocess.PIPE,
            stderr=self.follower, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        place.on_exit(self.end)

    def end(self):
        self.process.kill()
        self.process.wait(10)

    def read(self):
        while select.select([self.leader], [], [], 0)[0]:
            self.shown += os.read(self.leader, 65536)
        return self.shown

    def wait_for(self, text, deadline=20):
        start = len(self.shown)
        wait_until(lambda: text in self.read()[start:], deadline, f"{text!r} on the terminal; it has {self.shown[start:]!r}")

    def press(self, keys):
        os.write(self.leader, keys)

    def has_keys(self):
        return not termios.tcgetattr(self.follower)[3] & termios.ICANON

    def is_as_before(self):
        return termios.tcgetattr(self.follower) == self.before


def test_keys_while_it_runs(place):
    """A recording with 30 s of silence in it, by its receive times."""
    from lib import log_files  # pylint: disable=import-outside-toplevel
    folder = record(place, "first", [b"x"]) / "engine"
    schema = log_files.read_header(next(folder.glob("*.avro")).read_bytes())[0]["avro.schema"].value.decode()
    sync, odd = os.urandom(16), place.folder / "odd"
    odd.mkdir()
    times = [log_files.NOON_US, log_files.NOON_US + 3600 * 10**6]
    (odd / "engine-00000000000000000000-20251009T085320Z.avro").write_bytes(
        log_files.header(schema, sync) + log_files.block(
            [log_files.record(number, b"%d" % number, time_us=moment) for number, moment in enumerate(times)], sync))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        host, _, port = place.ipv4().rpartition(":")
        sink.bind((host, int(port)))
        sink.settimeout(20)
        terminal = Terminal(place, "replay", odd, "--to", f"{host}:{port}")
        assert sink.recv(100) == b"0"
        wait_until(terminal.has_keys, 20, "keys to be taken one by one")
        terminal.wait_for(b"the next one is of ")
        terminal.press(b" ")
        terminal.wait_for(b"paused")
        terminal.press(b" ")
        terminal.wait_for(b"the next one is of ")
        terminal.press(b"\x1b[C")  # behind the silence: nothing is before the next one
        assert sink.recv(100) == b"1", "from there on the next one comes at once"
        assert terminal.process.wait(20) == 0
        assert terminal.is_as_before()

        for how in (lambda one: one.press(b"q"), lambda one: one.press(b"\x03"),
                    lambda one: one.process.send_signal(signal.SIGTERM)):
            terminal = Terminal(place, "replay", odd, "--to", f"{host}:{port}")
            assert sink.recv(100) == b"0"
            wait_until(terminal.has_keys, 20, "keys to be taken one by one")
            how(terminal)
            assert terminal.process.wait(20) == 0, "whoever ends it gets what was done so far"
            assert terminal.is_as_before(), "the terminal is as it was"
            assert b"sent 1 datagram" in terminal.process.stdout.read()
