# SPDX-License-Identifier: MIT
"""Everything dies, and nobody but the files knows which numbers were given; or the files can't be asked for a while, and
a channel relays without its log; or recording is switched on or off. Whoever follows a log goes by the log's numbers
alone: no number twice, none passed over, and what begins anew is told."""

import os
import re
import signal

from lib import oracle
from lib.disk import HeldFolder, cut_off
from lib.holdfast import Daemon, Sender, channel
from lib.place import core, kill, wait_until
from lib.raw_reader import CLAIM, SAVE, RawReader
from lib.reading import UNCOVERED, UNRECORDED, Reader
from lib.store import StoredDaemon

OPEN_TO_ALL = 'read { mode = "0666" }'
AT_POSITION = {"position": "mine", "from": "position"}


def send(place, listen, count, tag):
    sender = Sender(place, listen, count, rate=20000, sizes=(200,), name=f"sender {tag}", tag=tag)
    sender.wait()
    return oracle.read_datagrams(sender.record)[0]


def numbers_of(reader):
    return [number for number, _ in reader.datagrams()]


def payloads_of(reader):
    return [payload for _, payload in reader.datagrams()]


def lost_of(reader):
    return [(event.first, event.second, event.why) for event in reader.events() if event.kind == "lost"]


def wait_live(reader):
    return reader.wait_for(lambda counts: counts["live"], 30, "all to be read")


def lose_the_end(place, daemon, listen, kept):
    """2000 were read and saved as done with; then the power was cut, and the log has so many bytes. The daemon is there
    again, and recovery waits. Returns the folder's lock."""
    send(place, listen, 2000, 1)
    daemon.wait_drained("engine", 2000)
    reader = Reader(place, daemon, "before", save_every=100, **AT_POSITION)
    reader.wait_next(2000)
    reader.stop()
    daemon.kill_all()
    path = daemon.segments("engine", ".avro.open")[0]
    cut_off(path, kept)
    held = HeldFolder(path.parent)
    daemon.start(wait=False)
    wait_until(lambda: daemon.log_text().count("DOWN -> OPENING") == 2, 10, "the second start")
    return held


def test_a_reader_is_there_before_its_position_goes_back(place):
    """A power cut has taken what was saved as done with, and the reader opens while the log is still being recovered."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "4M"}), head=OPEN_TO_ALL).start()
    held = lose_the_end(place, daemon, listen, 200_000)
    reader = Reader(place, daemon, "after", **AT_POSITION)
    sent = send(place, listen, 5000, 2)
    assert daemon.status("engine")["state"] == "OPENING" and not reader.datagrams()
    held.release()
    daemon.wait_drained("engine", 5000)
    goes_on = int(re.search(r"back to it, to (\d+)", daemon.log_text()).group(1))
    reader.wait_next(goes_on + 5000)
    reader.stop()
    assert numbers_of(reader) == list(range(goes_on, goes_on + 5000)), (goes_on, numbers_of(reader)[:3], len(numbers_of(reader)), reader.events()[:9])
    oracle.assert_same_payloads(sent, payloads_of(reader), "read after the power cut")
    assert lost_of(reader) == [(goes_on, 0, UNCOVERED)], lost_of(reader)


@core
def test_a_channel_relays_without_its_log(place):
    """Its numbers are its own then, and are seen by those alone who read nothing but the newest."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL).start()
    first = send(place, listen, 100, 1)
    daemon.wait_drained("engine", 100)
    follower = Reader(place, daemon, "follower", save_every=1, **AT_POSITION)
    wait_live(follower)
    daemon.kill_all()
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.start(wait=False)
    daemon.wait_for_log("no log within", 30)
    daemon.wait_state("engine", "RUNNING")
    newest = Reader(place, daemon, "newest", mode="newest")
    send(place, listen, 3, 2)
    daemon.wait_counter("engine", "received", 3)
    assert newest.wait_next(3)["next_seq"] == 3
    old, new = Reader(place, daemon, "old", mode="old"), Reader(place, daemon, "new", mode="new")
    joined = Reader(place, daemon, "joined")
    assert old.wait_finished()["opened_seq"] == 100 and wait_live(joined)["next_seq"] == 100
    assert new.counts()["next_seq"] == 100
    held.release()
    daemon.wait_for_log("numbering goes on at 103", 30)
    daemon.wait_state("engine", "RUNNING")
    more = send(place, listen, 5, 3)
    for reader in (follower, joined, new):
        reader.wait_next(108)
        assert lost_of(reader)[:1] == [(100, 3, UNRECORDED)], lost_of(reader)
    assert numbers_of(new) == list(range(103, 108)) and numbers_of(old) == list(range(100))
    for reader in (follower, joined):
        assert numbers_of(reader) == [*range(100), *range(103, 108)]
        oracle.assert_same_payloads(first + more, payloads_of(reader), "read")
    newest.wait_next(108)
    daemon.stop()


def two_configurations(daemon):
    with_record = daemon.config.read_text()
    without = re.sub(r" *record \{[^}]*\}\n", "", with_record)
    assert without != with_record
    return with_record, without


def switched(place, first):
    """Recording is switched off and on again between two starts, while somebody reads what is new. The log has more
    numbers than are given meanwhile, or fewer."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL).start()
    with_record, without = two_configurations(daemon)
    reader = Reader(place, daemon, "new", mode="new")

    def restart(config):
        daemon.stop()
        daemon.config.write_text(config)
        daemon.start()
        daemon.wait_state("engine", "RUNNING")

    sent = send(place, listen, first, 1)
    reader.wait_next(first)
    restart(without)
    reader.wait_next(0)
    for count, tag in ((10, 2), (140, 3)):
        sent += send(place, listen, count, tag)
        reader.wait_for(lambda counts: counts["datagrams"] == len(sent), 30, "all that is new")
    restart(with_record)
    for count, tag in ((10, 4), (60, 5)):
        sent += send(place, listen, count, tag)
        reader.wait_for(lambda counts: counts["datagrams"] == len(sent), 30, "all that is new")
    reader.stop()
    oracle.assert_same_payloads(sent, payloads_of(reader), "read")
    assert numbers_of(reader) == [*range(first), *range(150), *range(first, first + 70)]
    told = [event for event in lost_of(reader) if event[1] == 0]
    assert [event[0] for event in told] == [0, first] and {event[2] for event in told} == {UNCOVERED}, lost_of(reader)
    daemon.stop()


def test_recording_is_switched_off_and_on(place):
    switched(place, 100)


def test_recording_is_switched_on_beside_a_longer_log(place):
    switched(place, 1000)


def test_a_ring_that_was_not_recorded_passes_for_no_log(place):
    """Recording is switched on by an upgrade, which goes on with a ring whose numbers are not the log's."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL).start()
    with_record, without = two_configurations(daemon)
    send(place, listen, 1000, 1)
    daemon.wait_drained("engine", 1000)
    daemon.stop()
    daemon.config.write_text(without)
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    send(place, listen, 50, 2)
    daemon.wait_counter("engine", "received", 50)
    again(daemon)
    daemon.config.write_text(with_record)
    held = HeldFolder(daemon.segments("engine")[0].parent)
    daemon.ctl("upgrade")
    daemon.disconnect()
    old = Reader(place, daemon, "old", mode="old")
    new = Reader(place, daemon, "new", mode="new")
    assert old.wait_finished()["opened_seq"] == 1000 and numbers_of(old) == list(range(1000))
    assert new.counts()["next_seq"] == 1000, new.counts()
    held.release()
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()


def test_an_upgrade_before_the_first_datagram(place):
    """The ring that goes on has recorded nothing: it is the log's all the same, and read from."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), head=OPEN_TO_ALL).start()
    daemon.wait_state("engine", "RUNNING")
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    reader = Reader(place, daemon, "joined")
    wait_live(reader)
    for total in (100, 200):
        send(place, listen, 100, total)
        daemon.wait_drained("engine", total)
        reader.wait_next(total, 15)
    reader.stop()
    daemon.stop()


def test_an_upgrade_before_the_first_datagram_whose_recovery_fails(place):
    """What lies unfinished beside the segment in use is for later; that segment is the log's, and read from."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), head=OPEN_TO_ALL).start()
    daemon.wait_state("engine", "RUNNING")
    wait_until(lambda: daemon.segments("engine", ".avro.open"), 10, "a segment")
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_for_log("beside the segment in use can't be recovered", 40)
    reader = Reader(place, daemon, "joined")
    wait_live(reader)
    sent = []
    for total in (100, 200):
        sent += send(place, listen, 100, total)
        reader.wait_next(total, 15)
    held.release()
    oracle.assert_same_payloads(sent, payloads_of(reader), "read")
    assert lost_of(reader) == []
    daemon.stop()


def forget_stored(daemon):
    """A power cut takes it, too."""
    for fd in [fd for fds in daemon.notifications.kept.values() for fd in fds]:
        os.close(fd)
    daemon.notifications.kept.clear()


def die_before_it_is_renumbered(place, daemon, listen, held):
    """The log is known, and a segment is there; the ring that relayed without it is not renumbered yet when its supervisor
    dies. The next one finds both."""
    daemon.wait_for_log("no log within", 30)
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    before = daemon.counters("engine")["received"]
    send(place, listen, 3, 2)
    daemon.wait_counter("engine", "received", before + 3)
    kill(worker, signal.SIGSTOP)
    held.release()
    daemon.wait_state("engine", "STOPPING")
    wait_until(lambda: daemon.segments("engine", ".avro.open"), 10, "a segment")
    daemon.call("ping")
    daemon.die()
    daemon.start_stored()
    daemon.wait_for_log("numbering goes on at", 30)
    daemon.wait_state("engine", "RUNNING")
    before = daemon.counters("engine")["received"]
    send(place, listen, 5, 3)
    daemon.wait_counter("engine", "received", before + 5)
    wait_until(lambda: daemon.status("engine")["ring"]["pending"] == 0, 20, "all to be recorded")
    oracle.assert_ledger(daemon.status("engine"))
    daemon.stop()
    numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
    assert len(numbers) == len(set(numbers)) and numbers[:100] == list(range(100)), numbers[95:]
    assert len(numbers) >= 105, numbers[95:]


def test_a_death_before_the_log_has_its_numbers(place):
    listen, out = place.ipv4(), place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL)
    daemon.start_stored()
    send(place, listen, 100, 1)
    daemon.wait_drained("engine", 100)
    daemon.die()
    forget_stored(daemon)
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.start_stored(wait=False)
    die_before_it_is_renumbered(place, daemon, listen, held)


def test_recording_is_switched_on_and_a_death_before_the_log_has_its_numbers(place):
    listen, out = place.ipv4(), place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL)
    with_record, without = two_configurations(daemon)
    daemon.start_stored()
    send(place, listen, 100, 1)
    daemon.wait_drained("engine", 100)
    daemon.stop()
    forget_stored(daemon)
    daemon.config.write_text(without)
    daemon.start_stored()
    daemon.wait_state("engine", "RUNNING")
    send(place, listen, 50, 4)
    daemon.wait_counter("engine", "received", 50)
    daemon.config.write_text(with_record)
    held = HeldFolder(daemon.segments("engine")[0].parent)
    daemon.ctl("upgrade")
    daemon.disconnect()
    die_before_it_is_renumbered(place, daemon, listen, held)


def test_new_without_ring_and_recording_on_and_off(place):
    """Opened while the channel is stopped: where its first ring began is no place to come back to."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL)
    with_record, without = two_configurations(daemon)
    daemon.config.write_text(without)
    daemon.start()
    daemon.wait_state("engine", "RUNNING")
    daemon.call("stop", ["engine"])
    daemon.wait_state("engine", "STOPPED")
    reader = Reader(place, daemon, "new", mode="new")
    daemon.config.write_text(with_record)
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.call("start", ["engine"])
    daemon.wait_state("engine", "RUNNING")
    sent = send(place, listen, 100, 1)
    reader.wait_next(100)
    daemon.config.write_text(without)
    daemon.ctl("upgrade")
    daemon.disconnect()
    daemon.wait_state("engine", "RUNNING")
    sent += send(place, listen, 10, 2)
    reader.wait_next(110)
    reader.stop()
    assert numbers_of(reader) == list(range(110)), numbers_of(reader)[95:]
    oracle.assert_same_payloads(sent, payloads_of(reader), "read")
    daemon.stop()


def position_of(daemon, name="mine"):
    text = (daemon.log_dir / ".positions" / "engine" / name).read_text()
    return int(re.search(r"seq (\d+)", text).group(1))


def after_a_power_cut(place):
    """Returns the daemon, where it listens, the folder's lock, and a connection that has the position."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={"segment_size": "4M"}),
                    head=OPEN_TO_ALL).start()
    held = lose_the_end(place, daemon, listen, 100_000)
    saver = RawReader(daemon.socket.with_name("read.sock"))
    place.on_exit(saver.close)
    saver.hello()
    saver.attach("engine")
    assert saver.position(CLAIM, "engine", "mine")[1] == 2000
    return daemon, listen, held, saver


def judge_after_the_cut(place, daemon, listen, saver):
    """Whoever comes back to that position reads everything that was sent since."""
    saver.close()
    goes_on = int(re.search(r"back to it, to (\d+)", daemon.log_text()).group(1))
    assert position_of(daemon) <= goes_on, (position_of(daemon), goes_on)
    before = daemon.counters("engine")["recorded"]
    sent = send(place, listen, 5000, 3)
    daemon.wait_counter("engine", "recorded", before + 5000)
    reader = Reader(place, daemon, "after", **AT_POSITION)
    wait_live(reader)
    reader.stop()
    oracle.assert_same_payloads(sent, payloads_of(reader)[-5000:], "read after the power cut")
    daemon.stop()


def test_a_save_during_recovery_comes_after_it(place):
    """The archive is slow to look at it: by then the log is known, and the position has gone back."""
    daemon, listen, held, saver = after_a_power_cut(place)
    archive = daemon.helpers()[0]
    kill(archive, signal.SIGSTOP)
    saver.send_position(SAVE, "engine", "mine", 2000)
    held.release()
    daemon.wait_for_log("beyond the log's end", 30)
    kill(archive, signal.SIGCONT)
    saver.answer_position()
    daemon.wait_state("engine", "RUNNING")
    judge_after_the_cut(place, daemon, listen, saver)


def test_a_save_before_the_log_has_its_numbers(place):
    """The log is known, and the ring still has numbers of its own."""
    daemon, listen, held, saver = after_a_power_cut(place)
    daemon.wait_for_log("no log within", 30)
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    send(place, listen, 3, 2)
    daemon.wait_counter("engine", "received", 3)
    kill(worker, signal.SIGSTOP)
    held.release()
    daemon.wait_state("engine", "STOPPING")
    assert saver.position(SAVE, "engine", "mine", 2000)[0] == 0
    daemon.wait_for_log("numbering goes on at", 30)
    daemon.wait_state("engine", "RUNNING")
    judge_after_the_cut(place, daemon, listen, saver)


def test_a_backlog_is_read_while_the_log_is_recovered(place):
    """Its reader saves its position as it goes: it is told that nothing is kept, and does not stand still for that."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={"segment_size": "4M"}), head=OPEN_TO_ALL).start()
    send(place, listen, 2000, 1)
    daemon.wait_drained("engine", 2000)
    daemon.kill_all()
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.start(wait=False)
    wait_until(lambda: daemon.log_text().count("DOWN -> OPENING") == 2, 10, "the second start")
    reader = Reader(place, daemon, "backlog", save_every=100, **AT_POSITION)
    reader.wait_next(2000)
    assert daemon.status("engine")["state"] == "OPENING", "it was held up until the log was known"
    errors = [event for event in reader.events() if event.kind == "error"]
    held.release()
    daemon.wait_state("engine", "RUNNING")
    send(place, listen, 100, 2)
    reader.wait_for(lambda counts: counts["next_seq"] == 2100 and position_of(daemon) == 2100, 30, "the position to be saved")
    reader.stop()
    daemon.stop()
    print(f"{len(errors)} saves were refused")


def test_a_refused_ring_and_a_slow_log(place):
    """Nobody but the ring knew that numbers were given, and it is given up; which ones the log has is long in coming. The
    next ring begins with numbers that the log has, and nobody reads from that as if it were the log."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = Daemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL).start()
    reader = Reader(place, daemon, "joined")
    wait_live(reader)
    first = send(place, listen, 5, 1)
    reader.wait_next(5)
    worker = daemon.status("engine")["pid"]
    kill(daemon.process.pid, signal.SIGSTOP)
    first += send(place, listen, 100, 2)
    reader.wait_next(105)
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    daemon.lose_identity(4096)
    kill(worker)
    kill(daemon.process.pid, signal.SIGCONT)
    daemon.wait_for_log("no log within", 40)
    daemon.wait_state("engine", "RUNNING")
    received = daemon.counters("engine")["received"]
    send(place, listen, 3, 3)
    daemon.wait_counter("engine", "received", received + 3)
    held.release()
    daemon.wait_for_log("numbering goes on at", 60)
    daemon.wait_state("engine", "RUNNING")
    more = send(place, listen, 5, 4)
    reader.wait_for(lambda counts: counts["datagrams"] >= 110, 30, "the rest to be read")
    reader.stop()
    daemon.stop()
    numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
    assert len(numbers) == len(set(numbers)), numbers[95:]
    assert numbers_of(reader) == numbers, (numbers_of(reader)[95:], numbers[95:])
    oracle.assert_same_payloads(first + more, payloads_of(reader), "read")


def test_a_ring_without_its_segment_is_refused_while_the_log_is_slow(place):
    """What was asked for that ring says nothing of the next one, which is asked for anew."""
    listen, out = place.ipv4(), place.ipv4()
    daemon = StoredDaemon(place, channel("engine", listen, relays={"out": out}, record={}), head=OPEN_TO_ALL)
    daemon.start_stored()
    send(place, listen, 100, 1)
    daemon.wait_drained("engine", 100)
    daemon.die()
    held = HeldFolder(daemon.segments("engine", ".avro.open")[0].parent)
    for name in [name for name in daemon.notifications.kept if name.endswith((".log", ".next"))]:
        for fd in daemon.notifications.kept.pop(name):
            os.close(fd)
    daemon.start_stored(wait=False)
    daemon.wait_for_log("no log within", 30)
    worker = daemon.wait_state("engine", "RUNNING")["pid"]
    daemon.lose_identity(4096)
    kill(worker)
    daemon.wait_for_log("a fresh one is made", 20)
    held.release()
    recorded = wait_until(lambda: daemon.segments("engine", ".avro.open") and daemon.counters("engine"), 20,
                          "a segment")["recorded"]
    send(place, listen, 50, 2)
    daemon.wait_counter("engine", "recorded", recorded + 50, 20)
    daemon.stop()
    numbers = [record.seq for record in oracle.read_with_avro_c(place, daemon.segments("engine"))]
    assert len(numbers) == len(set(numbers)) == 150, numbers[95:]


def test_a_damaged_file_is_told_of_once(place):
    """However often a channel gets another ring behind it."""
    listen = place.ipv4()
    daemon = Daemon(place, channel("engine", listen, record={}), head=OPEN_TO_ALL).start()
    for total in (100, 200):
        send(place, listen, 100, total)
        daemon.wait_drained("engine", total)
        sealed = len(daemon.segments("engine"))
        daemon.call("rotate", ["engine"])
        wait_until(lambda: len(daemon.segments("engine")) > sealed, 20, "the file to be sealed")
    again(daemon)
    damaged = daemon.segments("engine")[1]
    damaged.write_bytes(b"\xee" * damaged.stat().st_size)
    reader = Reader(place, daemon, "reader")
    wait_live(reader)
    for _ in range(3):
        again(daemon)
    send(place, listen, 5, 3)
    reader.wait_next(205)
    reader.stop()
    assert [(event.first, event.second) for event in reader.events() if event.kind == "lost" and event.second] == [(100, 100)], reader.tail()
    assert [event for event in lost_of(reader) if event[0] < 200 and event[2] == UNCOVERED] == []
    assert numbers_of(reader) == [*range(100), *range(200, 205)]


def again(daemon):
    for verb, state in (("stop", "STOPPED"), ("start", "RUNNING")):
        daemon.call(verb, ["engine"])
        daemon.wait_state("engine", state)
