# SPDX-License-Identifier: MIT
"""The supervisor waits for nobody: not for a service manager that doesn't read, not for the disk that its log or its
programs lie on, not for whoever reads its log. It answers operators, and what dies gets its successor."""

import os
import shutil
import socket

from lib import oracle
from lib.disk import Disk
from lib.held_program import HeldProgram
from lib.holdfast import Control, Daemon, Sender, channel
from lib.place import core, is_alive, kill, wait_until


def takes_over(daemon, name="engine"):
    """A killed worker gets its successor, and what is sent is relayed."""
    before = daemon.status(name)
    kill(before["pid"])
    after = wait_until(lambda: (lambda entry: entry if entry["state"] == "RUNNING" and entry["pid"] != before["pid"]
                                else None)(daemon.status(name)), 20, "a successor")
    assert after["restarts"] == before["restarts"] + 1


class Deaf:
    """In the place of notifications: a manager that reads nothing, and whose queue is full."""

    def __init__(self, notifications):
        self.deaf = notifications  # its socket stays open, or there would be no manager at all
        self.path = notifications.path
        self.poll = list
        self.stuffing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.stuffing.setblocking(False)
        try:
            while True:
                self.stuffing.sendto(b"X=1", self.path)
        except BlockingIOError:
            pass


@core
def test_a_manager_that_reads_nothing(place):
    """Its queue is full for several times as long as the watchdog allows; it hears more as soon as it reads."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start(environment={"WATCHDOG_USEC": "200000"})
    wait_until(lambda: len(daemon.notifications.values("WATCHDOG")) >= 2, 15, "signs of life")
    notifications, daemon.notifications = daemon.notifications, Deaf(daemon.notifications)
    uptime = daemon.status()["supervisor"]["uptime_s"]
    wait_until(lambda: daemon.status()["supervisor"]["uptime_s"] > uptime + 1, 15, "the time of many signs of life")
    assert daemon.call("ping")
    takes_over(daemon)
    daemon.notifications = notifications
    fed = len(notifications.values("WATCHDOG"))
    wait_until(lambda: len(notifications.values("WATCHDOG")) >= fed + 2, 15, "signs of life again")
    daemon.stop()


@core
def test_a_stop_under_a_manager_that_reads_nothing(place):
    """What it should forget is told a few times, in vain; then the stop goes on without it."""
    daemon = Daemon(place, *(channel(f"channel{i}", place.ipv4(), record={}) for i in range(3))).start()
    daemon.notifications = Deaf(daemon.notifications)
    daemon.stop()
    assert "the stop took too long" not in daemon.log_text()


def test_a_log_on_a_disk_that_does_not_answer(place):
    """Nobody waits for it; what was logged meanwhile is in the file when the disk is back."""
    disk = Disk(place)
    daemon = Daemon(place, channel("engine", place.ipv4(), relays={"out": place.ipv4()}))
    daemon.log_path = disk.where / "holdfastd.log"
    daemon.start()
    daemon.wait_for_log("ready")
    disk.freeze()
    for _ in range(3):
        takes_over(daemon)
        assert daemon.call("ping")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    takes_over(daemon)
    disk.thaw()
    wait_until(lambda: daemon.log_text().count("was killed by SIGKILL") >= 4, 15, "four deaths in the log")
    daemon.stop()
    assert daemon.log_text().rstrip().endswith("ended"), "the last word, too"


def test_a_stop_while_the_log_does_not_answer(place):
    disk = Disk(place)
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}))
    daemon.log_path = disk.where / "holdfastd.log"
    daemon.start()
    disk.freeze()
    takes_over(daemon)
    daemon.stop()
    disk.thaw()
    daemon.wait_for_log("ended")


@core
def test_a_log_that_nobody_reads(place):
    """Lines are dropped and counted, and the count is told."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), hang_timeout="60s")
    daemon.log_path = place.folder / "log.fifo"
    os.mkfifo(daemon.log_path)
    reader = os.open(daemon.log_path, os.O_RDONLY | os.O_NONBLOCK)
    with open(daemon.log_path, "wb", buffering=0) as stuffing:
        os.set_blocking(stuffing.fileno(), False)
        daemon.start(environment={"HOLDFAST_DEBUG": "1"})
        for _ in range(2000):
            try:
                os.write(stuffing.fileno(), b"-" * 63 + b"\n")
            except BlockingIOError:
                break
        takes_over(daemon)
    text = b""

    def lost_is_told():
        nonlocal text
        try:
            text += os.read(reader, 1 << 20)
        except BlockingIOError:
            daemon.call("restart", {"channel": "engine"})  # something to log
            daemon.wait_state("engine", "RUNNING")
        return b"lines that belong here are lost" in text
    wait_until(lost_is_told, 15, "the loss to be told")
    os.close(reader)
    daemon.stop()


@core
def test_a_log_whose_reader_is_gone(place):
    """Whoever logs goes on, also the workers."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}))
    daemon.log_path = place.folder / "log.fifo"
    os.mkfifo(daemon.log_path)
    reader = os.open(daemon.log_path, os.O_RDONLY | os.O_NONBLOCK)
    daemon.start(environment={"HOLDFAST_DEBUG": "1"})
    os.close(reader)
    daemon.call("stop", {"channel": "engine"})
    daemon.wait_state("engine", "STOPPED")
    below = set(daemon.descendants())
    orphan = daemon.log_dir / "engine" / "engine-prepared-0000000000000001.avro.open"
    orphan.write_bytes(bytes(4096))
    daemon.call("start", {"channel": "engine"})
    wait_until(lambda: not orphan.exists(), 20, "the archive to remove what nobody has, which it logs")
    daemon.wait_state("engine", "RUNNING")
    assert all(map(is_alive, below)), "the archive goes on, and the spare is the worker now"
    takes_over(daemon)
    daemon.stop()


def test_only_the_journal_is_told_priorities(place):
    """JOURNAL_STREAM names the stream: one that was inherited by chance is not believed."""
    for number, expected in enumerate((b"<5>holdfastd: ready", b"holdfastd: notice: ready")):
        daemon = Daemon(place, channel("engine", place.ipv4(), record={}), name=f"daemon{number}")
        daemon.log_path = place.folder / f"stream{number}"
        os.mkfifo(daemon.log_path)
        reader = os.open(daemon.log_path, os.O_RDONLY | os.O_NONBLOCK)
        about = os.fstat(reader)
        daemon.start(environment={"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino + number}"})
        assert expected in os.read(reader, 1 << 20)
        daemon.stop()


def installed(place, worker=None):
    """Copies of the programs, for this test alone. Returns the worker's path."""
    folder, ordinary = place.folder / "installed", place.program
    folder.mkdir()
    for name in ("holdfastd", "holdfast-worker"):
        shutil.copy2(place.program(name), folder / name)
    if worker:
        (folder / "holdfast-worker").write_bytes(worker)
    place.program = lambda name: str(folder / name) if name == "holdfastd" else ordinary(name)
    return folder / "holdfast-worker"


def test_a_program_on_a_disk_that_does_not_answer(place):
    """A worker can't be executed for a while. Nobody else notices; it holds nothing that it doesn't need; and nothing that
    comes in meanwhile is lost."""
    worker, listens = installed(place), [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", listens[0], record={}), channel("gps", listens[1], record={}),
                    spare_workers=0).start()
    entry = daemon.wait_state("engine", "RUNNING")
    daemon.wait_state("gps", "RUNNING")
    held = HeldProgram(place, worker)
    kill(entry["pid"])
    pid = held.wait_for_one()
    control = Control(daemon.socket, deadline=5)
    assert control.call("ping")["pid"] == daemon.process.pid
    control.close()
    assert pid in daemon.descendants()
    kept = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert sorted(kept, key=int) == ["0", "1", "2", "3", "4"], kept
    assert kept["4"] == str(worker), kept
    for number, listen in enumerate(listens):
        Sender(place, listen, 200, name=f"sent{number}", rate=2000).wait()
    daemon.wait_drained("gps", 200)
    held.release()
    daemon.wait_drained("engine", 200)
    for name in ("engine", "gps"):
        assert oracle.assert_ledger(daemon.status(name))["recorded"] == 200
    daemon.stop()


@core
def test_a_program_that_can_not_be_executed_is_told(place):
    """With its path and the reason; nobody has died of it."""
    worker = installed(place, worker=b"half of it is not there yet")
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), spare_workers=0)
    daemon.start()
    entry = daemon.wait_state("engine", "BACKOFF")
    assert f"Exec format error: {worker}" in entry["cause"], entry
    assert entry["restarts"] == 0 and entry["last_death"] is None, entry
    assert not daemon.call("check")["healthy"]
    daemon.stop(expect=None)
