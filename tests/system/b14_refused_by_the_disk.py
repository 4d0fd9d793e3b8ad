# SPDX-License-Identifier: MIT
"""The disk refuses a part of a segment and says so once. Whoever dies then, it is not forgotten: the segment is copied,
and until it is, nothing that was recorded later is said to be durable."""

import contextlib
import signal

from lib import oracle
from lib.disk import ThinDisk
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, kill, skip, wait_until
from system.b02_every_step import Steps


@contextlib.contextmanager
def in_memory(path):
    """Nobody writes there any more, and what is there is nowhere else."""
    with open(path, "rb") as segment:
        before = segment.read()
        yield
        segment.seek(0)
        if segment.read() != before:
            skip("the kernel has let go of pages that it takes for written")  # as it may, for want of memory


class Scene:
    """What is recorded from now on the disk will refuse."""

    def __init__(self, place, sync):
        self.place, self.listen, self.sent = place, place.ipv4(), 0
        self.disk = ThinDisk(place)
        self.daemon = Daemon(place, channel("engine", self.listen, record={"segment_size": "1M", "sync": sync}),
                             spare_workers=0, log_dir=self.disk.where / "log").start()
        self.send(5)
        wait_until(lambda: self.log()["durable_bytes"] > 0, 15, "the first records to be durable")
        self.worker = self.daemon.status("engine")["pid"]
        self.archive, = self.daemon.helpers()

    def log(self):
        return self.daemon.status("engine")["log"]

    def send(self, count):
        self.sent += count
        Sender(self.place, self.listen, count, name=f"sent-{self.sent}", rate=5000, tag=2, sizes=(800,)).wait()
        self.daemon.wait_drained("engine", self.sent)

    def segment(self):
        return self.daemon.log_dir / "engine" / self.log()["segment"]

    def have_next_prepared(self):
        """And an archive that answers nothing from now on."""
        self.send(700)  # more than half of a segment
        wait_until(lambda: len(self.daemon.segments("engine", ".avro.open")) == 2, 15, "the next segment")
        freeze(self.archive)

    def judge(self):
        """Nothing of it is missing on the disk itself."""
        kill(self.archive, signal.SIGCONT)
        wait_until(lambda: "were copied to" in self.daemon.log_text(), 90, "the copy")
        self.send(5)
        wait_until(lambda: self.log()["durable_bytes"] > 0, 15, "the copy to count")
        self.daemon.stop()
        self.disk.forget()
        records = oracle.read_with_python_avro(self.daemon.segments("engine"))
        oracle.assert_consecutive(records)
        assert len(records) == self.sent, (len(records), self.sent)


@core
def test_a_death_behind_the_refusal_forgets_nothing(place):
    """The slot still names the segment: a successor could go on in it."""
    place.with_hooks()
    scene = Scene(place, "300ms")
    steps = Steps(place, scene.daemon, "engine")
    steps.tool("stop-at", "disk_refused")
    scene.disk.exhaust()
    scene.send(600)
    segment = scene.segment()
    assert steps.tool("wait-stopped", "disk_refused", 20000, expect=None).returncode == 0
    with in_memory(segment):
        kill(scene.worker)
        scene.daemon.wait_for_log("the disk had refused a part of it")
    scene.disk.replenish()
    scene.judge()


def test_nor_where_the_segment_was_left_before(place):
    """Its seal is asked for by then, and would take it as it is."""
    place.with_hooks()
    scene = Scene(place, "3s")
    scene.have_next_prepared()
    steps = Steps(place, scene.daemon, "engine")
    steps.tool("stop-at", "disk_refused")
    scene.disk.exhaust()
    scene.send(300)
    left = scene.segment()
    scene.daemon.call("rotate", {"channel": "engine"})
    scene.send(5)
    assert scene.segment() != left
    assert steps.tool("wait-stopped", "disk_refused", 20000, expect=None).returncode == 0
    with in_memory(left):
        kill(scene.worker)
        scene.daemon.wait_for_log("its records are copied to another file")
    scene.disk.replenish()
    scene.judge()


@core
def test_nothing_later_is_durable_until_it_is_copied(place):
    scene = Scene(place, "1s")
    scene.have_next_prepared()
    scene.disk.exhaust()
    scene.send(300)
    left = scene.segment()
    scene.daemon.wait_for_log("fdatasync: ", 20)
    scene.disk.replenish()
    with in_memory(left):
        scene.send(5)
        assert scene.segment() != left
        Sender(place, scene.listen, 300, name="slowly", rate=100, tag=3, sizes=(100,)).wait()  # three intervals
        scene.sent += 300
        scene.daemon.wait_drained("engine", scene.sent)
        assert scene.log()["durable_bytes"] == 0, scene.log()
        assert "engine-prepared-" not in scene.daemon.log_text(), "it has another name by then"
    scene.judge()
