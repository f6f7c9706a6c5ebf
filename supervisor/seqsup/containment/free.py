"""Freeing what a process holds as it is killed: the kernel leaves that to its last thread, two take half as long."""

import _thread
import ctypes
import os
import time
from contextlib import suppress
from signal import SIGKILL, pidfd_send_signal

_MRELEASE = 448  # since Linux 5.15
_FEW = 64  # threads, which take 0.1 ms
_AHEAD = 0.0005  # seconds


def kill_and_free(pid: int, pidfd: int) -> None:
    """Kill a process that lives, and free its memory beside it. What only saves time may fail: then it lives on.

    The kernel lets us until its last thread is on its way out, see process_mrelease(2), so nothing comes between: its
    threads, which wake up to their end, do not take our processor if they are SCHED_BATCH, and nobody waits for
    Python's lock, as Thread.start() would.
    """
    with suppress(OSError, RuntimeError):
        if len(threads := os.listdir(f"/proc/{pid}/task")) > _FEW:  # noqa: PTH208 (hot)
            return
        for thread in threads:
            os.sched_setscheduler(int(thread), os.SCHED_BATCH, os.sched_param(0))
        _thread.start_new_thread(_kill_and_free, (os.dup(pidfd),))
        time.sleep(_AHEAD)


def _kill_and_free(pidfd: int) -> None:
    syscall = ctypes.CDLL(None).syscall
    try:
        with suppress(ProcessLookupError, PermissionError):
            pidfd_send_signal(pidfd, SIGKILL)
            syscall(_MRELEASE, pidfd, 0)
    finally:
        os.close(pidfd)
