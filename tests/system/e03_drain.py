# SPDX-License-Identifier: MIT
"""When the daemon stops, or is upgraded, readers get what they were promised, for as long as `grace` says; what is cut
off is an error, never a short file; and no channel waits for it."""

import errno
import os
import signal
import subprocess
import threading

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, is_alive, wait_until
from lib.raw_reader import COPY, FD, OBJECT_LENT, SPLICE, Gone, RawReader


def recorded(place, grace, **more):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}, **more),
                    head=f'read {{ grace = "{grace}" }}').start()
    Sender(place, listen, 3000, rate=10000, sizes=(1000,)).wait()
    daemon.wait_drained("engine", 3000)
    wait_until(lambda: len(daemon.segments("engine")) >= 2, 20, "sealed segments")
    return daemon, listen, daemon.segments("engine")[0]


def begin_copy(daemon, sealed, how):
    """A file is being sent, and its pipe is full."""
    raw = RawReader(daemon.socket.with_name("read.sock"), deadline=30).hello()
    raw.send_object("engine", sealed.name, how)
    raw.receive(OBJECT_LENT)
    wait_until(lambda: daemon.status()["read"]["counters"]["waiting"] == 0, 20, "the pipe to be full")
    return raw


def drain(pipe):
    os.set_blocking(pipe, True)
    data = b""
    while part := os.read(pipe, 1 << 20):
        data += part
    return data


def expect_end(raw):
    """ESHUTDOWN for the connection, and its end."""
    error, reason = raw.refused()
    assert error == errno.ESHUTDOWN and "the daemon stops" in reason, (error, reason)
    try:
        raw.receive()
        raise AssertionError("the connection goes on")
    except (Gone, ConnectionResetError):
        pass


@core
def test_a_stop_brings_what_was_promised(place):
    for how in (COPY, SPLICE):
        daemon, _listen, sealed = recorded(place, "10s")
        raw = begin_copy(daemon, sealed, how)
        idle = RawReader(daemon.socket.with_name("read.sock"), deadline=30).hello()
        daemon.disconnect()
        daemon.process.send_signal(signal.SIGTERM)
        expect_end(idle)
        raw.send_object("engine", sealed.name, FD)  # too late
        assert is_alive(daemon.process.pid)
        assert drain(raw.memory) == sealed.read_bytes()
        assert raw.sent() == (sealed.stat().st_size, 0)
        error, reason = raw.refused()
        assert (error, reason) == (errno.ESHUTDOWN, "the daemon stops"), (error, reason)
        expect_end(raw)
        assert daemon.process.wait(20) == 0
        raw.close()
        idle.close()
        daemon.log_dir.rename(place.folder / f"log-{how}")


@core
def test_what_takes_longer_is_an_error(place):
    for how in (COPY, SPLICE):
        daemon, _listen, sealed = recorded(place, "300ms")
        raw = begin_copy(daemon, sealed, how)
        daemon.stop()
        size, error = raw.sent()
        assert error == errno.ESHUTDOWN and size < sealed.stat().st_size, (size, error)
        assert len(drain(raw.memory)) < sealed.stat().st_size
        expect_end(raw)
        raw.close()
        daemon.log_dir.rename(place.folder / f"log-{how}")


def test_what_is_fetched_is_whole_or_not_there(place):
    """By holdfastctl, whose output nobody takes."""
    daemon, _listen, sealed = recorded(place, "100ms")
    process = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "fetch", "engine", sealed.name,
                                "--how", "copy", "-o", str(place.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    place.on_exit(process.kill)
    daemon.stop()
    process.communicate(timeout=60)
    copy = place.folder / sealed.name
    assert (process.returncode == 0) == copy.exists()
    if copy.exists():
        assert copy.read_bytes() == sealed.read_bytes()


def test_an_upgrade_drains_first_and_no_channel_waits(place):
    out = place.ipv4()
    sink = Sink(place, [out])
    daemon, listen, sealed = recorded(place, "10s", relays={"out": out})
    raw = begin_copy(daemon, sealed, COPY)
    gate, worker = daemon.gate(), daemon.status("engine")["pid"]
    result = {}
    upgrade = threading.Thread(target=lambda: result.update(done=daemon.ctl("upgrade")))
    upgrade.start()
    wait_until(lambda: daemon.status()["read"]["state"] == "stopped", 20, "the upgrade to have begun")
    sender = Sender(place, listen, 5000, rate=5000, name="meanwhile")
    sender.wait()
    daemon.wait_counter("engine", "received", 8000)  # which it does while readers are waited for
    assert daemon.status("engine")["pid"] == worker
    assert is_alive(gate)
    assert "under way" in daemon.ctl("upgrade", expect=1).stderr
    assert drain(raw.memory) == sealed.read_bytes()
    assert raw.sent() == (sealed.stat().st_size, 0)
    expect_end(raw)
    raw.close()
    upgrade.join(60)
    daemon.disconnect()
    assert not upgrade.is_alive() and result["done"].returncode == 0
    wait_until(lambda: daemon.status()["read"]["pid"] not in (None, gate), 20, "the successor's gate")
    assert daemon.status("engine")["pid"] != worker
    with RawReader(daemon.socket.with_name("read.sock"), deadline=30) as another:
        another.hello().attach("engine")
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == counters["recorded"] == 8000, counters
    sink.stop()
    daemon.stop()


def upgrade(daemon):
    """Behind 32 MiB at once the disk may take its time, and an upgrade waits for no disk."""
    def done():
        result = daemon.ctl("upgrade", expect=None)
        assert result.returncode == 0 or "its disk" in result.stderr or "archive has not" in result.stderr, result.stderr
        return result.returncode == 0
    wait_until(done, 60, "an upgrade", interval=0.5)


def test_what_is_fetched_over_an_upgrade_is_whole(place):
    """The library has the rest from the next gate."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "32M"}), head='read { grace = "0" }').start()
    Sender(place, listen, 60000, rate=place.scaled(60000), sizes=(1000,)).wait()
    wait_until(lambda: daemon.segments("engine"), 60, "a sealed segment")
    sealed = daemon.segments("engine")[0]
    for how in ("copy", "splice") * 3:
        process = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "fetch", "engine",
                                    sealed.name, "--how", how, "-o", str(place.folder), "--force"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        place.on_exit(process.kill)
        upgrade(daemon)
        daemon.disconnect()
        output, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, (output, complaints)
        assert (place.folder / sealed.name).read_bytes() == sealed.read_bytes()
    daemon.stop()


def test_a_stop_during_the_drain_of_an_upgrade(place):
    daemon, _listen, sealed = recorded(place, "1s")
    raw = begin_copy(daemon, sealed, COPY)
    daemon.call("upgrade")
    wait_until(lambda: daemon.status()["read"]["state"] == "stopped", 20, "the upgrade to have begun")
    daemon.stop()
    assert raw.sent()[1] == errno.ESHUTDOWN
    raw.close()
