"""What to do about a running tree: a step function over its samples, pure.

phase     | ends when                       | goes to
RUNNING   | leader gone, tree empty         | END
          | leader gone, others live        | LINGERING (or END where leftovers may stay)
          | timeout, stalled, budget, halt  | STOPPING, TERM to the tree
          | over soft for `sustain`         | RUNNING, COLLECT, where a Node process answers; else STOPPING, TERM
          |  still over `settle` later      | STOPPING, TERM (a collection that is not over is waited for)
          |  of an agent that is spared     | RUNNING, SPARE, again each second; after `VICTIMS` in a row STOPPING, TERM
          | hard, of one that is spared     | RUNNING, SPARE, at each look; after as many KILLING, as below
          |  or the kernel killed in it      | RUNNING, SPARE, once it is known which process that was; else KILLING
          |  back within 60 s, at most 4 ×  | RUNNING, COLLECT, `gap` after the last; the fifth time STOPPING, TERM
          |  a heap snapshot is wanted      | STOPPING, SNAPSHOT; TERM once it is over
          | over warn, if `early`           | RUNNING, COLLECT, `gap` after the last was over
LINGERING | 0.25 s over                     | SWEEPING, TERM to the leftovers
STOPPING  | its share of grace over, or     | STOPPING, TERM: the next signal of `stop`, where there are several
          |  the leader gone
STOPPING, | tree empty                      | END
SWEEPING  | grace over                      | KILLING
any       | hard, host floor, processes,    | KILLING, KILL to the tree until it is empty
          | (side by side the floor is for the largest; for all, below half of it)
KILLING   | 10 s over                       | ABANDONED (uninterruptible sleep): END, and named
"""

from enum import Enum, auto
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from seqsup.model.enums import Halt
from seqsup.model.plan import Limits
from seqsup.model.process import Sample
from seqsup.model.profile import Timeouts
from seqsup.model.reason import Reason
from seqsup.policy.spare import VICTIMS
from seqsup.policy.stall import AUTO_STALL
from seqsup.units import GIB, MIB, format_duration, format_size, told_apart

LINGER = 0.25  # all eight MCP servers measured were gone 0.13 s after their client
LEFTOVER_GRACE = 2.0  # a leftover process gets no time to finish
KILL_DEADLINE = 10.0
LEAVE = 2.0  # seconds in which a killed process gives back its memory
OOM_SETTLE = 0.1  # seconds after which a process that the kernel killed has no memory
SPARE_PACE = 1.0  # seconds between two processes killed over soft
LASTING = 60.0  # a collection that kept it below soft for so long was of use
COMEBACKS = 5
GC_PACE = 20.0  # seconds a GiB, for a heap of which all is needed; on a quiet machine 6
_STIR = 4 * MIB  # a tree that grew by no more than that is idle
_EMPTY_PASSES = 2  # one look missed survivors in 14 of 15 fork bombs


class Phase(Enum):
    RUNNING = auto()
    LINGERING = auto()
    SWEEPING = auto()
    STOPPING = auto()
    KILLING = auto()
    ENDED = auto()
    ABANDONED = auto()


class Action(Enum):
    WAIT = auto()
    WARN = auto()
    COLLECT = auto()
    SNAPSHOT = auto()
    SPARE = auto()  # kill a process of a tool, or accept that the kernel did; else step again without rules.spare
    TERMINATE = auto()
    KILL = auto()
    END = auto()


class Rules(Struct, frozen=True, kw_only=True):
    """Rules of the profile for one attempt."""

    limits: Limits
    timeouts: Timeouts
    sweep: bool
    snapshot: bool = False  # of a heap, before what is over soft is terminated
    processes: int | None = None  # the most that it may have
    collects: bool = True  # before what is over soft is terminated
    early: bool = False  # it collects over warn too
    gap: float = 10.0  # seconds between collections: each stops the agent for up to seconds
    spare: bool = False  # a process of a tool is killed before the tree is stopped
    leaps: bool = False  # it may grow by huge pages, and no kernel keeps hard
    stop: tuple[str, ...] = ("TERM",)  # signals that end it, in order, each with its share of the grace period

    @property
    def stall(self) -> float | None:
        """Longest time without a sign of life, in seconds."""
        stall = self.timeouts.stall
        return AUTO_STALL if isinstance(stall, str) else stall


class Watch(Struct, frozen=True, kw_only=True):
    """State of the watch over one attempt: the past samples."""

    started: float
    phase: Phase = Phase.RUNNING
    since: float = 0.0  # when the phase began
    reason: Reason | None = None  # why we ended it; None while, or when, it ended by itself
    why: str = ""
    note: str = ""  # what the last signal was sent for, its own cause or not
    over_soft_since: float | None = None
    asked: float | None = None  # when the last collection was requested
    early: float | None = None  # when one was requested below soft
    settling: bool = False  # it may still bring the tree below soft
    comebacks: int = 0  # collections in a row without a lasting effect
    tools_ended: int = 0  # processes in a row that were killed to spare the others
    tool_ended_at: float = -inf
    oom_at: float | None = None  # when the kernel killed in it, until it is known which process
    tool_ended_for: Reason | None = None  # of the last one
    warned: bool = False  # or was over soft, which is reported instead
    stops: int = 0  # how many of the signals that end it are due
    snapping: bool = False  # TERM waits until a heap snapshot is over; grace runs meanwhile
    empty: int = 0  # looks in a row that found no process
    peak: int = 0
    level: int = 0  # the least that it held since it last grew
    level_since: float = inf


def step(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    """Take one more sample into account, and say what is to be done."""
    over_soft_since = _over_soft_since(watch, rules.limits.soft, sample)
    grew = sample.used > watch.level + _STIR
    watch = replace(
        watch,
        level=sample.used if grew else min(watch.level, sample.used),
        level_since=sample.at if grew else watch.level_since,
        peak=max(watch.peak, sample.used),
        over_soft_since=over_soft_since,
        warned=watch.warned or over_soft_since is not None,
        settling=watch.settling and over_soft_since is not None,
        empty=watch.empty + 1 if sample.root_exited and not sample.processes else 0,
    )
    if watch.empty >= (1 if sample.childless else _EMPTY_PASSES):
        return replace(watch, phase=Phase.ENDED), Action.END
    if watch.empty:
        return watch, Action.WAIT
    if watch.phase is Phase.KILLING:
        return _kill_on(watch, sample)
    if breach := _at_once(watch, rules, sample) or _too_many(rules.processes, sample):
        if breach[0] in (Reason.HARD, Reason.KERNEL_OOM) and _may_spare(watch, rules, sample):
            if breach[0] is Reason.KERNEL_OOM:
                watch = replace(watch, oom_at=sample.at if watch.oom_at is None else watch.oom_at)
                if sample.at - (watch.oom_at or 0.0) < OOM_SETTLE:
                    return watch, Action.WAIT
            return _spare(watch, sample, breach), Action.SPARE
        return _stop(watch, Phase.KILLING, sample, breach), Action.KILL
    match watch.phase:
        case Phase.RUNNING:
            return _run_on(watch, rules, sample)
        case Phase.LINGERING:
            return _linger_on(watch, sample)
        case Phase.SWEEPING:
            return _until_grace(watch, sample, min(LEFTOVER_GRACE, rules.timeouts.grace))
        case Phase.STOPPING:
            return _stop_on(watch, rules, sample)
        case Phase.KILLING | Phase.ENDED | Phase.ABANDONED:
            raise AssertionError("unreachable")


def _over_soft_since(watch: Watch, soft: int | None, sample: Sample) -> float | None:
    if soft is None or sample.used < soft:
        return None
    return sample.at if watch.over_soft_since is None else watch.over_soft_since


def _at_once(watch: Watch, rules: Rules, sample: Sample) -> tuple[Reason, str] | None:
    limits = rules.limits
    if sample.kernel_oom and not (rules.spare and sample.root_exited):  # its exit shows whether it was killed
        why = f"the kernel killed a process of it: its cgroup or machine ran out of memory ({sample.kernel_oom})"
        return Reason.KERNEL_OOM, why
    leaving = sample.leaving if sample.at - watch.tool_ended_at < LEAVE else 0
    if limits.hard is not None and sample.used - leaving >= limits.hard:
        return Reason.HARD, _why_hard(format_size(sample.used), format_size(limits.hard), sample.figure)
    if limits.host_floor is not None and sample.host_available < limits.host_floor // (2 if sample.spared else 1):
        has, floor = told_apart(sample.host_available, limits.host_floor)
        return Reason.HOST_FLOOR, (
            f"the host had {has} available, below memory.host_floor {floor}; the tree used {format_size(sample.used)}"
        )
    if sample.halt is Halt.KILL:
        return Reason.HALTED, "killed by the user"
    return None


def _too_many(most: int | None, sample: Sample) -> tuple[Reason, str] | None:
    if most is None or sample.processes <= most:
        return None
    return Reason.PROCESSES, f"the tree had {sample.processes} processes, more than rlimits.processes {most}"


def _why_hard(used: str, hard: str, figure: str) -> str:
    by = f" by {figure}" if figure else ""
    if used == hard:
        return f"the tree reached memory.hard {hard}{by}"
    return f"the tree reached {used}{by} (memory.hard {hard})"


def _run_on(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    if sample.root_exited:
        if not rules.sweep:
            return replace(watch, phase=Phase.ENDED), Action.END
        return replace(watch, phase=Phase.LINGERING, since=sample.at), Action.WAIT
    if breach := _in_time(watch, rules, sample):
        return _stop(watch, Phase.STOPPING, sample, breach), Action.TERMINATE
    if _sustained(watch, rules.limits, sample):
        return _over_soft(watch, rules, sample)
    warn = rules.limits.warn
    if warn is None or sample.used < warn:
        return watch, Action.WAIT
    if not watch.warned:
        return replace(watch, warned=True), Action.WARN
    if rules.early and watch.over_soft_since is None and sample.collectable and _rested(watch, rules, sample):
        return replace(watch, early=sample.at), Action.COLLECT
    return watch, Action.WAIT


def _in_time(watch: Watch, rules: Rules, sample: Sample) -> tuple[Reason, str] | None:
    timeouts = rules.timeouts
    if sample.halt is Halt.NOW:
        return Reason.HALTED, "stopped by the user"
    if timeouts.wall is not None and sample.at - watch.started >= timeouts.wall:
        return Reason.TIMEOUT, f"it ran longer than timeouts.wall {format_duration(timeouts.wall)}"
    if sample.spent:
        return Reason.BUDGET, sample.spent
    if rules.stall is not None and sample.quiet >= rules.stall:
        auto = isinstance(timeouts.stall, str)
        what, limit = ("output and no CPU use", "auto") if auto else ("output", format_duration(rules.stall))
        return Reason.STALLED, f"no {what} for {format_duration(sample.quiet)} (timeouts.stall {limit})"
    return None


def _sustained(watch: Watch, limits: Limits, sample: Sample) -> bool:
    return watch.over_soft_since is not None and sample.at - watch.over_soft_since >= limits.sustain


def _over_soft(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    """Ask for a collection, give it its time, and stop the tree where none can be had or none helps."""
    since_asked = sample.at - watch.asked if watch.asked is not None else None
    comebacks = watch.comebacks + 1 if since_asked is not None and since_asked < LASTING else 0
    if watch.settling and since_asked is not None:
        if since_asked < settle(watch, rules.limits, sample):
            return watch, Action.WAIT
    elif sample.collectable and rules.collects and comebacks < COMEBACKS:
        if sample.at - last_asked(watch) < rules.gap:
            return watch, Action.WAIT
        return replace(watch, asked=sample.at, settling=True, comebacks=comebacks), Action.COLLECT
    breach = (Reason.SOFT, _why_soft(watch, rules.limits, sample, comebacks))
    if sample.at - watch.tool_ended_at < SPARE_PACE:
        return watch, Action.WAIT
    if _may_spare(watch, rules, sample):
        return _spare(watch, sample, breach), Action.SPARE
    watch = _stop(watch, Phase.STOPPING, sample, breach)
    if rules.snapshot and sample.collectable:
        return replace(watch, snapping=True), Action.SNAPSHOT
    return watch, Action.TERMINATE


def _may_spare(watch: Watch, rules: Rules, sample: Sample) -> bool:
    runs = watch.phase is Phase.RUNNING and not sample.root_exited and sample.halt < Halt.NOW
    return rules.spare and runs and _in_a_row(watch, sample) < VICTIMS


def _in_a_row(watch: Watch, sample: Sample) -> int:
    return watch.tools_ended if sample.at - watch.tool_ended_at < LASTING else 0


def _spare(watch: Watch, sample: Sample, breach: tuple[Reason, str]) -> Watch:
    reason, why = breach
    ended = _in_a_row(watch, sample) + 1
    return replace(watch, tools_ended=ended, oom_at=None, tool_ended_at=sample.at, tool_ended_for=reason, note=why)


def last_asked(watch: Watch) -> float:
    """Return when the last collection was requested; -inf if none was."""
    return max(-inf if asked is None else asked for asked in (watch.asked, watch.early))


def _rested(watch: Watch, rules: Rules, sample: Sample) -> bool:
    """Return whether the last collection has been over for the gap, so that it takes no large share of the time."""
    asked, last = last_asked(watch), sample.collection
    if asked == -inf:
        return True
    return last is not None and asked <= last.at + last.seconds <= sample.at - rules.gap


def settle(watch: Watch, limits: Limits, sample: Sample) -> float:
    """Seconds that a collection may take. One that is not over by `settle` is worth more: nothing grows meanwhile."""
    return limits.settle if _collected(watch, sample) else limits.settle + GC_PACE * sample.used / GIB


def _collected(watch: Watch, sample: Sample) -> bool:
    """Return whether the last requested collection is over."""
    last = sample.collection
    return watch.asked is not None and last is not None and last.at + last.seconds >= watch.asked


def _why_soft(watch: Watch, limits: Limits, sample: Sample, comebacks: int) -> str:
    assert watch.over_soft_since is not None
    over = sample.at - watch.over_soft_since
    soft, by = format_size(limits.soft or 0), f" by {sample.figure}" if sample.figure else ""
    why = f"the tree was above memory.soft {soft} for {format_duration(over)} (now {format_size(sample.used)}{by})"
    if watch.asked is None:
        return why
    ago, last = format_duration(sample.at - watch.asked), sample.collection
    if last is None or not _collected(watch, sample):
        why += f"; a GC requested {ago} ago has not finished"
    else:
        why += f", {ago} after a GC that freed {format_size(last.freed)}"
    if comebacks >= COMEBACKS:
        why += f", the {comebacks}th in a row, none of which kept it below for {format_duration(LASTING)}"
    return why


def _linger_on(watch: Watch, sample: Sample) -> tuple[Watch, Action]:
    waited = sample.at - watch.since
    if waited < LINGER and sample.halt < Halt.NOW:
        return watch, Action.WAIT
    note = f"{sample.processes} leftover processes {format_duration(waited)} after the agent exited"
    return replace(watch, phase=Phase.SWEEPING, since=sample.at, note=note), Action.TERMINATE


def _stop_on(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    watch, action = _until_grace(watch, sample, rules.timeouts.grace)
    if action is not Action.WAIT:
        return watch, action
    if watch.snapping:
        return (watch, action) if sample.snapping else (replace(watch, snapping=False), Action.TERMINATE)
    share = rules.timeouts.grace * watch.stops / len(rules.stop)
    if watch.stops < len(rules.stop) and (sample.root_exited or sample.at - watch.since >= share):
        return replace(watch, stops=watch.stops + 1), Action.TERMINATE
    return watch, action


def _until_grace(watch: Watch, sample: Sample, grace: float) -> tuple[Watch, Action]:
    if sample.at - watch.since < grace:
        return watch, Action.WAIT
    note = f"{sample.processes} still running {format_duration(grace)} after SIGTERM"
    return replace(watch, phase=Phase.KILLING, since=sample.at, note=note), Action.KILL


def _kill_on(watch: Watch, sample: Sample) -> tuple[Watch, Action]:
    if sample.at - watch.since < KILL_DEADLINE:
        return watch, Action.KILL
    return replace(watch, phase=Phase.ABANDONED), Action.END


def _stop(watch: Watch, phase: Phase, sample: Sample, breach: tuple[Reason, str]) -> Watch:
    """Begin to stop the tree. The first cause wins, and none is given to what had ended by itself."""
    reason, why = breach
    if watch.phase is Phase.RUNNING:
        watch = replace(watch, reason=reason, why=why, stops=1)
    return replace(watch, phase=phase, since=sample.at, note=why)
