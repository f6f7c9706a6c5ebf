"""Conditions of success beyond exit code and file: an expression in the output, and commands of the user."""

import asyncio
import re
import shlex

from msgspec.structs import replace

from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.profile import Success
from seqsup.model.reason import Reason
from seqsup.runner.context import RunContext
from seqsup.runner.execution import execute
from seqsup.runner.place import AttemptPaths, AttemptPlace
from seqsup.units import format_duration

_CHECK_DEADLINE = 300.0  # seconds for success.command
_SEARCH_DEADLINE = 5.0  # seconds for success.output: an expression may try for ever


async def checked(
    ended: Outcome, step: Step, printed: str, number: int, paths: AttemptPaths, context: RunContext, env: dict[str, str]
) -> Outcome:  # fmt: skip
    """Return the outcome as it is after the checks; `printed` is the end of the agent's output."""
    if ended.reason is Reason.COMPLETED and (pattern := step.success.output) is not None:
        ended = await _searched(ended, pattern, printed)
    if ended.reason is Reason.COMPLETED and step.success.command:
        found = await _commanded("check", step.success.command, _CHECK_DEADLINE, step, number, paths, context, env)
        complaint = f"it exited with a success code, but success.command {shlex.join(step.success.command)} failed"
        ended = _in_view_of(ended, found, Reason.NO_RESULT, complaint)
    if ended.reason is Reason.COMPLETED and step.repeat is not None:
        until = step.repeat.until
        found = await _commanded("until", until, step.timeouts.wall, step, number, paths, context, env)
        ended = _in_view_of(ended, found, Reason.UNFINISHED, f"repeat.until {shlex.join(until)} failed")
    return ended


async def _searched(ended: Outcome, pattern: str, printed: str) -> Outcome:
    """Search in a thread with a time limit and without Python's lock: the watch of other lanes continues."""
    import regex  # 8 ms and 2 MiB, which only this key costs

    complaint = f"it exited with a success code, but printed nothing like {pattern!r}"
    try:
        found = await asyncio.to_thread(
            regex.search, pattern, printed, flags=re.MULTILINE, timeout=_SEARCH_DEADLINE, concurrent=True
        )
    except TimeoutError:
        complaint += f": the search took longer than {format_duration(_SEARCH_DEADLINE)}"
        found = None
    return ended if found else replace(ended, reason=Reason.NO_RESULT, why=complaint)


def _in_view_of(ended: Outcome, found: Outcome, reason: Reason, complaint: str) -> Outcome:
    """Return the outcome of an agent whose check ended as `found`."""
    ended = replace(ended, peak=max(ended.peak, found.peak))  # the same limits hold for it
    if found.reason is Reason.COMPLETED:
        return ended
    if found.reason is Reason.HALTED:
        return replace(ended, reason=found.reason, why=found.why)
    return replace(ended, reason=reason, why=": ".join(filter(None, (complaint, found.why))))


async def _commanded(
    name: str, command: tuple[str, ...], wall: float | None, step: Step, number: int, paths: AttemptPaths,
    context: RunContext, env: dict[str, str],
) -> Outcome:  # fmt: skip
    """Run a command where the agent ran, and watched as it was, for `wall` seconds at most."""
    check = replace(
        step, name=f"{step.name}+{name}", command=command, repeat=None, prompt=None, dialect=None, stdin=None,
        stdin_file=None, node=None, preset=None,
        timeouts=replace(step.timeouts, wall=wall, stall=None),
        success=Success(codes=(0,), file=None, output=None),
    )  # fmt: skip
    quiet = replace(
        context, keeper=context.keeper and context.keeper.another(), emit=lambda _: None,
        observe=lambda seen: context.observe(replace(seen, agent=step.name)),
    )  # fmt: skip
    place = AttemptPlace(check, number, replace(paths, folder=paths.folder / name), quiet)
    return (await execute(check, number, None, place, quiet, env)).outcome
