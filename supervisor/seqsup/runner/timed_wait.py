"""Waits of an agent for a time of day: until its provider's usage limit resets, and until usage.window opens."""

import time

from seqsup.model.enums import Halt
from seqsup.model.events import LimitPaused, StartDelayed
from seqsup.model.plan import Step
from seqsup.policy import usage
from seqsup.runner.context import RunContext
from seqsup.units import clock

_LOOK_AGAIN = 30.0  # seconds


class TimedWait:
    def __init__(self, step: Step, context: RunContext) -> None:
        self._step, self._context = step, context

    def tell_limit(self, attempt: int, until: float, *, known: bool) -> None:
        """Report that the agent waits for a usage limit before that attempt. `known`: the CLI reported the time."""
        provider = self._step.preset.name if self._step.preset is not None else self._step.name
        then = (
            f"waiting for {provider}'s usage limit to reset"
            if known
            else f"{provider} does not report when its usage limit resets"
        )
        why = f"until {clock(until, time.time())}, {then}"
        self._context.emit(LimitPaused(agent=self._step.name, attempt=attempt, until=until, why=why))

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
