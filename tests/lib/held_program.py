# SPDX-License-Identifier: MIT
"""A program that can't be executed as long as somebody wants it: whoever tries waits in the kernel, as for a disk that
doesn't answer (fanotify(7), FAN_OPEN_EXEC_PERM)."""

import ctypes
import os
import select
import struct

from lib.place import skip, wait_until

FAN_CLASS_CONTENT, FAN_CLOEXEC, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, FAN_ALLOW, AT_FDCWD = 4, 1, 1, 0x40000, 1, -100
EVENT = struct.Struct("=IBBHQii")


class HeldProgram:
    def __init__(self, place, path):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.waiting = []
        self.fd = self.libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
        if self.fd < 0:
            skip(f"holding a program needs root and fanotify ({os.strerror(ctypes.get_errno())})")
        place.on_exit(self.release)
        mark = ctypes.c_uint64(FAN_OPEN_EXEC_PERM)
        if self.libc.fanotify_mark(self.fd, FAN_MARK_ADD, mark, AT_FDCWD, os.fsencode(path)) < 0:
            skip(f"this kernel can't hold a program ({os.strerror(ctypes.get_errno())})")

    def pids(self):
        """Of those that have tried so far."""
        while self.fd >= 0 and select.select([self.fd], [], [], 0)[0]:
            data = os.read(self.fd, 4096)
            for at in range(0, len(data), EVENT.size):
                fields = EVENT.unpack_from(data, at)
                self.waiting.append((fields[5], fields[6]))
        return [pid for _fd, pid in self.waiting]

    def wait_for_one(self):
        """The first one."""
        return wait_until(self.pids, 10, "somebody who executes it")[0]

    def release(self):
        """Whoever waits is let through, and so is everybody else."""
        if self.fd < 0:
            return
        self.pids()
        for fd, _pid in self.waiting:
            os.write(self.fd, struct.pack("=iI", fd, FAN_ALLOW))
            os.close(fd)
        os.close(self.fd)
        self.fd = -1
