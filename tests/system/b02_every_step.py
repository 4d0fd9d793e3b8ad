# SPDX-License-Identifier: MIT
"""A worker is stopped right behind each step of a datagram's way (common/steps.def), killed there, and its successor
must have lost nothing: every step, several times, under load."""

import os

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import kill, wait_until

EAGER = 'restart { healthy_after = "1ms"  first_delay = "1ms"  max_delay = "20ms" }'
ROUNDS = 3
ONLY_IN_TROUBLE = {"lap_skipped", "disk_refused", "fail_committed"}
OF_PUBLISHERS = "intake_"  # a channel with a socket never comes there: e11_publishing


class Steps:
    def __init__(self, place, daemon, name):
        self.place, self.daemon, self.name = place, daemon, name

    def tool(self, *words, **options):
        return self.place.run(self.place.program("tool_page"), self.daemon.process.pid, self.name, *words, **options)

    def all(self):
        return self.tool("steps").stdout.split()

    def kill_at(self, step):
        """Returns once the worker that stopped behind this step is dead and its successor runs."""
        before = self.daemon.wait_state(self.name, "RUNNING")
        self.tool("stop-at", step)
        stopped = self.tool("wait-stopped", step, 20000, expect=None).returncode
        assert stopped == 0, f"no worker came to the step {step}"
        kill(before["pid"])
        wait_until(lambda: (lambda entry: entry["state"] == "RUNNING" and entry["generation"] > before["generation"])(
            self.daemon.status(self.name)), 20, f"a successor after a death at {step}")


def test_a_death_behind_every_step_loses_nothing(place):
    place.with_hooks()
    listen, outlets, slow = place.ipv4(), [place.ipv4(), place.ipv4()], place.ipv4()
    sink = Sink(place, outlets + [slow])
    daemon = Daemon(place, channel("engine", listen, relays={"one": outlets[0], "two": outlets[1]},
                                   decimates={"slow": {"to": slow, "keep_every": 7}},
                                   record={"segment_size": "1M"}), head=EAGER, spare_workers=2).start()
    steps = Steps(place, daemon, "engine")
    sender = Sender(place, listen, 10**9, rate=3000, sizes=(64, 64, 300, 0, 64))
    names = [name for name in steps.all() if name not in ONLY_IN_TROUBLE and not name.startswith(OF_PUBLISHERS)]
    assert len(names) >= 19
    for _ in range(ROUNDS):
        for name in names:
            if name.startswith("roll"):
                daemon.call("rotate", {"channel": "engine"})
            steps.kill_at(name)
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    entry = daemon.status("engine")
    counters = oracle.assert_ledger(entry)
    assert counters["received"] == counters["recorded"] == len(sent), counters
    assert counters["kernel_dropped"] == counters["record_lost"] == 0, counters
    assert counters["restarts"] == ROUNDS * len(names)
    daemon.stop()
    sink.stop()

    files = daemon.segments("engine")
    assert len(files) >= ROUNDS and not daemon.segments("engine", ".avro.open")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    assert [record.payload for record in records] == sent, "the log has every datagram once, in the order of sending"
    caught = oracle.read_datagrams(sink.record)
    for index in (0, 1):
        oracle.assert_at_least_once(sent, caught[index], f"relay {index}")
    oracle.assert_at_least_once([payload for seq, payload in enumerate(sent) if seq % 7 == 6], caught[2], "decimated")


def test_a_death_while_giving_up_a_segment(place):
    """A segment fails (its file was cut by one byte, behind all records), and the worker dies before it can say so. The
    successor is handed that segment: what was recorded in it must survive, and nothing be recorded twice."""
    place.with_hooks()
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, record={"segment_size": "4M"}),
                    head=EAGER).start()
    steps = Steps(place, daemon, "engine")
    sender = Sender(place, listen, 10**9, rate=1000, sizes=(200,))
    for _ in range(3):
        daemon.wait_counter("engine", "recorded", daemon.counters("engine")["recorded"] + 500)
        before = daemon.status("engine")
        steps.tool("stop-at", "fail_committed")
        for path in daemon.segments("engine", ".avro.open"):
            os.truncate(path, os.stat(path).st_size - 1)
        assert steps.tool("wait-stopped", "fail_committed", 20000, expect=None).returncode == 0
        kill(before["pid"])
        wait_until(lambda before=before: daemon.status("engine")["generation"] > before["generation"], 20, "a successor")
    daemon.wait_counter("engine", "recorded", daemon.counters("engine")["recorded"] + 500)
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["recorded"] == len(sent) and counters["record_lost"] == 0, counters
    daemon.stop(expect=None)
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    oracle.assert_consecutive(records, first=0)
    assert [record.payload for record in records] == sent


def test_a_death_while_counting_what_was_lapped(place):
    """The archive is stopped, so that no next segment comes: the recorder is lapped, and dies while it counts that."""
    place.with_hooks()
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, ring_size="256K", max_datagram=256, relays={"out": place.ipv4()},
                                   record={"segment_size": "1M"}), head=EAGER).start()
    steps = Steps(place, daemon, "engine")
    sender = Sender(place, listen, 10**9, rate=20000, sizes=(200,))
    daemon.wait_counter("engine", "recorded", 100)
    others = daemon.helpers()
    for pid in others:
        kill(pid, 19)  # SIGSTOP: archive and spare
    for _ in range(5):
        steps.tool("stop-at", "lap_skipped")
        assert steps.tool("wait-stopped", "lap_skipped", 20000, expect=None).returncode == 0
        before = daemon.status("engine")
        kill(before["pid"])
        wait_until(lambda: daemon.status("engine")["generation"] > before["generation"], 20, "a successor")
    for pid in others:
        kill(pid, 18)  # SIGCONT
    lost = daemon.counters("engine")["record_lost"]
    assert lost > 0
    recorded = daemon.counters("engine")["recorded"]
    daemon.wait_counter("engine", "recorded", recorded + 1000)
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_counter("engine", "received", len(sent) - daemon.counters("engine")["kernel_dropped"])
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 30, "everything to be recorded or counted")
    counters = oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    files = daemon.segments("engine")
    oracle.assert_verified(daemon, files)
    records = oracle.read_with_avro_c(place, files)
    assert len(records) == counters["recorded"]
    numbers = [record.seq for record in records]
    assert numbers == sorted(set(numbers)), "each number at most once, in order"
    gaps = sum(after - before - 1 for before, after in zip(numbers, numbers[1:]))
    assert gaps + numbers[0] + counters["received"] - 1 - numbers[-1] == counters["record_lost"]
    if counters["kernel_dropped"] == 0:
        assert all(record.payload == sent[record.seq] for record in records)
