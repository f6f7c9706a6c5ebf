"""The members file of a run: pid and start time of each process that was seen in its trees, one process a line."""

import os
from collections.abc import Iterator
from pathlib import Path


def append(descriptor: int, pid: int, start: int) -> None:
    os.write(descriptor, b"%d %d\n" % (pid, start))


def entries(file: Path) -> Iterator[tuple[int, int]]:
    """Read pids and start times. Weeks of builds are millions of lines; one may be torn."""
    with file.open("rb") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) == 2 and b"".join(fields).isdigit():
                yield int(fields[0]), int(fields[1])
