# SPDX-License-Identifier: MIT
"""A network that changes while holdfast runs: other addresses, other names, other interfaces."""

import pathlib
import socket
import struct
import time

from lib.holdfast import Daemon, Sender, channel
from lib.place import wait_until

GROUP = "239.9.9.9"


def feed(place, daemon, listen, count=20):
    before = daemon.counters("engine")["received"]
    Sender(place, listen, count, rate=0, name=f"feed{place.count('feed')}").wait()
    daemon.wait_counter("engine", "received", before + count)


def send_to_group(port, interface, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                          struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(interface)))
        for number in range(count):
            sender.sendto(b"%d" % number, (GROUP, port))


def relay(daemon):
    return daemon.status("engine")["relays"][0]


def trouble(daemon):
    return daemon.status("engine")["receive_trouble"]


def packet_on(wire, payload_from):
    """The IPv4 packet that goes to the group there."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as tap:
        tap.bind((wire, 0))
        tap.settimeout(10)
        payload_from()
        while True:
            packet = tap.recv(2000)[14:]
            if socket.inet_ntoa(packet[16:20]) == GROUP:
                return packet


def seen_on(wire, payload_from):
    """Source address of what goes to the group there."""
    return socket.inet_ntoa(packet_on(wire, payload_from)[12:16])


def upgrade(daemon, was, becomes):
    text = daemon.config.read_text()
    assert was in text, text
    daemon.config.write_text(text.replace(was, becomes))
    generation = daemon.status("engine")["generation"]
    daemon.disconnect()
    daemon.ctl("upgrade")
    wait_until(lambda: daemon.status("engine")["generation"] > generation, 20, "the upgrade")
    daemon.wait_state("engine", "RUNNING")


def test_an_interface_that_comes_back_with_another_address_is_sent_on(place):
    place.private_network()
    place.link(near0="10.9.0.1/24", far0=None)
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"away": {"to": GROUP + ":6000", "interface": "near0"}})).start()
    daemon.wait_state("engine", "RUNNING")
    feed(place, daemon, listen)
    place.run("ip", "link", "del", "near0")
    wait_until(lambda: relay(daemon)["state"] == "down", 10, "the relay to be down")
    place.link(near0="10.9.0.3/24", far0=None)
    wait_until(lambda: relay(daemon)["state"] == "up", 10, "the relay to be up again")
    assert seen_on("far0", lambda: feed(place, daemon, listen)) == "10.9.0.3"


def test_an_upgrade_changes_where_a_relay_sends(place):
    """Another interface means its address, too; and none at all is the route's."""
    place.private_network()
    place.link(near0="10.9.0.1/24", far0=None)
    place.link(near1="10.8.0.1/24", far1=None)
    place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"away": {"to": GROUP + ":6000", "interface": "near0"}})).start()
    daemon.wait_state("engine", "RUNNING")
    feed(place, daemon, listen)
    upgrade(daemon, '"near0"', '"near1"')
    assert seen_on("far1", lambda: feed(place, daemon, listen)) == "10.8.0.1"
    upgrade(daemon, 'interface = "near1"', "")
    assert seen_on("far0", lambda: feed(place, daemon, listen)) == "10.9.0.1"


def test_an_upgrade_changes_how_far_a_relay_sends(place):
    """The socket is the one of before, with what the settings say now."""
    place.private_network()
    place.link(near0="10.9.0.1/24", far0=None)
    listen, away = place.ipv4(), {"to": GROUP + ":6000", "interface": "near0", "ttl": 2}
    daemon = Daemon(place, channel("engine", listen, relays={"away": away})).start()
    daemon.wait_state("engine", "RUNNING")

    def ttl():
        return packet_on("far0", lambda: feed(place, daemon, listen))[8]
    assert ttl() == 2
    upgrade(daemon, "ttl = 2", "ttl = 7")
    assert ttl() == 7


def test_a_source_filter_survives_any_number_of_new_interfaces(place):
    """Each return of the interface leaves one membership, not one more: the kernel allows twenty."""
    place.private_network()
    pathlib.Path("/proc/sys/net/ipv4/igmp_max_memberships").write_text("3")
    place.link(near0="10.9.0.1/24", far0=None)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", interface="near0", source="10.9.0.2", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    for _ in range(5):
        place.run("ip", "link", "del", "near0")
        wait_until(lambda: trouble(daemon), 10, "the loss to be noticed")
        place.link(near0="10.9.0.1/24", far0=None)
        wait_until(lambda: trouble(daemon) is None, 10, "the membership to be back")


def test_a_renamed_interface_is_no_lost_one(place):
    place.private_network()
    place.link(near0="10.9.0.1/24", far0=None)
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", interface="near0", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    for name, other in (("near0", "uplink"), ("uplink", "near0")):
        place.run("ip", "link", "set", name, "down")
        place.run("ip", "link", "set", name, "name", other)
        place.run("ip", "link", "set", other, "up")
        before = daemon.counters("engine")["received"]
        send_to_group(port, "far0", 50)
        daemon.wait_counter("engine", "received", before + 50)
        end = time.monotonic() + 2.5  # the daemon looks once a second
        while time.monotonic() < end:
            assert trouble(daemon) is None
    assert "is gone" not in daemon.log_text(), daemon.log_text()


def test_where_the_kernel_chose_it_may_choose_again(place):
    place.private_network()
    place.link(near0="10.9.0.1/24", far0=None)
    place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near0")
    port = place.port()
    daemon = Daemon(place, channel("engine", f"{GROUP}:{port}", record={})).start()
    daemon.wait_state("engine", "RUNNING")
    send_to_group(port, "far0", 50)
    daemon.wait_counter("engine", "received", 50)
    place.run("ip", "link", "del", "near0")
    wait_until(lambda: trouble(daemon), 10, "the loss to be noticed")
    place.link(near1="10.8.0.1/24", far1=None)
    place.run("ip", "route", "add", "239.0.0.0/8", "dev", "near1")
    wait_until(lambda: trouble(daemon) is None, 10, "the group to be joined at the other one")
    send_to_group(port, "far1", 50)
    daemon.wait_counter("engine", "received", 100)
