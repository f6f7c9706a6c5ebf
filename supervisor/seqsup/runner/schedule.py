"""Which agent starts when: in the plan's order, one at a time, or several in lanes where the user allows it."""

from collections.abc import Callable, Coroutine
from typing import Any

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
from seqsup.runner.lanes import Lanes
from seqsup.runner.pause import Pause


class Scheduler:
    """Starts agents until all are over. Between chains, and to restart companions, none runs."""

    def __init__(
        self, plan: Plan, ok: dict[str, bool], context: RunContext, admission: Admission, chains: Chains, pause: Pause,
        companions: Companions,
    ) -> None:  # fmt: skip
        """`ok` says of each agent that is over whether it ended well; it is updated."""
        self._plan, self._ok, self._context, self._admission = plan, ok, context, admission
        self._chains, self._pause, self._companions = chains, pause, companions
        taken = {step.name for step in plan.steps}
        self._waiting = {
            step.name: (step, [name for name in builds_on(step) if name in taken])
            for step in plan.steps
            if step.name not in ok
        }
        self._lanes = Lanes(min(plan.concurrency, len(plan.steps)), context.wake)
        self._agents: dict[str, Agent] = {}  # that run
        self._failed = False  # an agent, and the plan stops then

    async def run(
        self,
        agent: Callable[[Step, int, Wake], Agent],
        turn: Callable[[Agent], Coroutine[Any, Any, bool]],
        over: Callable[[str], None],
    ) -> None:
        """Run all agents. `agent` makes one for a lane, `turn` carries it out, `over` hears that it ended.

        Stopped, if an agent says that the run cannot go on; the agents in other lanes end first.
        """

        try:
            while (step := self._next()) is not None or not self._lanes.idle:
                if step is not None and self._lanes.idle:
                    if not await self._pause.over():
                        break
                    await self._chains.between(step.drain)
                elif step is None or not self._fits_beside(step):
                    await self._collect(over)
                    continue
                del self._waiting[step.name]
                self._chains.count_agent()
                lane = self._lanes.take()
                self._agents[step.name] = made = agent(step, lane, self._lanes.wake(lane))
                self._lanes.start(step.name, lane, turn(made))
        finally:
            await self._lanes.abandon()
        if self._lanes.stopped is not None:
            raise self._lanes.stopped

    def _next(self) -> Step | None:
        """Return the first agent that may start by what it builds on. Agents that cannot run any more are skipped."""
        if self._failed or self._lanes.stopped is not None or self._context.stop_request.halt > Halt.NONE:
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
        if self._lanes.full or self._chains.full or not all(agent.started for agent in self._agents.values()):
            return False
        calm = self._companions.settled() and not self._pause.why()
        return calm and self._admission.fits(step, self._context)

    async def _collect(self, over: Callable[[str], None]) -> None:
        """Wait for an agent's end, or a second."""
        for name, ok in (await self._lanes.ended()).items():
            del self._agents[name]
            self._ok[name] = ok
            over(name)
            self._failed = self._failed or (not ok and self._plan.stop_on_failure)
