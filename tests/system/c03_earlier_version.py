# SPDX-License-Identifier: MIT
"""An upgrade from a version whose shared memory was laid out differently, under load: whatever the ring of that version
still held is relayed, decimated and recorded by a worker of this one, and numbers go on."""

import collections
import fcntl
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import comm, freeze, kill, skip, slow, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
EARLIER = "c6f2568f766e4a0c5ab19ff0315c69f2ddbe2afa"
PROGRAMS = ("holdfastd", "holdfast-worker", "holdfastctl")


def git(*words, **how):
    return subprocess.run(["git", "-C", str(ROOT), *words], check=False, **how)


def build_earlier(place):
    """Its programs, built once from this repository's own history."""
    if git("cat-file", "-e", EARLIER + "^{commit}", capture_output=True).returncode != 0:
        skip(f"this clone has no history: {EARLIER[:7]} is missing")
    folder = place.build / "earlier" / EARLIER
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        make_earlier(folder)
    return folder / "build" / "bin"


def make_earlier(folder):
    if not all((folder / "build" / "bin" / name).exists() for name in PROGRAMS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        archive = git("archive", EARLIER, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        subprocess.run(["make", "-C", str(folder), "-j2", "programs"], check=True, capture_output=True)


class Upgraded(Daemon):
    """Starts as the earlier version; its programs are replaced where they lie, as a package does it."""

    def install(self, source):
        for name in PROGRAMS:
            shutil.copy(source / name, self.bin / (name + ".new"))
            (self.bin / (name + ".new")).rename(self.bin / name)

    def start_earlier(self):
        self.bin = self.place.folder / "bin"
        self.bin.mkdir()
        self.install(build_earlier(self.place))
        present, self.place.program = self.place.program, (
            lambda name: str(self.bin / name) if name in PROGRAMS else present(name))
        self.start()
        return pathlib.Path(present("holdfastd")).parent


def scene(place, segment_size="16M"):
    listen, outlet, slow_outlet = place.ipv4(), place.ipv4(), place.ipv4()
    sinks = Sink(place, outlet), Sink(place, slow_outlet, name="decimated")
    daemon = Upgraded(place, channel("engine", listen, relays={"display": outlet},
                                     decimates={"slow": {"to": slow_outlet, "keep_every": 5}},
                                     record={"segment_size": segment_size}))
    return daemon, listen, sinks


def judge(place, daemon, sender, sinks):
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == counters["recorded"] == len(sent), counters
    assert counters["kernel_dropped"] == 0 and counters["decimated"] == len(sent) // 5, counters
    sinks[0].wait_received(len(sent))
    daemon.stop()
    for sink in sinks:
        sink.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sinks[0].record)[0], "relayed")


@slow
def test_an_upgrade_under_load_loses_nothing(place):
    daemon, listen, sinks = scene(place)
    present = daemon.start_earlier()
    sender = Sender(place, listen, 10**9, rate=place.scaled(20000), sizes=(64, 200, 800))
    daemon.wait_counter("engine", "received", place.scaled(10000))
    before = daemon.status("engine")
    daemon.install(present)
    daemon.disconnect()
    daemon.ctl("upgrade")
    after = daemon.wait_state("engine", "RUNNING")
    assert after["generation"] > before["generation"]
    assert after["log"]["segment"] == before["log"]["segment"], "the same segment goes on"
    daemon.wait_counter("engine", "received", after["counters"]["received"] + place.scaled(10000))
    for _ in range(3):  # the new ring is taken over like any other
        pid = daemon.wait_state("engine", "RUNNING")["pid"]
        kill(pid)
        wait_until(lambda was=pid: daemon.status("engine")["pid"] not in (None, was), 20, "a successor")
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING")
    assert "taken for" not in daemon.log_text() and "can't be trusted" not in daemon.log_text(), daemon.log_text()
    sender.stop()
    judge(place, daemon, sender, sinks)


Filled = collections.namedtuple("Filled", "daemon present sinks sender processes")


def fill_old_ring(place):
    """The archive stands still, and the recorder has no room: 10,000 datagrams were received, thousands of them are in
    the ring alone."""
    daemon, listen, sinks = scene(place, segment_size="1M")
    present = daemon.start_earlier()
    worker = daemon.status("engine")["pid"]
    others = wait_until(lambda: (lambda pids: pids if len(pids) == 2 else None)(daemon.helpers()), 10, "archive and spare")
    freeze(others[0])
    sender = Sender(place, listen, 10000, rate=place.scaled(20000), sizes=(800,))
    sender.wait()
    daemon.wait_counter("engine", "received", 10000)
    assert daemon.status("engine")["ring"]["pending"] > 5000
    return Filled(daemon, present, sinks, sender, {*others, worker})


@slow
def test_what_only_the_old_ring_holds_is_not_lost(place):
    daemon, present, sinks, sender, _ = fill_old_ring(place)
    daemon.install(present)
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING", 30)
    judge(place, daemon, sender, sinks)


def upgrade_to(daemon, present, text):
    assert daemon.config.read_text() != text
    daemon.config.write_text(text)
    daemon.install(present)
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING", 30)
    daemon.disconnect()


def judge_changed_list(place, daemon, sinks):
    """Everything that waited is recorded, and what was sent stays in the ledger, whoever it was sent to."""
    daemon.wait_drained("engine", 10000)
    counters = daemon.counters("engine")
    assert counters["received"] == counters["recorded"] == 10000, counters
    assert counters["relayed"] == 10000 and counters["decimated"] == 2000, counters
    daemon.stop()
    for sink in sinks:
        sink.stop()
    assert "can't be trusted" not in daemon.log_text() and "can't trust" not in daemon.log_text(), daemon.log_text()
    oracle.assert_consecutive(oracle.read_with_avro_c(place, daemon.segments("engine")), first=0)


@slow
def test_a_relay_that_is_added_with_the_program_costs_no_record(place):
    daemon, present, sinks, *_ = fill_old_ring(place)
    extra = f'relay "extra" {{ to = "{place.ipv4()}" }}\n  relay "display"'
    upgrade_to(daemon, present, daemon.config.read_text().replace('relay "display"', extra))
    judge_changed_list(place, daemon, sinks)


@slow
def test_a_destination_of_another_kind_costs_no_record(place):
    """As many as before."""
    daemon, present, sinks, *_ = fill_old_ring(place)
    text = daemon.config.read_text()
    upgrade_to(daemon, present, re.sub(r'\n *keep_every = 5', "", text).replace('decimate "slow"', 'relay "slow"'))
    judge_changed_list(place, daemon, sinks)


RELAY_TRUNCATED = (0x150, 0x170)  # a counter in either slot of the relay, in memory of version 1


@slow
def test_what_waits_in_an_old_ring_that_is_refused_is_counted(place):
    daemon, present, *_ = fill_old_ring(place)
    ring = next(fd for fd in pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()
                if "memfd:holdfast:engine" in str(fd.readlink()))
    with open(ring, "r+b", buffering=0) as memory:
        for at in RELAY_TRUNCATED:
            memory.seek(at)
            memory.write(b"\x77")
    upgrade_to(daemon, present, daemon.config.read_text() + "\n")
    assert "can't trust the ring" in daemon.log_text(), daemon.log_text()
    counters = daemon.counters("engine")
    assert counters["received"] == 10000 == counters["recorded"] + counters["record_lost"], counters
    assert counters["record_lost"] > 5000, counters
    daemon.stop(expect=None)


def died_early(daemon):
    """Workers of the present version that never were READY."""
    lines = daemon.log_text().partition("executing ")[2].splitlines()
    return sum("engine: STARTING -> " in line and "was killed" in line for line in lines)


@slow
def test_workers_that_die_while_they_bring_it_over(place):
    """Before they are READY, at any instruction: the next one begins the copy again from what only the old ring has."""
    daemon, present, sinks, sender, processes = fill_old_ring(place)
    daemon.install(present)
    daemon.disconnect()
    upgrade = threading.Thread(target=daemon.ctl, args=("upgrade",), kwargs={"expect": None})
    upgrade.start()
    daemon.wait_for_log("executing")
    chance, killed = random.Random(4), set(processes)
    while len(killed) < 60 and died_early(daemon) < 5:  # archive and spares die as well
        for pid in {pid for pid in daemon.descendants() if comm(pid) == "holdfast-worker"} - killed:
            time.sleep(chance.random() * 0.004)  # into its life, not into a state
            kill(pid)
            killed.add(pid)
    upgrade.join()
    assert died_early(daemon) >= 3, "too few died before they were READY"
    daemon.wait_state("engine", "RUNNING", 30)
    judge(place, daemon, sender, sinks)


@slow
def test_a_new_address_together_with_the_upgrade_is_a_new_count_of_drops(place):
    """What the new socket drops is counted, beside what the old one did, and the first datagram from it says that nobody
    was receiving there before."""
    listen, other, outlet = place.ipv4(), place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Upgraded(place, channel("engine", listen, relays={"display": outlet}, record={}, receive_buffer="128K"))
    present = daemon.start_earlier()
    before = flood(place, daemon, listen, 3001, "first")
    daemon.config.write_text(daemon.config.read_text().replace(listen, other))
    daemon.install(present)
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING", 30)
    after = flood(place, daemon, other, 6002, "second")
    assert after["kernel_dropped"] > before["kernel_dropped"] > 0, (before, after)
    daemon.stop()
    sink.stop()
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    assert [record.seq for record in records if record.flags & 2] == [before["received"]]


def flood(place, daemon, listen, expected, name):
    """More than the socket holds while its worker stands still, and one datagram which tells of it."""
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    freeze(worker)
    Sender(place, listen, 3000, name=name, rate=0, sizes=(400,)).wait()
    kill(worker, signal.SIGCONT)
    wait_until(lambda: queued_bytes(listen) == 0, 10, "the worker to take all that is queued")
    Sender(place, listen, 1, name=name + " after", rate=0).wait()

    def all_told():
        counters = daemon.counters("engine")
        return counters if counters["received"] + counters["kernel_dropped"] == expected else None
    return wait_until(all_told, 20, f"{expected} datagrams to be received or counted as dropped")


def queued_bytes(address):
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    rows = [line.split() for line in pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(port))
