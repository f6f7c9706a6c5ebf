"""One run's folder: its lock says whether its supervisor lives, its members file who was seen under it."""

import fcntl
import os
from pathlib import Path

LOCK, MEMBERS = "lock", "members"


def label(run: int) -> str:
    return f"r{run}"


def run_folder(state_dir: Path, run: int) -> Path:
    return state_dir / "runs" / label(run)


def private(folder: Path) -> Path:
    """Make a folder that only its owner can enter."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def hold(folder: Path) -> int:
    """Take the run's lock for this process's life and return its descriptor. BlockingIOError: another lives.

    The kernel frees it with the process, however that ends; the descriptor is not inherited (PEP 446).
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def alive(folder: Path) -> bool:
    """Say whether the run's supervisor lives."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
