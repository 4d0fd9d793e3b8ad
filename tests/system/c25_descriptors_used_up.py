# SPDX-License-Identifier: MIT
"""An upgrade, or a supervisor that follows one that died, has more channels than the limit of open files allows. It goes
on with what there is, and the service manager still hears that it lives, and is ready."""

from lib.holdfast import Daemon, channel
from lib.place import core, wait_until
from lib.store import StoredDaemon

LIMIT = 110


def many_channels(place):
    out = place.ipv4()
    return "\n" + "\n".join(channel(f"c{at}", place.ipv4(), relays={"display": out}, record={"segment_size": "1M"})
                            for at in range(30))


def states(daemon):
    return [entry["state"] for entry in daemon.call("status")["channels"]]


@core
def test_the_watchdog_is_fed_without_a_free_descriptor(place):
    first = channel("engine", place.ipv4(), record={"segment_size": "1M"})
    daemon = Daemon(place, first)
    daemon.start(environment={"WATCHDOG_USEC": "1000000"}, wrapper=("prlimit", f"--nofile={LIMIT}:{LIMIT}"))
    daemon.wait_state("engine", "RUNNING")
    daemon.config.write_text(daemon.config.read_text() + many_channels(place))
    daemon.ctl("upgrade", expect=None)
    daemon.disconnect()
    daemon.wait_for_log("Too many open files", 30)
    wait_until(lambda: "OPENING" not in states(daemon) and "STARTING" not in states(daemon), 30, "all that can run")
    assert "BACKOFF" in states(daemon)
    fed = len(daemon.notifications.values("WATCHDOG"))
    wait_until(lambda: len(daemon.notifications.values("WATCHDOG")) > fed + 3, 30, "signs of life")
    daemon.wait_state("engine", "RUNNING")
    daemon.stop(expect=None)


def test_readiness_is_told_without_a_free_descriptor(place):
    daemon = StoredDaemon(place, channel("engine", place.ipv4(), record={"segment_size": "1M"}))
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
    daemon.die()
    daemon.config.write_text(daemon.config.read_text() + many_channels(place))
    wrapper = place.folder / "limited"
    wrapper.write_text(f'#!/bin/sh\nulimit -n {LIMIT}\nexec {place.program("holdfastd")} "$@"\n')
    wrapper.chmod(0o755)
    present, place.program = place.program, (lambda name: str(wrapper) if name == "holdfastd" else present(name))
    daemon.start_stored()  # waits for it
    daemon.wait_state("engine", "RUNNING")
    daemon.stop(expect=None)
