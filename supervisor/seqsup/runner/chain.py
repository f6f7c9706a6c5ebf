"""Chains: groups of agents, after each of which memory must be back to where the run began."""

import time

from seqsup.errors import Stopped
from seqsup.model.enums import Halt, OnTimeout, Restart
from seqsup.model.events import ChainEnded, Warned
from seqsup.model.plan import Drain
from seqsup.policy import resources
from seqsup.runner.companions import Companions
from seqsup.runner.context import RunContext
from seqsup.runner.drain import Drainer
from seqsup.runner.hooks import HookRunner
from seqsup.units import told_apart


class Chains:
    def __init__(
        self, size: int, companions: Companions, hooks: HookRunner, drainer: Drainer, context: RunContext
    ) -> None:
        """`size` is the number of agents in a chain. Construct it while nothing of the run uses memory."""
        self._size, self._companions, self._hooks = size, companions, hooks
        self._drainer, self._context = drainer, context
        self._baseline = context.host.available()  # bytes
        self._ended = self._agents = 0
        self._first_own = 0  # bytes that the supervisor used after its first chain
        self._grown = False

    @property
    def full(self) -> bool:
        """Whether the present chain has all its agents."""
        return self._agents >= self._size

    def count_agent(self) -> None:
        self._agents += 1

    async def between(self, rule: Drain) -> None:
        """End a full chain and restart companions that are due. Call it while no agent runs."""
        if self.full:
            await self._end(rule)
        await self._companions.between()

    async def _end(self, rule: Drain) -> None:
        self._warn_if_grown()
        await self._companions.between()
        self._ended += 1
        ended = await self._drain(rule)
        if not ended.reached and rule.on_timeout is OnTimeout.RESTART_COMPANIONS and self._companions:
            self._context.emit(ended)
            await self._companions.restart(Restart.DRAIN, f"after chain {self._ended} {ended.why}")
            ended = await self._drain(rule)
        self._agents = 0
        await self._hooks.on("chain_end", self._context.emit(ended))
        if not ended.reached and rule.on_timeout is not OnTimeout.CONTINUE:
            raise Stopped(f"memory did not drain after chain {self._ended}: {ended.why}")

    async def _drain(self, rule: Drain) -> ChainEnded:
        """Wait until the host has as much as before the first agent, except for what the run may own."""
        lost = self._baseline - (rule.threshold or self._baseline)
        available_again = None if rule.available is None else max(rule.available, lost)
        found = await self._drainer.until_back(
            rule, available_again, self._context.wake, began=time.monotonic(), enough=Halt.AFTER_AGENT
        )  # fmt: skip
        return ChainEnded(
            chain=self._ended, agents=self._agents, reached=not found.missing, seconds=found.seconds,
            baseline=self._baseline, available=found.available, owned=found.owned, why=found.missing,
        )  # fmt: skip

    def _warn_if_grown(self) -> None:
        """Warn once if the supervisor itself uses much more memory than after its first chain."""
        own = self._context.host.own()
        self._first_own = self._first_own or own
        if not self._grown and resources.supervisor_grew(own, self._first_own):
            self._grown = True
            before, now = told_apart(self._first_own, own)
            self._context.emit(Warned(message=f"the supervisor grew from {before} to {now}: please report this"))
