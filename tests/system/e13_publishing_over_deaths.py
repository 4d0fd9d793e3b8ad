# SPDX-License-Identifier: MIT
"""Supervisors die while programs publish, rings are refused, and the configuration is another one afterwards. With a store
publishers go on into the same outboxes, and what they committed is recorded once; whatever else happens, nothing is recorded
twice or out of order, and what can't be continued is told."""

import collections
import random
import time

from lib import oracle
from lib.holdfast import Daemon, channel
from lib.place import alone, core, freeze, kill, wait_until
from lib.publishing import Publisher, assert_all_there, by_publisher, recorded
from lib.store import StoredDaemon

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" } '
RECORD = {"segment_size": "4M"}


def engine(publishers='{ outbox_size = "256K" most = 4 }', listen="local:engine", record=RECORD, **settings):
    text = channel("engine", listen, record=record, **settings)
    return text.replace("\n", f"\n  publishers {publishers}\n", 1) if publishers else text


def make(place, kind, text, head=EAGER):
    return kind(place, text, head='read { mode = "0666" } ' + head, spare_workers=1)


def reconfigure(daemon, before, after):
    text = daemon.config.read_text()
    assert before in text, text
    daemon.config.write_text(text.replace(before, after))


def begin(place, daemon, names=("one", "two"), **options):
    return [Publisher(place, daemon, name, rate=place.scaled(8000), sizes="40,64,300,1000", **options) for name in names]


def get_on(place, publishers):
    before = [publisher.counts()[0] for publisher in publishers]
    for publisher, count in zip(publishers, before):
        publisher.wait_committed(count + place.scaled(2000))


def end(daemon, publishers):
    daemon.wait_state("engine", "RUNNING", 30)
    for publisher in publishers:
        if publisher.process.poll() is None:
            publisher.stop()
    wait_until(lambda: not daemon.status("engine")["publishers"]["list"], 30, "the publishers' places to be free")
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 60, "the ring to be recorded")
    daemon.stop()


def end_all_there(place, daemon, publishers):
    end(daemon, publishers)
    assert_all_there(publishers, [record.payload for record in recorded(place, daemon)])


def judge_order(publishers, payloads):
    """Nothing twice, nothing out of order. Returns how many of each are missing."""
    found, missing = by_publisher(payloads), {}
    for publisher in publishers:
        numbers = found[publisher.name]
        twice = [number for number, count in collections.Counter(numbers).items() if count > 1]
        assert not twice, f"{publisher.name}: {len(twice)} came twice: {twice[:10]}"
        assert numbers == sorted(numbers), f"{publisher.name}: out of order"
        missing[publisher.name] = sorted(set(range(publisher.counts()[0])) - set(numbers))
    return missing


# ---- the supervisor dies ----

@core
@alone
def test_with_a_store_they_go_on_into_the_same_outboxes(place):
    daemon = make(place, StoredDaemon, engine())
    daemon.start_stored()
    publishers = begin(place, daemon)
    for turn in range(10):
        get_on(place, publishers)
        time.sleep(random.random() * 0.02)  # the random instant itself, not a wait for anything
        below = daemon.die_alone()
        for pid in below if turn % 2 else ():
            kill(pid)
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING", 30)
    get_on(place, publishers)
    assert daemon.log_text().count("user 0) publishes") == 2, "nobody had to be lent another one"
    end_all_there(place, daemon, publishers)


@core
@alone
def test_without_a_store_workers_commit_and_publishers_come_again(place):
    daemon = make(place, Daemon, engine())
    daemon.start()
    publishers = begin(place, daemon)
    for _ in range(10):
        get_on(place, publishers)
        daemon.disconnect()
        kill(daemon.process.pid)
        daemon.process.wait(10)
        daemon.start()
        daemon.wait_state("engine", "RUNNING", 30)
    get_on(place, publishers)
    end(daemon, publishers)
    missing = judge_order(publishers, [record.payload for record in recorded(place, daemon)])
    print({name: len(numbers) for name, numbers in missing.items()}, "missing")
    assert not any(missing.values()), {name: numbers[:5] for name, numbers in missing.items()}


@alone
def test_without_a_store_and_all_killed_only_the_ring_is_missing(place):
    daemon = make(place, Daemon, engine())
    daemon.start()
    publishers = begin(place, daemon)
    for _ in range(10):
        get_on(place, publishers)
        daemon.kill_all()
        daemon.start()
        daemon.wait_state("engine", "RUNNING", 30)
    get_on(place, publishers)
    end(daemon, publishers)
    missing = judge_order(publishers, [record.payload for record in recorded(place, daemon)])
    print({name: len(numbers) for name, numbers in missing.items()}, "were in the ring only")


# ---- another configuration ----

def upgrade(daemon):
    daemon.disconnect()
    daemon.ctl("upgrade")
    daemon.wait_state("engine", "RUNNING", 30)


def test_another_outbox_size_is_for_the_next_ones(place):
    daemon = make(place, Daemon, engine()).start()
    publishers = begin(place, daemon)
    get_on(place, publishers)
    reconfigure(daemon, '"256K"', '"64K"')
    upgrade(daemon)
    get_on(place, publishers)
    end_all_there(place, daemon, publishers)


def test_max_datagram_is_lowered_and_raised(place):
    daemon = make(place, Daemon, engine(max_datagram=4096)).start()
    publishers = begin(place, daemon)
    for before, after in ((4096, 2048), (2048, 8192), (8192, 1500)):
        get_on(place, publishers)
        reconfigure(daemon, f"max_datagram = {before}", f"max_datagram = {after}")
        upgrade(daemon)
    get_on(place, publishers)
    assert daemon.log_text().count("can't be continued: its publisher") >= 2
    end_all_there(place, daemon, publishers)


def test_fewer_places_than_publishers(place):
    """Those that have none are told so; what they had committed and nobody had taken stays theirs."""
    daemon = make(place, Daemon, engine()).start()
    publishers = begin(place, daemon, ("one", "two", "three"))
    get_on(place, publishers)
    reconfigure(daemon, "most = 4", "most = 2")
    upgrade(daemon)
    gone = wait_until(lambda: [publisher for publisher in publishers if publisher.process.poll() is not None], 30,
                      "one to give up")
    assert len(gone) == 1 and "hf_reserve" in gone[0].log.read_text(), gone[0].log.read_text()
    assert "publishers { most = 2 }" in daemon.log_text()
    get_on(place, [publisher for publisher in publishers if publisher not in gone])
    end(daemon, publishers)
    missing = judge_order(publishers, [record.payload for record in recorded(place, daemon)])
    assert all(not numbers or name == gone[0].name for name, numbers in missing.items()), missing


def away_and_back(place, away, back):
    """The channel can't be published to for a while; programs that are told so begin anew when it can."""
    daemon = make(place, Daemon, engine()).start()
    publishers = begin(place, daemon)
    get_on(place, publishers)
    original = daemon.config.read_text()
    daemon.config.write_text(away(original))
    daemon.disconnect()
    daemon.ctl("upgrade")
    for publisher in publishers:
        wait_until(lambda one=publisher: one.process.poll() is not None, 30, "the publishers to be told")
    daemon.config.write_text(back(original))
    upgrade(daemon)
    for publisher in publishers:
        committed, about = publisher.settle()
        if about != committed:
            publisher.account.write_bytes(about.to_bytes(8, "little") * 2)
        publisher.start()
    get_on(place, publishers)
    end(daemon, publishers)
    missing = judge_order(publishers, [record.payload for record in recorded(place, daemon)])
    print({name: len(numbers) for name, numbers in missing.items()}, "stayed with programs that gave up")


def test_it_becomes_udp_and_local_again(place):
    listen = place.ipv4()
    away = engine(publishers=None, listen=listen)
    away_and_back(place, lambda text: text.replace(engine(), away), lambda text: text)


def test_it_is_removed_and_comes_back(place):
    other = channel("other", place.ipv4(), record=RECORD)
    away_and_back(place, lambda text: text.replace(engine(), other), lambda text: text)


def test_it_stops_recording_and_records_again(place):
    daemon = make(place, Daemon, engine()).start()
    publishers = begin(place, daemon)
    get_on(place, publishers)
    original = daemon.config.read_text()
    daemon.config.write_text(original.replace(engine(), engine(record=None, relays={"out": place.ipv4()})))
    upgrade(daemon)
    get_on(place, publishers)
    daemon.config.write_text(original)
    upgrade(daemon)
    get_on(place, publishers)
    end(daemon, publishers)
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    missing = judge_order(publishers, [record.payload for record in records])
    for name, numbers in missing.items():
        assert numbers and numbers == list(range(numbers[0], numbers[-1] + 1)), f"{name}: missing at more than one place"


# ---- deaths between two steps, and another configuration behind them ----

def page(place, daemon, *words, **options):
    return place.run(place.program("tool_page"), daemon.process.pid, "engine", *words, **options)


def die_at(place, daemon, step):
    page(place, daemon, "stop-at", step)
    page(place, daemon, "wait-stopped", step, 20000)
    for pid in daemon.die_alone():
        kill(pid)


def over_a_death_at(place, step, before, after):
    place.with_hooks()
    daemon = make(place, StoredDaemon, engine(max_datagram=4096))
    daemon.start_stored()
    publishers = begin(place, daemon)
    for turn in range(4):
        get_on(place, publishers)
        die_at(place, daemon, step)
        reconfigure(daemon, *((before, after) if turn % 2 == 0 else (after, before)))
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING", 30)
    get_on(place, publishers)
    end_all_there(place, daemon, publishers)


def test_shorter_datagrams_behind_a_batch_that_was_just_taken(place):
    over_a_death_at(place, "intake_taken", "max_datagram = 4096", "max_datagram = 2048")


def test_shorter_datagrams_behind_a_batch_that_was_just_published(place):
    over_a_death_at(place, "intake_published", "max_datagram = 4096", "max_datagram = 2048")


def test_another_ring_size_behind_a_batch_that_was_just_taken(place):
    over_a_death_at(place, "intake_taken", "max_datagram = 4096", 'max_datagram = 4096\n  ring_size = "1M"')


def not_for_them_for_a_while(place, away):
    """Everything dies when a batch was just taken. The next supervisor has no outboxes, or fewer; the one after it has, and
    programs that have waited carry over what is theirs."""
    place.with_hooks()
    daemon = make(place, StoredDaemon, engine())
    daemon.start_stored()
    publishers = begin(place, daemon, patient=True)
    original = daemon.config.read_text()
    for _ in range(3):
        get_on(place, publishers)
        die_at(place, daemon, "intake_taken")
        daemon.config.write_text(away(original))
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING", 30)
        daemon.die()
        daemon.config.write_text(original)
        daemon.start_stored()
        daemon.wait_state("engine", "RUNNING", 30)
    get_on(place, publishers)
    end_all_there(place, daemon, publishers)


def test_fewer_places_behind_a_batch_that_was_just_taken(place):
    not_for_them_for_a_while(place, lambda text: text.replace("most = 4", "most = 1"))


def test_udp_behind_a_batch_that_was_just_taken(place):
    away = engine(publishers=None, listen=place.ipv4())
    not_for_them_for_a_while(place, lambda text: text.replace(engine(), away))


# ---- rings that are refused ----

ONE_BATCH_EACH = 5 * 256  # of five deaths, where a worker died between taking a batch and telling its publishers

def refused_over(place, words, step=None):
    """Their worker dies and its successor refuses what it finds: with a fresh ring everybody goes on."""
    if step:
        place.with_hooks()
    daemon = make(place, Daemon, engine())
    daemon.start()
    publishers = begin(place, daemon)
    twice = 0
    for _ in range(5):
        get_on(place, publishers)
        before = daemon.status("engine")
        if step:
            page(place, daemon, "stop-at", step)
            page(place, daemon, "wait-stopped", step, 20000)
        else:
            freeze(before["pid"])
        for word, bit in words:
            page(place, daemon, "flip", word, bit)
        kill(before["pid"])
        wait_until(lambda last=before: (lambda now: now["state"] == "RUNNING" and now["generation"] > last["generation"])(
            daemon.status("engine")), 30, "a successor")
    get_on(place, publishers)
    assert daemon.log_text().count("can't trust the ring") == 5, "each was told"
    assert len(daemon.status("engine")["publishers"]["list"]) == 2
    end(daemon, publishers)
    found = by_publisher([record.payload for record in oracle.read_with_avro_c(place, daemon.segments("engine"))])
    lost = 0
    for publisher in publishers:
        numbers = found[publisher.name]
        twice += len(numbers) - len(set(numbers))
        assert list(dict.fromkeys(numbers)) == sorted(set(numbers)), "out of order"
        lost += len(set(range(publisher.counts()[0])) - set(numbers))
    print(f"{lost} were in the ring only, {twice} came twice")
    return twice


def test_the_present_slot_is_damaged(place):
    assert refused_over(place, [("taken", 3)]) <= ONE_BATCH_EACH


def test_both_slots_are_damaged(place):
    assert refused_over(place, [("taken", 3), ("taken-before", 5)]) <= ONE_BATCH_EACH


def test_published_is_damaged(place):
    """How far everybody's outbox is taken, its slot knows."""
    assert refused_over(place, [("published", 40)]) == 0


def test_slots_are_damaged_when_a_batch_was_just_published(place):
    """Who has taken it can't be known any more."""
    assert refused_over(place, [("taken", 3), ("taken-before", 5)], "intake_published") <= ONE_BATCH_EACH
