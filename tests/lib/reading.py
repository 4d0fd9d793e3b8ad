# SPDX-License-Identifier: MIT
"""Readers of a channel, as processes of their own, and the judgement over what they were given. They use the library
alone; what they got is compared with what was sent, and with the log as other readers of Avro see it."""

import collections
import json
import os
import select
import signal
import subprocess

from lib import oracle
from lib.place import wait_until

EXPIRED, LAPPED, UNRECORDED, DAMAGED, UNCOVERED = range(1, 6)
NOBODY = 65534
STRANGER = 54321  # a user id that nobody has

Event = collections.namedtuple("Event", "kind first second why")


class Reader:
    """tool_reader in the background. Where the test is root, as another user, who can do no harm: unless the test asks
    for its own."""

    def __init__(self, place, daemon, name, channel="engine", user=NOBODY, **options):
        self.place = place
        self.folder = place.folder / f"reader-{name}"
        self.folder.mkdir()
        self.record, self.events_path = self.folder / "datagrams", self.folder / "events"
        self.log = place.log_file(f"{name}.reader.log")
        arguments = [place.program("tool_reader"), "--socket", str(daemon.socket.with_name("read.sock")), "--channel",
                     channel, "--record", str(self.record), "--events", str(self.events_path)]
        for key, value in options.items():
            arguments.append("--" + key.replace("_", "-"))
            if value is not True:
                arguments.append(str(value))
        other = {}
        if os.getuid() == 0 and user:
            os.chmod(place.folder, 0o711)
            os.chown(self.folder, user, user)
            other = {"user": user, "group": user, "extra_groups": []}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            bufsize=0, **other)
        place.on_exit(self.end)
        assert self.line() == b"ready\n", f"the reader could not start: {self.log.read_text()}"

    def line(self, deadline=30):
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], deadline)
            assert readable, "the reader gives no answer"
            part = self.process.stdout.read(1)
            assert part, f"the reader ended: {self.log.read_text()}"
            line += part
        return line

    def counts(self):
        self.process.stdin.write(b"\n")
        return json.loads(self.line())

    def wait_for(self, predicate, deadline, what):
        last = {}

        def holds():
            last.update(self.counts())
            return predicate(last)
        try:
            wait_until(holds, deadline, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the reader says {last}, {self.tail()}") from error
        return last

    def wait_next(self, number, deadline=60):
        """Until it has been given, or told of, everything before this number."""
        return self.wait_for(lambda counts: counts["next_seq"] >= number, deadline, f"the reader to come to {number}")

    def wait_finished(self, deadline=60):
        return self.wait_for(lambda counts: counts["finished"], deadline, "the reader to be finished")

    def tail(self):
        return f"its last events: {self.events_path.read_text().splitlines()[-5:]}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        counts = json.loads(self.line())
        assert self.process.wait(10) == 0
        return counts

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # ---- what it got ----

    def events(self):
        found = []
        for line in self.events_path.read_text().splitlines():
            words = line.split()
            if words[0] in ("datagrams", "lost", "passed", "saved"):
                numbers = [int(word) for word in words[1:]] + [None, None]
                found.append(Event(words[0], *numbers[:3]))
            else:
                found.append(Event(words[0], line, None, None))
        return found

    def datagrams(self):
        """(lower half of the number, payload), in the order in which they came. What was being written when the reader
        was killed isn't there."""
        found, at = [], 0
        data = self.record.read_bytes()
        while at + oracle.HEAD.size <= len(data):
            length, number, _time = oracle.HEAD.unpack_from(data, at)
            at += oracle.HEAD.size
            if at + length > len(data):
                break
            found.append((number, data[at:at + length]))
            at += length
        return found


class Hostile:
    """tool_hostile_reader in the background, or its like."""

    def __init__(self, place, socket, *arguments, uid=STRANGER, tool="tool_hostile_reader"):
        name = f"hostile.{place.count('hostile')}"
        self.log = place.log_file(f"{name}.log")
        with open(self.log, "ab") as log:
            # What it takes of the processors, every user of the machine may take: that is not what is tried here.
            self.process = subprocess.Popen(["nice", "-n", "19", place.program(tool), str(socket), "engine", str(uid),
                                             *map(str, arguments)], stdin=subprocess.PIPE, stdout=log, stderr=log)
        place.on_exit(self.end)
        wait_until(lambda: "ready\n" in self.text(), 60, f"{arguments} to have begun: {self.text()}")

    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.text()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def assert_in_order(reader, first=None, forgive="nothing"):
    """Each number once, upwards, and every one that was left out told as lost. Returns (the first, behind the last).
    After a start that did not know what was lost at the log's end, it may go back there."""
    began, at = None, first
    for event in reader.events():
        if event.kind == "datagrams":
            assert at is None or event.first == at, f"number {event.first} where {at} was due: {reader.tail()}"
            began = event.first if began is None else began
            at = event.second
        elif event.kind == "lost" and event.why == UNCOVERED:
            assert at is None or event.first <= at, f"nobody was receiving before {event.first}, where {at} was due"
            at = event.first
        elif event.kind == "lost":
            assert at is None or event.first == at, f"lost from {event.first} on where {at} was due"
            began = event.first if began is None else began
            at = event.first + event.second
        else:
            assert event.kind != "error" or forgive in event.first, event
    return began, at


def lost_of(reader):
    """why -> how many."""
    counts = collections.Counter()
    for event in reader.events():
        if event.kind == "lost":
            counts[event.why] += event.second
    return counts


def assert_same_as_log(reader, records):
    """Each datagram is the record of its number."""
    by_number = {record.seq & 0xffffffff: record.payload for record in records}
    for number, payload in reader.datagrams():
        assert by_number.get(number) == payload, f"number {number} is another datagram in the log"


def gate_of(daemon):
    """The pid of the process that serves readers; None while there is none."""
    return daemon.status()["read"]["pid"]
