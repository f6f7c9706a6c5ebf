"""Waits of an agent for a time of day: until its provider's usage limit resets, and until usage.window opens."""

import time

from seqsup.errors import AtUsageLimit
from seqsup.model.enums import Halt
from seqsup.model.events import LimitPaused, StartDelayed
from seqsup.model.plan import Step
from seqsup.policy import usage
from seqsup.runner.context import RunContext
from seqsup.runner.spending import SeenLimit
from seqsup.units import clock, format_share

_LOOK_AGAIN = 30.0  # seconds


class TimedWait:
    def __init__(self, step: Step, context: RunContext) -> None:
        self._step, self._context = step, context
        self._provider = step.preset.name if step.preset is not None else step.name

    def tell_limit(self, attempt: int, until: float, *, known: bool) -> None:
        """Report that the agent waits for a usage limit before that attempt. `known`: the CLI reported the time."""
        then = (
            f"waiting for {self._provider}'s usage limit to reset"
            if known
            else f"{self._provider} does not report when its usage limit resets"
        )
        why = f"until {clock(until, time.time())}, {then}"
        self._context.emit(LimitPaused(agent=self._step.name, attempt=attempt, until=until, why=why))

    async def below_share(self, reported: SeenLimit | None, enough: Halt) -> None:
        """Wait for the reset if usage.stop_at is reached. AtUsageLimit is raised if the profile does not wait."""
        rule, now = self._step.usage, time.time()
        if reported is None or (until := usage.held_back(rule, *reported, now)) is None:
            return
        used, most = format_share(reported.limit.used or 0.0), format_share(rule.stop_at or 0.0)
        why = f"{used} of {self._provider}'s usage limit is used (usage.stop_at {most})"
        if not usage.may_wait(rule, until - now):
            raise AtUsageLimit(f"{self._step.name} was not started: {why}, until {clock(until, now)}")
        why = f"until {clock(until, now)}: {why}"
        self._context.emit(StartDelayed(agent=self._step.name, until=until, why=why))
        await self.until(until, enough)

    async def window(self) -> bool:
        """Wait until the window opens. Return False if the user stops the run meanwhile."""
        window = self._step.usage.window
        while (until := usage.opening(window, now := time.time())) > now:
            why = f"until {clock(until, now)}: usage.window is {window}"
            self._context.emit(StartDelayed(agent=self._step.name, until=until, why=why))
            await self.until(until, Halt.AFTER_AGENT)
            if self._context.stop_request.halt is not Halt.NONE:
                return False
        return True

    async def until(self, until: float, enough: Halt) -> None:
        """Wait for a time of the epoch, or for a stop request that is `enough`.

        The clock may be set meanwhile, or the machine sleep: so look again now and then. Where it is set back, that
        takes no longer than it was to take: too soon, the limit is only met once more.
        """
        ends = time.monotonic() + until - time.time()
        while (left := min(until - time.time(), ends - time.monotonic())) > 0:
            if self._context.stop_request.halt >= enough:
                return
            await self._context.wake.wait(min(left, _LOOK_AGAIN))
