# SPDX-License-Identifier: MIT
"""What `status` shows of one channel: who sent last and when, what it takes datagrams from, where it records and how much
room there is; on a screen of ordinary size, and beside a disk that does not answer."""

import ctypes
import json
import os
import socket
import threading
import time

from lib.holdfast import Daemon, Sender, channel
from lib.place import core, libc_call


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
