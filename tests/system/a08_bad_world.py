# SPDX-License-Identifier: MIT
"""The world fails: an address is taken, the disk is full, the log folder can't be used. The relay goes on, what is not
recorded is counted, the message says what to do, and recording resumes by itself."""

import os
import socket

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, wait_until


def split(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@core
def test_a_taken_address_is_reported_and_retried_while_others_run(place):
    taken, free = place.ipv4(), place.ipv4()
    squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    squatter.bind(split(taken))
    daemon = Daemon(place, channel("blocked", taken, record={}), channel("free", free, record={})).start()
    entry = daemon.wait_state("blocked", "BACKOFF")
    assert taken in entry["cause"], entry["cause"]
    assert entry["next_start_ms"] is not None
    daemon.wait_for_log(taken)
    daemon.ctl("check", expect=1)
    assert any("blocked" in text for text in daemon.notifications.values("STATUS"))
    sender = Sender(place, free, 500, rate=2000)
    sender.wait()
    daemon.wait_drained("free", 500)
    squatter.close()
    daemon.wait_state("blocked", "RUNNING", 30)
    daemon.ctl("check")
    late = Sender(place, taken, 500, rate=2000, name="late")
    late.wait()
    daemon.wait_drained("blocked", 500)
    daemon.stop()


def test_what_is_tried_again_and_again_is_told_ever_more_rarely(place):
    taken = place.ipv4()
    squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    squatter.bind(split(taken))
    daemon = Daemon(place, channel("blocked", taken, record={}), head='restart { first_delay = "1ms"  max_delay = "2ms" }').start()
    daemon.wait_for_log("; attempt 64\n", 30)
    daemon.ctl("restart", "--no-wait", "blocked")
    wait_until(lambda: daemon.log_text().count("; attempt 64\n") == 2, 30, "it to be told anew after an operator's restart")
    said = [int(line.partition("; attempt ")[2] or 1) for line in daemon.log_text().splitlines()
            if "channel blocked: OPENING -> BACKOFF" in line]
    assert said.count(1) == 2 and all(after in (1, 2 * before) for before, after in zip(said, said[1:])), said
    assert "its time has come" not in daemon.log_text()
    squatter.close()
    daemon.wait_state("blocked", "RUNNING", 30)
    daemon.stop()


@core
def test_a_log_folder_that_can_not_be_made_stops_no_relay_and_comes_back(place):
    listen, outlet = place.ipv4(), place.ipv4()
    obstacle = place.folder / "log"
    obstacle.write_text("a file where a folder should be")
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={})).start()
    daemon.wait_state("engine", "RUNNING")
    count = place.scaled(3000)
    first = Sender(place, listen, count, rate=place.scaled(3000), name="first", tag=1)
    first.wait()
    sink.wait_received(count)
    daemon.wait_counter("engine", "received", count)
    assert daemon.counters("engine")["recorded"] == 0
    assert str(obstacle) in daemon.log_text(), "the message names the folder"
    assert daemon.status("engine")["log"] is None or daemon.status("engine")["log"].get("trouble")
    daemon.ctl("check", expect=1)
    assert [problem["kind"] for problem in daemon.call("check")["problems"]] == ["not_recording"]

    obstacle.unlink()
    wait_until(lambda: (daemon.status("engine")["log"] or {}).get("segment"), 30, "recording to resume by itself")
    daemon.wait_state("engine", "RUNNING")
    second = Sender(place, listen, count, rate=place.scaled(3000), name="second", tag=2)
    second.wait()
    sink.wait_received(2 * count)
    daemon.wait_drained("engine", 2 * count)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == 2 * count and counters["recorded"] >= count
    daemon.stop()
    sink.stop()
    sent = [oracle.read_datagrams(sender.record)[0] for sender in (first, second)]
    oracle.assert_same_payloads(sent[0] + sent[1], oracle.read_datagrams(sink.record)[0], "relayed all the time")
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    recorded = [record.payload for record in records]
    assert len(records) == counters["recorded"]
    oracle.assert_at_least_once(sent[1], [payload for payload in recorded if payload in set(sent[1])], "recorded again")
    oracle.assert_verified(daemon, daemon.segments("engine"))


def test_a_full_disk_stops_no_relay_and_recording_resumes(place):
    place.private_mounts()
    disk = place.folder / "log"
    place.mount_tmpfs(disk, "6m")
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={"segment_size": "2M"},
                                   ring_size="1M"),
                    channel("neighbour", place.ipv4(), relays={"x": place.ipv4()})).start()
    count = 15000
    first = Sender(place, listen, count, rate=5000, sizes=(1000,), name="first", tag=1)
    first.wait()
    sink.wait_received(count)
    daemon.wait_counter("engine", "received", count)
    counters = daemon.counters("engine")
    assert counters["record_lost"] > 0, counters
    assert counters["kernel_dropped"] == 0 and counters["relay_dropped"] == 0
    assert "no space" in daemon.log_text(), "the message says what is wrong"
    assert daemon.status("engine")["log"] is None or daemon.status("engine")["log"].get("trouble")
    sealed = daemon.segments("engine")
    assert sealed, "what was recorded before is whole"
    oracle.assert_verified(daemon, sealed)
    kept = [record for file in sealed for record in oracle.read_with_avro_c(place, [file])]
    for file in sealed:
        file.unlink()

    wait_until(lambda: (daemon.status("engine")["log"] or {}).get("segment")
               and not daemon.status("engine")["log"].get("trouble"), 30, "recording to resume by itself")
    second = Sender(place, listen, 1000, rate=2000, sizes=(100,), name="second", tag=2)
    second.wait()
    sink.wait_received(count + 1000)
    daemon.wait_drained("engine", count + 1000)
    entry = daemon.status("engine")
    oracle.assert_ledger(entry)
    assert entry["restarts"] == 0 and daemon.status("neighbour")["restarts"] == 0
    daemon.stop()
    sink.stop()
    sent = [oracle.read_datagrams(sender.record)[0] for sender in (first, second)]
    oracle.assert_same_payloads(sent[0] + sent[1], oracle.read_datagrams(sink.record)[0], "relayed all the time")
    records = kept + oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert len(records) == entry["counters"]["recorded"], "the ledger and the files disagree"
    assert set(sent[1]) <= {record.payload for record in records}, "everything after the trouble is recorded"
    numbers = [record.seq for record in records]
    assert numbers == sorted(set(numbers)) and numbers[-1] == count + 1000 - 1


def test_a_log_folder_removed_while_recording(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Daemon(place, channel("engine", listen, relays={"display": outlet}, record={})).start()
    first = Sender(place, listen, 1000, rate=2000, name="first", tag=1)
    first.wait()
    daemon.wait_drained("engine", 1000)
    place.run("rm", "-r", daemon.log_dir)
    second = Sender(place, listen, 1000, rate=2000, name="second", tag=2)
    second.wait()
    sink.wait_received(2000)
    daemon.wait_for_log("its file was deleted")
    wait_until(lambda: daemon.log_dir.exists() and daemon.segments("engine", ".avro.open"), 30, "the folder to be back")
    daemon.wait_drained("engine", 2000)
    assert daemon.status("engine")["restarts"] == 0
    daemon.process.send_signal(15)
    daemon.process.wait(30)
    sink.stop()
    sent = [oracle.read_datagrams(sender.record)[0] for sender in (first, second)]
    oracle.assert_same_payloads(sent[0] + sent[1], oracle.read_datagrams(sink.record)[0], "relayed")


def test_no_control_socket_is_a_failure_with_a_reason(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}))
    daemon.config.write_text(daemon.config.read_text().replace(str(daemon.socket), "/proc/nothing/here/control.sock"))
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 1
    assert "/proc/nothing/here" in daemon.log_text()


def test_a_small_receive_buffer_is_warned_about(place):
    """Without the right to exceed net.core.rmem_max, the warning names the sysctl."""
    if os.geteuid() != 0:
        with open("/proc/sys/net/core/rmem_max", encoding="ascii") as limit:
            wanted = int(limit.read()) * 4
        daemon = Daemon(place, channel("engine", place.ipv4(), record={}, receive_buffer=str(wanted))).start()
        daemon.wait_for_log("net.core.rmem_max")
        daemon.stop()
    else:
        daemon = Daemon(place, channel("engine", place.ipv4(), record={}, receive_buffer="64M")).start()
        assert daemon.status("engine")["receive_buffer_bytes"] >= 64 << 20
        daemon.stop()
