# SPDX-License-Identifier: MIT
"""holdfastctl beside a running daemon: channels that are followed, positions that are gone on from, and who reads; also
through the end of whatever serves readers."""

import base64
import json
import os
import select
import signal
import subprocess
import time

from lib.disk import HeldFolder
from lib.holdfast import Daemon, Sender, channel, send_all
from lib.place import comm, core, kill, wait_until


class Follower:
    """holdfastctl cat -f in the background, line by line."""

    def __init__(self, place, daemon, *arguments):
        self.process = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "cat", "-f", "--json",
                                         *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.rest = b""
        place.on_exit(self.end)

    def end(self):
        self.process.kill()
        self.process.wait(10)

    def lines(self, count, deadline=20):
        """The next so many."""
        while self.rest.count(b"\n") < count:
            assert select.select([self.process.stdout], [], [], deadline)[0], f"no more lines: {self.rest!r}"
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            assert part, f"it ended: {self.process.stderr.read()}"
            self.rest += part
        taken = self.rest.split(b"\n", count)
        self.rest = taken.pop()
        return [json.loads(line) for line in taken]

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        rest, complaints = self.process.communicate(timeout=20)
        assert self.process.returncode == 0 and complaints == b"", complaints
        assert rest == b"" and self.rest == b"", rest


def numbers(lines):
    return [line["seq"] for line in lines]


def ctl(daemon, *arguments, expect=0):
    return daemon.ctl(*arguments, expect=expect)


@core
def test_following_shows_the_last_ones_and_then_what_comes(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    send_all(listen, [b"%d" % number for number in range(30)])
    daemon.wait_drained("engine", 30)
    follower = Follower(place, daemon, "engine")
    assert numbers(follower.lines(10)) == list(range(20, 30))
    for number in range(30, 40):
        send_all(listen, [b"%d" % number])
        assert follower.lines(1)[0]["payload_text"] == str(number), "at once, not when a buffer is full"
    follower.stop()

    follower = Follower(place, daemon, "engine", "-n", "3")
    assert numbers(follower.lines(3)) == [37, 38, 39]
    follower.stop()

    follower = Follower(place, daemon, "engine", "--from", "new")
    wait_until(lambda: json.loads(ctl(daemon, "readers", "--json").stdout)["readers"][-1:] and any(
        reader["channel"] == "engine" for reader in json.loads(ctl(daemon, "readers", "--json").stdout)["readers"]), 20,
               "the reader to be there")
    send_all(listen, [b"40"])
    assert numbers(follower.lines(1)) == [40]
    follower.stop(signal.SIGTERM)

    soon = f"@{time.time() + 0.2:.3f}"
    for end, wanted in (("seq:3", [0, 1, 2, 3]), ("@1", []), (soon, list(range(41)))):
        follower = Follower(place, daemon, "engine", "--to", end)
        assert numbers(follower.lines(len(wanted))) == wanted
        assert follower.process.wait(20) == 0, "it has come to its end"

    follower = Follower(place, daemon, "engine", "--from", "first", "-n", "41")
    assert numbers(follower.lines(41)) == list(range(41))
    assert follower.process.wait(20) == 0
    assert numbers(map(json.loads, ctl(daemon, "cat", "engine", "--json", "--from", "seq:38").stdout.splitlines())) == \
        [38, 39, 40]
    daemon.stop()


def test_up_to_a_time_while_nothing_is_recorded(place):
    """What was sent before the end, and is still in the channel's socket, may be missing: that is told."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    send_all(listen, [b"1", b"2"])
    daemon.wait_drained("engine", 2)
    daemon.kill_all()
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.start(wait=False)
    wait_until(lambda: daemon.log_text().count("DOWN -> OPENING") == 2, 10, "the second start")
    send_all(listen, [b"3"])
    result = ctl(daemon, "cat", "engine", "-f", "--to", f"@{time.time() + 0.1:.3f}", "--output", "raw")
    assert result.stdout == "12" and "can't be seen just now" in result.stderr, result
    held.release()
    daemon.wait_drained("engine", 1)
    far = Follower(place, daemon, "engine", "--from", "seq:2", "--to", "@9223372036.5")
    assert numbers(far.lines(1)) == [2]
    far.stop()
    daemon.stop()


@core
def test_two_channels_are_followed_at_once(place):
    listens = {"engine": place.ipv4(), "gps": place.ipv4()}
    daemon = Daemon(place, channel("engine", listens["engine"], record={}),
                    channel("gps", listens["gps"], relays={"display": place.ipv4()})).start()
    follower = Follower(place, daemon, "engine", "gps")
    wait_until(lambda: len({reader["channel"] for reader in json.loads(
        ctl(daemon, "readers", "--json").stdout)["readers"]} & set(listens)) == 2, 20, "both to be read")
    for number in range(10):
        name = ("engine", "gps")[number % 2]
        send_all(listens[name], [b"%d" % number])
        line = follower.lines(1)[0]
        assert (line["channel"], line["payload_text"]) == (name, str(number)), line
    follower.stop()
    assert "follow what comes with -f" in ctl(daemon, "cat", "gps", expect=1).stderr
    for verb in (["info", "gps"], ["export", "gps", "--format", "csv", "-o", "-"], ["replay", "gps", "--to", place.ipv4()]):
        complaint = ctl(daemon, *verb, expect=1).stderr
        assert "does not record" in complaint and "with -f" not in complaint, complaint
    assert "there are: engine, gps" in ctl(daemon, "cat", "nobody", expect=1).stderr
    daemon.stop()


@core
def test_a_position_is_gone_on_from(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    send_all(listen, [b"%d" % number for number in range(20)])
    daemon.wait_drained("engine", 20)

    def cat(*arguments):
        return numbers(map(json.loads, ctl(daemon, "cat", "engine", "--json", "--position", "mine",
                                           *arguments).stdout.splitlines()))

    assert cat("-n", "5") == [0, 1, 2, 3, 4]
    assert cat("-n", "5") == [5, 6, 7, 8, 9]
    entry = json.loads(ctl(daemon, "positions", "engine", "--json").stdout)["positions"][0]
    assert (entry["name"], entry["seq"], entry["uid"], entry["in_use"]) == ("mine", 10, os.getuid(), False), entry
    follower = Follower(place, daemon, "engine", "--position", "mine")
    assert numbers(follower.lines(10)) == list(range(10, 20))
    wait_until(lambda: json.loads(ctl(daemon, "positions", "--json").stdout)["positions"][0]["seq"] == 20, 20,
               "it to be saved while it waits")
    taken = ctl(daemon, "cat", "engine", "--position", "mine", expect=1)
    assert "another reader has the position" in taken.stderr, taken.stderr
    assert "end it first" in ctl(daemon, "forget", "engine", "mine", expect=1).stderr
    assert "mine" in ctl(daemon, "positions").stdout
    follower.stop()
    assert cat() == []
    ctl(daemon, "forget", "engine", "mine")
    assert "has no position" in ctl(daemon, "forget", "engine", "mine", expect=1).stderr
    assert cat("-n", "1") == [0]
    daemon.stop()


def test_what_is_not_there_and_what_would_come_twice_is_told(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    send_all(listen, [b"one"])
    daemon.wait_drained("engine", 1)
    twice = ctl(daemon, "cat", "engine", f"{daemon.log_dir}/engine", expect=2)
    assert "Name one of the two" in twice.stderr and not twice.stdout, twice
    for arguments in (("positions", "nobody"), ("forget", "nobody", "mine"), ("cat", "nobody")):
        assert "there is no channel 'nobody'" in ctl(daemon, *arguments, expect=1).stderr
    assert "no positions" in ctl(daemon, "positions", "engine").stdout
    assert "has no position 'mine'" in ctl(daemon, "forget", "engine", "mine", expect=1).stderr
    assert json.loads(ctl(daemon, "readers", "--json").stdout)["readers"] == []
    assert not ctl(daemon, "cat", "engine", "--source", "[::1]").stdout
    assert "is where channel engine itself receives" in ctl(daemon, "replay", "engine", "--to", listen).stderr
    daemon.wait_drained("engine", 2)
    (place.folder / "engin").mkdir()
    meant = daemon.ctl("cat", "engin", cwd=place.folder, expect=1)
    assert "write ./engin" in meant.stderr, meant.stderr
    assert "CHANNEL-NUMBER-UTC.avro" in daemon.ctl("cat", "./engin", cwd=place.folder, expect=1).stderr
    daemon.stop()


def test_following_through_the_end_of_what_serves_it(place):
    """Whoever serves readers is killed, again and again, while datagrams come."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    follower = Follower(place, daemon, "engine", "--from", "first")
    sender = Sender(place, listen, 20000, rate=5000, sizes=(200,))
    seen = numbers(follower.lines(1000))
    for _ in range(3):
        gates = wait_until(lambda: [pid for pid in daemon.descendants() if comm(pid) == "gate"], 20, "a gate")
        kill(gates[0])
        seen += numbers(follower.lines(4000))
    sender.wait()
    daemon.wait_drained("engine", daemon.counters("engine")["received"])
    whole = daemon.counters("engine")["received"]
    seen += numbers(follower.lines(whole - len(seen)))
    assert seen == list(range(whole))
    follower.stop()
    daemon.stop()


def test_what_runs_is_exported_and_sent_again(place):
    listen, copy = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), channel("copy", copy, record={})).start()
    payloads = [b"", b"\0", b"\xff", os.urandom(1000)] * 5
    send_all(listen, payloads)
    daemon.wait_drained("engine", len(payloads))
    target = place.folder / "engine.avro"
    ctl(daemon, "export", "engine", "--format", "avro", "-o", target)
    lines = [json.loads(line) for line in place.run(place.program("holdfastctl"), "cat", target, "--json").stdout.splitlines()]
    assert [base64.b64decode(line["payload_base64"]) for line in lines] == payloads
    report = json.loads(ctl(daemon, "replay", "engine", "--to", copy, "--rate", "max", "--json").stdout)
    assert report["datagrams"] == len(payloads)
    daemon.wait_drained("copy", len(payloads))
    lines = [json.loads(line) for line in ctl(daemon, "cat", "copy", "--json").stdout.splitlines()]
    assert [base64.b64decode(line["payload_base64"]) for line in lines] == payloads
    logs = json.loads(ctl(daemon, "logs", "--json").stdout)["logs"]
    assert {log["channel"] for log in logs} == {"engine", "copy"}
    info = json.loads(ctl(daemon, "info", "engine", "copy", "--json").stdout)["channels"]
    assert [entry["records"] for entry in info] == [len(payloads)] * 2
    daemon.stop()
