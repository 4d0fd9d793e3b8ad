# SPDX-License-Identifier: MIT
"""Programs that write into a channel without UDP, as processes of their own, and the judgement over what became of what
they committed."""

import collections
import json
import os
import signal
import struct
import subprocess

from lib import oracle
from lib.place import wait_until


class Publisher:
    """tool_publisher in the background; a successor of one that was killed goes on with its account."""

    def __init__(self, place, daemon, name, channel="engine", user=None, **options):
        self.user = {"user": user, "group": user, "extra_groups": []} if user else {}
        self.place, self.daemon, self.name, self.channel, self.options = place, daemon, name, channel, options
        self.account = place.folder / f"{name}.account"
        self.log = place.log_file(f"{name}.publisher.log")
        self.process, self.is_ready = None, False
        if user:
            os.chmod(place.folder, 0o711)
            self.account.touch()
            os.chown(self.account, user, user)
        place.on_exit(self.end)
        self.start()

    def begin(self):
        arguments = [self.place.program("tool_publisher"), "--socket", str(self.daemon.socket.with_name("read.sock")),
                     "--channel", self.channel, "--account", str(self.account), "--name", self.name]
        for key, value in self.options.items():
            arguments.append("--" + key.replace("_", "-"))
            if value is not True:
                arguments.append(str(value))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                            **self.user)

        self.is_ready = False

    def await_ready(self):
        if not self.is_ready:
            assert self.process.stdout.readline() == b"ready\n", f"it could not publish: {self.log.read_text()}"
        self.is_ready = True

    def start(self):
        self.begin()
        self.await_ready()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def counts(self):
        """(committed for certain, about to be committed)"""
        data = self.account.read_bytes() if self.account.exists() else b""
        return struct.unpack_from("<QQ", data) if len(data) >= 16 else (0, 0)

    def wait_committed(self, count, deadline=60):
        wait_until(lambda: self.counts()[0] >= count, deadline, f"{self.name} to commit {count}")

    def wait(self, deadline=120):
        output, _ = self.process.communicate(timeout=deadline)
        assert self.process.returncode == 0, f"{self.name} failed: {self.log.read_text()}"
        return json.loads(output.decode().splitlines()[-1])

    def stop(self):
        self.await_ready()  # before that, a signal would end it as any program
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def settle(self):
        """A publisher that was killed knows no better than its account: was the last one committed?"""
        committed, about = self.counts()
        assert about in (committed, committed + 1), (committed, about)
        return committed, about

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def by_publisher(payloads):
    """name -> the numbers that came, in that order."""
    found = collections.defaultdict(list)
    for payload in payloads:
        name, number, _ = payload.split(b" ", 2)
        found[name.decode()].append(int(number))
    return found


def assert_all_there(publishers, payloads):
    """What was committed arrived once, in order; of a publisher that was killed, the last one may have been."""
    found = by_publisher(payloads)
    assert set(found) <= {publisher.name for publisher in publishers}, set(found)
    for publisher in publishers:
        numbers = found[publisher.name]
        committed, about = publisher.settle()
        repeated = [number for number, count in collections.Counter(numbers).items() if count > 1]
        missing = sorted(set(range(committed)) - set(numbers))
        assert not missing, f"{publisher.name}: {len(missing)} of {committed} are missing: {missing[:10]}"
        assert not repeated, f"{publisher.name}: {len(repeated)} came twice: {repeated[:10]}"
        assert numbers == sorted(numbers), f"{publisher.name}: out of order"
        assert len(numbers) <= about, f"{publisher.name}: {len(numbers)} came of {about}"


def recorded(place, daemon, channel="engine"):
    records = oracle.read_with_avro_c(place, daemon.segments(channel))
    oracle.assert_consecutive(records, first=0)
    return records


def is_root():
    return os.getuid() == 0
