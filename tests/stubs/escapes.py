"""One process on its way out of the tree, by KIND: says `ready PID` of it, and holds, or with --leave exits.

child, setsid, double-fork, double-fork-setsid: as their names say. own-subreaper: double-forked under a leader
that adopts its orphans itself.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36

kind = sys.argv[1]
reading, writing = os.pipe()


def hold() -> None:
    signal.alarm(60)
    while True:
        signal.pause()


def escaped() -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silence, fd)
    os.write(writing, b"%d" % os.getpid())
    os.close(writing)
    hold()


if kind == "own-subreaper":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
first = os.fork()
if first == 0:
    if "setsid" in kind or kind == "own-subreaper":
        os.setsid()
    if kind in ("child", "setsid") or os.fork() == 0:
        escaped()
    os._exit(0)
if kind not in ("child", "setsid"):
    os.waitpid(first, 0)
os.close(writing)
print("ready", os.read(reading, 32).decode(), flush=True)
if "--leave" not in sys.argv:
    hold()
