# SPDX-License-Identifier: MIT
"""A small machine for one test: a real systemd as process 1 of its own namespaces, on an overlay of this machine's
root, with holdfast installed in it. It shares nothing with this machine that can be written: /tmp, /run, /dev, /etc and
/var are the overlay's or its own, /proc/sys and /sys are read-only, cgroups are below one made for it, its network is
the test's private one, and it may not set the clock, boot, or load modules. Only the units named here exist in it."""

import os
import pathlib
import re
import shutil
import subprocess
import time

from lib.place import is_alive, kill, skip, wait_until

SOURCE = os.environ.get("HOLDFAST_TEST_SOURCE", str(pathlib.Path(__file__).resolve().parents[2]))
UNITS = "/usr/lib/holdfast-test-units"
# Enough of a system for a service with default dependencies and a journal. Everything else does not exist.
SHARED_UNITS = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
                "sysinit.target", "basic.target", "sockets.target", "paths.target", "timers.target", "slices.target",
                "local-fs.target", "shutdown.target", "umount.target", "final.target", "network.target"]
DEFAULT_TARGET = "[Unit]\nRequires=basic.target systemd-journald.service\nAfter=basic.target systemd-journald.service\n"
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
FORBIDDEN = "-sys_time,-sys_boot,-sys_module,-sys_rawio,-syslog,-wake_alarm"
# First into the cgroup, then the namespaces: its root cgroup is the one it is in when the namespace is made.
BOOT = """
echo $$ > {cgroup}/cgroup.procs
exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc sh -e -c '
  cd {root}
  mount -t proc proc proc
  mount --bind proc/sys proc/sys
  mount -o remount,ro,bind proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mkdir -p run/old-root
  pivot_root . run/old-root
  umount -l /run/old-root
  exec setpriv --bounding-set {forbidden} env -i container=holdfast-test SYSTEMD_UNIT_PATH={units} \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --log-target=journal --show-status=false \
    --log-color=false --crash-reboot=false'
"""


def cgroup2_mount():
    for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="ascii").splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return pathlib.Path(before.split()[4])
    skip("no cgroup2 hierarchy is mounted here")
    return None


class SystemdMachine:
    """Made and booted in the constructor; ended by the place."""

    def __init__(self, place):
        self.place = place
        self.base = place.folder / "machine"
        self.root = self.base / "root"
        self.log = place.log_file("systemd.log")
        self.units = self.root / UNITS.lstrip("/")
        self.config = None
        self.process = None
        self.cgroup = None
        self.check_possible()
        place.private_network()
        place.private_mounts()
        self.make_root()
        self.install()
        self.boot()

    # ---- making it ----

    @staticmethod
    def check_possible():
        if os.geteuid() != 0:
            skip("a systemd of its own needs root")
        for program in ("/usr/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/unshare", "/usr/bin/nsenter",
                        "/usr/bin/setpriv"):
            if not os.path.exists(program):
                skip(f"{program} is not installed")

    def mount(self, kind, where, options=""):
        self.place.run("mount", "-t", kind, *(["-o", options] if options else []), kind, where)

    def make_root(self):
        self.base.mkdir()
        self.mount("tmpfs", self.base, "size=1G,mode=755")
        self.place.on_exit(lambda: self.place.unmount(self.base))
        for name in ("upper", "work", "root"):
            (self.base / name).mkdir()
        try:
            self.mount("overlay", self.root, f"lowerdir=/,upperdir={self.base}/upper,workdir={self.base}/work")
        except AssertionError as error:
            skip(f"no overlay file system here: {str(error).splitlines()[-1]}")
        self.place.on_exit(lambda: self.place.unmount(self.root))
        for name in ("tmp", "run", "dev", "var/tmp", "var/log", "var/lib"):
            self.mount("tmpfs", self.root / name, "mode=1777" if name.endswith("tmp") else "mode=755")
        for name, (major, minor) in DEVICES.items():
            os.mknod(self.root / "dev" / name, 0o020666, os.makedev(major, minor))
            os.chmod(self.root / "dev" / name, 0o666)
        (self.root / "dev/ptmx").symlink_to("pts/ptmx")
        for name in ("journald.conf", "system.conf"):
            (self.root / "etc/systemd" / name).unlink(missing_ok=True)
        (self.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (self.root / "etc/hostname").write_text("holdfast-test\n")
        (self.root / "etc/fstab").write_text("")

    def install(self):
        """The programs where the installation puts them, and the units that exist."""
        flags = (self.place.build / "flags").read_text(encoding="utf-8")
        prefix = re.search(r"HOLDFAST_LIBEXECDIR='\"(.*)/libexec/holdfast\"'", flags).group(1)
        self.config = self.root / ("etc" if prefix == "/usr" else f"{prefix[1:]}/etc") / "holdfast/holdfast.conf"
        # "-o all": what is tested is installed as it is, nothing is built here.
        self.place.run("make", "-C", SOURCE, "-o", "all", "install", f"BUILD={self.place.build}",
                       f"DESTDIR={self.root}", f"PREFIX={prefix}", f"UNITDIR={UNITS}")
        for name in SHARED_UNITS:
            shutil.copy(pathlib.Path("/usr/lib/systemd/system") / name, self.units / name)
        (self.units / "default.target").write_text(DEFAULT_TARGET)

    def drop_in(self, text):
        folder = self.units / "holdfast.service.d"
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text("[Service]\n" + text)
        self.run("systemctl", "daemon-reload")

    # ---- life and death ----

    def boot(self):
        self.cgroup = cgroup2_mount() / f"holdfast-test-{os.getpid()}"
        self.cgroup.mkdir()
        self.place.on_exit(self.end)
        script = BOOT.format(cgroup=self.cgroup, root=self.root, units=UNITS, forbidden=FORBIDDEN)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["sh", "-e", "-c", script], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)

        def booted():
            if self.process.poll() is not None:
                skip(f"systemd can't run here: {self.log.read_text(errors='replace')[-300:]}")
            state = self.run("systemctl", "is-system-running", expect=None).stdout.strip() if self.init_pid() else ""
            return state in ("running", "degraded")
        wait_until(booted, 30, "systemd to have booted", interval=0.1)

    def init_pid(self):
        """Process 1 of the machine, as this namespace knows it."""
        try:
            pids = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii").split()
        except OSError:
            return None
        return int(pids[0]) if pids else None

    def run(self, *arguments, **options):
        """Run a program inside."""
        return self.place.run("nsenter", "--target", self.init_pid(), "--mount", "--pid", "--cgroup", "--uts", "--ipc",
                              "--root", "--wd", *arguments, **options)

    def end(self):
        init = self.init_pid()
        if init:
            kill(init)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        if init:
            wait_until(lambda: not is_alive(init), 10, "the machine to be off")
        folders = sorted(self.cgroup.glob("**/"), key=lambda path: len(path.parts), reverse=True)
        deadline = time.monotonic() + 10
        for folder in folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    assert time.monotonic() < deadline, f"{folder} can't be removed"
                    time.sleep(0.02)
