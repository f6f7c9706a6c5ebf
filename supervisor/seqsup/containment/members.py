"""A set of processes that are watched, signalled and waited for together. What is measured is what is killed."""

import os
import signal
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress

from seqsup.model import Measure, ProcessMemory

from .process import Member, kinship
from .shared import Shared

NAMED = 8  # processes described in an event, the largest first


class Members:
    def __init__(self, measure: Measure = Measure.PRIVATE) -> None:
        self._measure = measure
        self._shared = Shared()
        self._by_pid: dict[int, Member] = {}
        self.unheld: set[int] = set()  # found by the last look, but we ran out of descriptors
        self._killing = False
        self._denied: dict[tuple[int, int], str] = {}  # what was told of whom, by pid and start

    def __len__(self) -> int:
        return len(self._by_pid)

    def __contains__(self, pid: int) -> bool:
        return pid in self._by_pid

    def pids(self) -> list[int]:
        return list(self._by_pid)

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
            if self._killing:  # whoever forks and exits all the time is another one when the look is over
                member.send(signal.SIGKILL)
        return member

    def used(self) -> int:
        """Sum the members' memory in bytes, what they share once; whoever is gone is dropped."""
        total = 0
        for member in list(self._by_pid.values()):
            try:
                total += member.measure(self._measure)
            except ProcessLookupError:
                self.drop(member)
        if self._measure is Measure.PRIVATE:
            total += self._shared.used(self._by_pid.values())
        return total

    def denied(self) -> Iterator[str]:
        """Say of each member, once, what of it may not be read."""
        for member in self._by_pid.values():
            who = member.pid, member.start
            if member.denied and self._denied.get(who) != member.denied:
                self._denied[who] = member.denied
                yield f"pid {member.pid} ({member.name}): {member.denied}"

    def living(self) -> list[Member]:
        """Drop whoever has ended (zombies too) and return the others."""
        for member in list(self._by_pid.values()):
            if member.gone():
                self.drop(member)
        return list(self._by_pid.values())

    def send(self, signum: int) -> None:
        """Signal all; after SIGKILL whoever is added gets it too."""
        self._killing = self._killing or signum == signal.SIGKILL
        for member in self._by_pid.values():
            member.send(signum)
        for pid in self.unheld:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)

    def describe(self, leader: int | None = None) -> tuple[ProcessMemory, ...]:
        """Name the largest members; `leader` is the pid of the one that the agent's command became."""
        largest = sorted(self._by_pid.values(), key=lambda member: -member.bytes)
        return tuple(member.describe(leader=member.pid == leader) for member in largest[:NAMED])

    def drop(self, member: Member) -> None:
        del self._by_pid[member.pid]
        self._shared.forget(member)
        member.close()

    def close(self) -> None:
        for member in list(self._by_pid.values()):
            self.drop(member)


def descend(starts: Iterable[int], but: Set[int] = frozenset()) -> Iterator[int]:
    """Find processes and all that descend from them; `but` and what descends from those is left out.

    Each is given as it is found: one that forks and exits all the time is gone when the look is over.
    """
    children_of = kinship()
    found: set[int] = set()
    for start in starts:
        stack = [start]
        while stack:
            pid = stack.pop()
            if pid not in found and pid not in but:
                found.add(pid)
                yield pid
                stack += children_of(pid)


def own_children() -> list[int]:
    return kinship()(os.getpid())
