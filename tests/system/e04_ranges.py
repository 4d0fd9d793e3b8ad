# SPDX-License-Identifier: MIT
"""Records that are fetched by their numbers: exactly those, as a log file that any Avro reader opens, whichever files have them."""

import json
import signal
import subprocess

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until

HOWS = ("fd", "copy", "splice")


def recorded(place, count=4000, sealed=3):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"})).start()
    sender = Sender(place, listen, count, rate=10000, sizes=(1000,))
    sender.wait()
    daemon.wait_drained("engine", count)
    wait_until(lambda: len(daemon.segments("engine")) >= sealed, 20, "sealed segments")
    return daemon, oracle.read_datagrams(sender.record)[0]


def fetch(place, daemon, *arguments, expect=0):
    return place.run(place.program("holdfastctl"), "--socket", daemon.socket, "fetch", "engine", *arguments, expect=expect)


def payloads(place, path):
    for_avro_c = [record.payload for record in oracle.read_with_avro_c(place, [path])]
    assert for_avro_c == [record.payload for record in oracle.read_with_python_avro([path])]
    return for_avro_c


@core
def test_exactly_the_records(place):
    daemon, sent = recorded(place)
    name = daemon.segments("engine")[1].name
    border = int(name.split("-")[1])
    ranges = [(0, 0), (5, 5), (10, 300), (border - 1, border), (border, border), (100, 2900), (0, len(sent) - 1)]
    for how in HOWS:
        for first, last in ranges:
            result = place.folder / "range.avro"
            told = json.loads(fetch(place, daemon, f"seq:{first}..{last}", "--how", how, "-o", result, "--force",
                                    "--json").stdout)["fetched"][0]
            got = payloads(place, result)
            if how != "fd" or last < 2900:  # by descriptor, what is in the open block is left out
                assert (told["first_seq"], told["last_seq"], told["records"]) == (first, last, last - first + 1), told
            assert told["bytes"] == result.stat().st_size
            assert got == sent[first:told["last_seq"] + 1], (how, first, last)
            place.run(place.program("holdfastctl"), "verify", result)
            if how == "copy":
                shown = place.run(place.program("holdfastctl"), "cat", result, "--output", "json").stdout.splitlines()
                assert [json.loads(line)["seq"] for line in shown] == list(range(first, last + 1))
    daemon.stop()


def test_what_is_not_there_is_told(place):
    daemon, sent = recorded(place)
    result = fetch(place, daemon, f"seq:3900..{len(sent) + 99}", "-o", place.folder)
    path = place.folder / f"engine-seq-3900-{len(sent) + 99}.avro"
    assert payloads(place, path) == sent[3900:]
    assert f"100 of the records 3900..{len(sent) + 99} are not there" in result.stderr, result.stderr
    assert "--force" in fetch(place, daemon, f"seq:3900..{len(sent) + 99}", "-o", path, expect=1).stderr
    for name in ("seq:9000..9001", "seq:4000..4000"):
        assert "none of the records" in fetch(place, daemon, name, "-o", place.folder, expect=1).stderr
    for name in ("seq:5..4", "seq:..4", "seq:5..", "seq:5...6", "seq:5..6x", "seq:5..99999999999999999999999"):
        assert "there is no log file" in fetch(place, daemon, name, "-o", place.folder / "x", expect=1).stderr, name
    assert not list(place.folder.glob("*.partial")) and not (place.folder / "x").exists()
    # The oldest file is removed: what is left of the range is given, and the rest is missing.
    segments = daemon.segments("engine")
    left = int(segments[1].name.split("-")[1])
    segments[0].unlink()
    result = fetch(place, daemon, f"seq:{left - 10}..{left + 9}", "-o", path, "--force")
    assert "10 of the records" in result.stderr and payloads(place, path) == sent[left:left + 10]
    daemon.stop()


def test_the_gate_dies_over_it(place):
    """What a new process sends is never put behind what the one before has sent."""
    daemon, sent = recorded(place, count=30000)
    for i, how in enumerate(HOWS):
        path = place.folder / f"{how}.avro"
        process = subprocess.Popen([place.program("holdfastctl"), "--socket", str(daemon.socket), "fetch", "engine",
                                    "seq:7..29000", "--how", how, "-o", str(path)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        place.on_exit(process.kill)
        kill(daemon.gate(), signal.SIGKILL)
        output, complaints = process.communicate(timeout=60)
        if process.returncode == 0:
            assert payloads(place, path) == sent[7:29001], (i, how)
        else:
            assert complaints and not path.exists(), (output, complaints)
        daemon.gate()
    daemon.stop()
