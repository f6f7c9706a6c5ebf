"""Recovery after dead supervisors: processes are stopped, cgroups removed, attempts marked as lost."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from seqsup.containment import members_file
from seqsup.containment.cgroup.claim import Claim, abandoned
from seqsup.containment.cgroup.files import listed, named_prefix, remove, run_prefix
from seqsup.containment.cgroup.stale import find_stale, sweep
from seqsup.containment.mark import bearers, folders
from seqsup.containment.members import descend
from seqsup.containment.process import Member, all_pids, read_stat
from seqsup.containment.stop import stop_leftovers
from seqsup.host.machine import boot_id
from seqsup.host.wake import Wake
from seqsup.model.conversation import Conversation
from seqsup.model.enums import Measure
from seqsup.model.events import AttemptEnded, AttemptLost, AttemptStarted, LeaderEnded, RunEnded, RunStarted
from seqsup.model.process import ProcessMemory
from seqsup.node.reports import REPORTS, settle
from seqsup.state import samples
from seqsup.state.journal import Journal, RunRow
from seqsup.state.run_folder import (
    KILLED,
    MEMBERS,
    QUEUE,
    RUNS,
    alive,
    closed,
    hold,
    label,
    run_folder,
    surely_alive,
    tail,
    told,
)

GRACE, DEADLINE = 2.0, 15.0  # seconds for leftover processes to exit; then it is uninterruptible sleep
_ONCE_MORE = 0.01  # seconds


class Recovered(Struct, frozen=True):
    """One dead run, put in order or only looked at."""

    run: str
    name: str
    lost: str | None  # the agents that were running
    processes: tuple[ProcessMemory, ...]  # leftover processes, except those
    remaining: tuple[ProcessMemory, ...] = ()  # that survived SIGKILL
    groups: tuple[str, ...] = ()  # of the kernel's, but for those
    groups_remaining: tuple[str, ...] = ()  # that could not be removed
    killed: bool = False  # its sentinel killed its processes when the supervisor died
    over: bool = False  # its supervisor exited in order, except for survivors of SIGKILL
    unknown: str = ""  # why its leftovers are unknown: nothing of it was touched

    @property
    def remains(self) -> bool:
        return bool(self.remaining or self.groups_remaining or self.unknown)


def died(folder: Path) -> bool:
    """Return whether a run's supervisor died without cleaning up."""
    return (folder / MEMBERS).exists() and not alive(folder)


def look(journal: Journal, state_dir: Path) -> list[Recovered]:
    """Name the leftovers of dead runs in a state folder. Read-only."""
    dead, found = _dead(journal, state_dir)
    for row in dead:
        left = _Left(journal, state_dir, row)
        if not left.watched():
            found.append(left.told(left.processes()))
    return found


def survivors(journal: Journal, state_dir: Path, row: RunRow) -> tuple[ProcessMemory, ...]:
    """Name the leftover processes of one dead run."""
    return _Left(journal, state_dir, row).processes() if died(run_folder(state_dir, row.run)) else ()


def look_elsewhere(journal: Journal | None, state_dir: Path, queue: Path) -> Recovered | None:
    """Name leftover processes of others in the same queue: runs with a state folder of their own, plans, doctors."""
    others = _Others(journal, state_dir, queue)
    others.release()
    left = tuple(_named(descend(others.pids())))
    return others.told(left) if left or others.groups else None


async def recover(journal: Journal, state_dir: Path, wake: Wake) -> list[Recovered]:
    """Put every dead run of a state folder in order. Another seqsup that is at it already is left alone."""
    dead, recovered = _dead(journal, state_dir)
    for row in dead:
        folder = run_folder(state_dir, row.run)
        try:
            lock = hold(folder)
        except BlockingIOError:
            continue
        except OSError as error:
            recovered += _untold(journal, state_dir, row, told(error))
            continue
        try:
            if not (folder / MEMBERS).exists():  # another was at it meanwhile
                continue
            left = _Left(journal, state_dir, row)
            if not left.watched():
                recovered.append(await _recover(journal, left, wake))
        finally:
            os.close(lock)
    return recovered


async def recover_elsewhere(journal: Journal | None, state_dir: Path, queue: Path, wake: Wake) -> Recovered | None:
    """Stop those."""
    others = _Others(journal, state_dir, queue)
    staying = others.groups
    try:
        if not others.groups and not any(others.pids()):
            return None
        stopped, remaining, staying = await _stop(others.pids, others.groups, wake)
        return others.told(stopped, remaining, staying)
    finally:
        others.forget(staying)


async def _stop(
    pids: Callable[[], Iterator[int]], groups: list[Path], wake: Wake
) -> tuple[tuple[ProcessMemory, ...], tuple[ProcessMemory, ...], list[Path]]:
    """Stop processes and remove cgroups. Return what was stopped, what survived, and the cgroups that stay.

    Where a process survived SIGKILL, the removal is tried once only.
    """
    stopped, remaining = await stop_leftovers(pids, wake, grace=GRACE, deadline=DEADLINE)
    return stopped, remaining, await sweep(groups, wake, deadline=_ONCE_MORE if remaining else DEADLINE)


async def _recover(journal: Journal, left: "_Left", wake: Wake) -> Recovered:
    stopped, remaining, staying = await _stop(left.pids, left.groups, wake)
    heard = _heard(left)
    for each in left.unended:
        # Before the end is written: recovery skips an attempt that has one.
        settle(left.folder / f"{each.agent}/{each.attempt}" / REPORTS)
        journal.append(left.row.run, _end(each, stopped, heard.get((each.agent, each.attempt))))
    left.take_back()
    recovered = left.told(stopped, remaining, staying)
    if not recovered.remains:
        with suppress(OSError):  # in a folder that was made unwritable: the next one looks again, and finds nothing
            for name in (KILLED, MEMBERS):
                (left.folder / name).unlink(missing_ok=True)
    return recovered


def _dead(journal: Journal, state_dir: Path) -> tuple[list[RunRow], list[Recovered]]:
    """Return the runs of dead supervisors, and messages about those with unreadable folders."""
    dead: list[RunRow] = []
    unknown: list[Recovered] = []
    runs = os.fspath(state_dir / RUNS)
    for row in journal.runs():
        if not _there(f"{runs}/{label(row.run)}/{MEMBERS}"):  # it is in order, as thousands may be
            continue
        folder = run_folder(state_dir, row.run)
        if why := closed(folder):
            unknown += _untold(journal, state_dir, row, why) if not surely_alive(folder) else ()
        elif died(folder):
            dead.append(row)
    return dead, unknown


def _there(path: str) -> bool:
    """Return whether a file exists, or may exist."""
    try:
        os.lstat(path)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def _untold(journal: Journal, state_dir: Path, row: RunRow, why: str) -> list[Recovered]:
    """Report a run with an unreadable folder. Empty if its end is recorded, another sweep recovered it, as root does
    for all, or no process can be left since the machine's boot.
    """
    kinds = RunStarted | RunEnded | AttemptStarted | AttemptLost
    told = [each.body for each in journal.events(row.run) if isinstance(each.body, kinds)]
    boots = [each.boot_id for each in told if isinstance(each, RunStarted)]
    if not boots or boots[-1] != boot_id() or isinstance(told[-1], RunEnded | AttemptLost):
        return []
    folder = run_folder(state_dir, row.run)
    remedy = (
        f"Make {folder} readable (`chmod -R u+rwX`), run `seqsup sweep` as its owner, or delete the folder if none of"
        " its processes is running."
    )
    unknown = f"but its run folder cannot be read ({why}). {remedy}"
    return [Recovered(label(row.run), row.name, None, (), unknown=unknown)]


def _heard(left: "_Left") -> dict[tuple[str, int], Conversation]:
    """Return the conversations of attempts without an end, as the run's timeline has them last."""
    heard: dict[tuple[str, int], Conversation] = {}
    if any(isinstance(each, AttemptStarted) and each.dialect for each in left.unended):
        with suppress(OSError):
            for sample in samples.read(left.folder):
                if (conversation := sample.conversation) is not None:
                    heard[sample.agent, sample.attempt] = replace(
                        conversation, tool=None, usd_is_partial=conversation.usd is not None
                    )
    return heard


def _end(
    last: AttemptStarted | LeaderEnded, stopped: tuple[ProcessMemory, ...], heard: Conversation | None
) -> AttemptEnded | AttemptLost:
    if isinstance(last, AttemptStarted):
        return AttemptLost(
            agent=last.agent, attempt=last.attempt, content=last.content, stopped=stopped, conversation=heard
        )
    return AttemptEnded(
        agent=last.agent, attempt=last.attempt, content=last.content, ok=True, hard=last.hard,
        outcome=replace(last.outcome, left_over=stopped),
    )  # fmt: skip


class _Left:
    """Leftover processes of a dead run: by its mark, its cgroups, and its list of members."""

    def __init__(self, journal: Journal, state_dir: Path, row: RunRow) -> None:
        self.row, self.folder = row, run_folder(state_dir, row.run)
        self.groups = find_stale(row.cookie.startswith)
        self._seen: set[tuple[int, int]] = set()  # pids in use now: the others are gone for good
        self._oldest = inf  # earliest start of all listed members
        self._over = False
        self._announced: set[str] = set()
        unended: dict[tuple[str, int], AttemptStarted | LeaderEnded] = {}
        boot = ""
        for recorded in journal.events(row.run):
            match recorded.body:
                case RunStarted(boot_id=boot, file_sd=file_sd):
                    self._over = False
                    self._announced |= {file_sd} if file_sd else set()
                case RunEnded():
                    self._over = True
                case AttemptStarted(agent=agent, attempt=attempt) | LeaderEnded(agent=agent, attempt=attempt) as last:
                    unended[agent, attempt] = last
                case AttemptEnded(agent=agent, attempt=attempt) | AttemptLost(agent=agent, attempt=attempt):
                    unended.pop((agent, attempt), None)
        self.unended = list(unended.values())  # attempts that began and have no end: one, or one in each lane
        if boot == boot_id():
            self._read_members()

    def _read_members(self) -> None:
        living = set(all_pids())
        for pid, start in members_file.entries(self.folder / MEMBERS):
            self._oldest = min(self._oldest, start)
            if pid in living:
                self._seen.add((pid, start))

    def pids(self) -> Iterator[int]:
        for group in self.groups:
            yield from listed(group)
        yield from bearers(self.row.cookie)
        for pid, start in self._seen:
            if (stat := read_stat(pid)) is not None and stat.start == start:
                yield pid

    def processes(self) -> tuple[ProcessMemory, ...]:
        return tuple(_named(descend(self.pids())))

    def watched(self) -> bool:
        """Return whether its supervisor lives and this folder is a copy, since a copy's lock is free.

        The supervisor is older than all members, if there are any, and they are below it. A process that was given a
        dead one's pid is not.
        """
        supervisor = read_stat(self.row.pid)
        if supervisor is None or self._oldest < supervisor.start:
            return False
        return not set(descend([self.row.pid])).isdisjoint(self.pids())

    def take_back(self) -> None:
        """Remove the dead run's file_sd target. A live run rewrites its own."""
        for file in self._announced:
            with suppress(OSError):
                Path(file).unlink()

    def told(
        self, processes: tuple[ProcessMemory, ...], remaining: tuple[ProcessMemory, ...] = (),
        staying: Sequence[Path] = (),
    ) -> Recovered:  # fmt: skip
        lost = ", ".join(each.agent for each in self.unended if isinstance(each, AttemptStarted)) or None
        return Recovered(
            label(self.row.run), self.row.name, lost, processes, remaining, *_apart(self.groups, staying),
            killed=bool(self.unended) and (self.folder / KILLED).exists(), over=self._over,
        )  # fmt: skip


class _Others:
    """Leftovers of dead runs of the same queue that are not in this journal: by marks, and by claims on cgroups."""

    def __init__(self, journal: Journal | None, state_dir: Path, queue: Path) -> None:
        self._state_dir, self._queue = state_dir, queue
        known = {run_prefix(row.cookie) for row in _dead(journal, state_dir)[0]} if journal is not None else set()
        self._claims: dict[str, Claim] = {}
        for claim in abandoned(queue):
            if claim.prefix in known:  # that run is put in order by itself, and what remains is remembered with it
                claim.release()
            else:
                self._claims[claim.prefix] = claim
        found = find_stale(self._claims.__contains__) if self._claims else []
        self._let_go = [group for group in found if self._claims[named_prefix(group.name) or ""].let_go]
        self.groups = [group for group in found if group not in self._let_go]

    def pids(self) -> Iterator[int]:
        for group in self.groups:
            yield from listed(group)
        yield from _elsewhere(self._state_dir, self._queue)

    def told(
        self, processes: tuple[ProcessMemory, ...], remaining: tuple[ProcessMemory, ...] = (),
        staying: Sequence[Path] = (),
    ) -> Recovered:  # fmt: skip
        return Recovered("-", "others in this queue", None, processes, remaining, *_apart(self.groups, staying))

    def forget(self, staying: list[Path]) -> None:
        """Let go of the claims, of those groups that are gone for ever."""
        staying = [*staying, *(group for group in self._let_go if not remove(group))]
        still = {named_prefix(group.name) for group in staying}
        for prefix, claim in self._claims.items():
            if prefix in still:
                claim.release()
            else:
                claim.give_up(gone=True)

    def release(self) -> None:
        for claim in self._claims.values():
            claim.release()


def _apart(groups: list[Path], staying: Sequence[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(str(group) for group in groups if group not in staying), tuple(map(str, staying))


def _elsewhere(state_dir: Path, queue: Path) -> Iterator[int]:
    here = state_dir.resolve()
    verdicts: dict[Path, bool] = {}
    for pid, folder in folders():
        if folder not in verdicts:
            stood = here not in folder.parents and _stood_in(queue, folder)
            verdicts[folder] = stood and not closed(folder) and died(folder)
        if verdicts[folder]:
            yield pid


def _stood_in(queue: Path, folder: Path) -> bool:
    name = os.fsencode(queue)
    return tail(folder / QUEUE, len(name) + 1) == name


def _named(pids: Iterable[int]) -> Iterator[ProcessMemory]:
    for pid in pids:
        if (member := Member.open(pid)) is not None:
            with suppress(ProcessLookupError):
                member.measure(Measure.PRIVATE)
            yield member.describe()
            member.close()
