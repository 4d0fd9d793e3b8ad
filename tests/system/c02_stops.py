# SPDX-License-Identifier: MIT
"""However a channel is stopped, what the kernel had queued for it is recorded, or counted."""

import os
import pathlib
import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, kill, skip, wait_until


def judge(daemon, sender):
    """After the stop: everything that was sent is in the log."""
    counters = oracle.assert_ledger(daemon.status("engine"))
    sent = oracle.read_datagrams(sender.record)[0]
    assert counters["received"] == counters["recorded"] == len(sent), (len(sent), counters)
    wait_until(lambda: daemon.segments("engine") and not daemon.segments("engine", ".avro.open"), 20,
               "the archive to seal what the stopped worker left")
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_consecutive(records)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "the log")


def queued_behind_a_restart(place):
    """The worker is told to make room for another one, stands still, and 1,000 datagrams wait."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), hang_timeout="60s").start()
    pid = daemon.wait_state("engine", "RUNNING")["pid"]
    freeze(pid)
    sender = Sender(place, listen, 1000, rate=10000)
    sender.wait()
    daemon.call("restart", {"channel": "engine"})
    return daemon, sender, pid


@core
def test_a_stop_behind_a_restart_records_what_was_queued(place):
    daemon, sender, pid = queued_behind_a_restart(place)
    daemon.call("stop", {"channel": "engine"})
    os.kill(pid, signal.SIGCONT)
    daemon.wait_state("engine", "STOPPED", 30)
    judge(daemon, sender)
    daemon.stop()


@core
def test_so_does_an_end_behind_a_restart(place):
    daemon, sender, pid = queued_behind_a_restart(place)
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in daemon.notifications.poll(), 10, "STOPPING=1")
    os.kill(pid, signal.SIGCONT)
    assert daemon.process.wait(30) == 0
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records], "the log")


@core
def test_so_does_an_upgrade_behind_a_restart(place):
    daemon, sender, pid = queued_behind_a_restart(place)
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.wait_for_log("as soon as the workers have let go")
    os.kill(pid, signal.SIGCONT)
    daemon.wait_for_log("restored ", 30)
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_drained("engine", 1000)
    assert daemon.counters("engine")["kernel_dropped"] == 0
    daemon.ctl("stop", "engine")
    judge(daemon, sender)
    daemon.stop()


@core
def test_a_stop_with_a_full_ring_waits_for_the_recorder(place):
    listen = place.ipv4()
    ring = channel("engine", listen, record={"on_full": "wait"}, ring_size="1M", max_datagram=2048, receive_buffer="32M")
    daemon = Daemon(place, ring, hang_timeout="60s").start()
    if daemon.wait_state("engine", "RUNNING")["receive_buffer_bytes"] < 32 << 20:
        skip("a receive buffer of 32M needs CAP_NET_ADMIN or `sysctl -w net.core.rmem_max=33554432`")
    pid = daemon.status("engine")["pid"]
    os.kill(pid, signal.SIGSTOP)
    count = place.scaled(15000)
    sender = Sender(place, listen, count, rate=30000, sizes=(800,))
    sender.wait()
    daemon.call("stop", {"channel": "engine"})
    os.kill(pid, signal.SIGCONT)
    daemon.wait_state("engine", "STOPPED", 30)
    judge(daemon, sender)
    # A recorder that begins in time keeps up with what the receiver takes, and the ring is never full.
    assert daemon.log_text().count("the ring is full") <= 1, "said once, and then once a minute with a count"
    daemon.stop()


def test_a_channel_without_memory_for_its_ring_can_be_stopped(place):
    """What is queued can't be taken by anybody: counted, as is what the kernel has dropped, and nobody waits for it."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, receive_buffer="64K"), channel("other", place.ipv4(), record={}),
                    spare_workers=0).start()
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("stop", "engine")
    daemon.wait_state("engine", "STOPPED")
    pid = daemon.process.pid
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    limit = [number for number in range(3, 200) if number not in used][2]  # for its socket, and not for its ring
    place.run("prlimit", "--pid", pid, f"--nofile={limit}:{limit}")
    daemon.call("start", {"channel": "engine"})
    daemon.wait_state("engine", "BACKOFF")
    Sender(place, listen, 2000, rate=0, sizes=(800,)).wait()
    dropped = daemon.counters("engine")["kernel_dropped"]
    assert 0 < dropped < 2000, "what is queued is not lost yet"
    daemon.call("stop", {"channel": "engine"})
    daemon.wait_state("engine", "STOPPED", 10)
    counters = daemon.counters("engine")
    assert (counters["received"], counters["kernel_dropped"]) == (0, 2000), counters
    daemon.stop()


def scribble_identity(daemon):
    """The public memory says no longer what it is; the supervisor has it open."""
    folder = pathlib.Path(f"/proc/{daemon.process.pid}/fd")
    ring = next(path for path in folder.iterdir() if os.readlink(path).startswith("/memfd:holdfast:engine"))
    with open(ring, "r+b", buffering=0) as memory:
        memory.write(bytes(8))


@core
def test_a_stop_over_a_damaged_ring_receives_what_was_queued(place):
    """The worker dies over the stop; its successor trusts the ring no more, and gets another one."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), hang_timeout="60s").start()
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    first = Sender(place, listen, 100, rate=2000, name="first", tag=2)
    first.wait()
    daemon.wait_drained("engine", 100)
    freeze(worker)
    second = Sender(place, listen, 1000, rate=0, sizes=(100,), name="second")
    second.wait()
    scribble_identity(daemon)
    daemon.ctl("stop", "engine", "--no-wait")
    kill(worker)
    daemon.wait_state("engine", "STOPPED", 30)
    assert "can't trust the ring" in daemon.log_text()
    counters = daemon.counters("engine")
    assert counters["received"] == counters["recorded"] == 1100 and counters["kernel_dropped"] == 0, counters
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    sent = [payload for sender in (first, second) for payload in oracle.read_datagrams(sender.record)[0]]
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")


def test_a_stopped_channel_asks_for_no_segment(place):
    """The archive's refusal comes when the channel has stopped."""
    place.private_mounts()
    place.mount_tmpfs(place.folder / "full", "1M")
    daemon = Daemon(place, channel("engine", place.ipv4(), record={"segment_size": "16M"}), spare_workers=0,
                    log_dir=place.folder / "full" / "log").start()

    def log_state():
        return daemon.status("engine")["log"]["state"]
    wait_until(lambda: log_state() == "trouble", 10, "the trouble")
    daemon.wait_state("engine", "RUNNING")
    archive, = daemon.helpers()
    freeze(archive)
    wait_until(lambda: log_state() != "trouble", 10, "the next attempt")
    daemon.ctl("stop", "engine")
    kill(archive, signal.SIGCONT)
    wait_until(lambda: log_state() == "none", 10, "the end of the recording")
    assert daemon.call("check")["problems"] == []
