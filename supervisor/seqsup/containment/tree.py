"""One agent's tree: every descendant as a subreaper sees it, however it forked, and the kernel's group around it."""

import os
import signal
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase

from msgspec.structs import replace

from seqsup.containment.cgroup.group import Cgroup
from seqsup.containment.confirmed import Confirmed
from seqsup.containment.elsewhere import Elsewhere
from seqsup.containment.members import Members
from seqsup.containment.owner import Leader, TreeOwner
from seqsup.containment.process import Member, read_stat
from seqsup.containment.search import MemberSearch
from seqsup.containment.tools import Tools
from seqsup.host import priority
from seqsup.host.machine import LINUX
from seqsup.model.enums import Measure
from seqsup.model.outcome import Exit
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import OTHER, processes
from seqsup.policy import spare
from seqsup.policy.confirm import NO_BOUNDS, MemoryBounds
from seqsup.units import MIB

# Where the kernel weighs, its figure counts: ours has pages that forked processes share once for each, and no shmem
_AS_A_GROUP = (Measure.PRIVATE, Measure.CGROUP)
_GREW = 9 / 8  # then its processes are named again, because a process that the kernel killed cannot be read
_SHARED = "shared memory and tmpfs"
_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_REAPING = 0.05  # seconds of one look, for 1000 zombies


class Tree:
    def __init__(
        self, owner: TreeOwner, leader: Leader, measure: Measure, ledger: int, group: Cgroup | None,
        bounds: MemoryBounds = NO_BOUNDS,
    ) -> None:  # fmt: skip
        """`ledger` is a descriptor to which each member's pid and start time are appended at first sight.

        `group` is the kernel's, if the machine gives one: it is looked at, weighed and killed beside the walk.
        Near `bounds` the figure is confirmed by PSS, where `measure` is none of its own.
        """
        self._owner = owner
        self._members = Members(measure)
        self._measure = measure
        self._confirmed = Confirmed(self._members, bounds if LINUX and measure in _AS_A_GROUP else NO_BOUNDS)
        self._by_group = False  # the last figure is the cgroup's
        self._group = group
        self._elsewhere = Elsewhere(owner, self._members)
        self._gave_way = False  # its priority is lowered
        self._named_at = MIB
        self._forgiven = 0  # kills by the kernel that did not end the tree
        self.kept = 0  # bytes of members that may outlive the agent, or survived SIGKILL, when they were released
        self.last_whole: tuple[ProcessMemory, ...] = ()  # the names before the leader exited or the kernel killed
        self._leader, self.leader = leader, leader.pid
        self.tools = Tools(self._members, leader.pid)
        self.search = MemberSearch(owner, self._members, ledger, group, leader.pid)
        if owner.parent_pid is None:
            self.search.walk()  # its leader's pid may be reused by now
        else:
            self.search.take(self.leader)
        first = self._members.get(self.leader) or read_stat(self.leader)  # a zombie stays until the loop runs
        self.leader_start = first.start if first else 0

    def used(self) -> int:
        """Measure the tree in bytes, after a walk where a fork may have happened."""
        used = self._measured()
        if used > self._named_at * _GREW:
            self.describe(used)
        return used

    def _measured(self) -> int:
        self.search.keep_up()
        if self._group is not None and self._measure in _AS_A_GROUP and (kernels := self._group.used()) is not None:
            self._by_group = True
            return self._confirmed.used(kernels + self._elsewhere.used(self._group), grouped=True)
        self._by_group = False
        return self._confirmed.used(self._members.used(), grouped=False)

    @property
    def figure(self) -> str:
        """Name the figure that used() returned last."""
        if self._measure not in _AS_A_GROUP:
            return str(self._measure).upper()
        if self._by_group:
            return self._confirmed.spell("its cgroup", "its cgroup less freed pages")
        return self._confirmed.spell("resident pages", "PSS")

    def denied(self) -> Iterator[str]:
        """Report once for each member which of its figures may not be read."""
        return self._members.denied()

    def kernel_oom(self) -> str:
        """Return the kernel's figures and the processes that are gone, once it killed in the cgroup; empty before."""
        if self._group is None or not self._kernel_killed():
            return ""
        return "; ".join(filter(None, (self.gone(), self._group.figures())))

    def gone(self) -> str:
        """Return which of the processes that were named last no longer have memory."""
        return f"gone since the last look: {processes(gone)}" if (gone := self._gone()) else ""

    def _gone(self) -> list[ProcessMemory]:
        return [process for process in self.last_whole if process.pid and not self._members.holds(process.pid)]

    def forgive_kernel(self) -> ProcessMemory | None:
        """Return the largest process of a tool that the kernel killed, and forget that it did.

        None, and nothing is forgotten, if it is not known which one that was, or if more than tools are gone.
        """
        gone = self._gone()
        if self._group is None or not gone or not all(map(spare.is_of_tool, gone)):
            return None
        self._forgiven = self._group.oom_kills()
        return max(gone, key=lambda process: process.bytes)

    def kernel_peak(self) -> int:
        """Return the largest charge of the cgroup in bytes, page cache included; 0 if the kernel does not say."""
        return (self._group.peak() if self._group is not None else None) or 0

    def peak_between_looks(self) -> int:
        """Return the cgroup's largest charge less what is still charged, in bytes; 0 if the kernel does not say.

        Call it once no process is left: then its page cache and kernel memory are still charged, and do not count. Page
        cache of files that it deleted is counted.
        """
        group = self._group if self._measure in _AS_A_GROUP else None
        if group is None or (peak := group.peak()) is None:
            return 0
        charged, used = group.charged() or 0, group.used() or 0
        return max(peak - max(charged - used, 0), 0)

    @property
    def looks(self) -> int:
        """How many looks in a row must find no process until none is left: one, where the kernel proves it."""
        return 1 if self._owner.proven_empty else 2

    def living(self) -> int:
        """Return the number of live processes, after a walk; 1 if none was seen alive but one may be.

        A process that was seen and is gone may have left a child unseen. One is also counted if the kernel says that we
        have children and no outsider lives, unless all children are zombies that cannot be reaped.
        """
        self._reap()
        if self._owner.proven_empty and not (self._group and self._group.pids()):
            found = 0
            self._members.unheld.clear()
        else:
            found = self.search.walk()
        seen = len(self._members.living()) + len(self._members.unheld) or min(found, 1)
        if seen:
            return seen
        reaped = self._reap()
        if self._owner.childless or self._owner.outsiders():
            return 0
        left = self._owner.children() if reaped else ()
        return 0 if left and self.search.zombies.keys() >= set(left) else 1

    def _reap(self) -> bool:
        """Reap thousands of zombies in one look, each of which would be listed in the next. False: there are more."""
        until = time.monotonic() + _REAPING
        while not (reaped := self._owner.reap()) and time.monotonic() < until:
            pass
        return reaped

    def ending(self) -> Exit | None:
        """Return its leader's exit; None while that lives."""
        return self._owner.ending(self._leader)

    def __contains__(self, pid: int) -> bool:
        return pid in self._members

    def count(self) -> int:
        """Count the members known, without a look; one that could not be held is weighed too."""
        return len(self._members) + len(self._members.unheld)

    def give_way(self) -> None:
        """Leave the processor to its supervisor until it is killed. Its leader must live: its pid is its group's."""
        if not self._gave_way and self.ending() is None:
            self._gave_way = True
            priority.lower(self.leader)

    def interrupt(self) -> None:
        """Send SIGINT to the leader alone."""
        if (leader := self._members.get(self.leader)) is not None:
            leader.send(signal.SIGINT)

    def send(self, signum: int) -> None:
        if signum != signal.SIGKILL:
            self._members.send(signum)
            return
        if self._gave_way:
            self._gave_way = False
            priority.restore_session(self._members.pids())
        self._members.kill_and_free()
        if self._group is not None and not self._owner.foreign:
            self._group.kill()
        self._members.send(signum)
        self._owner.kill_children()

    def describe(self, used: int | None = None) -> tuple[ProcessMemory, ...]:
        """Name its processes, so that they add up to the measured total.

        Pages that several share count in each of them, so all are scaled down if they are more than the total.
        """
        whole = self._measured() if used is None else used
        named, rest = self._named(whole)
        much = max(MIB, whole // 32)
        if rest >= much and self.search.take_grouped():
            named, rest = self._named(whole)
        if rest >= much and self._measure in _AS_A_GROUP:
            name = _SHARED if self._members.seen() else OTHER
            named += (ProcessMemory(pid=0, name=name, command=name, bytes=rest, count=0),)
        self._named_at = max(whole, MIB)
        if self.ending() is None and not self._kernel_killed():
            self.last_whole = named
        return named

    def _named(self, whole: int) -> tuple[tuple[ProcessMemory, ...], int]:
        """Name its members, and return the part of the total that belongs to none of them."""
        if self._group is not None:  # else it has just read them all
            self._members.sum_of(self._members.pids())
        named = self._members.describe(self.leader)
        shared = 0 if self._by_group or self._measure not in _AS_A_GROUP else self._members.known_shared()
        total = sum(process.bytes for process in named)
        if 0 < whole < total + shared:
            named = tuple(replace(process, bytes=process.bytes * whole // (total + shared)) for process in named)
        return named, whole - sum(process.bytes for process in named)

    def held(self, used: int | None = None) -> tuple[ProcessMemory, ...]:
        """Name its processes as they are, or as they were before the kernel began to take them away."""
        named = self.describe(used)
        return self.last_whole if self.last_whole and self._kernel_killed() else named

    def _kernel_killed(self) -> bool:
        return self._group is not None and self._group.oom_kills() > self._forgiven

    def pids(self) -> tuple[int, ...]:
        """All members known, without a look."""
        return tuple(self._members.pids())

    def cpu(self) -> dict[int, float]:
        """Return the CPU seconds of each member by its pid, those of its ended children included."""
        stats = {pid: read_stat(pid) for pid in self._members.pids()}
        return {pid: (stat.cpu + stat.of_ended) * _TICK for pid, stat in stats.items() if stat is not None}

    def abandon(self) -> str:
        """Note the processes that survived SIGKILL, and return why. close() releases them, but they stay known."""
        left = self._members.living()
        self.kept += sum(member.bytes for member in left)
        self._owner.abandoned.update({member.pid: member.start for member in left})
        return ", ".join(f"pid {member.pid} ({member.name}): {member.holdup()}" for member in left)

    def release(self, allowed: tuple[str, ...]) -> None:
        """Release members whose command contains one of these texts, or a match of it as a glob: they may outlive their
        agent."""
        if not allowed:
            return
        self.search.walk()
        for member in self._members.living():
            command = member.describe().command
            if any(text in command or fnmatchcase(command, f"*{text}*") for text in allowed):
                self.kept += self._members.sum_of([member.pid])
                if member.pid in self._members:  # else it exited meanwhile
                    self._let_go(member)

    def _let_go(self, member: Member) -> None:
        self._owner.foreign[member.pid] = member.start
        self._members.drop(member)

    def close(self) -> None:
        """Stop watching. Processes that still live are released, so that they are no part of the next tree."""
        for member in self._members.living():
            self._let_go(member)
        self._members.close()
        self._owner.forget(self._leader)
