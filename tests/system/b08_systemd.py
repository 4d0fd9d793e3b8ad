# SPDX-License-Identifier: MIT
"""Under a real systemd, process 1 of its own small machine, with the unit as it is shipped: ready means ready, a stopped
or killed supervisor comes back with everything it held, and a stop is a stop. No datagram that the kernel accepted is
missing in the log or on the relay, and none is recorded twice."""

import json
import pathlib
import signal

from lib import oracle
from lib.holdfast import Daemon, Sender, Sink, channel
from lib.place import is_alive, kill, skip, wait_until
from lib.systemd_machine import SystemdMachine


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class Service(Daemon):
    """holdfast.service on a machine of its own. Sender and sink share the machine's network with it."""

    def __init__(self, place, drop_in=""):
        if place.sanitized:
            skip("a sanitizer's memory does not fit the unit's sandbox")
        self.machine = SystemdMachine(place)
        self.listen, self.outlet = "127.0.0.1:26000", "127.0.0.1:26001"
        super().__init__(place, channel("engine", self.listen, relays={"display": self.outlet},
                                        decimates={"slow": {"to": "127.0.0.1:26002", "keep_every": 5}},
                                        record={"segment_size": "4M"}),
                         channel("gps", "127.0.0.1:26003", record={}), log_dir="/var/lib/holdfast")
        text = self.config.read_text().replace(str(self.socket), "/run/holdfast/control.sock")
        self.machine.config.write_text(text)
        self.socket = self.machine.root / "run/holdfast/control.sock"
        self.log_dir = self.machine.root / "var/lib/private/holdfast"  # a link leads there, because of DynamicUser
        if drop_in:
            self.machine.drop_in(drop_in)

    def systemctl(self, *arguments):
        self.disconnect()
        result = self.machine.run("systemctl", *arguments, expect=None)
        if result.returncode != 0:
            journal = self.machine.run("journalctl", "--no-pager", "--lines=60").stdout
            raise AssertionError(f"systemctl {' '.join(arguments)}: {result.stderr}{journal}")
        return result.stdout

    def show(self, name):
        return self.machine.run("systemctl", "show", "--value", "--property", name, "holdfast").stdout.strip()

    def pids(self):
        """Of the service, as seen from out here: the supervisor first. A child has its name too until it executes."""
        def settled():
            pids = sorted(map(int, self.service_cgroup().read_text(encoding="ascii").split()))
            main = [pid for pid in pids if name_of(pid) == "holdfastd"]
            return main + [pid for pid in pids if pid not in main] if len(main) == 1 else None
        return wait_until(settled, 10, "one supervisor in the service's cgroup")

    def service_cgroup(self):
        return self.machine.cgroup / "system.slice/holdfast.service/cgroup.procs"

    def journal(self, *arguments):
        output = self.machine.run("journalctl", "--output=json", "--no-pager", *arguments, expect=None).stdout
        return [json.loads(line) for line in output.splitlines()]

    def messages(self):
        return "\n".join(str(entry.get("MESSAGE")) for entry in self.journal("--unit=holdfast"))

    def wait_restarted(self, restarts, deadline=30):
        self.disconnect()
        wait_until(lambda: int(self.show("NRestarts")) >= restarts and self.show("SubState") == "running", deadline,
                   f"restart {restarts} by systemd")

    def start_clean(self):
        self.systemctl("start", "holdfast")
        return Sink(self.place, self.outlet)

    def judge(self, senders, sink):
        """All of it once in the log and at least once on the relay; then stop."""
        sent = [payload for sender in senders for payload in oracle.read_datagrams(sender.record)[0]]
        wait_until(lambda: self.status("engine")["ring"]["pending"] == 0 and
                   self.status("engine")["log"]["next_seq"] >= len(sent), 60, "everything to be recorded")
        entry = self.status("engine")
        assert entry["counters"]["kernel_dropped"] == 0, entry["counters"]
        oracle.assert_ledger(entry)
        self.systemctl("stop", "holdfast")
        sink.stop()
        self.assert_clean_stop()
        files = self.segments("engine")
        self.machine.run("holdfastctl", "verify", *(self.inside(file) for file in files))
        records = oracle.read_with_avro_c(self.place, files)
        oracle.assert_consecutive(records, first=0)
        oracle.assert_same_payloads(sent, [record.payload for record in records], "recorded")
        oracle.assert_at_least_once(sent, oracle.read_datagrams(sink.record)[0], "relayed")

    def inside(self, path):
        return "/" + str(path.relative_to(self.machine.root))

    def assert_clean_stop(self):
        assert self.show("Result") == "success", self.show("Result")
        assert self.show("ExecMainStatus") == "0"
        assert self.show("NFileDescriptorStore") == "0", "an orderly end leaves nothing in the store"
        assert not self.segments("engine", ".avro.open") and not self.segments("gps", ".avro.open")


def test_start_means_ready_and_stop_means_sealed(place):
    service = Service(place)
    sink = service.start_clean()
    assert {entry["state"] for entry in service.status()["channels"]} == {"RUNNING"}, "start returns when it is ready"
    wait_until(lambda: "2 of 2 channels running" in service.show("StatusText"), 10, "a useful status text")
    assert "2 of 2 channels running" in service.systemctl("status", "holdfast")
    assert service.show("StatusErrno") == "0" and service.show("NRestarts") == "0"
    senders = []
    for number in range(3):
        senders.append(Sender(place, service.listen, 2000, name=f"sent-{number}", tag=number + 1, rate=20000))
        senders[-1].wait()
        service.wait_counter("engine", "received", 2000)
        if number < 2:
            service.systemctl("stop", "holdfast")
            service.assert_clean_stop()
            service.systemctl("start", "holdfast")
    service.judge(senders, sink)


def test_a_restart_under_load_goes_on_in_the_same_numbers(place):
    """A stop closes the sockets: what is sent until the start, the kernel refuses. What it accepted is recorded."""
    service = Service(place)
    sink = service.start_clean()
    sender = Sender(place, service.listen, 10**9, rate=10000, sizes=(64, 200))
    for _ in range(2):
        service.wait_counter("engine", "recorded", 2000)
        service.systemctl("restart", "holdfast")
    service.wait_counter("engine", "recorded", 2000)
    sender.stop()
    service.systemctl("stop", "holdfast")
    service.assert_clean_stop()
    sink.stop()
    records = oracle.read_with_avro_c(place, service.segments("engine"))
    oracle.assert_consecutive(records, first=0)
    sent = oracle.read_datagrams(sender.record)[0]
    recorded = [record.payload for record in records]
    assert len(set(recorded)) == len(recorded) >= 6000 and set(recorded) <= set(sent)
    assert set(recorded) <= set(oracle.read_datagrams(sink.record)[0])


def test_a_killed_supervisor_comes_back_with_everything(place):
    """SIGKILL under load, several times; each time one worker is stopped, so that it can't leave by itself: systemd ends
    it before it starts the next supervisor, which is what the unit says of KillMode."""
    service = Service(place)
    sink = service.start_clean()
    sender = Sender(place, service.listen, 10**9, rate=20000, sizes=(64, 200))
    deaths = 5
    for number in range(deaths):
        recorded = service.counters("engine")["recorded"]
        service.wait_counter("engine", "recorded", recorded + 4000)
        supervisor, *below = service.pids()
        assert len(below) >= 4, "two workers, archive and spare"
        if number % 2:
            kill(below[-1], signal.SIGSTOP)
        kill(supervisor)
        service.wait_restarted(number + 1)
        assert not any(map(is_alive, below)), "the workers before have ended when the next supervisor starts"
        assert {entry["state"] for entry in service.status()["channels"]} == {"RUNNING"}
    sender.stop()
    assert "still had the ring" not in service.messages()
    service.judge([sender], sink)


def test_an_upgrade_stays_the_same_service(place):
    """The same main process, inside the same sandbox; and the store is still right when it is killed afterwards."""
    service = Service(place)
    sink = service.start_clean()
    sender = Sender(place, service.listen, 10**9, rate=10000, sizes=(64, 200))
    for number in range(2):
        recorded = service.counters("engine")["recorded"]
        service.wait_counter("engine", "recorded", recorded + 2000)
        supervisor = service.pids()[0]
        service.disconnect()
        service.machine.run("holdfastctl", "upgrade")
        service.wait_state("engine", "RUNNING")
        assert service.pids()[0] == supervisor and int(service.show("NRestarts")) == number
        assert service.show("ActiveState") == "active"
        service.wait_counter("engine", "recorded", recorded + 4000)
        kill(supervisor)
        service.wait_restarted(number + 1)
    sender.stop()
    service.judge([sender], sink)


def test_the_watchdog_replaces_a_stopped_supervisor(place):
    """A stopped process does not even die of the watchdog's SIGABRT; SIGKILL follows after TimeoutAbortSec."""
    service = Service(place, "WatchdogSec=1s\nTimeoutAbortSec=1s\n")
    sink = service.start_clean()
    sender = Sender(place, service.listen, 10**9, rate=5000)
    service.wait_counter("engine", "recorded", 1000)
    stopped = service.pids()[0]
    kill(stopped, signal.SIGSTOP)
    service.wait_restarted(1)
    assert not is_alive(stopped)
    assert "Watchdog timeout" in service.messages()
    service.wait_counter("engine", "recorded", 1000)
    sender.stop()
    service.judge([sender], sink)


def test_a_crash_is_in_the_journal_with_its_fields(place):
    service = Service(place)
    sink = service.start_clean()
    victim = next(pid for pid in service.pids()
                  if f"\nNSpid:\t{pid}\t{service.status('engine')['pid']}\n"
                  in pathlib.Path(f"/proc/{pid}/status").read_text())
    kill(victim, signal.SIGSEGV)
    service.wait_counter("engine", "restarts", 1)
    service.wait_state("engine", "RUNNING")
    entries = wait_until(lambda: service.journal("HOLDFAST_CHANNEL=engine", f"HOLDFAST_SIGNAL={int(signal.SIGSEGV)}"),
                         10, "the obituary in the journal")
    assert int(entries[0]["HOLDFAST_SIGNAL"]) == signal.SIGSEGV, entries[0]
    assert int(entries[0]["HOLDFAST_GENERATION"]) >= 1 and int(entries[0]["PRIORITY"]) <= 4
    assert entries[0]["_SYSTEMD_UNIT"] == "holdfast.service"
    assert service.show("NRestarts") == "0", "a worker's death is the supervisor's business"
    sender = Sender(place, service.listen, 500, rate=5000)
    sender.wait()
    service.judge([sender], sink)


def test_every_line_about_a_channel_has_its_field(place):
    """Of the supervisor, the archive and the workers, also of one that ends; and each is the unit's."""
    service = Service(place)
    sink = service.start_clean()
    text = service.machine.config.read_text()
    service.machine.config.write_text(text.replace('channel "gps" {', 'channel "gps" {\n  cpus = "1000"'))
    sender = Sender(place, service.listen, 500, rate=5000)
    sender.wait()
    service.wait_drained("engine", 500)
    service.disconnect()
    service.machine.run("holdfastctl", "rotate", "engine")
    service.machine.run("holdfastctl", "upgrade")
    service.judge([sender], sink)
    entries = service.journal("--unit=holdfast")
    told = [entry for entry in entries if entry["_COMM"].startswith("holdfast")]
    for name in ("engine", "gps"):
        about = [entry for entry in told if f"channel {name}" in entry["MESSAGE"]]
        assert about and all(entry.get("HOLDFAST_CHANNEL") == name for entry in about), about
    assert any("cpus: " in entry["MESSAGE"] for entry in told if entry.get("HOLDFAST_CHANNEL") == "gps"), \
        "a worker's own line"
    assert all("HOLDFAST_CHANNEL" not in entry for entry in told if "channel" not in entry["MESSAGE"])
    assert {entry["SYSLOG_IDENTIFIER"] for entry in told} == {"holdfastd"}
