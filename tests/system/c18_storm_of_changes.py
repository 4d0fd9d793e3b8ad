# SPDX-License-Identifier: MIT
"""Channels come and go, and change names and addresses, while workers hang, die and are stopped, and supervisors die, with a
store, or are upgraded: whatever a socket was sent while a channel had it is recorded once."""

import os
import random
import socket

from lib import oracle
from lib.holdfast import RpcError, channel
from lib.place import freeze, kill, slow
from lib.store import StoredDaemon

NAMES = ("a", "b", "c")
ROUNDS = int(os.environ.get("HOLDFAST_STORM_ROUNDS", "12"))


class Storm:
    def __init__(self, place, random_numbers):
        self.place, self.random = place, random_numbers
        self.addresses = [place.ipv4() for _ in range(len(NAMES) + 1)]
        self.sent, self.done = [], []
        self.configured = self.draw()
        self.daemon = StoredDaemon(place, self.text(), hang_timeout="60s")
        text = self.daemon.config.read_text()
        self.head = text[:text.index("channel ")]
        self.daemon.start_stored()

    def draw(self):
        names = self.random.sample(NAMES, self.random.randint(1, len(NAMES)))
        return dict(zip(names, self.random.sample(self.addresses, len(names))))

    def text(self):
        return "\n".join(channel(name, listen, record={"segment_size": "1M"}, relays={"nowhere": "127.0.0.1:9"})
                         for name, listen in self.configured.items())

    def change(self):
        self.configured = self.draw()
        self.daemon.config.write_text(self.head + self.text() + "\n")

    def send(self, number, count):
        for name, listen in self.configured.items():
            host, _, port = listen.rpartition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for k in range(count):
                    payload = f"{name} {listen} {number} {k}".encode()
                    sender.sendto(payload, (host, int(port)))
                    self.sent.append(payload)

    def wait_running(self):
        for name in self.configured:
            self.daemon.wait_state(name, "RUNNING", 40)

    def upgrade(self):
        self.daemon.disconnect()
        self.daemon.ctl("upgrade", expect=None)
        self.daemon.disconnect()

    # ---- what may happen ----

    def upgrade_changed(self, _name):
        self.change()
        self.upgrade()

    def two_upgrades(self, _name):
        for _ in range(2):
            self.change()
            self.upgrade()

    def workers_die(self, _name):
        for name in self.configured:
            kill(self.daemon.status(name)["pid"])

    def supervisor_dies(self, _name):
        self.daemon.die()
        self.daemon.start_stored()

    def supervisor_dies_and_all_is_changed(self, _name):
        self.daemon.die()
        self.change()
        self.daemon.start_stored()

    def restart(self, name):
        self.daemon.call("restart", {"channel": name})

    def stop_and_start(self, name):
        self.daemon.call("stop", {"channel": name})
        self.daemon.wait_state(name, "STOPPED", 30)
        self.daemon.call("start", {"channel": name})

    def stopped_over_an_upgrade(self, name):
        self.daemon.call("stop", {"channel": name})
        self.upgrade()
        self.daemon.wait_state(name, "STOPPED", 30)
        self.daemon.call("start", {"channel": name})

    def go(self, number):
        self.wait_running()
        for name in self.configured:
            if self.random.random() < 0.25:
                pid = self.daemon.status(name)["pid"]  # None: it has just died, and waits for its successor
                try:
                    if pid is not None:
                        freeze(pid)
                except ProcessLookupError:
                    pass  # it has just been replaced
        self.send(number, self.random.choice((0, 1, 50, 300)))
        event = self.random.choice((self.upgrade_changed, self.upgrade_changed, self.two_upgrades, self.workers_die,
                                    self.supervisor_dies, self.supervisor_dies_and_all_is_changed, self.restart,
                                    self.stop_and_start, self.stopped_over_an_upgrade))
        name = self.random.choice(list(self.configured))
        self.done.append((number, event.__name__, name, dict(self.configured)))
        try:
            event(name)
        except (RpcError, ProcessLookupError) as refused:
            self.done.append(str(refused))


@slow
def test_whatever_changes_nothing_is_lost_or_twice(place):
    seed = int(os.environ.get("HOLDFAST_STORM_SEED", random.randrange(1 << 30)))
    print(f"HOLDFAST_STORM_SEED={seed}")
    storm = Storm(place, random.Random(seed))
    for number in range(ROUNDS):
        storm.go(number)
    storm.wait_running()
    storm.send("last", 20)
    storm.daemon.stop(expect=None)
    recorded = []
    for name in NAMES:
        records = oracle.read_with_avro_c(place, storm.daemon.segments(name))
        numbers = [record.seq for record in records]
        assert numbers == sorted(set(numbers)), f"numbers of {name}"
        recorded += [record.payload for record in records]
        assert all("prepared" in path.name for path in storm.daemon.segments(name, ".avro.open")), "only what is empty"
    print("\n".join(map(str, storm.done)))
    oracle.assert_same_payloads(storm.sent, recorded, "recorded")
