# SPDX-License-Identifier: MIT
"""A moment is found among ten thousand segments, and in a recording whose clock was set back twice, as a look at every
record finds it."""

import json
import random
import time

from lib import log_files
from lib.holdfast import Daemon, channel, send_all
from lib.place import core

SCHEMA = log_files.SCHEMA_FILE.read_text()


def name_of(first_seq, time_us):
    return f"engine-{first_seq:020}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(time_us // 10**6))}.avro"


def record_one(place):
    """A sealed segment as holdfast writes it."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={})).start()
    send_all(listen, [b"x"])
    daemon.wait_drained("engine", 1)
    daemon.stop()
    return daemon.segments("engine")[0].read_bytes()


def write_segments(place, chance, times_us, per_segment):
    """Each begins with its first record's time, as what is made at that moment; some have no totals, as a crash leaves
    them and version 0.1.0 wrote them."""
    folder, template, latest = place.folder / "many" / "engine", record_one(place), 0
    sync = log_files.read_header(template)[1]
    folder.mkdir(parents=True)
    for first in range(0, len(times_us), per_segment):
        part = times_us[first:first + per_segment]
        latest = max(latest, *part)
        records = [log_files.record(first + number, b"%d" % (first + number), time_us=moment)
                   for number, moment in enumerate(part)]
        if chance.random() < 0.1:
            header = log_files.header(SCHEMA, sync, first_seq=first, created=part[0] * 1000)
        else:
            header = log_files.sealed(template, first, [moment * 1000 for moment in part], latest * 1000)
        (folder / name_of(first, part[0])).write_bytes(header + log_files.block(records, sync))
    logs = json.loads(place.run(place.program("holdfastctl"), "logs", "--json", folder).stdout)["logs"]
    assert sum(log["records"] is not None for log in logs) > len(logs) * 0.8, "these headers are taken for sound"
    return folder


def by_every_record(times_us, begin_us, end_us):
    """The first one received at or after the begin, up to before the first one behind it received at or after the end."""
    first = next((seq for seq, moment in enumerate(times_us) if moment >= begin_us), len(times_us))
    last = next((seq for seq in range(first, len(times_us)) if times_us[seq] >= end_us), len(times_us))
    return list(range(first, last))


def find(place, folder, begin_us, end_us):
    def moment(time_us):
        return f"@{time_us // 10**6}.{time_us % 10**6:06}"
    lines = place.run(place.program("holdfastctl"), "cat", "--json", folder, "--from", moment(begin_us), "--to",
                      moment(end_us)).stdout.splitlines()
    return [json.loads(line)["seq"] for line in lines]


def judge(place, folder, times_us, chance, looks):
    first, last = min(times_us), max(times_us)
    for _ in range(looks):
        begin = chance.choice((chance.choice(times_us), chance.choice(times_us) + 1, chance.randrange(first - 10**6, last + 10**6)))
        end = begin + chance.choice((1, 10**4, 10**6, 30 * 10**6))
        assert find(place, folder, begin, end) == by_every_record(times_us, begin, end), (begin, end)


@core
def test_a_moment_among_ten_thousand_segments(place):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    times, now = [], log_files.NOON_US
    for _ in range(3 * place.scaled(10000)):
        now += chance.choice((0, 1, 1000, 10**6))
        times.append(now)
    judge(place, write_segments(place, chance, times, per_segment=3), times, chance, looks=40)


@core
def test_a_moment_where_the_clock_was_set_back_twice(place):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    count = 10 * place.scaled(1000)
    times, now = [], log_files.NOON_US
    back = {chance.randrange(count // 4, count // 2): 200 * 10**6, chance.randrange(count // 2, count): 50 * 10**6}
    for number in range(count):
        now += chance.choice((0, 1, 1000, 10**5)) - back.get(number, 0)
        times.append(now)
    judge(place, write_segments(place, chance, times, per_segment=10), times, chance, looks=80)
