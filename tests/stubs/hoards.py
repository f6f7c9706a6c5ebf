"""Takes MIB MiB, by KIND, as fast as the machine allows, says ready and holds it. At most 1,000.

pages: of 4 KiB. huge: of 2 MiB, where there are any. ten: by ten processes at once. grandchild: by a child's child.
shared: one segment that three processes map. tmpfs FILE: written there, and mapped by no process. cache FILE: written
to a disk and read again, then exits.
"""

import mmap
import os
import signal
import sys

MIB = 1 << 20
CHUNK = b"x" * MIB

kind, mib = sys.argv[1], min(int(sys.argv[2]), 1000)
signal.alarm(60)  # a faulty test must not leave it for ever


def hold() -> None:
    while True:
        signal.pause()


def fill(held: mmap.mmap, size: int) -> None:
    for at in range(0, size * MIB, MIB):
        held[at : at + MIB] = CHUNK


def pages(size: int, advice: int) -> mmap.mmap:
    held = mmap.mmap(-1, size * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.madvise(advice)
    fill(held, size)
    return held


def together(number: int) -> bool:
    """Be one of so many from now on."""
    return all(os.fork() for _ in range(number - 1))


if kind == "shared":
    segment = mmap.mmap(-1, mib * MIB)
    together(3)
    fill(segment, mib)
elif kind in ("tmpfs", "cache"):
    with open(sys.argv[3], "wb+") as file:  # noqa: PTH123
        for n in range(mib):
            file.write(CHUNK)
            if kind == "cache" and n % 32 == 0:
                os.fsync(file.fileno())  # what is clean the kernel can take back
        file.seek(0)
        while file.read(MIB):
            pass
        if kind == "cache":
            sys.exit(0)
else:
    if kind == "ten":
        together(10)
    if kind == "grandchild" and os.fork() == 0 and os.fork():
        hold()
    if kind != "grandchild" or os.getpid() != os.getpgid(0):
        held = pages(
            mib // 10 if kind == "ten" else mib, mmap.MADV_HUGEPAGE if kind == "huge" else mmap.MADV_NOHUGEPAGE
        )
print("ready", flush=True)
hold()
