# SPDX-License-Identifier: MIT
"""A disk refuses part of a segment: it is full though it had promised the space. All records are in memory, and the kernel says
just once that they are nowhere else; nor is there room for a copy. Whoever knew of it ends before there is."""

import os

from lib import oracle
from lib.disk import ThinDisk
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, skip, wait_until

COUNT = 8005


class Refused:
    """The first segment is given up, and could not be copied."""

    def __init__(self, place):
        self.disk, listen = ThinDisk(place), place.ipv4()
        self.daemon = Daemon(place, channel("engine", listen, record={"segment_size": "8M", "sync": "3s"}),
                             log_dir=self.disk.where / "log").start()
        self.daemon.wait_state("engine", "RUNNING")
        Sender(place, listen, 5).wait()
        self.daemon.wait_drained("engine", 5)
        self.disk.exhaust()
        Sender(place, listen, COUNT - 5, name="more", tag=2, sizes=(800,), rate=20000).wait()
        self.daemon.wait_drained("engine", COUNT)
        log = self.daemon.status("engine")["log"]
        # pylint: disable-next=consider-using-with
        self.file = open(self.daemon.log_dir / "engine" / log["segment"], "rb")
        self.recorded = os.pread(self.file.fileno(), log["committed_bytes"] - (1 << 20), 0)  # an open block changes
        self.daemon.wait_for_log("could not be sealed", 30)

    def is_replenished(self):
        self.disk.replenish()
        if os.pread(self.file.fileno(), len(self.recorded), 0) != self.recorded:
            skip("the kernel has let go of pages that it takes for written")  # as it may, for want of memory
        self.file.close()

    def judge(self):
        """By the disk itself."""
        daemon = self.daemon
        wait_until(lambda: "were copied to" in daemon.log_text(), 20, "the copy")
        daemon.stop()
        self.disk.forget()
        assert len(oracle.read_with_python_avro(daemon.segments("engine"))) == COUNT
        oracle.assert_verified(daemon, daemon.segments("engine"))
        assert {path.suffix for path in (daemon.log_dir / "engine").iterdir() if path.name != ".lock"} == {".avro"}


@core
def test_a_restart_does_not_seal_what_the_disk_has_refused(place):
    refused = Refused(place)
    refused.daemon.stop(expect=1)  # it can't be sealed
    refused.is_replenished()
    refused.daemon.start()
    refused.judge()


def test_nor_does_a_start_after_everything_was_killed(place):
    refused = Refused(place)
    refused.daemon.kill_all()
    refused.is_replenished()
    refused.daemon.start()
    refused.judge()


def test_nor_does_an_upgrade(place):
    refused = Refused(place)
    generation = refused.daemon.status("engine")["generation"]
    refused.is_replenished()
    refused.daemon.ctl("upgrade")
    refused.daemon.disconnect()
    wait_until(lambda: refused.daemon.status("engine")["generation"] > generation, 20, "the upgrade")
    refused.daemon.wait_state("engine", "RUNNING")
    refused.judge()
