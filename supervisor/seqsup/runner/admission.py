"""Admission: an agent starts when the memory that it needs is there, beside what running ones may still take."""

import time
from collections.abc import Awaitable, Callable

from seqsup.errors import Stopped
from seqsup.host.machine import Host
from seqsup.model.enums import Halt
from seqsup.model.events import AdmissionDelayed
from seqsup.model.plan import Step
from seqsup.model.process import Observation, Sample
from seqsup.policy import resources
from seqsup.runner.context import RunContext


class Admission:
    def __init__(
        self, host: Host, need: Callable[[Step], int | None], unpaused: Callable[[], Awaitable[bool]],
        others: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Construct it while nothing of the run lives: no agent can ask for more than there is now.

        `need` gives the bytes that must be available for an agent. `unpaused` waits while the run pauses, and returns
        False when the run is to end. `others` says whether other runs share the machine's turn: what they use comes
        back one day, so it is waited for.
        """
        self._host, self._need, self._unpaused, self._others = host, need, unpaused, others
        self._most = host.room()
        self._running: dict[str, int] = {}  # what each may take
        self._floors: dict[str, int] = {}  # of the host, for each
        self._seen: dict[str, Sample] = {}  # the last of each
        self._stopped: dict[str, float] = {}  # for the host's floor, and since when
        self._told: set[str] = set()  # waiting agents that were reported

    def observe(self, seen: Observation) -> None:
        """Subtract memory that a running agent uses already from what it may still use."""
        self._seen[seen.agent] = seen.sample

    def fits(self, step: Step, context: RunContext) -> bool:
        """Return whether an agent may start now. If it may not, report once what it waits for."""
        if not (why := self._missing(step)):
            self._told.discard(step.name)
            return True
        if step.name not in self._told:
            self._told.add(step.name)
            context.emit(AdmissionDelayed(agent=step.name, need=self._need(step), room=self._host.room(), why=why))
        return False

    async def admit(self, step: Step, context: RunContext, enough: Halt, *, first: bool) -> bool:
        """Wait for the memory that an agent may use, and count it as running. Its `first` attempt waits out a pause
        too.

        False if the stop request is `enough` to stop waiting; Stopped if no agent runs that could free memory.
        """
        rule = step.drain
        deadline = time.monotonic() + rule.timeout
        while True:
            paused = time.monotonic()
            if first and not await self._unpaused():
                return False
            deadline += time.monotonic() - paused
            if self.fits(step, context):
                break
            if context.stop_request.halt >= enough:
                return False
            if time.monotonic() >= deadline and not self._running and not self._others():
                raise Stopped(f"{step.name} was not started: {self._missing(step)}")
            await context.wake.wait(rule.interval)
        self._running[step.name], self._floors[step.name] = self._need(step) or 0, step.limits.host_floor or 0
        return True

    def _missing(self, step: Step) -> str:
        """Say what an agent still has to wait for; empty when it may start."""
        held = {agent: sample.used for agent, sample in self._seen.items()}
        claimed = sum(max(may - held.get(agent, 0), 0) for agent, may in self._running.items())
        return resources.no_room(
            room=self._host.room(), most=self._most, need=self._need(step), floor=step.limits.host_floor,
            claimed=claimed if self._running or self._others() else None,
        )  # fmt: skip

    def spares(self, step: Step, sample: Sample) -> bool:
        """Return whether another agent is stopped first for the host's floor; otherwise this one counts as stopped."""
        agent, floor = step.name, step.limits.host_floor or 0
        if sample.host_available >= floor or agent not in self._running:
            return False
        self._seen[agent] = sample
        low = {name for name in self._running if sample.host_available < self._floors[name]}
        seen = {name: last for name, last in self._seen.items() if name in low}
        if resources.spared(agent, seen, self._stopped, sample.at):
            return True
        self._stopped.setdefault(agent, sample.at)
        return False

    @property
    def crowded(self) -> bool:
        """Whether more than one agent runs."""
        return len(self._running) > 1

    def let_go(self, agent: str) -> None:
        for known in (self._running, self._seen, self._stopped):
            known.pop(agent, None)
