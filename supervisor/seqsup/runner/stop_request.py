"""The request to stop a run. While a run goes on it only grows: after this agent, now, by force."""

from collections.abc import Callable

from seqsup.model.enums import Halt
from seqsup.model.events import HaltRequested

CTRL_C = "Ctrl-C"

Subscriber = Callable[[HaltRequested], None]


class StopRequest:
    """Remembers what was requested, and tells its subscribers of each new request once."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self.halt = Halt.NONE
        self.signal: int | None = None  # the one whose 128 + n is the exit code

    def subscribe(self, subscriber: Subscriber) -> Subscriber:
        """Add a subscriber, and return it for `unsubscribe`."""
        self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.remove(subscriber)

    def interrupt(self, signum: int) -> None:
        """Ctrl-C: after this agent, then now, then by force."""
        self.wish(Halt(min(self.halt + 1, Halt.KILL)), signum, CTRL_C)

    def done(self) -> None:
        """What was requested is done: the next request is one of its own."""
        self.halt = Halt.NONE

    def wish(self, halt: Halt, signum: int, by: str) -> None:
        """Request a stop, if it asks for more than the last request did."""
        if halt > self.halt:
            self.halt = halt
            self.signal = signum
            for subscriber in tuple(self._subscribers):
                subscriber(HaltRequested(halt=halt, by=by))
