"""Memory without a process: files in a tmpfs and System V segments. Reported so that a person can remove them."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from seqsup.containment import proc_text

_LONGEST = 0.2  # seconds of a search, during which running agents are not watched
_LEAST = 1024**2  # bytes; smaller ones explain nothing


def kept_since(when: float) -> dict[str, int]:
    """Name memory that was created or written since then (seconds of the epoch): bytes, the largest first."""
    found = dict([*_files(when), *_segments(when)])
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _files(when: float) -> Iterator[tuple[str, int]]:
    until, seen = time.monotonic() + _LONGEST, set[tuple[int, int]]()
    mounts = {mount.where: mount.filesystem for mount in proc_text.mounts()}
    for mount, kind in mounts.items():
        if kind != "tmpfs":
            continue
        for folder, folders, names in os.walk(mount):
            if time.monotonic() > until:
                return
            folders[:] = [name for name in folders if f"{folder.rstrip('/')}/{name}" not in mounts]
            for name in names:
                if time.monotonic() > until:
                    return
                with suppress(OSError):
                    found = os.lstat(file := f"{folder}/{name}")
                    known, size = (found.st_dev, found.st_ino), found.st_blocks * 512
                    if stat.S_ISREG(found.st_mode) and found.st_ctime >= when and size >= _LEAST and known not in seen:
                        seen.add(known)
                        yield file, size


def _segments(when: float) -> Iterator[tuple[str, int]]:
    with suppress(OSError, ValueError, KeyError):
        head, *lines = Path("/proc/sysvipc/shm").read_text().splitlines()
        for line in lines:
            segment = dict(zip(head.split(), line.split(), strict=False))
            if int(segment["ctime"]) >= int(when) and int(segment["rss"]) >= _LEAST:
                yield f"System V segment {segment['shmid']}", int(segment["rss"])
