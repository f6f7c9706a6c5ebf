"""The request to stop a run. During a run it only grows: after this agent, now, by force."""

from collections.abc import Callable

from seqsup.model.enums import Halt
from seqsup.model.events import HaltRequested

CTRL_C = "Ctrl-C"

Subscriber = Callable[[HaltRequested], None]


class StopRequest:
    """Remembers the request, and reports each new one to its subscribers once."""

    def __init__(self, first: Halt = Halt.AFTER_AGENT) -> None:
        """`first` is what the first Ctrl-C requests."""
        self._first = first
        self._subscribers: list[Subscriber] = []
        self.halt = Halt.NONE
        self.signal: int | None = None  # the exit code is 128 + n

    def subscribe(self, subscriber: Subscriber) -> Subscriber:
        """Add a subscriber, and return it for `unsubscribe`."""
        self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.remove(subscriber)

    def interrupt(self, signum: int) -> None:
        """Ctrl-C: after this agent, then now, then by force."""
        self.wish(max(self._first, Halt(min(self.halt + 1, Halt.KILL))), signum, CTRL_C)

    def done(self) -> None:
        """Mark the request as carried out: the next one is new."""
        self.halt = Halt.NONE

    def wish(self, halt: Halt, signum: int, by: str) -> None:
        """Request a stop, if it asks for more than the last request did."""
        if halt > self.halt:
            self.halt = halt
            self.signal = signum
            for subscriber in tuple(self._subscribers):
                subscriber(HaltRequested(halt=halt, by=by))
