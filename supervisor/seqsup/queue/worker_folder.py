"""A worker's folder in the state folder: its lock shows whether it lives, and a pipe wakes it when a job is added."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from seqsup.errors import Refused, SeqsupError
from seqsup.state.run_folder import LOCK, hold, private, surely_alive, tail

FOLDER = "queue"  # in the state folder, with a folder for each worker
_PIPE = "wake"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PID = 20  # bytes


def enter(state_dir: Path, name: str) -> int:
    """Take the lock of a worker's name for this process's life, and return its descriptor.

    SeqsupError: a bad name. Refused: a process has the lock.
    """
    if not _NAME.fullmatch(name):
        raise SeqsupError(
            f"{name!r} cannot be a worker's name: use up to 63 letters, digits, '.', '_' and '-',"
            " beginning with a letter or digit, in --name"
        )
    folder = private(private(state_dir / FOLDER) / name)
    try:
        fd = hold(folder)
    except BlockingIOError:
        pid = tail(folder / LOCK, _PID).decode(errors="replace").strip()
        raise Refused(
            f"a worker named {name} already runs on this queue (pid {pid}): stop it, or name this one with --name"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def lease_file(state_dir: Path, name: str) -> Path:
    return state_dir / FOLDER / name / "lease"


def lives(state_dir: Path, name: str) -> bool:
    return surely_alive(state_dir / FOLDER / name)


def living(state_dir: Path) -> list[str]:
    """Return the names of the workers that live."""
    return sorted(name for name in _names(state_dir) if lives(state_dir, name))


def listen(state_dir: Path, name: str) -> int:
    """Return the pipe by which a worker is woken. Only the process with its lock may call this."""
    path = state_dir / FOLDER / name / _PIPE
    with suppress(FileNotFoundError):
        path.unlink()
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)


def wake_all(state_dir: Path) -> None:
    """Wake all workers that listen."""
    for name in _names(state_dir):
        with suppress(OSError):  # it does not listen, or it is to be woken already
            fd = os.open(state_dir / FOLDER / name / _PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    os.write(fd, b".")
            finally:
                os.close(fd)


def _names(state_dir: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from (entry.name for entry in os.scandir(state_dir / FOLDER))
