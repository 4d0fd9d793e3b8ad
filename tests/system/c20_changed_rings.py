# SPDX-License-Identifier: MIT
"""Under load: a ring that is replaced, by an upgrade to other settings or because its worker hangs, costs no datagram, and
where the kernel drops some meanwhile, each is counted."""

import collections
import socket

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, is_alive, wait_until
from lib.store import StoredDaemon


def received(daemon):
    return sum(entry["counters"]["received"] for entry in daemon.status()["channels"])


def upgrade_to(daemon, text, name="engine"):
    """With other channels in the configuration; until the channel has received some more."""
    config = daemon.config.read_text()
    daemon.config.write_text(config[:config.index("channel ")] + text + "\n")
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.disconnect()
    wait_until(lambda: any(entry["name"] == name and entry["state"] == "RUNNING" for entry in daemon.status()["channels"]),
               30, f"{name} to run")
    before = received(daemon)
    wait_until(lambda: received(daemon) > before + 5000, 30, "some more datagrams")


def all_sent(sender):
    sender.stop()
    return oracle.read_datagrams(sender.record)[0]


@core
def test_receive_offload_switched_on_and_off(place):
    """Runs that wait in the socket are never taken for single datagrams."""
    listen = place.ipv4()

    def settings(offload):
        return channel("engine", listen, record={"segment_size": "16M"}, receive_offload=offload, ring_size="64M",
                       max_datagram=2048)
    daemon = Daemon(place, settings(True)).start()
    # What comes while programs start has to fit into the kernel's buffer.
    sender = Sender(place, listen, 10**9, rate=place.scaled(30000), sizes=(800,), coalesced=True, burst=16)
    daemon.wait_counter("engine", "received", 5000)
    for i in range(6):
        upgrade_to(daemon, settings(i % 2 == 1))
    sent = all_sent(sender)
    daemon.wait_drained("engine", len(sent))
    counters = daemon.counters("engine")
    assert counters["truncated"] == 0 and counters["kernel_dropped"] == 0, counters
    assert counters["recorded"] == len(sent) and counters["record_lost"] == 0, (len(sent), counters)
    daemon.stop()
    oracle.assert_same_payloads(
        sent, [record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))], "recorded")


def test_receive_offload_can_be_switched_off_where_it_is_quiet(place):
    listen = place.ipv4()

    def settings(offload):
        return channel("engine", listen, record={}, receive_offload=offload, ring_size="8M")
    daemon = Daemon(place, settings(True)).start()
    config = daemon.config.read_text()
    daemon.config.write_text(config[:config.index("channel ")] + settings(False) + "\n")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    assert "stays on" not in daemon.log_text(), daemon.log_text()
    daemon.stop()


def account(daemon):
    total = collections.Counter()
    for entry in daemon.status()["channels"]:
        total.update(entry["counters"])
    return total


@core
def test_drops_while_rings_are_replaced(place):
    """The kernel's buffer is far too small for the rate: it drops all the time, between two rings, too."""
    listen = place.ipv4()

    def settings(i):
        return channel("engine", listen, record={"segment_size": "16M"}, receive_buffer="16K", ring_size=("8M", "64M")[i % 2])
    daemon = Daemon(place, settings(0)).start()
    sender = Sender(place, listen, 10**9, rate=40000, sizes=(800,), burst=64)
    for i in range(1, 6):
        upgrade_to(daemon, settings(i))
    sent = all_sent(sender)

    def accounted():
        counters = account(daemon)
        return counters["received"] + counters["kernel_dropped"]
    wait_until(lambda: accounted() >= len(sent), 20, "every datagram to be received or counted as dropped")
    assert accounted() == len(sent), (accounted(), len(sent))
    assert account(daemon)["kernel_dropped"] > 0, "it shows nothing where nothing is dropped"
    daemon.stop()


def small_behind_large(place, **settings):
    """One by one, small datagrams use their own length of the ring; behind one another in a batch, 64 KiB each."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "64M"}, **settings), hang_timeout="2s").start()
    sender = Sender(place, listen, 10**9, rate=5000, sizes=(64,))
    daemon.wait_counter("engine", "received", 5000)
    freeze(daemon.status("engine")["pid"])
    wait_until(lambda: daemon.status("engine")["restarts"] == 1, 30, "the worker to be replaced")
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_counter("engine", "received", 20000)
    sent = all_sent(sender)
    daemon.wait_drained("engine", len(sent))
    counters = daemon.counters("engine")
    assert counters["recorded"] == len(sent) and counters["record_lost"] == 0, (len(sent), counters)
    daemon.stop()


def test_a_hang_with_large_slots(place):
    small_behind_large(place, max_datagram=65507)


def test_a_hang_with_receive_offload(place):
    small_behind_large(place, receive_offload=True)


def full_disk(place):
    """A daemon whose disk is full, and what was sent to it: a part of it waits in the ring."""
    place.private_mounts()
    disk = place.folder / "disk"
    place.mount_tmpfs(disk, "4M")
    listen = place.ipv4()

    def settings(**changed):
        return channel("engine", listen, record={"segment_size": "1M", "on_full": "wait"},
                       **{"ring_size": "8M", "max_datagram": 256, **changed})
    daemon = StoredDaemon(place, settings(), log_dir=disk).start_stored()
    wait_until(lambda: daemon.status("engine")["log"]["segment"], 20, "a segment")
    sender = Sender(place, listen, 26000, rate=13000, sizes=(200,))
    sender.wait()
    daemon.wait_counter("engine", "received", 26000)
    wait_until(lambda: daemon.status("engine")["log"]["trouble"], 20, "the disk to be full")
    return daemon, disk, oracle.read_datagrams(sender.record)[0], settings


def all_recorded_with_room(place, daemon, disk, sent):
    daemon.wait_state("engine", "RUNNING")
    assert daemon.status("engine")["ring"]["pending"] > 0, "it shows nothing where nothing waits"
    place.run("mount", "-o", "remount,size=200M", disk)
    daemon.wait_drained("engine", len(sent), 60)
    counters = daemon.counters("engine")
    assert counters["recorded"] == len(sent) and counters["record_lost"] == 0, counters
    daemon.stop(expect=None)


def change(daemon, text):
    config = daemon.config.read_text()
    daemon.config.write_text(config[:config.index("channel ")] + text + "\n")
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")


def test_another_max_datagram_keeps_what_waits(place):
    """Its ring may be of the same size as the one before."""
    daemon, disk, sent, settings = full_disk(place)
    change(daemon, settings(max_datagram=250))
    all_recorded_with_room(place, daemon, disk, sent)


def test_other_ring_pages_keep_what_waits(place):
    daemon, disk, sent, settings = full_disk(place)
    change(daemon, settings(ring_pages="huge"))
    all_recorded_with_room(place, daemon, disk, sent)


def test_recording_begins_in_an_upgrade_behind_an_older_log(place):
    """The ring has small numbers, which the log has given to others."""
    listen = place.ipv4()

    def settings(record):
        return channel("engine", listen, relays={"out": "127.0.0.1:9"}, record=record, ring_size="64M")
    first = Daemon(place, settings({}), name="first").start()
    Sender(place, listen, 20000, name="older", rate=40000).wait()
    first.wait_drained("engine", 20000)
    first.stop()
    daemon = Daemon(place, settings(None)).start()
    sender = Sender(place, listen, 10**9, rate=10000)
    daemon.wait_counter("engine", "received", 1000)
    freeze(daemon.status("engine")["pid"])
    change(daemon, settings({}))
    before = daemon.counters("engine")["recorded"]
    daemon.wait_counter("engine", "recorded", before + 5000)
    sender.stop()
    daemon.stop()
    numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
    assert len(numbers) == len(set(numbers)) and len(numbers) > 25000, len(numbers)


def test_a_restart_keeps_what_waits_in_a_ring_of_former_settings(place):
    daemon, disk, sent, settings = full_disk(place)
    change(daemon, settings(ring_size="16M"))
    before = daemon.status("engine")["pid"]
    daemon.ctl("restart", "engine")
    wait_until(lambda: daemon.status("engine")["pid"] not in (before, None), 30, "another worker")
    all_recorded_with_room(place, daemon, disk, sent)


def test_workers_without_a_supervisor_leave_what_waits_to_the_next_one(place):
    daemon, disk, sent, _ = full_disk(place)
    worker = daemon.status("engine")["pid"]
    daemon.die_alone()
    wait_until(lambda: not is_alive(worker), 30, "the worker to leave")
    daemon.start_stored()
    all_recorded_with_room(place, daemon, disk, sent)


def test_another_max_datagram_holds_soon_although_something_waited(place):
    """The ring of the former settings is left once it is recorded, not when its segment is half full."""
    place.with_hooks()
    listen = place.ipv4()

    def settings(most):
        return channel("engine", listen, record={}, max_datagram=most)

    def send(payload):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            host, _, port = listen.rpartition(":")
            out.sendto(payload, (host, int(port)))
    daemon = Daemon(place, settings(200), hang_timeout="1s").start()
    send(b"short")
    daemon.wait_drained("engine", 1)
    page = place.program("tool_page")
    place.run(page, daemon.process.pid, "engine", "stop-at", "record_encoded")
    send(b"waits")
    place.run(page, daemon.process.pid, "engine", "wait-stopped", "record_encoded", 5000)
    change(daemon, settings(9000))

    def is_whole():
        before = daemon.counters("engine")
        send(b"x" * 1000)
        daemon.wait_counter("engine", "received", before["received"] + 1)
        return daemon.counters("engine")["truncated"] == before["truncated"]
    wait_until(is_whole, 20, "a datagram that is not cut")
    daemon.stop()


@core
def test_hundreds_of_destinations_come_and_go_in_one_ring(place):
    """Their names are given up before what the ring holds is."""
    listen = place.ipv4()
    names, rounds = 100, 4

    def settings(number):
        return channel("engine", listen, record={}, relays={
            f"r{number}-{i}": f"127.0.0.1:{40000 + i}" for i in range(names)})
    daemon = Daemon(place, settings(0)).start()
    sent = 0
    for number in range(rounds):
        if number:
            change(daemon, settings(number))
            daemon.wait_state("engine", "RUNNING")
        Sender(place, listen, 20, name=f"sent-{number}").wait()
        sent += 20
        daemon.wait_drained("engine", sent)
    counters = daemon.counters("engine")
    assert counters["recorded"] == sent and counters["record_lost"] == 0, counters
    assert counters["relayed"] + counters["relay_dropped"] == sent * names, counters
    assert "can't trust the ring" not in daemon.log_text()
    daemon.stop()


@core
def test_as_many_destinations_as_there_may_be_are_replaced_again_and_again(place):
    """Nobody's place is left for who comes: those that are gone give theirs up, and what waits for the disk stays."""
    daemon, disk, sent, settings = full_disk(place)

    def lists(relays, decimates, name):
        return settings(relays={f"r-{name(i)}": f"127.0.0.1:{40000 + i}" for i in range(relays)},
                        decimates={f"d-{name(i)}": {"to": f"127.0.0.1:{41000 + i}", "keep_every": 1} for i in range(decimates)})
    change(daemon, lists(120, 120, lambda i: i))
    relayed, decimated, more = 0, 0, 0
    for number, (relays, decimates, name) in enumerate((
            (120, 120, lambda i: "renamed" if i == 5 else i), (120, 119, lambda i: f"second-{i}"),
            (0, 240, lambda i: f"third-{i}"), (240, 0, lambda i: f"fourth-{i}"))):
        change(daemon, lists(relays, decimates, name))
        Sender(place, daemon.status("engine")["listen"], 10, name=f"more-{number}").wait()
        more += 10
        relayed += 10 * relays
        decimated += 10 * decimates
        daemon.wait_counter("engine", "received", len(sent) + more)

        def accounted():
            counters = daemon.counters("engine")
            return (counters["relayed"] + counters["relay_dropped"], counters["decimated"] + counters["decimate_lost"])
        wait_until(lambda: accounted() == (relayed, decimated), 20, f"{(relayed, decimated)} to be sent")
    assert "can't trust the ring" not in daemon.log_text()
    daemon.wait_state("engine", "RUNNING")
    place.run("mount", "-o", "remount,size=200M", disk)
    daemon.wait_drained("engine", len(sent) + more, 60)
    counters = daemon.counters("engine")
    assert counters["recorded"] == len(sent) + more and counters["record_lost"] == 0, counters
    daemon.stop(expect=None)
