"""The memory limits that we ourselves live under: a container's, a service's, a slice's."""

import contextlib
from pathlib import Path

from seqsup.containment.cgroup.files import NO_LIMIT, KeptFile, mounts, own_directory
from seqsup.containment.cgroup.group import Unavailable


class Ceiling:
    """One group above us that has a limit."""

    def __init__(self, limit: Path, used: Path, stat: Path, cache: str) -> None:
        self._limit, self._used, self._stat, self._cache = KeptFile(limit), KeptFile(used), KeptFile(stat), cache

    def bounds(self) -> tuple[int, int] | None:
        """Return the limit, and the room that it leaves with the page cache that the kernel gives up for it, in bytes.

        None: no limit.
        """
        limit, used = self._limit.read().strip(), self._used.read().strip()
        if not (limit.isdigit() and used.isdigit()) or int(limit) >= NO_LIMIT:
            return None
        return int(limit), max(int(limit) - int(used) + self._stat.numbers().get(self._cache, 0), 0)

    def close(self) -> None:
        for kept in (self._limit, self._used, self._stat):
            kept.close()


def ceilings() -> list[Ceiling]:
    """Find all that are limited now, from our own group up to what is mounted here."""
    found = [
        *_above("", "memory.max", "memory.current", "inactive_file"),
        *_above("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ]
    limited = [ceiling for ceiling in found if ceiling.bounds() is not None]
    for ceiling in found:
        if ceiling not in limited:
            ceiling.close()
    return limited


def _above(controller: str, limit: str, used: str, cache: str) -> list[Ceiling]:
    with contextlib.suppress(Unavailable, OSError):
        own, tops = own_directory(controller), {where for _, where in mounts(controller)}
        folders = [own, *own.parents]
        inside = [folder for folder in folders if any(top in (folder, *folder.parents) for top in tops)]
        return [Ceiling(folder / limit, folder / used, folder / "memory.stat", cache) for folder in inside]
    return []
