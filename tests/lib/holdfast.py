# SPDX-License-Identifier: MIT
"""The programs under test, handled from Python: holdfastd with its configuration, control socket and notifications,
holdfastctl, and the sender and sink that feed it and catch what comes out."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time

from lib.place import children_of, comm, is_alive, kill, wait_until

READY_DEADLINE = 40
STOP_DEADLINE = 40


# ---- configuration ----

def text_of(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def section(kind, name, settings, indent="  "):
    lines = [f'{indent}{kind}{f" {text_of(name)}" if name else ""} {{']
    lines += [f"{indent}  {key} = {text_of(value)}" for key, value in settings.items()]
    return lines + [indent + "}"]


def channel(name, listen, relays=None, decimates=None, record=None, **settings):
    """One channel of the configuration. relays and decimates: name -> address or settings; record: settings. Segments
    are small here unless a test says otherwise: the default of 256M is real disk space for each channel of each test."""
    lines = [f"channel {text_of(name)} {{", f"  listen = {text_of(listen)}"]
    lines += [f"  {key} = {text_of(value)}" for key, value in settings.items()]
    for kind, destinations in (("relay", relays), ("decimate", decimates)):
        for title, how in (destinations or {}).items():
            lines += section(kind, title, how if isinstance(how, dict) else {"to": how})
    if record is not None:
        lines += section("record", None, {"segment_size": "16M", **record})
    return "\n".join(lines + ["}", ""])


class Notifications:
    """The end of NOTIFY_SOCKET that a service manager would hold (sd_notify(3))."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(self.path)
        self.messages = []

    def poll(self):
        while True:
            try:
                data, controls, _flags, _from = self.socket.recvmsg(65536, 4096)
            except BlockingIOError:
                return self.messages
            for level, kind, content in controls:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    for at in range(0, len(content) - 3, 4):
                        os.close(int.from_bytes(content[at:at + 4], "little"))
            self.messages += data.decode().splitlines()

    def values(self, name):
        return [line.partition("=")[2] for line in self.poll() if line.startswith(name + "=")]


# ---- the control socket ----

class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code, self.message = error.get("code"), error.get("message")


class Control:
    """One connection to the control socket."""

    def __init__(self, path, deadline=15):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(deadline)
        self.socket.connect(str(path))
        self.received = b""
        self.next_id = 0

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """The next line, or None when the daemon closed the connection."""
        while b"\n" not in self.received:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.received += data
        line, _, self.received = self.received.partition(b"\n")
        return line

    def answer(self):
        line = self.line()
        return None if line is None else json.loads(line)

    def call(self, method, params=None):
        self.next_id += 1
        request = {"jsonrpc": "2.0", "id": self.next_id, "method": method}
        if params is not None:
            request["params"] = params
        self.send(json.dumps(request).encode() + b"\n")
        answer = self.answer()
        assert answer is not None, f"the connection was closed instead of an answer to {method}"
        assert answer["id"] == self.next_id, f"an answer to another request: {answer}"
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def close(self):
        self.socket.close()


# ---- holdfastd ----

class Daemon:
    def __init__(self, place, *channels, name="holdfastd", head="", **top):
        """channels: texts made by channel(). head: further lines; top: further keys at the top."""
        self.place = place
        self.name = name
        self.log_dir = place.folder / "log"
        self.socket = place.folder / f"{name}.sock"
        self.config = place.folder / f"{name}.conf"
        top.setdefault("log_dir", self.log_dir)
        self.log_dir = pathlib.Path(top["log_dir"])
        lines = [f"{key} = {text_of(value)}" for key, value in top.items()]
        lines.append(f"control {{ socket = {text_of(self.socket)} }}")
        if name != "holdfastd" and not re.search(r"\bread +{", head):  # there may be another one in this folder
            lines.append(f"read {{ socket = {text_of(place.folder / f'{name}-read.sock')} }}")
        self.config.write_text("\n".join(lines + [head] + list(channels)))
        self.log_path = place.log_file(f"{name}.log")
        self.process = None
        self.notifications = None
        self.connection = None
        place.on_exit(self.kill_all)

    def environment(self, extra):
        environment = dict(os.environ)
        environment.pop("JOURNAL_STREAM", None)
        environment.pop("HOLDFAST_SOCKET", None)
        environment["NOTIFY_SOCKET"] = self.notifications.path
        environment.update(extra or {})
        return environment

    def start(self, wait=True, environment=None, arguments=(), wrapper=()):
        """wrapper: a command that executes the one behind it."""
        self.notifications = Notifications(self.place.folder / f"notify.{self.place.count('notify')}")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, self.place.program("holdfastd"), "--config", str(self.config), *arguments], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.environment(environment), cwd=self.place.folder)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, deadline=READY_DEADLINE):
        def ready():
            assert self.process.poll() is None, f"holdfastd ended with {self.process.returncode} before it was ready"
            return "READY=1" in self.notifications.poll()
        wait_until(ready, deadline, "READY=1 from holdfastd")

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text, deadline=15):
        wait_until(lambda: text in self.log_text(), deadline, f"{text!r} in the log")

    def call(self, method, params=None):
        if self.notifications is not None:
            self.notifications.poll()  # as a service manager does: what lies in its socket keeps descriptors open
        if self.connection is None:
            self.connection = Control(self.socket)
        return self.connection.call(method, params)

    def status(self, name=None):
        """The whole status, or one channel's part."""
        status = self.call("status")
        if name is None:
            return status
        return next(entry for entry in status["channels"] if entry["name"] == name)

    def counters(self, name):
        return self.status(name)["counters"]

    def wait_state(self, name, state, deadline=20):
        return wait_until(lambda: (lambda entry: entry if entry["state"] == state else None)(self.status(name)),
                          deadline, f"channel {name} in state {state}")

    def wait_counter(self, name, counter, value, deadline=60):
        return wait_until(lambda: self.counters(name)[counter] >= value, deadline,
                          f"{counter} of {name} to reach {value} (it is {self.counters(name)[counter]})")

    def wait_drained(self, name, received, deadline=60):
        """All received, and nothing of it waits to be recorded."""
        self.wait_counter(name, "received", received, deadline)
        wait_until(lambda: self.status(name)["ring"]["pending"] == 0, deadline, f"channel {name} to record everything")

    def ctl(self, *arguments, expect=0, **options):
        """While an upgrade is waited for, what a service manager is told is read as it does: what lies in its socket keeps
        descriptors open, and addresses taken."""
        ended = threading.Event()
        manager = threading.Thread(target=lambda: self.poll_until(ended), daemon=True)
        if "upgrade" in arguments:
            manager.start()
        command = [self.place.program("holdfastctl"), "--socket", self.socket, *arguments]
        try:
            if arguments == ("upgrade",) and expect == 0:
                return self.upgrade_when_possible(command, options)
            return self.place.run(*command, expect=expect, **options)
        finally:
            ended.set()
            if "upgrade" in arguments:
                manager.join()

    def upgrade_when_possible(self, command, options):
        """Behind a start or another upgrade it is refused until the archive has answered, and is to be tried again."""
        def answered():
            result = self.place.run(*command, expect=None, **options)
            return None if any(text in result.stderr for text in ("the archive has not answered yet",
                                                                  "upgrade when the disk answers")) else result
        result = wait_until(answered, 30, "archive and disk to answer")
        assert result.returncode == 0, result.stderr
        return result

    def poll_until(self, ended):
        while self.notifications is not None and not ended.wait(0.05):
            self.notifications.poll()

    def descendants(self):
        """What it works with; not the process that only writes the log, which outlives them all."""
        return [pid for pid in children_of(self.process.pid) if comm(pid) != "holdfast-log"]

    def helpers(self):
        """Archive and spares, in the order in which they began: no channel's worker, and not the gate, whose life is nobody
        else's business."""
        status = self.status()
        others = {entry["pid"] for entry in status["channels"]} | {status.get("read", {}).get("pid")}
        return sorted(pid for pid in self.descendants() if pid not in others)

    def gate(self, deadline=20):
        """The process that serves readers."""
        return wait_until(lambda: self.status()["read"]["pid"], deadline, "a gate")

    def lose_identity(self, size=8, channel="engine"):
        """Overwrite the beginning of the ring's page: its magic, or more."""
        for number in os.listdir(f"/proc/{self.process.pid}/fd"):
            path = f"/proc/{self.process.pid}/fd/{number}"
            if os.path.lexists(path) and os.readlink(path).startswith(f"/memfd:holdfast:{channel}"):
                with open(path, "r+b", buffering=0) as memory:
                    memory.write(bytes(size))
                return
        raise AssertionError("the supervisor holds no ring")

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def stop(self, expect=0, number=signal.SIGTERM):
        """An orderly end; nothing of it may stay behind. expect=None takes any exit status."""
        workers = self.descendants()
        self.disconnect()
        self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"holdfastd was still there {STOP_DEADLINE} s after the signal") from error
        assert expect is None or status == expect, f"holdfastd ended with {status}, expected {expect}"
        wait_until(lambda: not any(map(is_alive, workers)), 5, "the children of holdfastd to be gone")

    def kill_all(self):
        """SIGKILL for the supervisor and all that it started."""
        self.disconnect()
        if self.process is None:
            return
        pids = self.descendants() + ([self.process.pid] if self.process.poll() is None else [])
        for pid in pids:
            kill(pid)
        self.process.wait(10)
        wait_until(lambda: not any(map(is_alive, pids)), 10, "killed processes to be gone")

    def segments(self, name, suffix=".avro"):
        return sorted(path for path in (self.log_dir / name).glob(f"*{suffix}") if path.is_file())


# ---- what feeds it and what it feeds ----

def send_all(listen, payloads, pause=0.0):
    """One datagram each, so far apart. Returns the address that they came from."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((host.strip("[]"), int(port)))
        for payload in payloads:
            sender.send(payload)
            time.sleep(pause)
        address = sender.getsockname()
        return f"[{address[0]}]:{address[1]}" if "[" in host else f"{address[0]}:{address[1]}"


class Sender:
    """tool_sender in the background."""

    def __init__(self, place, to, count, name="sent", rate=0, sizes=(64,), tag=1, burst=16, interface="lo",
                 coalesced=False):
        self.record = place.folder / f"{name}.datagrams"
        self.log = place.log_file(f"{name}.sender.log")
        to = [to] if isinstance(to, str) else to
        arguments = [place.program("tool_sender"), "--count", str(count), "--rate", str(rate), "--burst", str(burst),
                     "--sizes", ",".join(map(str, sizes)), "--tag", str(tag), "--interface", interface,
                     "--record", str(self.record)] + (["--coalesced"] if coalesced else [])
        for address in to:
            arguments += ["--to", address]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        place.on_exit(self.end)

    def wait(self, deadline=120):
        """Until everything is sent; returns what the sender says."""
        output, _ = self.process.communicate(timeout=deadline)
        assert self.process.returncode == 0, f"the sender failed: {self.log.read_text()}"
        return json.loads(output)

    def stop(self):
        """Send no more."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Sink:
    """tool_sink on these addresses; its record tells sockets apart by their place in the list."""

    def __init__(self, place, on, name="caught", interface="lo"):
        self.record = place.folder / f"{name}.datagrams"
        self.log = place.log_file(f"{name}.sink.log")
        on = [on] if isinstance(on, str) else on
        arguments = [place.program("tool_sink"), "--record", str(self.record), "--interface", interface]
        for address in on:
            arguments += ["--on", address]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            bufsize=0)
        place.on_exit(self.end)
        assert self.line() == b"ready\n", f"the sink could not start: {self.log.read_text()}"

    def line(self, deadline=20):
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], deadline)
            assert readable, "the sink gives no answer"
            part = self.process.stdout.read(1)
            assert part, f"the sink ended: {self.log.read_text()}"
            line += part
        return line

    def counts(self):
        self.process.stdin.write(b"\n")
        return json.loads(self.line())["sockets"]

    def wait_received(self, counts, deadline=60):
        """Until every socket has at least so many; and none was dropped on the last yard."""
        counts = [counts] if isinstance(counts, int) else counts
        wait_until(lambda: all(have["received"] >= want for have, want in zip(self.counts(), counts)), deadline,
                   f"the sink to receive {counts}; it has {[entry['received'] for entry in self.counts()]}")

    def stop(self):
        """Drain and end. Returns counts per socket."""
        self.process.send_signal(signal.SIGTERM)
        counts = json.loads(self.line())["sockets"]
        self.process.wait(10)
        assert all(entry["dropped"] == 0 for entry in counts), f"the sink itself lost datagrams: {counts}"
        return counts

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
