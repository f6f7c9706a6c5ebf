"""Lanes: agents side by side, for who accepts that their memory adds up. Each lane runs one at a time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from seqsup.errors import Stopped
from seqsup.host.wake import Wake


class Lanes:
    def __init__(self, number: int, wake: Wake) -> None:
        self._free = list(range(number, 0, -1))
        self._wakes = {lane: wake.branch() for lane in self._free}
        self._wake = wake.branch()
        self._tasks: dict[asyncio.Task[bool], tuple[str, int]] = {}
        self.stopped: Stopped | None = None  # what the first agent said that may end the run

    @property
    def idle(self) -> bool:
        return not self._tasks

    @property
    def full(self) -> bool:
        return not self._free

    def running(self) -> set[str]:
        return {agent for agent, _ in self._tasks.values()}

    def take(self) -> int:
        """Return a free lane's number, which `start` must use next."""
        return self._free.pop()

    def wake(self, lane: int) -> Wake:
        """Return where a lane's agent waits."""
        return self._wakes[lane]

    def start(self, agent: str, lane: int, turn: Coroutine[Any, Any, bool]) -> None:
        """Let an agent have its turn in a lane."""
        task = asyncio.create_task(turn)
        task.add_done_callback(lambda _: self._wake.poke())
        self._tasks[task] = agent, lane

    async def ended(self) -> dict[str, bool]:
        """Wait until an agent's turn is over, or for a second; say of each whether it went well."""
        if not any(task.done() for task in self._tasks):
            await self._wake.wait(1.0)
        found = {}
        for task in [task for task in self._tasks if task.done()]:
            agent, lane = self._tasks.pop(task)
            self._free.append(lane)
            try:
                found[agent] = task.result()
            except Stopped as reason:
                self.stopped, found[agent] = self.stopped or reason, False
        return found

    async def abandon(self) -> None:
        """End whoever still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
