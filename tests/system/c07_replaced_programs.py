# SPDX-License-Identifier: MIT
"""A package replaces the programs while the daemon runs: until it is told to upgrade, it goes on with those it began
with, also when workers die."""

import pathlib
import shutil

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until


@core
def test_a_running_daemon_starts_the_workers_that_it_began_with(place):
    folder = place.move_programs()
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), spare_workers=0).start()
    worker = daemon.wait_state("engine", "RUNNING")
    shutil.copy("/bin/false", folder / "new")
    (folder / "new").rename(folder / "holdfast-worker")  # as another version would be, but worse
    sender = Sender(place, listen, 2000, rate=2000)
    for _ in range(3):
        pid = worker["pid"]
        kill(pid)
        worker = wait_until(lambda was=pid: (lambda now: now if now["state"] == "RUNNING" and now["pid"] != was else None)(
            daemon.status("engine")), 10, "a successor")
        assert pathlib.Path(f"/proc/{worker['pid']}/comm").read_text(encoding="ascii").strip() == "holdfast-worker"
    sender.wait()
    daemon.wait_drained("engine", 2000)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["recorded"] == 2000 and counters["kernel_dropped"] == 0, counters
    daemon.stop()
