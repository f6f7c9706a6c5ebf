"""What a user can mend: our errors, and what the machine denies. The latter is no fault of ours, so no traceback."""

import errno


class SeqsupError(Exception):
    """What a user can mend: the message says what happened, why, and what to do."""

    exit_code: int = 2  # what the command line ends with


class Stopped(Exception):
    """The run cannot go on, by the profile's own rules."""


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
    """Say what was denied and what mends it; None where it may be a mistake of ours."""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.strerror}{remedy}" if remedy is not None else None


class Refused(SeqsupError):
    """Nothing was started."""

    exit_code = 3
