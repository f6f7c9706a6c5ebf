"""Agent of `seqsup bench`: holds MIB of memory for SECONDS and exits. Standard library only.

    python -S -E bench_agent_main.py MIB SECONDS [LEFTOVER]

It leaves a child in a session of its own, which then holds LEFTOVER MiB, for a minute at most.
"""

import os
import signal
import sys
import time

_MIB = 1024 * 1024


def main() -> None:
    size, seconds = int(sys.argv[1]) * _MIB, float(sys.argv[2])
    leftover = int(sys.argv[3]) * _MIB if len(sys.argv) > 3 else 0
    ended, ours = os.pipe()  # its end is the parent's
    if leftover and os.fork() == 0:
        os.close(ours)
        os.setsid()
        if os.fork() == 0:
            signal.alarm(60)
            os.read(ended, 1)
            held = b"x" * leftover
            while True:
                signal.pause()
        os._exit(0)
    held = b"x" * size  # noqa: F841 (held until the exit)
    time.sleep(seconds)
    os._exit(0)


if __name__ == "__main__":
    main()
