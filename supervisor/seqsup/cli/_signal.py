"""Signals to the supervisor of a run."""

import os
import signal
from pathlib import Path

from ._find import Found


def send(found: Found, *signums: signal.Signals) -> bool:
    """Signal the run's supervisor; False when it is gone. Its lock, held before and after, vouches for the pid."""
    if not found.lives():
        return False
    try:
        pidfd = os.pidfd_open(found.row.pid)
    except ProcessLookupError:
        return False
    try:
        if not found.lives():
            return False
        for signum in signums:
            signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def suspended(pid: int) -> bool:
    """Say whether a process was stopped (SIGSTOP), or is held by a debugger: it can hear nothing."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except OSError:
        return False
    return rest[:1] in ("T", "t")
