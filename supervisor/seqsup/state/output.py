"""Files for an agent's input and output: no byte of them passes through this process.

Output beyond its bound loses its middle. The file gets a hole there and keeps its length, so writers and readers
continue as before. The rest takes no more room on disk than the bound.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from seqsup.host import users
from seqsup.model.plan import OWN_STDIN, Step
from seqsup.state.run_folder import at_once, fallocate
from seqsup.units import format_size

_PUNCH_HOLE = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_BLOCK = 4096
_TAIL = 1024 * 1024  # bytes of output searched: a native stack may follow V8's last words


class Output:
    """A file that an agent's output goes to, without passing through this process."""

    def __init__(self, path: Path | str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._resumes = 0  # end of the hole
        self.cut = False  # its middle was dropped

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def tail(self) -> bytes:
        most = min(size := self.size(), _TAIL)  # no more than exists: a read allocates the requested size first
        return os.pread(self.fd, most, size - most)

    def trim(self, most: int) -> bool:
        """Discard the middle if more than `most` bytes are kept: half of them stay as beginning, a quarter as end."""
        size, head = self.size(), most // 2 // _BLOCK * _BLOCK
        if size < self._resumes:
            self._resumes = 0  # the agent has emptied it
        if (head + size - self._resumes if self._resumes else size) <= most:
            return False
        resumes = (size - most // 4) // _BLOCK * _BLOCK
        if _punch(self.fd, head, resumes - head):
            self._resumes = resumes
        else:  # files here cannot have holes; output of this moment may be lost with the rest
            tail = os.pread(self.fd, most // 4, size - most // 4)
            os.ftruncate(self.fd, head)
            os.write(self.fd, cut_here(size - head - len(tail)) + tail)
        self.cut = True
        return True

    def close(self) -> None:
        os.close(self.fd)


class OutputReader:
    """Reads output from its beginning, as it grows: a file that may not be there yet, or be emptied by its writer."""

    def __init__(self, path: Path, at: int = 0) -> None:
        """`at` is the byte to begin at."""
        self._path = path
        self._fd: int | None = None
        self.at = at  # the next byte
        self._replaced = False  # by a pipe, which would never end, or by a link

    def read(self, most: int) -> bytes:
        """Read on; empty at the end, for now. A note replaces what was discarded."""
        if self._fd is None:
            if self._replaced:
                return b""
            try:
                self._fd = at_once(str(self._path), os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                return b""
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link or a socket
                    raise
            if self._fd is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
                self.close()
                self._replaced = True
                return f"[seqsup: {self._path.name} was replaced by something that is not a regular file]\n".encode()
        status = os.fstat(self._fd)
        if status.st_size < self.at:
            self.at = 0
        begins, ends = self.at, status.st_size
        if status.st_blocks * 512 < status.st_size:
            begins, ends = _kept(self._fd, begins, ends)
        if begins > self.at:
            said, self.at = cut_here(begins - self.at), begins
            return said
        piece = os.pread(self._fd, min(most, ends - begins), begins)
        self.at += len(piece)
        return piece

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def last_lines(path: Path, lines: int) -> int:
    """Return the byte at which the last lines of an output begin. It is no earlier than where output was cut."""
    try:
        fd = at_once(str(path), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return 0
        hole, floor = _last_hole(fd, status.st_size) if status.st_blocks * 512 < status.st_size else (0, 0)
        at = status.st_size
        if not lines:
            return at
        lines += os.pread(fd, 1, max(0, at - 1)) == b"\n"  # which ends the last one
        while at > floor:
            piece = os.pread(fd, min(_BLOCK, at - floor), max(floor, at - _BLOCK))
            if not piece:  # the agent has emptied it meanwhile
                return 0
            at -= len(piece)
            if (found := piece.count(b"\n")) >= lines:
                return at + _end_of(piece, found - lines)
            lines -= found
        return hole
    finally:
        os.close(fd)


def _end_of(piece: bytes, number: int) -> int:
    """Return the byte behind the newline of this number, from 0."""
    at = 0
    for _ in range(number + 1):
        at = piece.index(b"\n", at) + 1
    return at


def _last_hole(fd: int, size: int) -> tuple[int, int]:
    """Return where the last hole of a file begins and ends; 0 and 0 if it has none."""
    begins = ends = at = 0
    with suppress(OSError):  # nothing but a hole from here, or a filesystem that knows none
        while (hole := os.lseek(fd, at, os.SEEK_HOLE)) < size:
            at = os.lseek(fd, hole, os.SEEK_DATA)
            begins, ends = hole, at
    return begins, ends


def cut_here(size: int) -> bytes:
    return f"\n[seqsup: {format_size(size)} of output cut here, see output.max]\n".encode()


def _kept(fd: int, at: int, size: int) -> tuple[int, int]:
    """Find where, from a place on, a file holds data, and up to where."""
    try:
        begins = os.lseek(fd, at, os.SEEK_DATA)
        return begins, os.lseek(fd, begins, os.SEEK_HOLE)
    except OSError:  # nothing but a hole, or a filesystem that knows none
        return at, size


def _punch(fd: int, at: int, length: int) -> bool:
    try:
        fallocate(fd, _PUNCH_HOLE, at, length)
    except OSError:
        return False
    return True


def open_stdin(step: Step) -> IO[bytes]:
    """Open the agent's stdin. A text goes through an unnamed file: it never blocks, and leaves no trace on disk."""
    if step.stdin_file == OWN_STDIN:
        return _own()
    if step.stdin is None:
        if step.stdin_file is None:
            return open(os.devnull, "rb", buffering=0)  # noqa: PTH123 (hot)
        return _file_stdin(step, Path(step.cwd, step.stdin_file))
    return unnamed(step.stdin.encode())


def unnamed(content: bytes = b"") -> IO[bytes]:
    """Return a file that has no name, and on Linux no place on a disk. It is read from its beginning."""
    file = os.fdopen(os.memfd_create("seqsup"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return file


def _own() -> IO[bytes]:
    """Return the stream of the supervisor's own stdin. A file is reopened, so that each attempt reads it from its
    beginning.
    """
    try:
        regular = stat.S_ISREG(os.fstat(0).st_mode)
    except OSError:
        return Path(os.devnull).open("rb")
    return Path("/dev/fd/0").open("rb") if regular else os.fdopen(os.dup(0), "rb")


def _file_stdin(step: Step, path: Path) -> IO[bytes]:
    """Open it as the agent's user: the file, or a folder on its path, may be a link that an agent laid."""
    try:
        with users.acting_as(step.account):
            fd = at_once(str(path), os.O_RDONLY)
    except PermissionError:
        if step.account is None:
            raise
        raise PermissionError(errno.EACCES, f"not readable by {step.account.name}", str(path)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    os.set_blocking(fd, True)
    return os.fdopen(fd, "rb", buffering=0)
