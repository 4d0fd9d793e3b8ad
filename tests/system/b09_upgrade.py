# SPDX-License-Identifier: MIT
"""The program is replaced while it runs: ten times in a row under load nothing is lost, nothing is recorded twice, and it
stays the same process. A program that can't run, or a configuration that it refuses, is found out before anything is let
go of."""

import os
import pathlib
import resource
import shutil
import signal
import threading

from lib import oracle
from lib.held_program import HeldProgram
from lib.holdfast import Control, Daemon, Sender, Sink, channel
from lib.place import comm, core, freeze, kill, state_of, wait_until


class Installed(Daemon):
    """Run from a folder of the test's own, so that what is installed there can be replaced."""

    def __init__(self, place, *channels, **top):
        folder = place.folder / "installed"
        folder.mkdir()
        for name in ("holdfastd", "holdfast-worker"):
            shutil.copy2(place.program(name), folder / name)
        self.installed = folder / "holdfastd"
        self.good = place.program("holdfastd")
        super().__init__(place, *channels, **top)

    def start(self, **options):  # pylint: disable=arguments-differ
        ordinary = self.place.program
        self.place.program = lambda name: str(self.installed) if name == "holdfastd" else ordinary(name)
        try:
            return super().start(**options)
        finally:
            self.place.program = ordinary

    def install(self, content, mode=0o755):
        """As an installation does: a new file takes the place of the old one."""
        fresh = self.installed.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(mode)
        fresh.rename(self.installed)

    def upgrade(self, expect=0):
        self.disconnect()
        return self.ctl("upgrade", expect=expect)


def judge(place, daemon, name, sender, sink):
    sent = oracle.read_datagrams(sender.record)[0]
    records = oracle.read_with_avro_c(place, daemon.segments(name))
    oracle.assert_consecutive(records, first=0)
    oracle.assert_same_payloads(sent, [record.payload for record in records], f"recorded of {name}")
    oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], f"relayed of {name}")


def zombies_of(pid):
    return [child for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            if state_of(child) == "Z"]


def test_ten_times_in_a_row_under_load(place):
    names, rate = ("engine", "gps"), place.scaled(20000)
    listens, outlets = [place.ipv4(), place.ipv4()], [place.ipv4(), place.ipv4()]
    sinks = [Sink(place, outlet, name=f"caught-{name}") for name, outlet in zip(names, outlets)]
    daemon = Installed(place, *(channel(name, listen, relays={"display": outlet}, record={"segment_size": "4M"})
                                for name, listen, outlet in zip(names, listens, outlets))).start()
    senders = [Sender(place, listen, 10**9, name=f"sent-{name}", rate=rate, sizes=(64, 200))
               for name, listen in zip(names, listens)]
    pid, before = daemon.process.pid, {name: 0 for name in names}
    for number in range(10):
        for name in names:
            daemon.wait_counter(name, "recorded", before[name] + rate // 5)
        before = {name: daemon.counters(name)["received"] for name in names}
        generation = daemon.status("engine")["generation"]
        if number == 5:
            daemon.install(pathlib.Path(daemon.good).read_bytes())
        daemon.upgrade()
        for name in names:
            entry = daemon.wait_state(name, "RUNNING")
            assert entry["counters"]["received"] >= before[name], "counters go on"
            assert entry["restarts"] == 0 and entry["last_death"] is None, "an upgrade is no death"
        assert daemon.status("engine")["generation"] > generation
        assert daemon.status()["supervisor"]["pid"] == pid == daemon.process.pid
    wait_until(lambda: not zombies_of(daemon.process.pid), 10, "spares that were let go of to be waited for")
    for sender in senders:
        sender.stop()
    for name, sender in zip(names, senders):
        daemon.wait_drained(name, len(oracle.read_datagrams(sender.record)[0]))
        assert oracle.assert_ledger(daemon.status(name))["kernel_dropped"] == 0
    daemon.stop()
    for name, sender, sink in zip(names, senders, sinks):
        sink.stop()
        judge(place, daemon, name, sender, sink)


@core
def test_an_unfit_program_is_refused_and_the_service_goes_on(place):
    listen, outlet = place.ipv4(), place.ipv4()
    sink = Sink(place, outlet)
    daemon = Installed(place, channel("engine", listen, relays={"display": outlet}, record={})).start()
    sender = Sender(place, listen, 10**9, rate=place.scaled(5000))
    daemon.wait_counter("engine", "recorded", 100)
    entry = daemon.status("engine")
    unfit = {
        "not where it was": lambda: daemon.install(b"\0" * 100, mode=0o644),
        "can't be executed": lambda: daemon.install(b"\x7fELF and then nothing" * 10),
        "exited with status 1: no such library": lambda: daemon.install(
            b"#!/bin/sh\necho no such library >&2\nexit 1\n"),
        "exited with status 1: a long story": lambda: daemon.install(
            b"#!/bin/sh\n{ echo a long story; head -c 300000 /dev/zero | tr '\\0' x; } >&2 || exit 2\nexit 1\n"),
        "was killed by SIGSEGV": lambda: daemon.install(b"#!/bin/sh\nkill -SEGV $$\n"),
        "did not end within 5 s": lambda: daemon.install(b"#!/bin/sh\nexec sleep 1000\n"),
        "is another program": lambda: daemon.install(pathlib.Path("/bin/true").read_bytes()),
        "doesn't answer --check": lambda: daemon.install(b"#!/bin/sh\necho ok, 1 channel\n"),
    }
    for why, install in unfit.items():
        install()
        result = daemon.upgrade(expect=1)
        assert why in result.stderr, f"{why!r} is expected in {result.stderr!r}"
    daemon.installed.unlink()
    assert "not where it was" in daemon.upgrade(expect=1).stderr

    daemon.install(pathlib.Path(daemon.good).read_bytes())
    good = daemon.config.read_text()
    daemon.config.write_text(good + "nonsense = 1\n")
    result = daemon.upgrade(expect=1)
    assert "exited with status 2" in result.stderr and "nonsense" in result.stderr, result.stderr
    daemon.config.write_text(good.replace("/log\"", "/another\""))
    result = daemon.upgrade(expect=1)
    assert "an upgrade can't change it" in result.stderr, result.stderr
    daemon.config.write_text(good)
    worker = daemon.installed.with_name("holdfast-worker")
    worker.rename(worker.with_name("kept"))
    worker.write_bytes(b"half of it is not there yet")
    worker.chmod(0o755)
    assert "holdfast-worker can't be executed" in daemon.upgrade(expect=1).stderr
    worker.unlink()
    worker.with_name("kept").rename(worker)

    assert daemon.status("engine")["pid"] == entry["pid"], "the worker did not notice"
    daemon.upgrade()
    daemon.wait_state("engine", "RUNNING")
    sender.stop()
    daemon.wait_drained("engine", len(oracle.read_datagrams(sender.record)[0]))
    daemon.stop()
    sink.stop()
    judge(place, daemon, "engine", sender, sink)


def test_clients_while_a_program_is_tried(place):
    """The answer waits for the trial; other clients don't; one that leaves meanwhile, or half, does no harm."""
    daemon = Installed(place, channel("engine", place.ipv4(), record={})).start()
    daemon.install(b"#!/bin/sh\nexec sleep 1000\n")
    asking, leaving, other = (Control(daemon.socket) for _ in range(3))
    asking.send(b'{"jsonrpc":"2.0","id":"u","method":"upgrade"}\n{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
    wait_until(lambda: any(comm(pid) == "sleep" for pid in daemon.descendants()), 10, "the trial")
    leaving.send(b'{"jsonrpc":"2.0","id":1,"method":"upgrade"}\n')
    assert leaving.answer()["error"]["message"] == "an upgrade is under way"
    leaving.close()
    assert other.call("ping")["pid"] == daemon.process.pid
    trial = next(pid for pid in daemon.descendants() if comm(pid) == "sleep")
    kill(trial, signal.SIGTERM)
    first, second = asking.answer(), asking.answer()
    assert first["id"] == "u" and "was killed by SIGTERM" in first["error"]["message"], first
    assert second["id"] == 2 and second["result"]["pid"] == daemon.process.pid

    half = Control(daemon.socket)
    half.send(b'{"jsonrpc":"2.0","id":3,"method":"upgrade"}\n')
    half.socket.shutdown(1)
    gone = Control(daemon.socket)
    gone.send(b'{"jsonrpc":"2.0","method":"upgrade"}\n')
    gone.close()
    assert "did not end within" in half.answer()["error"]["message"]
    daemon.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: any(comm(pid) == "sleep" for pid in daemon.descendants()), 10, "a trial by signal")
    daemon.stop()


def test_a_lapped_ring_goes_on_with_on_full_wait(place):
    """The recorder was lapped and its worker killed before it had counted that; by then the configuration says "wait".
    What is gone is counted, and neither the recorder nor the receiver waits for it."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, ring_size="256K", max_datagram=256, relays={"out": place.ipv4()},
                                      record={"segment_size": "1M", "on_full": "lap"})).start()
    sender = Sender(place, listen, 10**9, rate=20000, sizes=(200,))
    daemon.wait_counter("engine", "recorded", 100)
    worker = daemon.status("engine")["pid"]
    for pid in daemon.helpers():
        kill(pid, signal.SIGSTOP)  # archive and spare: no next segment comes
    daemon.wait_counter("engine", "record_lost", 1000)
    kill(worker, signal.SIGSTOP)
    daemon.config.write_text(daemon.config.read_text().replace('on_full = "lap"', 'on_full = "wait"'))
    assert '"wait"' in daemon.config.read_text()
    daemon.upgrade()
    wait_until(lambda: daemon.status("engine")["pid"] not in (0, None, worker), 20, "the worker after the upgrade")
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_counter("engine", "recorded", daemon.counters("engine")["recorded"] + 2000, 20)
    sender.stop()

    def quiet():
        entry = daemon.status("engine")
        relay = entry["relays"][0]
        done = entry["ring"]["pending"] == 0 and entry["counters"]["received"] == relay["sent"] + relay["dropped"]
        return entry if done else None
    oracle.assert_ledger(wait_until(quiet, 20, "everything to be relayed, and recorded or counted"))
    daemon.stop(expect=None)
    oracle.assert_verified(daemon, daemon.segments("engine"))


def judge_successor(daemon):
    """Workers can still be replaced, and no number is missing in the end."""
    pid = daemon.status("engine")["pid"]
    kill(pid)
    wait_until(lambda: daemon.status("engine")["pid"] not in (None, pid), 20, "a successor")
    daemon.wait_state("engine", "RUNNING")
    daemon.stop()
    oracle.assert_consecutive(oracle.read_with_python_avro(daemon.segments("engine")), first=0)


def judge_after(place, daemon, listen, generation):
    """It goes on with what it held, in the same numbers."""
    entry = daemon.wait_state("engine", "RUNNING", 30)
    assert entry["generation"] > generation, entry
    Sender(place, listen, 500, name="after", rate=5000).wait()
    daemon.wait_drained("engine", 1000)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["recorded"] == 1000 and counters["kernel_dropped"] == 0, counters
    judge_successor(daemon)


@core
def test_a_program_that_vanishes_at_the_last_moment_ends_nothing(place):
    """It passes its trial, and is gone when everything has been let go of for it."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}))
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    generation = daemon.status("engine")["generation"]
    worker = daemon.installed.with_name("holdfast-worker")
    daemon.install(f'#!/bin/sh\nrm -f "{daemon.installed}" "{worker}"\nexec "{daemon.good}" "$@"\n'.encode())
    daemon.upgrade(expect=None)
    daemon.wait_for_log("the program that ran so far goes on")
    judge_after(place, daemon, listen, generation)


@core
def test_an_upgrade_needs_no_second_descriptor_of_everything(place):
    listen = place.ipv4()
    others = [channel(f"other{i}", place.ipv4(), record={"segment_size": "1M"}) for i in range(10)]
    daemon = Installed(place, channel("engine", listen, record={}), *others)
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    generation = daemon.status("engine")["generation"]
    numbers = [int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")]
    limit = max(numbers) + 12
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    daemon.upgrade()
    judge_after(place, daemon, listen, generation)


def vanish(daemon):
    """A program that passes its trial, and is gone when everything has been let go of for it."""
    daemon.install(f'#!/bin/sh\nrm -f "{daemon.installed}"\nexec "{daemon.good}" "$@"\n'.encode())


@core
def test_after_a_failed_one_another_is_possible(place):
    """What goes on then was executed by descriptor, and knows all the same where it is installed."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}))
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    vanish(daemon)
    daemon.upgrade(expect=None)
    daemon.wait_for_log("the program that ran so far goes on")
    generation = daemon.wait_state("engine", "RUNNING")["generation"]
    daemon.install(pathlib.Path(daemon.good).read_bytes())
    # The archive, too, goes on, and an upgrade is refused until it has answered.
    wait_until(lambda: daemon.upgrade(expect=None).returncode == 0, 30, "the upgrade to be accepted")
    judge_after(place, daemon, listen, generation)


def test_a_link_to_the_program_is_followed_anew(place):
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}))
    first, second = (daemon.installed.with_name(name) for name in ("holdfastd-1", "holdfastd-2"))
    daemon.installed.rename(first)
    shutil.copy2(first, second)
    daemon.installed.symlink_to(first)
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    generation = daemon.status("engine")["generation"]
    link = daemon.installed.with_suffix(".new")
    link.symlink_to(second)
    link.rename(daemon.installed)
    daemon.upgrade()
    wait_until(lambda: os.readlink(f"/proc/{daemon.process.pid}/exe") == str(second), 20, "the second program")
    judge_after(place, daemon, listen, generation)


@core
def test_the_configuration_that_was_tried_is_the_one_that_counts(place):
    """An editor saves half of it while a worker is slow to let go."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}), hang_timeout="60s")
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    entry = daemon.status("engine")
    freeze(entry["pid"])
    before = daemon.config.read_text()
    daemon.disconnect()
    upgrade = threading.Thread(target=daemon.ctl, args=("upgrade",))
    upgrade.start()
    daemon.wait_for_log("as soon as the workers have let go")
    daemon.config.write_text(before + '\nchannel "half written')
    upgrade.join()
    judge_after(place, daemon, listen, entry["generation"])


@core
def test_nor_does_a_failed_one_read_it_again(place):
    """What goes on is the program of before, with the configuration of before."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}))
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    generation = daemon.status("engine")["generation"]
    broken = str(daemon.config) + ".broken"
    pathlib.Path(broken).write_text('channel "half written', encoding="utf-8")
    daemon.install(f'#!/bin/sh\n"{daemon.good}" "$@" || exit\nmv "{broken}" "{daemon.config}"\n'
                   f'rm -f "{daemon.installed}"\n'.encode())
    daemon.upgrade(expect=None)
    daemon.wait_for_log("the program that ran so far goes on")
    judge_after(place, daemon, listen, generation)


def upgrade_without_a_worker(place, break_worker):
    """The worker's program is broken when its trial is over and everything is being let go of."""
    listen = place.ipv4()
    daemon = Installed(place, channel("engine", listen, record={}), head='restart { max_delay = "500ms" }', hang_timeout="60s")
    daemon.start()
    Sender(place, listen, 500, name="before", rate=5000).wait()
    daemon.wait_drained("engine", 500)
    entry = daemon.status("engine")
    worker = daemon.installed.with_name("holdfast-worker")
    shutil.copy2(worker, worker.with_name("kept"))
    freeze(entry["pid"])
    daemon.disconnect()
    upgrade = threading.Thread(target=daemon.ctl, args=("upgrade",), kwargs={"expect": None})
    upgrade.start()
    daemon.wait_for_log("as soon as the workers have let go")
    break_worker(worker)
    upgrade.join()
    waiting = daemon.wait_state("engine", "BACKOFF")
    assert str(worker) in waiting["cause"], waiting
    assert not daemon.call("check")["healthy"]
    assert daemon.status()["supervisor"]["pid"] == daemon.process.pid
    Sender(place, listen, 500, name="meanwhile", rate=5000).wait()
    worker.with_name("kept").rename(worker)
    daemon.wait_state("engine", "RUNNING", 30)
    daemon.wait_drained("engine", 1000)
    counters = oracle.assert_ledger(daemon.status("engine"))
    assert counters["recorded"] == 1000 and counters["kernel_dropped"] == 0, counters
    shutil.copy("/bin/false", worker.with_name("other"))
    worker.with_name("other").rename(worker)
    judge_successor(daemon)  # what has run is gone on with, whatever is installed now


@core
def test_a_worker_that_vanishes_at_the_last_moment_ends_nothing(place):
    upgrade_without_a_worker(place, lambda worker: worker.unlink())


def test_a_worker_that_is_half_written_at_the_last_moment_ends_nothing(place):
    def half_written(worker):
        worker.unlink()
        worker.write_bytes(b"half of it is not there yet")
        worker.chmod(0o755)
    upgrade_without_a_worker(place, half_written)


def test_no_child_of_the_program_before_stays_a_zombie(place):
    """Two that nobody knows of: one ends before an upgrade, the other one behind it."""
    daemon = Installed(place, channel("engine", place.ipv4(), record={}))
    gates = [place.folder / name for name in ("first", "second")]
    for gate in gates:
        os.mkfifo(gate)
    daemon.start(wrapper=("/bin/sh", "-c", f'cat "{gates[0]}" & cat "{gates[1]}" & exec "$@"', "sh"))
    daemon.wait_state("engine", "RUNNING")

    def strangers():
        listing = pathlib.Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
        return [pid for pid in listing.read_text(encoding="ascii").split() if comm(pid) in ("cat", "sh")]
    assert len(strangers()) == 2
    gates[0].write_text("")
    wait_until(lambda: len(strangers()) == 1, 10, "the first one to be waited for")
    generation = daemon.status("engine")["generation"]
    daemon.upgrade()
    wait_until(lambda: daemon.status("engine")["generation"] > generation, 20, "the upgrade")
    gates[1].write_text("")
    wait_until(lambda: not strangers(), 10, "the second one to be waited for")
    daemon.stop()


def hold_back(daemon, gate):
    """The next program waits for a line in the gate before it begins, though not when it is only tried."""
    following = daemon.installed.with_name("next")
    shutil.copy2(daemon.good, following)
    os.mkfifo(gate)
    daemon.install(f'#!/bin/sh\ncase " $* " in *" --check "*) ;; *) read line < "{gate}" ;; esac\n'
                   f'exec "{following}" "$@"\n'.encode())


def upgrade_up_to_the_gate(daemon):
    upgrade = threading.Thread(target=daemon.upgrade)
    upgrade.start()
    wait_until(lambda: "holdfastd" not in os.readlink(f"/proc/{daemon.process.pid}/exe"), 20, "the program to be executed")
    return upgrade


@core
def test_whoever_connects_meanwhile_is_answered_by_the_next_program(place):
    daemon = Installed(place, channel("engine", place.ipv4(), record={})).start()
    pid, socket, gate = daemon.wait_state("engine", "RUNNING")["pid"], os.stat(daemon.socket), place.folder / "gate"
    hold_back(daemon, gate)
    upgrade = upgrade_up_to_the_gate(daemon)
    asking = Control(daemon.socket)
    asking.send(b'{"jsonrpc":"2.0","id":1,"method":"check"}\n')
    gate.write_text("go on\n")
    assert asking.answer()["result"]["healthy"]
    upgrade.join()
    assert os.stat(daemon.socket).st_ino == socket.st_ino, "it is the same socket"
    assert daemon.wait_state("engine", "RUNNING")["pid"] != pid
    daemon.stop()
    assert not os.path.exists(daemon.socket)


def test_an_upgrade_lasts_until_the_channels_run_again_and_is_no_illness(place):
    daemon = Installed(place, channel("engine", place.ipv4(), record={}), channel("off", place.ipv4(), record={})).start()
    daemon.wait_state("engine", "RUNNING")
    daemon.wait_state("off", "RUNNING")
    daemon.ctl("stop", "off")
    gate = place.folder / "gate"
    hold_back(daemon, gate)
    upgrade = upgrade_up_to_the_gate(daemon)
    held = HeldProgram(place, daemon.installed.with_name("holdfast-worker"))
    gate.write_text("go on\n")
    checked = daemon.call("check")
    assert checked["healthy"] and [(one["channel"], one["kind"]) for one in checked["problems"]] == [("engine", "upgrading")]
    told = daemon.ctl("check").stdout
    assert "or about to be" in told and "engine is being upgraded" in told, told
    assert upgrade.is_alive()
    held.release()
    upgrade.join()
    assert daemon.status("engine")["state"] == "RUNNING" and daemon.status("off")["state"] == "STOPPED"
    assert not daemon.call("check")["problems"]


def test_a_check_while_workers_let_go_is_not_alarmed(place):
    daemon = Installed(place, channel("engine", place.ipv4(), record={}), hang_timeout="60s").start()
    freeze(daemon.wait_state("engine", "RUNNING")["pid"])
    upgrade = threading.Thread(target=daemon.upgrade)
    upgrade.start()
    daemon.wait_for_log("as soon as the workers have let go")
    checked = daemon.call("check")
    assert checked["healthy"] and checked["problems"][0]["kind"] == "upgrading", checked
    upgrade.join()


def test_the_socket_goes_where_the_configuration_has_it_now(place):
    daemon = Installed(place, channel("engine", place.ipv4(), record={})).start()
    former, text = daemon.socket, daemon.config.read_text()
    daemon.config.write_text(text.replace(str(former), str(former) + ".new"))
    refused = daemon.ctl("--timeout", "2s", "upgrade", expect=1)
    assert "does its configuration name another socket?" in refused.stderr, refused.stderr
    daemon.socket = type(former)(str(former) + ".new")
    wait_until(lambda: os.path.exists(daemon.socket), 20, "the new socket")
    assert daemon.call("check")["healthy"] and not os.path.exists(former)

    daemon.config.write_text(text.replace(f'"{former}"', f'"{daemon.socket}" mode = 0600'))
    daemon.upgrade()
    assert os.stat(daemon.socket).st_mode & 0o777 == 0o600
    os.unlink(daemon.socket)
    daemon.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: os.path.exists(daemon.socket), 20, "a socket that was removed to be there again")
    assert daemon.call("check")["healthy"]
    daemon.stop()
    assert not os.path.exists(daemon.socket)


def test_a_failed_one_keeps_the_socket(place):
    daemon = Installed(place, channel("engine", place.ipv4(), record={})).start()
    socket = os.stat(daemon.socket)
    daemon.wait_state("engine", "RUNNING")
    vanish(daemon)
    assert "the program that ran so far goes on" in daemon.upgrade(expect=1).stderr
    assert os.stat(daemon.socket).st_ino == socket.st_ino and daemon.call("check")["healthy"]
    daemon.install(pathlib.Path(daemon.good).read_bytes())
    daemon.upgrade()
    assert os.stat(daemon.socket).st_ino == socket.st_ino and daemon.call("check")["healthy"]
