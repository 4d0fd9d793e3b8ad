# SPDX-License-Identifier: MIT
"""Publishers of another user do whatever they can with the outboxes that they are lent. Beside them an honest one and a UDP
channel lose nothing, nobody is held up, what breaks the rules is cut off and told, and its place is free again."""

import collections
import os
import pathlib

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import alone, core, is_alive, kill, skip, wait_until
from lib.publishing import Publisher, assert_all_there
from lib.reading import STRANGER, Hostile, gate_of

MOST = 6


def hostile(place, socket, *arguments, uid=STRANGER):
    return Hostile(place, socket, *arguments, uid=uid, tool="tool_hostile_publisher")


def has_of(pid):
    """What a process holds: descriptors by what they are, and maps of outboxes."""
    links = collections.Counter()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = os.readlink(entry).split(":[")[0]
            links[name] += ".avro" not in name  # of segments there are sometimes two, sometimes three
        except FileNotFoundError:
            pass
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return +links, maps.count("holdfast-outbox"), maps.count("holdfast-answer")


class Scene:
    """A daemon with a channel of each kind, one honest publisher and one sender."""

    def __init__(self, place, head=""):
        if os.geteuid() != 0:
            skip("only root can become another user")
        place.folder.chmod(0o711)
        self.place, self.socket = place, place.folder / "read.sock"
        listen = place.ipv4()
        local = channel("engine", "local:engine", record={"segment_size": "4M"}).replace(
            "\n", f'\n  publishers {{ outbox_size = "64K" most = {MOST} }}\n', 1)
        self.daemon = Daemon(place, local, channel("udp", listen, record={"segment_size": "4M"}),
                             head=f'read {{ socket = "{self.socket}" mode = "0666" }} ' + head).start()
        self.honest = Publisher(place, self.daemon, "honest", rate=place.scaled(4000), sizes="40,300,1500")
        self.sender = Sender(place, listen, 10**9, rate=place.scaled(2000), sizes=(200,))
        self.pids = self.pids_now()
        self.alone()
        self.before = [has_of(pid) for pid in self.pids]

    def pids_now(self):
        return (self.daemon.process.pid, self.daemon.status("engine")["pid"], self.daemon.status("udp")["pid"],
                gate_of(self.daemon))

    def publishers(self):
        return self.daemon.status("engine")["publishers"]["list"]

    def alone(self):
        """Nobody but the honest one has a place."""
        wait_until(lambda: len(self.publishers()) == 1, 30, f"the places to be free: {self.publishers()}")

    def go_on(self, count):
        """Both channels do, while the supervisor answers."""
        publisher, received = self.honest.counts()[0], self.daemon.counters("udp")["recorded"]
        self.honest.wait_committed(publisher + count)
        self.daemon.wait_counter("udp", "recorded", received + count // 4)

    def cut_offs(self):
        return self.daemon.log_text().count("is cut off after")

    def judge(self, restarts=0):
        self.alone()
        assert self.pids_now() == self.pids, "somebody has died of it"
        assert restarts is None or self.daemon.counters("engine")["restarts"] == restarts
        for pid, before in zip(self.pids, self.before):
            wait_until(lambda pid=pid, before=before: has_of(pid) == before, 20,
                       f"{pid} to hold what it did before: {before}, now {has_of(pid)}")
        self.honest.stop()
        self.sender.stop()
        sent = oracle.read_datagrams(self.sender.record)[0]
        self.daemon.wait_drained("udp", len(sent))
        self.daemon.stop()
        oracle.assert_same_payloads(sent, [record.payload for record in self.records("udp")], "recorded")
        records = self.records("engine")
        assert_all_there([self.honest], [record.payload for record in records if record.source.endswith("/tool_publisher")])
        return [record for record in records if not record.source.endswith("/tool_publisher")]

    def records(self, name):
        oracle.assert_verified(self.daemon, self.daemon.segments(name))
        records = oracle.read_with_avro_c(self.place, self.daemon.segments(name))
        oracle.assert_consecutive(records, first=0)
        return records


@core
def test_what_is_lent_can_not_be_altered(place):
    scene = Scene(place)
    rude = hostile(place, scene.socket, "try")
    allowed = [line for line in rude.text().splitlines() if "ALLOWED" in line]
    assert not allowed, allowed
    assert rude.text().count("refused") >= 25, rude.text()
    scene.go_on(place.scaled(8000))
    rude.stop()
    found = scene.judge()
    assert found and all(record.source.startswith(f"local:{STRANGER}") for record in found), found[:3]


def beside(place, way, cut_off):
    """As many cut-offs as that; 0: there may be none; None: it is a matter of chance."""
    scene = Scene(place)
    rude = hostile(place, scene.socket, way)
    if cut_off:
        wait_until(lambda: scene.cut_offs() >= cut_off, 60, f"{cut_off} to be cut off")
    scene.go_on(place.scaled(4000))
    assert cut_off != 0 or scene.cut_offs() == 0, "it has kept to the rules"
    rude.stop()
    found = scene.judge()
    assert "ALLOWED" not in rude.text(), rude.text()
    print(f"{way}: {rude.text().split()[-1]} outboxes, {scene.cut_offs()} cut off, {len(found)} datagrams recorded")
    return found


@core
def test_scribbling_over_head_and_records(place):
    beside(place, "scribble", 20)


def test_lengths_that_change_while_they_are_read(place):
    beside(place, "lengths", 5)


def test_committed_goes_back_and_forth(place):
    beside(place, "back", 20)


def test_holes_are_punched_into_the_box(place):
    beside(place, "holes", None)


def test_calls_and_bells_are_flooded(place):
    assert not beside(place, "bells", 0)


def test_times_that_can_not_be(place):
    """They are taken as what they can be: not before it was looked last, not after now, and never backwards."""
    found = beside(place, "times", 0)
    times = [record.received_at for record in found]
    assert times == sorted(times) and times[0] > 1.7e15, times[:5]


@alone
def test_all_of_it_at_once_while_workers_die(place):
    """A successor goes on with outboxes in which anything may have been written since."""
    scene = Scene(place, 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" } ')
    crowd = [hostile(place, scene.socket, way, uid=STRANGER + user)
             for user, way in enumerate(("scribble", "lengths", "back", "holes", "bells"))]
    kills, generation = place.scaled(50), 0
    for _ in range(kills):
        entry = wait_until(lambda last=generation: (lambda now: now if now["state"] == "RUNNING" and now["pid"] and
                                                    now["generation"] != last else None)(scene.daemon.status("engine")),
                           60, "a worker to kill", interval=0)
        generation = entry["generation"]
        scene.go_on(place.scaled(100))
        kill(entry["pid"])
    scene.daemon.wait_state("engine", "RUNNING", 30)
    scene.go_on(place.scaled(2000))
    for rude in crowd:
        rude.stop()
    scene.alone()
    deaths = [line for line in scene.daemon.log_text().splitlines() if "engine: worker" in line and " died: " in line]
    assert len(deaths) == kills and all("SIGKILL" in line for line in deaths), (len(deaths), deaths[-5:])
    assert "can't trust the ring" not in scene.daemon.log_text()
    scene.pids = scene.pids_now()
    scene.before = [has_of(pid) for pid in scene.pids]
    print(f"{scene.cut_offs()} cut off, {len(scene.daemon.log_text().splitlines())} lines of the log")
    scene.judge(restarts=None)


@core
def test_more_than_there_are_places(place):
    scene = Scene(place)
    crowd = [hostile(place, scene.socket, "crowd", MOST + 1, uid=STRANGER + user) for user in range(2)]
    lent = sum(int(one.text().split()[0]) for one in crowd)
    assert lent <= MOST - 1, [one.text() for one in crowd]
    assert "it has 6 publishers already" in scene.daemon.log_text() or lent < MOST - 1
    scene.go_on(place.scaled(2000))
    kill(crowd[0].process.pid)
    crowd[1].stop()
    scene.alone()
    for _ in range(2):  # its places can be had again
        again = hostile(place, scene.socket, "crowd", 1)
        assert again.text().startswith("1 of 1"), again.text()
        again.stop()
    scene.judge()


def test_a_child_keeps_the_bell(place):
    scene = Scene(place)
    rude = hostile(place, scene.socket, "child")
    child = wait_until(lambda: [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                                if pid != rude.process.pid and is_hostile(pid, scene.socket)], 20, "its child")
    wait_until(lambda: rude.process.poll() is not None, 20, "the publisher to be dead")
    scene.go_on(place.scaled(2000))
    assert len(scene.publishers()) == 2, "as long as somebody has its bell, it may have more to say"
    for pid in child:
        assert is_alive(pid)
        kill(pid)
    assert [record.payload[:10] for record in scene.judge()] == [b"hostile 0 "]


def test_places_of_the_dead_are_free_while_the_channel_is_stopped(place):
    """No worker sees them go, and a program that is started over and over would use all places up."""
    scene = Scene(place)
    scene.daemon.ctl("stop", "engine")
    scene.daemon.wait_state("engine", "STOPPED")
    for _ in range(2 * MOST):
        one = hostile(place, scene.socket, "crowd", 1)
        assert one.text().startswith("1 of 1"), one.text()
        one.stop()
    assert len(scene.publishers()) <= MOST
    scene.daemon.ctl("start", "engine")
    scene.daemon.wait_state("engine", "RUNNING")
    scene.go_on(place.scaled(2000))
    scene.alone()


def is_hostile(pid, socket):
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[0].endswith(b"tool_hostile_publisher") and str(socket).encode() in words
