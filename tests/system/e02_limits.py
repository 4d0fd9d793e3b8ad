# SPDX-License-Identifier: MIT
"""What readers may have is for the configuration to say: who comes to a limit is told which, who reads with the library
goes on as if there were none, and how long requests took is in status."""

import contextlib
import errno
import os
import resource
import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, skip, wait_until
from lib.raw_reader import FD, OBJECT_LENT, RawReader
from lib.reading import Reader, assert_in_order

ALL = "0666"


def limited(place, *channels, **limits):
    keys = " ".join(f'{key} = "{value}"' for key, value in limits.items())
    return Daemon(place, *channels, head=f'read {{ mode = "{ALL}" {keys} }}')


def read_socket(daemon):
    return daemon.socket.with_name("read.sock")


def welcomed(daemon):
    """A connection, when the gate has seen that those before it have ended."""
    def attempt():
        reader = RawReader(read_socket(daemon))
        try:
            return reader.hello()
        except AssertionError:  # it was refused
            reader.__exit__(None, None, None)
            return None
    return wait_until(attempt, 20, "the gate to let somebody in")


@core
def test_each_limit_is_told_by_its_key(place):
    daemon = limited(place, channel("engine", place.ipv4(), record={}), connections=40, connections_per_user=3,
                     requests_per_second=1000, requests_per_connection=16, idle_timeout="1s").start()
    limits = daemon.status()["read"]["limits"]
    assert limits["connections"] == 40 and limits["connections_per_user"] == 3 and limits["idle_timeout_s"] == 1, limits
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(RawReader(read_socket(daemon))).hello().attach("engine")
        extra = stack.enter_context(RawReader(read_socket(daemon)))
        error, reason = extra.refused()
        assert error == errno.EBUSY and reason.startswith("connections_per_user = 3: "), (error, reason)
    with welcomed(daemon) as idle:
        error, reason = idle.refused()
        assert error == errno.ETIMEDOUT and reason.startswith("idle_timeout = 1s: "), (error, reason)
    with RawReader(read_socket(daemon)) as busy:
        for _ in range(16):
            busy.hello()
        busy.send(1, b"test".ljust(16, b"\0"))
        error, reason = busy.refused()
        assert error == errno.EDQUOT and reason.startswith("requests_per_connection = 16: "), (error, reason)
    wait_until(lambda: daemon.status()["read"]["counters"]["ended_idle"] == 2, 20, "both to be counted")
    daemon.stop()


def test_a_reader_of_the_library_does_not_notice(place):
    """Its connection ends again and again, and it misses nothing."""
    listen = place.ipv4()
    daemon = limited(place, channel("engine", listen, record={"segment_size": "1M"}), requests_per_connection=16,
                     idle_timeout="1s").start()
    reader = Reader(place, daemon, "r")
    sender = Sender(place, listen, 30000, rate=place.scaled(10000), sizes=(1000,))
    sender.wait()
    reader.wait_next(30000)
    ended = daemon.status()["read"]["counters"]["ended_idle"]
    assert ended > 0, ended
    daemon.wait_drained("engine", 30000)
    reader.stop()
    assert_in_order(reader, first=0)
    assert [data for _seq, data in reader.datagrams()] == oracle.read_datagrams(sender.record)[0]
    daemon.stop()


def test_status_says_how_long_it_took(place):
    listen = place.ipv4()
    daemon = limited(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    Sender(place, listen, 3000, rate=10000, sizes=(1000,)).wait()
    wait_until(lambda: len(daemon.segments("engine")) >= 2, 20, "sealed segments")
    sealed = daemon.segments("engine")[0]
    with RawReader(read_socket(daemon)) as raw:
        raw.hello()
        for _ in range(20):
            raw.send_object("engine", sealed.name, FD)
            raw.receive(OBJECT_LENT)
        listed = daemon.ctl("readers").stdout
        assert "REQUESTS" in listed and "RATE" in listed and "test" in listed, listed
    for how in ("copy", "splice"):
        daemon.ctl("fetch", "engine", sealed.name, "--how", how, "-o", str(place.folder), "--force")
    # Within a second the gate tells.
    read = wait_until(lambda: (lambda one: one if one["requests"]["splice"]["count"] else None)(daemon.status()["read"]), 20,
                      "the gate to tell")
    lent = read["requests"]["fd"]["count"]  # holdfastctl asks for what it fetches by descriptor, too: to see that it is whole
    assert lent >= 20, read["requests"]
    for how, count in (("fd", lent), ("copy", 1), ("splice", 1)):
        mode = read["requests"][how]
        assert mode["count"] == count and mode["bytes"] == count * sealed.stat().st_size, (how, mode)
        assert 0 < mode["p50_s"] <= mode["p99_s"] <= mode["p999_s"] <= mode["max_s"], (how, mode)
        assert sum(number for _end, number in mode["buckets"]) == count, (how, mode)
    assert read["requests"]["other"]["count"] > 0 and read["counters"]["threads"] >= 5, read
    assert read["queue_wait"]["count"] > 0 and read["counters"]["hot_files"] >= 0, read
    text = daemon.ctl("status").stdout
    assert f"files by descriptor: {lent}, " in text and "files by copy: 1, " in text and "p99.9" in text, text
    assert "requests wait" not in text and "requests wait" in daemon.ctl("status", "--verbose").stdout
    daemon.stop()


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def crowd(place, count, most_kib, limit, **limits):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < limit:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit))
        except (ValueError, PermissionError):
            skip(f"{limit} open files are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, max(hard, limit)))
    daemon = limited(place, channel("engine", place.ipv4(), record={}), **limits).start()
    gate = daemon.gate()
    before = resident(gate)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(RawReader(read_socket(daemon), deadline=60)).hello()
        used = resident(gate) - before
        assert wait_until(lambda: daemon.status()["read"]["counters"]["connections"] == count, 20, "all to be counted")
        print(f"{count} connections: the gate has {used} KiB more")
        assert used < most_kib or place.sanitized(), f"{used} KiB for {count} connections"
    wait_until(lambda: daemon.status()["read"]["counters"]["connections"] == 0, 60, "all to be gone")
    assert "open files there can be" not in daemon.log_text()
    daemon.stop()


def test_a_thousand_connections_of_one_user(place):
    crowd(place, 1000, 50 * 1024, 20000)


def test_ten_thousand_connections_of_one_user(place):
    crowd(place, 10000, 300 * 1024, 100000, connections=10010, connections_per_user=10001)


def test_a_number_that_cannot_be_had_is_told_at_start(place):
    daemon = limited(place, channel("engine", place.ipv4(), record={}), connections=20000)
    daemon.start(wrapper=("prlimit", "--nofile=4096:4096"))
    daemon.wait_for_log("read { connections = 20000 }: with a limit of 4096 open files there can be")
    assert "LimitNOFILE=160256" in daemon.log_text() or os.getuid() != 0, daemon.log_text()
    daemon.stop()


def test_they_survive_the_gate(place):
    """Each gate is told anew."""
    daemon = limited(place, channel("engine", place.ipv4(), record={}), requests_per_connection=16).start()
    pid = daemon.gate()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: daemon.status()["read"]["pid"] not in (None, pid), 20, "another gate")
    with RawReader(read_socket(daemon)) as busy:
        for _ in range(16):
            busy.hello()
        busy.send(1, b"test".ljust(16, b"\0"))
        assert busy.refused()[0] == errno.EDQUOT
    daemon.stop()
