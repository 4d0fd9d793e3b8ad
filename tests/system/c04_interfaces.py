# SPDX-License-Identifier: MIT
"""An interface is deleted and comes back under the same name: the multicast membership, and the sockets that send there,
come back by themselves; while it is gone that is said. A channel that is silent for longer than expected is told of."""

import ctypes
import os
import socket
import struct

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, skip, wait_until

NOT_COVERED = 2
SYS_PIDFD_GETFD = 438  # on every architecture


def make_link(place):
    place.link(near0="203.0.113.1/24", far0="203.0.113.2/24")


def send(place, daemon, group, name, tag):
    """200 datagrams to the group from the far end, and all of them are received."""
    before = daemon.counters("engine")["received"]
    sender = Sender(place, group, 200, rate=5000, name=name, tag=tag, interface="far0")
    sender.wait()
    daemon.wait_counter("engine", "received", before + 200)
    return oracle.read_datagrams(sender.record)[0]


def come_back(place, configured):
    place.private_network()
    make_link(place)
    if not configured:
        place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    group, outlet = place.group(), place.group()
    settings = {"interface": "near0"} if configured else {}
    daemon = Daemon(place, channel("engine", group, relays={"away": {"to": outlet, "interface": "near0"}}, record={},
                                   **settings)).start()
    entry = daemon.wait_state("engine", "RUNNING")
    pid, sent = entry["pid"], send(place, daemon, group, "first", 1)
    for number in range(2):
        place.run("ip", "link", "del", "near0")
        entry = wait_until(lambda: (lambda now: now if now["receive_trouble"] else None)(daemon.status("engine")), 10,
                           "the loss of the interface to be noticed")
        assert "near0" in entry["receive_trouble"] and entry["state"] == "RUNNING", entry
        kinds = {problem["kind"] for problem in daemon.call("check")["problems"]}
        assert "interface_gone" in kinds, kinds
        daemon.ctl("check", expect=1)
        make_link(place)
        if not configured:
            place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
        wait_until(lambda: daemon.status("engine")["receive_trouble"] is None, 10, "the membership to be back")
        wait_until(lambda: daemon.status("engine")["relays"][0]["state"] == "up", 10, "the destination to be back")
        was = daemon.status("engine")["relays"][0]["sent"]
        sent += send(place, daemon, group, f"again{number}", 2 + number)
        wait_until(lambda was=was: daemon.status("engine")["relays"][0]["sent"] == was + 200, 10, "the relay to send")
    assert daemon.log_text().count("near0 is gone") == 2, "told once each time"
    entry = daemon.status("engine")
    assert entry["pid"] == pid and entry["restarts"] == 0, "no worker was replaced for it"
    daemon.ctl("check")
    daemon.wait_drained("engine", len(sent))
    daemon.stop()
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "the log")
    assert [record.seq for record in records if record.flags & NOT_COVERED] == [200, 400]


@core
def test_an_interface_that_comes_back_is_joined_anew(place):
    come_back(place, configured=True)


def test_so_is_one_that_the_kernel_chose(place):
    come_back(place, configured=False)


def test_one_that_is_set_down_is_told(place):
    """At the near end, then at the far end, which takes the carrier away."""
    place.private_network()
    make_link(place)
    group = place.group()
    daemon = Daemon(place, channel("engine", group, interface="near0", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    assert daemon.call("check")["problems"] == []
    for interface, how in (("near0", "is down"), ("far0", "has no carrier")):
        place.run("ip", "link", "set", interface, "down")
        wait_until(lambda how=how: how in (daemon.status("engine")["interface_down"] or ""), 10, f"{how!r} in status")
        checked = daemon.call("check")
        assert checked["healthy"] and [problem["kind"] for problem in checked["problems"]] == ["interface_down"], checked
        assert "warning: engine's interface is down: interface near0 " + how in daemon.ctl("check").stdout
        assert "engine: interface near0 " + how in daemon.ctl("status").stdout
        assert "interface near0 " + how in daemon.ctl("status", "engine").stdout
        place.run("ip", "link", "set", interface, "up")
        wait_until(lambda: daemon.status("engine")["interface_down"] is None, 10, "it to be up again")
    wait_until(lambda: daemon.log_text().count("interface near0 is up again") == 2, 10, "both to be logged")
    send(place, daemon, group, "after", 1)
    daemon.stop()


def test_silence_that_is_not_expected_is_told(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}, expect="1s"),
                    channel("patient", place.ipv4(), record={})).start()
    entry = wait_until(lambda: (lambda now: now if now["silent_s"] else None)(daemon.status("engine")), 20,
                       "the silence to be told")
    assert entry["state"] == "RUNNING" and entry["silent_s"] > 1
    problems = daemon.call("check")["problems"]
    assert [(problem["channel"], problem["kind"]) for problem in problems] == [("engine", "silent")], problems
    daemon.ctl("check", expect=1)
    assert "nothing received" in daemon.ctl("status", "engine").stdout
    sender = Sender(place, listen, 10**6, rate=100)
    wait_until(lambda: daemon.status("engine")["silent_s"] is None, 20, "the silence to end")
    daemon.wait_for_log("it receives again")
    assert daemon.log_text().count("nothing received for more than 1") == 1
    sender.stop()
    assert daemon.status("engine")["restarts"] == 0
    daemon.stop()


def forget_membership(pid, group, interface):
    """Of the daemon's socket, behind its back: as if a switch had forgotten it."""
    host, _, port = group.rpartition(":")
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            continue
        fd = libc.syscall(SYS_PIDFD_GETFD, process, int(name), 0)
        if fd < 0:
            skip(f"another process's socket can't be had here ({os.strerror(ctypes.get_errno())})")
        with socket.socket(fileno=fd) as theirs:
            if theirs.family == socket.AF_INET and theirs.getsockname() == (host, int(port)):
                theirs.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, struct.pack(
                    "@4s4si", socket.inet_aton(host), bytes(4), socket.if_nametoindex(interface)))
                os.close(process)
                return
    raise AssertionError(f"the daemon has no socket at {group}")


def test_a_membership_is_renewed_when_a_channel_is_silent(place):
    place.private_network()
    make_link(place)
    group = place.group()
    daemon = Daemon(place, channel("engine", group, interface="near0", record={}, expect="1s")).start()
    pid = daemon.wait_state("engine", "RUNNING")["pid"]
    sent = send(place, daemon, group, "first", 1)
    forget_membership(daemon.process.pid, group, "near0")
    daemon.wait_for_log("nothing received for more than 1")
    sent += send(place, daemon, group, "second", 2)
    assert daemon.status("engine")["pid"] == pid, "no worker was replaced for it"
    daemon.wait_drained("engine", len(sent))
    daemon.stop()
    records = oracle.read_with_python_avro(daemon.segments("engine"))
    oracle.assert_same_payloads(sent, [record.payload for record in records], "the log")
