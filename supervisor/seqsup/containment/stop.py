"""Ending processes: TERM, then after a grace KILL, until none is left."""

import signal
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Protocol

from seqsup.containment.members import Members, descend
from seqsup.host.wake import Wake
from seqsup.model.process import ProcessMemory

_LOOK, _LOOK_WHILE_KILLING = 0.02, 0.001  # seconds between looks
_LOOKS = 2
_LOOKS_AFTER_A_FIND = 10  # a process that forks and exits each millisecond may hide from some


class Stoppable(Protocol):
    """Processes that are stopped together: a tree, leftovers, the members of cgroups."""

    @property
    def looks(self) -> int:
        """How many looks in a row must find no process until none is left."""

    def living(self) -> int:
        """Look, and return how many processes are alive."""

    def send(self, signum: int) -> None:
        """Signal all of them."""

    def describe(self) -> tuple[ProcessMemory, ...]:
        """Name them."""


async def stop(
    those: Stoppable, wake: Wake, *, grace: float, deadline: float, hurry: Callable[[], bool] = lambda: False
) -> tuple[ProcessMemory, ...] | None:
    """Send TERM, after `grace` seconds KILL at every look, until no process is left.

    Return None then, or at the deadline the processes that are still alive. `deadline` is in seconds from now; where
    `hurry` cuts the grace short, it comes sooner by as much.
    """
    began, after_kill, empty, termed = time.monotonic(), deadline - grace, 0, False
    while True:
        living = those.living()
        empty = 0 if living else empty + 1
        if empty >= those.looks:
            return None
        waited = time.monotonic() - began
        if hurry():
            grace = min(grace, waited)
        if living and waited > grace + after_kill:
            return those.describe()
        if waited >= grace:
            those.send(signal.SIGKILL)
        elif living and not termed:
            termed = True
            those.send(signal.SIGTERM)
            those.send(signal.SIGCONT)  # a stopped process cannot hear TERM
        await wake.wait(min(_LOOK, grace - waited) if living and waited < grace else _LOOK_WHILE_KILLING)


async def stop_leftovers(
    find: Callable[[], Iterable[int]], wake: Wake, *, grace: float, deadline: float
) -> tuple[tuple[ProcessMemory, ...], tuple[ProcessMemory, ...]]:
    """Stop the processes that `find` returns, with all descendants. Return the stopped and the living ones."""
    with closing(_Leftovers(find)) as leftovers:
        left = await stop(leftovers, wake, grace=grace, deadline=deadline)
        return leftovers.stopped(), left or ()


class _Leftovers:
    """Processes that are not, or no longer, of a supervised tree."""

    def __init__(self, find: Callable[[], Iterable[int]]) -> None:
        self._find, self._members = find, Members()
        self._found: set[int] = set()
        self._named: dict[tuple[int, int], ProcessMemory] = {}  # by pid and start: each that was seen alive

    @property
    def looks(self) -> int:
        return _LOOKS_AFTER_A_FIND if self._named else _LOOKS

    def living(self) -> int:
        """Count those alive, else those found and gone by now, once: each may have left a child unseen."""
        known = len(self._found)
        for pid in descend(self._find()):
            self._found.add(pid)
            self._members.add(pid)
        living = self._members.living()
        self._members.used()
        for member in living:
            if (key := (member.pid, member.start)) not in self._named:
                self._named[key] = member.describe()
        return len(living) or len(self._found) - known

    def send(self, signum: int) -> None:
        self._members.send(signum)

    def describe(self) -> tuple[ProcessMemory, ...]:
        return self._members.describe()

    def stopped(self) -> tuple[ProcessMemory, ...]:
        """Name those that were seen alive and are gone."""
        left = {(member.pid, member.start) for member in self._members.living()}
        return tuple(named for key, named in self._named.items() if key not in left)

    def close(self) -> None:
        self._members.close()
