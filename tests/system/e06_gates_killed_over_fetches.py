# SPDX-License-Identifier: MIT
"""The process that hands out log files is killed all the time, while programs fetch without a pause and files are sealed and
removed under them: each gets the rest from the next one, or an error. Never a wrong byte, and nobody waits for ever."""

import random
import time

from lib import oracle
from lib.fetching import HOWS, Fetcher, Keeper, judge, zombies
from lib.holdfast import Daemon, Sender, channel
from lib.place import alone, core, kill, wait_until
from lib.reading import gate_of

OPEN_TO_ALL = 'read { mode = "0666" }'
GATES_COME_BACK_SOON = 'restart { max_delay = "100ms" }'


@core
@alone
def test_each_gets_the_rest_or_an_error(place):
    kills, seed, listen = place.scaled(300), random.randrange(1 << 32), place.ipv4()
    print(f"seed {seed}")
    chance = random.Random(seed)
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M", "keep_at_most": "6M"}),
                    head=OPEN_TO_ALL + GATES_COME_BACK_SOON).start()
    keeper = Keeper(place, daemon)
    sender = Sender(place, listen, 10**9, rate=place.scaled(4000), sizes=(700, 1400))
    wait_until(lambda: len(daemon.segments("engine")) >= 2, 60, "sealed segments")
    fetchers = [Fetcher(place, daemon, how) for how in HOWS]
    killed, before = 0, None
    while killed < kills or len(keeper.known) <= len(daemon.segments("engine")):  # some are to be removed, too
        keeper.look()
        gate = gate_of(daemon)
        if not gate or gate == before:
            continue
        time.sleep(chance.random() * 0.05)  # the random instant itself, not a wait for anything
        kill(gate)
        before, killed = gate, killed + 1
    wait_until(lambda: gate_of(daemon) not in (None, before), 30, "the last gate")
    past = [fetcher.whole() for fetcher in fetchers]

    def all_go_on():
        keeper.look()
        return all(fetcher.whole() > count + 10 for fetcher, count in zip(fetchers, past))
    wait_until(all_go_on, 60, "everybody to fetch from the last gate", interval=0.3)
    results = [(fetcher, fetcher.stop()) for fetcher in fetchers]
    sender.stop()
    sent = oracle.read_datagrams(sender.record)[0]
    daemon.wait_drained("engine", len(sent))
    daemon.ctl("rotate", "engine")
    wait_until(lambda: not zombies(daemon), 10, "nobody dead to be left")
    daemon.stop()
    keeper.look()
    counts = judge(keeper, results)
    print(f"{killed} gates killed, {len(keeper.known)} files: {dict(counts)}")
    assert all(counts["whole " + how] > kills // 4 for how in HOWS), counts
    assert counts["not judged"] <= counts["judged"] // 20, counts
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_same_payloads(sent[-len(records):], [record.payload for record in records], "recorded")
