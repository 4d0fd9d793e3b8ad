# SPDX-License-Identifier: MIT
"""A disk that can stop answering at all, also to who reads: a file system of a single file (FUSE, spoken here as
linux/fuse.h tells), whose server is a process that can be stopped. An image in that file, mounted over a loop device,
waits as it would for a cable that was pulled. Run as a program: FOLDER BACKING; says "ready"."""

import ctypes
import os
import pathlib
import stat
import struct
import sys

LOOKUP, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 1, 3, 14, 15, 16, 17, 18, 20, 25, 26
FORGET, OPENDIR, RELEASEDIR, ACCESS, FALLOCATE, BATCH_FORGET = 2, 27, 29, 34, 43, 42
HEADER = struct.Struct("<IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, extensions
ROOT, FILE, NAME, WRITE_MOST = 1, 2, "image", 128 * 1024


def attributes(node, size):
    mode, links = (stat.S_IFDIR | 0o755, 2) if node == ROOT else (stat.S_IFREG | 0o600, 1)
    return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


def answer(backing, code, node, body):
    """What is sent back; an int is an error number, None: nothing is."""
    size = os.fstat(backing).st_size
    if code == INIT:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 128 * 1024, 0, 16, 12, WRITE_MOST, 1, 0, 0, 0, *[0] * 7)
    if code == LOOKUP:
        if body.rstrip(b"\0").decode() != NAME:
            return 2
        return struct.pack("<4QII", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE, size)
    if code == GETATTR:
        return struct.pack("<QII", 3600, 0, 0) + attributes(node, size if node == FILE else 0)
    if code in (OPEN, OPENDIR):
        return struct.pack("<QII", 0, 0, 0)
    if code == READ:
        _handle, offset, length = struct.unpack_from("<QQI", body)
        return os.pread(backing, length, offset)
    if code == WRITE:
        _handle, offset, length = struct.unpack_from("<QQI", body)
        return struct.pack("<II", os.pwrite(backing, body[40:40 + length], offset), 0)
    if code in (FLUSH, RELEASE, FSYNC, RELEASEDIR, ACCESS):
        return b""
    if code in (FORGET, BATCH_FORGET):
        return None
    return 38


def serve(folder, backing):
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"far", os.fsencode(folder), b"fuse", 0, options) != 0:
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    print("ready", flush=True)
    while True:
        try:
            request = os.read(device, WRITE_MOST + 4096)
        except OSError:
            return  # unmounted
        _length, code, unique, node = HEADER.unpack_from(request)[:4]
        said = answer(backing, code, node, request[HEADER.size:])
        if said is None:
            continue
        number, said = (said, b"") if isinstance(said, int) else (0, said)
        os.write(device, struct.pack("<IiQ", 16 + len(said), -number, unique) + said)


if __name__ == "__main__":
    serve(pathlib.Path(sys.argv[1]), os.open(sys.argv[2], os.O_RDWR))
