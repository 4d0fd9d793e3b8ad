# SPDX-License-Identifier: MIT
"""What a dead worker leaves behind: signal, thread, backtrace with function names, sequence numbers in work, an
assertion's text, and for a hang the thread that hung and where. Then what the takeover took and cost."""

import re
import signal
import socket

from lib.holdfast import Daemon, channel
from lib.place import freeze, kill, wait_until

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
POISON = b"POISON"
# consumer -> its thread, a function of its own that must be in the backtrace
CONSUMERS = {"relay": ("receiver", "relay_run"), "record": ("recorder", "recorder_append"),
             "decimate": ("decimator", "decimator_main")}


def victim(place, crash=None, **top):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"display": place.ipv4()}, record={},
                                   decimates={"slow": {"to": place.ipv4(), "keep_every": 1}}), head=EAGER, **top)
    daemon.start(environment={"HOLDFAST_TEST_CRASH": f"{crash}:{POISON.decode()}"} if crash else None)
    host, _, port = listen.rpartition(":")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((host, int(port)))
    place.on_exit(sender.close)
    for number in range(10):
        sender.send(b"datagram %d" % number)
    daemon.wait_drained("engine", 10)
    return daemon, sender


def crashes(daemon):
    return daemon.call("crashes", {"channel": "engine"})["crashes"]


def first_crash(daemon):
    """The oldest one, once its successor has taken over."""
    return wait_until(lambda: next((crash for crash in crashes(daemon)[-1:] if crash["takeover_ms"] is not None), None), 20,
                      "a death and a takeover")


def names(crash):
    return [frame["name"] for frame in crash["frames"]]


def assert_work(crash, consumer):
    work = crash["work"][consumer]
    assert work["first"] <= 10 < work["end"] <= 11, work


def check_fault(place, consumer):
    place.with_hooks()
    daemon, sender = victim(place, consumer)
    sender.send(POISON)
    crash = first_crash(daemon)
    thread, function = CONSUMERS[consumer]
    assert (crash["cause"], crash["signal"], crash["thread"]) == ("crash", "SIGSEGV", thread), crash
    assert function in names(crash), crash["frames"]
    assert_work(crash, consumer)
    assert crash["takeover_ms"] > 0 and crash["waited"] <= 1 and crash["kernel_dropped"] == 0
    log = daemon.log_text()
    assert f"thread {thread}" in log and f"< {function}" in log, "the log tells it too"
    text = daemon.ctl("crashes", "engine").stdout
    for wanted in ("SIGSEGV", thread, function, "takeover"):
        assert wanted in text, f"{wanted!r} is missing in:\n{text}"
    assert re.search(r" at seq (\d+ to )?10\n", text), text


def test_a_fault_in_the_relay(place):
    check_fault(place, "relay")


def test_a_fault_in_the_recorder(place):
    check_fault(place, "record")


def test_a_fault_in_the_decimator(place):
    check_fault(place, "decimate")


def test_an_assertion_leaves_its_text(place):
    place.with_hooks()
    daemon, sender = victim(place, "assert-record")
    sender.send(POISON)
    crash = first_crash(daemon)
    assert (crash["cause"], crash["signal"], crash["thread"]) == ("crash", "SIGABRT", "recorder"), crash
    assert "a datagram asked for this" in crash["text"] and "misbehave" in crash["text"], crash
    assert "recorder_append" in names(crash), crash["frames"]
    text = daemon.ctl("crashes", "engine").stdout
    assert "a datagram asked for this" in text, text


def check_hang(place, consumer):
    place.with_hooks()
    daemon, sender = victim(place, f"hang-{consumer}", hang_timeout="500ms")
    sender.send(POISON)
    crash = first_crash(daemon)
    thread, function = CONSUMERS[consumer]
    assert (crash["cause"], crash["hung_thread"], crash["thread"]) == ("hang", thread, thread), crash
    assert "step_payload" in names(crash) and function in names(crash), crash["frames"]
    assert_work(crash, consumer)


def test_an_endless_loop_in_the_relay(place):
    check_hang(place, "relay")


def test_an_endless_loop_in_the_recorder(place):
    check_hang(place, "record")


def test_an_endless_loop_in_the_decimator(place):
    check_hang(place, "decimate")


def test_a_stopped_worker_still_says_where_it_was(place):
    daemon, _sender = victim(place, hang_timeout="500ms")
    kill(daemon.status("engine")["pid"], signal.SIGSTOP)
    crash = first_crash(daemon)
    assert crash["cause"] == "hang" and crash["signal"] == "SIGABRT" and crash["hung_thread"], crash
    assert crash["thread"] == crash["hung_thread"] and crash["frames"], crash
    assert "(the process is stopped)" in daemon.log_text()


def test_what_a_takeover_took_and_what_waited(place):
    """Twenty datagrams come while the worker is stopped; the next one finds them."""
    daemon, sender = victim(place)
    pid = daemon.status("engine")["pid"]
    freeze(pid)
    for number in range(20):
        sender.send(b"waiting %d" % number)
    kill(pid)
    crash = first_crash(daemon)
    daemon.wait_drained("engine", 30)
    crash = crashes(daemon)[0]
    assert crash["cause"] == "killed" and crash["signal"] == "SIGKILL" and "frames" not in crash, crash
    assert 0 < crash["takeover_ms"] < 5000 and crash["lived_s"] > 0
    wait_until(lambda: crashes(daemon)[0]["waited"] == 20, 10, "the twenty that waited to be told")
    assert crashes(daemon)[0]["kernel_dropped"] == 0


def test_what_the_kernel_dropped_meanwhile_is_told(place):
    """A small receive buffer overflows while the worker is stopped."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, receive_buffer="16K", record={}), head=EAGER).start()
    host, _, port = listen.rpartition(":")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    place.on_exit(sender.close)
    pid = daemon.status("engine")["pid"]
    freeze(pid)
    for number in range(500):
        sender.sendto(b"%500d" % number, (host, int(port)))
    kill(pid)
    first_crash(daemon)
    sender.sendto(b"the one that tells", (host, int(port)))
    dropped = wait_until(lambda: crashes(daemon)[0]["kernel_dropped"], 10, "the dropped ones to be told")
    counters = daemon.counters("engine")
    assert dropped == counters["kernel_dropped"] == 501 - counters["received"], (dropped, counters)


def test_the_last_thirty_two_are_kept(place):
    daemon, _sender = victim(place)
    for _ in range(40):
        before = daemon.wait_state("engine", "RUNNING")
        kill(before["pid"])
        wait_until(lambda before=before: daemon.status("engine")["generation"] > before["generation"], 20, "a successor")
    found = crashes(daemon)
    assert len(found) == 32
    generations = [crash["generation"] for crash in found]
    assert generations == sorted(generations, reverse=True) and generations[0] > 32
