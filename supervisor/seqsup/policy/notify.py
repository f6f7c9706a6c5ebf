"""Which events become messages to a user, and how many: at most one of a kind in five minutes. Pure."""

from collections.abc import Collection

from msgspec import Struct

from seqsup.model.enums import Notice, OnTimeout
from seqsup.model.events import (
    AgentEnded,
    AnyEvent,
    AttemptEnded,
    Drained,
    LimitPaused,
    RunEnded,
    RunPaused,
    Unkillable,
)
from seqsup.model.reason import CONSEQUENCES, Reason

QUIET = 300.0  # seconds between two messages of a kind
_AT_USAGE_LIMIT = 75  # exit code
_UNSAID = (Reason.HALTED, Reason.USAGE_LIMIT, Reason.NO_CREDIT)  # the user knows of it, or the run's end tells it


def kind(event: AnyEvent, *, continues: bool) -> Notice | None:
    """Return what a user may want to hear an event as. `continues`: other agents run after one that failed."""
    match event:
        case RunEnded(exit_code=0):
            return Notice.DONE
        case RunEnded(exit_code=code):
            stopped = code > 128  # by a user or a signal
            return None if stopped else Notice.USAGE_LIMIT if code == _AT_USAGE_LIMIT else Notice.FAILED
        case LimitPaused():
            return Notice.USAGE_LIMIT
        case AttemptEnded(ok=False, outcome=outcome) if CONSEQUENCES[outcome.reason].memory:
            return Notice.MEMORY
        case AttemptEnded(ok=False, outcome=outcome) if outcome.reason is Reason.STALLED:
            return Notice.STUCK
        case AgentEnded(ok=False, reason=reason) if continues and reason not in _UNSAID:
            return Notice.FAILED
        case Drained(reached=False, on_timeout=OnTimeout.STOP | OnTimeout.CONTINUE) | Unkillable():
            return Notice.STUCK
        case RunPaused(why=why) if not why.startswith(RunPaused.BY_USER):
            return Notice.STUCK
    return None


class Sent(Struct, frozen=True):
    """The messages of a run so far."""

    last: dict[Notice, float] = {}  # kind -> when one was sent, monotonic seconds
    held: dict[Notice, int] = {}  # kind -> messages that were held back since any was sent


class Told(Struct, frozen=True):
    """A message to send now."""

    notice: Notice
    held: dict[Notice, int]  # what was held back before it


def hear(
    sent: Sent, event: AnyEvent, on: Collection[Notice], now: float, *, continues: bool
) -> tuple[Sent, Told | None]:
    """Return what is known after an event, and the message to send, if any. `now` is in monotonic seconds.

    The run's end is never held back: it is also the last chance to tell what was.
    """
    notice = kind(event, continues=continues)
    wanted = notice if notice in on else None
    if isinstance(event, RunEnded):
        wanted = wanted or next(iter(sent.held), None)
    elif wanted is not None and now - sent.last.get(wanted, now - QUIET) < QUIET:
        return Sent(sent.last, {**sent.held, wanted: sent.held.get(wanted, 0) + 1}), None
    if wanted is None:
        return sent, None
    return Sent({**sent.last, wanted: now}), Told(wanted, sent.held)
