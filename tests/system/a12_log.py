# SPDX-License-Identifier: MIT
"""Log lines: date and time where they go to a file, and to the journal as entries whose fields say which channel each is
about, whoever wrote it. The journal's socket is this test's here; b08 has the real one."""

import os
import pathlib
import re
import socket
import threading

from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until

DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d \S.*: (error|warning|notice|info|debug): ")


@core
def test_lines_begin_with_date_and_time(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}, cpus="1000"))
    daemon.start(environment={"TZ": "Asia/Kolkata", "HOLDFAST_DEBUG": "1"})
    kill(daemon.status("engine")["pid"])
    daemon.wait_counter("engine", "restarts", 1)
    daemon.stop()
    lines = daemon.log_text().splitlines()
    assert len(lines) > 5 and all(map(DATED.match, lines)), [line for line in lines if not DATED.match(line)]
    assert any(line.split(" ")[0].endswith("+05:30") for line in lines), lines[0]
    for who in ("holdfastd: ", "channel engine: ", "archive: "):
        assert any(f" {who}" in line for line in lines), who


class Journal:
    """In the place of journald: its socket, and a pipe that processes are told is its stream."""

    def __init__(self, place):
        place.private_mounts()
        folder = pathlib.Path("/run/systemd/journal")
        if not folder.parent.is_dir():
            place.mount_tmpfs("/run", "1M")
            folder.parent.mkdir()
        place.mount_tmpfs(folder.parent, "1M")
        folder.mkdir()
        self.path = folder / "socket"
        self.seen = []
        self.listen()
        self.stream = place.folder / "stream"
        os.mkfifo(self.stream)
        self.reader = os.open(self.stream, os.O_RDWR | os.O_NONBLOCK)
        status = os.fstat(self.reader)
        self.environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}", "HOLDFAST_DEBUG": "1"}

    def listen(self):
        """Beside the test: a socket's queue is short."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(self.path))
        threading.Thread(target=self.take, args=(listener,), daemon=True).start()

    def take(self, listener):
        while True:
            text = listener.recv(65536).decode()
            self.seen.append(dict(line.split("=", 1) for line in text.splitlines()))

    def find(self, text, deadline=20):
        return wait_until(lambda: next((entry for entry in list(self.seen) if text in entry["MESSAGE"]), None), deadline,
                          f"{text!r} in the journal")

    def streamed(self):
        try:
            return os.read(self.reader, 1 << 20).decode()
        except BlockingIOError:
            return ""


def test_entries_say_which_channel_they_are_about(place):
    journal = Journal(place)
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, record={}),
                    channel("gps", place.ipv4(), record={}, cpus="1000"))
    daemon.log_path = journal.stream
    daemon.start(environment=journal.environment)
    Sender(place, listen, 200).wait()
    daemon.wait_drained("engine", 200)
    daemon.ctl("rotate", "engine")
    kill(daemon.status("gps")["pid"])
    daemon.wait_counter("gps", "restarts", 1)
    daemon.wait_state("gps", "RUNNING")
    daemon.ctl("restart", "engine")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()
    journal.find("ended")

    for text, name in (("channel engine: STARTING -> RUNNING", "engine"),  # the supervisor
                       ("restart engine: accepted", "engine"),
                       ("cpus: ", "gps"),                                  # a worker
                       ("archive: channel engine: ", "engine"),    # the archive
                       ("channel gps: worker ", "gps")):                   # a death, with fields of its own
        assert journal.find(text).get("HOLDFAST_CHANNEL") == name, journal.find(text)
    for entry in journal.seen:
        about = re.search(r"\bchannel (engine|gps)\b", entry["MESSAGE"])
        assert entry.get("HOLDFAST_CHANNEL") == (about and about.group(1)), entry
        assert entry["SYSLOG_IDENTIFIER"] == "holdfastd" and entry["PRIORITY"] in "34567", entry
    assert sum("HOLDFAST_SIGNAL" in entry for entry in journal.seen) == 1, "the one death"
    assert journal.streamed() == "", "and nothing twice"


def test_a_journal_that_is_away_loses_no_line(place):
    """Its socket is gone: the stream takes the lines, with their priority; then there is one again."""
    journal = Journal(place)
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}))
    daemon.log_path = journal.stream
    daemon.start(environment=journal.environment)
    journal.find("ready: 1 of 1")
    journal.path.unlink()
    daemon.ctl("restart", "engine")
    parts = []
    running = re.compile(r"^<\d>holdfastd: channel engine: \S+ -> RUNNING", re.MULTILINE)
    wait_until(lambda: parts.append(journal.streamed()) or running.search("".join(parts)), 10, "lines on the stream")
    journal.listen()
    daemon.stop()
    journal.find("ended")
