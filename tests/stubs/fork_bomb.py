"""A fork bomb with a fuse, by KIND, of about SIZE processes that ignore TERM and HUP. Says ready when all live.

tree: each living process fills the places of dead ones. setsid: the same, each in a session of its own. comet: each
forks itself into a new session and exits, again and again, so that no pid lives long. It ends by itself after 100
seconds or 20,000 births (comets: 60,000). With --leave the first exits once it burns.
"""

import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

kind, size = sys.argv[1], min(int(sys.argv[2]), 200)
ends = time.monotonic() + 100  # an emulated machine is ten times as slow
shared = memoryview(mmap.mmap(-1, 4 * (size + 1))).cast("i")  # the pid in each place, and last the births so far
births = size
beat = max(0.001, size * 0.0001)  # seconds: ten thousand births a second are what two cores can do


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


def born() -> bool:
    """Fork, and say in the child that it is one."""
    shared[births] += 1
    if os.fork():
        return False
    if kind != "tree":
        os.setsid()
    return True


def burning() -> bool:
    return time.monotonic() < ends and shared[births] < (60_000 if kind == "comet" else 20_000)


def comet(place: int) -> None:
    while burning():
        if not born():
            os._exit(0)
        shared[place] = os.getpid()
        time.sleep(beat)
    os._exit(0)


def fill(place: int) -> None:
    while burning() and abs(shared[place]) == os.getpid():  # else another took it at the same moment
        reap()
        other = random.randrange(size)
        if not lives(abs(shared[other])):
            shared[other] = -os.getpid()  # mine to fill, as long as I live
            if born():
                place = other
                shared[place] = os.getpid()
                random.seed()
        time.sleep(beat)
    os._exit(0)


for signum in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(signum, signal.SIG_IGN)
if kind != "comet":
    shared[0] = os.getpid()  # before any child lives: one that found this place empty would take it from us
for place in range(1 if kind != "comet" else 0, size):
    shared[place] = -os.getpid()
    if born():
        shared[place] = os.getpid()
        comet(place) if kind == "comet" else fill(place)
while burning() and not all(pid > 0 for pid in shared[:size]):
    time.sleep(0.001)
print("ready", flush=True)
if "--leave" in sys.argv:
    os._exit(0)
if kind == "comet":
    while burning():
        reap()
        time.sleep(0.01)
else:
    fill(0)
