"""Whether another user could have made or changed a path. Rules as in OpenSSH's StrictModes."""

import grp
import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LINKS = 40  # as many as Linux follows
_ID_MAP = Path("/proc/self/uid_map")
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")


class Exposure(NamedTuple):
    """A part of a path that another user can change."""

    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why}; {self.remedy}"


def exposure(path: str | Path) -> Exposure | None:
    """Find the first part of an absolute path that another user can change. None: only root and we can.

    Each folder on the way is looked at, each link, and the way to its target. What is not there yet ends the search.
    Others may write to a sticky folder on the way: there they can replace only what is theirs.
    """
    at, links = "/", 0
    todo = os.path.join("/", path).split("/")[::-1]  # noqa: PTH118 (hot, and the words of links are no paths yet)
    while todo:
        part = todo.pop()
        at = os.path.dirname(at) if part == ".." else os.path.normpath(f"{at}/{part}")  # noqa: PTH120
        try:
            status = os.lstat(at)
            if (found := _changeable(at, status, last=not todo)) is not None:
                return found
            if stat.S_ISLNK(status.st_mode) and links < LINKS:
                target, links = os.readlink(at), links + 1  # noqa: PTH115
                todo += target.split("/")[::-1]
                at = "/" if target.startswith("/") else os.path.dirname(at)  # noqa: PTH120
        except OSError:  # so whatever wants to use it says why it cannot
            return None
    return None


def _changeable(at: str, status: os.stat_result, *, last: bool) -> Exposure | None:
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):  # made by root alone, and nothing is kept in it
        return None
    path, me = shlex.quote(at), user_name(os.geteuid())
    if status.st_uid not in (0, os.geteuid()) and not _unmapped(status.st_uid):
        remedy = f"chown {me} {path}" if last else f"move what is in it to a folder of {me}"
        return Exposure(f"{at} belongs to {user_name(status.st_uid)}", remedy)
    if stat.S_ISLNK(status.st_mode) or (status.st_mode & stat.S_ISVTX and not last):
        return None
    if status.st_mode & stat.S_IWOTH:
        return Exposure(f"every user can write {at}", f"chmod go-w {path}")
    if status.st_mode & stat.S_IWGRP and not _own_group(status.st_gid):
        return Exposure(f"group {_group_name(status.st_gid)} can write {at}", f"chmod go-w {path}")
    return None


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _own_group(gid: int) -> bool:
    """Whether a group is this user's alone, as many distributions make one for each. Root's has members elsewhere."""
    with suppress(KeyError):
        group, name = grp.getgrgid(gid), user_name(os.geteuid())
        return os.geteuid() != 0 and group.gr_name == name and set(group.gr_mem) <= {name}
    return False


def _unmapped(uid: int) -> bool:
    """Whether an owner is outside of our user namespace. Then no process in here can act as that user."""
    try:
        maps = [[int(word) for word in line.split()] for line in _ID_MAP.read_text().splitlines()]
        if uid != int(_OVERFLOW.read_text()):
            return False
    except OSError:
        return False
    return not any(first <= uid < first + count for first, _, count in maps)
