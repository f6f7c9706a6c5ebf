"""A set of processes that are watched, signalled and waited for together. What is measured is what is killed."""

import os
from collections.abc import Iterable, Set
from contextlib import suppress

from seqsup.model import Measure, ProcessMemory

from .process import Member, kinship

NAMED = 8  # processes described in an event, the largest first


class Members:
    def __init__(self, measure: Measure = Measure.PRIVATE) -> None:
        self._measure = measure
        self._by_pid: dict[int, Member] = {}
        self.unheld: set[int] = set()  # found by the last look, but we ran out of descriptors

    def __len__(self) -> int:
        return len(self._by_pid)

    def add(self, pid: int) -> Member | None:
        """Hold a process from now on; None when it is known already or gone."""
        if pid in self._by_pid:
            return None
        try:
            member = Member.open(pid)
        except OSError:
            self.unheld.add(pid)
            return None
        if member is not None:
            self._by_pid[pid] = member
        return member

    def used(self) -> int:
        """Sum the members' memory in bytes; whoever is gone is dropped."""
        total = 0
        for member in list(self._by_pid.values()):
            try:
                total += member.measure(self._measure)
            except ProcessLookupError:
                self.drop(member)
        return total

    def living(self) -> list[Member]:
        """Drop whoever has ended (zombies too) and return the others."""
        for member in list(self._by_pid.values()):
            if member.gone():
                self.drop(member)
        return list(self._by_pid.values())

    def send(self, signum: int) -> None:
        for member in self._by_pid.values():
            member.send(signum)
        for pid in self.unheld:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)

    def describe(self) -> tuple[ProcessMemory, ...]:
        """Name the largest members."""
        largest = sorted(self._by_pid.values(), key=lambda member: -member.bytes)
        return tuple(member.describe() for member in largest[:NAMED])

    def drop(self, member: Member) -> None:
        del self._by_pid[member.pid]
        member.close()

    def close(self) -> None:
        for member in list(self._by_pid.values()):
            self.drop(member)


def descend(starts: Iterable[int], but: Set[int] = frozenset()) -> list[int]:
    """List processes and all that descend from them, as of now; `but` and what descends from those is left out."""
    children_of = kinship()
    found: dict[int, None] = {}
    stack = list(starts)
    while stack:
        pid = stack.pop()
        if pid not in found and pid not in but:
            found[pid] = None
            stack += children_of(pid)
    return list(found)


def own_children() -> list[int]:
    return kinship()(os.getpid())
