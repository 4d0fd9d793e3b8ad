# SPDX-License-Identifier: MIT
"""No worker can be started for a while: its program is being installed, or descriptors are used up. What is held for
channels that end, or whose settings are others now, waits for one like everything else."""

import os

from lib import oracle
from lib.holdfast import Sender, channel
from lib.place import core, wait_until
from lib.store import StoredDaemon
from system.b11_power_cut import left_without_a_worker

ATTEMPTS = 5  # more than those that make no progress get


def take_away(program, kept):
    program.rename(kept)


def half_install(program, kept):
    program.rename(kept)
    program.write_bytes(bytes(4096))
    program.chmod(0o755)


def begin(place, change, break_it=half_install, **settings):
    """The supervisor dies, and when the next one begins there is no worker program. Returns how it is there again."""
    program = place.move_programs() / "holdfast-worker"
    listen = place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, record={}), channel("gps", place.ipv4(), record={}),
                          spare_workers=0, **settings)
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 10).wait()
    daemon.wait_drained("engine", 10)
    daemon.die()
    Sender(place, listen, 300, name="queued", tag=2).wait()
    daemon.config.write_text(change(daemon.config.read_text(), listen))
    kept = program.with_name("kept")
    break_it(program, kept)
    daemon.connection = None
    daemon.start_stored()  # also without workers it is as ready as it will be
    return daemon, lambda: kept.rename(program)


def wait_attempts(daemon, count):
    wait_until(lambda: daemon.log_text().count("error: channel engine: worker") >= count, 30, "attempts")


def run(place, change, break_it=half_install):
    daemon, mend = begin(place, change, break_it)
    wait_attempts(daemon, ATTEMPTS)
    mend()
    wait_until(lambda: daemon.segments("engine"), 40, "what was held to be recorded, and sealed")
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_consecutive(records)
    assert len(records) == 310, len(records)
    daemon.wait_state("gps", "RUNNING")
    return daemon


def without_engine(text, _listen):
    return text[:text.index('channel "engine"')] + text[text.index('channel "gps"'):]


@core
def test_what_is_held_for_a_channel_that_is_gone_waits_for_a_worker(place):
    daemon = run(place, without_engine)
    assert "of 310 datagrams received since it began, 310 are recorded" in daemon.log_text()
    daemon.stop()


def test_and_what_a_former_socket_has_queued(place):
    other = place.ipv4()
    daemon = run(place, lambda text, listen: text.replace(listen, other))
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()


def test_a_worker_that_is_missing_is_found_where_it_was(place):
    """Beside its supervisor, which is not where it would be installed."""
    run(place, without_engine, take_away).stop()


@core
def test_a_stop_has_time_to_wait_for_a_worker(place):
    daemon = left_without_a_worker(place, 'first_delay = "60s"  max_delay = "60s"', "BACKOFF", spare_workers=0)
    listen = daemon.status("engine")["listen"]
    Sender(place, listen, 300, name="queued", tag=3).wait()
    before = daemon.counters("engine")
    pid = daemon.process.pid
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    limit = next(number for number in range(3, 1000) if number not in used)
    place.run("prlimit", "--pid", pid, f"--nofile={limit}:1024")
    daemon.ctl("stop", "engine", "--no-wait")
    wait_until(lambda: daemon.log_text().count("can't start a worker") >= 3, 10, "attempts")
    place.run("prlimit", "--pid", pid, "--nofile=1024:1024")
    daemon.wait_state("engine", "STOPPED", 20)
    after = oracle.assert_ledger(daemon.status("engine"))
    assert after["kernel_dropped"] == before["kernel_dropped"], "the queue was thrown away"
    assert after["recorded"] == after["received"] >= before["received"] + 300, (before, after)
    daemon.stop(expect=None)


def test_the_end_of_all_does_not_wait_out_a_delay(place):
    """What waits for a worker tries again at once: an end has less time than the delay."""
    daemon, mend = begin(place, without_engine, head='restart { first_delay = "60s"  max_delay = "60s" }')
    wait_attempts(daemon, 1)
    mend()
    daemon.stop(expect=None)  # 1 where the archive's own attempt came too early
    assert "of 310 datagrams received since it began, 310 are recorded" in daemon.log_text()
    daemon.start()
    wait_until(lambda: not daemon.segments("engine", ".open"), 30, "what it has left to be sealed")
    daemon.stop()
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_consecutive(records)
    assert len(records) == 310, len(records)
