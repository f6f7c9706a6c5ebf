"""A tree: WIDTH children, each with as many again, DEPTH levels deep. Says `ready PID …` of every one."""

import os
import signal
import sys

width = int(sys.argv[1]) if len(sys.argv) > 1 else 2
depth = int(sys.argv[2]) if len(sys.argv) > 2 else 2


def hold(pipe: int) -> None:
    signal.alarm(60)
    os.write(pipe, f"{os.getpid()}\n".encode())  # shorter than PIPE_BUF: never torn
    while True:
        signal.pause()


def grow(level: int, pipe: int) -> None:
    for _ in range(width if level else 0):
        if os.fork() == 0:
            grow(level - 1, pipe)
            hold(pipe)


reading, writing = os.pipe()
grow(depth, writing)
expected = sum(width**level for level in range(1, depth + 1))
with os.fdopen(reading) as lines:
    pids = [next(lines).strip() for _ in range(expected)]
print("ready", *pids, flush=True)
hold(writing)
