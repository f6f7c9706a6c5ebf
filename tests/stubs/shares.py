"""Hold memory that a sum of resident pages counts wrongly: `shares.py parts|freed|forks MIB`.

parts: 16 children fill one shared mapping of MIB, a sixteenth each. freed: MIB are written, and given back with
MADV_FREE, four times. forks: 8 children have the same MIB. Then it waits for a second and exits.
"""

import mmap
import os
import sys
import time

MIB = 1 << 20


def fill(mapped: mmap.mmap, start: int, end: int) -> None:
    for at in range(start, end, MIB):
        mapped[at : at + MIB] = b"x" * MIB
        time.sleep(0.005)


def parts(size: int) -> None:
    mapped = mmap.mmap(-1, size)
    part = size // 16
    for number in range(16):
        if os.fork() == 0:
            fill(mapped, number * part, (number + 1) * part)
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def freed(size: int) -> None:
    kept = []
    for _ in range(4):
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for start in range(0, size, 16 * MIB):
            fill(mapped, start, min(start + 16 * MIB, size))
        mapped.madvise(mmap.MADV_FREE)
        kept.append(mapped)
        time.sleep(0.2)
    time.sleep(1)


def forks(size: int) -> None:
    held = bytearray(b"x") * size
    for _ in range(8):
        if os.fork() == 0:
            time.sleep(2)  # longer than a fork may take to exec
            os._exit(0)
    for _ in range(8):
        os.wait()
    assert held


{"parts": parts, "freed": freed, "forks": forks}[sys.argv[1]](int(sys.argv[2]) * MIB)
