"""The files that an agent reads from and writes to: nothing of it passes through this process."""

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from . import account
from .model import OWN_STDIN, Step

_TAIL = 1024 * 1024  # bytes of output searched: a native stack may follow V8's last words


class Output:
    """A file that an agent's output goes to, without passing through this process."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def tail(self) -> bytes:
        return os.pread(self.fd, _TAIL, max(self.size() - _TAIL, 0))

    def close(self) -> None:
        os.close(self.fd)


def open_stdin(step: Step) -> IO[bytes]:
    """Open what the agent reads. A text goes through an unnamed file: it never blocks, and leaves no trace on disk."""
    if step.stdin_file == OWN_STDIN:
        return _own()
    if step.stdin is None:
        return _file_stdin(step, Path(step.cwd, step.stdin_file or os.devnull))
    file = unnamed()
    file.write(step.stdin.encode())
    file.seek(0)
    return file


def unnamed() -> IO[bytes]:
    """A file that has no name, and on Linux no place on a disk."""
    return os.fdopen(os.memfd_create("stdin"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile()


def _own() -> IO[bytes]:
    """Hand on the supervisor's own; a file is opened anew, so that each attempt reads it from its beginning."""
    try:
        regular = stat.S_ISREG(os.fstat(0).st_mode)
    except OSError:
        return Path(os.devnull).open("rb")
    return Path("/dev/fd/0").open("rb") if regular else os.fdopen(os.dup(0), "rb")


def _file_stdin(step: Step, path: Path) -> IO[bytes]:
    """Open it by our own right, which as root is any file's: so ask whether the agent's user may read it too."""
    file = path.open("rb")
    if step.account is not None and not account.may_read(step.account, os.fstat(file.fileno())):
        file.close()
        raise PermissionError(errno.EACCES, f"not readable by {step.account.name}", str(path))
    return file
