"""The one place that waits: for a poke, for an end, or until the time is over."""

import asyncio
from weakref import WeakSet


class Wake:
    """Wakes the waiting coroutine. A poke is kept until the next wait."""

    def __init__(self) -> None:
        self._poked = False
        self._waiter: asyncio.Future[None] | None = None
        self._branches: WeakSet[Wake] = WeakSet()

    def branch(self) -> "Wake":
        """Return a Wake for another waiter. A poke of this one also pokes the branch."""
        branch = Wake()
        self._branches.add(branch)
        return branch

    def poke(self) -> None:
        self._poked = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        for branch in tuple(self._branches):
            branch.poke()

    async def wait(self, seconds: float) -> None:
        """Wait for a poke, at most `seconds`. Only one task may wait at a time; others take a `branch`."""
        assert self._waiter is None, "a second task waits on one Wake: it needs a branch"
        if self._poked:
            self._poked = False
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._poked = False


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
