# SPDX-License-Identifier: MIT
"""What a service manager is told, on a real notification socket, and how holdfastd ends when it is asked to."""

import signal

from lib.holdfast import Daemon, Sender, channel
from lib.place import core, is_alive, kill, wait_until


def two(place):
    return Daemon(place, channel("engine", place.ipv4(), record={}), channel("gps", place.ipv6(), record={}))


@core
def test_ready_status_and_stopping(place):
    daemon = two(place).start()
    assert all(entry["state"] == "RUNNING" for entry in daemon.status()["channels"]), "ready means running"
    wait_until(lambda: any("2" in text for text in daemon.notifications.values("STATUS")), 10, "a useful STATUS")
    daemon.stop()
    messages = daemon.notifications.poll()
    assert messages.count("READY=1") == 1 and "STOPPING=1" in messages
    assert messages.index("READY=1") < messages.index("STOPPING=1")


def test_the_watchdog_is_fed(place):
    daemon = two(place)
    daemon.start(environment={"WATCHDOG_USEC": "600000"})
    fed = len(daemon.notifications.values("WATCHDOG"))
    wait_until(lambda: len(daemon.notifications.values("WATCHDOG")) >= fed + 3, 15, "WATCHDOG=1 three times more")
    kill(daemon.process.pid, signal.SIGSTOP)
    kill(daemon.process.pid, signal.SIGCONT)
    fed = len(daemon.notifications.values("WATCHDOG"))
    wait_until(lambda: len(daemon.notifications.values("WATCHDOG")) > fed, 15, "WATCHDOG=1 after a pause")
    daemon.stop()


@core
def test_both_signals_end_it_cleanly(place):
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = two(place).start()
        daemon.stop(number=number)
        assert not daemon.segments("engine", ".avro.open")
        assert not daemon.socket.exists()


def test_a_second_signal_hurries(place):
    """A worker that can't answer holds an orderly stop up; a second signal doesn't wait for it."""
    daemon = two(place).start()
    below = daemon.descendants()
    kill(daemon.status("engine")["pid"], signal.SIGSTOP)
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in daemon.notifications.poll(), 10, "STOPPING=1")
    assert daemon.process.poll() is None, "one worker is still to be waited for"
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(5)
    wait_until(lambda: not any(map(is_alive, below)), 5, "nobody to stay behind")
    daemon.start()  # and what was left open is mended
    assert not daemon.segments("gps", ".damaged")
    daemon.stop()


def test_a_stopped_worker_does_not_hold_the_end_up_for_ever(place):
    daemon = two(place).start()
    below = daemon.descendants()
    kill(daemon.status("engine")["pid"], signal.SIGSTOP)
    daemon.disconnect()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(25)
    wait_until(lambda: not any(map(is_alive, below)), 5, "nobody to stay behind")


def test_a_signal_while_starting(place):
    for _ in range(5):
        daemon = two(place)
        daemon.start(wait=False)
        wait_until(daemon.socket.exists, 20, "the control socket")
        daemon.stop()


def test_sighup_and_sigpipe_do_no_harm(place):
    daemon = two(place).start()
    for number in (signal.SIGHUP, signal.SIGPIPE):
        daemon.process.send_signal(number)
        assert daemon.call("ping")
    address = place.ipv4()
    Sender(place, address, 10).wait()  # nobody listens there: no matter
    assert all(entry["restarts"] == 0 for entry in daemon.status()["channels"])
    daemon.stop()
