"""What stays in memory when its processes are gone: files in a tmpfs, System V segments. For people, to remove."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .group import unescaped

_MOST = 100_000  # files that are looked at
_LEAST = 1024**2  # bytes; smaller ones explain nothing


def kept_since(when: float) -> dict[str, int]:
    """Name what was made or written since then (seconds of the epoch): bytes in memory, the largest first."""
    found = dict([*_files(when), *_segments(when)])
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _files(when: float) -> Iterator[tuple[str, int]]:
    looked, seen = 0, set[tuple[int, int]]()
    for mount in _mounts():
        for folder, folders, names in os.walk(mount):
            folders[:] = [name for name in folders if not os.path.ismount(Path(folder, name))]
            for name in names:
                looked += 1
                if looked > _MOST:
                    return
                with suppress(OSError):
                    found = os.lstat(file := f"{folder}/{name}")
                    known, size = (found.st_dev, found.st_ino), found.st_blocks * 512
                    if stat.S_ISREG(found.st_mode) and found.st_ctime >= when and size >= _LEAST and known not in seen:
                        seen.add(known)
                        yield file, size


def _mounts() -> list[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [unescaped(line.split(" ")[4]) for line in lines if line.partition(" - ")[2].startswith("tmpfs ")]


def _segments(when: float) -> Iterator[tuple[str, int]]:
    with suppress(OSError, ValueError, KeyError):
        head, *lines = Path("/proc/sysvipc/shm").read_text().splitlines()
        for line in lines:
            segment = dict(zip(head.split(), line.split(), strict=False))
            if int(segment["ctime"]) >= int(when) and int(segment["rss"]) >= _LEAST:
                yield f"System V segment {segment['shmid']}", int(segment["rss"])
