# SPDX-License-Identifier: MIT
"""The ledger at quiet moments: whatever has happened, each datagram is recorded, relayed or counted under a named loss, and
a stop loses nothing that a worker could still have taken."""

import os
import pathlib
import signal
import threading
import time

from lib import oracle
from lib.holdfast import Control, Daemon, Sender, Sink, channel
from lib.place import core, freeze, kill, skip, wait_until
from lib.store import StoredDaemon


def thread_names(pid):
    try:
        return {path.read_text().strip() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm")}
    except OSError:
        return set()  # it has just ended


def stop_while_it_hangs(place, stop):
    """A worker with 3,000 datagrams in its socket does nothing; then its channel is stopped."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={}, receive_buffer="4M")).start()
    first = Sender(place, listen, 100, name="first", rate=2000, tag=2)
    first.wait()
    daemon.wait_drained("engine", 100)
    freeze(daemon.status("engine")["pid"])
    second = Sender(place, listen, 3000, rate=0, sizes=(100,))
    second.wait()
    stop(daemon)
    if daemon.process.poll() is None:
        wait_until(lambda: daemon.status("engine")["state"] == "STOPPED", 30, "the stop")
        counters = daemon.counters("engine")
        assert counters["received"] == counters["recorded"] == 3100, counters
        daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(first.record)[0] + oracle.read_datagrams(second.record)[0]
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")


@core
def test_a_stop_of_a_worker_that_hangs_loses_nothing(place):
    stop_while_it_hangs(place, lambda daemon: daemon.ctl("stop", "engine", expect=None))


def test_nor_does_the_end_of_the_daemon(place):
    stop_while_it_hangs(place, lambda daemon: daemon.stop(expect=None))


def test_nor_do_workers_that_are_killed_while_they_drain(place):
    """Each one dies as soon as it is seen; what they leave, the next one receives."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={}, receive_buffer="4M"),
                    hang_timeout="1h", spare_workers=4).start()
    daemon.wait_state("engine", "RUNNING")
    freeze(daemon.status("engine")["pid"])
    sender = Sender(place, listen, 3000, rate=0, sizes=(100,))
    sender.wait()
    killed, done = [], threading.Event()

    def end_them():
        while len(killed) < 4 and not done.is_set():
            for pid in set(daemon.descendants()) - set(killed):
                if "receiver" in thread_names(pid):
                    kill(pid)
                    killed.append(pid)

    killer = threading.Thread(target=end_them)
    daemon.disconnect()
    operator = Control(daemon.socket)
    killer.start()
    try:
        operator.call("stop", {"channel": "engine"})
        wait_until(lambda: daemon.status("engine")["state"] == "STOPPED", 30, "the stop")
    finally:
        done.set()
        killer.join()
    counters = daemon.counters("engine")
    named = counters["recorded"] + counters["record_lost"]
    assert counters["received"] == named and counters["received"] + counters["kernel_dropped"] == 3000, counters
    relay = daemon.status("engine")["relays"][0]
    assert counters["received"] == relay["sent"] + relay["dropped"], (counters, relay)
    print(f"{len(killed)} killed, {counters}")
    daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    got = {record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))}
    assert len(set(sent) - got) == counters["record_lost"] + counters["kernel_dropped"], counters
    assert counters["kernel_dropped"] == 0 and counters["record_lost"] == 0, f"each of them got on with it: {counters}"


@core
def test_drops_are_counted_before_another_datagram_tells_of_them(place):
    """A burst, and then silence."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={}, receive_buffer="64K"),
                    hang_timeout="1h").start()
    daemon.wait_state("engine", "RUNNING")
    worker = daemon.status("engine")["pid"]
    freeze(worker)
    Sender(place, listen, 2000, rate=0, sizes=(400,)).wait()
    kill(worker, signal.SIGCONT)

    def balanced(expected):
        counters = daemon.counters("engine")
        return counters["received"] + counters["kernel_dropped"] == expected and counters["kernel_dropped"] > 0

    wait_until(lambda: balanced(2000), 20, "everything to be counted")
    Sender(place, listen, 1, name="one").wait()
    wait_until(lambda: balanced(2001), 20, "the one more to be counted, and nothing twice")
    daemon.ctl("stop", "engine")
    assert balanced(2001), daemon.counters("engine")
    sink.stop()
    daemon.stop()


def test_what_a_refused_ring_held_is_dropped_for_its_destinations(place):
    place.with_hooks()
    listen, outlet, slow = place.ipv4(), place.ipv4(), place.ipv4()
    sink = Sink(place, [outlet, slow])
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet},
                                   decimates={"slow": {"to": slow, "keep_every": 2}}, record={})).start()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 100, rate=2000).wait()
    daemon.wait_drained("engine", 100)
    tool = [place.program("tool_page"), daemon.process.pid, "engine"]
    place.run(*tool, "stop-at", "receive_published")
    Sender(place, listen, 20, rate=0, name="b", tag=2).wait()
    place.run(*tool, "wait-stopped", "receive_published", 20000)
    worker = daemon.status("engine")["pid"]
    place.run(*tool, "scribble", 1, "public", 4000)
    kill(worker)
    wait_until(lambda: daemon.counters("engine")["received"] >= 120, 20, "the rest")
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 20, "a quiet moment")
    entry = daemon.status("engine")
    if "can't trust the ring" not in daemon.log_text():
        skip("what was scribbled over did not matter")
    oracle.assert_ledger(entry)
    decimated = entry["decimates"][0]
    assert decimated["sent"] + decimated["dropped"] == entry["counters"]["received"] // 2, entry
    daemon.stop()
    sink.stop()


def received(sink):
    return [entry["received"] for entry in sink.counts()]


def write_channels(daemon, *channels):
    text = daemon.config.read_text()
    daemon.config.write_text(text[:text.index('channel "')] + "\n".join(channels))


def reconfigure(daemon, *channels):
    """The configuration with these channels instead, taken over by an upgrade."""
    write_channels(daemon, *channels)
    generation = daemon.status("engine")["generation"]
    daemon.disconnect()
    daemon.ctl("upgrade")
    wait_until(lambda: (lambda entry: entry["state"] == "RUNNING" and entry["generation"] > generation)(
        daemon.status("engine")), 20, "the upgraded channel")


@core
def test_recording_that_is_switched_on_and_off_begins_where_it_is_switched(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    without = channel("engine", listen, relays={"display": outlet}, ring_size="1M")
    recording = channel("engine", listen, relays={"display": outlet}, ring_size="1M", record={})
    daemon = Daemon(place, without).start()
    sent = {}
    total = 0

    def send(name, count):
        nonlocal total
        sender = Sender(place, listen, count, name=name, rate=5000, sizes=(400,), tag=len(sent) + 1)
        sender.wait()
        sent[name] = oracle.read_datagrams(sender.record)[0]
        total += count
        wait_until(lambda: daemon.counters("engine")["received"] == total and
                   daemon.status("engine")["ring"]["pending"] == 0, 20, f"what was sent {name}")
        return oracle.assert_ledger(daemon.status("engine"))

    assert send("before", 5000)["unrecorded"] == 5000
    reconfigure(daemon, recording)
    counters = send("during", 100)
    assert (counters["recorded"], counters["unrecorded"], counters["record_lost"]) == (100, 5000, 0), counters
    reconfigure(daemon, without)
    counters = send("after", 3000)
    assert (counters["recorded"], counters["unrecorded"], counters["record_lost"]) == (100, 8000, 0), counters
    reconfigure(daemon, recording)
    counters = send("again", 50)
    assert (counters["recorded"], counters["unrecorded"], counters["record_lost"]) == (150, 8000, 0), counters
    daemon.stop()
    sink.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent["during"] + sent["again"], [record.payload for record in records], "recorded")


@core
def test_who_is_new_or_comes_back_is_sent_nothing_that_came_before(place):
    """Whatever a worker was about when it died: of what it had been given, a relay and a decimated destination that were
    not there get nothing, and nothing of it counts as repeated for them."""
    place.with_hooks()
    listen, old, slow, late, new = (place.ipv4() for _ in range(5))
    sink = Sink(place, [old, slow, late, new])
    was = channel("engine", listen, relays={"old": old}, decimates={"slow": {"to": slow, "keep_every": 1}}, record={})
    then = channel("engine", listen, relays={"old": old, "late": late},
                   decimates={"slow": {"to": slow, "keep_every": 1}, "new": {"to": new, "keep_every": 1}}, record={})
    daemon = StoredDaemon(place, was, hang_timeout="60s").start_stored()

    def page(*words):
        place.run(place.program("tool_page"), daemon.process.pid, "engine", *words)
    daemon.wait_state("engine", "RUNNING")
    for number, step in enumerate(("decimate_attempted", "relay_attempted", "relay_sent", "receive_received", "receive_published",
                                   "relay_committed", "decimate_sent")):
        before = received(sink)
        page("stop-at", step)
        Sender(place, listen, 1, name=f"before-{number}", tag=2 * number).wait()
        page("wait-stopped", step, 5000)
        daemon.die()
        write_channels(daemon, then)
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING")
        Sender(place, listen, 1, name=f"after-{number}", tag=2 * number + 1).wait()
        daemon.wait_drained("engine", 2 * (number + 1))
        sink.wait_received([before[0] + 2, before[1] + 2, before[2] + 1, before[3] + 1])
        entry = daemon.status("engine")
        assert received(sink)[2:] == [number + 1, number + 1], (step, received(sink), entry)
        counts = {it["name"]: (it["sent"], it["repeated"]) for it in entry["relays"] + entry["decimates"]}
        assert counts["late"] == counts["new"] == (number + 1, 0), (step, counts)
        reconfigure(daemon, was)
    counters = daemon.counters("engine")
    assert counters["received"] == counters["recorded"] == 14 and counters["relay_dropped"] == counters["decimate_lost"] == 0, counters
    daemon.stop(expect=None)
    sink.stop()


def test_what_came_before_a_relay_is_not_dropped_there_when_its_ring_is_given_up(place):
    place.with_hooks()
    listen = place.ipv4()

    def settings(*names):
        return channel("engine", listen, relays={name: place.ipv4() for name in names}, record={})
    daemon = StoredDaemon(place, settings("old"), hang_timeout="60s").start_stored()

    def page(*words, **options):
        return place.run(place.program("tool_page"), daemon.process.pid, "engine", *words, **options)
    daemon.wait_state("engine", "RUNNING")
    page("stop-at", "receive_published")
    Sender(place, listen, 1).wait()
    page("wait-stopped", "receive_published", 5000)
    page("stop-at", "relay_attempted")
    daemon.die()
    write_channels(daemon, settings("old", "late"))
    daemon.start_stored(wait=False)
    wait_until(lambda: page("wait-stopped", "relay_attempted", 0, expect=None).returncode == 0, 20, "its worker to begin")
    page("spoil-batch")
    wait_until(lambda: daemon.ctl("status", expect=None).returncode != 3, 20, "an answer")
    kill(daemon.status("engine")["pid"])
    daemon.wait_for_log("the ring can't be trusted")
    daemon.wait_state("engine", "RUNNING")
    entry = daemon.status("engine")
    assert [(relay["name"], relay["dropped"]) for relay in entry["relays"]] == [("old", 1), ("late", 0)], entry
    assert entry["counters"]["relay_dropped"] == 1, entry
    daemon.stop()


@core
def test_a_new_destination_by_rate_is_sent_nothing_from_before(place):
    listen, first, second = place.ipv4(), place.ipv4(), place.ipv4()
    sink = Sink(place, [first, second])
    old = {"first": {"to": first, "max_rate": 1000}}
    daemon = Daemon(place, channel("engine", listen, decimates=old)).start()
    Sender(place, listen, 10, rate=100).wait()
    daemon.wait_counter("engine", "received", 10)
    wait_until(lambda: daemon.status("engine")["decimates"][0]["sent"] == received(sink)[0] > 0, 20, "the newest of them")
    before = received(sink)
    reconfigure(daemon, channel("engine", listen, decimates={**old, "second": {"to": second, "max_rate": 1000}}))
    Sender(place, listen, 1, name="more", tag=2).wait()
    sink.wait_received([before[0] + 1, 1])
    entry = daemon.status("engine")
    assert entry["counters"]["relay_repeated"] == 0, entry
    assert received(sink) == [before[0] + 1, 1], received(sink)
    daemon.stop()
    sink.stop()


@core
def test_what_was_sent_by_count_is_not_sent_again_by_rate(place):
    """Of a destination that came later, and goes by count again in between."""
    listen, first, second = place.ipv4(), place.ipv4(), place.ipv4()
    sink = Sink(place, [first, second])
    old = {"first": {"to": first, "keep_every": 1}}

    def settings(**how):
        return channel("engine", listen, decimates={**old, "second": {"to": second, **how}} if how else old)
    daemon = Daemon(place, settings()).start()
    Sender(place, listen, 5).wait()
    sink.wait_received([5, 0])
    sent = 5
    for tag, how in enumerate(({"keep_every": 1}, {"max_rate": 1000}, {"keep_every": 1}, {"max_rate": 1000}), 2):
        reconfigure(daemon, settings(**how))
        for i in range(3):
            sent += 1
            Sender(place, listen, 1, name=f"one {tag} {i}", tag=tag).wait()
            sink.wait_received([sent, sent - 5])
        wait_until(lambda: daemon.counters("engine")["decimated"] == 2 * sent - 5, 20, "all to be counted")
    counters, caught = daemon.counters("engine"), received(sink)
    assert caught == [sent, sent - 5] and counters["relay_repeated"] == 0, (caught, counters)
    daemon.stop()
    sink.stop()


@core
def test_a_stop_sends_the_newest_that_waits_for_its_time(place):
    listen, slow = place.ipv4(), place.ipv4()
    sink = Sink(place, slow)
    daemon = Daemon(place, channel("engine", listen, decimates={"slow": {"to": slow, "max_rate": 1}}, record={})).start()
    Sender(place, listen, 1, name="first").wait()
    sink.wait_received([1])
    sender = Sender(place, listen, 5, name="rest", tag=2)
    sender.wait()
    daemon.wait_drained("engine", 6)
    daemon.ctl("stop", "engine")
    wait_until(lambda: daemon.status("engine")["state"] == "STOPPED", 20, "the stop")
    sink.wait_received([2])
    daemon.stop()
    sink.stop()
    assert oracle.read_datagrams(sink.record)[0][-1] == oracle.read_datagrams(sender.record)[0][-1]


def test_a_rate_holds_over_deaths(place):
    """As many as the time allows, by the receiver's own clock, and not one more for every death."""
    listen, slow = place.ipv4(), place.ipv4()
    sink = Sink(place, slow)
    daemon = Daemon(place, channel("engine", listen, decimates={"slow": {"to": slow, "max_rate": 1}}), spare_workers=2).start()
    began = time.monotonic()
    sender = Sender(place, listen, 10**9, rate=1000)
    for number in range(40):
        worker = daemon.wait_state("engine", "RUNNING")["pid"]
        kill(worker)
        wait_until(lambda number=number: daemon.counters("engine")["restarts"] == number + 1, 20, "the successor")
    sender.stop()
    count = received(sink)[0]
    allowed = int(time.monotonic() - began) + 2
    assert 0 < count <= allowed, f"{count} in a time for {allowed}"
    daemon.stop()
    sink.stop()


def reshape(place, disturb, settings, count=6000):
    """Datagrams wait in the ring to be recorded when an upgrade brings settings of another ring."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)

    def engine(**more):
        return channel("engine", listen, relays={"display": outlet}, record={"segment_size": "1M"}, **more)

    daemon = Daemon(place, engine(ring_size="32M")).start()
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a segment")
    undo = disturb(daemon)
    first = Sender(place, listen, count, name="first", rate=20000, sizes=(800,))
    first.wait()
    daemon.wait_counter("engine", "received", count)
    pending = daemon.status("engine")["ring"]["pending"]
    reconfigure(daemon, engine(**settings))
    second = Sender(place, listen, 100, name="second", rate=2000, tag=2)
    second.wait()
    undo()
    capacity = daemon.status("engine")["ring"]["capacity_bytes"]
    daemon.wait_drained("engine", count + 100)
    wait_until(lambda: "one as the settings say now is made" in daemon.log_text(), 30, "the ring of the new settings")
    daemon.wait_state("engine", "RUNNING")
    third = Sender(place, listen, 100, name="third", rate=2000, tag=3)
    third.wait()
    daemon.wait_drained("engine", count + 200)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["record_lost"] == counters["kernel_dropped"] == counters["relay_dropped"] == 0, counters
    print(f"{pending} pending, capacity {capacity} then {daemon.status('engine')['ring']['capacity_bytes']}")
    daemon.stop()
    sink.stop()
    sent = [payload for sender in (first, second, third) for payload in oracle.read_datagrams(sender.record)[0]]
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")
    return pending


def freeze_archive(daemon):
    worker = daemon.status("engine")["pid"]
    archive = wait_until(lambda: next((pid for pid in daemon.descendants() if pid != worker and is_archive(daemon, pid)),
                                      None), 20, "the archive")
    freeze(archive)
    return lambda: None  # an upgrade ends it, and starts another one


def is_archive(daemon, pid):
    """It holds the lock of log_dir, and is no worker."""
    try:
        links = [os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(link.endswith("/.lock") for link in links) and "receiver" not in thread_names(pid)


@core
def test_what_waits_in_a_ring_of_other_settings_comes_first(place):
    assert reshape(place, freeze_archive, {"ring_size": "16M"}) > 0, "nothing waited"


def test_an_upgrade_that_changes_every_setting_of_the_ring(place):
    reshape(place, lambda daemon: lambda: None, {"ring_size": "64M", "max_datagram": 1000, "receive_offload": True})
