# SPDX-License-Identifier: MIT
"""Clients that misbehave on the control socket, while telemetry flows: each gets its answer or is thrown out, and the
traffic doesn't notice."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

from lib import oracle
from lib.holdfast import Control, Daemon, Sender, channel
from lib.place import core, wait_until


@contextlib.contextmanager
def traffic(place, count=20000, rate=5000):
    """A daemon whose channel receives all the while; afterwards nothing may be missing, and it was never slow."""
    listen, count, rate = place.ipv4(), place.scaled(count), place.scaled(rate)
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    sender = Sender(place, listen, count, rate=rate)
    yield daemon
    started = time.monotonic()
    assert Control(daemon.socket).call("ping")
    assert time.monotonic() - started < (5 if place.sanitized else 1), "an ordinary client had to wait"
    sender.wait()
    daemon.wait_drained("engine", count)
    entry = daemon.status("engine")
    assert entry["restarts"] == 0 and entry["counters"]["kernel_dropped"] == 0
    daemon.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records],
                                "recorded meanwhile")


def error_code(control, line):
    control.send(line + b"\n")
    answer = control.answer()
    assert answer is not None and answer["jsonrpc"] == "2.0" and "result" not in answer, answer
    assert answer["error"]["message"]
    assert ("not JSON" in answer["error"]["message"]) == (answer["error"]["code"] == -32700), answer
    return answer["error"]["code"]


def descriptors(daemon):
    return len(list(pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@core
def test_lines_that_are_no_requests(place):
    with traffic(place, 5000) as daemon:
        control = Control(daemon.socket)
        for line in (b"{", b"no json", b'{"jsonrpc": "2.0", "id": 1, "method": ', b"\xff\xfe", b"[" * 5000,
                     b'{"a":' * 3000):
            assert error_code(control, line) == -32700, line[:40]
        for line in (b"7", b'"ping"', b"{}", b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
                     b'{"jsonrpc": "2.0", "id": 1}', b'{"jsonrpc": "2.0", "id": 1, "method": 7}',
                     b'{"jsonrpc": "2.0", "id": 99999999999999999999, "method": "ping"}'):
            assert error_code(control, line) == -32600, line
        for line in (b'{"jsonrpc": "2.0", "id": 1, "method": "frobnicate"}',
                     b'{"jsonrpc": "2.0", "id": "x", "method": "Status"}'):
            assert error_code(control, line) == -32601, line
        for line in (b'{"jsonrpc": "2.0", "id": 1, "method": "stop"}',
                     b'{"jsonrpc": "2.0", "id": 1, "method": "stop", "params": {"channel": 3}}'):
            assert error_code(control, line) == -32602, line
        assert control.call("ping"), "the same connection goes on"


@core
def test_half_a_line_and_a_line_of_a_megabyte(place):
    with traffic(place, 5000) as daemon:
        half = Control(daemon.socket)
        half.send(b'{"jsonrpc": "2.0", "id": 1, "method": "sta')
        huge = Control(daemon.socket)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            huge.send(b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * (1 << 20) + b'"}\n')
        answer = None
        with contextlib.suppress(ConnectionResetError):
            answer = huge.answer()
        assert answer is None or "error" in answer
        with contextlib.suppress(ConnectionResetError):
            assert huge.line() is None, "a client that sends too long lines is thrown out"
        half.send(b'tus"}\n')
        assert half.answer()["result"]["channels"][0]["name"] == "engine"
        half.send(b'{"half of')
        half.close()


@core
def test_one_byte_at_a_time_and_many_requests_at_once(place):
    with traffic(place, 5000) as daemon:
        slow = Control(daemon.socket)
        for byte in b'{"jsonrpc": "2.0", "id": 77, "method": "ping"}\n':
            slow.send(bytes([byte]))
        assert slow.answer()["id"] == 77
        many = Control(daemon.socket)
        requests = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(500)]
        many.send(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        assert [many.answer()["id"] for _ in requests] == list(range(500))
        silent = Control(daemon.socket)
        silent.send(b'{"jsonrpc": "2.0", "method": "ping"}\n{"jsonrpc": "2.0", "id": 5, "method": "ping"}\n')
        assert silent.answer()["id"] == 5, "a notification gets no answer"


def test_two_hundred_clients_at_once(place):
    with traffic(place) as daemon:
        clients = [Control(daemon.socket) for _ in range(200)]
        for number, client in enumerate(clients):
            client.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "status"}).encode() + b"\n")
        for number, client in enumerate(clients):
            answer = client.answer()
            assert answer["id"] == number and answer["result"]["channels"]
        for client in clients[::2]:
            client.close()
        for client in clients[1::2]:
            assert client.call("ping")
            client.close()


def test_a_client_that_never_reads(place):
    with traffic(place) as daemon:
        deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deaf.connect(str(daemon.socket))
        deaf.setblocking(False)
        request = b'{"jsonrpc": "2.0", "id": 1, "method": "status"}\n' * 100

        def thrown_out():
            try:
                deaf.send(request)
            except BlockingIOError:
                assert Control(daemon.socket).call("ping")
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False
        wait_until(thrown_out, 40, "the client that never reads to be thrown out")


INSATIABLE = """
import os, socket, sys, threading
def ask():
    one = socket.socket(socket.AF_UNIX)
    one.connect(sys.argv[1])
    threading.Thread(target=read, args=(one,), daemon=True).start()
    while True:
        one.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\\n' * 200)
def read(one):
    while one.recv(1 << 20):
        os.write(1, b"answer\\n")  # whole, whoever else writes
for _ in range(3):
    threading.Thread(target=ask, daemon=True).start()
sys.stdin.read()
"""


def test_a_stop_while_clients_ask_without_a_pause(place):
    """It has more to count than fits into one turn of the loop, and ends all the same: nothing waits for an idle loop."""
    place.with_hooks()
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, record={}), spare_workers=0,
                    head="restart { give_up_after = 1 }").start(environment={"HOLDFAST_TEST_CRASH": "relay:POISON"})
    daemon.wait_state("engine", "RUNNING")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        host, _, port = listen.rpartition(":")
        out.sendto(b"POISON", (host, int(port)))
    daemon.wait_state("engine", "FAILED")
    Sender(place, listen, 4000, tag=3).wait()
    insatiable = [subprocess.Popen([sys.executable, "-c", INSATIABLE, str(daemon.socket)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE) for _ in range(2)]
    for process in insatiable:
        place.on_exit(process.kill)
        assert process.stdout.readline() == b"answer\n"
        threading.Thread(target=process.stdout.read, daemon=True).start()
    daemon.call("stop", ["engine"])
    daemon.wait_state("engine", "STOPPED")
    assert all(process.poll() is None for process in insatiable)
    assert daemon.counters("engine")["kernel_dropped"] == 4000
    daemon.stop()


@core
def test_clients_that_vanish(place):
    with traffic(place, 5000) as daemon:
        assert daemon.call("ping")
        before = descriptors(daemon)
        for _ in range(200):
            client = Control(daemon.socket)
            client.send(b'{"jsonrpc": "2.0", "id": 1, "method": "status"}\n' * 3)
            client.close()
        assert daemon.call("ping")
        # A spare that has begun meanwhile has a few; 200 clients would have 200.
        wait_until(lambda: descriptors(daemon) <= before + 8, 10, "descriptors of vanished clients to be closed")


def test_changes_are_logged_with_who_asked(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    daemon.call("restart", {"channel": "engine"})
    daemon.wait_for_log(f"pid {os.getpid()}")
    line = next(line for line in daemon.log_text().splitlines() if f"pid {os.getpid()}" in line)
    assert "restart" in line and "engine" in line and f"uid {os.getuid()}" in line, line
    daemon.stop()


def test_the_socket_has_the_mode_that_was_asked_for_and_is_gone_afterwards(place):
    daemon = Daemon(place, channel("engine", place.ipv4(), record={}))
    daemon.config.write_text(daemon.config.read_text().replace("control { ", 'control { mode = "0600" '))
    daemon.start()
    assert daemon.socket.stat().st_mode & 0o777 == 0o600
    second = place.run(place.program("holdfastd"), "--config", daemon.config, expect=1)
    assert str(daemon.socket) in second.stderr, "a living daemon is not displaced"
    assert daemon.call("ping")
    daemon.stop()
    assert not daemon.socket.exists()


@core
def test_without_descriptors_somebody_can_ask(place):
    """The channels have taken all there are: four clients are served all the same, and the next is told why it isn't."""
    daemon = Daemon(place, channel("engine", place.ipv4(), record={})).start()
    daemon.wait_state("engine", "RUNNING")
    daemon.disconnect()
    daemon.ctl("ping")
    used = {int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")}
    free = next(number for number in range(3, 1000) if number not in used)
    place.run("prlimit", "--pid", daemon.process.pid, f"--nofile={free}:{free}")
    daemon.ctl("status")
    clients = [Control(daemon.socket) for _ in range(4)]
    for client in clients + clients:
        assert client.call("status")["channels"][0]["name"] == "engine"
    refused = daemon.ctl("ping", expect=3).stderr
    assert "4 clients are connected" in refused and "LimitNOFILE" in refused, refused
    clients.pop().close()
    wait_until(lambda: daemon.ctl("ping", expect=None).returncode == 0, 20, "a place that has become free to be given away")
    for client in clients:
        assert client.call("ping")
        client.close()
    daemon.ctl("stop", "engine")
    daemon.stop()
