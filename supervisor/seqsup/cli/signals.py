"""Signals to the supervisor of a run."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqsup.host.machine import LINUX


def send(pid: int, lives: Callable[[], bool], *signums: signal.Signals) -> bool:
    """Signal a process, if it lives once we hold it: its number may be another's by now. False when it is gone."""
    try:
        with _held(pid) as signalled:
            if not lives():
                return False
            for signum in signums:
                signalled(signum)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _held(pid: int) -> Iterator[Callable[[signal.Signals], None]]:
    """Give what signals a process by its pidfd; by its pid where there are none."""
    if not LINUX:
        yield lambda signum: os.kill(pid, signum)
        return
    pidfd = os.pidfd_open(pid)
    try:
        yield lambda signum: signal.pidfd_send_signal(pidfd, signum)
    finally:
        os.close(pidfd)


def suspended(pid: int) -> str:
    """Return the command that resumes a process stopped by SIGSTOP or held by a tracer; else empty.

    It can hear nothing meanwhile.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""
    fields = dict(line.partition(":\t")[::2] for line in text.splitlines())
    if fields["State"][:1] not in ("T", "t"):
        return ""
    tracer = fields["TracerPid"]
    return f"kill -CONT {pid}" if tracer == "0" else f"kill {tracer}; kill -CONT {pid}"
