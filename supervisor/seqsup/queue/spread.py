"""`--spread`: one job for each item of for_each, and one for each independent chain. Pure.

A *chain* is a set of agents without for_each that build on each other: by `needs`, {summary:AGENT} or
{artifacts:AGENT}. Where an agent with for_each lies between two of them, they are in two chains: what is behind all its
copies cannot be in one job with what is before them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from seqsup.model.kinds import KeyPath
from seqsup.model.profile import AgentTable, Budget, Profile
from seqsup.plan.expand import expand
from seqsup.plan.objections import refuse_no_task
from seqsup.plan.select import Choice, select
from seqsup.profile import placeholders
from seqsup.profile.complaint import ProfileError, complaints
from seqsup.profile.order import in_order
from seqsup.queue.jobs import NewJob
from seqsup.text import counted, labelled, named

_NAMED = 3  # agents in the name of a job
Items = Mapping[str, Mapping[str, str]]  # agent with for_each -> its copies, each with its item


class Spread(NamedTuple):
    jobs: list[NewJob]  # each behind all that it needs
    notes: list[str]  # what a user may not expect


class _Part(NamedTuple):
    """What one job carries out: one copy, or the agents of one chain."""

    names: tuple[str, ...]
    tables: tuple[AgentTable, ...]
    item: str | None = None


def spread(profile: Profile, items: Items, job: NewJob) -> Spread:
    """Divide a profile among jobs. `job` has what they share; jobs that need no other one have its `after`.

    ProfileError: an agent uses the summary or the artifacts of one in another job, or --only names an unknown one.
    """
    parts = _parts(profile, items, job.order.task, job.order.only)
    if wrong := dict(_across(profile, parts)):
        raise ProfileError(complaints(profile, wrong.items()))
    places: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        for table in part.tables:
            places.setdefault(table.name, []).append(place)
    jobs = []
    for place, part in enumerate(parts):
        needed = {each for table in part.tables for need in table.needs for each in places.get(need, ())} - {place}
        order = replace(
            job.order, only=part.names, items={} if part.item is None else {part.names[0]: part.item}
        )  # fmt: skip
        after = tuple(-1 - each for each in sorted(needed)) or job.after
        jobs.append(replace(job, name=_name(profile, part), order=order, after=after))
    return Spread(jobs, list(_notes(profile, len(jobs))))


def _parts(profile: Profile, items: Items, task: str, only: tuple[str, ...]) -> list[_Part]:
    """Return the parts in an order in which each is behind all that it builds on."""
    ordered = in_order(profile.agents)
    copies = {table.name: [*items[table.name]] if table.for_each else [table.name] for table in ordered}
    skips = select(ordered, copies, Choice(task=task, only=only))
    taken = {table.name: [name for name in copies[table.name] if name not in skips] for table in ordered}
    tables = [table for table in ordered if taken[table.name]]
    if not task.strip():
        refuse_no_task(each for table in tables for each in expand(table, items.get(table.name), "/", task))
    depths = _depths(tables)
    chains = _chains(tables, depths)
    parts: list[tuple[int, int, _Part]] = []
    for place, table in enumerate(tables):
        if table.for_each:
            found = items[table.name]
            parts += [(depths[table.name], place, _Part((name,), (table,), found[name])) for name in taken[table.name]]
        elif chains[table.name][0] is table:
            chain = tuple(chains[table.name])
            parts.append((depths[table.name], place, _Part(tuple(each.name for each in chain), chain)))
    return [part for _, _, part in sorted(parts, key=lambda each: each[:2])]


def _depths(tables: Sequence[AgentTable]) -> dict[str, int]:
    """Return how often a way to each agent, along what it builds on, enters or leaves an agent with for_each."""
    known = {table.name: table for table in tables}
    depths: dict[str, int] = {}
    for table in tables:  # each is behind all that it builds on
        below = [known[name] for name in _builds_on(table) if name in depths]
        steps = (depths[each.name] + bool(each.for_each or table.for_each) for each in below)
        depths[table.name] = max(steps, default=0)
    return depths


def _chains(tables: Sequence[AgentTable], depths: Mapping[str, int]) -> dict[str, list[AgentTable]]:
    """Return the chain of each agent without for_each: those of its depth that are linked with it."""
    chains: dict[str, list[AgentTable]] = {table.name: [table] for table in tables if not table.for_each}
    place = {table.name: n for n, table in enumerate(tables)}
    for table in tables:
        for name in _builds_on(table):
            if name not in chains or table.name not in chains or depths[name] != depths[table.name]:
                continue
            own, other = chains[table.name], chains[name]
            if own is not other:
                joined = sorted((*own, *other), key=lambda each: place[each.name])
                chains.update((each.name, joined) for each in joined)
    return chains


def _builds_on(table: AgentTable) -> list[str]:
    return [*table.needs, *(argument for _, _, argument in _results(table))]


def _results(table: AgentTable) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield key, kind and agent of each result of another agent that this one uses."""
    for at, text in table.texts():
        for kind, argument in placeholders.written(text):
            if kind in placeholders.OF_AGENT and argument is not None:
                yield at, kind, argument


def _across(profile: Profile, parts: Sequence[_Part]) -> Iterator[tuple[KeyPath, str]]:
    """Complain of results that an agent uses of one in another job."""
    place = {table.name: n for n, table in enumerate(profile.agents)}
    elsewhere = {table.name for part in parts for table in part.tables}
    for part in parts:
        here = {table.name for table in part.tables if not table.for_each}
        for table in part.tables:
            for at, kind, agent in _results(table):
                if agent in elsewhere - here:
                    told = f"{placeholders.spell(kind, agent)}: --spread puts {agent} into another job"
                    remedy = "pass the result on by a file or a git branch, or add it without --spread"
                    yield ("agents", place[table.name], *at), f"{told}\n{remedy}"


def _name(profile: Profile, part: _Part) -> str:
    told = labelled(part.names[0], part.item) if part.item is not None else named(part.names, _NAMED)
    return f"{profile.name}: {told}"


def _notes(profile: Profile, jobs: int) -> Iterator[str]:
    if jobs < 2:
        return
    each = f"each of the {counted(jobs, 'job')}"
    if profile.run.budget != Budget():
        yield f"[run.budget] holds for {each} by itself: together they may use {jobs} times as much"
    if profile.companions:
        yield f"{each} starts its own companions: {named(companion.name for companion in profile.companions)}"
    if profile.hooks.before_run or profile.hooks.after_run:
        yield f"the hooks before_run and after_run run in {each}"
