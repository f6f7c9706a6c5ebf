"""Passes on a run's events: to the journal first, then to readers; and its samples to observers."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from seqsup.errors import NO_ROOM, SeqsupError
from seqsup.model.events import AnyEvent, Recorded, Warned
from seqsup.model.history import History
from seqsup.model.process import Observation
from seqsup.model.run_view import RunView
from seqsup.state.journal import Journal

Reader = Callable[[Recorded], None]
Observer = Callable[[Observation], None]
Scale = Callable[[tuple[str, int]], None]

T = TypeVar("T")

_TRY_AGAIN = 0.1  # seconds


class Emitter:
    def __init__(self, run: int, journal: Journal) -> None:
        self._run, self._journal = run, journal
        self._history = History()
        for recorded in journal.events(run):  # of earlier parts
            self._history.apply(recorded)
        self._readers: list[Reader] = []
        self._untold: deque[Recorded] = deque()
        self._telling = False
        self._again: asyncio.TimerHandle | None = None
        self._observers: list[Observer] = []
        self._scales: list[Scale] = []

    @property
    def view(self) -> RunView:
        return self._history.view

    def add_reader(self, reader: Reader) -> None:
        self._readers.append(reader)

    def add_observer(self, observer: Observer) -> None:
        """Pass each sample to this observer, up to a thousand a second."""
        self._observers.append(observer)

    def add_scale(self, scale: Scale) -> None:
        """Pass each companion's name and memory in bytes to this listener, once a second or more often."""
        self._scales.append(scale)

    def emit(self, event: AnyEvent) -> Recorded:
        """Write an event to the journal, then pass it to the readers. If the journal fails, the run stops.

        While another program keeps the journal locked, events wait here and are passed on later, so that the watch
        continues.
        """
        recorded = self._journal.append(self._run, event)
        self._history.apply(recorded)
        self._untold.append(recorded)
        if not self._telling:
            self._tell()
        return recorded

    def note(self, event: AnyEvent) -> None:
        """Emit an event that may come at any moment of the run."""
        with suppress(SeqsupError):  # a journal that fails stops the run at its next event
            self.emit(event)

    def observe(self, seen: Observation) -> None:
        self._hand(seen, self._observers)

    def weigh(self, companion: str, used: int) -> None:
        self._hand((companion, used), self._scales)

    def _tell(self) -> None:
        """Pass on what is written; a reader may emit events meanwhile."""
        self._telling = True
        try:
            while self._untold and self._journal.flush_unless_locked():
                self._hand(self._untold.popleft(), self._readers)
        finally:
            self._telling = False
        if self._untold and self._again is None:
            self._again = asyncio.get_running_loop().call_later(_TRY_AGAIN, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._tell()

    def _hand(self, news: T, listeners: list[Callable[[T], None]]) -> None:
        """Pass it to all. A listener that fails gets nothing more, which is reported once all have got this."""
        failed: list[tuple[Callable[[T], None], Exception]] = []
        for listener in listeners:
            try:
                listener(news)
            except Exception as error:
                if getattr(error, "errno", None) not in NO_ROOM:  # else there may be some for what follows
                    failed.append((listener, error))
        for listener, why in failed:
            listeners.remove(listener)
            self.emit(Warned(message=f"{_name(listener)} failed and is disabled for the rest of this run: {why!r}"))


def _name(listener: object) -> str:
    """Name a listener by its class, also where it is one of its methods."""
    return type(getattr(listener, "__self__", listener)).__name__
