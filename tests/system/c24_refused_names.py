# SPDX-License-Identifier: MIT
"""A folder in which nobody may make, rename or remove anything for a while: segments can neither be given their names nor be
sealed. What is recorded is recorded all the same, and when it is allowed again, each gets the name that it should have."""

import fcntl
import os
import struct

from lib import oracle
from lib.disk import Disk
from lib.holdfast import Daemon, Sender, channel
from lib.place import skip, slow, wait_until
from system.c19_damaged_folders import open_segment

FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x40086602, 0x10


def allow_names(folder, allowed):
    """Whether anybody, root too, may make, rename and remove what is in the folder."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", 0 if allowed else FS_IMMUTABLE_FL))
    except OSError as error:
        skip(f"names can't be forbidden here ({error.strerror})")
    finally:
        os.close(fd)


def names_are_refused(place):
    """The next segment can't be given its name, nor the one before be sealed."""
    disk, listen = Disk(place), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "1M"}), log_dir=disk.where / "log").start()
    folder = daemon.log_dir / "engine"
    sender = Sender(place, listen, 600, rate=10000, sizes=(1200,))  # more than half of one: the next is prepared
    sender.wait()
    daemon.wait_drained("engine", 600)
    wait_until(lambda: len(daemon.segments("engine", ".avro.open")) == 2, 20, "the next segment")
    begun = open_segment(daemon)
    allow_names(folder, False)
    place.on_exit(lambda: allow_names(folder, True))
    daemon.ctl("rotate", "engine", expect=None)
    daemon.wait_for_log(f"segment {begun.name} could not be sealed: ")
    more = Sender(place, listen, 100, name="more", tag=2)
    more.wait()
    daemon.wait_drained("engine", 700)
    log = daemon.status("engine")["log"]
    assert log["unsealed"] == 1 and log["durable_bytes"] == 0, log
    told = daemon.ctl("check").stdout
    assert "warning: engine has segments that are not sealed: 1 of its" in told and begun.name in told, told
    assert "engine: 1 segment could not be sealed so far" in daemon.ctl("status").stdout
    assert "1 segment could not be sealed so far" in daemon.ctl("status", "engine").stdout
    allow_names(folder, True)
    return daemon, [payload for record in (sender, more) for payload in oracle.read_datagrams(record.record)[0]]


def all_names_were_given(place, daemon, sent):
    for file in (folder := daemon.log_dir / "engine").glob("engine*"):
        assert file.suffix == ".avro" and "prepared" not in file.name, sorted(folder.iterdir())
    oracle.assert_verified(daemon, daemon.segments("engine"))
    records = oracle.read_with_avro_c(place, daemon.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    assert [record.payload for record in records] == sent


def test_names_that_were_refused_are_given_at_a_stop(place):
    daemon, sent = names_are_refused(place)
    daemon.stop()
    all_names_were_given(place, daemon, sent)


@slow
def test_names_that_were_refused_are_given_within_a_minute_or_two(place):
    daemon, sent = names_are_refused(place)
    wait_until(lambda: len(daemon.segments("engine")) == 1, 130, "the segment before to be sealed")
    wait_until(lambda: daemon.status("engine")["log"]["unsealed"] == 0, 20, "that to be told")
    assert not daemon.call("check")["problems"]
    daemon.stop()
    all_names_were_given(place, daemon, sent)
