"""Runs COMMAND beside a mount that never answers: a process that opens a file at FOLDER sleeps, deaf even to SIGKILL.

The mount is a FUSE one whose server accepts requests and answers only the first. It lives in a mount namespace of its
own. USR1, or TERM once COMMAND has exited, ends it, and with it the sleep. Exits as COMMAND does; 77 if there is no
such mount.
"""

import ctypes
import os
import select
import signal
import struct
import subprocess
import sys

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
INIT = 26

libc = ctypes.CDLL(None, use_errno=True)
folder, command = sys.argv[1], sys.argv[2:]


def must(result: int) -> None:
    if result:
        print(f"no hung mount: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)


def mount(source: bytes, target: str, kind: bytes | None, flags: int, options: bytes | None) -> None:
    must(libc.mount(source, target.encode(), kind, flags, options))


must(libc.unshare(CLONE_NEWNS))
mount(b"none", "/", None, MS_REC | MS_PRIVATE, None)
try:
    fuse = os.open("/dev/fuse", os.O_RDWR)
except OSError as error:
    print(f"no hung mount: {error}", file=sys.stderr)
    sys.exit(77)
mount(b"hung", folder, b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse)

child = subprocess.Popen(command)
ended = os.pidfd_open(child.pid)
released = False


def release(*_: object) -> None:
    global released
    released = True


signal.signal(signal.SIGUSR1, release)
signal.signal(signal.SIGTERM, lambda number, _: release() if child.poll() is not None else child.send_signal(number))
while not released or child.poll() is None:
    if released and fuse >= 0:
        os.close(fuse)
        fuse = -1
    ready, _, _ = select.select(
        [*([ended] if child.returncode is None else []), *([fuse] if fuse >= 0 else [])], [], [], 0.1
    )
    if fuse in ready:
        request = os.read(fuse, 1 << 17)
        _, opcode, unique = struct.unpack_from("<IIQ", request)
        if opcode == INIT:
            version = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 1, 1, 4096, 1, 0, 0, 0)
            os.write(fuse, struct.pack("<IiQ", 16 + len(version), 0, unique) + version)
sys.exit(child.returncode)
