"""Leaves COUNT orphans, each double-forked into a session of its own: says `ready PID …`, and exits."""

import os
import signal
import sys

count = int(sys.argv[1]) if len(sys.argv) > 1 else 1


def orphan(pipe: int) -> None:
    signal.alarm(60)
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # a reader of our leader's output must not wait for us
        os.dup2(silence, fd)
    os.write(pipe, f"{os.getpid()}\n".encode())
    os.close(pipe)
    while True:
        signal.pause()


reading, writing = os.pipe()
for _ in range(count):
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            orphan(writing)
        os._exit(0)
    os.waitpid(middle, 0)
os.close(writing)
with os.fdopen(reading) as lines:
    print("ready", *(line.strip() for line in lines), flush=True)
