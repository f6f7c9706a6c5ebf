"""The collections that were requested of a tree's Node processes, and what each freed."""

import asyncio
import time
from collections.abc import Callable, Set
from math import inf

from seqsup.host.wake import Wake
from seqsup.model.process import Collection, NodeProcess, ProcessMemory
from seqsup.node import forensics
from seqsup.node.allocation_sites import AllocationSites
from seqsup.node.channel import LONG, Channel
from seqsup.node.processes import NodeProcesses

_SETTLED = 0.3  # seconds after a collection until RSS shows it (Node 20 and before; Buffers on any)


class GcRequests:
    def __init__(self, channel: Channel, processes: NodeProcesses, sites: AllocationSites, wake: Wake) -> None:
        self._channel, self._processes, self._sites, self._wake = channel, processes, sites, wake
        self.used, self._looked = 0, -inf  # memory of the tree in bytes, and when that was, in monotonic seconds
        self._describe: Callable[[], tuple[ProcessMemory, ...]] = tuple
        self._next_look: asyncio.Future[None] | None = None
        self._running: asyncio.Task[Collection] | None = None
        self._spared: Set[int] = frozenset()  # pids that it was not requested of
        self.done: list[Collection] = []
        self._returned = 0  # of them, by `new`

    def look(self, used: int, describe: Callable[[], tuple[ProcessMemory, ...]]) -> None:
        """Take note of a sample: the tree's memory in bytes, and its processes."""
        self.used, self._describe, self._looked = used, describe, time.monotonic()
        if self._next_look is not None and not self._next_look.done():
            self._next_look.set_result(None)

    def collect(self, silent: Set[int] = frozenset()) -> "asyncio.Task[Collection]":
        """Request a collection of all but the `silent`, unless such a one is under way. The watch is woken when it is
        over.
        """
        if self._running is None or not self._spared <= silent:
            self._running, self._spared = self._channel.begin(self._collect(silent)), silent
        return self._running

    async def measured(self, recent: float = 0.0) -> int:
        """Return the tree's memory in bytes: as the watch saw it in the last `recent` seconds, or sees it next."""
        if time.monotonic() - self._looked > recent:
            if self._next_look is None or self._next_look.done():
                self._next_look = asyncio.get_running_loop().create_future()
            self._wake.poke()
            await asyncio.shield(self._next_look)
        return self.used

    def new(self) -> list[Collection]:
        """Return the collections that are over since the last call."""
        new, self._returned = self.done[self._returned :], len(self.done)
        return new

    async def _collect(self, silent: Set[int]) -> Collection:
        began, used = time.monotonic(), self.used
        asked = [pid for pid in self._processes.answering() if pid not in silent]
        known = {pid: self._processes.last(pid) for pid in asked}
        answers = await asyncio.gather(*(self._channel.ask(pid, "gc", LONG) for pid in asked))
        await Wake().wait(_SETTLED)
        earlier, later = [], []
        for pid, answer in zip(asked, answers, strict=True):
            if answer is None or answer.before is None:
                continue
            if (node := self._channel.nodes().get(pid)) is not None:
                if (read := await self._processes.read(pid)) is not None:
                    self._sites.consider(read)
                reading = node.process(answer.before)  # V8 may have started one by itself since the last report
                earlier.append(max(known[pid] or reading, reading, key=lambda each: each.rss))
                later.append(self._processes.last(pid) or earlier[-1])
        await self.measured()
        done = self._sum_up(began, len(asked), used, earlier, later)
        self.done.append(done)
        if self._running is asyncio.current_task():
            self._running = None
        self._sites.examine()  # what is left now is no garbage
        self._wake.poke()
        return done

    def _sum_up(
        self, began: float, asked: int, used: int, earlier: list[NodeProcess], later: list[NodeProcess]
    ) -> Collection:
        before, after = (forensics.total(node.heap for node in nodes) for nodes in (earlier, later))
        spoke = {node.pid for node in earlier}
        living = self._processes.living()
        rest = forensics.total(node.heap for node in living if node.pid not in spoke)
        whole = forensics.total([before, rest]), forensics.total([after, rest])
        unknown = forensics.unsaid(self._describe(), living)
        return Collection(
            at=began, seconds=time.monotonic() - began, asked=asked, answered=len(earlier), before=before, after=after,
            used=used,
            freed=max(sum(node.rss for node in earlier) - sum(node.rss for node in later), 0),
            verdict=forensics.verdict(*whole, used, self.used, unknown, nodes=len(living)),
        )  # fmt: skip
