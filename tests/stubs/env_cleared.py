"""The hardest to find: double-forked, in a session of its own, its environment empty, so no cookie is left.
Says `ready PID` and exits; with --stay it holds. The argument --seqsup-test is for the tests' leak check."""

import os
import signal
import sys

HOLDS = """
import os, signal, sys
signal.alarm(60)
os.write(int(sys.argv[1]), b"%d" % os.getpid())
os.close(int(sys.argv[1]))
while True: signal.pause()
"""

reading, writing = os.pipe()
os.set_inheritable(writing, True)
middle = os.fork()
if middle == 0:
    os.setsid()
    if os.fork() == 0:
        silence = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(silence, fd)
        mark = f"--seqsup-test={os.environ.get('SEQSUP_TEST', '')}"
        os.execve(sys.executable, [sys.executable, "-c", HOLDS, str(writing), mark], {})
    os._exit(0)
os.waitpid(middle, 0)
os.close(writing)
print("ready", os.read(reading, 32).decode(), flush=True)
if "--stay" in sys.argv:
    signal.alarm(60)
    while True:
        signal.pause()
