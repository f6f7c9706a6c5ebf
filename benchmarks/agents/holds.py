"""Holds MIB for SECONDS and says when it ends: MIB SECONDS [--leave MARK]. So told, it leaves a child that then holds
as much in a session of its own."""

import os
import signal
import sys
import time

size, seconds = int(sys.argv[1]) * 1024 * 1024, float(sys.argv[2])
ended, ours = os.pipe()  # its end is the parent's
if "--leave" in sys.argv and os.fork() == 0:
    os.close(ours)
    os.setsid()
    if os.fork() == 0:
        signal.alarm(60)
        os.read(ended, 1)
        held = b"x" * size
        while True:
            signal.pause()
    os._exit(0)
held = b"x" * size
time.sleep(seconds)
print(time.monotonic(), flush=True)
os._exit(0)
