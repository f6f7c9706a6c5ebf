"""Which agents of a profile are taken: --only, --from, --retry-failed, `when` against the task, and `needs`. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from msgspec import Struct, field

from seqsup.model.profile import AgentTable
from seqsup.plan.expand import ExpandedAgent
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.text import nearest

NO_ITEMS = "for_each has no items"


class Choice(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    task: str = ""
    any_task: bool = False  # only looked at: {task} may be empty
    any_items: bool = False  # only looked at, or resumed, when items may be gone because they are done
    only: tuple[str, ...] = ()
    start_from: str | None = None
    failed: tuple[str, ...] | None = None  # with --retry-failed: agents that failed, and those skipped because of them
    contents: Mapping[str, str] = field(default_factory=dict)  # what those were that had been tried
    of: str = ""  # the run that --only and --from come from


class Selection(NamedTuple):
    """Which of a profile's agents the plan takes."""

    taken: Sequence[ExpandedAgent]
    skips: dict[str, str]  # name -> why
    names: dict[str, list[str]]  # agent of the profile -> those that it expands to
    items: dict[str, str]  # copy of for_each -> its item


def select(ordered: Sequence[AgentTable], copies: Mapping[str, Sequence[str]], choice: Choice) -> dict[str, str]:
    """Return the skipped agents with the reason: names of copies, or of an agent without any."""
    _known(copies, choice)
    skips: dict[str, str] = {}
    missing: set[str] = set()  # agents without a result
    only, failed = frozenset(choice.only), frozenset(choice.failed or ())
    named_ones = only | failed
    begun = choice.start_from is None
    for agent in ordered:
        named = not named_ones.isdisjoint((agent.name, *copies[agent.name]))
        why = _unfit(agent, copies[agent.name], choice.task, missing, named=named)
        if why:
            missing.add(agent.name)
        for name in copies[agent.name] or [agent.name]:
            begun = begun or choice.start_from in (name, agent.name)
            if only and only.isdisjoint((name, agent.name)):
                skips[name] = "not named with --only"
            elif choice.failed is not None and name not in failed:
                skips[name] = "not among the agents that failed"
            elif not begun:
                skips[name] = f"before --from {choice.start_from}"
            elif why:
                skips[name] = why
    return skips


def chosen(agent: AgentTable, name: str, choice: Choice) -> str:
    """Why a copy is taken, where the command line chose."""
    if {name, agent.name} & set(choice.only):
        return "named with --only"
    if choice.failed is not None:
        return "it failed, or needs an agent that failed"
    if not agent.when or not choice.task:
        return ""
    return f"the task has {', '.join(word for word in agent.when if _mentions(choice.task, [word]))}"


def _unfit(agent: AgentTable, copies: Sequence[str], task: str, missing: Set[str], *, named: bool) -> str | None:
    if not copies:
        return NO_ITEMS
    if not named and agent.when and task and not _mentions(task, agent.when):
        return f"the task contains none of the words {', '.join(agent.when)}"
    lacking = [need for need in agent.needs if need in missing]
    if lacking and not named:
        return f"needs {', '.join(lacking)}, skipped as well"
    return None


def _mentions(task: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", task, re.IGNORECASE) for word in words)


def _known(copies: Mapping[str, Sequence[str]], choice: Choice) -> None:
    names = {*copies, *(name for made in copies.values() for name in made)}
    there_are = f"; there are {', '.join(copies)}"
    wrong = [
        Complaint(key=option, message=f"no agent {name}{nearest(name, names) or there_are}")
        for option, name in _named(choice)
        if name not in names
    ]
    if wrong:
        raise ProfileError(wrong)


def _named(choice: Choice) -> Iterator[tuple[str, str]]:
    of = f" of {choice.of}" if choice.of else ""
    for name in choice.only:
        yield f"--only{of}", name
    if choice.start_from is not None:
        yield f"--from{of}", choice.start_from
