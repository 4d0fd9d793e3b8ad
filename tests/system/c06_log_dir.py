# SPDX-License-Identifier: MIT
"""One daemon at a time works in a log_dir, and only in the one that it began with."""

import os

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, libc_call, wait_until


def trouble(daemon):
    return daemon.status("engine")["log"]["trouble"] or ""


@core
def test_a_second_daemon_touches_nothing_and_says_whose_it_is(place):
    first = Daemon(place, channel("engine", place.ipv4(), record={"segment_size": "1M"}), name="first").start()
    listen = place.ipv4()
    second = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), name="second",
                    log_dir=first.log_dir).start(wait=False)
    second.wait_ready(30)
    wait_until(lambda: f"pid {first.process.pid}" in trouble(second), 20, "the refusal to name the other daemon")
    before = {entry: os.stat(first.log_dir / "engine" / entry).st_mtime_ns
              for entry in os.listdir(first.log_dir / "engine")}
    Sender(place, listen, 100, name="early", rate=10000).wait()
    second.wait_counter("engine", "received", 100)
    assert second.status("engine")["state"] == "RUNNING", "it relays all the same"
    assert f"pid {first.process.pid}" in second.ctl("check", expect=1).stdout
    assert {entry: os.stat(first.log_dir / "engine" / entry).st_mtime_ns
            for entry in os.listdir(first.log_dir / "engine")} == before, "nothing was touched"
    first.stop()
    wait_until(lambda: not trouble(second), 30, "the second one's turn")
    sender = Sender(place, listen, 1000, rate=10000)
    sender.wait()
    second.wait_drained("engine", 1100)
    second.stop()
    records = [record.payload for record in oracle.read_with_python_avro(second.segments("engine"))]
    assert set(oracle.read_datagrams(sender.record)[0]) <= set(records)


@core
def test_a_log_dir_whose_mount_goes_away_is_not_taken_for_an_empty_one(place):
    place.private_mounts()
    disk, kept, listen, outlet = place.folder / "disk", place.folder / "kept", place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    place.mount_tmpfs(disk, "64m")
    kept.mkdir()
    libc_call("mount", os.fsencode(disk), os.fsencode(kept), None, 4096, None)  # MS_BIND
    place.on_exit(lambda: place.unmount(kept))
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={"segment_size": "1M"}),
                    log_dir=disk / "log").start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(4000), sizes=(400,))
    daemon.wait_counter("engine", "recorded", 500)
    place.unmount(disk)
    wait_until(lambda: "not mounted" in trouble(daemon), 30, "the missing mount to be told")
    said = daemon.ctl("check", expect=None).stdout
    assert "engine" in said and "not mounted" in said, said
    relayed = daemon.counters("engine")["relayed"]
    daemon.wait_counter("engine", "relayed", relayed + 1000)  # the relay goes on
    assert os.listdir(disk) == [], "nothing was made below the mount point"
    libc_call("mount", os.fsencode(kept), os.fsencode(disk), None, 4096, None)
    wait_until(lambda: not trouble(daemon), 30, "the recording to come back by itself")
    recorded = daemon.counters("engine")["recorded"]
    daemon.wait_counter("engine", "recorded", recorded + 1000)
    sender.stop()
    daemon.stop()
    sink.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    assert set(oracle.read_datagrams(sink.record)[0]) == set(sent)
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    payloads = [record.payload for record in records]
    assert len(set(payloads)) == len(payloads) and set(payloads) <= set(sent)


@core
def test_what_a_channel_that_is_gone_has_left_is_sealed_and_kept(place):
    listen = place.ipv4()
    before = Daemon(place, channel("old", listen, record={}), channel("plain", place.ipv4(), record={}), name="before").start()
    sender = Sender(place, listen, 500, rate=10000)
    sender.wait()
    before.wait_drained("old", 500)
    before.kill_all()
    foreign = before.log_dir / "notes"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("kept")
    after = Daemon(place, channel("new", listen, record={}), channel("plain", place.ipv4(), relays={"out": place.ipv4()}), name="after",
                   log_dir=before.log_dir).start()
    wait_until(lambda: before.segments("old"), 30, "the segment of the channel that is gone to be sealed")
    assert not before.segments("old", ".avro.open")
    after.wait_for_log("old: no channel of this name records any more")
    records = oracle.read_with_python_avro(before.segments("old"))
    assert [record.payload for record in records] == oracle.read_datagrams(sender.record)[0]
    assert after.segments("new", ".avro.open"), "and what is in use is let alone"
    assert (foreign / "mine.txt").read_text() == "kept"
    after.stop()


def unsealed_over_an_upgrade(place):
    """A segment is rotated while log_dir is away, and the new program, which should finish it, can't either. Where it is."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    daemon.wait_state("engine", "RUNNING")
    Sender(place, listen, 1000, sizes=(600,), rate=20000).wait()
    daemon.wait_drained("engine", 1000)
    wait_until(lambda: len(daemon.segments("engine", ".avro.open")) == 2, 10, "the next segment to be prepared")
    away = place.folder / "away"
    daemon.log_dir.rename(away)
    daemon.log_dir.write_text("in the way", encoding="ascii")
    daemon.call("rotate", ["engine"])
    Sender(place, listen, 10, name="more", tag=2).wait()
    daemon.wait_drained("engine", 1010)
    daemon.wait_for_log("could not be sealed")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_for_log("beside the segment in use can't be recovered")
    daemon.wait_state("engine", "RUNNING")
    return daemon, away


def is_back(daemon, away):
    daemon.log_dir.unlink()
    away.rename(daemon.log_dir)


def recorded(daemon):
    assert not daemon.segments("engine", ".avro.open")
    return len(oracle.read_with_python_avro(daemon.segments("engine")))


def test_a_stop_seals_what_could_not_be_recovered_before(place):
    daemon, away = unsealed_over_an_upgrade(place)
    is_back(daemon, away)
    daemon.stop()
    assert recorded(daemon) == 1010


def test_what_is_left_unsealed_is_no_clean_end(place):
    daemon, away = unsealed_over_an_upgrade(place)
    daemon.stop(expect=1)
    assert "something was left unsealed, the next start recovers it" in daemon.log_text()
    assert "what it left unfinished can't be recovered" in daemon.log_text()
    is_back(daemon, away)
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()
    assert recorded(daemon) == 1010
