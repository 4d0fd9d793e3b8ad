# SPDX-License-Identifier: MIT
"""What a ring is made of, and how it is mapped, where the machine doesn't give what is wanted: the channel works all the
same, and says so."""

import errno
import pathlib

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import core, kill, wait_until

POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


def journey(place, daemon, listen, outlet, restart):
    """Datagrams before and after `restart`; all of them arrive."""
    sink = Sink(place, outlet)
    Sender(place, listen, 3000, rate=place.scaled(10000), name="before").wait()
    daemon.wait_drained("engine", 3000)
    restart()
    Sender(place, listen, 3000, rate=place.scaled(10000), name="after").wait()
    daemon.wait_drained("engine", 6000)
    oracle.assert_ledger(daemon.status("engine"))
    sink.wait_received(6000)
    sink.stop()
    return daemon.status("engine")


def replaced(daemon):
    """Kill the worker and wait for its successor."""
    before = daemon.counters("engine")["restarts"]
    kill(daemon.status("engine")["pid"])
    wait_until(lambda: daemon.counters("engine")["restarts"] > before, 20, "the successor")
    daemon.wait_state("engine", "RUNNING")


@core
def test_huge_pages_or_the_reason_why_not(place):
    listen, outlet = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={}, ring_size="4M", ring_pages="huge"),
                    channel("plain", place.ipv4(), record={}, ring_size="4M")).start()
    plain = daemon.status("plain")["ring"]
    assert plain["pages"] == "normal" and plain["reason"] == "", plain
    free = int((POOL / "free_hugepages").read_text()) if POOL.exists() else 0
    ring = daemon.status("engine")["ring"]
    if free == 0 and ring["pages"] == "normal":
        assert ring["reason"].startswith("no huge pages: "), ring
        daemon.wait_for_log('channel engine: ring_pages = "huge" is configured, but: ')
        assert "no huge pages" in daemon.ctl("status", "engine").stdout
    else:
        assert ring["pages"] == "huge" and ring["reason"] == "", ring
    assert ring["mapping"] == "double" and ring["capacity_bytes"] == 4 << 20, ring
    after = journey(place, daemon, listen, outlet, lambda: replaced(daemon))["ring"]
    assert after == ring, (after, ring)
    daemon.ctl("upgrade")
    daemon.connection = None
    upgraded = daemon.status("engine")["ring"]
    assert upgraded["pages"] == ring["pages"] and upgraded["mapping"] == "double", upgraded
    assert (upgraded["reason"] == "") == (ring["pages"] == "huge"), upgraded
    daemon.stop()


@core
def test_an_upgrade_to_huge_pages_brings_over_what_waits(place):
    """Another layout, so a ring of its own: what the old one holds is recorded first, and nothing is numbered twice."""
    listen, outlet = place.ipv4(), place.ipv4()

    def settings(**more):
        return channel("engine", listen, relays={"out": outlet}, record={}, ring_size="4M", **more)
    daemon = Daemon(place, settings()).start()

    def change():
        daemon.config.write_text(daemon.config.read_text().replace(settings(), settings(ring_pages="huge")))
        daemon.ctl("upgrade")
        daemon.connection = None
        wait_until(lambda: "huge" in daemon.status("engine")["ring"]["reason"] or
                   daemon.status("engine")["ring"]["pages"] == "huge", 20, "the new ring")
        daemon.wait_state("engine", "RUNNING")
    journey(place, daemon, listen, outlet, change)
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)


@core
def test_a_mapping_that_falls_back_is_counted(place):
    """A sandbox that lets no worker try the double mapping (its scratch memfd is not sealed, all others are)."""
    listen, outlet = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={}),
                    channel("wanted", place.ipv4(), record={}, mapping="mirror"))
    daemon.start(wrapper=[place.program("tool_deny"), "memfd_create", str(errno.EPERM), "1", "1"])
    ring = daemon.status("engine")["ring"]
    assert ring["mapping"] == "mirror" and "memfd_create: Operation not permitted" in ring["reason"], ring
    assert daemon.counters("engine")["map_fallbacks"] == 1
    assert daemon.counters("wanted")["map_fallbacks"] == 0, "what was asked for is no fallback"
    entry = journey(place, daemon, listen, outlet, lambda: replaced(daemon))
    assert entry["counters"]["map_fallbacks"] == 1, "the ring stays what it is"
    assert "map_fallbacks" in daemon.ctl("status", "engine").stdout
    daemon.ctl("stop", "engine")
    daemon.ctl("start", "engine")
    wait_until(lambda: daemon.counters("engine")["map_fallbacks"] == 2, 10, "the next ring to be counted, too")
    daemon.stop()


@core
def test_a_ring_that_was_a_mirror_is_mapped_as_the_settings_say(place):
    """The memory stays, and what is in it."""
    listen, outlet = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": outlet}, record={}, mapping="mirror")).start()
    assert daemon.status("engine")["ring"]["mapping"] == "mirror"

    def change():
        generation = daemon.status("engine")["generation"]
        daemon.config.write_text(daemon.config.read_text().replace('"mirror"', '"double"'))
        daemon.disconnect()
        daemon.ctl("upgrade")
        wait_until(lambda: daemon.status("engine")["generation"] > generation, 20, "the upgrade")
        daemon.wait_state("engine", "RUNNING")
    entry = journey(place, daemon, listen, outlet, change)
    assert entry["ring"]["mapping"] == "double" and entry["counters"]["map_fallbacks"] == 0, entry
    assert "is made" not in daemon.log_text(), daemon.log_text()
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)
