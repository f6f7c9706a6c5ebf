"""Output of commands."""

import errno
import os
import stat
import sys
from pathlib import Path
from typing import TextIO

import click
import msgspec

from seqsup.errors import SeqsupError
from seqsup.host.files import replace
from seqsup.host.trust import LINKS
from seqsup.text import wrap
from seqsup.view.terminal import Shown, width

_STREAMS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # /dev/stdout may be a file, which stays

_NO_LOG = "a log must be a regular file with one name, and no link: choose another path"


def put_file(path: Path, content: bytes) -> None:
    """Write a file that the user named. A device, a pipe or a stream is written to, all else is replaced.

    A link is followed if no other user could have made it, and is replaced otherwise.
    """
    try:
        if path.exists() and (path.parent in _STREAMS or not path.is_file()):
            with path.open("ab") as file:
                file.write(content)
        else:
            replace(_followed(path), content)
    except FileNotFoundError:
        if path.parent.is_dir():  # one that takes no files, as /proc
            raise SeqsupError(f"{path}: cannot create a file in {path.parent}: choose another path") from None
        raise SeqsupError(f"{path}: folder {path.parent} does not exist: create it, or choose another path") from None
    except OSError as error:
        error.filename = str(path)  # the error of a full disk does not name the file
        raise


def _followed(path: Path) -> Path:
    """Follow links of the user's own, or root's, in folders where no other user can put one."""
    ours = (0, os.geteuid())
    for _ in range(LINKS):
        folder = path.parent.stat()
        if not path.is_symlink() or path.lstat().st_uid not in ours or folder.st_uid not in ours:
            break
        if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
            break
        path = path.parent / path.readlink()
    return path


class Outlet:
    """Takes bytes that may hold anything: to a pipe or a file as they are, to a terminal as it may have them."""

    def __init__(self, stream: TextIO, *, raw: bool = False) -> None:
        self._stream = stream
        self._shown = None if raw or not stream.isatty() else Shown()

    def write(self, piece: bytes) -> None:
        self._stream.flush()  # text that was written before
        self._stream.buffer.write(piece if self._shown is None else self._shown(piece))


def notice(message: str) -> None:
    """Say on stderr what is no result."""
    click.echo("\n".join(wrap(f"seqsup: {message}", width(sys.stderr))), err=True)


def put_bytes(content: bytes) -> None:
    """Write bytes to stdout, see Outlet."""
    Outlet(sys.stdout).write(content)


def put_object(schema: str, fields: dict[str, object]) -> None:
    """Print one object on one line, for programs."""
    put_bytes(_line(schema, fields))


def append_object(path: Path, schema: str, fields: dict[str, object]) -> None:
    """Append one object as a line to a file, which is created with mode 0600.

    A last line that was cut stays a line of its own. SeqsupError: the file is a link, no regular file, or has a second
    name, so that another user may have put it there. OSError: the disk has no room for all of the line.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        raise SeqsupError(f"{path}: folder {path.parent} does not exist: create it, or choose another path") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a pipe without a reader
            raise SeqsupError(f"{path}: {_NO_LOG}") from None
        raise
    with os.fdopen(fd, "wb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise SeqsupError(f"{path}: {_NO_LOG}")
        cut = status.st_size > 0 and os.pread(fd, 1, status.st_size - 1) != b"\n"
        line = b"\n" * cut + _line(schema, fields)
        if (file.write(line) or 0) < len(line):  # in one call, so that lines of two programs do not mix
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _line(schema: str, fields: dict[str, object]) -> bytes:
    told = {"schema": schema, **fields}
    try:
        content = msgspec.json.encode(told)
    except UnicodeEncodeError:  # a path of the machine's that is not UTF-8: its odd bytes are escaped
        import json

        content = json.dumps(msgspec.to_builtins(told)).encode()
    return content + b"\n"
