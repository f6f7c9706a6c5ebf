"""One attempt at one agent: from its start in the journal to its end there."""

import os
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from seqsup.model.events import AttemptEnded, AttemptStarted
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.reason import Reason
from seqsup.node.binary import copy_preload
from seqsup.plan import environment
from seqsup.policy import retry
from seqsup.policy.sessions import NONE_CHOSEN, ChosenSession
from seqsup.runner.context import RunContext
from seqsup.runner.execution import execute
from seqsup.runner.place import AttemptPlace
from seqsup.runner.success import checked


class Ended(Struct, frozen=True):
    """An attempt's outcome, with what its drain must know."""

    outcome: Outcome
    tree: str  # the mark of its processes
    host_before: int  # bytes that the host had available before it
    kept: int  # bytes of its processes that may outlive it, or survived SIGKILL
    since: int  # the pid of its leader, or that was given out last before there could be none
    began: float  # monotonic seconds


async def attempt(
    step: Step, number: int, heap: int | None, place: AttemptPlace, context: RunContext,
    companions_used: int | None = None, failed_beside: Callable[[float], str] = lambda _: "",
    chosen: ChosenSession = NONE_CHOSEN, ready: Callable[[], Awaitable[Outcome | None]] | None = None,
) -> Ended:  # fmt: skip
    """Run one attempt to its very end; then its tree is empty, or what is left is reported as unkillable.

    `companions_used` is in bytes. `failed_beside` names the companions that failed since a time in monotonic seconds:
    that may be why it failed. `ready` prepares its folder, or returns how it ended without a start.
    """
    paths = place.paths
    env = environment.of_agent(step, number, os.environ, paths.marks, paths.artifacts, paths.previous)
    if step.ends_tools_first:
        env["SEQSUP_NOTICES"] = str(paths.notices)
    if step.node is not None and step.node.telemetry and step.account is not None:
        copy_preload(paths.folder)
    options = environment.options(step, heap, env, paths.folder)
    before = context.host.available()
    context.emit(
        AttemptStarted(
            agent=step.name, attempt=number, content=step.content, command=step.command, hard=step.limits.hard,
            heap=heap, lane=paths.lane, folder=paths.label, runtime=environment.runtime(step), options=options,
            soft=step.limits.soft, host_before=before, companions_before=companions_used,
            session=chosen.session, resumed=chosen.resumed, dialect=step.dialect,
        )
    )  # fmt: skip
    unready = await ready() if ready is not None else None
    since, began = context.owner.last_pid(), time.monotonic()
    if unready is not None:
        place.close()
        context.emit(_end(step, number, unready))
        return Ended(unready, paths.label, before, 0, since, began)
    ended, ending, leader, kept = await execute(
        step, number, heap, place, context, env, options, chosen
    )  # fmt: skip
    if chosen.resumed and ended.reason is Reason.FAILED and ending.says_that_session_is_lost():
        ended = replace(ended, session_lost=True)
    ended = await checked(ended, step, ending.printed, number, paths, context, env)
    if ended.reason is Reason.NO_RESULT:
        ended = ending.in_view_of_preset(ended)
    if not retry.ok(ended.reason, step.expect) and (failed := failed_beside(began)):
        ended = replace(ended, why="; ".join(filter(None, (ended.why, failed))))
    context.emit(_end(step, number, ended))
    return Ended(ended, paths.label, before, kept, since if leader is None else leader, began)


def _end(step: Step, number: int, outcome: Outcome) -> AttemptEnded:
    return AttemptEnded(
        agent=step.name, attempt=number, content=step.content, ok=retry.ok(outcome.reason, step.expect),
        hard=step.limits.hard, outcome=outcome,
    )  # fmt: skip
