"""Removal of old runs with output, artifacts and events. A run that is active or not recovered yet stays."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from seqsup.host import folders
from seqsup.state.journal import Journal, RunRow
from seqsup.state.run_folder import MEMBERS, alive, hold, label, run_folder
from seqsup.state.workspaces import standing
from seqsup.text import counted

_SHOWN = 200  # letters of a path in a message


class Kept(Struct, frozen=True):
    """Size of a run on disk."""

    run: int
    name: str
    age: float  # seconds since its last event
    size: int  # bytes

    @property
    def label(self) -> str:
        return label(self.run)


def outdated(journal: Journal, state_dir: Path, profile: str | None, keep: float, but: int) -> list[Kept]:
    """Find a profile's runs older than `keep` seconds, except `but` and its last run before that.

    Age follows the calendar, which may jump. Runs that `--resume` and `status` would use stay all the same.
    """
    rows = [row for row in journal.runs() if row.profile == profile and row.run != but][:-1]
    newest = time.time() - keep
    old = (row for row in rows if row.started < newest and (journal.last_heard(row.run) or row.started) < newest)
    return [kept(journal, state_dir, row) for row in old]


def kept(journal: Journal, state_dir: Path, row: RunRow) -> Kept:
    heard = journal.last_heard(row.run) or row.started
    return Kept(row.run, row.name, max(time.time() - heard, 0.0), folders.size(run_folder(state_dir, row.run)))


def too_much(runs: Iterable[Kept], *, days: float | None, size: int | None) -> list[Kept]:
    """Choose runs to remove, the oldest first: those older than `days`, then those above `size` bytes in all."""
    oldest_first = sorted(runs, key=lambda each: each.run)
    going = [each for each in oldest_first if days is not None and each.age > days * 86400]
    staying = [each for each in oldest_first if each not in going]
    total = sum(each.size for each in staying)
    for each in staying:
        if size is None or total <= size:
            break
        going.append(each)
        total -= each.size
    return going


def may_go(folder: Path) -> bool:
    """Return whether no process is in a run's folder, and none may be left by a supervisor that died."""
    return not alive(folder) and not (folder / MEMBERS).exists()


def remove(journal: Journal, state_dir: Path, run: int) -> bool:
    """Remove a run. Return False if it must stay; OSError names the file that cannot be removed, or its workspace: see
    `workspaces.release`.
    """
    folder = run_folder(state_dir, run)
    if trees := standing(state_dir, run):
        raise OSError(f"its workspace {trees[0]} is there")
    if not folder.exists():
        journal.forget(run)
        return True
    try:
        lock = hold(folder)
    except BlockingIOError:
        return False
    try:
        if (folder / MEMBERS).exists():
            return False
        if stays := folders.remove(folder):
            others = f" (and {counted(len(stays) - 1, 'other')})" if len(stays) > 1 else ""
            raise OSError(f"{stays[0][:_SHOWN]}{others}")
        journal.forget(run)
        return True
    finally:
        os.close(lock)
