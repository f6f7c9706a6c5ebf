"""Shared memory of a tree (shm_open, memfd, System V, mapped tmpfs), counted once if no cgroup measures it.

/proc lists what a process maps, but not which pages two processes share. Only a walk of all page tables tells (33 ms a
GiB and process), which would delay the watch. Reading the segments that a process maps takes 0.1 ms. They yield a lower
and an upper figure, which are equal if segments are in use as a whole. The upper one counts, and PSS confirms it near a
limit.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import Struct

from seqsup.containment.proc_text import lines_of, mounts
from seqsup.containment.process import Member
from seqsup.units import MIB

_STEP = MIB  # a process whose shared pages changed by less is not examined again
_SHARE = 20  # looks may take 1/20 of the time

Segment = tuple[str, str]  # device and inode


class Holding(Struct, frozen=True):
    """Shared memory of one process, in bytes."""

    resident: int
    mapped: dict[Segment, int] | None  # None: not ours to read
    ends: dict[Segment, int] = {}  # how far into each segment it maps


class Shared:
    def __init__(self) -> None:
        self._holdings: dict[Member, Holding] = {}
        self._again = 0.0  # when the next look may be
        self.known = 0  # bytes, as of the last look
        self.unseen = 0  # bytes by which the members' shared pages grew since they were looked at
        self.doubt = 0  # bytes of these that may be the same as others of these

    def used(self, members: Iterable[Member]) -> int:
        """Return the tree's shared memory in bytes, after examining members whose part has changed."""
        changed = [member for member in members if not -_STEP < member.shared - member.looked < _STEP]
        if changed and (now := time.monotonic()) >= self._again:
            for member in changed:
                member.looked = member.shared
                self._holdings[member] = look(member.pid)
            self._sum_up()
            ended = time.monotonic()
            self._again = ended + _SHARE * (ended - now)
            changed = []
        self.unseen = sum(max(member.shared - member.looked, 0) for member in changed)
        return self.known

    def forget(self, member: Member) -> None:
        if self._holdings.pop(member, None) is not None:
            self._sum_up()

    def _sum_up(self) -> None:
        holdings = [holding for holding in self._holdings.values() if holding.resident]
        self.known = most(holdings)
        self.doubt = self.known - once(holdings)


def once(holdings: Sequence[Holding]) -> int:
    """Return a lower bound of the memory that several use together, however it overlaps."""
    if any(holding.mapped is None for holding in holdings):
        return max(holding.resident for holding in holdings)
    mappers = Counter(segment for holding in holdings for segment in holding.mapped or ())
    total = 0
    for group in _groups(holdings):
        own = [_own(holding, mappers) for holding in group]
        # The memory of one counts in full; of each other, at least what cannot be in a segment that another process
        # maps
        total += sum(own) + max(holding.resident - its for holding, its in zip(group, own, strict=True))
    return total


def most(holdings: Sequence[Holding]) -> int:
    """Return an upper bound of the memory that several use together, in bytes, if all may be read."""
    if any(holding.mapped is None for holding in holdings):
        return once(holdings)
    total = 0
    for group in _groups(holdings):
        ends: dict[Segment, int] = {}
        for holding in group:
            for segment, size in (holding.mapped or {}).items():
                ends[segment] = max(ends.get(segment, 0), holding.ends.get(segment, size))
        total += min(sum(holding.resident for holding in group), sum(ends.values()))
    return total


def _own(holding: Holding, mappers: Counter[Segment]) -> int:
    common = sum(size for segment, size in (holding.mapped or {}).items() if mappers[segment] > 1)
    return max(holding.resident - common, 0)


def _groups(holdings: Iterable[Holding]) -> list[list[Holding]]:
    """Group the holdings that have a segment in common."""
    groups: list[tuple[set[Segment], list[Holding]]] = []
    for holding in holdings:
        segments, together, apart = set(holding.mapped or ()), [holding], []
        for group in groups:
            if segments.isdisjoint(group[0]):
                apart.append(group)
            else:
                segments |= group[0]
                together += group[1]
        groups = [*apart, (segments, together)]
    return [group for _, group in groups]


def look(pid: int) -> Holding:
    """Read the shared memory of a process; nothing when it is gone."""
    resident = 0
    with suppress(OSError):
        _, _, rest = Path(f"/proc/{pid}/status").read_bytes().partition(b"\nRssShmem:")  # since Linux 4.5
        resident = int(rest.split(None, 1)[0]) * 1024 if rest else 0
    if not resident:
        return Holding(0, {})
    try:
        lines = lines_of(Path(f"/proc/{pid}/maps"))
    except PermissionError:
        return Holding(resident, None)
    except OSError:
        return Holding(0, {})
    mapped: Counter[Segment] = Counter()
    ends: dict[Segment, int] = {}
    for line in lines:
        addresses, _, offset, device, inode, *_ = line.split(None, 5)
        if inode != "0" and device in _devices():
            start, _, end = addresses.partition("-")
            size = int(end, 16) - int(start, 16)
            mapped[device, inode] += size
            ends[device, inode] = max(ends.get((device, inode), 0), int(offset, 16) + size)
    return Holding(resident, dict(mapped), ends)


@cache
def _devices() -> frozenset[str]:
    """Names of shared memory in maps: every tmpfs, and the kernel's own, which is mounted nowhere."""
    found = set()
    for mount in mounts():
        if mount.filesystem in ("tmpfs", "devtmpfs"):
            major, _, minor = mount.device.partition(":")
            found.add(f"{int(major):02x}:{int(minor):02x}")
    own = os.memfd_create("seqsup")
    device = os.fstat(own).st_dev
    os.close(own)
    return frozenset({*found, f"{os.major(device):02x}:{os.minor(device):02x}"})
