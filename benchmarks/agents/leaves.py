"""Leaves two processes behind, one double-forked with a session of its own. The mark it gets is in their command."""

import os
import signal


def linger(ready: int) -> None:
    os.write(ready, b"x")
    os.close(ready)
    signal.pause()


heard, ready = os.pipe()
if not os.fork():
    linger(ready)
if not (middle := os.fork()):
    os.setsid()
    if os.fork():
        os._exit(0)
    linger(ready)
os.waitpid(middle, 0)
said = b""
while len(said) < 2:
    said += os.read(heard, 2)
