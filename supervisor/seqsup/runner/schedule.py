"""Which agent starts when: in the plan's order, one at a time, or several in lanes where the user allows it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from seqsup.errors import Stopped
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.model.events import AgentSkipped
from seqsup.model.plan import Plan, Step
from seqsup.plan.resume import builds_on
from seqsup.runner.admission import Admission
from seqsup.runner.agent import Agent
from seqsup.runner.chain import Chains
from seqsup.runner.companions import Companions
from seqsup.runner.context import RunContext
from seqsup.runner.pause import Pause


class Scheduler:
    """Starts agents until all are over, one at a time in each lane. None runs between chains and at a companion's
    restart.

    In several lanes agents run side by side, for a user that accepts that their memory adds up.
    """

    def __init__(
        self, plan: Plan, ok: dict[str, bool], context: RunContext, admission: Admission, chains: Chains, pause: Pause,
        companions: Companions,
    ) -> None:  # fmt: skip
        """`ok` says for each finished agent whether it completed; it is updated."""
        self._plan, self._ok, self._context, self._admission = plan, ok, context, admission
        self._chains, self._pause, self._companions = chains, pause, companions
        taken = {step.name for step in plan.steps}
        self._waiting = {
            step.name: (step, [name for name in builds_on(step) if name in taken])
            for step in plan.steps
            if step.name not in ok
        }
        self._free = list(range(min(plan.concurrency, len(plan.steps)), 0, -1))  # lanes
        self._wakes = {lane: context.wake.branch() for lane in self._free}  # where a lane's agent waits
        self._wake = context.wake.branch()
        self._running: dict[asyncio.Task[bool], Agent] = {}
        self._failed = False  # an agent, and the plan stops then
        self._stopped: Stopped | None = None  # raised by the first agent that may end the run

    async def run(
        self,
        make: Callable[[Step, int, Wake], Agent],
        turn: Callable[[Agent], Coroutine[Any, Any, bool]],
        over: Callable[[Step], None],
    ) -> None:
        """Run all agents. `make` makes one for a lane, `turn` runs it, `over` is called with its end.

        Stopped, if an agent stops the run; the agents in other lanes end first.
        """
        try:
            while (step := self._next()) is not None or self._running:
                if step is not None and not self._running:
                    if not await self._pause.over():
                        break
                    await self._chains.between(step.drain)
                elif step is None or not self._fits_beside(step):
                    await self._collect(over)
                    continue
                del self._waiting[step.name]
                self._chains.count_agent()
                lane = self._free.pop()
                agent = make(step, lane, self._wakes[lane])
                task = asyncio.create_task(turn(agent))
                task.add_done_callback(lambda _: self._wake.poke())
                self._running[task] = agent
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._stopped is not None:
            raise self._stopped

    def _next(self) -> Step | None:
        """Return the first agent with its needs fulfilled. Agents that can no longer run are skipped."""
        if self._failed or self._stopped is not None or self._context.stop_request.halt > Halt.NONE:
            return None
        skipped: list[str] = []
        try:
            for step, bases in self._waiting.values():
                if any(name not in self._ok for name in bases):
                    continue
                if not (failed := [name for name in step.needs if not self._ok[name]]):
                    return step
                skipped.append(step.name)
                self._ok[step.name] = False
                why = f"it needs {', '.join(failed)}, which did not complete"
                self._context.emit(AgentSkipped(agent=step.name, why=why))
            return None
        finally:
            for name in skipped:
                del self._waiting[name]

    def _fits_beside(self, step: Step) -> bool:
        """Return whether an agent may start beside those that run. One that still waits to start comes first."""
        if not self._free or self._chains.full or not all(agent.started for agent in self._running.values()):
            return False
        calm = self._companions.settled() and not self._pause.why()
        return calm and self._admission.fits(step, self._context)

    async def _collect(self, over: Callable[[Step], None]) -> None:
        """Wait for an agent's end, or a second."""
        if not any(task.done() for task in self._running):
            await self._wake.wait(1.0)
        for task in [task for task in self._running if task.done()]:
            agent, ok = self._running.pop(task), False
            self._free.append(agent.lane)
            try:
                ok = task.result()
            except Stopped as reason:
                self._stopped = self._stopped or reason
            self._ok[agent.step.name] = ok
            over(agent.step)
            self._failed = self._failed or (not ok and self._plan.stop_on_failure)
