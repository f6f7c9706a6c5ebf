"""Where the agents of a benchmark run: one memory limit for all of them together, and an end for all of them."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from seqsup.containment.cgroup.group import Cgroup, hard_for
from seqsup.containment.cgroup.tiers import Chosen
from seqsup.containment.launcher import wrap
from seqsup.containment.members import Members, descend, own_children
from seqsup.containment.needs import adopt_orphans
from seqsup.errors import SeqsupError
from seqsup.host.machine import most_processes

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TICK = 0.005  # seconds between two looks
_PATIENCE = 10.0  # seconds for processes to die


def by_kernel(chosen: Chosen) -> bool:
    """Return whether the kernel keeps the limit."""
    return chosen.groups is not None and chosen.groups.limits


class Box:
    """A memory limit in bytes, by a cgroup, or by watching all descendants of this process where there is none."""

    def __init__(self, chosen: Chosen, name: str, limit: int) -> None:
        """OSError: the kernel refused the cgroup."""
        self._limit, self._peak, self._members = limit, 0, Members()
        self._group: Cgroup | None = None
        if chosen.groups is not None and by_kernel(chosen):
            self._group = chosen.groups.make(name, hard_for(limit), most_processes())
            all_at_once = Path(self._group.entry[0]).with_name("memory.oom.group")
            if all_at_once.exists():  # cgroup v2 with its memory controller
                all_at_once.write_text("0")
        else:
            adopt_orphans()

    def enter(self, command: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the command that becomes `command` inside; `names` are the variables of its environment.

        Its leader dies with this process.
        """
        entry = self._group.entry if self._group is not None else ()
        return wrap(command, entry, names=names, die_with_us=True, parent=os.getpid())

    def look(self) -> None:
        """Keep the limit, where the kernel does not. Call it every TICK while agents run."""
        if self._group is not None:
            return
        for pid in descend(own_children()):
            self._members.add(pid)
        used = self._members.used()
        self._peak = max(self._peak, used)
        if used > self._limit and (living := self._members.living()):
            max(living, key=lambda member: member.bytes).send(signal.SIGKILL)

    @property
    def peak(self) -> int | None:
        """The most memory of all together in bytes; with page cache in a cgroup. None: the kernel does not say."""
        return self._peak if self._group is None else self._group.peak()

    def stop(self) -> None:
        """Kill all that is inside. SeqsupError: a process is still alive after ten seconds."""
        ends = time.monotonic() + _PATIENCE
        while left := self._kill():
            if time.monotonic() > ends:
                raise SeqsupError(f"{len(left)} processes survived SIGKILL: pid {', '.join(map(str, left))}")
            time.sleep(TICK)

    def _kill(self) -> list[int]:
        """Kill all that is inside, once. Return the pids that were there."""
        if self._group is not None:
            left = self._group.pids()
            if left:
                self._group.kill()
            return left
        for pid in descend(own_children()):
            self._members.add(pid)
        living = self._members.living()
        for member in living:
            member.send(signal.SIGKILL)
        return [member.pid for member in living]

    def close(self) -> None:
        """Kill all that is inside, and remove the cgroup. No signal interrupts that. For errors see `stop`."""
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        finally:
            try:
                self.stop()
                self._remove()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _remove(self) -> None:
        self._members.close()
        if self._group is None:
            adopt_orphans(False)
            return
        ends = time.monotonic() + _PATIENCE
        while not self._group.close() and time.monotonic() < ends:
            time.sleep(TICK)
