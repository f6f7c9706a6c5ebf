"""A fork bomb with a fuse: N processes in a ring that ignore TERM; each watches the next and forks it anew
when it is killed. Says ready when all N live. To be harmless, the ring ends by itself after 60 seconds or
5,000 births, and there are never more than N besides those on their way out."""

import mmap
import os
import signal
import sys
import time
from pathlib import Path

SECONDS = 60
BIRTHS = 5_000

size = int(sys.argv[1]) if len(sys.argv) > 1 else 10
ends = time.monotonic() + SECONDS
pids = memoryview(mmap.mmap(-1, 4 * (size + 1))).cast("i")  # shared by all: the pid in each place …
births = size  # … and in the last one the births so far


def lives(pid: int) -> bool:
    try:
        return bool(pid) and ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


signal.signal(signal.SIGTERM, signal.SIG_IGN)
leader, place = os.getpid(), 0
pids[place] = leader
said = False
while time.monotonic() < ends and pids[births] < BIRTHS:
    reap()
    following = (place + 1) % size
    if not lives(pids[following]):
        pids[births] += 1
        if child := os.fork():
            pids[following] = child
        else:
            place, pids[following] = following, os.getpid()
    if not said and os.getpid() == leader and all(pids[:size]):
        print("ready", flush=True)
        said = True
    time.sleep(0.002)
