# SPDX-License-Identifier: MIT
"""A worker dies where the next segment has a header and nothing else, and its successor goes on in the one before. That
header's number bounds nothing: every committed record is in an .avro file, whatever becomes of the worker, the ring and
the daemon afterwards."""

import socket

from lib import oracle
from lib.holdfast import Daemon, channel
from lib.place import core, kill, wait_until


class Begun:
    """Ten records, a next segment that was begun in vain, ten more behind it."""

    def __init__(self, place, **settings):
        place.with_hooks()
        self.place = place
        listen = place.ipv4()
        self.daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}, **settings)).start()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        place.on_exit(self.socket.close)
        host, _, port = listen.rpartition(":")
        self.socket.connect((host, int(port)))
        self.sent = 0
        self.send(10)
        self.tool("stop-at", "roll_headed")
        self.daemon.call("rotate", {"channel": "engine"})
        self.tool("wait-stopped", "roll_headed", 5000)
        self.kill_worker()
        self.send(10)

    def tool(self, *words):
        self.place.run(self.place.program("tool_page"), self.daemon.process.pid, "engine", *words)

    def send(self, count):
        for _ in range(count):
            self.socket.send(b"%d" % self.sent)
            self.sent += 1
        self.daemon.wait_drained("engine", self.sent)

    def kill_worker(self):
        before = self.daemon.status("engine")
        kill(before["pid"])
        wait_until(lambda: (lambda now: now["state"] == "RUNNING" and now["generation"] > before["generation"])(
            self.daemon.status("engine")), 20, "a successor")

    def check(self):
        """After an orderly end: all of it is there, in files that hold something, and nothing was set aside."""
        folder = self.daemon.log_dir / "engine"
        names = [path.name for path in folder.glob("*.avro*")]
        assert all(name.endswith(".avro") for name in names), names
        records = oracle.read_with_python_avro(self.daemon.segments("engine"))
        oracle.assert_consecutive(records, first=0)
        assert [record.payload for record in records] == [b"%d" % number for number in range(self.sent)], names
        for path in self.daemon.segments("engine"):
            assert oracle.read_with_python_avro([path]), f"{path.name} holds nothing, though others tell its number"
        self.place.run(self.place.program("holdfastctl"), "verify", *self.daemon.segments("engine"))


@core
def test_the_next_worker_uses_it(place):
    """... and does not say that it was given up."""
    begun = Begun(place)
    begun.kill_worker()
    begun.send(10)
    begun.daemon.ctl("rotate", "engine")
    begun.send(10)
    assert "is unusable" not in begun.daemon.log_text(), begun.daemon.log_text()
    begun.daemon.stop()
    begun.check()


@core
def test_everything_dies(place):
    begun = Begun(place)
    begun.kill_worker()
    begun.send(10)
    begun.daemon.kill_all()
    begun.daemon.start()
    begun.daemon.wait_state("engine", "RUNNING")
    begun.daemon.stop()
    begun.check()


@core
def test_an_upgrade_to_another_ring(place):
    """It seals what the ring before had recorded."""
    begun = Begun(place)
    daemon = begun.daemon
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('channel "engine" {', 'channel "engine" {\n  ring_size = "8M"'))
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    assert "as the settings say now is made" in daemon.log_text(), daemon.log_text()
    begun.send(5)
    daemon.stop()
    begun.check()


def test_the_daemon_stops(place):
    begun = Begun(place)
    begun.daemon.stop()
    begun.check()
