"""Hands an agent's output on to our own from the files it is kept in: byte by byte, or in whole lines with its name.

It never delays the watch.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from seqsup.model.events import AttemptStarted, Recorded
from seqsup.state.output import OutputReader
from seqsup.state.run_folder import STDERR, STDOUT
from seqsup.text import printable, unstyled
from seqsup.view.nonblocking import NonblockingWriter
from seqsup.view.readable import ReadableOutput, moved
from seqsup.view.screen import Screen

_INTERVAL = 0.05  # seconds
_BRIEF = 0.001  # seconds, for a reader that takes the next piece soon
_CHUNK = 65536
_NAMED_CHUNK = 8192  # of which each line may be an empty one: 18 ms
_LONGEST = 65536  # bytes of a line


class _Pipe:
    """One stream: copies the file from the present position on to a descriptor.

    `named`: in whole lines, `embed | text`, with nothing in them that moves the cursor.
    """

    def __init__(self, outlet: NonblockingWriter | Screen, named: bool) -> None:
        self._outlet, self._named = outlet, named
        self._file: OutputReader | ReadableOutput | None = None
        self._agent = ""
        self._begun = b""  # a line
        self.idle = True  # nothing is left, for now

    def open(self, path: Path, agent: str, dialect: str | None) -> None:
        """`dialect` is that of a JSON stream, which is passed on as a person reads it."""
        self.close()
        self._file = OutputReader(path) if dialect is None else ReadableOutput(path, dialect)
        self._agent = agent

    def move(self) -> bool:
        """Pass on a piece. False: there was none (`idle`), or the reader takes none now."""
        self.idle = self._file is None or self._outlet.broken
        if self.idle or self._file is None or not self._outlet.pump():
            return False
        chunk = self._file.read(_NAMED_CHUNK if self._named else _CHUNK)
        self.idle = not moved(self._file, chunk)
        if chunk:
            self._outlet.write(self._lines(chunk) if self._named else chunk)
        return not self.idle

    def _lines(self, chunk: bytes) -> bytes:
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        if len(self._begun) > _LONGEST:
            lines, self._begun = [*lines, self._begun], b""
        return b"".join(map(self._line, lines))

    def _line(self, line: bytes) -> bytes:
        # Of a line that its program wrote over, what it showed last
        text = unstyled(line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])
        return f"{self._agent} | {printable(text.expandtabs())}\n".encode()

    def close(self) -> None:
        if isinstance(self._file, ReadableOutput) and (rest := self._file.rest()):
            self._outlet.write(self._lines(rest) if self._named else rest)
        if self._begun:
            self._outlet.write(self._line(self._begun))
            self._begun = b""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Lane:
    """The attempts of one lane, of which one runs at a time."""

    def __init__(self, outlets: Mapping[str, NonblockingWriter | Screen], named: bool) -> None:
        self._pipes = {name: _Pipe(outlet, named) for name, outlet in outlets.items()}
        self.attempts: list[tuple[Path, str, str | None]] = []  # those to come: folder, agent, dialect of its stdout

    def move(self) -> bool:
        """Pass on a piece of each stream, or turn to the next attempt. False: there is nothing to do now."""
        if [pipe for pipe in self._pipes.values() if pipe.move()]:
            return True
        if not self.attempts or not self.idle:
            return False
        folder, agent, dialect = self.attempts.pop(
            0
        )  # the files of the one before are complete, since this one has started
        for name, pipe in self._pipes.items():
            pipe.open(folder / name, agent, dialect if name == STDOUT else None)
        return True

    @property
    def idle(self) -> bool:
        return all(pipe.idle for pipe in self._pipes.values())

    def close(self) -> None:
        for pipe in self._pipes.values():
            pipe.close()


class OutputRelay:
    """A reader of events that follows each attempt's output."""

    def __init__(
        self, folder: Path, *, onto: Screen | None = None, named: bool = False, readable: bool = False
    ) -> None:  # fmt: skip
        """`readable`: pass on the JSON streams of agents' CLIs as a person reads them."""
        self._folder, self._named, self._readable = folder, named, readable
        out = onto or NonblockingWriter(1)
        self._outlets = {STDOUT: out, STDERR: out if named else NonblockingWriter(2)}
        self._lanes: dict[int, _Lane] = {}
        self.moved = 0.0  # when a piece was passed on last, monotonic
        self._over = False
        self._give_up: Callable[[], bool] = lambda: False
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def __call__(self, recorded: Recorded) -> None:
        if isinstance(event := recorded.body, AttemptStarted):
            if event.lane not in self._lanes:
                self._lanes[event.lane] = _Lane(self._outlets, self._named)
            self._lanes[event.lane].attempts.append(
                (self._folder / event.folder, event.agent, event.dialect if self._readable else None)
            )

    @property
    def lost(self) -> OSError | None:
        """Why some of it could not be passed on, if not for a reader that went away."""
        outlets = (each for each in self._outlets.values() if isinstance(each, NonblockingWriter))
        return next((each.lost for each in outlets if each.lost is not None), None)

    async def close(self, give_up: Callable[[], bool]) -> None:
        """Pass on the rest, until `give_up` returns true. A closed reader ends it too."""
        self._over, self._give_up = True, give_up
        await self._task
        for lane in self._lanes.values():
            lane.close()

    async def _follow(self) -> None:
        pause = _BRIEF
        while not self._give_up():
            over = self._over  # asked before the last look, so that nothing is missed
            lanes = dict(self._lanes)
            if [lane for lane in lanes.values() if lane.move()]:  # of each a piece
                first = next(iter(lanes))
                self._lanes[first] = self._lanes.pop(first)  # a slow reader gets of each in turn
                pause, self.moved = _BRIEF, time.monotonic()
                await asyncio.sleep(0)  # the watch comes between any two pieces, however many there are
                continue
            if all(lane.idle for lane in lanes.values()):
                if over:
                    return
                pause = _INTERVAL
            await asyncio.sleep(pause)
            pause = min(pause * 2, _INTERVAL)
