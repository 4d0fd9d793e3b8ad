# SPDX-License-Identifier: MIT
"""A channel goes, or its daemon does, before the archive has told how its log stands: after a power cut, say, with a large
file to be read. What came in meanwhile is recorded behind what the log has, or counted."""

import os
import shutil
import signal

from lib import oracle
from lib.held_program import HeldProgram
from lib.holdfast import Sender, channel
from lib.place import freeze, kill, wait_until
from lib.store import StoredDaemon


def after_a_power_cut(place):
    """A daemon whose log has 100 records in an unfinished file; its programs are its own, and can be held."""
    folder, ordinary = place.folder / "installed", place.program
    folder.mkdir()
    for name in ("holdfastd", "holdfast-worker"):
        shutil.copy2(place.program(name), folder / name)
    place.program = lambda name: str(folder / name) if name == "holdfastd" else ordinary(name)
    listens = [place.ipv4(), place.ipv4()]
    daemon = StoredDaemon(place, channel("engine", listens[0], record={}), channel("other", listens[1], relays={"out": place.ipv4()}), spare_workers=0)
    daemon.start_stored()
    Sender(place, listens[0], 100, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 100)
    freeze(daemon.process.pid)  # or it starts others while it is being ended
    daemon.die()
    for fds in daemon.notifications.kept.values():
        for fd in fds:
            os.close(fd)
    daemon.notifications.kept.clear()
    assert daemon.segments("engine", ".avro.open")
    return daemon, listens[0], folder / "holdfast-worker"


def without(daemon, name):
    text = daemon.config.read_text()
    begin = text.index(f'channel "{name}"')
    end = text.index("}\n}\n", begin) + 4
    daemon.config.write_text(text[:begin] + text[end:])


def judge(daemon, sent):
    """All is in the log, in one row."""
    daemon.wait_for_log("channel engine: the configuration doesn't have it any more; what was left is dealt with", 30)
    wait_until(lambda: not daemon.segments("engine", ".avro.open"), 20, "the segments to be sealed")
    daemon.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_python_avro(files)
    oracle.assert_consecutive(records, first=0)
    assert len(records) == 100 + sent, f"{len(records)} of {100 + sent} records"


def test_a_channel_that_is_removed_before_it_had_a_ring(place):
    """All that is left of it is its socket, and what that has queued."""
    daemon, listen, worker = after_a_power_cut(place)
    held = HeldProgram(place, worker)
    daemon.start_stored(wait=False)
    wait_until(lambda: "engine.rx" in daemon.notifications.kept, 10, "the socket to be stored")
    Sender(place, listen, 10, name="meanwhile", rate=1000).wait()
    daemon.die()
    without(daemon, "engine")
    held.release()
    daemon.start_stored()
    judge(daemon, 10)


def relaying_without_its_log(place):
    """Its archive stands still for longer than a channel waits. Returns the archive's pid, too."""
    daemon, listen, worker = after_a_power_cut(place)
    held = HeldProgram(place, worker)
    daemon.start_stored(wait=False)
    wait_until(lambda: len(held.pids()) == 3, 10, "the archive, the other channel's worker and the gate to be executed")
    archive = min(held.pids())  # it is begun first, whichever the processor comes to first
    kill(archive, signal.SIGSTOP)
    held.release()
    daemon.wait_ready()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 10, name="meanwhile", rate=1000).wait()
    daemon.wait_counter("engine", "received", 10)
    return daemon, listen, archive


def test_a_channel_that_is_removed_while_it_relays_without_its_log(place):
    """What it has relayed bears numbers that the log has given to others: it is counted as lost, and those stay alone."""
    daemon, _listen, _archive = relaying_without_its_log(place)
    daemon.die()
    without(daemon, "engine")
    daemon.start_stored()
    daemon.wait_for_log("of 10 datagrams received since it began, 0 are recorded, 10 were lost before", 30)
    judge(daemon, 0)


def test_a_stop_while_it_relays_without_its_log(place):
    """The archive tells how the log stands while the worker leaves; the next start goes on behind it."""
    daemon, listen, archive = relaying_without_its_log(place)
    daemon.call("stop", {"channel": "engine"})
    kill(archive, signal.SIGCONT)
    daemon.wait_state("engine", "STOPPED")
    assert oracle.assert_ledger(daemon.status("engine"))["record_lost"] == 10
    daemon.call("start", {"channel": "engine"})
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 5, name="after", rate=1000).wait()
    daemon.wait_drained("engine", 15)
    daemon.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_python_avro(files)
    oracle.assert_consecutive(records, first=0)
    assert len(records) == 105, len(records)


def test_a_restart_while_it_relays_without_its_log(place):
    """What the kernel has queued for the worker that goes is received, whatever numbers the next one begins with."""
    daemon, listen, archive = relaying_without_its_log(place)
    worker = daemon.status("engine")["pid"]
    freeze(worker)
    Sender(place, listen, 1000, name="queued", rate=0).wait()
    daemon.call("restart", {"channel": "engine"})
    kill(archive, signal.SIGCONT)
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "the log to be known")
    kill(worker, signal.SIGCONT)
    wait_until(lambda: daemon.status("engine")["pid"] not in (worker, None), 20, "another worker")
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_drained("engine", 1010)
    Sender(place, listen, 5, name="after", rate=1000).wait()
    daemon.wait_drained("engine", 1015)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == 1015 and counters["kernel_dropped"] == 0, counters
    daemon.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    numbers = [record.seq for record in oracle.read_with_python_avro(files)]
    assert numbers == sorted(set(numbers)) and numbers[:100] == list(range(100)), numbers[:200]
    assert len(numbers) == 100 + counters["recorded"] >= 105, (len(numbers), counters)
    assert numbers[-1] + 1 - len(numbers) == counters["record_lost"], "the gap is what was lost"
