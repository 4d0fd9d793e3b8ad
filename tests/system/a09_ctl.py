# SPDX-License-Identifier: MIT
"""The operator's side: every verb of holdfastctl with its exit status, for people and as JSON."""

import json
import os
import pathlib
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until


def start(place):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"display": place.ipv4()}, record={}),
                    channel("gps", place.ipv6(), decimates={"slow": {"to": place.ipv4(), "keep_every": 5}})).start()
    return daemon, listen


@core
def test_status_for_people_and_as_json(place):
    daemon, listen = start(place)
    Sender(place, listen, 1234, rate=5000).wait()
    daemon.wait_drained("engine", 1234)
    human = daemon.ctl("status").stdout
    for word in ("engine", "gps", "RUNNING", "1,234"):
        assert word in human, human
    assert "\x1b" not in human, "colour is for terminals"
    detail = daemon.ctl("status", "engine").stdout
    for word in ("engine", listen, "display", "record_lost"):
        assert word in detail, detail
    status = json.loads(daemon.ctl("--json", "status").stdout)
    status = status.get("result", status)
    assert status["supervisor"]["pid"] == daemon.process.pid
    assert set(status["supervisor"]) >= {"pid", "version", "uptime_s"}
    entry = next(entry for entry in status["channels"] if entry["name"] == "engine")
    assert set(entry) >= {"name", "state", "pid", "generation", "restarts", "last_death", "next_start_ms", "counters",
                          "log", "ring"}
    assert entry["counters"]["received"] == 1234
    assert set(entry["log"]) >= {"segment", "committed_bytes", "durable_bytes", "next_seq"}
    assert set(entry["ring"]) >= {"mapping", "reason", "capacity_bytes", "pending"}
    assert entry["log"]["next_seq"] == 1234
    daemon.stop()


@core
def test_verbs_and_their_exit_status(place):
    daemon, listen = start(place)
    daemon.ctl("ping")
    daemon.ctl("check")
    daemon.ctl("stop", "gps")
    assert daemon.status("gps")["state"] == "STOPPED", "stop returns when it has stopped"
    daemon.ctl("check")  # what an operator stopped should not run
    daemon.ctl("start", "gps")
    assert daemon.status("gps")["state"] == "RUNNING"
    before = daemon.status("engine")["pid"]
    daemon.ctl("restart", "engine")
    assert daemon.status("engine")["state"] == "RUNNING" and daemon.status("engine")["pid"] != before
    assert "nothing to rotate" in daemon.ctl("rotate", "engine").stdout, "an empty segment is not finished"
    Sender(place, listen, 100).wait()
    daemon.wait_drained("engine", 100)
    assert "now writing" in daemon.ctl("rotate", "engine").stdout
    assert "nothing to rotate" in daemon.ctl("rotate", "engine").stdout, "neither is one that has just begun"
    answer = json.loads(daemon.ctl("--json", "--no-wait", "rotate", "engine").stdout)
    assert "empty" in answer["nothing_to_do"] and answer["accepted"]
    daemon.ctl("crashes")
    daemon.ctl("reset-failed", "engine", expect=None)
    unknown = daemon.ctl("status", "nobody", expect=1)
    assert "nobody" in unknown.stderr and "engine" in unknown.stderr, "an error says what there is"
    for wrong in (["frobnicate"], ["stop"], ["--frobnicate", "status"], []):
        assert daemon.ctl(*wrong, expect=2).stderr.strip(), wrong
    daemon.ctl("shutdown")
    assert daemon.process.wait(30) == 0


@core
def test_without_a_daemon(place):
    nowhere = place.folder / "nowhere.sock"
    result = place.run(place.program("holdfastctl"), "--socket", nowhere, "status", expect=3)
    assert str(nowhere) in result.stderr
    assert not result.stdout
    environment = {**os.environ, "HOLDFAST_SOCKET": str(place.folder / "elsewhere.sock")}
    result = place.run(place.program("holdfastctl"), "ping", expect=3, env=environment)
    assert "elsewhere.sock" in result.stderr


@core
def test_capabilities_need_no_daemon(place):
    ctl = [place.program("holdfastctl"), "--socket", place.folder / "nowhere.sock"]
    told = json.loads(place.run(*ctl, "capabilities", "--json").stdout)
    assert told["page_bytes"] == os.sysconf("SC_PAGESIZE") and told["kernel"] == os.uname().release, told
    assert told["memfd"] == {"present": True, "reason": None, "detail": None}, told
    pool = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    assert told["huge_pages"]["configured"] == (int(pool.read_text()) if pool.exists() else 0), told
    human = place.run(*ctl, "capabilities").stdout
    for word in ("memfd", "double mapping", "page size", "huge pages", "UDP_SEGMENT", "UDP_GRO", "seccomp", "landlock"):
        assert word in human, human
    place.run(*ctl, "capabilities", "engine", expect=2)


def on_terminal(place, command, environment):
    """What the command writes when its output is a terminal."""
    leader, follower = os.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env=environment)
    place.on_exit(process.kill)
    os.close(follower)
    output = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(leader)
    process.wait(20)
    return output


def test_colour_only_on_a_terminal_and_never_with_no_color(place):
    daemon, _listen = start(place)
    command = [place.program("holdfastctl"), "--socket", str(daemon.socket), "status"]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment["TERM"] = "xterm"
    assert b"\x1b[" in on_terminal(place, command, environment)
    assert b"\x1b[" not in on_terminal(place, command, {**environment, "NO_COLOR": "1"})
    assert "\x1b[" not in place.run(*command).stdout
    daemon.stop()


@core
def test_check_is_not_healthy_while_a_channel_is_down(place):
    daemon, _listen = start(place)
    daemon.ctl("check")
    daemon.stop()
    daemon = Daemon(place, channel("away", "192.0.2.77:26000", record={}), name="second").start()
    result = daemon.ctl("check", expect=1)
    assert "away" in result.stdout + result.stderr
    daemon.stop()


def test_verify_and_recover(place):
    daemon, listen = start(place)
    Sender(place, listen, 3000, rate=10000, sizes=(300,)).wait()
    daemon.wait_drained("engine", 3000)
    daemon.stop()
    file, = daemon.segments("engine")
    good = daemon.ctl("verify", file).stdout
    assert "3,000" in good or "3000" in good, good
    facts = json.loads(daemon.ctl("--json", "verify", file).stdout)
    assert str(file) in json.dumps(facts)

    content = bytearray(file.read_bytes())
    at = content.index(oracle.read_with_avro_c(place, [file])[1500].payload) + 100
    content[at] ^= 0x40
    broken = place.folder / "broken.avro"
    broken.write_bytes(content)
    result = daemon.ctl("verify", broken, expect=1)
    assert "CRC" in result.stdout + result.stderr
    daemon.ctl("recover", broken, expect=None)
    mended = place.folder / "broken.recovered.avro"
    assert broken.read_bytes() == bytes(content), "recover changed its input"
    daemon.ctl("verify", mended)
    numbers = [record.seq for record in oracle.read_with_avro_c(place, [mended])]
    assert numbers == [number for number in range(3000) if number != 1500], f"{len(numbers)} records came back"
    daemon.ctl("verify", place.folder / "missing.avro", expect=1)
    daemon.ctl("verify", expect=2)


def test_status_while_a_worker_dies(place):
    daemon, _listen = start(place)
    for _ in range(3):
        kill(daemon.wait_state("engine", "RUNNING")["pid"])
        daemon.ctl("status")
        wait_until(lambda: daemon.status("engine")["state"] == "RUNNING", 20, "the channel to be up again")
    assert "SIGKILL" in daemon.ctl("status", "engine").stdout
    daemon.stop()
