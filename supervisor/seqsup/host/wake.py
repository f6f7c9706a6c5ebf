"""The one place that waits: for a poke, for an end, or until the time is over."""

import asyncio
from collections.abc import Callable
from math import inf
from weakref import WeakSet


class Wake:
    """Wakes the one who waits. A poke while nobody waits is not lost."""

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

    async def wait(self, seconds: float, first: float = inf, still: Callable[[], float] = lambda: 0.0) -> None:
        """Wait for a poke, at most `seconds`. Only one task may wait at a time; others take a `branch`.

        After `first` seconds `still` is called. The wait goes on while it returns a positive number of seconds.
        """
        assert self._waiter is None, "a second task waits on one Wake: it needs a branch"
        if self._poked:
            self._poked = False
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer: list[asyncio.TimerHandle] = []
        timer.append(loop.call_later(min(first, seconds), _ring, timer, waiter, loop.time() + seconds, still))
        try:
            await waiter
        finally:
            timer.pop().cancel()
            self._waiter = None
            self._poked = False


def _ring(
    timer: list[asyncio.TimerHandle], waiter: asyncio.Future[None], ends: float, still: Callable[[], float]
) -> None:
    if waiter.done():
        return
    loop = waiter.get_loop()
    try:
        now = loop.time()
        if now < ends and (sure := still()) > 0:
            timer[0] = loop.call_at(min(now + sure, ends), _ring, timer, waiter, ends, still)
        else:
            waiter.set_result(None)
    except Exception as error:  # the waiter's, not the loop's
        waiter.set_exception(error)
