"""What of an earlier part of a run still holds, and what is to be done again, and why. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from seqsup.model.plan import Plan, Step
from seqsup.model.run_view import Completed, RunView
from seqsup.profile import placeholders

CHANGED = "its command or prompt, folder, environment or stdin changed"


class Resumption(Struct, frozen=True):
    done: dict[str, Completed]  # agent -> the attempt that it reuses
    again: dict[str, str]  # agent that had completed -> why it runs again


def resumption(steps: Sequence[Step], completed: Mapping[str, Completed]) -> Resumption:
    """Decide for every step of a plan. `completed` is what each agent's last good attempt was, under the name it had.

    An agent is known by its content, so it may have another name by now. It runs again if its content is new, or if
    what it builds on (by needs, {summary:…}, {artifacts:…}) runs again or has completed after it.
    """
    matched = dict(_matched(steps, completed))
    taken = {step.name for step in steps}
    done: dict[str, Completed] = {}
    again: dict[str, str] = {}
    for step in steps:
        before = matched.get(step.name)
        if before is None:
            if step.name in completed and completed[step.name] not in matched.values():
                again[step.name] = CHANGED
            continue
        if why := _stale(before, [name for name in builds_on(step) if name in taken], done):
            again[step.name] = why
        else:
            done[step.name] = before
    return Resumption(done, again)


def left_out(plan: Plan, completed: Mapping[str, Completed]) -> dict[str, Completed]:
    """Return agents outside this plan that had already completed. A copy of for_each is known by its content."""
    by_content = {each.content: each for each in completed.values()}
    found = {}
    for skip in plan.skips:
        own = completed.get(skip.name)
        if skip.content and (own is None or own.content != skip.content):
            own = by_content.get(skip.content)
        if own is not None:
            found[skip.name] = own
    return found


def gone(view: RunView, plan: Plan, found: Resumption) -> tuple[str, ...]:
    """The agents of an earlier part that the plan does not know, under another name neither."""
    here = {step.name for step in plan.steps} | {skip.name for skip in plan.skips}
    over = {each.folder for each in (left_out(plan, view.completed) | found.done).values()}
    away = (agent.name for agent in view.agents.values() if agent.name not in here and not agent.left_out)
    return tuple(name for name in away if name not in view.completed or view.completed[name].folder not in over)


def builds_on(step: Step) -> list[str]:
    """Return the agents that it uses results of, each once."""
    texts = (*step.command, *step.env.values(), step.stdin or "")
    named = [
        argument
        for text in texts
        for name, argument in placeholders.found(text)
        if argument is not None and name in placeholders.OF_AGENT
    ]
    return list(dict.fromkeys((*step.needs, *named)))


def _matched(steps: Sequence[Step], completed: Mapping[str, Completed]) -> Iterator[tuple[str, Completed]]:
    """Find for each step an attempt of its content: first under its own name, then under any other."""
    left = dict(completed)
    others: list[Step] = []
    for step in steps:
        if step.name in left and left[step.name].content == step.content:
            yield step.name, left.pop(step.name)
        else:
            others.append(step)
    by_content: dict[str, list[Completed]] = {}
    for each in left.values():
        by_content.setdefault(each.content, []).append(each)
    for step in others:
        if found := by_content.get(step.content):
            yield step.name, found.pop(0)


def _stale(own: Completed, bases: Iterable[str], done: Mapping[str, Completed]) -> str:
    for name in bases:
        if name not in done:
            return f"{name}, which it depends on, runs again"
        if done[name].seq > own.seq:
            return f"{name}, which it depends on, has completed since"
    return ""


class Earlier(NamedTuple):
    """The run that is resumed."""

    run: int
    view: RunView


class PlannedRun(NamedTuple):
    """A plan, and the run that it resumes."""

    plan: Plan
    earlier: Earlier | None
    note: str = ""  # shown first
