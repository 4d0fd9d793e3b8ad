# SPDX-License-Identifier: MIT
"""A disk refuses part of a segment: it is full though it had promised the space. All records are in memory, and the kernel says
just once that they are nowhere else; nor is there room for a copy. Whoever knew of it ends before there is."""

import mmap

from lib import oracle
from lib.disk import ThinDisk
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, wait_until

COUNT = 8005
MAP_LOCKED = 0x2000  # asm-generic/mman.h


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
        segment = self.daemon.log_dir / "engine" / self.daemon.status("engine")["log"]["segment"]
        with open(segment, "rb") as file:  # the kernel may let go of pages that it takes for written: not of these
            self.locked = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | MAP_LOCKED, mmap.PROT_READ)
        self.daemon.wait_for_log("could not be sealed", 30)

    def judge(self):
        """By the disk itself."""
        daemon = self.daemon
        if daemon.process.poll() is None:
            wait_until(lambda: "were copied to" in daemon.log_text(), 20, "the copy")
            daemon.stop()
        self.locked.close()
        daemon.notifications.poll()  # descriptors are in what waits there
        self.disk.forget()
        assert len(oracle.read_with_python_avro(daemon.segments("engine"))) == COUNT
        oracle.assert_verified(daemon, daemon.segments("engine"))
        assert {path.suffix for path in (daemon.log_dir / "engine").iterdir() if path.name != ".lock"} == {".avro"}


@core
def test_a_restart_does_not_seal_what_the_disk_has_refused(place):
    refused = Refused(place)
    refused.daemon.stop(expect=1)  # it can't be sealed
    refused.disk.replenish()
    refused.daemon.start()
    refused.judge()


def test_nor_does_a_start_after_everything_was_killed(place):
    refused = Refused(place)
    refused.daemon.kill_all()
    refused.disk.replenish()
    refused.daemon.start()
    refused.judge()


def test_nor_does_an_upgrade(place):
    """Nobody in the new program has ordered the copy; it is tried again all the same, at the stop if not before."""
    refused = Refused(place)
    refused.daemon.ctl("upgrade")
    refused.daemon.disconnect()
    refused.daemon.wait_for_log("there is no space to mend", 20)
    refused.daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: refused.daemon.status("engine")["log"]["unsealed"] == 1, 10, "status to say so")
    assert "unsealed" in [problem["kind"] for problem in refused.daemon.call("check")["problems"]]
    refused.disk.replenish()
    refused.daemon.stop()
    refused.judge()
