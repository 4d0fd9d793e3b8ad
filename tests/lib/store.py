# SPDX-License-Identifier: MIT
"""A service manager with a store of descriptors, as far as holdfastd can tell: what it asks to be kept is kept, and handed
to the next supervisor under the same names (sd_notify(3), sd_listen_fds(3))."""

import array
import os
import select
import socket
import subprocess
import sys
import threading

from lib.holdfast import Daemon, Notifications
from lib.place import kill


# What a service manager does to hand descriptors over: 3 and following, named, addressed to this very process.
HAND_OVER = """
import os, sys
fds, names, program = [int(fd) for fd in sys.argv[1].split(",") if fd], sys.argv[2], sys.argv[3:]
high = [os.dup2(fd, 500 + at) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(fds), 1024)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(program[0], program)
"""


class Store(Notifications):
    """A notification socket that keeps descriptors as FDSTORE=1 asks for."""

    def __init__(self, path):
        self.kept = {}
        self.lock = threading.Lock()
        super().__init__(path)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        """A manager reads all the time; the kernel queues few messages for one that does not."""
        while select.select([self.socket], [], [])[0]:
            self.poll()

    def poll(self):
        with self.lock:
            return self.read_all()

    def read_all(self):
        while True:
            try:
                data, controls, _flags, _from = self.socket.recvmsg(65536, 4096)
            except BlockingIOError:
                return self.messages
            fds = array.array("i")
            for level, kind, content in controls:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(content[:len(content) // 4 * 4])
            lines = data.decode().splitlines()
            fields = dict(line.split("=", 1) for line in lines)
            if "FDSTOREREMOVE" in fields:
                for fd in self.kept.pop(fields["FDNAME"], []):
                    os.close(fd)
            elif "FDSTORE" in fields:
                assert fields["FDPOLL"] == "0", "or an error on a socket would throw it out of the store"
                self.kept.setdefault(fields["FDNAME"], []).extend(fds)
            self.messages += lines

    def take_messages(self):
        self.poll()
        self.messages = []


class StoredDaemon(Daemon):
    """holdfastd under a service manager with a store."""

    def start_stored(self, wait=True):
        if self.notifications is None:
            self.notifications = Store(self.place.folder / "store.sock")
        self.notifications.take_messages()
        kept = [(name, fd) for name, fds in self.notifications.kept.items() for fd in fds]
        command = [self.place.program("holdfastd"), "--config", str(self.config)]
        if kept:
            command = [sys.executable, "-c", HAND_OVER, ",".join(str(fd) for _, fd in kept),
                       ":".join(name for name, _ in kept), *command]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[fd for _, fd in kept], env=self.environment({}),
                                            cwd=self.place.folder)
        if wait:
            self.wait_ready()
        return self

    def die(self):
        """As a service manager sees it: the main process is gone, and it kills what is left of the service."""
        self.notifications.poll()
        self.kill_all()
        self.notifications.poll()

    def die_alone(self):
        """The main process is gone, and nobody looks after what is left of the service. Returns their pids."""
        below = self.descendants()
        self.disconnect()
        kill(self.process.pid)
        self.process.wait(10)
        self.notifications.poll()
        return below
