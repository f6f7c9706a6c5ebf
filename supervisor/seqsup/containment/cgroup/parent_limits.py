"""The memory limits that we ourselves live under: a container's, a service's, a slice's."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from seqsup.containment.cgroup.files import NO_LIMIT, KeptFile, mounts, own_directory
from seqsup.containment.cgroup.group import Unavailable


class Ceiling:
    """One group above us that has a limit."""

    def __init__(self, limit: Path, used: Path, stat: Path, cache: Sequence[str]) -> None:
        """`cache` are the keys of `stat` with memory that the kernel frees before it meets the limit."""
        self._limit, self._used, self._stat, self._cache = KeptFile(limit), KeptFile(used), KeptFile(stat), cache

    def bounds(self) -> tuple[int, int] | None:
        """Return the limit and the room that it leaves, page cache included, in bytes. None: no limit."""
        if (figures := self._figures()) is None:
            return None
        limit, left = figures
        return limit, max(left + self._given_up(), 0)

    def room(self, most: int) -> int:
        """Return the room that the limit leaves in bytes, but `most` where that is less.

        memory.stat takes 20 to 60 µs, so it is read only where the limit is near.
        """
        if (figures := self._figures()) is None or figures[1] >= most:
            return most
        return min(max(figures[1] + self._given_up(), 0), most)

    def _figures(self) -> tuple[int, int] | None:
        """Return the limit and the room below it, without page cache, in bytes."""
        limit, used = self._limit.read().strip(), self._used.read().strip()
        if not (limit.isdigit() and used.isdigit()) or int(limit) >= NO_LIMIT:
            return None
        return int(limit), int(limit) - int(used)

    def _given_up(self) -> int:
        numbers = self._stat.numbers()
        return sum(numbers.get(key, 0) for key in self._cache)

    def close(self) -> None:
        for kept in (self._limit, self._used, self._stat):
            kept.close()


def ceilings() -> list[Ceiling]:
    """Find all cgroups with a limit, from our own up to the one that is mounted here."""
    found = [
        *_above("", "memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable")),
        *_above(
            "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
        ),
    ]
    limited = [ceiling for ceiling in found if ceiling.bounds() is not None]
    for ceiling in found:
        if ceiling not in limited:
            ceiling.close()
    return limited


def _above(controller: str, limit: str, used: str, cache: Sequence[str]) -> list[Ceiling]:
    with contextlib.suppress(Unavailable, OSError):
        own, tops = own_directory(controller), {where for _, where in mounts(controller)}
        folders = [own, *own.parents]
        inside = [folder for folder in folders if any(top in (folder, *folder.parents) for top in tops)]
        return [Ceiling(folder / limit, folder / used, folder / "memory.stat", cache) for folder in inside]
    return []
