"""The companions of a run: started before the first agent, restarted between agents, stopped after the last."""

import asyncio
import time
from collections.abc import Callable, Sequence

from seqsup.model.enums import Restart
from seqsup.model.plan import CompanionStart
from seqsup.runner.companion import COLLECTS, Companion
from seqsup.runner.context import RunContext
from seqsup.runner.side_process import Site


class Companions:
    """All of a run's, in the profile's order."""

    def __init__(
        self, starts: Sequence[CompanionStart], site: Site, context: RunContext, weigh: Callable[[str, int], None]
    ) -> None:
        self._all = [Companion(start, site, context, weigh) for start in starts]
        self._changing = asyncio.Lock()  # two lanes may want them restarted
        self.environment = {name: value for start in starts for name, value in start.environment.items()}

    def __bool__(self) -> bool:
        return bool(self._all)

    def used(self) -> int:
        """Memory of all companions, in bytes."""
        return sum(companion.used() for companion in self._all)

    async def start(self) -> None:
        for companion in self._all:
            companion.begin()
            await companion.up()

    async def stop(self) -> None:
        """End all, the last one first."""
        for companion in reversed(self._all):
            await companion.end(Restart.RUN_ENDED)

    async def abandon(self) -> None:
        for companion in self._all:
            await companion.abandon()

    def failed_since(self, began: float) -> str:
        """Say which of them failed since then, in monotonic seconds, and why; empty if none did."""
        failed = [(each.name, each.failure[1]) for each in self._all if each.failure and each.failure[0] >= began]
        return "; ".join(f"companion {name} failed meanwhile: {why}" for name, why in failed)

    def count_agent(self) -> None:
        for companion in self._all:
            companion.agents += 1

    def settled(self) -> bool:
        """Whether all are ready, and none is due to be restarted."""
        return all(companion.ready and companion.due() is None for companion in self._all)

    async def between(self) -> None:
        """Between agents: have them collect as gc.mode says, restart those that are due, and see that all are ready."""
        used = [companion for companion in self._all if companion.agents]
        for companion in used:
            companion.request_gc()
        deadline = time.monotonic() + COLLECTS
        for companion in used:
            await companion.await_gc(deadline)
        due = {companion: found for companion in self._all if companion.ready and (found := companion.due())}
        await self._restart(due)
        for companion in self._all:
            await companion.up()
            await companion.look_at_rest()

    async def restart(self, reason: Restart, why: str) -> None:
        """Restart all of them."""
        async with self._changing:
            await self._restart(dict.fromkeys(self._all, (reason, why)))

    async def _restart(self, due: dict[Companion, tuple[Restart, str]]) -> None:
        for companion in reversed(due):
            await companion.end(due[companion][0])
        for companion, restart in due.items():
            companion.begin(restart)
            await companion.up()
