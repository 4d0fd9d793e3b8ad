# SPDX-License-Identifier: MIT
"""Programs that fetch log files, as processes of their own, and the judgement over what came: copies of the files tell."""

import collections
import errno
import os
import subprocess
import zlib

from lib.place import children_of, state_of
from lib.reading import NOBODY

HOWS = ("fd", "copy", "splice")
# The library waits two seconds for each answer, and asks three gates in vain at most; the rest is for a busy machine.
HANG_MS = 15_000
# Removed, sealed just now or still open, nobody there for a moment, or beyond the end of what is in finished blocks.
HONEST = {errno.ENOENT, errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT,
          errno.EPIPE, errno.EINVAL}

Fetch = collections.namedtuple("Fetch", "name offset length result bytes crc milliseconds")


class Fetcher:
    """tool_fetcher in the background; as another user, where the test is root."""

    def __init__(self, place, daemon, how, name="engine"):
        number = place.count("fetcher")
        folder = place.folder / f"fetcher-{number}"
        folder.mkdir()
        self.how, self.record = how, folder / "fetches"
        self.log = place.log_file(f"fetcher-{number}.log")
        other = {}
        if os.getuid() == 0:
            os.chmod(place.folder, 0o711)
            os.chown(folder, NOBODY, NOBODY)
            other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([place.program("tool_fetcher"), str(daemon.socket.with_name("read.sock")), name, how,
                                             str(self.record)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **other)
        place.on_exit(self.end)
        assert self.process.stdout.readline() == b"ready\n", self.log.read_text()

    def fetches(self):
        lines = self.record.read_text(encoding="ascii").splitlines(keepends=True)
        return [Fetch(line.split()[0], *map(int, line.split()[1:])) for line in lines if line.endswith("\n")]

    def whole(self):
        return sum(fetch.result >= 0 for fetch in self.fetches())

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.log.read_text()
        return self.fetches()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Keeper:
    """Copies of sealed files, made while they are there."""

    def __init__(self, place, daemon):
        self.daemon, self.folder, self.known = daemon, place.folder / "kept", {}
        self.folder.mkdir()

    def look(self):
        for path in self.daemon.segments("engine"):
            if path.name in self.known:
                continue
            try:
                with open(path, "rb") as file:
                    data = file.read()
                    there = os.fstat(file.fileno()).st_nlink > 0  # else there may be holes in it
            except FileNotFoundError:
                continue
            if there:
                (self.folder / path.name).write_bytes(data)
                self.known[path.name] = len(data)

    def bytes_of(self, name):
        return (self.folder / name).read_bytes() if name in self.known else None


def judge(keeper, fetchers):
    """Whatever came is what the file has there. Returns how many fetches came whole, ended early, and could not be judged."""
    by_name, counts = collections.defaultdict(list), collections.Counter()
    for fetcher, fetches in fetchers:
        for fetch in fetches:
            by_name[fetch.name].append((fetcher.how, fetch))
    for name, entries in by_name.items():
        data = keeper.bytes_of(name)
        for how, fetch in entries:
            where = f"{how}: {fetch}"
            assert fetch.milliseconds < HANG_MS, f"it hung: {where}"
            assert fetch.result >= 0 or -fetch.result in HONEST, f"{errno.errorcode.get(-fetch.result)}: {where}"
            assert fetch.result < 0 or fetch.result == fetch.bytes, where
            counts["whole " + how if fetch.result >= 0 else errno.errorcode[-fetch.result]] += 1
            counts["cut short"] += fetch.result < 0 < fetch.bytes
            if data is None:
                counts["not judged"] += fetch.bytes > 0
                continue
            came = data[fetch.offset:fetch.offset + fetch.bytes]
            assert len(came) == fetch.bytes and zlib.crc32(came) == fetch.crc, f"wrong bytes: {where}"
            counts["judged"] += fetch.bytes > 0
    return counts


def zombies(daemon):
    return [pid for pid in children_of(daemon.process.pid) if state_of(pid) == "Z"]
