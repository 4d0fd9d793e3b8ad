# SPDX-License-Identifier: MIT
"""Children that somebody has stopped, and work that would hold up the event loop."""

import os
import pathlib
import signal
import socket

from lib import oracle
from lib.disk import Disk
from lib.holdfast import Daemon, Sender, channel
from lib.place import children_of, comm, core, freeze, kill, states_of_threads, wait_until


def test_a_spare_that_is_stopped_is_replaced(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    wait_until(lambda: len(daemon.helpers()) == 2, 10, "archive and spare")
    spare = daemon.helpers()[-1]
    freeze(spare)
    daemon.wait_for_log(f"spare {spare} is stopped; it is killed")
    wait_until(lambda: len(daemon.helpers()) == 2 and spare not in daemon.helpers(), 10, "another spare")


@core
def test_a_spare_that_was_just_stopped_costs_no_datagram(place):
    """It is given the hold before anybody can know; half of what the kernel's buffer lasts is all that it gets."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, receive_buffer="8M")).start()
    wait_until(lambda: len(daemon.helpers()) == 2, 10, "archive and spare")
    sender = Sender(place, listen, 10**9, rate=place.scaled(20000), sizes=(200,))
    daemon.wait_counter("engine", "received", place.scaled(40000))
    worker = daemon.status("engine")["pid"]
    freeze(daemon.helpers()[-1])
    kill(worker)
    wait_until(lambda: daemon.status("engine")["state"] == "RUNNING" and daemon.status("engine")["pid"] != worker, 20,
               "a worker that runs")
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    assert daemon.counters("engine")["kernel_dropped"] == 0
    assert "did not become READY within" in daemon.log_text()
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")


def test_an_archive_that_stays_stopped_is_replaced(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), spare_workers=0).start()
    daemon.wait_state("engine", "RUNNING")
    archive = daemon.helpers()[0]
    freeze(archive)
    sender = Sender(place, listen, 100, rate=1000)
    sender.wait()
    daemon.ctl("stop", "engine")
    daemon.wait_for_log("has been stopped for 30 s; it is killed", 60)
    wait_until(lambda: daemon.segments("engine") and not daemon.segments("engine", ".avro.open"), 20, "the seal")
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records], "recorded")


def memory_of(pid):
    """Of the memory files that the process has open: bytes in use."""
    blocks = 0
    for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(path).startswith("/memfd:holdfast:"):
                blocks += path.stat().st_blocks
        except OSError:
            pass  # closed meanwhile
    return 512 * blocks


def test_a_large_ring_is_let_go_of_in_slices(place):
    """Between two answers of the daemon it has become smaller, and is still there."""
    listen = place.ipv4()
    size = place.scaled(1 << 30)
    record = {"on_full": "wait", "segment_size": "1M"}
    daemon = Daemon(place, channel("engine", listen, record=record, ring_size=size, max_datagram=65507),
                    hang_timeout="60s", spare_workers=0).start()
    daemon.wait_state("engine", "RUNNING")
    archive = daemon.helpers()[0]
    freeze(archive)  # the recorder runs out of segments: the ring fills
    pid = daemon.process.pid
    sender = Sender(place, listen, 10**9, rate=8000, sizes=(60000,))
    wait_until(lambda: memory_of(pid) > size // 4 * 3, 60, "the ring to be nearly full")
    sender.stop()
    used = memory_of(pid)
    daemon.ctl("--no-wait", "stop", "engine")
    seen = set()

    def gone():
        daemon.call("ping")
        seen.add(memory_of(pid))
        return min(seen) == 0
    wait_until(gone, 30, "the ring to be gone", interval=0)
    kill(archive, signal.SIGCONT)
    assert len([amount for amount in seen if 0 < amount < used]) >= 3, seen


@core
def test_clients_leave_descriptors_to_the_channels(place):
    """Four hundred of them are connected and say nothing; workers die and segments fill as before."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), spare_workers=1).start()
    daemon.wait_state("engine", "RUNNING")
    place.run("prlimit", "--pid", str(daemon.process.pid), "--nofile=256:256")
    sender = Sender(place, listen, 10**9, rate=place.scaled(4000), sizes=(800,))
    clients = []
    for _ in range(400):
        client = socket.socket(socket.AF_UNIX)
        place.on_exit(client.close)
        client.setblocking(False)
        try:
            client.connect(str(daemon.socket))
        except BlockingIOError:
            pass  # its queue is full
        clients.append(client)
    for _ in range(4):
        segment = daemon.status("engine")["log"]["segment"]
        worker = daemon.wait_state("engine", "RUNNING")["pid"]
        kill(worker)
        wait_until(lambda pid=worker: daemon.status("engine")["pid"] not in (pid, None), 20, "a successor")
        wait_until(lambda name=segment: daemon.status("engine")["log"]["segment"] not in (name, None), 30, "a new segment")
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    assert daemon.counters("engine")["recorded"] == len(sent)
    assert "broke the protocol" not in daemon.log_text()


def test_the_process_that_writes_the_log_is_replaced(place):
    """Before and after an upgrade, and what was in the pipe is written."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()

    def writer():
        return next((pid for pid in children_of(daemon.process.pid) if comm(pid) == "holdfast-log"), None)
    for number in (1, 2):
        before = writer()
        freeze(before)
        for _ in range(3):
            daemon.ctl("rotate", "engine", expect=None)
        kill(before)
        wait_until(lambda pid=before: writer() not in (None, pid), 10, "another process")
        daemon.wait_for_log(f"process {writer()} goes on")
        assert daemon.log_text().count("rotate engine") == 3 * number, daemon.log_text()
        daemon.disconnect()
        daemon.ctl("upgrade")
        wait_until(lambda wanted=number: daemon.log_text().count("restored ") == wanted, 10, "the upgrade's log")
    daemon.stop()
    assert daemon.log_text().rstrip().endswith("ended")


def test_an_upgrade_while_the_logs_process_is_replaced(place):
    """It has died twice within a second, so that the next one is to begin a little later: the new program begins it."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()

    def writer():
        return next((pid for pid in children_of(daemon.process.pid) if comm(pid) == "holdfast-log"), None)
    first = writer()
    kill(first)
    wait_until(lambda: writer() not in (None, first), 10, "another process")
    kill(writer())
    wait_until(lambda: writer() is None, 10, "its end")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_for_log("restored ")
    daemon.stop()
    assert daemon.log_text().rstrip().endswith("ended")


def test_whoever_starts_it_may_ignore_its_children(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start(
        wrapper=("sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"))
    before = daemon.status("engine")["pid"]
    kill(before)
    wait_until(lambda: daemon.status("engine")["pid"] not in (None, before), 20, "another worker")
    daemon.stop()


def test_an_archive_that_ends_again_and_again_is_told(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), head='restart { first_delay = "20s"  max_delay = "20s" }').start()
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a segment")
    worker = daemon.status("engine")["pid"]

    def archives():
        return [pid for pid in children_of(daemon.process.pid) if comm(pid) == "holdfast-worker" and pid != worker and
                any(link.startswith(str(daemon.log_dir)) for link in links_of(pid))]
    for _ in range(3):  # the first deaths are replaced at once
        for pid in archives():
            kill(pid)
        wait_until(lambda: archives() or "in 20 s" in daemon.log_text() or "in 1" in daemon.log_text(), 10, "another one, or none")
    wait_until(lambda: [kill(pid) for pid in archives()] is not None and
               "archive_silent" in daemon.ctl("check", "--json", expect=None).stdout, 40, "the check to tell")
    daemon.stop(expect=None)


def links_of(pid):
    try:
        return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def test_a_killed_worker_that_waits_for_its_disk_is_not_taken_for_one_that_runs(place):
    """All its threads are gone but the one that sleeps in the kernel, and so it is no more than that: nobody relays."""
    disk, listen = Disk(place), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, receive_buffer="8M",
                                   record={"segment_size": "8M", "sync": "100ms"}), log_dir=disk.where / "log").start()
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    sender = Sender(place, listen, 10**9, rate=500, sizes=(200,))
    daemon.wait_counter("engine", "recorded", 500)
    disk.freeze()
    wait_until(lambda: "D" in states_of_threads(worker), 30, "a thread to wait for the disk", interval=0.05)
    kill(worker)
    wait_until(lambda: "worker_dead" in [problem["kind"] for problem in daemon.call("check")["problems"]], 20, "check to say so")
    assert states_of_threads(worker) == {"Z", "D"}
    assert not daemon.call("check")["healthy"]
    assert "engine can't receive: its worker was killed" in daemon.ctl("check", expect=1).stdout
    entry = daemon.status("engine")
    assert entry["pid"] == worker and "nothing is received or relayed" in entry["receive_trouble"], entry
    disk.thaw()
    wait_until(lambda: daemon.status("engine")["pid"] not in (worker, None) and daemon.call("check")["healthy"], 30, "a successor")
    entry = daemon.status("engine")
    assert entry["receive_trouble"] is None and entry["last_death"]["cause"] == "killed", entry
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    assert daemon.counters("engine")["kernel_dropped"] == 0
    daemon.stop()
    oracle.assert_same_payloads(sent, [record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))],
                                "recorded")
