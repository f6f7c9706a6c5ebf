"""Checks whether a watch keeps up with its tree, and reacts if it does not."""

from collections.abc import Callable

from seqsup.containment.tree import Tree
from seqsup.host.priority import Precedence
from seqsup.model.events import AnyEvent, Recorded, Warned
from seqsup.model.process import Sample
from seqsup.units import format_duration

_LATE = 0.1  # seconds after it was due that a look ends: then the supervisor takes precedence, if it may
_MANY = 100  # processes of a tree that gives way, if it may not
_CALM = 60.0  # seconds without a late look, until precedence is given up
_BEHIND = 1.0  # seconds; then it is reported


class Punctuality:
    """The looks of one attempt. A watch that falls behind gets more of the processor, and is reported once."""

    def __init__(self, agent: str, emit: Callable[[AnyEvent], Recorded | None]) -> None:
        self._agent, self._emit = agent, emit
        self._precedence = Precedence()
        self._late_at = 0.0
        self._told = False

    def look_ended(self, tree: Tree, sample: Sample, due: float) -> None:
        """Record a look; `due` is its planned start in monotonic seconds."""
        late = sample.at - due
        if late < _LATE:
            if sample.at - self._late_at >= _CALM:
                self._precedence.give_up()
            return
        self._late_at = sample.at
        if not self._precedence.take() and sample.processes >= _MANY:
            tree.give_way()
        if late >= _BEHIND and not self._told:
            self._told = True
            self._emit(
                Warned(
                    message=f"{self._agent}: a look at its processes was {format_duration(late)} late; so may be its"
                    f" memory limits and timeouts. {sample.processes} of its processes are known, and the machine is"
                    " busy: let fewer run at a time"
                )
            )  # fmt: skip

    def close(self) -> None:
        """Let ordinary processes have their turn again: to end takes time on a processor as well."""
        self._precedence.give_up()
