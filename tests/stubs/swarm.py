"""Makes COUNT processes, says ready, and continues until it is ended, by KIND.

zombies: children that exit at once and are never reaped. bomb: each forks and reaps all the time. unreaped: each
forks all the time and leaves some zombies. sleepers: they do nothing.
"""

import os
import signal
import sys

kind, count = sys.argv[1], int(sys.argv[2])


def fork_on() -> None:
    number = 0
    while True:
        number += 1
        if os.fork() == 0:
            os._exit(0)
        if kind == "bomb":
            os.wait()
        elif number % 8 == 0:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


signal.alarm(60)
for _ in range(count):
    if os.fork() == 0:
        signal.alarm(60)
        if kind == "sleepers":
            while True:
                signal.pause()
        if kind != "zombies":
            fork_on()
        os._exit(0)
print("ready", flush=True)
while True:
    signal.pause()
