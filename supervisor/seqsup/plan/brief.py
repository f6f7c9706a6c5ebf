"""A plan on one screen, for people: its agents, their limits, and what deserves a look before it starts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import NamedTuple

from seqsup.containment.cgroup.tiers import Chosen
from seqsup.model.plan import ARTIFACT_ONLY, Plan, Step
from seqsup.plan.describe import (
    at_most,
    capped,
    limit,
    notified,
    one_line,
    resumes,
    section,
    skipped,
    usual_in_all,
    workspace,
)
from seqsup.plan.resume import PlannedRun
from seqsup.policy.learning import Expected
from seqsup.state.run_folder import label
from seqsup.text import Width, at_a_time, counted, cut, named, narrowed, printable, styled, wrap
from seqsup.view.table import NONE, Column, render

_MOST = 40  # lines of the table
_TASK = 70  # characters
_COLUMNS = (
    Column(""),
    Column("agent", right=False),
    Column("program", right=False, optional=1),
    Column("soft", optional=2),
    Column("hard"),
    Column("wall", optional=3),
    Column("stall", optional=5),
    Column("tries", optional=4),
    Column("needs", right=False),
)


def brief(
    taken: PlannedRun, found: Chosen | str, usual: dict[str, Expected], advised: Sequence[str], columns: Width
) -> Iterator[str]:
    """Return the lines of `plan`."""
    made = taken.plan
    how = made.execution_mode if made.execution_mode == ARTIFACT_ONLY else at_a_time(made.concurrency)
    yield from wrap(f"{styled('bold', made.name)}  {counted(len(made.steps), 'agent')}, {how}", columns)
    for line in _around(made, found, usual):
        yield from wrap(f"  {line}", columns, "    ")
    if taken.earlier is not None:
        yield from section(columns, f"resumes {label(taken.earlier.run)}", resumes(made, taken.earlier))
    elif taken.note:
        yield from ("", *wrap(taken.note, columns))
    groups = list(_folded(made))
    if groups:
        rows = [(group.numbers, *group.cells) for group in groups[:_MOST]]
        used = [at for at in range(len(_COLUMNS)) if any(row[at] != NONE for row in rows)]
        yield ""
        yield from render([_COLUMNS[at] for at in used], [[row[at] for at in used] for row in rows], columns)
    if more := sum(group.size for group in groups[_MOST:]):
        yield from wrap(f"  and {counted(more, 'more agent')}: -v shows them", columns, "    ")
    yield from section(columns, "skipped", skipped(made))
    yield from section(columns, "advice", advised)
    yield from section(columns, "notes", capped(made.notes), "yellow")
    yield ""
    yield from wrap(styled("dim", "-v shows commands, environment, presets, retries and drain"), columns)


def _around(made: Plan, found: Chosen | str, usual: dict[str, Expected]) -> Iterator[str]:
    if isinstance(found, str):
        yield from (styled("red", line.strip()) for line in f"start would refuse: {found}".splitlines())
    else:
        by = "the kernel" if found.groups is not None and found.groups.limits else "watching"
        yield from (styled("red", f"start would refuse: {told}") for told in made.missing)
        yield f"{styled('dim', 'containment')} {found.tier}: memory.hard is enforced by {by}"
    if made.task:
        yield f"{styled('dim', 'task')} {cut(printable(made.task), _TASK)}"
    if asked := narrowed(made.only, made.start_from):
        yield f"{styled('dim', 'asked for')} {asked}"
    if made.stop_on_failure:
        yield "the run stops when an agent fails"
    if known := usual_in_all(made, usual):
        yield f"{styled('dim', 'usually')} {known}"
    if told := workspace(made.workspaces):
        yield f"{styled('dim', 'workspace')} {told}"
    if presets := _presets(made):
        yield f"{styled('dim', 'preset')} {presets}"
    if users := {step.account.name: None for step in made.steps if step.account is not None}:
        yield f"{styled('dim', 'as user')} {', '.join(users)}"
    if made.companions:
        yield f"{styled('dim', 'companions')} {', '.join(each.name for each in made.companions)}"
    if made.hooks.commands:
        yield f"{styled('dim', 'hooks')} {', '.join(made.hooks.commands)}"
    if where := notified(made.notify):
        yield f"{styled('dim', 'notify')} {where}"


def _presets(made: Plan) -> str:
    """List the presets that apply, with their agents where these are not all."""
    agents: dict[str, list[str]] = {}
    for step in made.steps:
        if step.preset is not None:
            agents.setdefault(step.preset.name, []).append(step.name)
    told = (name if len(of) == len(made.steps) else f"{name} for {named(of, 3)}" for name, of in agents.items())
    return "; ".join(told)


class _Row(NamedTuple):
    first: int
    size: int
    cells: tuple[str, ...]

    @property
    def numbers(self) -> str:
        return styled("dim", str(self.first) if self.size == 1 else f"{self.first}–{self.first + self.size - 1}")


def _folded(made: Plan) -> Iterator[_Row]:
    """Give a row to each agent, and one to copies of for_each that follow one another and have the same limits."""
    number, stems = 1, {name: re.sub(r"\.\d+$", "", name) for name in made.items}
    for (stem, cells), some in groupby(made.steps, lambda step: (stems.get(step.name), _cells(step, stems))):
        agents = list(some)
        if stem is not None and len(agents) > 1:
            yield _Row(number, len(agents), (f"{stem} ×{len(agents)}", *cells))
        else:
            yield from (_Row(number + at, 1, (step.label, *cells)) for at, step in enumerate(agents))
        number += len(agents)


def _cells(step: Step, stems: Mapping[str, str]) -> tuple[str, ...]:
    needs = {stem: list(some) for stem, some in groupby(step.needs, lambda name: stems.get(name, name))}
    told = [some[0] if len(some) == 1 else f"{stem} ×{len(some)}" for stem, some in needs.items()]
    return (
        one_line(PurePath(step.command[0]).name),
        limit(step.limits.soft),
        limit(step.limits.hard),
        at_most(step.timeouts.wall),
        NONE if step.timeouts.stall is None else at_most(step.timeouts.stall),
        str(step.retry.attempts) if step.retry.attempts > 1 else NONE,
        named(told, 3) or NONE,
    )
