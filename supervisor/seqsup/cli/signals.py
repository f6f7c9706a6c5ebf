"""Signals to the supervisor of a run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from seqsup.host.machine import LINUX


def send(pid: int, lives: Callable[[], bool], *signums: signal.Signals) -> bool:
    """Signal a process, if it lives once we hold it: its number may be another's by now. False when it is gone."""
    try:
        pidfd = os.pidfd_open(pid) if LINUX else None  # else `lives` is asked right before the signal
        try:
            if not lives():
                return False
            for signum in signums:
                if pidfd is None:
                    os.kill(pid, signum)
                else:
                    signal.pidfd_send_signal(pidfd, signum)
        finally:
            if pidfd is not None:
                os.close(pidfd)
    except ProcessLookupError:
        return False
    return True


def suspended(pid: int) -> bool:
    """Say whether a process was stopped (SIGSTOP), or is held by a debugger: it can hear nothing."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")
    except OSError:
        return False
    return rest[:1] in (b"T", b"t")
