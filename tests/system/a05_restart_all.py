# SPDX-License-Identifier: MIT
"""Everything is killed at once, supervisor and all. The next start mends what was open and counts on from there."""

import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, is_alive, wait_until


@core
def test_after_sigkill_of_everything_the_log_goes_on(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "4M"}))
    recorded, sent, rounds = 0, [], 3
    for number in range(rounds):
        daemon.start()
        sender = Sender(place, listen, place.scaled(6000), rate=place.scaled(6000), sizes=(8, 400, 1000),
                        name=f"sent-{number}", tag=number + 1)
        daemon.wait_counter("engine", "recorded", place.scaled(3000))
        recorded += daemon.counters("engine")["recorded"]
        if number < rounds - 1:
            daemon.kill_all()
            assert daemon.segments("engine", ".avro.open"), "an open segment was left behind"
            sender.wait()  # the rest goes nowhere: no socket is there
        else:
            sender.wait()
            daemon.wait_drained("engine", place.scaled(6000))
            daemon.stop()
        sent += oracle.read_datagrams(sender.record)[0]

    assert not daemon.segments("engine", ".avro.open")
    files = daemon.segments("engine")
    assert len(files) >= rounds
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    assert oracle.read_with_python_avro(files) == records
    oracle.assert_consecutive(records, first=0)
    assert len(records) >= recorded, f"{recorded} were reported as recorded, {len(records)} are there"
    payloads = [record.payload for record in records]
    assert len(set(payloads)) == len(payloads) and set(payloads) <= set(sent)


@core
def test_a_clean_stop_and_start_goes_on_too(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}))
    sent = []
    for number in range(3):
        daemon.start()
        sender = Sender(place, listen, 500, rate=2000, name=f"sent-{number}", tag=number + 1)
        sender.wait()
        daemon.wait_drained("engine", 500)
        daemon.stop()
        sent += oracle.read_datagrams(sender.record)[0]
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded over three runs")


def test_what_was_received_before_the_stop_is_recorded(place):
    """SIGTERM in the middle of the traffic: workers drain what they have received."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    sender = Sender(place, listen, 100000, rate=20000)
    daemon.wait_counter("engine", "received", 5000)
    received = daemon.counters("engine")["received"]
    daemon.stop(number=signal.SIGINT)
    sender.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    assert len(records) >= received


def test_workers_leave_when_the_supervisor_is_killed(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}), channel("other", place.ipv6(), record={})).start()
    below = daemon.descendants()
    assert len(below) >= 3
    daemon.disconnect()
    daemon.process.kill()
    daemon.process.wait(10)
    wait_until(lambda: not any(map(is_alive, below)), 15, "orphaned workers to leave")
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()
