"""What to do about a companion: a step function over looks at it, pure.

phase    | ends when                         | goes to
DUE      | the back-off is over              | STARTING: start it
STARTING | it is ready                       | READY: report that
         | it exited or could not be started | FAILED: stop leftovers; after five failures in a row GIVEN_UP
         | it is not ready in time           | the same
READY    | it exited                         | the same; 60 s after its start, it is the first failure of a row
         | it uses half more than hard       | the same, without a grace: it failed by its memory
FAILED   | its processes are gone            | DUE: wait for the back-off
any      | the run no longer wants it        | ENDED: stop it with its grace
"""

from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from seqsup.model.enums import GcMode, Restart
from seqsup.model.plan import CompanionStart
from seqsup.policy import pacing
from seqsup.policy.retry import backoff
from seqsup.policy.watch import LEFTOVER_GRACE
from seqsup.text import counted
from seqsup.units import format_duration, format_size

FAILURES = 5  # in a row, before it is given up
STEADY = 60.0  # seconds in which it must not fail, for the next failure to be the first of a row
_FIRST_WAIT, _MAX_WAIT = 0.2, 30.0  # seconds of back-off
_FIRST_PAUSE, _MAX_PAUSE, _MIN_PAUSE = 0.02, 0.5, 0.001  # seconds between looks whether it is ready


class CompanionPhase(Enum):
    DUE = auto()
    STARTING = auto()
    READY = auto()
    FAILED = auto()
    GIVEN_UP = auto()
    ENDED = auto()


class CompanionLife(Struct, frozen=True, kw_only=True):
    """State of a companion: the past looks at it, from one restart by the run to the next."""

    phase: CompanionPhase = CompanionPhase.DUE
    since: float = 0.0  # monotonic seconds: when it is due, and from STARTING on when it was started
    failures: int = 0  # in a row
    why: str = ""  # it failed last
    died: bool = False  # at its last failure; else it was not ready, or could not be started
    restart: Restart = Restart.CRASHED  # after its last failure
    grace: float = 0.0  # seconds between TERM and KILL for what is left of it


class CompanionLook(Struct, frozen=True, kw_only=True):
    """One look at a companion. Memory in bytes, time in monotonic seconds."""

    at: float
    wanted: bool = True  # the run has not ended it
    broken: str = ""  # why it could not be started, or how it ended
    died: bool = False  # there was a process of it, and it ended
    oom: str = ""  # the kernel's figures, once it killed in its cgroup
    lacks: str = ""  # what it is not ready for
    used: int = 0


def far_over(hard: int) -> int:
    """Return the bytes at which a companion is stopped at once; above `hard` it is restarted between agents."""
    return hard * 3 // 2


def over_hard(start: CompanionStart, used: int) -> bool:
    """Return whether a companion is to collect, and to be restarted between agents if that does not help."""
    return start.hard is not None and used >= start.hard


def may_collect(start: CompanionStart, *, rested: bool) -> bool:
    """Return whether a look at its memory can end with a collection. `rested`: gc.gap is over since the last one."""
    mode = start.gc.mode
    return mode is not GcMode.OFF and (start.hard is not None or (mode is not GcMode.HIGH and rested))


def collects(start: CompanionStart, agents: int, used: int, *, rested: bool) -> bool:
    """Return whether it is to collect between agents. Below its limit that is vain if it is restarted anyway."""
    if over_hard(start, used):
        return True
    return start.gc.mode is not GcMode.HIGH and rested and agents < start.restart_every


def step(life: CompanionLife, start: CompanionStart, look: CompanionLook) -> CompanionLife:
    """Take one more look into account."""
    if not look.wanted:
        return replace(life, phase=CompanionPhase.ENDED, grace=start.grace)
    match life.phase:
        case CompanionPhase.DUE if look.at >= life.since:
            return replace(life, phase=CompanionPhase.STARTING, since=look.at)
        case CompanionPhase.FAILED:
            wait = backoff(_FIRST_WAIT, _MAX_WAIT, life.failures)
            return replace(life, phase=CompanionPhase.DUE, since=look.at + wait)
        case CompanionPhase.STARTING if why := look.broken or _late(life, start, look):
            return _failed(life, look, why, died=look.died)
        case CompanionPhase.STARTING if not look.lacks:
            return replace(life, phase=CompanionPhase.READY)
        case CompanionPhase.READY if look.broken:
            if look.oom and start.hard is not None:
                why = f"killed by the kernel at {_far_above(far_over(start.hard), start.hard)}; {look.oom}"
                return _failed(life, look, why, died=True, restart=Restart.MEMORY)
            return _failed(life, look, look.broken, died=True)
        case CompanionPhase.READY if start.hard is not None and look.used >= far_over(start.hard):
            why = f"killed at {_far_above(look.used, start.hard)}"
            return _failed(life, look, why, died=True, grace=0.0, restart=Restart.MEMORY)
    return life


def _far_above(used: int, hard: int) -> str:
    return f"{format_size(used)}, far above memory.hard {format_size(hard)}"


def _late(life: CompanionLife, start: CompanionStart, look: CompanionLook) -> str:
    if not look.lacks or look.at - life.since < start.ready.timeout:
        return ""
    return f"it was not ready after {format_duration(start.ready.timeout)}: {look.lacks}"


def _failed(
    life: CompanionLife, look: CompanionLook, why: str, *, died: bool, grace: float = LEFTOVER_GRACE,
    restart: Restart = Restart.CRASHED,
) -> CompanionLife:  # fmt: skip
    failures = 1 if look.at - life.since >= STEADY else life.failures + 1
    phase = CompanionPhase.GIVEN_UP if failures >= FAILURES else CompanionPhase.FAILED
    return replace(life, phase=phase, failures=failures, why=why, died=died, grace=grace, restart=restart)


def why_given_up(life: CompanionLife) -> str:
    """Say why a companion is not restarted."""
    ended = "was killed" if life.restart is Restart.MEMORY else "crashed"
    what = f"{ended} {life.failures} times in a row" if life.died else f"failed to start {life.failures} times"
    return f"{what}; last time: {life.why}"


def pause(life: CompanionLife, start: CompanionStart, look: CompanionLook, rate: float, cpus: int) -> float:
    """Return the seconds until the next look. `rate` is the growth of its tree in bytes/s."""
    if life.phase is CompanionPhase.DUE:
        return max(life.since - look.at, _MIN_PAUSE)
    if life.phase is CompanionPhase.READY:
        return pacing.until_full(None if start.hard is None else far_over(start.hard) - look.used, rate, cpus)
    waited, delay = look.at - life.since, start.ready.delay
    seconds = min(max(waited, _FIRST_PAUSE), _MAX_PAUSE)
    if delay is None or waited >= delay:
        return seconds
    return max(min(seconds, delay - waited), _MIN_PAUSE)


def restart_due(start: CompanionStart, agents: int, used: int, collected: str) -> tuple[Restart, str] | None:
    """Say whether it is to be restarted before the next agent, and why.

    `agents` used it since its start. `used` is in bytes, `collected` says what came of the last collection.
    """
    if agents and over_hard(start, used):
        hard = format_size(start.hard or 0)
        return Restart.MEMORY, f"its tree uses {format_size(used)}{collected} (memory.hard {hard})"
    if agents >= start.restart_every:
        return Restart.EVERY_N, f"{counted(agents, 'agent')} since its start"
    return None
