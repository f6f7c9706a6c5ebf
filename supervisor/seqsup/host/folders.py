"""Folders that an agent filled: measured, listed and removed, however deep, whatever lies in them.

No link is followed, no pipe or device is opened. Depth costs no recursion and no descriptors: a path may be longer than
the kernel takes, so each folder is entered from the one above it, and left by its `..`.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HELD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY  # flags to hold a folder without the right to list it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class _Level(NamedTuple):
    name: str
    status: os.stat_result  # of the folder, which is known again by its device and inode
    left: list[str]  # names in it that are still to be seen


class Entry(NamedTuple):
    """An entry below a folder. It is valid until the next one is requested."""

    folder: int  # descriptor of the folder that it lies in
    name: str
    status: os.stat_result
    levels: list[_Level]  # from the top down to that folder

    @property
    def path(self) -> str:
        """Its path relative to the top."""
        return "/".join([*(level.name for level in self.levels[1:]), self.name])


def entries(top: Path, *, open_up: bool = False) -> Iterator[Entry]:
    """Yield all below a folder, each folder after what is in it. One that cannot be entered is yielded unentered.

    The consumer may remove what it is given. `open_up` makes folders writable that their owner has closed.
    OSError where `top` cannot be entered, or a folder was moved meanwhile.
    """
    fd = os.open(top, _FOLDER)
    try:
        levels = [_entered(fd, "", os.fstat(fd), open_up)]
        while True:
            if levels[-1].left:
                name = levels[-1].left.pop()
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode) and (inner := _enter(fd, name, open_up)) is not None:
                    os.close(fd)
                    fd = inner
                    levels.append(_entered(fd, name, status, open_up))
                    continue
            else:
                level = levels.pop()
                if not levels:
                    return
                upper = os.open("..", _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = upper
                if not os.path.samestat(os.fstat(fd), levels[-1].status):
                    raise OSError("a folder was moved while it was looked through")
                name, status = level.name, level.status
            yield Entry(fd, name, status, levels)
    finally:
        os.close(fd)


def size(top: Path) -> int:
    """Return the bytes that a folder takes on disk. A file with a hole takes less than it is long."""
    total = 0
    try:
        for entry in entries(top):
            total += entry.status.st_blocks * 512
    except OSError:
        pass  # what was seen until then
    return total


def remove(top: Path) -> list[str]:
    """Remove a folder. Return what could not be removed, each with the reason: it stays, and the folders above it."""
    stays: list[str] = []
    try:
        for entry in entries(top, open_up=True):
            try:
                if stat.S_ISDIR(entry.status.st_mode):
                    os.rmdir(entry.name, dir_fd=entry.folder)
                else:
                    os.unlink(entry.name, dir_fd=entry.folder)
            except FileNotFoundError:
                pass
            except OSError as error:
                stays.append(f"{entry.path}: {error.strerror}")
        if not stays:
            top.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        stays.append(error.strerror or str(error))
    return stays


def _entered(fd: int, name: str, status: os.stat_result, open_up: bool) -> _Level:
    if open_up and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(fd, stat.S_IRWXU)
    return _Level(name, status, sorted(os.listdir(fd), reverse=True))


def _enter(fd: int, name: str, open_up: bool) -> int | None:
    try:
        return os.open(name, _FOLDER, dir_fd=fd)
    except PermissionError:
        return _force(fd, name) if open_up else None
    except OSError:  # gone, or a link by now
        return None


def _force(fd: int, name: str) -> int | None:
    """Enter a folder that its owner closed to itself. The folder is held before its mode is changed."""
    try:
        held = os.open(name, HELD | os.O_NOFOLLOW, dir_fd=fd)
        try:
            Path(f"/proc/self/fd/{held}").chmod(stat.S_IRWXU)
            return os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(held)
    except OSError:
        return None
