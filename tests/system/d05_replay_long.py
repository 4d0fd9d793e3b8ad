# SPDX-License-Identifier: MIT
"""Replays that are long enough for an error to add up: an hour in two minutes, and two minutes as they were. A second
holdfast records what is sent, and the distances between datagrams are compared by the kernel's stamps."""

import os
import random
import subprocess

from lib import log_files, oracle
from lib.holdfast import Daemon, channel
from lib.place import slow

COUNT = 12000  # at an error of 60 us each, 0.7 s would add up
SECONDS = 120
CHANNELS = {"hour": 30, "minutes": 1}  # how many times as long the recording is


def moments(chance, length_us):
    """Bursts, single ones and pauses, the last one at the very end."""
    inner = sorted(chance.randrange(length_us) for _ in range(COUNT - 202))
    burst = chance.randrange(length_us)
    return sorted([0, length_us, *inner, *(burst + number * 100 for number in range(200))])


def write_recording(folder, channel_name, times_us, payloads):
    sync = os.urandom(16)
    records = [log_files.record(seq, payload, time_us=log_files.NOON_US + time_us)
               for seq, (payload, time_us) in enumerate(zip(payloads, times_us))]
    blocks = [log_files.block(records[at:at + 100], sync) for at in range(0, len(records), 100)]
    folder.mkdir()
    (folder / f"{channel_name}-00000000000000000000-20251009T085320Z.avro").write_bytes(
        log_files.header(log_files.SCHEMA_FILE.read_text(), sync, channel_name) + b"".join(blocks))
    return folder


def judge(times_us, stamps_ns, rate):
    """By when each came after the first one, so that neither a late start nor one late datagram counts twice."""
    late = [(stamp - stamps_ns[0]) - moment * 1000 / rate for stamp, moment in zip(stamps_ns, times_us)]
    parts = [sorted(late[at:at + COUNT // 6]) for at in range(0, COUNT, COUNT // 6)]
    middles = [part[len(part) // 2] / 1e6 for part in parts]
    print(f"late by, a sixth of the time each: {[f'{middle:.3f} ms' for middle in middles]}, most {max(late) / 1e6:.3f} ms")
    assert max(middles) - min(middles) < 50, "no error adds up"


@slow
def test_an_hour_in_two_minutes_and_two_minutes_as_they_were(place):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    listens = {name: place.ipv4() for name in CHANNELS}
    daemon = Daemon(place, *(channel(name, listen, record={}) for name, listen in listens.items())).start()
    payloads = {name: [chance.randbytes(chance.randrange(100)) + b"%d" % seq for seq in range(COUNT)] for name in CHANNELS}
    times, runs = {}, {}
    for name, rate in CHANNELS.items():
        times[name] = moments(chance, SECONDS * rate * 10**6)
        folder = write_recording(place.folder / name, name, times[name], payloads[name])
        runs[name] = subprocess.Popen([place.program("holdfastctl"), "replay", str(folder), "--to", listens[name], "--rate",
                                       str(rate), "--json"], stdout=subprocess.PIPE, text=True)
        place.on_exit(runs[name].kill)
    for name, run in runs.items():
        print(f"{name}: {run.communicate(timeout=SECONDS + 60)[0]}")
        assert run.returncode == 0, name
    for name in CHANNELS:
        daemon.wait_drained(name, COUNT)
    daemon.stop()
    for name, rate in CHANNELS.items():
        records = oracle.read_with_avro_c(place, daemon.segments(name))
        assert [record.payload for record in records] == payloads[name], f"{name}: the same ones in the same order"
        judge(times[name], [record.received_at * 1000 + record.received_ns for record in records], rate)
