"""Our errors, which a user can fix, and errors of the machine. The latter are not our fault: no traceback."""

import errno


class SeqsupError(Exception):
    """An error that a user can fix: the message says what happened, why, and what to do."""

    exit_code: int = 2  # what the command line ends with

    def lines(self, width: int | None) -> list[str]:
        """Return what a person reads, for a terminal of so many columns. A line that begins with a blank continues."""
        del width
        return str(self).split("\n")


class Stopped(Exception):
    """The profile's own rules stop the run."""


class AtUsageLimit(Stopped):
    """An agent has met its provider's limit, and the profile does not want to wait."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_FREE = ": free space there (df), or files (df -i)"
_REMEDIES = {
    errno.EACCES: "; `ls -ld` shows its permissions",
    errno.EPERM: "",
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EROFS: ": set SEQSUP_STATE_DIR to a folder that can be written",
    errno.EMFILE: ": raise `ulimit -n`",
    errno.ENFILE: ": close other programs",
    errno.ENOTDIR: ": a part of this path is a file",
    errno.EISDIR: ": name a file",
    errno.ENAMETOOLONG: ": choose a shorter one",
    errno.ELOOP: ": its links form a cycle",
    errno.ENXIO: ": it is a socket or a pipe; remove it",
    errno.EIO: "; see the kernel's log (dmesg)",
}


def denial(error: OSError) -> str | None:
    """Return what was denied and how to fix it; None if it may be a mistake of ours."""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.strerror}{remedy}" if remedy is not None else None


class NoSuchRun(SeqsupError):
    """No run has the given name."""


class Refused(SeqsupError):
    """Nothing was started."""

    exit_code = 3
