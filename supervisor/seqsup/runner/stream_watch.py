"""An agent's JSON stream, read from the file of its stdout while it grows.

It is read in pieces of a millisecond or two, between which the watch over memory gets its turn. A stream that is
written faster than it can be read is skipped to its newest part.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from seqsup.dialects.stream import EventStream
from seqsup.errors import SeqsupError
from seqsup.model.conversation import Conversation
from seqsup.model.events import AnyEvent, SessionReported
from seqsup.model.plan import Step
from seqsup.policy.sessions import ChosenSession
from seqsup.runner.place import AttemptPaths
from seqsup.state.output import OutputReader
from seqsup.state.run_folder import STDOUT
from seqsup.units import MIB

_TEXT = 4000  # characters of a result that are passed on; journal and timeline must stay small
_PIECE = 16 * 1024  # bytes: of the shortest lines some 2 ms of work
_WORK = 0.002  # seconds for all pieces between two turns of others
_PAUSE = 0.02  # seconds between two such, while there is more to read
_NEWEST = 8 * MIB  # bytes that are read in any case
_BEHIND = 8 * _NEWEST  # bytes: so far behind, the rest is skipped
_REST = 3.0  # seconds for what is unread when the agent has exited


class StreamWatch:
    def __init__(
        self, step: Step, number: int, paths: AttemptPaths, emit: Callable[[AnyEvent], object], chosen: ChosenSession
    ) -> None:
        """The step must have a dialect. `chosen` is the conversation that the attempt begins or resumes."""
        assert step.dialect is not None
        self._agent, self._attempt, self._path, self._emit = step.name, number, paths.folder / STDOUT, emit
        self._stream = EventStream(step.dialect, usd_before=chosen.usd, tokens_before=chosen.tokens)
        self._file = OutputReader(self._path)
        self._timer: asyncio.TimerHandle | None = None
        self._session = chosen.session  # the one that is known
        self._size = 0  # of the file at the last look, in bytes
        self._midway = False  # amid a line
        self._gaps = 0  # parts that were skipped
        self.conversation = self._stream.conversation  # with the beginning of its result's text
        self.lines = 0  # that were read so far: an event of any kind is a sign of life
        self.heard = time.monotonic()  # when the last one was read

    def look(self) -> None:
        """Begin to read what is new, unless that is under way."""
        if self._timer is None and self._grown():
            self._read_on()

    def read(self, seconds: float) -> bool:
        """Read for this long. Return whether there is more."""
        ends, more, fed = time.monotonic() + seconds, True, False
        self._grown()
        if self._size < self._file.at:  # it was emptied or rewritten: nothing may be counted twice
            self._file.at, self._gaps = self._size, self._gaps + 1
        if self._size - self._file.at > _BEHIND:
            self._skip()
        while more and time.monotonic() < ends:
            piece = self._file.read(_PIECE)
            more = len(piece) > 0
            if more:
                self._feed(piece)
                fed = True
        if fed:
            self._take_in()
        return more

    async def finish(self) -> Conversation:
        """Read the rest after the exit, at most three seconds of it and then the newest part. Close the stream."""
        self._stop()
        ends = time.monotonic() + _REST
        while self.read(_WORK):
            if time.monotonic() > ends:
                ends += _REST
                self._skip()
            await asyncio.sleep(0)
        self.close()
        return self._brief(self._stream.end())

    @property
    def answer(self) -> str:
        """Return the whole text of the last result, or else what the agent said last."""
        return self._stream.text

    def close(self) -> None:
        self._stop()
        self._file.close()

    def _grown(self) -> bool:
        try:
            size = os.stat(self._path).st_size  # noqa: PTH116 (hot)
        except OSError:
            return False
        grown, self._size = size != self._size, size
        return grown

    def _read_on(self) -> None:
        self._timer = None
        if self.read(_WORK):
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._read_on)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed(self, piece: bytes) -> None:
        self._stream.feed(piece, time.monotonic())
        self._midway = not piece.endswith(b"\n")

    def _skip(self) -> None:
        """Continue at the first line of the newest part."""
        begins = self._size - _NEWEST
        if begins <= self._file.at:
            return
        if self._midway:
            self._feed(b"\n")
        self._file.at, self._gaps = begins, self._gaps + 1
        while piece := self._file.read(_PIECE):
            _, newline, rest = piece.partition(b"\n")
            if newline:
                self._feed(rest)
                return

    def _take_in(self) -> None:
        if self._stream.lines == self.lines:
            return
        self.lines, self.heard = self._stream.lines, time.monotonic()
        self.conversation = self._brief(self._stream.conversation)
        if (session := self.conversation.session) and session != self._session:
            self._session = session
            with suppress(SeqsupError):  # a journal that fails stops the run at its next event
                self._emit(SessionReported(agent=self._agent, attempt=self._attempt, session=session))

    def _brief(self, conversation: Conversation) -> Conversation:
        if self._gaps:
            conversation = replace(conversation, skipped=conversation.skipped + self._gaps)
        result = conversation.result
        if result is None or len(result.text) <= _TEXT:
            return conversation
        return replace(conversation, result=replace(result, text=f"{result.text[: _TEXT - 1]}…"))
