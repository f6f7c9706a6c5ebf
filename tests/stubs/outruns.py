"""Holds 40 MiB, says ready; after USR1 it stops PID, its supervisor, which cannot watch then, and takes 600 MiB."""

import mmap
import os
import signal
import sys

signal.alarm(60)
held = b"x" * (40 << 20)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", os.getpid(), flush=True)
signal.sigwait([signal.SIGUSR1])
os.kill(int(sys.argv[1]), signal.SIGSTOP)
mmap.mmap(-1, 600 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
