# SPDX-License-Identifier: MIT
"""With batch_delay, datagrams gather in the kernel: far fewer wake-ups, nothing lost, receive times still the kernel's."""

import os
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel


def switches_of(pid, name):
    """How often the thread of this name went to sleep of its own accord."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        if fields["Name"].strip() == name:
            return int(fields["voluntary_ctxt_switches"])
    raise AssertionError(f"the worker has no thread named {name}")


def test_datagrams_gather_and_keep_their_times(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={}, batch_delay="10ms")).start()
    pid = daemon.wait_state("engine", "RUNNING")["pid"]
    count = place.scaled(6000)
    sender = Sender(place, listen, count, rate=place.scaled(3000), burst=1)
    sender.wait()
    daemon.wait_drained("engine", count)
    switches = switches_of(pid, "receiver")
    assert switches < count / 4, f"{switches} wake-ups for {count} datagrams"
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["recorded"] == count and counters["kernel_dropped"] == 0, counters
    sink.wait_received(count)
    daemon.ctl("stop", "engine")
    daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "the log")
    assert oracle.read_datagrams(sink.record)[0] == sent
    times = [record.received_at * 1000 + record.received_ns for record in records]
    milliseconds = len({time // 1_000_000 for time in times})
    assert milliseconds > 2 * switches, "taken together, but received one after the other"


def test_a_decimated_stream_wakes_nobody_for_every_datagram(place):
    """20,000 come one by one each second, 4,000 of them are chosen: they are collected for a millisecond each time."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, decimates={"slow": {"to": outlet, "keep_every": 5}})).start()
    pid = daemon.wait_state("engine", "RUNNING")["pid"]
    count = place.scaled(40000)
    began = time.monotonic()
    sender = Sender(place, listen, count, rate=place.scaled(20000), burst=1)
    sender.wait()
    daemon.wait_counter("engine", "decimated", count // 5)
    milliseconds = (time.monotonic() - began) * 1000
    switches = switches_of(pid, "decimator")
    assert switches < 1.3 * milliseconds, f"{switches} sleeps in {milliseconds:.0f} ms for {count // 5} datagrams"
    assert daemon.counters("engine")["kernel_dropped"] == daemon.counters("engine")["decimate_lost"] == 0
    sink.wait_received(count // 5)
    daemon.stop()
    sink.stop()
    assert oracle.read_datagrams(sink.record)[0] == oracle.read_datagrams(sender.record)[0][4::5]
