"""Finding the members of a tree: by walks through /proc, and among the processes that were born since."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from seqsup.containment import members_file
from seqsup.containment.cgroup.group import Cgroup
from seqsup.containment.members import Members, descend
from seqsup.containment.owner import TreeOwner
from seqsup.containment.process import kin, read_stat, zombie_since
from seqsup.host.machine import LINUX

WALK_SHARE = 20  # a walk may take 1/20 of the time: forking neighbours must not make the watcher busy
_IDLE_SHARE = 1000  # and one for which there is no evidence 1/1000, within the bounds below
_FEW = 16  # new processes for each member: looking at one takes 2 to 10 µs, a walk takes 100 µs for each Node
_THREAD = (errno.EINVAL, errno.ENOENT)  # errors by which the kernel says that the number is a thread's
_UNBORN_EVERY = 0.1  # seconds; a number is given out up to some milliseconds before its process is there
WALK_EVERY = 1.0, 5.0  # seconds; a walk finds processes that joined the cgroup or the reaper without a fork
_LONGEST = 0.2  # seconds of a walk in one look: deadlines wait meanwhile
_COUNTED = 2  # times as long between walks where pids show every fork


class MemberSearch:
    """Finds processes of one tree, and holds them as its members."""

    def __init__(self, owner: TreeOwner, members: Members, ledger: int, group: Cgroup | None, leader: int) -> None:
        """`leader` is a pid; see Tree for the others."""
        self._owner, self._members, self._ledger, self._group, self._leader = owner, members, ledger, group, leader
        self._walked, self._walk_cost = 0.0, 0.0
        self._walking: Iterator[bool] | None = None  # a walk that was interrupted
        self._last_pid = -1
        self._unborn: set[int] = set()  # pids assigned since the last walk that are not yet, or no longer, a process
        self._again = 0.0  # when to retry these
        self.zombies: dict[int, int] = {}  # pid -> start, of those that the last walk found

    def walk(self) -> int:
        """Find new members: all that descends from the reaper, but outsiders. Return how many were found.

        A zombie counts when it is first seen, since it may have left a child unseen, and never again. After _LONGEST a
        walk is interrupted, and the next call continues it. Neither call returns 0: it is no proof that none is left.
        """
        began = time.monotonic()
        continued = self._walking is not None
        if self._walking is None:
            self._walking, self._walk_cost = self._walk(), 0.0
        found = 0
        for new in self._walking:
            found += new
            if time.monotonic() - began >= _LONGEST:
                self._walk_cost += time.monotonic() - began
                return max(found, 1)
        self._walking = None
        self._walked = time.monotonic()
        self._walk_cost += self._walked - began
        return max(found, 1) if continued else found

    def _walk(self) -> Iterator[bool]:
        """Go through the whole tree. Say of each process whether it is new."""
        known, self.zombies = self.zombies, {}
        self._last_pid = self._owner.last_pid()
        self._unborn.clear()
        self._members.unheld.clear()
        grouped = self._group.pids() if self._group else ()
        kindred = kin(self._leader, self._members.pids())
        starts = (*self._owner.children(), *grouped, *kindred)
        for pid in descend(starts, self._owner.outsiders(), self.zombies):
            if self._members.knows(pid):
                yield False
            elif pid in known and (start := zombie_since(pid)) == known[pid]:
                self.zombies[pid] = start
                yield False
            else:
                if not self.take(pid) and (start := zombie_since(pid)) is not None:
                    self.zombies[pid] = start
                yield True

    def keep_up(self) -> None:
        """Find new members where there may be some: all of them by a walk, or among the few that were born since."""
        last, since_walk = self._owner.last_pid(), time.monotonic() - self._walked
        least, most = WALK_EVERY
        idle = max(least, min(_IDLE_SHARE * self._walk_cost, most)) * (_COUNTED if self._owner.counted else 1)
        if since_walk >= idle or self._walking is not None:
            self.walk()
        elif last != self._last_pid or (self._unborn and time.monotonic() >= self._again):
            if self._take_born(last):
                self._last_pid = last
            elif since_walk >= WALK_SHARE * self._walk_cost:
                self.walk()

    def _take_born(self, last: int) -> bool:
        """Take processes born into the tree up to this pid; False where only a walk can find them.

        Pids go up, so parents come before their children. A process that lost its parents is a child of the top.
        """
        few = self._last_pid <= last <= self._last_pid + _FEW * len(self._members) - len(self._unborn)
        if not (few and self._owner.counted and not self._members.unheld and (top := self._owner.top)):
            return False
        numbers = range(self._last_pid + 1, last + 1)
        parents, now = _parents(numbers), time.monotonic()
        due = self._unborn and now >= self._again
        if parents is not None and (due or not self._unborn.isdisjoint(parents.values())):
            parents, self._again = _parents([*sorted(self._unborn), *numbers]), now + _UNBORN_EVERY
        if parents is None:
            return False
        self._unborn = self._unborn.union(numbers).difference(parents)
        outsiders, ours = self._owner.outsiders(), {top}
        for pid, parent in parents.items():
            if pid not in outsiders and (parent in ours or self._members.knows(parent)):
                ours.add(pid)
                self.take(pid)
        return True

    def take(self, pid: int) -> bool:
        if (member := self._members.add(pid)) is None:
            return False
        self._owner.saw(member.pid, member.start)
        with suppress(OSError):  # a full disk: the journal will report it, and the watch must continue
            members_file.append(self._ledger, member.pid, member.start)
        return True

    def take_grouped(self) -> bool:
        """Add the cgroup's processes that no walk has found. With many threads one listing takes long, and waits its
        turn.
        """
        outsiders = self._owner.outsiders()
        unknown = [pid for pid in (self._group.pids() if self._group else ()) if pid not in self._members]
        for pid in unknown:
            if pid not in outsiders:
                self.take(pid)
        return bool(unknown)


def _parents(numbers: Iterable[int]) -> dict[int, int] | None:
    """Return the parent of each process among these pids, 0 for a thread; None where one may not be read."""
    found: dict[int, int] = {}
    if not LINUX:
        return None
    for pid in numbers:
        try:
            os.close(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        except OSError as error:
            if error.errno not in _THREAD:
                return None
            found[pid] = 0
            continue
        if (stat := read_stat(pid)) is None:
            return None
        found[pid] = stat.parent
    return found
