# SPDX-License-Identifier: MIT
"""A disk that a test can break."""

import fcntl
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys

from lib.place import ROOT, freeze, kill, skip

FIFREEZE, FITHAW, EXT4_IOC_SHUTDOWN = 0xC0045877, 0xC0045878, 0x8004587D
SHUTDOWN_NOW = struct.pack("I", 2)  # without flushing the journal


class Disk:
    """A small file system of this test's own, that can be broken in every way and comes back."""

    format_options, mount_options = (), "loop,errors=remount-ro"

    def __init__(self, place, kind="ext4", size=64):
        place.private_mounts()
        self.place, self.kind, self.size = place, kind, size
        self.where = place.folder / "disk"
        self.where.mkdir()
        if kind == "tmpfs":
            place.mount_tmpfs(self.where, f"{size}M")
            return
        if not shutil.which("mkfs.ext4"):
            skip("mkfs.ext4 is not there (Debian package e2fsprogs)")
        self.mount()

    def mount(self):
        """A new, empty one, on top of what may be there."""
        self.image = self.image_folder() / f"disk.{self.place.count('disk')}"
        with open(self.image, "wb") as image:
            image.truncate(self.size << 20)
        self.place.run("mkfs.ext4", "-q", *self.format_options, self.image)
        result = self.place.run("mount", "-o", self.mount_options, self.image, self.where, expect=None)
        if result.returncode:
            skip(f"no loop device can be mounted here: {result.stderr.strip()}")
        self.place.on_exit(lambda: self.place.unmount(self.where))

    def image_folder(self):
        return self.place.folder

    def ioctl(self, number, argument=0):
        folder = os.open(self.where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, number, argument)
        finally:
            os.close(folder)

    def freeze(self):
        """Like a disk that does not answer: whoever writes sleeps without interruption."""
        self.place.on_exit(self.thaw)
        self.ioctl(FIFREEZE)

    def thaw(self):
        try:
            self.ioctl(FITHAW)
        except OSError:
            pass  # not frozen

    def device(self):
        return pathlib.Path(self.place.run("losetup", "-j", self.image).stdout.partition(":")[0]).name

    def fill(self):
        """Until nothing more fits."""
        with open(self.where / "filler", "wb", buffering=0) as filler:
            for piece in (1 << 20, 1 << 16, 4096):
                try:
                    while filler.write(bytes(piece)) == piece:
                        pass
                except OSError:
                    pass

    def free(self):
        (self.where / "filler").unlink()


class FarDisk:
    """As if behind a cable: while it is pulled, whoever needs the disk waits, and nothing can be done about it."""

    def __init__(self, place, size=96):
        place.private_mounts()
        if not shutil.which("mkfs.ext4") or not os.path.exists("/dev/fuse"):
            skip("mkfs.ext4 (Debian package e2fsprogs) or /dev/fuse is not there")
        self.where, far, backing = place.folder / "disk", place.folder / "far", place.folder / "backing"
        self.where.mkdir()
        far.mkdir()
        backing.touch()
        os.truncate(backing, size << 20)
        self.server = subprocess.Popen([sys.executable, ROOT / "tests/lib/far_disk.py", far, backing],
                                       stdout=subprocess.PIPE)
        place.on_exit(self.server.kill)
        if self.server.stdout.readline() != b"ready\n":
            skip("no FUSE file system can be mounted here")
        place.on_exit(lambda: place.unmount(far))
        place.run("mkfs.ext4", "-q", far / "image")
        if place.run("mount", "-o", "loop", far / "image", self.where, expect=None).returncode:
            skip("no loop device can be mounted here")
        place.on_exit(lambda: place.unmount(self.where))
        place.on_exit(self.plug_in)

    def pull(self):
        freeze(self.server.pid)

    def plug_in(self):
        kill(self.server.pid, signal.SIGCONT)


class ThinDisk(Disk):
    """Thinly provisioned: what was allocated may still not be there when it is written, and then the kernel forgets it."""

    # Without a journal, whose failure would end the file system. Its tables are written at once.
    format_options, mount_options = ("-O", "^has_journal", "-E", "lazy_itable_init=0"), "loop,errors=continue"

    def __init__(self, place, room=40):
        self.room = room
        super().__init__(place)

    def image_folder(self):
        store = self.place.folder / "store"
        self.place.mount_tmpfs(store, f"{self.room}M")
        return store

    def exhaust(self):
        with open(self.image.with_name("filler"), "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)) == 4096:
                    pass
            except OSError:
                pass

    def replenish(self):
        self.image.with_name("filler").unlink()

    def forget(self):
        """What the machine's memory has of it, so that the disk itself is read."""
        self.place.run("umount", self.where)
        self.place.run("mount", "-o", self.mount_options, self.image, self.where)


class HeldFolder:
    """Recovery waits for a lock: as a folder of many gigabytes would have it do."""

    def __init__(self, folder):
        self.lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def release(self):
        os.close(self.lock)


def cut_off(path, kept):
    """The power went out before the disk had more of it than that."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        file.truncate(kept)
        file.truncate(size)
