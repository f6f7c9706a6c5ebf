"""Requirements of every run: /proc of its own pid namespace, pidfds, and that orphans become its children.

The first one that is missing is the cause; all later failures are consequences.
"""

import ctypes
import errno
import os
import signal
from typing import NamedTuple

from seqsup.errors import Refused, SeqsupError
from seqsup.host.machine import LINUX

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_MOUNT = "mount -t proc proc /proc"
_PIDFD = "use Linux 5.3 or newer; in a container, a seccomp profile that allows it (Docker 20.10 with libseccomp 2.5)"


class Lack(NamedTuple):
    """A missing requirement, and how to get it."""

    what: str  # the name of doctor's check
    told: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.told}: {self.remedy}"


def proc_lack() -> Lack | None:
    """Return the fault of /proc; None if it is whole."""
    if not os.path.exists("/proc/self"):  # noqa: PTH110
        # Of another pid namespace, it has no number for us
        return Lack("/proc", *_ELSEWHERE) if os.path.exists("/proc/meminfo") else Lack("/proc", *_UNMOUNTED)  # noqa: PTH110
    if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115
        return Lack("/proc", *_ELSEWHERE)
    if not os.path.exists("/proc/meminfo"):  # noqa: PTH110
        return Lack("/proc", "/proc shows processes alone", f"{_MOUNT}, or leave out ProcSubset=pid of the service")
    return None


_UNMOUNTED = "/proc is not mounted", _MOUNT
_ELSEWHERE = (
    "/proc shows another pid namespace than ours, so no process can be watched",
    f"{_MOUNT}, or begin the namespace with unshare --mount-proc",
)


def lacking() -> Lack | None:
    """Return the first thing that is missing; None where runs can be supervised. It takes 20 µs."""
    return proc_lack() or _pidfd_lack() or _subreaper_lack() if LINUX else None


def demand() -> None:
    """Raise Refused where something is missing."""
    if (lack := lacking()) is not None:
        raise Refused(str(lack))


def _pidfd_lack() -> Lack | None:
    if not LINUX:
        return None
    call = "pidfd_open"
    try:
        pidfd = os.pidfd_open(os.getpid())
        try:
            call = "pidfd_send_signal"
            signal.pidfd_send_signal(pidfd, 0)
        finally:
            os.close(pidfd)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            return None  # too_few_files() reports that
        told = f"{call} is refused ({error.strerror}), so agents cannot be watched and ended safely"
        return Lack("pidfd", told, _PIDFD)
    return None


def _subreaper_lack() -> Lack | None:
    """Try it, and leave this process as it was."""
    was = ctypes.c_int()
    if ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0) == 0 and was.value:
        return None
    try:
        adopt_orphans()
        adopt_orphans(False)
    except SeqsupError as error:
        return Lack("subreaper", str(error), "let no seccomp profile refuse prctl(PR_SET_CHILD_SUBREAPER)")
    return None


def adopt_orphans(yes: bool = True) -> None:
    """Adopt orphans among the descendants, or stop adopting them, where the system can."""
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise SeqsupError(f"cannot become a subreaper ({os.strerror(ctypes.get_errno())})")
