"""What dead supervisors left: their processes are found and stopped, their attempts marked as lost."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from .containment import tiers
from .containment.cookie import bearers, folders
from .containment.group import listed
from .containment.members import descend
from .containment.process import Member, read_stat
from .containment.stop import stop
from .events import AttemptEnded, AttemptLost, AttemptStarted, RunStarted
from .folder import MEMBERS, QUEUE, alive, hold, label, run_folder
from .host import boot_id
from .journal import Journal, RunRow
from .model import Measure, ProcessMemory
from .wait import Wake

GRACE, DEADLINE = 2.0, 15.0  # seconds: nobody waits for what these still do; then uninterruptible sleep


class Recovered(Struct, frozen=True):
    """One dead run, put in order or only looked at."""

    run: str
    name: str
    lost: str | None  # the agents that were running
    processes: tuple[ProcessMemory, ...]  # what it left
    remaining: tuple[ProcessMemory, ...] = ()  # still there after KILL


def died(folder: Path) -> bool:
    """Say whether a run's supervisor ended without putting things in order."""
    return (folder / MEMBERS).exists() and not alive(folder)


def look(journal: Journal, state_dir: Path) -> list[Recovered]:
    """Name what dead runs of a state folder left, and touch nothing."""
    found = []
    for row in _dead(journal, state_dir):
        left = tuple(_named(descend(_Left(journal, state_dir, row).pids())))
        lost = [each.agent for each in _lost(journal, row)]
        found.append(Recovered(label(row.run), row.name, ", ".join(lost) or None, left))
    return found


def look_elsewhere(state_dir: Path, queue: Path) -> tuple[ProcessMemory, ...]:
    """Name what dead runs of other state folders left, but of the same queue: a profile may have its own folder."""
    return tuple(_named(_elsewhere(state_dir, queue)))


async def recover(journal: Journal, state_dir: Path, wake: Wake) -> list[Recovered]:
    """Put every dead run of a state folder in order. Another seqsup that is at it already is left alone."""
    recovered = []
    for row in _dead(journal, state_dir):
        folder = run_folder(state_dir, row.run)
        try:
            lock = hold(folder)
        except BlockingIOError:
            continue
        try:
            recovered.append(await _recover(journal, state_dir, row, wake))
        finally:
            os.close(lock)
    return recovered


async def recover_elsewhere(state_dir: Path, queue: Path, wake: Wake) -> tuple[ProcessMemory, ...]:
    """Stop those."""
    if not any(_elsewhere(state_dir, queue)):
        return ()
    stopped, _ = await stop(lambda: _elsewhere(state_dir, queue), wake, grace=GRACE, deadline=DEADLINE)
    return stopped


async def _recover(journal: Journal, state_dir: Path, row: RunRow, wake: Wake) -> Recovered:
    left = _Left(journal, state_dir, row)
    stopped, remaining = await stop(left.pids, wake, grace=GRACE, deadline=DEADLINE)
    await tiers.sweep(left.groups, wake, deadline=DEADLINE)
    lost = _lost(journal, row)
    for each in lost:
        event = AttemptLost(agent=each.agent, attempt=each.attempt, content=each.content, stopped=stopped)
        journal.append(row.run, event)
    if not remaining:
        (run_folder(state_dir, row.run) / MEMBERS).unlink(missing_ok=True)
    return Recovered(label(row.run), row.name, ", ".join(each.agent for each in lost) or None, stopped, remaining)


def _dead(journal: Journal, state_dir: Path) -> list[RunRow]:
    return [row for row in journal.runs() if died(run_folder(state_dir, row.run))]


def _lost(journal: Journal, row: RunRow) -> list[AttemptStarted]:
    """The attempts that began and have no end: one, or one in each lane."""
    lost: dict[tuple[str, int], AttemptStarted] = {}
    for recorded in journal.events(row.run):
        match recorded.body:
            case AttemptStarted(agent=agent, attempt=attempt) as started:
                lost[agent, attempt] = started
            case AttemptEnded(agent=agent, attempt=attempt) | AttemptLost(agent=agent, attempt=attempt):
                lost.pop((agent, attempt), None)
    return list(lost.values())


class _Left:
    """What a dead run left: by its mark, by its groups, and by who was seen under it."""

    def __init__(self, journal: Journal, state_dir: Path, row: RunRow) -> None:
        self._cookie = row.cookie
        self._seen: set[tuple[int, int]] = set()
        self.groups = tiers.stale(row.cookie.startswith)
        boots = [event.body.boot_id for event in journal.events(row.run) if isinstance(event.body, RunStarted)]
        if boots[-1:] == [boot_id()]:
            pairs = (line.split() for line in (run_folder(state_dir, row.run) / MEMBERS).read_text().splitlines())
            self._seen = {(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2}

    def pids(self) -> Iterator[int]:
        for group in self.groups:
            yield from listed(group)
        yield from bearers(self._cookie)
        for pid, start in self._seen:
            if (stat := read_stat(pid)) is not None and stat.start == start:
                yield pid


def _elsewhere(state_dir: Path, queue: Path) -> Iterator[int]:
    here = state_dir.resolve()
    verdicts: dict[Path, bool] = {}
    for pid, folder in folders():
        if folder not in verdicts:
            verdicts[folder] = here not in folder.parents and died(folder) and _stood_in(queue, folder)
        if verdicts[folder]:
            yield pid


def _stood_in(queue: Path, folder: Path) -> bool:
    try:
        return (folder / QUEUE).read_text() == str(queue)
    except OSError:
        return False


def _named(pids: Iterable[int]) -> Iterator[ProcessMemory]:
    for pid in pids:
        if (member := Member.open(pid)) is not None:
            with suppress(ProcessLookupError):
                member.measure(Measure.PRIVATE)
            yield member.describe()
            member.close()
