# SPDX-License-Identifier: MIT
"""Log files fetched over TCP: byte by byte what was recorded; nonsense and peers that stop harm nobody."""

import json
import os
import signal
import socket
import struct
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until
from lib.raw_reader import HEADER, MAGIC, VERSION

OBJECT, OBJECT_LENT, FIRST, SPLICE = 23, 24, 3, 3


def recorded(place, tcp, count=4000, sealed=3, start=True):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), head=f'read {{ tcp = "{tcp}" }}')
    if start:
        daemon.start()
        sender = Sender(place, listen, count, rate=10000, sizes=(1000,))
        sender.wait()
        daemon.wait_drained("engine", count)
        wait_until(lambda: len(daemon.segments("engine")) >= sealed, 20, "sealed segments")
        return daemon, oracle.read_datagrams(sender.record)[0]
    return daemon, None


def ctl(place, tcp, *arguments, expect=0):
    """As from another machine: the control socket is not asked."""
    return place.run(place.program("holdfastctl"), "--socket", place.folder / "none.sock", *arguments, "--read-socket",
                     f"tcp:{tcp}", expect=expect)


@core
def test_logs_and_fetch(place):
    tcp = place.ipv4()
    daemon, sent = recorded(place, tcp)
    sealed = daemon.segments("engine")
    listed = json.loads(ctl(place, tcp, "logs", "engine", "--json").stdout)["logs"]
    assert [entry["name"] for entry in listed][:3] == [path.name for path in sealed][:3], listed
    target = place.folder / "fetched"
    target.mkdir()
    for how in ((), ("--how", "copy"), ("--how", "splice")):
        ctl(place, tcp, "fetch", "engine", sealed[0].name, "seq:1500", *how, "-o", target, "--force")
        for path in sealed[:2]:
            assert (target / path.name).read_bytes() == path.read_bytes(), how
        ctl(place, tcp, "fetch", "engine", "seq:100..3999", *how, "-o", target / "range.avro", "--force")
        got = [record.payload for record in oracle.read_with_avro_c(place, [target / "range.avro"])]
        assert got == sent[100:], how
    assert "can't go over TCP" in ctl(place, tcp, "fetch", "engine", "first", "--how", "fd", "-o", target, "--force",
                                      expect=1).stderr
    assert "over TCP" in ctl(place, tcp, "cat", "engine", expect=1).stderr
    assert "over TCP" in ctl(place, tcp, "positions", "engine", expect=1).stderr
    assert "there is no channel" in ctl(place, tcp, "fetch", "nobody", "first", expect=1).stderr
    for address in ("127.0.0.1", "127.0.0.1:1", "[::1", ":5"):
        assert "read { tcp }" in ctl(place, address, "logs", expect=3).stderr, address
    daemon.stop()
    assert "nobody serves readers" in ctl(place, tcp, "logs", expect=3).stderr


def whole_object(how):
    payload = struct.pack("=48s128sIIQqQQ", b"engine", b"", FIRST, how, 0, 0, 0, 0)
    return HEADER.pack(MAGIC, VERSION, OBJECT, 1, len(payload)) + payload


def test_a_stopped_peer_and_nonsense(place):
    tcp = place.ipv4()
    daemon, _ = recorded(place, tcp, count=20000)
    host, port = tcp.rsplit(":", 1)
    pid = daemon.gate()
    stopped = [socket.create_connection((host, int(port)), timeout=10) for _ in range(8)]
    for peer in stopped:
        peer.sendall(whole_object(SPLICE))
        assert HEADER.unpack(peer.recv(HEADER.size, socket.MSG_WAITALL))[2] == OBJECT_LENT
    noisy = 0
    for i in range(40):
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            peer.sendall(os.urandom(700) if i % 2 else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                while peer.recv(4096):
                    pass
                noisy += 1
            except ConnectionResetError:
                noisy += 1
    assert noisy == 40
    sealed = daemon.segments("engine")[0]
    ctl(place, tcp, "fetch", "engine", "first", "-o", place.folder)
    assert (place.folder / sealed.name).read_bytes() == sealed.read_bytes()
    for peer in stopped:
        peer.close()
    assert daemon.gate() == pid
    daemon.stop()


def test_the_gate_dies_over_it(place):
    tcp = place.ipv4()
    daemon, _ = recorded(place, tcp, count=20000)
    sealed = daemon.segments("engine")[0]
    for how in ("copy", "splice"):
        process = subprocess.Popen([place.program("holdfastctl"), "fetch", "engine", "first", "--how", how, "-o",
                                    str(place.folder), "--force", "--read-socket", f"tcp:{tcp}"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        place.on_exit(process.kill)
        kill(daemon.gate(), signal.SIGKILL)
        output, complaints = process.communicate(timeout=60)
        result = place.folder / sealed.name
        if process.returncode == 0:
            assert result.read_bytes() == sealed.read_bytes()
        else:
            assert complaints and not result.exists(), (output, complaints)
        result.unlink(missing_ok=True)
        daemon.gate()
    daemon.stop()


def test_an_address_that_is_taken(place):
    """Readers of this machine are served all the same, and others as soon as it is free."""
    tcp = place.ipv4()
    host, port = tcp.rsplit(":", 1)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        daemon, _ = recorded(place, tcp, start=False)
        daemon.start()
        daemon.gate()
        wait_until(lambda: "end what listens there" in daemon.status()["read"]["trouble"], 20, "told")
        place.run(place.program("holdfastctl"), "--socket", daemon.socket, "logs")
    wait_until(lambda: not daemon.status()["read"]["trouble"], 20, "tried again")
    ctl(place, tcp, "logs")
    # An upgrade: the next program claims it anew.
    before = daemon.gate()
    daemon.ctl("upgrade")
    daemon.disconnect()
    wait_until(lambda: daemon.gate() != before, 20, "another gate")
    wait_until(lambda: not daemon.status()["read"]["trouble"], 20, "claimed anew")
    ctl(place, tcp, "logs")
    daemon.stop()


def test_what_is_no_address(place):
    for address, why in (("0:7000", "not an address"), ("127.0.0.1", "not an address"), ("localhost:7000", "not an address"),
                         ("127.0.0.1:0", "port"), (":7000", "not an address"), ("239.1.1.1:7000", "can't connect"),
                         ("[fe80::1%lo]:7000", "can't connect")):
        path = place.folder / "bad.conf"
        path.write_text(f'log_dir = "{place.folder}/log"\nread {{ tcp = "{address}" }}\n'
                        f'channel "engine" {{ listen = "{place.ipv4()}" }}\n', encoding="utf-8")
        result = place.run(place.program("holdfastd"), "--config", path, "--check", expect=2)
        assert why in result.stderr and "bad.conf:2" in result.stderr, (address, result.stderr)
