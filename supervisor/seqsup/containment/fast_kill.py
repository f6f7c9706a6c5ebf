"""Frees the memory of a killed process: the kernel leaves that to its last thread; two threads take half as long."""

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
    """Kill a living process, and free its memory at the same time. Steps that only save time may fail.

    The kernel allows process_mrelease(2) until the last thread exits, so it must follow the signal at once. Threads
    that are SCHED_BATCH do not take our processor when they wake up to exit. We sleep meanwhile instead of holding
    Python's lock, for which Thread.start() would wait. `others` (pidfds) die just before: otherwise a shell would
    continue with its next command after the process exits.
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
        except RuntimeError:  # no more threads can be started
            os.close(own)
        else:
            time.sleep(_AHEAD)
            signalled.acquire()  # until then its descriptors must stay open


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
