# SPDX-License-Identifier: MIT
"""Numbers were given at the end of a channel's run, and their records are lost. The log says so with a gap, whatever
becomes of the archive that was told, and of the supervisor that told it: no number is given twice."""

import os
import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, kill, libc_call, wait_until
from lib.reading import gate_of


AT_FDCWD, RENAME_EXCHANGE = -100, 2


def exchange(one, other):
    """At once: an archive that finds nothing there would make a folder of its own."""
    libc_call("renameat2", AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)


class Lost:
    """More datagrams than the ring holds, while nobody makes another segment; then the channel is stopped."""

    def __init__(self, place):
        self.place = place
        self.listen = place.ipv4()
        self.daemon = Daemon(place, channel("engine", self.listen, record={"segment_size": "1M"}), spare_workers=0).start()
        self.daemon.wait_state("engine", "RUNNING")
        self.send(10, 1)
        self.daemon.wait_drained("engine", 10)

    def send(self, count, tag):
        Sender(self.place, self.listen, count, name=f"sender {tag}", rate=8000, sizes=(800,), tag=tag).wait()

    def archive(self):
        """Beside the worker and the gate, as soon as what recovers has ended."""
        def others():
            return set(self.daemon.descendants()) - {self.daemon.status("engine")["pid"], gate_of(self.daemon)}
        return wait_until(lambda: others() if len(others()) == 1 else None, 10, "the archive alone").pop()

    def lose(self):
        self.send(4000, 2)
        self.daemon.wait_counter("engine", "received", 4010)
        self.daemon.call("stop", ["engine"])
        self.daemon.wait_state("engine", "STOPPED", 30)
        assert self.daemon.counters("engine")["record_lost"] > 0, self.daemon.counters("engine")

    def lose_without_log_dir(self):
        """Returns how many, and what is to come back."""
        away = self.place.folder / "away"
        self.daemon.log_dir.rename(away)
        self.daemon.log_dir.write_text("in the way")
        self.lose()
        lost = self.daemon.counters("engine")["record_lost"]
        self.daemon.wait_for_log("not even that could be noted", 20)
        return lost, away

    def wait_noted(self):
        self.daemon.wait_for_log("the log goes on behind them", 20)

    def upgrade(self):
        self.daemon.ctl("upgrade")
        self.daemon.disconnect()
        self.daemon.wait_state("engine", "STOPPED", 30)

    def check(self, lost):
        """It runs again, for ten more."""
        self.daemon.wait_state("engine", "RUNNING")
        before = self.daemon.counters("engine")["received"]
        self.send(10, 3)
        self.daemon.wait_drained("engine", before + 10)
        self.daemon.stop()
        numbers = [record.seq for record in oracle.read_with_python_avro(self.daemon.segments("engine"))]
        assert len(set(numbers)) == len(numbers), "numbers are given twice"
        assert max(numbers) + 1 - len(numbers) == lost, (max(numbers), len(numbers), lost)
        assert max(numbers) == 4019, max(numbers)


@core
def test_the_archive_dies_before_it_has_noted_them(place):
    """It is asked again of the next one, and the next start knows."""
    scene = Lost(place)
    archive = scene.archive()
    freeze(archive)
    scene.lose()
    lost = scene.daemon.counters("engine")["record_lost"]
    kill(archive, signal.SIGKILL)
    scene.wait_noted()
    scene.daemon.stop()
    scene.daemon.start()
    scene.check(lost)


def test_an_upgrade_comes_before_they_are_noted(place):
    """log_dir is away as long as this supervisor runs: the one after it has them noted."""
    scene = Lost(place)
    daemon = scene.daemon
    lost, away = scene.lose_without_log_dir()
    scene.upgrade()
    exchange(away, daemon.log_dir)
    daemon.call("start", ["engine"])
    scene.check(lost)


def test_a_stop_that_can_not_note_them_says_so(place):
    scene = Lost(place)
    daemon = scene.daemon
    scene.lose_without_log_dir()
    daemon.stop(expect=1)
    assert "the next start gives their numbers again" in daemon.log_text(), daemon.log_text()
