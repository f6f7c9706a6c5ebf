"""What to do about a companion: a step function over looks at it, pure.

phase    | ends when                                    | goes to
DUE      | the back-off is over                         | STARTING, START
STARTING | ready                                        | READY, TELL_READY
         | it ended, or is not ready in time            | FAILED, or GIVEN_UP after five failures in a row
READY    | it ended, or uses half more than memory.hard | the same; a failure after 60 s is the first of a row
FAILED   | its processes are gone                       | DUE
any      | the run no longer wants it                   | ENDED: stopped with its grace
"""

from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from seqsup.policy.retry import backoff
from seqsup.units import format_duration, format_size

FAILURES = 5  # in a row, before it is given up
STEADY = 60.0  # seconds in which it must not fail, for the next failure to be the first of a row
_FIRST_WAIT, _MAX_WAIT = 0.2, 30.0  # seconds of back-off


class CompanionPhase(Enum):
    DUE = auto()
    STARTING = auto()
    READY = auto()
    FAILED = auto()
    GIVEN_UP = auto()
    ENDED = auto()


class CompanionLife(Struct, frozen=True, kw_only=True):
    """What the past looks at a companion amount to, from one restart by the run to the next."""

    phase: CompanionPhase = CompanionPhase.DUE
    since: float = 0.0  # monotonic seconds; of STARTING also while it is READY
    failures: int = 0  # in a row
    why: str = ""  # it failed last
    died: bool = False  # at its last failure; else it was not ready, or could not be started


class CompanionLook(Struct, frozen=True, kw_only=True):
    """One look at a companion. Memory in bytes, time in monotonic seconds."""

    at: float
    wanted: bool = True  # the run has not ended it
    broken: str = ""  # why it could not be started, or how it ended
    died: bool = False  # there was a process of it, and it ended
    lacks: str = ""  # what it is not ready for
    used: int = 0


class CompanionRules(Struct, frozen=True, kw_only=True):
    hard: int | None  # bytes
    ready_timeout: float  # seconds


def far_over(hard: int) -> int:
    """Return the bytes at which a companion is stopped at once; above `hard` it is restarted between agents."""
    return hard * 3 // 2


def step(life: CompanionLife, rules: CompanionRules, look: CompanionLook) -> CompanionLife:
    """Take one more look into account."""
    if not look.wanted:
        return replace(life, phase=CompanionPhase.ENDED)
    match life.phase:
        case CompanionPhase.DUE if look.at >= life.since:
            return replace(life, phase=CompanionPhase.STARTING, since=look.at)
        case CompanionPhase.FAILED:
            wait = backoff(_FIRST_WAIT, _MAX_WAIT, life.failures)
            return replace(life, phase=CompanionPhase.DUE, since=look.at + wait)
        case CompanionPhase.STARTING | CompanionPhase.READY if why := _failure(life, rules, look):
            return _failed(life, look, why)
        case CompanionPhase.STARTING if not look.lacks:
            return replace(life, phase=CompanionPhase.READY)
    return life


def _failure(life: CompanionLife, rules: CompanionRules, look: CompanionLook) -> str:
    if look.broken:
        return look.broken
    if life.phase is CompanionPhase.STARTING and look.lacks and look.at - life.since >= rules.ready_timeout:
        return f"it was not ready after {format_duration(rules.ready_timeout)}: {look.lacks}"
    if life.phase is CompanionPhase.READY and rules.hard is not None and look.used >= far_over(rules.hard):
        return f"its tree reached {format_size(look.used)}, far over memory.hard {format_size(rules.hard)}"
    return ""


def _failed(life: CompanionLife, look: CompanionLook, why: str) -> CompanionLife:
    failures = 1 if look.at - life.since >= STEADY else life.failures + 1
    phase = CompanionPhase.GIVEN_UP if failures >= FAILURES else CompanionPhase.FAILED
    return replace(life, phase=phase, failures=failures, why=why, died=look.died)
