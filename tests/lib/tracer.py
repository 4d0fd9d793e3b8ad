# SPDX-License-Identifier: MIT
"""Somebody who looks at a process with ptrace(2), as strace and gdb do. What dies while it is looked at has no end for its
parent before the tracer lets go."""

import subprocess
import sys

from lib.place import skip, state_of, wait_until

PROGRAM = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_SEIZE = 0x4206
for thread in sys.argv[1:]:
    if libc.ptrace(PTRACE_SEIZE, int(thread), None, None) != 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        sys.exit()
print("seized", flush=True)
sys.stdin.readline()
"""


class Tracer:
    def __init__(self, place, *threads):
        """Seizes these threads, the first of a process among them; lets them run."""
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, threads)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        place.on_exit(self.let_go)
        said = self.process.stdout.readline().strip()
        if said != "seized":
            skip(f"nobody may trace a process here: {said}")

    def let_go(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_dead(pid, deadline=20):
    """All that is left of it is what its tracer has not let go of."""
    wait_until(lambda: state_of(pid) == "Z", deadline, f"process {pid} to be a zombie")
