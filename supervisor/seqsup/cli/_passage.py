"""Hands an agent's output on to our own, byte by byte, from the files it is kept in. It never holds up the watch."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..events import AttemptStarted, Recorded
from ..folder import STDERR, STDOUT
from ..outlet import Outlet
from ..streams import Reading

_INTERVAL = 0.05  # seconds
_CHUNK = 65536


class _Pipe:
    """One stream: what stands in the file, from where we are on, to a descriptor."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._file: Reading | None = None

    def open(self, path: Path) -> None:
        self.close()
        self._file = Reading(path)

    def move(self) -> bool:
        """Hand on as much as the reader takes; True when nothing is left."""
        if self._file is None or self._outlet.broken:
            return True
        while self._outlet.pump():
            if not (chunk := self._file.read(_CHUNK)):
                return True
            self._outlet.write(chunk)
        return self._outlet.broken

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Passage:
    """A reader of events that follows each attempt's output."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipes = {STDOUT: _Pipe(Outlet(1)), STDERR: _Pipe(Outlet(2))}
        self._attempts: list[Path] = []
        self._over = False
        self._give_up: Callable[[], bool] = lambda: False
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def __call__(self, recorded: Recorded) -> None:
        if isinstance(recorded.body, AttemptStarted):
            self._attempts.append(self._folder / recorded.body.folder)

    async def close(self, give_up: Callable[[], bool]) -> None:
        """Hand on what is left, until `give_up` says that nobody wants it; a reader that went away ends it too."""
        self._over, self._give_up = True, give_up
        await self._task
        for pipe in self._pipes.values():
            pipe.close()

    async def _follow(self) -> None:
        while not self._give_up():
            over = self._over  # asked before the last look, so that nothing is missed
            idle = [pipe.move() for pipe in self._pipes.values()]
            if all(idle):  # an attempt's files are complete once the next one has begun
                if self._attempts:
                    attempt = self._attempts.pop(0)
                    for name, pipe in self._pipes.items():
                        pipe.open(attempt / name)
                    continue
                if over:
                    return
            await asyncio.sleep(_INTERVAL)
