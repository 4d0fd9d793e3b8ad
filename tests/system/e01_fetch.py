# SPDX-License-Identifier: MIT
"""Log files that are fetched from a running daemon, by another user: each is byte by byte what was recorded, or nothing."""

import json
import os
import signal
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until
from lib.reading import NOBODY

OPEN_TO_ALL = 'read { mode = "0666" }'
HOWS = ("fd", "copy", "splice")


def recorded(place, count=4000, segment_size="1M", sealed=3):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": segment_size}), head=OPEN_TO_ALL).start()
    sender = Sender(place, listen, count, rate=10000, sizes=(1000,))
    sender.wait()
    daemon.wait_drained("engine", count)
    wait_until(lambda: len(daemon.segments("engine")) >= sealed, 20, "sealed segments")
    return daemon, sender


def fetch(place, daemon, *arguments, expect=0):
    """As another user, where the test is root."""
    target = place.folder / "fetched"
    target.mkdir(exist_ok=True)
    other = {}
    if os.getuid() == 0:
        os.chmod(place.folder, 0o711)
        os.chown(target, NOBODY, NOBODY)
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    command = [str(place.program("holdfastctl")), "--socket", str(daemon.socket), "--read-socket",
               str(daemon.socket.with_name("read.sock")), "fetch", "engine", *arguments, "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/", **other)
    assert result.returncode == expect, (result.returncode, result.stdout, result.stderr)
    return result, target


@core
def test_each_way_brings_the_file(place):
    daemon, sender = recorded(place)
    sealed = daemon.segments("engine")
    for how in HOWS:
        result, target = fetch(place, daemon, sealed[0].name, "seq:1500", "--how", how, "--force", "--json")
        fetched = json.loads(result.stdout)["fetched"]
        assert [entry["name"] for entry in fetched] == [sealed[0].name, sealed[1].name], fetched
        for entry in fetched:
            path = target / entry["name"]
            assert path.read_bytes() == (sealed[0].parent / entry["name"]).read_bytes()
            assert entry["bytes"] == path.stat().st_size
            path.unlink()
    result, target = fetch(place, daemon, *(path.name for path in sealed))
    opened = daemon.segments("engine", ".avro.open")[0]
    assert "being written" in fetch(place, daemon, "last", expect=1)[0].stderr
    fetch(place, daemon, opened.name, "--how", "copy")
    daemon.stop()
    assert not [path for path in target.iterdir() if "partial" in path.name]
    files = sorted(target.iterdir())
    whole = [record.payload for record in oracle.read_with_avro_c(place, files[:-1])]
    part = target / "last.avro"
    files[-1].rename(part)
    whole += [record.payload for record in oracle.read_with_python_avro([part])]
    sent = oracle.read_datagrams(sender.record)[0]
    assert whole == sent[:len(whole)] and len(whole) > len(sent) - 1000, (len(whole), len(sent))


def test_what_is_asked_for_in_vain(place):
    daemon, _ = recorded(place, count=2500, sealed=2)
    sealed = daemon.segments("engine")[0]
    for name in ("nothing", "seq:", "seq:x", "@", "@1.x", "engine-00000000000000009999-20261009T085320Z.avro", "../x"):
        assert "there is no log file" in fetch(place, daemon, name, expect=1)[0].stderr, name
    assert "there are fd, copy and splice" in fetch(place, daemon, "first", "--how", "mail", expect=2)[0].stderr
    _, target = fetch(place, daemon, "first")
    assert "--force" in fetch(place, daemon, "first", expect=1)[0].stderr
    assert (target / sealed.name).read_bytes() == sealed.read_bytes()
    result = place.run(place.program("holdfastctl"), "--socket", daemon.socket, "fetch", "engine", "first", "-o",
                       sealed.parent, expect=1)
    assert "own folder" in result.stderr, result.stderr
    daemon.stop()


def test_the_gate_dies_over_it(place):
    """Whoever fetches gets the rest from the next one."""
    daemon, _ = recorded(place, count=60000, segment_size="16M")
    sealed = daemon.segments("engine")[0]
    for how in ("copy", "splice"):
        process = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "fetch", "engine", "first",
                                    "--how", how, "-o", str(place.folder), "--force"], stdout=subprocess.PIPE,
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


def test_the_example_copies_what_is_new_and_goes_on_in_the_middle(place):
    daemon, sender = recorded(place)
    target, program = place.folder / "copies", place.build / "examples" / "fetch_logs"
    target.mkdir()
    socket = {"env": {**os.environ, "HOLDFAST_READ_SOCKET": str(daemon.socket.with_name("read.sock"))}}
    sealed = daemon.segments("engine")
    whole = sealed[1].read_bytes()
    (target / (sealed[1].name + ".part")).write_bytes(whole[:1000])
    (target / (sealed[2].name + ".part")).write_bytes(bytes(len(whole) * 2))  # it is none of this file
    first = place.run(program, "engine", target, **socket).stdout
    assert f"{sealed[1].name}: {len(whole) - 1000} bytes" in first, first
    assert len(first.splitlines()) == len(sealed), first
    assert place.run(program, "engine", target, **socket).stdout == "", "all of it is there"
    daemon.ctl("rotate", "engine")
    wait_until(lambda: len(daemon.segments("engine")) > len(sealed), 20, "another sealed segment")
    assert len(place.run(program, "engine", target, **socket).stdout.splitlines()) == 1
    for path in daemon.segments("engine"):
        assert (target / path.name).read_bytes() == path.read_bytes()
    assert len(list(target.iterdir())) == len(daemon.segments("engine")), "no part is left"
    assert "nobody" in place.run(program, "nobody", target, expect=1, **socket).stderr
    daemon.stop()
    records = oracle.read_with_avro_c(place, sorted(target.iterdir()))
    oracle.assert_same_payloads(oracle.read_datagrams(sender.record)[0], [record.payload for record in records], "copied")
