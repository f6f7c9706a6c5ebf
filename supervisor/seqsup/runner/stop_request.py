"""The operator's wish to stop, apart from any state. During a run it only grows: after this agent, now, by force."""

from collections.abc import Callable

from seqsup.model.enums import Halt
from seqsup.model.events import HaltRequested

CTRL_C = "Ctrl-C"


class Operator:
    """Remembers the wish and who had it. `told` hears of each new wish once."""

    def __init__(self, told: Callable[[HaltRequested], None]) -> None:
        self._told = told
        self.halt = Halt.NONE
        self.signal: int | None = None  # the one whose 128 + n is the exit code

    def interrupt(self, signum: int) -> None:
        """Ctrl-C: after this agent, then now, then by force."""
        self.wish(Halt(min(self.halt + 1, Halt.KILL)), signum, CTRL_C)

    def done(self) -> None:
        """What was wished is done: the next wish is one of its own."""
        self.halt = Halt.NONE

    def wish(self, halt: Halt, signum: int, by: str) -> None:
        if halt > self.halt:
            self.halt = halt
            self.signal = signum
            self._told(HaltRequested(halt=halt, by=by))
