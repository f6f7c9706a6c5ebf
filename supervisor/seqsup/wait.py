"""The one place that waits: for a poke, for an end, or until the time is over."""

import asyncio
from collections.abc import Callable


class Wake:
    """Wakes the one who waits. A poke while nobody waits is not lost.

    `before` is called when somebody is about to wait: now there is time for what was put off.
    """

    def __init__(self) -> None:
        self.before: Callable[[], None] = nothing
        self._poked = False
        self._waiter: asyncio.Future[None] | None = None

    def poke(self) -> None:
        self._poked = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait until poked, at most this long."""
        self.before()
        if self._poked:
            self._poked = False
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._ring)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._poked = False

    def _ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def nothing() -> None:
    """What is put off until somebody waits, where nothing is."""
