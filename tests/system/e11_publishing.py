# SPDX-License-Identifier: MIT
"""Programs write into a channel without UDP. Whatever is killed meanwhile, what they have committed is recorded once, in
each one's order; and what they have not is nowhere."""

import random
import time

from lib import oracle
from lib.holdfast import Daemon, Sink, channel
from lib.place import alone, core, kill, skip, wait_until
from lib.publishing import Publisher, assert_all_there, is_root, recorded
from lib.reading import Reader, assert_in_order, assert_same_as_log, gate_of

OPEN_TO_ALL = 'read { mode = "0666" } '
EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" } '


def start_daemon(place, head="", record=None, publishers='{ outbox_size = "256K" }', **settings):
    text = channel("engine", "local:engine", record={"segment_size": "4M", **(record or {})}, **settings)
    text = text.replace("\n", f"\n  publishers {publishers}\n", 1)
    return Daemon(place, text, head=OPEN_TO_ALL + head).start()


def drained(daemon):
    """Everything that was committed is recorded."""
    def is_drained():
        entry = daemon.status("engine")
        return (entry["state"] == "RUNNING" and entry["ring"]["pending"] == 0 and
                all(one["waiting_bytes"] == 0 for one in entry["publishers"]["list"]))
    wait_until(is_drained, 60, "outboxes and ring to be empty")


def end_of(daemon, publishers):
    for publisher in publishers:
        if publisher.process.poll() is None:
            publisher.stop()
    wait_until(lambda: not daemon.status("engine")["publishers"]["list"], 30, "the publishers' places to be free")
    drained(daemon)


@core
def test_two_publish_and_everybody_gets_it(place):
    outlet, slow = place.ipv4(), place.ipv4()
    sink = Sink(place, [outlet, slow])
    daemon = start_daemon(place, relays={"out": outlet}, decimates={"slow": {"to": slow, "keep_every": 5}})
    reader = Reader(place, daemon, "joined")
    publishers = [Publisher(place, daemon, name, count=place.scaled(3000), rate=place.scaled(10000), durable=True,
                            sizes="40,64,300,2048") for name in ("one", "two")]
    said = [publisher.wait() for publisher in publishers]
    assert all(one["durable"] == 0 for one in said), said
    end_of(daemon, publishers)
    total = sum(publisher.counts()[0] for publisher in publishers)
    daemon.wait_drained("engine", total)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["received"] == counters["recorded"] == total and counters["kernel_dropped"] == 0, counters
    reader.wait_next(total)
    reader.stop()
    daemon.stop()
    sink.stop()
    records = recorded(place, daemon)
    payloads = [record.payload for record in records]
    assert_all_there(publishers, payloads)
    sources = {record.source for record in records}
    assert len(sources) == 2 and all(source.startswith("local:") and source.endswith("/tool_publisher"[:15])
                                     for source in sources), sources
    assert_in_order(reader, first=0)
    assert_same_as_log(reader, records)
    caught = oracle.read_datagrams(sink.record)
    oracle.assert_at_least_once(payloads, caught[0], "relayed")
    oracle.assert_at_least_once(payloads[4::5], caught[1], "decimated")


@core
@alone
def test_workers_gates_and_publishers_are_killed(place):
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    daemon = start_daemon(place, EAGER)
    publishers = [Publisher(place, daemon, name, rate=place.scaled(8000), sizes="40,64,300,1000")
                  for name in ("one", "two")]
    deaths, generation, gates = 0, None, set()
    while deaths < place.scaled(500):
        time.sleep(chance.random() * 0.02)  # the random instant itself, not a wait for anything
        what = chance.random()
        if what < 0.6:
            entry = daemon.status("engine")
            if entry["pid"] and entry["generation"] != generation:
                generation = entry["generation"]
                kill(entry["pid"])
                deaths += 1
        elif what < 0.7:
            gate = gate_of(daemon)
            if gate and gate not in gates:
                gates.add(gate)
                kill(gate)
                deaths += 1
        else:
            victim = chance.choice(publishers)
            victim.kill()
            committed, about = victim.settle()
            if about != committed:  # only the log can tell: its numbers go on behind it
                victim.account.write_bytes(about.to_bytes(8, "little") * 2)
                victim.unsure = getattr(victim, "unsure", set()) | {committed}
            wait_until(lambda: gate_of(daemon), 30, "a gate")
            victim.begin()
            deaths += 1
    end_of(daemon, publishers)
    daemon.stop()
    payloads = [record.payload for record in recorded(place, daemon)]
    judge_storm(publishers, payloads)
    print(f"{len(payloads)} datagrams, {deaths} deaths, {len(gates)} of gates")


def judge_storm(publishers, payloads):
    found = {publisher.name: [] for publisher in publishers}
    for payload in payloads:
        name, number, _ = payload.split(b" ", 2)
        found[name.decode()].append(int(number))
    for publisher in publishers:
        numbers, committed = found[publisher.name], publisher.counts()[0]
        unsure = getattr(publisher, "unsure", set())
        missing = set(range(committed)) - set(numbers)
        assert missing <= unsure, f"{publisher.name}: missing {sorted(missing - unsure)[:10]}"
        assert len(numbers) == len(set(numbers)), f"{publisher.name}: some came twice"
        assert numbers == sorted(numbers), f"{publisher.name}: out of order"
        assert max(numbers) < publisher.counts()[1]


class Steps:
    def __init__(self, place, daemon):
        self.place, self.daemon = place, daemon

    def tool(self, *words, **options):
        return self.place.run(self.place.program("tool_page"), self.daemon.process.pid, "engine", *words, **options)

    def kill_at(self, step):
        before = self.daemon.wait_state("engine", "RUNNING")
        self.tool("stop-at", step)
        assert self.tool("wait-stopped", step, 20000, expect=None).returncode == 0, f"no worker came to {step}"
        kill(before["pid"])
        wait_until(lambda: (lambda entry: entry["state"] == "RUNNING" and entry["generation"] > before["generation"])(
            self.daemon.status("engine")), 20, f"a successor after a death at {step}")


def test_a_death_behind_every_step_loses_nothing(place):
    place.with_hooks()
    daemon = start_daemon(place, EAGER, relays={"out": place.ipv4()})
    steps = Steps(place, daemon)
    publishers = [Publisher(place, daemon, name, rate=2000, sizes="40,64,300") for name in ("one", "two")]
    names = [name for name in steps.tool("steps").stdout.split() if name.startswith("intake_")]
    assert len(names) == 5
    for _ in range(6):
        for name in names + ["relay_sent", "record_encoded"]:
            steps.kill_at(name)
    end_of(daemon, publishers)
    daemon.stop()
    assert_all_there(publishers, [record.payload for record in recorded(place, daemon)])


@core
def test_upgrades_restarts_and_stops_under_load(place):
    """Publishers stay as they are: over an upgrade, a restart, a stop and a start of their channel."""
    daemon = start_daemon(place)
    publishers = [Publisher(place, daemon, name, rate=place.scaled(10000), sizes="40,300") for name in ("one", "two")]
    pids = [publisher.process.pid for publisher in publishers]
    for verb in (["restart", "engine"], ["upgrade"], ["stop", "engine"], ["start", "engine"], ["upgrade"]):
        before = [publisher.counts()[0] for publisher in publishers]
        if verb[0] == "upgrade":
            daemon.disconnect()
        daemon.ctl(*verb)
        if verb[0] == "stop":
            continue
        daemon.wait_state("engine", "RUNNING", 30)
        for publisher, count in zip(publishers, before):
            publisher.wait_committed(count + place.scaled(2000))
    assert [publisher.process.pid for publisher in publishers] == pids
    end_of(daemon, publishers)
    daemon.stop()
    assert_all_there(publishers, [record.payload for record in recorded(place, daemon)])


def test_a_ring_of_another_size_comes_with_an_upgrade(place):
    daemon = start_daemon(place, ring_size="2M")
    publishers = [Publisher(place, daemon, name, rate=place.scaled(10000), sizes="40,300") for name in ("one", "two")]
    for size in ("4M", "1M"):
        before = [publisher.counts()[0] for publisher in publishers]
        daemon.config.write_text(daemon.config.read_text().replace('ring_size = "2M"', f'ring_size = "{size}"'))
        daemon.disconnect()
        daemon.ctl("upgrade")
        daemon.wait_state("engine", "RUNNING", 30)
        for publisher, count in zip(publishers, before):
            publisher.wait_committed(count + place.scaled(2000))
    end_of(daemon, publishers)
    daemon.stop()
    assert_all_there(publishers, [record.payload for record in recorded(place, daemon)])


def test_the_daemon_is_stopped_and_started(place):
    """What was committed and not taken is carried over into the next daemon's outbox."""
    daemon = start_daemon(place)
    publishers = [Publisher(place, daemon, name, rate=place.scaled(10000), sizes="40,300") for name in ("one", "two")]
    for _ in range(4):
        before = [publisher.counts()[0] for publisher in publishers]
        daemon.stop()
        daemon.start()
        daemon.wait_state("engine", "RUNNING")
        for publisher, count in zip(publishers, before):
            publisher.wait_committed(count + place.scaled(3000))
    end_of(daemon, publishers)
    daemon.stop()
    assert_all_there(publishers, [record.payload for record in recorded(place, daemon)])


def test_a_full_outbox_waits(place):
    """The recorder stands still: publishers wait, nothing is lost, and everything goes on by itself."""
    daemon = start_daemon(place, ring_size="256K", max_datagram=1024)
    worker = daemon.status("engine")["pid"]
    publisher = Publisher(place, daemon, "one", sizes="1000")
    publisher.wait_committed(1000)
    kill(worker, 19)  # SIGSTOP
    wait_until(lambda: daemon.status("engine")["publishers"]["list"][0]["waiting_bytes"] > 200 * 1024, 20, "a full box")
    before = publisher.counts()[0]
    kill(worker, 18)
    publisher.wait_committed(before + 2000)
    end_of(daemon, [publisher])
    daemon.stop()
    assert_all_there([publisher], [record.payload for record in recorded(place, daemon)])


def test_what_an_orderly_end_has_recorded_is_durable(place):
    """Whoever waits for the disk learns at a stop that everything is there, though no sync came any more."""
    daemon = start_daemon(place, record={"sync": "1h"})
    publisher = Publisher(place, daemon, "one", count=500, durable=True)
    publisher.wait_committed(500)
    daemon.wait_drained("engine", 500)
    daemon.stop()
    assert publisher.wait()["durable"] == 0
    assert_all_there([publisher], [record.payload for record in recorded(place, daemon)])


def test_one_user_leaves_places_to_others(place):
    """Three quarters at most; root and the daemon's own user are no such user."""
    if not is_root():
        skip("only root can be two users")
    daemon = start_daemon(place, publishers="{ most = 4 }")
    others = [Publisher(place, daemon, f"other{number}", user=54321, rate=10) for number in range(3)]
    refused = place.run(place.program("holdfastctl"), "--socket", str(daemon.socket), "publish", "engine",
                        user=54321, expect=None, input="")
    assert refused.returncode == 1 and "three quarters" in refused.stderr, refused
    own = Publisher(place, daemon, "own", rate=10)
    end_of(daemon, others + [own])
    daemon.stop()
