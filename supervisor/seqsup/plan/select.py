"""Which agents of a profile are taken: --only, --from, --retry-failed, `when` against the task, and `needs`. Pure."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from msgspec import Struct, field

from seqsup.model.profile import AgentTable
from seqsup.plan.expand import ExpandedAgent
from seqsup.plan.mentions import mentioned
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.text import nearest

NO_ITEMS = "for_each has no items"
NO_WORD = "the task contains none of the words "


class Choice(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    task: str = ""
    any_task: bool = False  # only looked at: {task} may be empty
    any_program: bool = False  # only looked at: agents' programs may be missing
    any_items: bool = False  # only looked at, or resumed, when items may be gone because they are done
    only: tuple[str, ...] = ()
    start_from: str | None = None
    failed: tuple[str, ...] | None = None  # with --retry-failed: agents that failed, and those skipped because of them
    earlier: Mapping[str, str | None] = field(default_factory=dict)  # agents of the run that is resumed -> their items
    of: str = ""  # the run that --only and --from come from
    items: Mapping[str, str] | None = None  # copies of for_each that there are; None: as the profile says


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
    by_word = [agent.name for agent in ordered if choice.task and mentioned(agent.when, choice.task)]
    for agent in ordered:
        named = not named_ones.isdisjoint((agent.name, *copies[agent.name]))
        why = None if copies[agent.name] else NO_ITEMS
        if not (why or named):
            why = _unasked(agent, choice.task, by_word) or _lacking(agent, missing)
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
    if agent.otherwise:
        return "the task selects no other agent"
    if not agent.when or not choice.task:
        return ""
    return f"the task has {', '.join(mentioned(agent.when, choice.task))}"


def _unasked(agent: AgentTable, task: str, by_word: Sequence[str]) -> str:
    """Why the task does not select an agent; empty if it does, or selects none in particular."""
    if agent.otherwise and (by_word or not task):
        return f"the task selects {', '.join(by_word)}" if task else "it runs only for a task that selects no agent"
    if agent.when and task and agent.name not in by_word:
        return NO_WORD + ", ".join(agent.when)
    return ""


def _lacking(agent: AgentTable, missing: Set[str]) -> str:
    lacking = [need for need in agent.needs if need in missing]
    return f"needs {', '.join(lacking)}, skipped as well" if lacking else ""


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
