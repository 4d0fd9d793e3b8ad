# SPDX-License-Identifier: MIT
"""The power goes out while a real recorder writes. States (durable offset, file as it is) are taken from the running
daemon; of what lies beyond the durable offset each page has reached the disk or not, or is garbage. Each image is
recovered, by holdfastctl and by the archive at the next start: every durable record is back, no wrong one ever, and any
reader of Avro can read the result."""

import ctypes
import os
import random
import shutil
import signal
import socket

from lib import oracle
from lib.disk import EXT4_IOC_SHUTDOWN, SHUTDOWN_NOW, Disk, ThinDisk
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, freeze, kill, skip, wait_until

PAGE = 4096
SYS_CACHESTAT = 451  # on every architecture


def take_state(daemon):
    """(segment, durable offset, content). The offset first: what it names was on the disk before the file was read."""
    log = daemon.status("engine")["log"]
    if not log or not log["durable_bytes"]:
        return None
    try:
        return log["segment"], log["durable_bytes"], (daemon.log_dir / "engine" / log["segment"]).read_bytes()
    except FileNotFoundError:
        return None  # it was not begun yet, or is sealed


def take_states(daemon, count):
    states = []

    def another():
        state = take_state(daemon)
        if state and (not states or state[:2] != states[-1][:2]):
            states.append(state)
        return len(states) >= count
    wait_until(another, 60, f"{count} different durable offsets", interval=0.005)
    return states


# ---- what must come back, found out by reading the finished file without holdfast ----

def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def skip_bytes(data, at):
    length, at = read_varint(data, at)
    return at + length


def record_ends(data):
    """Where each record of an Avro container ends."""
    at, ends = 4, []
    count, at = read_varint(data, at)
    while count:
        for _ in range(2 * count):
            at = skip_bytes(data, at)
        count, at = read_varint(data, at)
    at += 16
    while at < len(data):
        count, at = read_varint(data, at)
        _size, at = read_varint(data, at)
        for _ in range(count):
            for kind in "iiisiiis":
                at = skip_bytes(data, at) if kind == "s" else read_varint(data, at)[1]
            at += 4
            ends.append(at)
        at += 16
    return ends


class Truth:
    """The finished segments: all records, and where each ends."""

    def __init__(self, place, daemon):
        self.records, self.ends = {}, {}
        for path in daemon.segments("engine"):
            name = path.name + ".open"
            self.records[name] = oracle.read_with_avro_c(place, [path])
            self.ends[name] = record_ends(path.read_bytes())
            assert len(self.ends[name]) == len(self.records[name])

    def judge(self, name, durable, recovered, what):
        truth = {record.seq: record for record in self.records[name]}
        for record in recovered:
            assert truth.get(record.seq) == record, f"{what}: a record that was never written: {record}"
        wanted = [record.seq for record, end in zip(self.records[name], self.ends[name]) if end <= durable]
        found = {record.seq for record in recovered}
        missing = [seq for seq in wanted if seq not in found]
        assert not missing, f"{what}: {len(missing)} of {len(wanted)} durable records are missing, first {missing[0]}"
        assert len(found) == len(recovered), f"{what}: recovered twice"
        return len(wanted)


# ---- the cut ----

def tear(chance, old, new, durable):
    """What may be found after the cut. What was synced is there, in a state of then or of later; each other page may be
    of then, of later, empty or garbage; and at the end anything may be missing, or more be there."""
    garbage = chance.random() < 0.5
    image = bytearray()
    for at in range(0, len(new), PAGE):
        fate = chance.choice(("old", "new", "lost") if at >= durable else ("old", "new"))
        if fate == "lost":
            image += chance.randbytes(PAGE) if garbage else bytes(PAGE)
        else:
            image += (old if fate == "old" else new)[at:at + PAGE].ljust(PAGE, b"\0")
    end = chance.random()
    if end < 0.3:
        del image[chance.randrange(min(-(-durable // PAGE) * PAGE, len(image)), len(image) + 1):]
    elif end < 0.4:
        image += chance.randbytes(chance.randrange(1, 3 * PAGE))
    return bytes(image)


def torn_images(chance, states, count):
    """(segment, durable offset, image) from two states of one segment, the later one not older than the durable one."""
    pairs = [(old, new) for at, old in enumerate(states) for new in states[at:at + 4] if old[0] == new[0]]
    for _ in range(count):
        old, new = chance.choice(pairs)
        yield old[0], old[1], tear(chance, old[2], new[2], old[1])


def run_recorder(place, seconds):
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "sync": "20ms"})).start()
    sender = Sender(place, listen, 10**9, rate=8000, sizes=(64, 200, 900))
    states = take_states(daemon, int(40 * seconds))
    sender.stop()
    daemon.stop()
    return daemon, states


@core
def test_holdfastctl_recovers_every_durable_record(place):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    daemon, states = run_recorder(place, 4)
    truth = Truth(place, daemon)
    cases = []
    for number, (name, durable, image) in enumerate(torn_images(chance, states, place.scaled(200))):
        folder = place.folder / "images" / str(number)
        folder.mkdir(parents=True)
        (folder / name).write_bytes(image)
        cases.append((folder / name, durable))
    place.run(place.program("holdfastctl"), "recover", *(path for path, _ in cases), expect=None, timeout=120)
    durable_total = 0
    for number, (path, durable) in enumerate(cases):
        result = path.with_name(path.name.replace(".avro.open", ".recovered.avro"))
        what = f"image {number}, {durable} durable bytes"
        recovered = oracle.read_with_avro_c(place, [result]) if result.exists() else []
        durable_total += truth.judge(path.name, durable, recovered, what)
        if result.exists() and number % 20 == 0:
            daemon.ctl("verify", result)
            assert oracle.read_one_with_python_avro(result) == recovered, what
    assert durable_total > 100 * len(cases), "durable offsets in the middle of segments are what this is about"


def test_the_archive_recovers_every_durable_record(place):
    """At the next start, several segments at once; and the numbering goes on behind what came back."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    daemon, states = run_recorder(place, 4)
    truth = Truth(place, daemon)
    for number in range(place.scaled(12)):
        folder = place.folder / f"log-{number}" / "engine"
        folder.mkdir(parents=True)
        durable = {}
        for name, offset, image in torn_images(chance, states, 10):
            if name not in durable:
                durable[name] = offset
                (folder / name).write_bytes(image)
        listen = place.ipv4()
        restarted = Daemon(place, channel("engine", listen, record={}), name=f"again-{number}", log_dir=folder.parent)
        restarted.start()
        mended = {path.name + ".open": path for path in restarted.segments("engine")}
        last = 0
        for name, offset in durable.items():
            recovered = oracle.read_with_avro_c(place, [mended[name]]) if name in mended else []
            truth.judge(name, offset, recovered, f"round {number}, {name}")
            last = max([last] + [record.seq + 1 for record in recovered])
        if mended:
            daemon.ctl("verify", *mended.values(), expect=None)
            assert oracle.read_one_with_python_avro(next(iter(mended.values())))
        Sender(place, listen, 10, name=f"more-{number}").wait()
        restarted.wait_drained("engine", 10)
        assert restarted.status("engine")["log"]["next_seq"] >= last + 10, "no number is given twice"
        restarted.stop()
        shutil.rmtree(folder.parent)


@core
def test_the_sync_interval_is_kept(place):
    """What was recorded becomes durable by itself, also when nothing follows; and not before its time."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "sync": "300ms"}),
                    channel("lazy", place.ipv4(), record={"segment_size": "1M", "sync": "1h"})).start()
    lazy = daemon.config.read_text().split('"lazy"')[1].split('listen = "')[1].split('"')[0]
    for number in range(3):
        Sender(place, listen, 50, name=f"sent-{number}").wait()
        Sender(place, lazy, 50, name=f"lazy-{number}").wait()
        daemon.wait_counter("engine", "recorded", 50 * (number + 1))
        daemon.wait_counter("lazy", "recorded", 50 * (number + 1))
        wait_until(lambda: (lambda log: log["durable_bytes"] == log["committed_bytes"] > 0)(
            daemon.status("engine")["log"]), 5, "everything that is committed to be durable")
    log = daemon.status("lazy")["log"]
    assert log["durable_bytes"] < log["committed_bytes"], "an hour has not passed"
    daemon.stop()


@core
def test_a_count_of_records_is_synced_however_long_the_interval(place):
    """Every 20 records, though `sync` is an hour, and though it is off; not before; and by a successor at once, which
    can't know how many there were."""
    channels = {"hour": ("1h", place.ipv4()), "off": (0, place.ipv4())}
    daemon = Daemon(place, *(channel(name, listen, record={"segment_size": "1M", "sync": sync, "sync_every": 20})
                             for name, (sync, listen) in channels.items()), spare_workers=0).start()

    def is_durable(name):
        log = daemon.status(name)["log"]
        return log["durable_bytes"] == log["committed_bytes"] > 0

    def send(name, count, total, durable):
        Sender(place, channels[name][1], count, name=f"{name}-{total}").wait()
        daemon.wait_counter(name, "recorded", total)
        if durable:
            wait_until(lambda: is_durable(name), 10, "everything that is committed to be durable", interval=0.005)
        else:
            assert not is_durable(name), f"{count} are too few"

    for name in channels:
        for done in (0, 20, 40):
            send(name, 19, done + 19, False)
            send(name, 1, done + 20, True)
        send(name, 7, 67, False)
        kill(daemon.status(name)["pid"])
        daemon.wait_counter(name, "restarts", 1)
        wait_until(lambda name=name: is_durable(name), 10, "the successor to sync what it was left")
        send(name, 19, 86, False)
        send(name, 1, 87, True)
    daemon.stop()


def test_a_successor_makes_durable_what_a_silent_channel_had_recorded(place):
    """The worker dies before its interval has passed, and no datagram follows that would tell its successor."""
    daemon = Daemon(place, channel("engine", (listen := place.ipv4()), record={"segment_size": "1M", "sync": "2s"}),
                    spare_workers=0).start()
    Sender(place, listen, 50).wait()
    daemon.wait_counter("engine", "recorded", 50)
    kill(daemon.status("engine")["pid"])
    daemon.wait_counter("engine", "restarts", 1)
    wait_until(lambda: (lambda log: log["durable_bytes"] == log["committed_bytes"] > 0)(daemon.status("engine")["log"]), 10,
               "everything that is committed to be durable")
    daemon.stop()


def test_workers_that_die_more_often_than_the_interval_make_durable_what_they_record(place):
    """The interval does not begin anew with each of them."""
    interval = 2
    daemon = Daemon(place, channel("engine", (listen := place.ipv4()),
                                   record={"segment_size": "16M", "sync": f"{interval}s"})).start()
    sender = Sender(place, listen, 10**9, rate=1000)
    daemon.wait_counter("engine", "received", 100)
    deaths = 0

    def is_durable_after_another_death():
        nonlocal deaths
        entry = daemon.wait_state("engine", "RUNNING")
        kill(entry["pid"])
        deaths += 1
        daemon.wait_counter("engine", "restarts", deaths)
        return entry["log"]["durable_bytes"] > 0
    wait_until(is_durable_after_another_death, 20, "some of it to be durable", interval=interval / 20)
    sender.stop()
    daemon.stop()


def is_all_durable(daemon):
    log = daemon.status("engine")["log"]
    return log["durable_bytes"] == log["committed_bytes"] > 0


def recording_with_an_end(place, restart, sync, **daemon):
    """A channel that has five records, and whose interval has just begun anew."""
    place.with_hooks()
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, record={"segment_size": "16M", "sync": sync}),
                    head=f"restart {{ {restart} }}", **daemon)
    daemon.start(environment={"HOLDFAST_TEST_CRASH": "relay:POISON"})
    Sender(place, listen, 5).wait()
    daemon.wait_counter("engine", "recorded", 5)
    wait_until(lambda: is_all_durable(daemon), 20, "the interval to begin anew")
    return daemon, listen


def end_it(listen):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        host, _, port = listen.rpartition(":")
        out.sendto(b"POISON", (host, int(port)))


def left_without_a_worker(place, restart, state, **daemon):
    """Recorded within an interval that no worker is there to end."""
    daemon, listen = recording_with_an_end(place, restart, "2s", **daemon)
    Sender(place, listen, 200, name="more", tag=2).wait()
    daemon.wait_drained("engine", 205)
    end_it(listen)
    daemon.wait_state("engine", state)
    return daemon


@core
def test_what_a_channel_had_recorded_that_was_given_up_survives_a_power_cut(place):
    """No worker follows that would sync it."""
    disk = Disk(place)
    daemon = left_without_a_worker(place, "give_up_after = 1", "FAILED", log_dir=disk.where / "log")
    wait_until(lambda: is_all_durable(daemon), 15, "all that was recorded to be durable")
    disk.ioctl(EXT4_IOC_SHUTDOWN, SHUTDOWN_NOW)
    daemon.kill_all()
    place.run("umount", disk.where)
    place.run("mount", "-o", disk.mount_options, disk.image, disk.where)
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()
    assert len(oracle.read_with_python_avro(daemon.segments("engine"))) == 205


@core
def test_what_the_disk_refuses_of_it_is_copied(place):
    """It says so once, and takes for written what it has nowhere; a sync or a seal after that seems to succeed."""
    disk = ThinDisk(place)
    daemon, listen = recording_with_an_end(place, "give_up_after = 1", "2s", log_dir=disk.where / "log")
    disk.exhaust()
    Sender(place, listen, 8000, name="more", rate=20000, tag=2, sizes=(800,)).wait()
    daemon.wait_drained("engine", 8005)
    log = daemon.status("engine")["log"]
    with open(daemon.log_dir / "engine" / log["segment"], "rb") as segment:
        recorded = os.pread(segment.fileno(), log["committed_bytes"], 0)
        end_it(listen)
        daemon.wait_state("engine", "FAILED")
        daemon.wait_for_log("the disk has refused what its last worker has recorded", 20)
        disk.replenish()
        daemon.stop(expect=None)  # 1: a segment could not be sealed while the disk was like that
        daemon.start()
        daemon.wait_state("engine", "RUNNING")
        daemon.stop()
        still_there = os.pread(segment.fileno(), len(recorded), 0) == recorded
    disk.forget()
    found = len(oracle.read_with_python_avro(daemon.segments("engine")))
    if still_there:
        assert found == 8005
    else:  # the kernel may let go of pages that it takes for written, whenever it likes: that is told
        assert found < 8005
        assert "is damaged" in daemon.log_text() and f"its {found} sound records are in" in daemon.log_text(), found


def test_what_was_recorded_becomes_durable_while_the_next_worker_is_waited_for(place):
    daemon = left_without_a_worker(place, 'first_delay = "60s"  max_delay = "60s"', "BACKOFF")
    wait_until(lambda: is_all_durable(daemon), 15, "all that was recorded to be durable")
    assert daemon.status("engine")["state"] == "BACKOFF"
    daemon.stop()


def test_segments_that_were_left_do_not_pile_up_until_the_interval_ends(place):
    """Each of them is a map and a descriptor of the worker."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "sync": "1h"})).start()
    for round_ in range(12):
        Sender(place, listen, 20, name=f"sent-{round_}").wait()
        daemon.wait_counter("engine", "recorded", 20 * (round_ + 1))
        daemon.ctl("rotate", "engine")
    fds = f"/proc/{daemon.status('engine')['pid']}/fd"

    def held():
        return len({link for link in map(lambda fd: os.readlink(f"{fds}/{fd}"), os.listdir(fds)) if ".avro" in link})
    wait_until(lambda: held() <= 8, 10, "the worker to let go of segments that were left")
    daemon.stop()


# ---- across a rotation, while the archive does not get to seal what went before ----

def dirty_pages(segment):
    """Of an open file: what the disk doesn't have (cachestat(2), Linux 6.5)."""
    whole, counts = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SYS_CACHESTAT, segment.fileno(), whole, counts, 0) != 0:
        skip(f"this kernel does not tell which pages are dirty ({os.strerror(ctypes.get_errno())})")
    _cached, dirty, written, _evicted, _recently = counts
    return dirty + written


class Rolling:
    """A channel whose archive stands still across a rotation: nobody but the worker can make durable what it left."""

    def __init__(self, place, sync):
        self.daemon = Daemon(place, channel("engine", (listen := place.ipv4()), record={"segment_size": "1M", "sync": sync}),
                             spare_workers=0).start()
        self.sender = Sender(place, listen, 10**9, rate=1500, sizes=(300,))

    def log(self):
        return self.daemon.status("engine")["log"]

    def roll(self):
        """Returns the segment that was left, open, and lets the archive go on afterwards: call the second."""
        size = 1 << 20

        def half_full():
            """... and what follows is at hand: the archive may stop now."""
            log = self.log()
            return log if size * 0.8 < log["committed_bytes"] < size * 0.9 else None
        name = wait_until(half_full, 60, "a segment that is nearly full", interval=0.005)["segment"]
        left = open(self.daemon.log_dir / "engine" / name, "rb")  # pylint: disable=consider-using-with
        assert dirty_pages(left) is not None
        archive, = self.daemon.helpers()
        freeze(archive)
        wait_until(lambda: self.log()["segment"] != name, 30, "the segment to be left", interval=0.002)
        return left, lambda: kill(archive, signal.SIGCONT)

    def wait_durable(self, left):
        """When anything in the new one is said to be durable, everything in the one before is."""
        wait_until(lambda: self.log()["durable_bytes"] > 0, 20, "the new segment to be durable", interval=0.002)
        assert (dirty := dirty_pages(left)) == 0, f"{dirty} pages of the segment before are not on the disk"

    def end(self):
        self.sender.stop()
        self.daemon.stop()
        oracle.assert_consecutive(oracle.read_with_python_avro(self.daemon.segments("engine")), first=0)


@core
def test_what_was_left_at_a_rotation_is_durable_before_what_follows(place):
    rolling = Rolling(place, "50ms")
    for _ in range(3):
        left, go_on = rolling.roll()
        rolling.wait_durable(left)
        go_on()
        left.close()
    rolling.end()


def test_a_successor_makes_durable_what_was_left_to_it(place):
    """The worker dies right behind the rotation, before its interval has passed; the next one was not given the old
    segment any more."""
    rolling = Rolling(place, "400ms")
    for number in range(2):
        left, go_on = rolling.roll()
        kill(rolling.daemon.status("engine")["pid"])
        wait_until(lambda wanted=number + 1: rolling.daemon.counters("engine")["restarts"] == wanted, 20, "the successor")
        rolling.wait_durable(left)
        go_on()
        left.close()
    rolling.end()
