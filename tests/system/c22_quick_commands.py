# SPDX-License-Identifier: MIT
"""Commands that follow one another faster than what they ask for can be done."""

import json

from lib import oracle
from lib.holdfast import Control, Daemon, Sender, channel
from lib.place import wait_until


def test_a_stop_and_a_start_in_one_write_behind_a_rotation(place):
    """The segment that the rotation had begun is empty, and is removed by the stop: the start behind it doesn't take it for
    one to go on with, nor a missing file for a trouble with the disk."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": place.ipv4()}, record={"segment_size": "1M"})).start()
    daemon.wait_state("engine", "RUNNING")
    lines = [json.dumps({"jsonrpc": "2.0", "id": number, "method": verb, "params": ["engine"]}).encode() + b"\n"
             for number, verb in enumerate(("stop", "start"))]
    for number in range(20):
        Sender(place, listen, 20, rate=0, name=f"sent{number}").wait()
        daemon.wait_drained("engine", 20 * (number + 1))
        daemon.call("rotate", ["engine"])
        control = Control(daemon.socket)
        control.send(b"".join(lines))
        control.answer()
        control.answer()
        control.close()
        wait_until(lambda: (lambda entry: entry["state"] == "RUNNING" and entry["log"]["state"] == "open")(
            daemon.status("engine")), 10, "the channel to record again")
    assert oracle.assert_ledger(daemon.status("engine"))["recorded"] == 400
    daemon.stop()
    assert "error" not in daemon.log_text(), [line for line in daemon.log_text().splitlines() if "error" in line]
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)
