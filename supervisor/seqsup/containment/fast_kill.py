"""Freeing what a process holds as it is killed: the kernel leaves that to its last thread, two take half as long."""

import _thread
import ctypes
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from signal import SIGKILL, pidfd_send_signal

_MRELEASE = 448  # since Linux 5.15
_FEW = 64  # threads, which take 0.1 ms
_AHEAD = 0.0005  # seconds


def kill_and_free(pid: int, pidfd: int, others: Sequence[int]) -> None:
    """Kill a process that lives, and free its memory beside it. What only saves time may fail: then it lives on.

    The kernel lets us until its last thread is on its way out, see process_mrelease(2), so nothing comes between: its
    threads, which wake up to their end, do not take our processor if they are SCHED_BATCH, and nobody waits for
    Python's lock: we sleep meanwhile, where Thread.start() would wait. Who is to die with it, `others` by pidfd, is
    killed just before: it would go on with what comes after its end, a shell with the next command.
    """
    with suppress(OSError):
        if len(threads := os.listdir(f"/proc/{pid}/task")) > _FEW:  # noqa: PTH208 (hot)
            return
        for thread in threads:
            os.sched_setscheduler(int(thread), os.SCHED_BATCH, os.sched_param(0))
        own, signalled = os.dup(pidfd), _thread.allocate_lock()
        signalled.acquire()
        try:
            _thread.start_new_thread(_kill_and_free, (own, others, signalled))
        except RuntimeError:  # no more threads here
            os.close(own)
        else:
            time.sleep(_AHEAD)
            signalled.acquire()  # until then nobody may close what it signals


def _kill_and_free(pidfd: int, others: Sequence[int], signalled: _thread.LockType) -> None:
    try:
        try:
            syscall = ctypes.CDLL(None).syscall
            for each in (*others, pidfd):
                with suppress(OSError):
                    pidfd_send_signal(each, SIGKILL)
        finally:
            signalled.release()  # Python's lock is ours until we are in the kernel
        syscall(_MRELEASE, pidfd, 0)
    finally:
        os.close(pidfd)
