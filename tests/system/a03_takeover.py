# SPDX-License-Identifier: MIT
"""A worker dies; another takes over within the policy, goes on in the same segment, and nobody else notices."""

import os
import signal

from lib import oracle
from lib.holdfast import Daemon, RpcError, Sender, Sink, channel
from lib.place import core, freeze, kill, wait_until


def two_channels(place, **top):
    listens, outlet = [place.ipv4(), place.ipv4()], place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listens[0], relays={"display": outlet}, record={}),
                    channel("neighbour", listens[1], record={}), **top).start()
    return daemon, listens, sink


def kill_worker(daemon, name, number=signal.SIGKILL):
    """Kill the channel's worker and wait for its successor."""
    before = daemon.wait_state(name, "RUNNING")
    kill(before["pid"], number)

    def successor():
        entry = daemon.status(name)
        return entry if entry["state"] == "RUNNING" and entry["generation"] > before["generation"] else None
    return before, wait_until(successor, 20, f"a successor for the worker of {name}")


@core
def test_a_killed_worker_is_replaced_and_nothing_is_missing(place):
    daemon, listens, sink = two_channels(place)
    count = place.scaled(20000)
    sender = Sender(place, listens, count, rate=place.scaled(5000), sizes=(8, 64, 800))
    kills = 5
    for number in range(kills):
        daemon.wait_counter("engine", "received", count * (number + 1) // (kills + 2))
        before, after = kill_worker(daemon, "engine")
        assert after["pid"] != before["pid"] and after["restarts"] == number + 1
        assert after["log"]["segment"] == before["log"]["segment"], "the same segment goes on"
        assert after["last_death"] is not None
    sender.wait()
    daemon.wait_drained("engine", count)
    daemon.wait_drained("neighbour", count)
    entry = daemon.status("engine")
    assert entry["counters"]["kernel_dropped"] == 0 and entry["counters"]["restarts"] == kills
    oracle.assert_ledger(entry)
    assert daemon.status("neighbour")["restarts"] == 0
    daemon.stop()
    sink.stop()

    sent = oracle.read_datagrams(sender.record)
    for index, name in enumerate(("engine", "neighbour")):
        files = daemon.segments(name)
        assert len(files) == 1 and not daemon.segments(name, ".avro.open")
        oracle.assert_verified(daemon, files)
        records = oracle.read_with_avro_c(place, files)
        oracle.assert_consecutive(records, first=0)
        oracle.assert_same_payloads(sent[index], [record.payload for record in records], f"{name}: recorded")
        assert oracle.read_with_python_avro(files) == records
    oracle.assert_at_least_once(sent[0], oracle.read_datagrams(sink.record)[0], "relayed")


@core
def test_deaths_are_told_by_status_and_crashes(place):
    daemon, _listens, _sink = two_channels(place)
    numbers = [signal.SIGKILL] if place.sanitized else [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]
    for number in numbers:
        kill_worker(daemon, "engine", number)
    entry = daemon.status("engine")
    assert entry["restarts"] == len(numbers)
    assert numbers[-1].name in str(entry["last_death"]), entry["last_death"]
    crashes = daemon.call("crashes", {"channel": "engine"})
    text = str(crashes)
    for number in numbers:
        assert number.name in text, f"{number.name} is missing in {crashes}"
    assert daemon.status("neighbour")["last_death"] is None
    human = daemon.ctl("crashes", "engine").stdout
    assert all(number.name in human for number in numbers), human
    log = daemon.log_text()
    assert "engine" in log and "SIGKILL" in log


def freeze_spare(daemon):
    """Of one archive and one spare; the archive is started first."""
    spare = wait_until(lambda: (lambda pids: pids if len(pids) == 2 else None)(daemon.helpers()), 10, "archive and spare")[1]
    freeze(spare)
    return spare


def kill_before_ready(daemon):
    """Two deaths: of the worker, and of its successor before that was ready."""
    spare = freeze_spare(daemon)
    before = daemon.status("engine")
    kill(before["pid"])
    wait_until(lambda: daemon.status("engine")["pid"] == spare, 10, "the spare to be given the channel")
    kill(spare)
    return before["pid"], spare


def test_deaths_with_progress_are_answered_at_once_however_many(place):
    daemon, listens, _sink = two_channels(place, head='restart { first_delay = "1h"  max_delay = "1h" }')
    sender = Sender(place, listens, 10**9, rate=place.scaled(2000))
    for number in range(15):
        before = daemon.wait_state("engine", "RUNNING")
        daemon.wait_counter("engine", "received", before["counters"]["received"] + 1)
        _before, after = kill_worker(daemon, "engine")
        assert after["restart"]["rule"] in ("at once", "processor share"), after["restart"]
        assert after["deaths_in_a_row"] == number + 1 and after["restart"]["deaths_without_progress"] == 0
    for number in range(3):  # ... nor if there is nothing to do
        kill_worker(daemon, "neighbour" if number else "engine")
    sender.stop()
    daemon.wait_drained("engine", len(oracle.read_datagrams(sender.record)[0]))
    assert daemon.status("engine")["counters"]["kernel_dropped"] == 0
    daemon.stop()


def test_a_wait_ends_before_the_kernel_drops_anything(place):
    """Two workers in a row die before they are ready: by the schedule alone the third would start in an hour."""
    daemon, listens, _sink = two_channels(place, spare_workers=1, head='restart { first_delay = "1h"  max_delay = "1h" }')
    sender = Sender(place, listens, 10**9, rate=place.scaled(20000), sizes=(64,))
    wait_until(lambda: daemon.status("engine")["rate"], 20, "the rate to be known")
    dead = kill_before_ready(daemon)

    def third():
        entry = daemon.status("engine")
        return entry if entry["pid"] not in (None, *dead) and entry["state"] == "RUNNING" else None
    after = wait_until(third, 20, "the third worker")
    assert after["restart"]["rule"] == "stall budget", after["restart"]
    assert after["restart"]["deaths_without_progress"] == 1
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["kernel_dropped"] == 0 and counters["recorded"] == len(sent), counters
    daemon.stop()


def test_datagrams_that_begin_to_come_in_end_the_wait(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, receive_buffer="256K", record={}), spare_workers=1,
                    head='restart { first_delay = "1h"  max_delay = "1h" }').start()
    kill_before_ready(daemon)
    entry = daemon.wait_state("engine", "BACKOFF")
    assert entry["restart"]["rule"] == "backoff" and entry["restart"]["stall_budget_ms"] is None
    assert entry["next_start_ms"] > 60000
    sender = Sender(place, listen, 1000, rate=1000, sizes=(64,))
    daemon.wait_state("engine", "RUNNING")
    sender.wait()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["kernel_dropped"] == 0 and counters["recorded"] == len(sent), counters
    daemon.stop()


def test_the_schedule_of_restarts_is_visible_and_given_up_when_asked_for(place):
    daemon, _listens, _sink = two_channels(
        place, spare_workers=1, head='restart { first_delay = "600ms"  max_delay = "2s"  give_up_after = 4 }')
    kill_before_ready(daemon)
    entry = daemon.wait_state("engine", "BACKOFF")
    assert 0 <= entry["next_start_ms"] <= 2000
    assert entry["restart"] == {"rule": "backoff", "deaths_without_progress": 1, "stall_budget_ms": None,
                                "expected_drops": 0}
    assert "rule: backoff" in daemon.ctl("status", "engine").stdout
    daemon.wait_state("engine", "RUNNING")
    kill_before_ready(daemon)
    daemon.wait_state("engine", "FAILED")
    assert daemon.status("neighbour")["state"] == "RUNNING"
    told = daemon.ctl("check", expect=1).stdout
    assert "engine is FAILED: given up after 4 deaths in a row" in told and "`holdfastctl reset-failed engine`" in told, told
    daemon.call("reset-failed", {"channel": "engine"})
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("check")
    daemon.stop()


def test_a_hang_that_ends_in_failed_is_told_as_one(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), head="restart { give_up_after = 1 }",
                    hang_timeout="500ms").start()
    kill(daemon.wait_state("engine", "RUNNING")["pid"], signal.SIGSTOP)
    cause = daemon.wait_state("engine", "FAILED")["cause"]
    assert "given up after 1 death in a row" in cause and "gave no sign of life" in cause, cause
    daemon.stop()


@core
def test_the_archive_process_may_die_too(place):
    daemon, listens, _sink = two_channels(place)
    workers = {entry["pid"] for entry in daemon.status()["channels"]}
    sender = Sender(place, listens, place.scaled(5000), rate=place.scaled(2500))
    daemon.wait_counter("engine", "received", 100)
    others = set(daemon.descendants()) - workers
    assert len(others) >= 3, "archive, gate and a spare at least"
    for pid in others:
        kill(pid)
    sender.wait()
    daemon.wait_drained("engine", place.scaled(5000))
    daemon.call("rotate", {"channel": "engine"})
    wait_until(lambda: daemon.segments("engine"), 20, "a sealed segment from the new archive process")
    assert all(entry["restarts"] == 0 for entry in daemon.status()["channels"])
    daemon.stop()
    sent = oracle.read_datagrams(sender.record)
    for index, name in enumerate(("engine", "neighbour")):
        records = oracle.read_with_avro_c(place, daemon.segments(name))
        oracle.assert_same_payloads(sent[index], [record.payload for record in records], name)


def test_a_hanging_worker_is_found_and_replaced(place):
    daemon, listens, _sink = two_channels(place, hang_timeout="1s")
    before = daemon.status("engine")
    kill(before["pid"], signal.SIGSTOP)
    sender = Sender(place, listens, 500, rate=1000)
    wait_until(lambda: daemon.status("engine")["generation"] > before["generation"]
               and daemon.status("engine")["state"] == "RUNNING", 20, "the stopped worker to be replaced")
    sender.wait()
    for name in ("engine", "neighbour"):
        daemon.wait_drained(name, 500)
    assert daemon.status("neighbour")["restarts"] == 0
    assert "hang" in str(daemon.call("crashes", {"channel": "engine"})).lower()
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records],
                                "recorded")


def test_verbs_refuse_what_makes_no_sense(place):
    daemon, _listens, _sink = two_channels(place)
    for method, params in (("start", {"channel": "nobody"}), ("rotate", {}), ("stop", {"channel": 7})):
        try:
            daemon.call(method, params)
        except RpcError as error:
            assert error.message, "an error says what is wrong"
        else:
            raise AssertionError(f"{method} {params} was accepted")
    daemon.stop()


def test_what_the_service_manager_chose_for_the_scheduler_stays(place):
    """Nice= and CPUSchedulingPolicy= of the unit reach every thread of a worker."""
    nice = os.nice(3)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    pid = daemon.wait_state("engine", "RUNNING")["pid"]
    wait_until(lambda: daemon.status("engine")["log"]["state"] == "open", 10, "the recorder to have a segment")
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        said = os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread)
        assert said == (nice, os.SCHED_BATCH), f"thread {thread}: nice and policy are {said}"
    daemon.stop()
