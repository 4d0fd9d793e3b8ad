# SPDX-License-Identifier: MIT
"""What a user types: the standard input goes into a channel by `holdfastctl publish`, and is what `cat` shows, whatever
ends meanwhile; mistakes are told with what would be right."""

import json
import os
import re
import signal
import subprocess

from lib.holdfast import Daemon, channel
from lib.place import core, freeze, kill, wait_until


def start_daemon(place, **settings):
    text = channel("engine", "local:engine", record={"segment_size": "4M"}, **settings)
    text = text.replace("\n", '\n  publishers { most = 4  outbox_size = "64K" }\n', 1)
    return Daemon(place, text, channel("udp", place.ipv4(), record={}), head='read { mode = "0666" } ').start()


def command_of(place, daemon, *arguments):
    return [str(place.program("holdfastctl")), "--socket", str(daemon.socket), "publish", *arguments]


def publish(place, daemon, data, *arguments, expect=0):
    result = subprocess.run(command_of(place, daemon, *arguments), input=data, capture_output=True, check=False, timeout=60)
    assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
    return result


class Running:
    """holdfastctl publish in the background, with a pipe to it."""

    def __init__(self, place, daemon, *arguments):
        self.errors = place.log_file("publish.log")
        with open(self.errors, "ab") as log:
            self.process = subprocess.Popen(command_of(place, daemon, "engine", *arguments), stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log)
        place.on_exit(self.end)

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait(self, deadline=60):
        self.process.stdin.close()
        return self.process.wait(deadline)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()

    def said(self):
        return self.errors.read_text(encoding="utf-8")


def lines(first, count):
    return "".join(f"line {number} {'x' * (number % 50)}\n" for number in range(first, first + count)).encode()


def assert_lines(daemon, count):
    raw = subprocess.run([str(daemon.place.program("holdfastctl")), "--socket", str(daemon.socket), "cat", "engine",
                          "--output", "raw"], capture_output=True, check=True, timeout=60).stdout
    assert raw == lines(0, count).replace(b"\n", b""), f"{len(raw)} bytes of {count} lines"


@core
def test_lines_become_datagrams(place):
    daemon = start_daemon(place)
    result = publish(place, daemon, lines(0, 1000), "engine", "--durable")
    assert b"published 1000 datagrams, and all of it is on the disk" in result.stderr, result.stderr
    assert_lines(daemon, 1000)
    short = daemon.ctl("cat", "engine", "-n", "1").stdout
    assert re.search(rf" #0 local:{os.getuid()}/\d+/holdfastctl 7 line 0 ", short), short
    result = publish(place, daemon, b"no newline at the end", "engine", "--json")
    assert json.loads(result.stdout) == {"channel": "engine", "published": 1, "taken": True, "durable": False}
    publish(place, daemon, b"", "engine")
    publish(place, daemon, b"\n", "engine", "--durable")
    daemon.wait_counter("engine", "recorded", 1002)
    assert {entry["name"]: entry["taken"] for entry in daemon.status("engine")["publishers"]["list"]} == {}


@core
def test_pieces_of_one_size(place):
    daemon = start_daemon(place)
    data = bytes(range(256)) * 40
    publish(place, daemon, data, "engine", "--size", "1000", "--durable")
    daemon.wait_counter("engine", "recorded", 11)
    assert daemon.counters("engine")["received_bytes"] == len(data)


def test_what_is_wrong_is_told(place):
    daemon = start_daemon(place, max_datagram=1000)
    for arguments, status, words in ((("nothing",), 1, "no channel 'nothing'"),
                                     (("udp",), 1, 'listen = "local:NAME"'),
                                     (("engine", "--size", "1001"), 1, "1000 bytes (max_datagram)"),
                                     (("engine", "--size", "0"), 2, "--size 0"),
                                     (("engine", "--size", "10", "--lines"), 2, "one or the other"),
                                     ((), 2, "usage: holdfastctl publish CHANNEL")):
        result = publish(place, daemon, b"x\n", *arguments, expect=status)
        assert words in result.stderr.decode(), result.stderr
    result = publish(place, daemon, lines(0, 3) + b"y" * 5000 + b"\n" + lines(3, 3), "engine", expect=1).stderr.decode()
    assert "line 4, at byte" in result and "published 3 datagrams" in result, result
    daemon.wait_counter("engine", "recorded", 3)
    assert_lines(daemon, 3)
    command = " ".join(command_of(place, daemon, "engine"))
    result = subprocess.run(["sh", "-c", f"exec timeout 20 {command} <&-"], capture_output=True, check=False, timeout=60)
    assert result.returncode == 1 and b"standard input can't be read" in result.stderr, result


def restart_with(daemon, before, after):
    if daemon.process and daemon.process.poll() is None:
        daemon.stop()
    text = daemon.config.read_text()
    assert before in text, text
    daemon.config.write_text(text.replace(before, after))
    daemon.start()


def test_another_longest_datagram(place):
    daemon = start_daemon(place, max_datagram=1000)
    running = Running(place, daemon)
    running.write(lines(0, 10))
    daemon.wait_counter("engine", "recorded", 10)
    restart_with(daemon, "max_datagram = 1000", "max_datagram = 3000")
    wait_until(lambda: daemon.status("engine")["publishers"]["list"], 20, "it to be there again")
    running.write(b"y" * 2900 + b"\n" + b"z" * 4000 + b"\n")
    assert running.wait() == 1, running.said()
    assert "line 12, at byte" in running.said() and "the 3000 bytes" in running.said(), running.said()


def test_what_is_too_long_to_be_carried_over_is_not_waited_for(place):
    daemon = start_daemon(place, max_datagram=1000)
    running = Running(place, daemon)
    running.write(lines(0, 10))
    daemon.wait_counter("engine", "recorded", 10)
    daemon.stop()
    running.write(b"y" * 900 + b"\n")
    running.process.stdin.close()
    wait_until(lambda: "the daemon does not answer" in running.said(), 20, "it to wait")
    restart_with(daemon, "max_datagram = 1000", "max_datagram = 100")
    assert running.process.wait(20) == 1, running.said()
    assert "no more than 100 bytes" in running.said() and "has not taken all of them\n" in running.said(), running.said()


@core
def test_a_full_channel_and_a_dead_worker_are_waited_for(place):
    daemon = start_daemon(place)
    total = place.scaled(20000)
    running = Running(place, daemon, "--durable")
    running.write(lines(0, 100))
    daemon.wait_counter("engine", "recorded", 100)
    worker = daemon.status("engine")["pid"]
    freeze(worker)
    # More than outbox and pipe hold: it waits, until another worker is there.
    writer = os.fork()
    if writer == 0:
        try:
            running.write(lines(100, total - 100))
        finally:
            os._exit(0)
    running.process.stdin.close()
    wait_until(lambda: not daemon.status("engine")["publishers"]["list"] or
               daemon.status("engine")["publishers"]["list"][0]["waiting_bytes"] > 32000, 20, "the outbox to be full")
    kill(worker)
    os.waitpid(writer, 0)
    assert running.process.wait(60) == 0, running.said()
    assert f"published {total} datagrams, and all" in running.said(), running.said()
    assert_lines(daemon, total)


@core
def test_a_daemon_that_is_started_again_gets_the_rest(place):
    daemon = start_daemon(place)
    running = Running(place, daemon)
    running.write(lines(0, 100))
    daemon.wait_counter("engine", "recorded", 100)
    daemon.stop()
    running.write(lines(100, 100))
    running.process.stdin.close()
    wait_until(lambda: "the daemon does not answer" in running.said(), 20, "it to say what it waits for")
    assert running.process.poll() is None, running.said()
    daemon.start()
    assert running.process.wait(60) == 0, running.said()
    assert "published 200 datagrams\n" in running.said(), running.said()
    assert running.said().count("the daemon does not answer") == 1, running.said()
    daemon.wait_counter("engine", "received", 100)  # of this daemon
    daemon.wait_drained("engine", 100)
    assert_lines(daemon, 200)


def test_it_ends_when_it_is_asked_to(place):
    daemon = start_daemon(place)
    running = Running(place, daemon)
    running.write(lines(0, 10))
    daemon.wait_counter("engine", "recorded", 10)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0, running.said()
    assert "published 10 datagrams" in running.said(), running.said()


@core
def test_the_examples_publish_and_answer(place):
    text = channel("engine", "local:engine", record={"segment_size": "4M"})
    daemon = Daemon(place, text, channel("answers", "local:answers", record={"segment_size": "4M"})).start()
    environment = {**os.environ, "HOLDFAST_READ_SOCKET": str(daemon.socket.with_name("read.sock"))}
    react = subprocess.Popen([place.build / "examples" / "react", "engine", "answers"], env=environment)
    place.on_exit(lambda: (react.kill(), react.wait()))
    wait_until(lambda: json.loads(daemon.ctl("--json", "readers").stdout)["readers"], 20, "its reader")
    sensor = subprocess.run([place.build / "examples" / "sensor", "engine", "50"], env=environment, check=False,
                            capture_output=True, text=True, timeout=60)
    assert sensor.returncode == 0 and sensor.stderr == "", sensor
    daemon.wait_counter("engine", "recorded", 50)
    daemon.wait_counter("answers", "recorded", 50)
    answers = daemon.ctl("cat", "answers", "--output", "raw").stdout
    assert answers.startswith("0: ") and "49: " in answers, answers
