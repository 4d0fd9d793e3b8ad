# SPDX-License-Identifier: MIT
"""The supervisor itself dies, or makes room for a new program: the hold outlives it, in a service manager's store of
descriptors or by handing it over, and no datagram that the kernel accepted is missing anywhere."""

import os
import signal
import socket as socketlib
import struct

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel, text_of
from lib.place import core, freeze, kill, wait_until
from lib.store import StoredDaemon


def feed(place, daemon_class=StoredDaemon, **record):
    listens, outlet = [place.ipv4(), place.ipv4()], place.ipv4()
    sink = Sink(place, outlet)
    daemon = daemon_class(place, channel("engine", listens[0], relays={"display": outlet},
                                         record={"segment_size": "1M", **record}),
                          channel("idle", listens[1], record={}))
    return daemon, listens[0], sink


def judge(place, daemon, sender, sink, count):
    """Everything exactly once in the log, at least once on the relay, in one unbroken row of numbers."""
    daemon.wait_drained("engine", count)
    entry = daemon.status("engine")
    assert entry["counters"]["kernel_dropped"] == 0
    oracle.assert_ledger(entry)
    daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    files = daemon.segments("engine")
    assert not daemon.segments("engine", ".avro.open") and not daemon.segments("idle", ".avro.open")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")


@core
def test_a_killed_supervisor_comes_back_with_everything(place):
    daemon, listen, sink = feed(place)
    daemon.start_stored()
    count, deaths = place.scaled(24000), 5
    sender = Sender(place, listen, count, rate=place.scaled(6000), sizes=(64, 200, 800))
    for number in range(deaths):
        daemon.wait_counter("engine", "received", count * (number + 1) // (deaths + 2))
        daemon.die()
        daemon.start_stored()
    sender.wait()
    judge(place, daemon, sender, sink, count)
    daemon.notifications.poll()
    assert not daemon.notifications.kept, f"after an orderly end nothing stays: {sorted(daemon.notifications.kept)}"


@core
def test_the_store_holds_each_descriptor_once_under_its_name(place):
    daemon, listen, _sink = feed(place)
    daemon.start_stored()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    expected = {"engine.rx", "engine.ring", "engine.private", "engine.history", "engine.log", "engine.out.0", "idle.rx",
                "idle.ring", "idle.private", "idle.history", "idle.log"}

    def stored():
        daemon.notifications.poll()
        return set(daemon.notifications.kept) >= expected
    wait_until(stored, 10, "everything to be stored")
    for number in range(3):
        before = daemon.status("engine")["log"]["segment"]
        wait_until(lambda: daemon.ctl("--no-wait", "rotate", "engine", expect=None).returncode == 0, 10, "a rotation")
        wait_until(lambda was=before: daemon.status("engine")["log"]["segment"] != was, 10, "another segment")
        Sender(place, listen, 10, name=f"more{number}").wait()
        daemon.wait_drained("engine", 100 + 10 * (number + 1))  # an empty segment would not be rotated
    kill(daemon.status("engine")["pid"])
    daemon.wait_state("engine", "RUNNING")
    daemon.notifications.poll()
    assert set(daemon.notifications.kept) - {"engine.next", "idle.next"} == expected
    assert all(len(fds) == 1 for fds in daemon.notifications.kept.values()), daemon.notifications.kept
    daemon.stop()


@core
def test_ten_upgrades_in_a_row_lose_nothing(place):
    daemon, listen, sink = feed(place, Daemon)
    daemon.start()
    daemon.ctl("stop", "idle")
    count, upgrades = place.scaled(24000), 10
    sender = Sender(place, listen, count, rate=place.scaled(6000), sizes=(64, 200, 800))
    for number in range(upgrades):
        daemon.wait_counter("engine", "received", count * (number + 1) // (upgrades + 2))
        pid, generation = daemon.status()["supervisor"]["pid"], daemon.status("engine")["generation"]
        daemon.disconnect()
        daemon.ctl("upgrade")
        daemon.wait_state("engine", "RUNNING")
        assert daemon.status()["supervisor"]["pid"] == pid
        assert daemon.status("engine")["generation"] > generation, "numbers of generations are never used again"
        assert daemon.status("idle")["state"] == "STOPPED", "what an operator stopped stays stopped"
    sender.wait()
    assert daemon.status("engine")["restarts"] == 0, "an upgrade is no death"
    judge(place, daemon, sender, sink, count)


def test_an_upgrade_takes_a_changed_configuration(place):
    """A ring of another size can't be continued; sockets and numbering can."""
    daemon, listen, sink = feed(place, Daemon)
    daemon.start()
    first = Sender(place, listen, 500, name="first", rate=2000)
    first.wait()
    daemon.wait_drained("engine", 500)
    daemon.config.write_text(daemon.config.read_text().replace('channel "engine" {',
                                                               'channel "engine" {\n  ring_size = "8M"'))
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING")
    assert daemon.status("engine")["ring"]["capacity_bytes"] == 8 << 20
    second = Sender(place, listen, 500, name="second", rate=2000)
    second.wait()
    daemon.wait_drained("engine", 500)
    daemon.stop()
    sink.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    sent = oracle.read_datagrams(first.record)[0] + oracle.read_datagrams(second.record)[0]
    assert [record.payload for record in records] == sent


def test_an_adopted_socket_gets_the_present_options(place):
    """receive_offload taken away: runs would be taken for single datagrams, cut to the first one of them."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, receive_offload=True, ring_size="8M")).start()
    Sender(place, listen, 320, name="first", rate=20000, sizes=(100,), coalesced=True).wait()
    daemon.wait_drained("engine", 320)
    daemon.config.write_text(daemon.config.read_text().replace("receive_offload = true", "receive_offload = false"))
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING")
    second = Sender(place, listen, 320, name="second", rate=20000, sizes=(100,), coalesced=True)
    second.wait()
    daemon.wait_drained("engine", 640)
    assert daemon.counters("engine")["truncated"] == 0
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    payloads = [record.payload for record in oracle.read_with_python_avro(daemon.segments("engine"))]
    assert payloads[320:] == oracle.read_datagrams(second.record)[0]


def test_an_adopted_group_socket_follows_a_changed_source(place):
    group = place.group()
    host, _, port = group.rpartition(":")
    with socketlib.socket(socketlib.AF_INET, socketlib.SOCK_DGRAM) as probe:  # what the sender sends from
        probe.setsockopt(socketlib.IPPROTO_IP, socketlib.IP_MULTICAST_IF,
                         struct.pack("@4s4si", bytes(4), bytes(4), socketlib.if_nametoindex("lo")))
        probe.connect((host, int(port)))
        source = probe.getsockname()[0]
    daemon = Daemon(place, channel("engine", group, record={}, interface="lo", source=source)).start()
    Sender(place, group, 50, name="first", rate=5000).wait()
    daemon.wait_drained("engine", 50)
    daemon.config.write_text(daemon.config.read_text().replace(text_of(source), '"127.9.9.9"'))
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING")
    Sender(place, group, 50, name="second", rate=5000).wait()  # from whom nobody wants anything now
    daemon.config.write_text(daemon.config.read_text().replace('"127.9.9.9"', text_of(source)))
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING")
    third = Sender(place, group, 50, name="third", rate=5000)
    third.wait()
    daemon.wait_drained("engine", 100)
    daemon.stop()
    payloads = [record.payload for record in oracle.read_with_python_avro(daemon.segments("engine"))]
    assert payloads[50:] == oracle.read_datagrams(third.record)[0]


def whole(daemon):
    """What must never fall, nor be forgotten."""
    entry = daemon.status("engine")
    return ({name: value for name, value in entry["counters"].items()}, entry["restarts"],
            [(relay["name"], relay["sent"], relay["dropped"]) for relay in entry["relays"] + entry["decimates"]],
            [(crash["generation"], crash["pid"], crash["signal"]) for crash in
             daemon.call("crashes", {"channel": "engine"})["crashes"]])


def test_counters_and_crashes_survive_stops_restarts_upgrades_and_deaths(place):
    listen, outlet, slow = place.ipv4(), place.ipv4(), place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, relays={"display": outlet},
                                         decimates={"slow": {"to": slow, "keep_every": 5}}, record={}))
    daemon.start_stored()
    Sender(place, listen, 100, name="first", rate=5000).wait()
    daemon.wait_drained("engine", 100)
    wait_until(lambda: daemon.status("engine")["counters"]["decimated"] == 20, 10, "the decimated stream")
    pid = daemon.status("engine")["pid"]
    kill(pid)
    wait_until(lambda: daemon.status("engine")["pid"] not in (None, pid), 10, "a successor")
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: daemon.call("crashes", {"channel": "engine"})["crashes"][0]["takeover_ms"] is not None, 10,
               "the takeover to be noted")
    before = whole(daemon)
    assert before[0]["received"] == before[0]["relayed"] == 100 and before[1] == 1 and len(before[3]) == 1
    for how in ("restart", "stop", "upgrade", "die", "upgrade"):
        if how == "stop":
            daemon.ctl("stop", "engine")
            assert whole(daemon) == before, "while it is stopped"
            daemon.ctl("start", "engine")
        elif how == "die":
            freeze(daemon.process.pid)  # or it may note the worker's end, and start another one, before its own
            daemon.die()
            daemon.start_stored()
        else:
            daemon.disconnect()
            daemon.ctl(*(["restart", "engine"] if how == "restart" else ["upgrade"]))
        daemon.disconnect()
        daemon.wait_state("engine", "RUNNING")
        now = whole(daemon)
        assert now[0] | {"restarts": 0} == before[0] | {"restarts": 0} and now[2] == before[2], (how, before, now)
        # The worker that was killed with its supervisor may have been noted by it in its last moment.
        assert now[3][-len(before[3]):] == before[3] and len(now[3]) - len(before[3]) <= (how == "die"), (how, before, now)
        assert now[1] - before[1] == (how == "die"), "a supervisor's death takes its worker with it"
        before = now
    Sender(place, listen, 100, name="second", rate=5000).wait()
    daemon.wait_drained("engine", 200)
    entry = daemon.status("engine")
    oracle.assert_ledger(entry)
    assert entry["relays"][0]["sent"] == 200
    daemon.stop()
    daemon.notifications.poll()
    assert not daemon.notifications.kept, f"after an orderly end nothing stays: {sorted(daemon.notifications.kept)}"


def test_a_changed_list_of_destinations_is_no_changed_ring(place):
    """Destinations go by name: a new one has counted nothing and gets nothing that came before it, one that changes its
    place keeps its counters, one that is gone stays in the ledger."""
    listen, first, second, late, slow = (place.ipv4() for _ in range(5))
    sinks = {name: Sink(place, address, name=name)
             for name, address in (("first", first), ("second", second), ("late", late), ("slow", slow))}
    daemon = Daemon(place, channel("engine", listen, relays={"first": first, "second": second}, record={})).start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    generation = daemon.status("engine")["generation"]
    daemon.config.write_text(Daemon(place, channel(
        "engine", listen, relays={"late": late, "second": second},
        decimates={"slow": {"to": slow, "keep_every": 5}}, record={}), name="changed").config.read_text().replace(
            "changed.sock", "holdfastd.sock"))
    daemon.disconnect()
    daemon.ctl("upgrade")
    entry = daemon.wait_state("engine", "RUNNING")
    assert entry["generation"] > generation and entry["counters"]["received"] == 500, "the ring goes on"
    assert entry["counters"]["relayed"] == 1000, "nothing that was counted is forgotten"
    assert [(relay["name"], relay["sent"]) for relay in entry["relays"]] == [("late", 0), ("second", 500)]
    after = Sender(place, listen, 500, name="after", rate=5000)
    after.wait()
    daemon.wait_drained("engine", 1000)
    wait_until(lambda: daemon.status("engine")["counters"]["decimated"] == 100, 10, "the decimated stream")
    entry = daemon.status("engine")
    assert [(relay["name"], relay["sent"]) for relay in entry["relays"]] == [("late", 500), ("second", 1000)]
    assert entry["counters"]["relayed"] == 2000 and entry["counters"]["relay_repeated"] == 0
    daemon.stop()
    for sink in sinks.values():
        sink.stop()
    caught = {name: oracle.read_datagrams(sink.record)[0] for name, sink in sinks.items()}
    sent = oracle.read_datagrams(after.record)[0]
    assert caught["late"] == sent, "nothing from before it was there"
    assert caught["slow"] == sent[4::5], "nor a decimated one the ring's history"
    assert len(caught["first"]) == 500 and len(caught["second"]) == 1000


def test_a_store_with_strange_descriptors_does_no_harm(place):
    """Names of channels that are gone, false names, a segment that was sealed meanwhile: closed, told, not used."""
    daemon, listen, sink = feed(place)
    daemon.start_stored()
    sender = Sender(place, listen, 300)
    sender.wait()
    daemon.wait_drained("engine", 300)
    daemon.die()
    kept = daemon.notifications.kept
    kept["gone.rx"] = [os.dup(kept["engine.rx"][0])]
    kept["engine.out.7"] = [os.dup(kept["engine.rx"][0])]
    kept["idle.rx"], kept["idle.ring"] = kept["idle.ring"], kept["idle.rx"]
    kept["nonsense"] = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    daemon.start_stored()
    log = daemon.log_text()
    for name in ("gone.rx", "engine.out.7", "idle.rx", "idle.ring", "nonsense"):
        assert f"{name} of the supervisor before has no use here" in log, name
    judge(place, daemon, sender, sink, 300)


def test_a_second_signal_and_an_upgrade_do_not_mix(place):
    """A stop that comes during an upgrade is a stop."""
    daemon, listen, _sink = feed(place, Daemon)
    daemon.start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    kill(daemon.status("engine")["pid"], signal.SIGSTOP)  # holds the upgrade up
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.wait_for_log("upgrade: executing")
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in daemon.notifications.poll(), 10, "STOPPING=1")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(5)
    daemon.start()
    daemon.stop()
    assert len(oracle.read_with_avro_c(place, daemon.segments("engine"))) == 100


def test_a_stop_during_an_upgrade_ends_though_the_archive_is_frozen(place):
    """The stop has a deadline of its own."""
    daemon, listen, _sink = feed(place, Daemon)
    daemon.start()
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    workers = {entry["pid"] for entry in daemon.status()["channels"]}
    for pid in daemon.descendants():
        if pid not in workers:
            kill(pid, signal.SIGSTOP)  # the archive; and the gate and the spare, for which nobody waits
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.wait_for_log("upgrade: executing")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(20)
    daemon.start()
    daemon.stop()
    assert len(oracle.read_with_avro_c(place, daemon.segments("engine"))) == 100


def test_an_upgrade_whose_control_socket_can_not_be_made_goes_on_without_it(place):
    """Nobody can ask it then, which is no reason to let go of what it holds."""
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={})).start()
    daemon.wait_state("engine", "RUNNING")
    taken = place.folder / "taken.sock"
    somebody = socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM)
    somebody.bind(str(taken))
    somebody.listen(64)
    text = daemon.config.read_text()
    assert str(daemon.socket) in text, text
    daemon.config.write_text(text.replace(str(daemon.socket), str(taken)))
    place.run(place.program("holdfastd"), "--config", daemon.config, "--check")
    daemon.disconnect()
    daemon.ctl("upgrade", expect=None)
    daemon.wait_for_log("it is tried again every second")
    sender = Sender(place, listen, 500, rate=5000)
    sender.wait()
    sink.wait_received(500)
    somebody.close()
    daemon.wait_for_log("the control socket is open")
    daemon.socket = taken
    daemon.disconnect()
    daemon.wait_drained("engine", 500)
    daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    oracle.assert_same_payloads(sent, [record.payload for record in
                                       oracle.read_with_python_avro(daemon.segments("engine"))], "the log")
