"""A set of processes that are watched, signalled and waited for together. All measured processes are killed."""

import _thread
import os
import signal
import time
from collections.abc import Container, Iterable, Iterator, Set

from msgspec.structs import replace

from seqsup.containment.process import Member, glance, kinship, read_stat, signal_unheld
from seqsup.containment.shared_memory import Shared
from seqsup.model.enums import Measure, ProcessKind
from seqsup.model.process import ProcessMemory, TreeProcess
from seqsup.model.process_names import OTHER, title
from seqsup.units import MIB

NAMED = 8  # processes described in an event, the largest first, and as many programs of the others
_ASKED, _ASKED_EVERY = 64, 1.0  # of the others, in seconds: reading a command line takes 40 µs
_PATIENCE = 0.05  # seconds; the watch stopped waiting for command lines
_SURE = 5.0  # seconds for which one that holds the very same runs the same: an exec changes both
_GLANCES = 20  # they may take 1/20 of the time: each takes 20 µs
_ANY = ProcessMemory(pid=0, name=OTHER, command=OTHER, bytes=0)
_LARGE = 64 * MIB  # takes the kernel 5 ms to free
_NEVER = -_SURE, _ANY


class Members:
    def __init__(self, measure: Measure = Measure.PRIVATE) -> None:
        self._measure = measure
        self._shared = Shared()
        self._by_pid: dict[int, Member] = {}
        self.unheld: dict[int, int] = {}  # pid -> start, found by the last look, but we ran out of descriptors
        self._glanced, self._glance_again = 0, 0.0  # bytes that these have, and when the next look may be
        self._killing = False
        self._described: dict[int, tuple[float, ProcessMemory]] = {}  # by pid, and when
        self._asking = _thread.allocate_lock()  # held while a thread reads command lines
        self._answers: list[tuple[Member, tuple[float, ProcessMemory]]] = []  # of that thread
        self._asked = 0.0  # when more than the largest were
        self._denied: dict[tuple[int, int], str] = {}  # pid and start -> the last reported reason

    def __len__(self) -> int:
        return len(self._by_pid)

    def __contains__(self, pid: int) -> bool:
        return pid in self._by_pid

    def knows(self, pid: int) -> bool:
        """Say whether the process that has this pid now is held. A member that had it before is dropped."""
        if (member := self._by_pid.get(pid)) is None:
            return False
        if reaped := member.reaped():
            self.drop(member)
        return not reaped

    def get(self, pid: int) -> Member | None:
        return self._by_pid.get(pid)

    def pids(self) -> list[int]:
        return list(self._by_pid)

    def add(self, pid: int) -> Member | None:
        """Hold a process from now on; None when it is known already or gone."""
        if self.knows(pid):
            return None
        try:
            member = Member.open(pid)
        except OSError:
            stat = read_stat(pid)
            self.unheld[pid] = stat.start if stat is not None else 0
            return None
        if member is not None:
            self._by_pid[pid] = member
            if self._killing:  # a process that forks and exits all the time is another one after the next look
                member.send(signal.SIGKILL)
        return member

    def used(self) -> int:
        """Return the members' memory in bytes; shared memory counts once. Members that are gone are dropped."""
        total = self.sum_of(self.pids()) + self.unheld_bytes()
        if self._measure is Measure.PRIVATE:
            total += self.shared_by(self._by_pid)
        return total

    def all(self) -> list[Member]:
        return list(self._by_pid.values())

    def doubt(self) -> int:
        """Return how many of the bytes that were measured last may be counted more than once."""
        return sum(member.bytes for member in self._by_pid.values() if member.forked) + (
            self._shared.doubt + self._shared.unseen
        )

    def known_shared(self) -> int:
        """Return the shared memory in bytes, with possible growth since the last look."""
        return self._shared.known + self._shared.unseen

    def shared_doubt(self) -> tuple[int, int]:
        """Return the bytes of shared memory that may count twice, and by how many it may have grown since its look."""
        return self._shared.doubt, self._shared.unseen

    def unheld_bytes(self) -> int:
        """Return the bytes of processes that could not be held, as last measured; measuring may take a share of the
        time only.
        """
        if not self.unheld:
            return 0
        if (now := time.monotonic()) >= self._glance_again:
            self._glanced = sum(glance(pid, self._measure) for pid in self.unheld)
            ended = time.monotonic()
            self._glance_again = ended + _GLANCES * (ended - now)
        return self._glanced

    def shared_by(self, pids: Iterable[int]) -> int:
        """Give the shared memory of these of the members, the same each time, once; as they were measured last."""
        return self._shared.used([self._by_pid[pid] for pid in pids if pid in self._by_pid])

    def sum_of(self, pids: Iterable[int]) -> int:
        """Return the private memory of these members in bytes. Members that are gone are dropped."""
        total, copies = 0, list[Member]()
        for pid in pids:
            if (member := self._by_pid.get(pid)) is not None:
                try:
                    total += member.measure(self._measure)
                except ProcessLookupError:
                    self.drop(member)
                else:
                    if member.copied:
                        copies.append(member)
        return total - self._discount(copies) if copies else total

    def _discount(self, copies: list[Member]) -> int:
        """Subtract forked memory that belongs to a parent, while a member lives that may be that parent."""
        known, off = max((member.bytes for member in self._by_pid.values() if not member.copied), default=0), 0
        for member in copies:
            borrowed = min(member.copied, known)
            member.bytes -= borrowed
            member.off = borrowed
            off += borrowed
        return off

    def denied(self) -> Iterator[str]:
        """Report once for each member which of its figures may not be read."""
        for member in self._by_pid.values():
            if member.denied and self._denied.get(key := (member.pid, member.start)) != member.denied:
                self._denied[key] = member.denied
                yield f"pid {member.pid} ({member.name}): {member.denied}"

    def living(self) -> list[Member]:
        """Drop members that have exited (zombies too) and return the others."""
        for member in list(self._by_pid.values()):
            if member.gone():
                self.drop(member)
        return list(self._by_pid.values())

    def kill_and_free(self) -> None:
        """Kill all, if one has more memory than the others, and much, and free that: their end waits for it."""
        if self._killing or not self._by_pid:
            return
        largest = max(self._by_pid.values(), key=lambda member: member.bytes)
        if largest.bytes >= max(_LARGE, sum(member.bytes for member in self._by_pid.values()) / 2):
            largest.kill_and_free(member for member in self._by_pid.values() if member is not largest)

    def send(self, signum: int) -> None:
        """Signal all members; after SIGKILL each new member gets it too."""
        self._killing = self._killing or signum == signal.SIGKILL
        for member in self._by_pid.values():
            member.send(signum)
        for pid, start in self.unheld.items():
            signal_unheld(pid, start, signum)

    def describe(self, leader: int | None = None) -> tuple[ProcessMemory, ...]:
        """Name the largest members and sum up the others; `leader` is the pid that the agent's command became."""
        ranked = sorted(self._by_pid.values(), key=lambda member: -member.bytes)
        asked, now = NAMED, time.monotonic()
        if now - self._asked >= _ASKED_EVERY:
            asked, self._asked = NAMED + _ASKED, now
        self._ask([member for member in ranked[:asked] if self._is_due(member, now)], leader)
        named = tuple(self._named(member) for member in ranked[:NAMED])
        return named + tuple(self._others(ranked[NAMED:]))

    def placed(self, leader: int, but: Set[int] = frozenset()) -> tuple[TreeProcess, ...]:
        """Give each member with its parent. Of those in `but`, or whose command line could not be read in time, no more
        is known.
        """
        now = time.monotonic()
        self.sum_of(self.pids())
        self._ask([member for member in self.all() if self._is_due(member, now)], leader)
        known = self._described.keys() - but
        return tuple(
            TreeProcess(pid=pid, parent=stat.parent, memory=self._named(member) if pid in known else None)
            for member in self.living()
            if (stat := read_stat(pid := member.pid)) is not None
        )

    def _is_due(self, member: Member, now: float) -> bool:
        at, known = self._described.get(member.pid, _NEVER)
        return known.bytes != member.bytes or now - at >= _SURE

    def _ask(self, members: list[Member], leader: int | None) -> None:
        """Read their command lines in a thread, and wait for it no longer than _PATIENCE.

        The kernel does not let a process read the command line of another one that forks. With 500 that fork all the
        time on two processors one read took 0.2 s. Results that come too late are used by the next call.
        """
        if members and self._asking.acquire(blocking=False):
            try:
                _thread.start_new_thread(self._read_lines, (members, leader))
            except RuntimeError:  # no more threads can be started
                self._asking.release()
        if self._asking.acquire(timeout=_PATIENCE if members else 0):
            for member, told in self._answers:
                if self._by_pid.get(member.pid) is member:
                    self._described[member.pid] = told
            self._answers = []
            self._asking.release()

    def _read_lines(self, members: list[Member], leader: int | None) -> None:
        try:
            until = time.monotonic() + _PATIENCE
            for member in members:
                if (now := time.monotonic()) < until:
                    self._answers.append((member, (now, member.describe(leader=member.pid == leader))))
        finally:
            self._asking.release()

    def _named(self, member: Member) -> ProcessMemory:
        """Return the known description of a member: its name at least."""
        _, known = self._described.get(member.pid, _NEVER)
        if known is _ANY:
            return ProcessMemory(pid=member.pid, name=member.name, command=member.name, bytes=member.bytes)
        return replace(known, bytes=member.bytes)

    def _others(self, ranked: Iterable[Member]) -> Iterator[ProcessMemory]:
        """Sum processes that run the same program; small or unknown ones are `other`."""
        together: dict[tuple[str, ProcessKind], ProcessMemory] = {}
        for member in ranked:
            _, one = self._described.get(member.pid, _NEVER)
            key = title(one), one.kind
            if key not in together and len(together) >= NAMED:
                one, key = _ANY, (OTHER, _ANY.kind)
            known = together.get(key)
            size, count = (known.bytes, known.count) if known else (0, 0)
            together[key] = replace(known or one, bytes=size + member.bytes, count=count + 1)
        yield from together.values()

    def seen(self) -> bool:
        """Return whether the last measurement was complete: exiting, unheld and unreadable processes count as zero."""
        return not self.unheld and all(member.bytes for member in self._by_pid.values())

    def holds(self, pid: int) -> bool:
        """Return whether this member still has memory: a killed process has none before it is gone."""
        return self.sum_of([pid]) > 0

    def kill(self, pid: int) -> bool:
        """Kill one member, and free its memory. Return whether it was ours to kill."""
        if (member := self._by_pid.get(pid)) is None:
            return False
        if member.bytes >= _LARGE:
            member.kill_and_free(())
        return member.send(signal.SIGKILL) or member.gone()

    def drop(self, member: Member) -> None:
        del self._by_pid[member.pid]
        self._described.pop(member.pid, None)
        self._shared.forget(member)
        member.close()

    def close(self) -> None:
        for member in list(self._by_pid.values()):
            self.drop(member)


def descend(
    starts: Iterable[int], but: Set[int] = frozenset(), childless: Container[int] = frozenset()
) -> Iterator[int]:
    """Find processes and all that descend from them; `but` and what descends from those is left out.

    Each is given as it is found: one that forks and exits all the time is gone when the look is over. Processes that
    the caller adds to `childless` meanwhile are not asked for children: an ended process has none.
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
                if pid not in childless:
                    stack += children_of(pid)


def own_children() -> list[int]:
    return kinship()(os.getpid())
