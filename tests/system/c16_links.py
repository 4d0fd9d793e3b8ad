# SPDX-License-Identifier: MIT
"""Interfaces that are made anew, come late, or can't be asked for, and link-local addresses, which belong to one. Each
test has a network of its own, of two interfaces that are joined: near0, where holdfast is, and far0."""

import errno
import json
import os
import pathlib
import socket
import struct
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import freeze, kill, wait_until
from lib.store import StoredDaemon

GROUP, GROUP6 = "239.9.9.9", "ff02::77"
NEAR, FAR = "fe80::1", "fe80::2"


def near_and_far(place):
    place.link(near0="10.9.0.1/24", far0="10.9.0.2/24")
    for interface, address in (("near0", NEAR), ("far0", FAR)):
        place.run("ip", "addr", "add", address + "/64", "dev", interface, "nodad")

    def usable():  # addresses of another interface's making are tentative for a while
        return "tentative" not in place.run("ip", "-6", "addr", "show").stdout
    wait_until(usable, 10, "the addresses")


def private(place):
    place.private_network()
    near_and_far(place)


def gone(place):
    place.run("ip", "link", "del", "near0")


def sent_to(address, port, count, first=0):
    """Over far0, numbered from `first`. What is sent."""
    version = socket.AF_INET6 if ":" in address else socket.AF_INET
    index = socket.if_nametoindex("far0")
    payloads = [b"%d" % number for number in range(first, first + count)]
    with socket.socket(version, socket.SOCK_DGRAM) as sender:
        if version == socket.AF_INET:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
        else:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        for payload in payloads:
            sender.sendto(payload, (address, port) if version == socket.AF_INET else (address, port, 0, index))
    return payloads


def feed(place, daemon, listen, count=20):
    before = daemon.counters("engine")["received"]
    Sender(place, listen, count, rate=0, name=f"feed{place.count('feed')}").wait()
    daemon.wait_counter("engine", "received", before + count)


def trouble(daemon):
    return daemon.status("engine")["receive_trouble"]


def problems(daemon):
    return [problem["kind"] for problem in daemon.call("check")["problems"]]


def upgrade(daemon):
    generation = daemon.status("engine")["generation"]
    daemon.disconnect()
    daemon.ctl("upgrade")
    wait_until(lambda: daemon.status("engine")["generation"] > generation, 20, "the upgrade")
    daemon.wait_state("engine", "RUNNING")


def is_made_anew(place, daemon, address, port):
    """near0 goes and comes back while datagrams are received; a mark in the log tells where."""
    daemon.wait_state("engine", "RUNNING")
    sent = sent_to(address, port, 50)
    daemon.wait_drained("engine", 50)
    gone(place)
    wait_until(lambda: trouble(daemon), 10, "the loss of the interface")
    assert "near0 is gone" in trouble(daemon) and problems(daemon) == ["interface_gone"], daemon.call("check")
    near_and_far(place)
    wait_until(lambda: not trouble(daemon) and daemon.status("engine")["state"] == "RUNNING", 20, "its return")
    sent += sent_to(address, port, 50, first=50)
    daemon.wait_drained("engine", 100)
    assert daemon.call("check")["healthy"]
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    assert [record.seq for record in records if record.flags & 2] == [50]


def test_a_link_local_group_at_an_interface_made_anew(place):
    private(place)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"[{GROUP6}]:{port}", interface="near0", record={})).start()
    is_made_anew(place, daemon, GROUP6, port)


def test_a_link_local_address_at_an_interface_made_anew(place):
    private(place)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"[{NEAR}%near0]:{port}", record={})).start()
    is_made_anew(place, daemon, NEAR, port)


def test_a_link_local_address_made_anew_while_no_worker_can_be_started(place):
    """What the old socket has can't be dealt with: an operator is impatient, the worker hangs and is killed, and for a while
    no descriptor is left."""
    private(place)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"[{NEAR}%near0]:{port}", record={}), spare_workers=0, hang_timeout="60s",
                    head='restart { first_delay = "3s" max_delay = "3s" }').start()
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    sent_to(NEAR, port, 50)
    daemon.wait_drained("engine", 50)
    freeze(worker)
    gone(place)
    near_and_far(place)
    daemon.wait_state("engine", "STOPPING", 10)
    daemon.call("start", ["engine"])
    pid = daemon.process.pid
    place.run("prlimit", "--pid", pid, "--nofile=4:1024")
    kill(worker)
    uptime = daemon.call("status")["supervisor"]["uptime_s"]
    wait_until(lambda: daemon.call("status")["supervisor"]["uptime_s"] > uptime + 2, 20, "two looks at the interfaces")
    place.run("prlimit", "--pid", pid, "--nofile=1024:1024")
    daemon.wait_state("engine", "RUNNING", 20)
    sent_to(NEAR, port, 50, first=50)
    daemon.wait_drained("engine", 100)
    assert daemon.status("engine")["not_covered_before"] == 50
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_avro_c(place, daemon.segments("engine")), first=0)


def test_link_local_destinations_at_an_interface_made_anew(place):
    private(place)
    listen = place.ipv4()
    relays = {"group": {"to": f"[{GROUP6}]:6000", "interface": "near0"}, "host": {"to": f"[{FAR}%near0]:6000"}}
    daemon = Daemon(place, channel("engine", listen, relays=relays)).start()
    daemon.wait_state("engine", "RUNNING")

    def states():
        return [relay["state"] for relay in daemon.status("engine")["relays"]]
    wait_until(lambda: states() == ["up", "up"], 10, "both relays")
    gone(place)
    wait_until(lambda: states() == ["down", "down"], 10, "both to be down")
    near_and_far(place)
    wait_until(lambda: states() == ["up", "up"], 10, "both to be up again")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sink:
        sink.bind(("::", 6000))
        sink.settimeout(10)
        sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                        socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("=i", socket.if_nametoindex("far0")))
        feed(place, daemon, listen, 10)
        for _ in range(20):
            sink.recv(100)


def test_a_scope_that_is_absent_at_the_start_keeps_nobody_else_down(place):
    place.private_network()
    port, listens = place.port(), [place.ipv4(), place.ipv4()]
    daemon = Daemon(place, channel("engine", f"[{NEAR}%near0]:{port}", record={}), channel("other", listens[0], record={}),
                    channel("third", listens[1], relays={"away": {"to": f"[{FAR}%near0]:6000"}}))
    checked = place.run(place.program("holdfastd"), "--check", "--config", daemon.config)
    assert checked.stderr.count('there is no interface "near0" now') == 2, checked.stderr
    daemon.start(wait=False)
    wait_until(lambda: os.path.exists(daemon.socket), 20, "the control socket")
    for name in ("other", "third"):
        daemon.wait_state(name, "RUNNING")
    assert daemon.status("third")["relays"][0]["state"] == "down"
    assert "the interface does not exist" in daemon.wait_state("engine", "BACKOFF")["cause"]
    near_and_far(place)
    daemon.wait_state("engine", "RUNNING", 30)
    wait_until(lambda: daemon.status("third")["relays"][0]["state"] == "up", 10, "the relay")
    sent_to(NEAR, port, 10)
    daemon.wait_drained("engine", 10)


def test_one_relay_of_a_family_that_is_missing_keeps_no_channel_down(place):
    """socket(AF_INET6) is refused, as with ipv6.disable=1 or RestrictAddressFamilies=."""
    listen = place.ipv4()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(10)
        relays = {"old": f"127.0.0.1:{sink.getsockname()[1]}", "new": "[::1]:6000"}
        daemon = Daemon(place, channel("engine", listen, relays=relays, record={}))
        daemon.start(wrapper=(place.program("tool_deny"), "socket", str(errno.EAFNOSUPPORT), "0",
                              str(int(socket.AF_INET6))))
        daemon.wait_state("engine", "RUNNING")
        feed(place, daemon, listen, 10)
        for _ in range(10):
            sink.recv(100)
        wait_until(lambda: daemon.status("engine")["relays"][1]["dropped"] == 10, 10, "the drops to be counted")
        relay = daemon.status("engine")["relays"][1]
        assert relay["state"] == "down" and "no such address family" in json.dumps(relay), relay
        assert problems(daemon) == ["destination_down"]
        oracle.assert_ledger(daemon.status("engine"))


def test_an_upgrade_while_the_chosen_interface_is_gone(place):
    private(place)
    place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    sent_to(GROUP, port, 50)
    daemon.wait_drained("engine", 50)
    gone(place)
    wait_until(lambda: trouble(daemon), 10, "the loss of the interface")
    upgrade(daemon)
    wait_until(lambda: trouble(daemon), 10, "the loss to be known to the successor")
    assert problems(daemon) == ["interface_gone"]
    near_and_far(place)
    place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    wait_until(lambda: not trouble(daemon), 10, "its return")
    sent_to(GROUP, port, 50, first=50)
    daemon.wait_drained("engine", 100)
    assert daemon.status("engine")["not_covered_before"] == 50


def another_network(place):
    """The pid of a process in a network namespace of its own."""
    # pylint: disable-next=consider-using-with
    elsewhere = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    place.on_exit(lambda: (elsewhere.kill(), elsewhere.wait()))
    wait_until(lambda: os.readlink(f"/proc/{elsewhere.pid}/ns/net") != os.readlink("/proc/self/ns/net"), 10, "the namespace")
    return elsewhere.pid


def back_from(place, elsewhere):
    place.run("nsenter", f"--net=/proc/{elsewhere}/ns/net", "ip", "link", "set", "near0", "netns", str(os.getpid()))
    place.run("ip", "addr", "add", "10.9.0.1/24", "dev", "near0")
    for key, value in (("accept_local", "1"), ("rp_filter", "0")):
        pathlib.Path(f"/proc/sys/net/ipv4/conf/near0/{key}").write_text(value, encoding="ascii")
    place.run("ip", "link", "set", "near0", "up")


def test_an_interface_that_is_back_under_its_number_within_a_moment(place):
    """Into another network namespace and back: it keeps its number, and forgets who has joined."""
    private(place)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", interface="near0", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    sent_to(GROUP, port, 50)
    daemon.wait_drained("engine", 50)
    index = socket.if_nametoindex("near0")
    elsewhere = another_network(place)
    place.run("ip", "link", "set", "near0", "netns", str(elsewhere))
    back_from(place, elsewhere)
    assert socket.if_nametoindex("near0") == index
    daemon.wait_for_log("the group was joined anew")
    sent_to(GROUP, port, 50, first=50)
    daemon.wait_drained("engine", 100)
    assert daemon.status("engine")["not_covered_before"] == 50


def test_an_interface_that_is_back_under_its_number_after_an_upgrade(place):
    """The successor doesn't know the number under which the kernel still has the socket's former entry."""
    private(place)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", interface="near0", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    sent_to(GROUP, port, 50)
    daemon.wait_drained("engine", 50)
    index = socket.if_nametoindex("near0")
    elsewhere = another_network(place)
    place.run("ip", "link", "set", "near0", "netns", str(elsewhere))
    wait_until(lambda: trouble(daemon), 10, "the loss of the interface")
    upgrade(daemon)
    wait_until(lambda: trouble(daemon), 10, "the loss to be known to the successor")
    back_from(place, elsewhere)
    assert socket.if_nametoindex("near0") == index
    wait_until(lambda: not trouble(daemon), 10, "its return")
    sent_to(GROUP, port, 50, first=50)
    daemon.wait_drained("engine", 100)
    assert daemon.status("engine")["not_covered_before"] == 50


def test_a_want_of_descriptors_is_no_lost_interface(place):
    private(place)
    port = place.port()
    relays = {"away": {"to": "239.9.9.8:6000", "interface": "near0"}}
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", interface="near0", relays=relays, record={})).start()
    daemon.wait_state("engine", "RUNNING")
    sent_to(GROUP, port, 50)
    daemon.wait_drained("engine", 50)
    pid = daemon.process.pid
    place.run("prlimit", "--pid", str(pid), "--nofile=4:")
    uptime = daemon.call("status")["supervisor"]["uptime_s"]
    wait_until(lambda: daemon.call("status")["supervisor"]["uptime_s"] > uptime + 3, 20, "two looks at the interfaces")
    sent_to(GROUP, port, 50, first=50)
    daemon.wait_counter("engine", "received", 100)
    entry = daemon.status("engine")
    assert not entry["receive_trouble"] and entry["relays"][0]["state"] == "up", entry
    place.run("prlimit", "--pid", str(pid), "--nofile=1024:")
    daemon.wait_drained("engine", 100)
    assert daemon.status("engine")["not_covered_before"] is None


def test_a_relay_follows_when_its_own_address_changes(place):
    """As with a DHCP server that gives another one: the socket was connected from the one that is gone."""
    private(place)
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"away": "10.9.0.7:6000"})).start()
    daemon.wait_state("engine", "RUNNING")
    place.run("ip", "neigh", "add", "10.9.0.7", "lladdr", "02:00:00:00:00:07", "dev", "near0")
    feed(place, daemon, listen)
    place.run("ip", "addr", "add", "10.9.0.3/24", "dev", "near0")
    place.run("ip", "addr", "del", "10.9.0.1/24", "dev", "near0")
    place.run("ip", "addr", "replace", "10.9.0.3/24", "dev", "near0")
    place.run("ip", "neigh", "replace", "10.9.0.7", "lladdr", "02:00:00:00:00:07", "dev", "near0")

    def taken():
        before = daemon.status("engine")["relays"][0]
        feed(place, daemon, listen, 1)
        after = daemon.status("engine")["relays"][0]
        return after["dropped"] == before["dropped"] and after["state"] == "up"
    wait_until(taken, 20, "the relay to send again", interval=0.3)
    assert daemon.call("check")["healthy"]


def while_nobody_runs(place, listen, to, change, **settings):
    """The interface goes and comes back while the socket is the service manager's; the next supervisor receives all the
    same, and the log has a mark there."""
    daemon = StoredDaemon(place, channel("engine", listen, record={}, **settings))
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
    sent = sent_to(*to, 50)
    daemon.wait_drained("engine", 50)
    daemon.die()
    change()
    daemon.start_stored()
    wait_until(lambda: daemon.status("engine")["state"] == "RUNNING" and not trouble(daemon), 20, "the channel")

    def receives():
        nonlocal sent
        sent += sent_to(*to, 1, first=len(sent))
        return daemon.counters("engine")["received"] >= 52
    wait_until(receives, 15, "what is sent to be received", interval=0.2)
    received = daemon.counters("engine")["received"]
    daemon.wait_drained("engine", received)
    assert daemon.status("engine")["not_covered_before"] == 50
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert [record.payload for record in records] == sent[:50] + sent[50 - len(records):]
    assert [record.seq for record in records if record.flags & 2] == [50]


def anew(place):
    def change():
        gone(place)
        near_and_far(place)
    return change


def away_and_back(place):
    """Under its number, without what had been joined there."""
    elsewhere = another_network(place)

    def change():
        index = socket.if_nametoindex("near0")
        place.run("ip", "link", "set", "near0", "netns", str(elsewhere))
        back_from(place, elsewhere)
        assert socket.if_nametoindex("near0") == index
    return change


def test_a_group_at_an_interface_that_was_made_anew_while_nobody_ran(place):
    private(place)
    port = place.port()
    while_nobody_runs(place, f"{GROUP}:{port}", (GROUP, port), anew(place), interface="near0")


def test_a_group_at_an_interface_that_was_away_while_nobody_ran(place):
    private(place)
    port = place.port()
    while_nobody_runs(place, f"{GROUP}:{port}", (GROUP, port), away_and_back(place), interface="near0")


def test_a_group_at_the_chosen_interface_that_was_made_anew_while_nobody_ran(place):
    private(place)
    port, route = place.port(), ("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    place.run(*route)
    change = anew(place)
    while_nobody_runs(place, f"{GROUP}:{port}", (GROUP, port), lambda: (change(), place.run(*route)))


def test_a_group_of_one_source_that_was_away_while_nobody_ran(place):
    private(place)
    port = place.port()
    while_nobody_runs(place, f"{GROUP}:{port}", (GROUP, port), away_and_back(place), interface="near0", source="10.9.0.2")


def test_an_ipv6_group_at_the_chosen_interface_that_was_made_anew_while_nobody_ran(place):
    private(place)
    port, group = place.port(), "ff15::77"
    route = ("ip", "-6", "route", "add", "ff15::77/128", "dev", "near0", "table", "local", "metric", "1")
    place.run(*route)
    change = anew(place)
    while_nobody_runs(place, f"[{group}]:{port}", (group, port), lambda: (change(), place.run(*route)))


def test_an_ipv6_group_that_was_away_while_nobody_ran(place):
    private(place)
    port = place.port()
    back = away_and_back(place)

    def change():
        back()
        place.run("ip", "addr", "replace", NEAR + "/64", "dev", "near0", "nodad")
    while_nobody_runs(place, f"[{GROUP6}]:{port}", (GROUP6, port), change, interface="near0")


def test_a_link_local_address_that_was_made_anew_while_nobody_ran(place):
    private(place)
    port = place.port()
    while_nobody_runs(place, f"[{NEAR}%near0]:{port}", (NEAR, port), anew(place))
