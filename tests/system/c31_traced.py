# SPDX-License-Identifier: MIT
"""Somebody looks at a process with strace or gdb when it dies. The kernel tells of that end once, while there is nothing to
be waited for yet; all the same each gets its successor, and when the tracer has let go, nobody's remains are left."""

import itertools
import os

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import children_of, comm, core, kill, wait_until
from lib.tracer import Tracer, wait_dead


def wait_looks(daemon, seconds=1):
    """The regular look has come by several times."""
    uptime = daemon.status()["supervisor"]["uptime_s"]
    wait_until(lambda: daemon.status()["supervisor"]["uptime_s"] > uptime + seconds, 30, "several looks")


def wait_gone(pid):
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 20, f"the remains of {pid} to be waited for")


def threads_of(pid):
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")), key=lambda thread: thread != pid)


def die_traced(place, daemon, pid, threads=None, at_once=False):
    """pid is killed while somebody traces it, and let go of at once or when the supervisor has long been told."""
    tracer = Tracer(place, *(threads or [pid]))
    kill(pid)
    wait_dead(pid)
    if not at_once:
        wait_looks(daemon)
    tracer.let_go()
    wait_gone(pid)


def wait_successor(daemon, pid):
    return wait_until(lambda: (lambda entry: entry if entry["state"] == "RUNNING" and entry["pid"] not in (pid, None) else None)(
        daemon.status("engine")), 20, "a successor of the worker")["pid"]


@core
def test_a_worker(place):
    """Nothing is lost over it, whether one thread is traced or all are, and when it is let go of."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={})).start()
    sent = []
    for number, (every_thread, at_once) in enumerate(itertools.product((False, True), repeat=2)):
        pid = daemon.wait_state("engine", "RUNNING")["pid"]
        sender = Sender(place, listen, 200, name=f"sent{number}", tag=number + 1, rate=100)
        die_traced(place, daemon, pid, threads_of(pid) if every_thread else None, at_once)
        wait_successor(daemon, pid)
        sender.wait()
        sent += oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    sink.wait_received(len(sent))
    assert daemon.counters("engine")["kernel_dropped"] == 0
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "the log")


@core
def test_the_archive(place):
    """A segment that is begun afterwards shows that there is another one."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), spare_workers=0).start()
    daemon.wait_state("engine", "RUNNING")
    (archive,) = daemon.helpers()
    die_traced(place, daemon, archive, at_once=True)
    wait_until(lambda: len(daemon.descendants()) == 3, 20, "another archive beside worker and gate")
    daemon.call("rotate", ["engine"])
    daemon.stop()


@core
def test_a_tracer_that_does_not_let_go(place):
    """As a debugger at its prompt: nobody waits for whoever sits there, and nothing that was sent meanwhile is lost."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), spare_workers=0).start()
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    (archive,) = daemon.helpers()
    tracers = [Tracer(place, *threads_of(pid)) for pid in (worker, archive)]
    kill(worker)
    kill(archive)
    sender = Sender(place, listen, 200)
    wait_successor(daemon, worker)
    wait_until(lambda: len(daemon.descendants()) == 5, 20, "another archive beside all that is left of the others")
    daemon.call("rotate", ["engine"])
    sender.wait()
    daemon.wait_drained("engine", 200)
    death = daemon.call("crashes", ["engine"])
    assert "SIGKILL" in str(death), death
    for pid, tracer in zip((worker, archive), tracers):
        wait_dead(pid)
        tracer.let_go()
        wait_gone(pid)
    daemon.stop()
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [
        record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))], "the log")


def test_a_spare_and_whoever_writes_the_log(place):
    """The spare is the youngest of the four that a daemon with one channel has."""
    daemon = Daemon(place, channel("engine", place.ipv4(), relays={"out": place.ipv4()}), spare_workers=1).start()
    wait_until(lambda: len(daemon.descendants()) == 4, 20, "archive, worker, gate and spare")
    spare = max(daemon.descendants())
    die_traced(place, daemon, spare)
    wait_until(lambda: len(daemon.descendants()) == 4, 20, "another spare")
    (writer,) = [pid for pid in children_of(daemon.process.pid) if comm(pid) == "holdfast-log"]
    die_traced(place, daemon, writer)
    daemon.wait_for_log("the process that writes this log has ended")
    daemon.stop()
