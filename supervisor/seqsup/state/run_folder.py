"""A run's folder: its lock shows whether its supervisor lives; its members file lists the processes seen under it.

Its queue file names the state folder of its queue. Of the runs of one queue, one is active at a time.
"""

import ctypes
import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from seqsup.errors import SeqsupError
from seqsup.host.machine import LINUX

LOCK, MEMBERS, QUEUE, RUNS = "lock", "members", "queue", "runs"
KILLED = "killed"  # exists if its sentinel killed its processes after its supervisor died
PAUSED = "paused"  # there as long as its operator wants no further agent, also when its supervisor is another
SUMMARIES = "summaries.md"  # of the run's agents so far
STDOUT, STDERR = "stdout.log", "stderr.log"  # in an attempt's folder, as the next
NOTICES = "notices.txt"  # a line for each process that was ended to spare the agent
ANSWER = "answer.md"  # the text of its result, where its CLI writes a JSON stream
FORENSICS = "forensics.txt"  # and .json: the diagnosis of a tree that grew too large
CHANNEL = "channel"  # while the run is active: link to the socket of its Node processes
ARTIFACTS = "artifacts"  # owned by the agent's user
_NOTICES = 64 * 1024  # bytes that are read of it
if LINUX:  # struct flock of 64 bits: type, whence, start, length, pid
    _FLOCK, _TYPE, _WHOLE_FILE = "hhqqi4x", 0, (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    _SET_LOCK, _GET_LOCK = fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK
else:  # macOS: start, length, pid, type, whence. A Python that was built for an older one lacks the names
    _FLOCK, _TYPE, _WHOLE_FILE = "qqihh", 3, (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    _SET_LOCK, _GET_LOCK = getattr(fcntl, "F_OFD_SETLK", 90), getattr(fcntl, "F_OFD_GETLK", 92)


def state_dir() -> Path:
    """Return the folder of journal and runs, unless a profile says otherwise: SEQSUP_STATE_DIR, or the user's own."""
    if own := os.environ.get("SEQSUP_STATE_DIR"):
        return straight(at_home(own))
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return straight((home if home.is_absolute() else at_home("~/.local/state")) / "seqsup")


def config_dir() -> Path:
    """Return the folder of the user's own settings: `seqsup` in XDG_CONFIG_HOME, or in ~/.config."""
    config = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (config if config.is_absolute() else at_home("~/.config")) / "seqsup"


def at_home(path: str) -> Path:
    """Return the path with ~ replaced by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SeqsupError(f"{path}: no home folder is known: set HOME, or SEQSUP_STATE_DIR to a folder") from None


def straight(path: Path) -> Path:
    """Absolute and without `..`, so that a file has one name; links stay, the user chose them."""
    try:
        found = os.path.normpath(path.absolute())
    except FileNotFoundError:
        raise SeqsupError("the current folder was removed: cd to one that exists") from None
    try:
        found.encode()
    except UnicodeEncodeError:
        raise SeqsupError(f"{found}: the path is not UTF-8, which journal and JSON cannot store: rename it") from None
    return Path(found)


def label(run: int) -> str:
    return f"r{run}"


def run_folder(state_dir: Path, run: int) -> Path:
    return state_dir / RUNS / label(run)


def private(folder: Path) -> Path:
    """Make a folder that only its owner can enter, with those above it."""
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102 (hot)
    except FileNotFoundError:
        private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    return folder


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(text)
    except OSError as error:
        error.filename = str(file)  # a write that finds no room names none
        raise


def read_notices(folder: Path) -> tuple[str, ...]:
    """Return the lines of an attempt's notices; none if the agent is not spared."""
    return tuple(tail(folder / NOTICES, _NOTICES).decode(errors="replace").splitlines())


def fallocate(fd: int, mode: int, at: int, length: int) -> None:
    """Call fallocate(2), of which Python knows one mode only; OSError where the filesystem has no such thing."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(fd, mode, at, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def tail(file: Path, most: int) -> bytes:
    """The end of a file, or nothing where it cannot be read, or is none: a pipe would be waited for."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, most, max(size - most, 0)) if size else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def hold(folder: Path) -> int:
    """Take the run's lock for this process's life and return its descriptor. BlockingIOError: another lives.

    The kernel frees it with the process, however that ends; the descriptor is not inherited (PEP 446).
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.fcntl(fd, _SET_LOCK, struct.pack(_FLOCK, *_WHOLE_FILE))
    except OSError:
        os.close(fd)
        raise
    return fd


def closed(folder: Path) -> str:
    """Return why the run's lock and members cannot be read; empty if they can."""
    try:
        for name in (LOCK, MEMBERS):
            with suppress(FileNotFoundError):
                fd = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
                regular = stat.S_ISREG(os.fstat(fd).st_mode)
                os.close(fd)
                if not regular:
                    return f"{folder / name}: no regular file"
    except OSError as error:
        return told(error)
    return ""


def told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def alive(folder: Path) -> bool:
    """Say whether the run's supervisor lives. It only asks: a lock tried here could refuse the supervisor its own."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        in_the_way = fcntl.fcntl(fd, _GET_LOCK, struct.pack(_FLOCK, *_WHOLE_FILE))
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, in_the_way)[_TYPE] != fcntl.F_UNLCK)


def surely_alive(folder: Path) -> bool:
    """Return whether it is known to be alive: one unreadable folder must not block a look at the others."""
    try:
        return alive(folder)
    except OSError:
        return False
