# SPDX-License-Identifier: MIT
"""An upgrade with another configuration: what the kernel had queued and what waited in the ring for a channel that was
renamed or removed, or whose address is another one now, is received, recorded and sealed before its settings are
forgotten."""

import os
import socket

from lib import oracle
from lib.holdfast import Daemon, RpcError, Sender, Sink, channel
from lib.place import core, freeze, kill, wait_until
from lib.store import StoredDaemon

NOT_COVERED = 2


def start(place, *channels, **top):
    return Daemon(place, *channels, hang_timeout="60s", **top).start()


def leave_waiting(place, daemon, name, listen, count=1000):
    """Datagrams of which a frozen worker has recorded some, and the kernel has the rest."""
    first = Sender(place, listen, 10, name=f"first-{name}", rate=1000, tag=2)
    first.wait()
    daemon.wait_drained(name, 10)
    freeze(daemon.status(name)["pid"])
    second = Sender(place, listen, count, name=f"second-{name}", rate=0, sizes=(100,))
    second.wait()
    return [payload for sender in (first, second) for payload in oracle.read_datagrams(sender.record)[0]]


def upgrade_to(daemon, *channels):
    text = daemon.config.read_text()
    daemon.config.write_text(text[:text.index("channel ")] + "\n".join(channels) + "\n")
    daemon.disconnect()
    daemon.ctl("upgrade")


def wait_gone(daemon, name):
    def gone():
        return all(entry["name"] != name for entry in daemon.call("status")["channels"])
    wait_until(gone, 30, f"the end of {name}")
    wait_until(lambda: not daemon.segments(name, ".open"), 30, f"the seal of {name}")


def payloads(place, daemon, name):
    records = oracle.read_with_avro_c(place, daemon.segments(name))
    oracle.assert_consecutive(records)
    return [record.payload for record in records]


@core
def test_a_renamed_channel_goes_on_with_the_queue(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = start(place, channel("engine", listen, relays={"display": outlet}, record={}))
    sent = leave_waiting(place, daemon, "engine", listen)
    upgrade_to(daemon, channel("motor", listen, relays={"display": outlet}, record={}))
    daemon.wait_state("motor", "RUNNING")
    daemon.wait_drained("motor", 1000)
    wait_gone(daemon, "engine")
    assert "goes on with the socket that channel engine had" in daemon.log_text()
    daemon.stop()
    sink.stop()
    assert len(payloads(place, daemon, "engine")) == 10
    oracle.assert_same_payloads(sent, payloads(place, daemon, "engine") + payloads(place, daemon, "motor"), "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")


def test_and_what_waited_in_its_ring_is_recorded_under_the_former_name(place):
    """The archive stands still, so that segments run out."""
    listen, count = place.ipv4(), 5000
    daemon = start(place, channel("engine", listen, record={"segment_size": "1M"}), spare_workers=0)
    daemon.wait_state("engine", "RUNNING")
    archive, = daemon.helpers()
    freeze(archive)
    sender = Sender(place, listen, count, rate=place.scaled(10000), sizes=(800,))
    sender.wait()
    wait_until(lambda: daemon.counters("engine")["received"] == count, 30, "its reception")
    assert daemon.status("engine")["ring"]["pending"] > 0
    upgrade_to(daemon, channel("motor", listen, record={}))
    wait_gone(daemon, "engine")
    daemon.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    oracle.assert_same_payloads(sent, payloads(place, daemon, "engine"), "recorded")


@core
def test_a_removed_channel_is_received_and_sealed_first(place):
    listens = [place.ipv4(), place.ipv4()]
    daemon = start(place, channel("engine", listens[0], record={}), channel("gps", listens[1], record={}))
    sent = leave_waiting(place, daemon, "engine", listens[0])
    upgrade_to(daemon, channel("gps", listens[1], record={}))
    daemon.wait_state("gps", "RUNNING")
    wait_gone(daemon, "engine")
    assert "of 1010 datagrams received since it began, 1010 are recorded" in daemon.log_text()
    for verb in ("start", "status"):
        try:
            daemon.call(verb, {"channel": "engine"})
            raise AssertionError(f"{verb} of a channel that is gone")
        except RpcError as refused:
            assert "no channel 'engine'; there are: gps" in str(refused), refused
    told = [crash["pid"] for crash in daemon.call("crashes")["crashes"] if crash["channel"] == "engine"]
    assert told and told == [crash["pid"] for crash in daemon.call("crashes", {"channel": "engine"})["crashes"]]
    assert daemon.call("check")["healthy"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # the address is free again
        host, _, port = listens[0].rpartition(":")
        other.bind((host, int(port)))
    daemon.stop()
    oracle.assert_same_payloads(sent, payloads(place, daemon, "engine"), "recorded")


@core
def test_recording_that_the_last_channel_loses_is_finished(place):
    """By a restart after everything was killed; then by an upgrade. Beside it, another daemon may record in log_dir."""
    listen, outlet = place.ipv4(), place.ipv4()
    records = channel("engine", listen, relays={"display": outlet}, record={})
    relays = channel("engine", listen, relays={"display": outlet})
    daemon = start(place, records)
    Sender(place, listen, 500).wait()
    daemon.wait_drained("engine", 500)
    text = daemon.config.read_text()
    daemon.kill_all()
    assert daemon.segments("engine", ".open")
    daemon.config.write_text(text[:text.index("channel ")] + relays + "\n")
    daemon.start()
    wait_until(lambda: not daemon.segments("engine", ".open"), 30, "it to be sealed")
    assert len(payloads(place, daemon, "engine")) == 500
    second = Daemon(place, channel("other", place.ipv4(), record={}), name="second", log_dir=daemon.log_dir).start()
    wait_until(lambda: second.status("other")["log"]["segment"], 30, "another one to record there")
    second.stop()
    upgrade_to(daemon, records)
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: (daemon.status("engine")["log"] or {}).get("segment"), 30, "a segment")
    Sender(place, listen, 300, name="again").wait()
    daemon.wait_drained("engine", 300 + daemon.counters("engine")["unrecorded"])
    upgrade_to(daemon, relays)
    wait_until(lambda: not daemon.segments("engine", ".open"), 30, "it to be sealed after the upgrade")
    daemon.stop()
    assert sum(len(oracle.read_with_avro_c(place, [file])) for file in daemon.segments("engine")) == 800


@core
def test_a_changed_address_comes_after_what_the_former_socket_has(place):
    before, now, outlet = place.ipv4(), place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = start(place, channel("engine", before, relays={"display": outlet}, record={}))
    sent = leave_waiting(place, daemon, "engine", before)
    upgrade_to(daemon, channel("engine", now, relays={"display": outlet}, record={}))
    daemon.wait_state("engine", "RUNNING")
    third = Sender(place, now, 100, name="third", rate=1000, tag=3)
    third.wait()
    daemon.wait_drained("engine", 1110)
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    sink.stop()
    sent += oracle.read_datagrams(third.record)[0]
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    assert [record.seq for record in records if record.flags & NOT_COVERED] == [1010]
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")


def test_a_socket_under_two_names_belongs_to_who_has_it_now(place):
    """The supervisor died when it had passed it on, and before the store had let go of its former name."""
    listen = place.ipv4()
    daemon = StoredDaemon(place, channel("motor", listen, record={}))
    daemon.start_stored()
    first = Sender(place, listen, 100, name="first", rate=2000, tag=2)
    first.wait()
    daemon.wait_drained("motor", 100)
    daemon.notifications.poll()
    daemon.die()
    daemon.notifications.kept["engine.rx"] = [os.dup(daemon.notifications.kept["motor.rx"][0])]
    daemon.start_stored()
    daemon.wait_state("motor", "RUNNING")
    second = Sender(place, listen, 100, name="second", rate=2000, tag=3)
    second.wait()
    daemon.wait_drained("motor", 200)
    wait_gone(daemon, "engine")


def test_two_channels_that_swap_their_addresses(place):
    names, listens = ("engine", "gps"), [place.ipv4(), place.ipv4()]
    daemon = start(place, *(channel(name, listen, record={}) for name, listen in zip(names, listens)))
    sent = {name: leave_waiting(place, daemon, name, listen, 200) for name, listen in zip(names, listens)}
    upgrade_to(daemon, *(channel(name, listen, record={}) for name, listen in zip(names, reversed(listens))))
    for name in names:
        daemon.wait_state(name, "RUNNING")
    third = [Sender(place, listen, 50, name=f"third-{name}", rate=1000, tag=5)
             for name, listen in zip(names, reversed(listens))]
    for name, sender in zip(names, third):
        sender.wait()
        daemon.wait_drained(name, 260)
        sent[name] += oracle.read_datagrams(sender.record)[0]
    daemon.stop()
    for name in names:
        oracle.assert_same_payloads(sent[name], payloads(place, daemon, name), f"recorded of {name}")


def test_a_channel_that_was_stopped_stays_so_at_its_new_address(place):
    before, now = place.ipv4(), place.ipv4()
    daemon = start(place, channel("engine", before, record={}), channel("gps", place.ipv4(), record={}))
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("stop", "engine")
    upgrade_to(daemon, channel("engine", now, record={}))
    wait_gone(daemon, "gps")
    assert daemon.status("engine")["state"] == "STOPPED"
    daemon.ctl("start", "engine")
    sender = Sender(place, now, 10, rate=1000)
    sender.wait()
    daemon.wait_drained("engine", 10)


def test_another_upgrade_while_it_is_dealt_with(place):
    """Back to the former settings at once: nothing is lost in between."""
    listens = [place.ipv4(), place.ipv4()]
    configured = [[channel("engine", listens[0], record={})], [channel("engine", listens[1], record={})],
                  [channel("motor", listens[0], record={})]]
    daemon = start(place, *configured[0])
    sent = leave_waiting(place, daemon, "engine", listens[0])
    for again in (1, 0, 1, 2, 0):
        upgrade_to(daemon, *configured[again])
    daemon.wait_state("engine", "RUNNING")
    wait_gone(daemon, "motor")
    third = Sender(place, listens[0], 50, name="third", rate=1000, tag=5)
    third.wait()
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 20, "its recording")
    daemon.stop()
    recorded = payloads(place, daemon, "engine") + payloads(place, daemon, "motor")
    oracle.assert_same_payloads(sent + oracle.read_datagrams(third.record)[0], recorded, "recorded")


@core
def test_what_nobody_can_receive_is_counted_whole(place):
    """Of channels that have failed, which are stopped: in turns, and to the last datagram."""
    listens, count = [place.ipv4() for _ in range(3)], place.scaled(300000)
    names = [f"c{number}" for number in range(3)]
    daemon = start(place, *(channel(name, listen, record={}, receive_buffer="256M")
                            for name, listen in zip(names, listens)), head="restart { give_up_after = 1 }")
    for name in names:
        kill(daemon.wait_state(name, "RUNNING")["pid"])
        daemon.wait_state(name, "FAILED")
    for name, listen in zip(names, listens):
        sender = Sender(place, listen, count, name=name, rate=0, sizes=(20,))
        sender.wait()
    for name in names:
        daemon.ctl("stop", name, "--no-wait")
    for name in names:
        daemon.wait_state(name, "STOPPED", 60)
        counters = daemon.counters(name)
        assert counters["received"] + counters["kernel_dropped"] == count, counters
    assert daemon.log_text().count("that the kernel had queued are lost with the stop") == 3
