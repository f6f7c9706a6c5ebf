"""Which run is meant: `r42`, `42`, a profile's name or file, or nothing for the one that runs or ran last.

`#12` is the run of a job of the queue. So is `j12`, as # begins a comment in most shells.
"""

import os
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from seqsup.errors import NoSuchRun, SeqsupError
from seqsup.model.events import Recorded, RunEnded, RunStarted
from seqsup.model.history import fold
from seqsup.model.run_view import AgentView, RunState, RunView
from seqsup.state.journal import Journal, RunRow
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import alive, closed, label, run_folder, state_dir, surely_alive
from seqsup.state.turn import Waiting, queued
from seqsup.text import named, nearest, printable

_JOB = re.compile(r"[#j]([0-9]{1,15})")


class NeverRan(SeqsupError):
    """There is no such run yet."""


class Found(NamedTuple):
    state_dir: Path
    journal: Journal
    row: RunRow

    @property
    def label(self) -> str:
        return label(self.row.run)

    @property
    def folder(self) -> Path:
        return run_folder(self.state_dir, self.row.run)

    def lives(self) -> bool:
        """Say whether its supervisor lives. Ask before reading events: the dead have written their last."""
        return alive(self.folder)

    def closed(self) -> str:
        """Why its folder does not say whether it lives, or not which processes are left; empty if it does."""
        return closed(self.folder)

    def view(self) -> RunView:
        return self.named(fold(self.journal.events(self.row.run)))

    def named(self, view: RunView) -> RunView:
        """Also where the supervisor died before it told a first event."""
        view.run, view.name = self.label, view.name or self.row.name
        view.profile = view.profile or self.row.profile
        return view


def find(given: str | None) -> Found:
    if given is not None and (job := job_number(given)) is not None:
        from seqsup.cli.jobs import run_of_job  # most commands have no use for the queue

        return run_of_job(job)
    profile = None
    if given is not None and (given.endswith(".toml") or _is_folder(given)):
        # most look for a run without its profile
        from seqsup.cli.read_profile import profile_path, read, state_dir_of

        given = profile_path(given)
        profile = read(given)
    folder = state_dir_of(profile) if profile is not None else state_dir()
    try:
        journal = Journal.open(folder)
    except NoJournal as error:
        raise NeverRan(str(error)) from error
    rows = journal.runs()
    if not rows:
        raise NeverRan(f"no runs yet in {folder}; start one: seqsup start PROFILE")
    if given is None:
        return _default(folder, journal, rows)
    if profile is None:
        number = int(given.removeprefix("r")) if re.fullmatch(r"r?[0-9]{1,15}", given) else None
        meant = [row for row in rows if row.name == given or row.run == number]
        if not meant:
            known = {row.name for row in rows} | {label(row.run) for row in rows}
            raise NoSuchRun(f'no run "{given}"{nearest(given, known)}; `seqsup runs` lists all runs')
    elif not (meant := _of_profile(rows, Path(given), profile.name)):
        raise NeverRan(f"{given} never ran")
    return Found(folder, journal, meant[-1])


def job_number(given: str | None) -> int | None:
    """Return the number of the job that is meant; None: none is."""
    return int(job[1]) if given is not None and (job := _JOB.fullmatch(given)) else None


def _is_folder(given: str) -> bool:
    """Say whether a folder is meant, and not a run that has the name of one."""
    return ("/" in given or given in (".", "..")) and os.path.isdir(given)  # noqa: PTH112 (Path's raises: too long)


def in_queue(given: str) -> Waiting | None:
    """The run that is meant, if it waits for its turn: by its label, or by a name that does not run."""
    try:
        found = find(given)
    except SeqsupError:
        found = None
    if found is not None and surely_alive(found.folder):
        return None
    return next((each for each in queued(state_dir()) if given in (each.label, each.name)), None)


def find_with_agent(first: str | None, second: str | None, third: str | None = None) -> tuple[Found, str | None]:
    """Read `[RUN] [AGENT [ITEM]]`: without RUN, what is left may be an agent, a companion, or an item of for_each."""
    if first is None:
        return find(None), None
    try:
        found = find(first)
    except NoSuchRun:
        found = find(None)
        agent = _agent(found, first, second) if third is None else None
        if agent is not None:
            return found, agent
        names = {row.name for row in found.journal.runs()}
        known = {*_agents(found), *names}
        what = f'"{first}" is neither a run nor an agent of {found.label}' if second is None else f'no run "{first}"'
        raise NoSuchRun(f"{what}{nearest(first, known)}") from None
    if second is not None:
        if (agent := _agent(found, second, third)) is None:
            told = second if third is None else f"{second} {third}"
            raise SeqsupError(f'{found.label} has no agent "{told}"{nearest(second, _agents(found))}')
        return found, agent
    latest = find(None)
    if latest.row.run == found.row.run or first not in _agents(latest):
        return found, None
    if latest.lives() and found.row.name == first:
        click.echo(f"seqsup: this is the agent of {latest.label}; for the run {first} say {found.label}", err=True)
        return latest, first
    other = f"for the agent of {latest.label} say {latest.label} {first}"
    click.echo(f"seqsup: this is the run {first} ({found.label}); {other}", err=True)
    return found, None


def _agent(found: Found, word: str, item: str | None) -> str | None:
    """Find the agent of a name, or the copy of for_each for an item: `file.17`, `file items/a.md` or `items/a.md`."""
    view = found.view()
    if item is None and word in (*view.agents, *view.companions):
        return word
    wanted = word if item is None else item
    named_so = [
        agent for agent in view.agents.values() if item is None or word in (agent.name, agent.name.rpartition(".")[0])
    ]
    meant = [agent.name for agent in named_so if _is_for(agent, wanted)]
    meant = meant or [agent.name for agent in named_so if (agent.item or "").endswith(f"/{wanted}")]
    if len(meant) > 1:
        raise SeqsupError(f"{found.label} has several agents for {wanted}: say which of {named(meant)}")
    if not meant and (copies := _copies(view, word)):
        if item is None:
            one = f"{word} {shlex.quote(printable(copies[0]))}"
            raise SeqsupError(f"{word} of {found.label} has {len(copies)} items: add the one you mean, such as {one}")
        raise SeqsupError(f'{word} of {found.label} has no item "{item}"{nearest(item, copies)}')
    return meant[0] if meant else None


def _copies(view: RunView, word: str) -> list[str]:
    """Return the items of an agent with for_each."""
    agents = [agent for agent in view.agents.values() if agent.name.rpartition(".")[0] == word]
    return [agent.item for agent in agents if agent.item]


def _is_for(agent: AgentView, wanted: str) -> bool:
    """Say whether it is an agent's item, as a path or as a table shows it."""
    if not (item := printable(agent.item or "")):
        return False
    shown = (item, agent.label, agent.label.removeprefix(f"{agent.name} "))
    return printable(wanted) in shown or os.path.normpath(wanted) == os.path.normpath(item)


def _agents(found: Found) -> set[str]:
    """And companions."""
    view = found.view()
    return {*view.agents, *view.companions}


def _default(folder: Path, journal: Journal, rows: list[RunRow]) -> Found:
    every = (Found(folder, journal, row) for row in rows)
    living = [found for found in every if surely_alive(found.folder)]
    if len(living) > 1:  # one runs, the others wait for their turn
        living = [found for found in living if found.view().state is RunState.RUNNING] or living
    return living[-1] if living else Found(folder, journal, rows[-1])


def _of_profile(rows: list[RunRow], path: Path, name: str) -> list[RunRow]:
    """Two projects may each have a nightly.toml: the file counts before its name, unless it was moved."""
    named = [row for row in rows if row.name == name]
    return [row for row in named if row.profile and Path(row.profile).resolve() == path.resolve()] or named


def follow(found: Found, interval: float = 0.1) -> Iterator[list[Recorded]]:
    """Yield what is there, then what is new at each look, until the run or its supervisor ended."""
    after, over = 0, False
    while True:
        lives = found.lives()
        batch = list(found.journal.events(found.row.run, after))
        for recorded in batch:
            after = recorded.seq
            over = isinstance(recorded.body, RunEnded) or (over and not isinstance(recorded.body, RunStarted))
        yield batch
        if over or not lives:
            if not over:
                click.echo(f"seqsup: the supervisor of {found.label} died", err=True)
            return
        time.sleep(interval)
