"""For tests on real processes: a reaper for as long as a story takes, a step, and one attempt at it."""

import asyncio
import ctypes
import os
import resource
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from msgspec.structs import replace

from helpers.waiting import DEADLINE
from seqsup.containment.mark import marks
from seqsup.containment.reaper import Reaper
from seqsup.host.machine import Host
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt, Measure, OnTimeout
from seqsup.model.events import AnyEvent
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Drain, Limits, Step
from seqsup.model.profile import Retry, Success, Timeouts
from seqsup.model.reason import Reason
from seqsup.runner.attempt import Ended, attempt
from seqsup.runner.context import RunContext
from seqsup.runner.place import AttemptPaths, AttemptPlace
from seqsup.runner.stop_request import StopRequest
from seqsup.units import MIB

PR_SET_CHILD_SUBREAPER = 36
T = TypeVar("T")
Meanwhile = Callable[[AnyEvent, StopRequest], None]


def supervised(story: Callable[[Reaper, Wake], Coroutine[Any, Any, T]]) -> T:
    """Let a story run as the supervisor does; afterwards this process is what it was before."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> T:
        wake = Wake()
        with Reaper(wake.poke) as reaper:
            return await story(reaper, wake)

    try:
        return asyncio.run(main())
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def until(fact: Callable[[], T], wake: Wake, deadline: float = DEADLINE) -> T:
    """Wait as wait_for does, while the event loop runs."""
    ends = time.monotonic() + deadline
    while not (answer := fact()):
        if time.monotonic() > ends:
            pytest.fail(f"not within {deadline} s (last answer {answer!r})")
        await wake.wait(0.005)
    return answer


# -- one attempt

LIMITS = Limits(
    warn=None, soft=None, hard=1024 * MIB, sustain=0.3, host_floor=None, measure=Measure.PRIVATE
)  # fmt: skip
TIMEOUTS = Timeouts(wall=100.0, stall=None, grace=5.0)
RETRY = Retry(attempts=1, on=(), wait=0.1, max_wait=1.0, grow_heap=1.5)
DRAIN = Drain(
    timeout=30.0, interval=1.0, threshold=None, available=None, on_timeout=OnTimeout.STOP, sweep=True, allow=()
)
SUCCESS = Success(codes=(0,), file=None, output=None)


def step(*command: str, cwd: Path, **changes: Any) -> Step:
    """`limits`, `timeouts`, `drain` and `success` may be given as the fields that differ."""
    for key, table in (("limits", LIMITS), ("timeouts", TIMEOUTS), ("drain", DRAIN), ("success", SUCCESS)):
        changes[key] = replace(table, **changes.get(key, {}))
    plain: dict[str, Any] = {
        "name": "agent", "env": {}, "stdin": None, "stdin_file": None, "runtime": "native", "runtime_why": "",
        "node": None, "retry": RETRY, "expect": (), "needs": (), "content": "content",
    }  # fmt: skip
    return Step(command=command, cwd=str(cwd), **{**plain, **changes})


class Tried(NamedTuple):
    ended: Ended
    events: list[AnyEvent]
    folder: Path  # of the attempt

    @property
    def outcome(self) -> Outcome:
        return self.ended.outcome

    @property
    def reason(self) -> Reason:
        return self.ended.outcome.reason

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout.log").read_text()


def poking(wake: Wake) -> StopRequest:
    """Return a stop request that wakes whatever waits."""
    stop_request = StopRequest()
    stop_request.subscribe(lambda _: wake.poke())
    return stop_request


def tried(
    step: Step, run: Path, *, heap: int | None = None, meanwhile: Meanwhile | None = None
) -> Tried:  # fmt: skip
    """Make one attempt. `meanwhile` hears each event, and may have wishes or fail."""
    events: list[AnyEvent] = []
    folder = run / step.name / "1"
    run.mkdir(mode=0o700, exist_ok=True)
    ledger = os.open(run / "members", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def story(reaper: Reaper, wake: Wake) -> Ended:
        stop_request = poking(wake)

        def emit(event: AnyEvent) -> None:
            events.append(event)
            if meanwhile is not None:
                meanwhile(event, stop_request)

        paths = AttemptPaths(run, folder, f"{step.name}/1", ledger, marks(secrets.token_hex(8), run, f"{step.name}/1"))
        context = RunContext(reaper, Host(), wake, stop_request, emit)
        try:
            return await attempt(step, 1, heap, AttemptPlace(step, 1, paths, context), context)
        finally:
            context.host.close()
            context.sockets.close()

    try:
        return Tried(supervised(story), events, folder)
    finally:
        os.close(ledger)


def wish(halt: Halt, once: Callable[[], object] = lambda: True, *, after: float = 0.1) -> Meanwhile:
    """A `meanwhile` that wants a stop as soon as the agent runs and the fact `once` is there, and so long after it."""

    def look(stop_request: StopRequest) -> None:
        loop = asyncio.get_running_loop()
        if once():
            loop.call_later(after, stop_request.wish, halt, 15, "a test")
        else:
            loop.call_later(0.02, look, stop_request)

    def meanwhile(event: AnyEvent, stop_request: StopRequest) -> None:
        if type(event).__name__ == "Spawned":
            look(stop_request)

    return meanwhile
