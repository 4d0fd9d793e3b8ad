# SPDX-License-Identifier: MIT
"""What `status` shows of one channel: who sent last and when, what it takes datagrams from, where it records and how much
room there is; on a screen of ordinary size, and beside a disk that does not answer."""

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, kill, libc_call, wait_until


def fits(text, columns=80, rows=23):
    """With a prompt below it."""
    lines = text.splitlines()
    return len(lines) <= rows and all(len(line) <= columns for line in lines)


@core
def test_last_datagram_origin_and_folder(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"display": place.ipv4()}, record={})).start()
    entry = daemon.status("engine")
    assert entry["last_datagram"] is None and entry["interface"] is None and entry["source"] is None, entry
    assert "none yet" in daemon.ctl("status", "engine").stdout
    Sender(place, listen, 300).wait()
    before = time.time()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        host, _, port = listen.partition(":")
        sender.connect((host, int(port)))
        sender.send(b"the last one")
        source = "%s:%d" % sender.getsockname()
        daemon.wait_drained("engine", 301)
    last = daemon.status("engine")["last_datagram"]
    assert last["seq"] == 300 and last["source"] == source and last["age_s"] >= 0, last
    assert abs(last["time"] - before) < 3600, last

    human = daemon.ctl("status", "engine").stdout
    assert source in human and str(daemon.log_dir / "engine") in human and " free\n" in human, human
    assert "MEANING" not in human and fits(human.replace(str(daemon.log_dir), "/var/lib/holdfast")), human
    for option in ("-v", "--verbose"):
        assert "MEANING" in daemon.ctl("status", "engine", option).stdout
    log = json.loads(daemon.ctl("--json", "status", "engine").stdout)["channels"][0]["log"]
    room = os.statvfs(daemon.log_dir)
    assert log["folder"] == str(daemon.log_dir / "engine")
    assert log["disk"]["size_bytes"] == room.f_blocks * room.f_frsize and log["disk"]["free_bytes"] > 0
    assert log["disk"]["reason"] is None

    daemon.call("stop", ["engine"])
    daemon.wait_state("engine", "STOPPED")
    assert daemon.status("engine")["last_datagram"]["source"] == source, "known also when its ring is gone"
    daemon.ctl("start", "engine")
    assert daemon.status("engine")["last_datagram"]["seq"] == 300
    daemon.stop()


def test_a_relative_log_dir_is_told_whole(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), log_dir="rel").start()
    assert daemon.status("engine")["log"]["folder"] == str(place.folder / "rel/engine")
    daemon.stop()


def test_interface_and_source_are_shown(place):
    place.private_network()
    daemon = Daemon(place, channel("engine", place.group(), relays={"display": place.ipv4()}, interface="lo",
                                   source="127.0.0.1")).start()
    entry = daemon.status("engine")
    assert entry["interface"] == "lo" and entry["source"] == "127.0.0.1"
    assert " at lo, from 127.0.0.1 only\n" in daemon.ctl("status", "engine").stdout
    daemon.stop()


class Told:
    """A control socket whose every answer is this status."""

    def __init__(self, place, status):
        self.path = place.folder / "told.sock"
        self.status = status
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        place.on_exit(self.listener.close)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client = self.listener.accept()[0]
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with client, client.makefile("rw") as lines:
            for line in lines:
                request = json.loads(line)
                print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": self.status}), file=lines,
                      flush=True)


def told_channel(name, folder="", **members):
    return {"name": name, "state": "RUNNING", "wanted": True, "counters": {}, "ring": {}, "relays": [],
            "decimates": [], "log": {"segment": None, "trouble": None, "folder": folder}, **members}


def test_a_folder_that_can_not_be_looked_at(place):
    """One that isn't there, and one on a disk that does not answer: a file system whose server never says a word."""
    place.private_mounts()
    device = os.open("/dev/fuse", os.O_RDWR)
    place.on_exit(lambda: os.close(device))
    mute = place.folder / "mute"
    mute.mkdir()
    libc_call("mount", b"mute", os.fsencode(mute), b"fuse", 0,
              f"fd={device},rootmode=40000,user_id=0,group_id=0".encode())
    place.on_exit(lambda: ctypes.CDLL(None).umount2(os.fsencode(mute), 2))
    for folder, reason in ((mute, "does not answer"), (place.folder / "absent", "no such folder")):
        told = Told(place, {"supervisor": {}, "channels": [told_channel("engine", str(folder))]})
        ctl = (place.program("holdfastctl"), "--socket", told.path, "status", "engine")
        assert f"{folder}, free space not known: " in place.run(*ctl).stdout
        disk = json.loads(place.run(*ctl, "--json").stdout)["channels"][0]["log"]["disk"]
        assert reason in disk["reason"] and disk["free_bytes"] is None, disk
        told.path.unlink()


class Screen:
    """A terminal of a size, with a program on it; what it shows, by the few codes that holdfastctl uses."""

    def __init__(self, place, rows, columns, *command):
        self.rows, self.columns, self.written = rows, columns, b""
        self.leader, follower = os.openpty()
        self.resize(rows, columns)
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment,
                                        start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(follower)
        os.set_blocking(self.leader, False)
        place.on_exit(self.end)

    def end(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.leader)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pictures(self):
        """Every complete one so far, as bytes."""
        try:
            while part := os.read(self.leader, 65536):
                self.written += part
        except (BlockingIOError, OSError):
            pass
        return [part for part in self.written.split(b"\x1b[H")[1:] if part.endswith(b"\x1b[J")]

    def wait_picture(self, accepts, what):
        """The lines of a picture from now on that is as wanted."""
        def found():
            for picture in self.pictures()[start:]:
                lines = re.sub(rb"\x1b\[[0-9;]*[mKJ]", b"", picture).decode().split("\r\n")
                assert lines.pop() == "", "the shell's row is left free"
                if accepts(lines):
                    return lines
            return None
        start = len(self.pictures())
        return wait_until(found, 20, what)


def test_the_watched_list_fits_its_window(place):
    """64 channels, one of them sick; the window is small, then smaller, then large."""
    channels = [told_channel(f"well{number}", rate={"datagrams_per_s": 100, "bytes_per_s": 1048576})
                for number in range(63)]
    sick = told_channel("sick", wanted=True) | {"state": "BACKOFF", "cause": "it\x1b[2J can't be"}
    told = Told(place, {"supervisor": {}, "channels": channels[:40] + [sick] + channels[40:]})
    screen = Screen(place, 24, 80, place.program("holdfastctl"), "--socket", str(told.path), "status", "--watch")
    for rows, columns in ((24, 80), (12, 40), (8, 30)):
        screen.resize(rows, columns)
        lines = screen.wait_picture(
            lambda lines, rows=rows, columns=columns: len(lines) == rows - 1 and
            max(map(len, lines)) <= columns, f"a picture for {rows} rows of {columns}")
        text = "\n".join(lines)
        assert "sick" in lines[3] and " more channels have" in text, text
    screen.resize(24, 80)
    lines = screen.wait_picture(lambda lines: any("6,300/s" in line for line in lines), "the sums of all channels")
    assert any("64 channels" in line and "63 run" in line and "63.0 MiB/s" in line for line in lines), lines
    screen.resize(100, 120)
    lines = screen.wait_picture(lambda lines: any("well62" in line for line in lines), "all channels in a large window")
    assert "no room" not in "\n".join(lines) and "RESTARTS" in lines[2], lines
    assert b"\x1b[2J" not in screen.written, "what is cleared before it is drawn flickers"


def test_a_long_cause_is_told_whole_where_there_is_room(place):
    """On several lines; where there are no rows for them, dots say that something is missing."""
    cause = "can't listen on [fe80::1%lo]:36040 (bind): Cannot assign requested address; check it, or wait for the interface"
    told = Told(place, {"supervisor": {}, "channels": [told_channel("sick", wanted=True) |
                                                       {"state": "BACKOFF", "cause": cause}]})
    screen = Screen(place, 24, 60, place.program("holdfastctl"), "--socket", str(told.path), "status", "--watch")
    lines = screen.wait_picture(lambda lines: max(map(len, lines)) <= 60, "a picture that fits")
    assert cause in re.sub(r"\s+", " ", " ".join(lines)), lines
    screen.resize(7, 60)
    lines = screen.wait_picture(lambda lines: len(lines) <= 6, "a picture for six rows")
    assert any(line.startswith("sick: BACKOFF: can't listen") and line.endswith("...") and len(line) == 60
               for line in lines), lines


def test_the_watched_channel_fits_its_window(place):
    told = Told(place, {"supervisor": {}, "channels": [told_channel("engine", str(place.folder))]})
    screen = Screen(place, 10, 40, place.program("holdfastctl"), "--socket", str(told.path), "status", "engine",
                    "--watch")
    lines = screen.wait_picture(lambda lines: len(lines) == 9 and max(map(len, lines)) <= 40, "a picture that fits")
    assert lines[0].startswith("engine (9 lines that say least") and lines[-1].split() == ["received", "0"], lines
    screen.resize(5, 40)
    lines = screen.wait_picture(lambda lines: len(lines) == 4, "a picture that fits")
    assert "more lines have no room" in lines[-1], lines
    screen.process.send_signal(signal.SIGINT)
    assert screen.process.wait(20) == -signal.SIGINT


@core
def test_the_list_has_rates_and_sums(place):
    listens = [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], relays={"display": place.ipv4()}),
                    channel("gps", listens[1], record={})).start()
    Sender(place, listens[0], 70, name="one").wait()
    Sender(place, listens[1], 30, name="two").wait()
    daemon.wait_drained("engine", 70)
    daemon.wait_drained("gps", 30)
    lines = daemon.ctl("status").stdout.splitlines()
    assert lines[2].split() == ["CHANNEL", "STATE", "FOR", "RECEIVED", "RATE", "BYTES", "RECORDED", "PENDING", "LOST",
                                "RESTARTS"], lines
    assert lines[5].split()[:5] == ["2", "channels", "2", "run", "100"], lines
    daemon.stop()


@core
def test_watching_goes_on_over_an_upgrade(place):
    """And over an end and another start; what ends for good is told, and ends it."""
    daemon = Daemon(place, channel("engine", place.ipv4(), relays={"display": place.ipv4()})).start()
    screen = Screen(place, 24, 120, place.program("holdfastctl"), "--socket", str(daemon.socket), "status", "--watch",
                    "--timeout", "20s")
    screen.wait_picture(lambda lines: any("RUNNING" in line for line in lines), "the first picture")
    daemon.disconnect()
    daemon.ctl("upgrade")
    screen.wait_picture(lambda lines: any("RUNNING" in line for line in lines), "a picture after the upgrade")
    assert screen.process.poll() is None
    daemon.stop()
    wait_until(lambda: (screen.pictures(), b"reconnecting" in screen.written)[1], 20, "to be told that it reconnects")
    daemon.start()
    screen.wait_picture(lambda lines: any("RUNNING" in line for line in lines), "a picture of the next daemon")
    screen.process.send_signal(signal.SIGINT)
    assert screen.process.wait(20) == -signal.SIGINT
    for end, options in ((daemon.stop, ("status",)), (daemon.kill_all, ("status", "engine"))):
        screen = Screen(place, 24, 120, place.program("holdfastctl"), "--socket", str(daemon.socket), *options, "--watch",
                        "--timeout", "4s")
        screen.wait_picture(lambda lines: any("engine" in line for line in lines), "the first picture")
        end()
        assert screen.process.wait(20) == 3
        screen.pictures()
        assert b" has ended, and none has answered there for 4" in screen.written, screen.written[-400:]
        daemon.start()
    daemon.stop()


def test_what_a_verb_waits_for_may_come_after_an_upgrade(place):
    listen = place.ipv4()
    host, _, port = listen.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((host, int(port)))
        daemon = Daemon(place, channel("engine", listen, relays={"display": place.ipv4()})).start(wait=False)
        wait_until(daemon.socket.exists, 20, "the control socket")
        daemon.wait_state("engine", "BACKOFF")
        waits = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "start", "engine",
                                  "--timeout", "60s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        place.on_exit(waits.kill)
        daemon.wait_for_log("start engine: accepted")
        daemon.disconnect()
        daemon.ctl("upgrade")
    said, complaint = waits.communicate(timeout=60)
    assert waits.returncode == 0 and said.startswith("engine is RUNNING"), (said, complaint)
    daemon.stop()


def printed(place, columns, *arguments, expect=0):
    """What holdfastctl prints on a terminal of so many columns."""
    screen = Screen(place, 24, columns, place.program("holdfastctl"), *map(str, arguments))
    assert screen.process.wait(20) == expect
    screen.pictures()
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.written.decode()).replace("\r\n", "\n")


def test_what_is_printed_fits_its_terminal(place):
    """Too many columns are left out, long lines go on under their last column; elsewhere nothing is changed."""
    cause = "can't listen on [fe80::1%lo]:36040 (bind): Cannot assign requested address; check it, or wait for the interface"
    counters = {name: 123456789 for name in ("received", "recorded", "kernel_dropped", "relay_dropped")}
    sick = told_channel("sick", state="BACKOFF", cause=cause, listen="[fe80::1%lo]:36040", interface="lo", counters=counters,
                        rate={"datagrams_per_s": 123456, "bytes_per_s": 123456789}, restarts=10, next_start_ms=1000,
                        restart={"rule": "none"})
    told = Told(place, {"supervisor": {}, "channels": [sick], "healthy": False,
                        "problems": [{"channel": "sick", "kind": "not_running", "state": "BACKOFF", "cause": cause},
                                     {"channel": None, "kind": "stopping", "state": None, "cause": "it ends"}]})
    for arguments, expect in ((["status"], 0), (["status", "sick"], 0), (["status", "sick", "-v"], 0), (["check"], 1),
                              (["capabilities"], 0)):
        arguments = ["--socket", told.path, *arguments]
        whole = place.run(place.program("holdfastctl"), *arguments, expect=expect).stdout
        for columns in (80, 60):
            text = printed(place, columns, *arguments, expect=expect)
            assert max(map(len, text.splitlines())) <= columns, text
            if "capabilities" not in arguments:
                assert cause in whole and cause not in text and cause in " ".join(text.split()), text
    text = printed(place, 80, "--socket", told.path, "status", "sick")
    assert "\n                Cannot assign" in text, text
    assert re.search(r"listens on +\[fe80::1%lo\]:36040, from any source", text), text
    assert "none, 10 restarts" in text and "rule" not in text, text
    assert "RESTARTS" not in printed(place, 80, "--socket", told.path, "status")
    assert "the supervisor is stopping: it ends" in printed(place, 80, "--socket", told.path, "check", expect=1)


def test_complaints_fit_their_terminal(place):
    absent = place.folder / "absent.sock"
    whole = place.run(place.program("holdfastctl"), "--socket", absent, "check", expect=3).stderr
    assert whole.count("\n") == 1 and len(whole) > 120, whole
    text = printed(place, 60, "--socket", absent, "check", expect=3)
    assert max(map(len, text.splitlines())) <= 60 and text.split() == whole.split(), text


def test_a_sum_of_what_nobody_knows_is_not_known(place):
    told = Told(place, {"supervisor": {}, "channels": [told_channel("one"), told_channel("two")]})
    text = place.run(place.program("holdfastctl"), "--socket", told.path, "status").stdout
    assert re.search(r"^2 channels +2 run +0 +- +- ", text, re.MULTILINE), text


def test_what_is_printed_of_files_fits_its_terminal(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    Sender(place, listen, 1000).wait()
    daemon.wait_drained("engine", 1000)
    daemon.stop()
    segment, = daemon.segments("engine")
    sound, damaged, result = (place.folder / f"{name}.avro" for name in ("sound", "damaged", "result"))
    content = bytearray(segment.read_bytes())
    sound.write_bytes(content)
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for arguments, expect in ((["verify", sound, damaged], 1), (["recover", damaged, "-o", result], 0)):
        result.unlink(missing_ok=True)
        whole = place.run(place.program("holdfastctl"), *arguments, expect=expect).stdout
        assert max(map(len, whole.splitlines())) > 100, whole
        result.unlink(missing_ok=True)
        text = printed(place, 80, *arguments, expect=expect)
        assert max(map(len, text.splitlines())) <= 80, text
        assert text.split() == whole.split(), text


def test_drops_that_the_kernel_counts_in_runs_are_at_least_so_many(place):
    """Of a channel with receive_offload, in the list, in its sum and in the channel's own page; of another one exactly."""
    listens = {"runs": place.ipv4(), "single": place.ipv4()}
    daemon = Daemon(place, *(channel(name, listen, record={}, receive_offload=name == "runs", receive_buffer="8K")
                             for name, listen in listens.items())).start()
    for name, listen in listens.items():
        pid = daemon.status(name)["pid"]
        freeze(pid)
        Sender(place, listen, 2000, name=name, sizes=(500,)).wait()
        kill(pid, signal.SIGCONT)
        Sender(place, listen, 1, name=f"{name}-newest").wait()
        daemon.wait_counter(name, "kernel_dropped", 1)
    rows = {line.split()[0]: line for line in daemon.ctl("status").stdout.splitlines() if line.strip()}
    assert "≥" in rows["runs"] and "≥" not in rows["single"] and "≥" in rows["2"], rows
    for name in listens:
        assert daemon.status(name)["kernel_dropped_at_least"] == (name == "runs")
        row = next(line for line in daemon.ctl("status", name).stdout.splitlines() if "kernel_dropped" in line)
        assert ("≥" in row) == (name == "runs"), row
    daemon.stop()
