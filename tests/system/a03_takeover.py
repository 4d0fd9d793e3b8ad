# SPDX-License-Identifier: MIT
"""A worker dies; another takes over within the policy, goes on in the same segment, and nobody else notices."""

import signal

from lib import oracle
from lib.holdfast import Daemon, RpcError, Sender, Sink, channel
from lib.place import core, kill, wait_until


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


def test_the_schedule_of_restarts_is_visible_and_given_up_when_asked_for(place):
    daemon, _listens, _sink = two_channels(
        place, head='restart { first_delay = "300ms"  max_delay = "2s"  give_up_after = 4 }')
    seen_backoff = None
    for _ in range(4):
        entry = wait_until(lambda: (lambda now: now if now["state"] in ("RUNNING", "FAILED") else None)(
            daemon.status("engine")), 20, "the channel to be up again")
        if entry["state"] == "FAILED":
            break
        pid = entry["pid"]
        kill(pid)

        def gone(pid=pid):
            now = daemon.status("engine")
            return now if now["pid"] != pid or now["state"] != "RUNNING" else None
        entry = wait_until(gone, 20, "the death to be noticed")
        if entry["state"] == "BACKOFF":
            seen_backoff = entry
    assert seen_backoff is not None, "no backoff between deaths in a row"
    assert 0 <= seen_backoff["next_start_ms"] <= 2000
    daemon.wait_state("engine", "FAILED")
    assert daemon.status("neighbour")["state"] == "RUNNING"
    assert daemon.ctl("check", expect=1)
    daemon.call("reset-failed", {"channel": "engine"})
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("check")
    daemon.stop()


@core
def test_the_archive_process_may_die_too(place):
    daemon, listens, _sink = two_channels(place)
    workers = {entry["pid"] for entry in daemon.status()["channels"]}
    sender = Sender(place, listens, place.scaled(5000), rate=place.scaled(2500))
    daemon.wait_counter("engine", "received", 100)
    others = set(daemon.descendants()) - workers
    assert len(others) >= 2, "archive and a spare at least"
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
