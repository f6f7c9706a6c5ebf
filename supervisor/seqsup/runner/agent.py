"""One agent: attempts, each with its drain, until it completes or a retry would not help."""

import random
import time
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from seqsup.containment.keeper import Keeper
from seqsup.errors import AtUsageLimit, Stopped
from seqsup.model.enums import Halt, OnTimeout, OnUsageLimit, Restart
from seqsup.model.events import AgentEnded, Drained, Recorded, RetryScheduled
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Step
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentView
from seqsup.policy import retry, usage
from seqsup.runner import conversation
from seqsup.runner.admission import Admission
from seqsup.runner.attempt import attempt
from seqsup.runner.companions import Companions
from seqsup.runner.context import RunContext
from seqsup.runner.drain import Drainer
from seqsup.runner.inputs import Inputs
from seqsup.runner.place import AttemptPaths, AttemptPlace
from seqsup.runner.spending import Spending
from seqsup.runner.timed_wait import TimedWait
from seqsup.runner.workspaces import Workspaces
from seqsup.units import clock, format_duration

_HALTED = Outcome(reason=Reason.HALTED, why="stopped by the user", exit=None, seconds=0.0, peak=0)


class Agent:
    """One agent of the plan, being tried."""

    def __init__(
        self, step: Step, lane: int, inputs: Inputs, context: RunContext, admission: Admission, drainer: Drainer,
        companions: Companions, spending: Spending, view: AgentView, poke: Callable[[], None], workspaces: Workspaces,
        *, beside_others: bool,
    ) -> None:  # fmt: skip
        """`view` is what the run knows of it; it grows with each event. Earlier parts of the run may have tried it.

        `poke` is called once it is admitted.
        """
        self.step, self.lane, self._inputs, self._context = step, lane, inputs, context
        self._admission, self._drainer, self._companions = admission, drainer, companions
        self._spending, self._poke, self._beside_others = spending, poke, beside_others
        self._workspaces = workspaces
        self.started = False  # it was admitted once
        self.ended: Recorded | None = None  # its AgentEnded
        self._next = (view.attempt or 0) + 1
        self._heap = step.node.heap if step.node else None
        self._view = view
        self._rounds = view.rounds
        self._limit_until = view.limit_until
        self._bare = False  # without our options, once they have broken an attempt
        self._outcomes: list[Outcome] = []
        self._timed = TimedWait(step, context)
        self._spent = 0  # attempts that count
        self._limited_since = 0.0  # epoch, of the first of the last attempts in a row that met a usage limit
        self._awaits = False  # the reset of a usage limit
        self._not_retried = ""  # why, although it may be retried more often

    async def run(self) -> bool:
        """Try until it is over, and say whether it went as the profile expects. Stopped ends the run."""
        retrying = AsyncRetrying(
            stop=lambda _: self._used_up(),
            wait=self._wait,
            retry=retry_if_result(self._may_retry),
            before_sleep=self._scheduled,
            sleep=self._pause,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        try:
            last: Outcome = await retrying(self._once)
        except (Stopped, OSError):
            if self._outcomes:
                self._ended(self._outcomes[-1])
            raise
        ok = self._ended(last)
        if last.reason is Reason.NO_CREDIT and not ok:
            raise Stopped(f"{self.step.name} has no credit left: top it up, then --resume")
        if last.reason is Reason.BUDGET and (told := self._spending.reached_by_run()):
            raise Stopped(f"the run has used {told}")
        if last.reason is Reason.USAGE_LIMIT and not ok:
            resets = f", which resets at {clock(last.resets_at, time.time())}" if last.resets_at is not None else ""
            most = self.step.usage.wait_at_most
            waits = self.step.usage.on_limit is OnUsageLimit.WAIT
            late = f"; usage.wait_at_most is {format_duration(most)}" if waits and most is not None else ""
            raise AtUsageLimit(f"{self.step.name} is at a usage limit{resets}{late}")
        return ok

    def _may_retry(self, last: Outcome) -> bool:
        rule, halt = self.step.retry, self._context.stop_request.halt
        again = retry.retryable(rule, self.step.expect, last, halt, time.time(), awaited=self._awaits)
        if not again or self._finished(last):
            return False
        if self._next_heap(last) == self._heap and not self._used_up() and (at := retry.same_leak(self._outcomes)):
            self._not_retried = f"not retried again: the leak at {at} returned"
        return not self._not_retried

    def _finished(self, last: Outcome) -> bool:
        """Count the rounds of repeat, and return whether the last one was their last."""
        if last.reason is not Reason.UNFINISHED or self.step.repeat is None:
            return False
        self._rounds += 1
        return self._rounds >= self.step.repeat.max

    def _next_heap(self, last: Outcome) -> int | None:
        node = self.step.node
        if node is None:
            return self._heap
        return retry.next_heap(self._heap, node.heap_ceiling, self.step.retry.grow_heap, last.reason)

    def _wait(self, state: RetryCallState) -> float:
        failures, chance = state.attempt_number, random.random()
        return retry.retry_wait(self.step.retry, self._outcomes[-1], failures, time.time(), chance)

    def _used_up(self) -> bool:
        costless = retry.costless(self._outcomes[-1], awaited=self._awaits)
        return not costless and self._spent >= self.step.retry.attempts

    async def _once(self) -> Outcome:
        if not await self._may_start():  # tenacity tries once more after a pause that was cut short
            return _HALTED
        admission, own = self._admission, self.step
        if not await admission.admit(own, self._context, self._enough(), first=not self._outcomes):
            return _HALTED
        if told := self._spending.reached_by_run():
            admission.let_go(own.name)
            raise Stopped(f"the run has used {told}; {own.name} was not started")
        if told := self._spending.reached_by(own):
            admission.let_go(own.name)
            return replace(_HALTED, reason=Reason.BUDGET, why=f"it has used {told}")
        if not self.started:
            self.started = True
            self._poke()
        number, self._next = self._next, self._next + 1
        step = self._spending.within(replace(self.step, node=None) if self._bare else self.step)
        try:
            place = AttemptPlace(step, number, self._inputs.paths(step, str(number), self.lane), self._context)
            step = self._workspaces.within(self._inputs.filled_in(step, place.paths))
            chosen = conversation.choose(step, self._view)
            step = conversation.within(step, chosen, self._view, place.paths)
            held = self._companions.used() if self._companions else None
            own_context, beside = self._own_context(place.paths), self._companions.failed_since
            ready = partial(self._workspaces.ready, step, number, resumed=chosen.resumed)
            ended = await attempt(step, number, self._heap, place, own_context, held, beside, chosen, ready)
            self._note(ended.outcome)
            drained = await self._drainer.drain(self._to_drain(), number, ended, self._context.wake)
        finally:
            admission.let_go(own.name)
        # No running agent is to lose its companions
        if drained.on_timeout is OnTimeout.RESTART_COMPANIONS and self._companions and not admission.crowded:
            await self._companions.restart(Restart.DRAIN, f"after {drained.agent} {drained.why}")
            self._context.emit(drained)
            drained = await self._drainer.drain(self.step, number, ended, self._context.wake)
        self._drained(drained)
        return ended.outcome

    async def _may_start(self) -> bool:
        """Wait for a usage limit that an earlier part of the run met, for one that is nearly reached, and for the
        time of day.

        Return False if the user stops the run.
        """
        enough = self._enough()
        if self._limit_until is not None and not self._outcomes and self._limit_until > time.time():
            self._timed.tell_limit(self._next, self._limit_until, known=True)
            await self._timed.until(self._limit_until, enough)
        if not self._outcomes:
            await self._timed.below_share(self._spending.limit(self.step), enough)
        return self._context.stop_request.halt < enough and await self._timed.window()

    def _note(self, last: Outcome) -> None:
        now = time.time()
        if not self._outcomes or self._outcomes[-1].reason is not Reason.USAGE_LIMIT:
            self._limited_since = now
        self._outcomes.append(last)
        self._spending.settle(self.step, last)
        self._awaits = usage.awaited(self.step.usage, last, self._limited_since, now)
        self._spent += not retry.costless(last, awaited=self._awaits)

    def _own_context(self, paths: AttemptPaths) -> RunContext:
        """In a lane beside others its tree hangs below a keeper."""
        if not self._beside_others:
            return self._context
        return replace(self._context, keeper=Keeper(self._context.reaper, paths.label))

    def _to_drain(self) -> Step:
        """While others run, what the host has available is theirs to take: admission sees to it."""
        if not self._admission.crowded:
            return self.step
        return replace(self.step, drain=replace(self.step.drain, available=None))

    def _enough(self) -> Halt:
        """Return the stop request that ends a wait: an agent before its first attempt, or in a long wait, is not "this
        agent" yet.
        """
        resting = self._awaits or not self._outcomes or self._outcomes[-1].reason is Reason.UNFINISHED
        return Halt.AFTER_AGENT if resting else Halt.NOW

    def _drained(self, drained: Drained) -> None:
        if drained.on_timeout is OnTimeout.RESTART_COMPANIONS:  # there are none, or that was no help
            drained = replace(drained, on_timeout=OnTimeout.STOP)
        self._context.emit(drained)
        if drained.on_timeout not in (None, OnTimeout.CONTINUE):
            waited = format_duration(drained.seconds)
            raise Stopped(f"memory did not drain in {waited} after {drained.agent}: {drained.why}")

    def _scheduled(self, state: RetryCallState) -> None:
        last, heap = self._outcomes[-1], self._heap
        self._bare = self._bare or last.blames_us
        self._heap = None if self._bare else self._next_heap(last)
        if self._awaits:
            self._limit_until = time.time() + state.upcoming_sleep
            self._timed.tell_limit(self._next, self._limit_until, known=last.resets_at is not None)
            return
        self._context.emit(
            RetryScheduled(
                agent=self.step.name, attempt=self._next, wait=state.upcoming_sleep, after=last.reason,
                heap=self._heap, bare=self._bare,
                outlook=self._outlook(last, heap),
                resumes=conversation.choose(self.step, self._view).resumed if self.step.prompt is not None else None,
            )
        )  # fmt: skip

    def _outlook(self, last: Outcome, heap: int | None) -> str:
        """Say what the next attempt can expect. `heap` is V8's limit of the last one."""
        if last.reason is Reason.UNFINISHED and self.step.repeat is not None:
            return f"round {self._rounds + 1} of {self.step.repeat.max}"
        return retry.outlook(last, heap, self._heap, self.step.retry.grow_heap, self.step.limits.hard)

    async def _pause(self, seconds: float) -> None:
        if self._awaits:
            await self._timed.until(time.time() + seconds, self._enough())
            return
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._context.stop_request.halt < self._enough():
            await self._context.wake.wait(left)

    def _ended(self, last: Outcome) -> bool:
        ok = retry.ok(last.reason, self.step.expect)
        self.ended = self._context.emit(
            AgentEnded(
                agent=self.step.name, content=self.step.content, reason=last.reason, ok=ok,
                why="; ".join(filter(None, (last.why, self._not_retried))), not_retried=self._not_retried,
                attempts=len(self._outcomes), seconds=sum(outcome.seconds for outcome in self._outcomes),
                peak=max((outcome.peak for outcome in self._outcomes), default=0),
            )
        )  # fmt: skip
        return ok
