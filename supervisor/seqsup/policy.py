"""Every decision of a run, pure: what is known goes in, an action or a word comes out. No clock, no os, no log.

About a running tree, by its samples:

phase     | ends when                       | goes to
RUNNING   | leader gone, tree empty         | END
          | leader gone, others live        | LINGERING (or END where leftovers may stay)
          | timeout, stalled, halt          | STOPPING, TERM to the tree
          | over soft for `sustain`         | RUNNING, COLLECT, where a Node process answers; else STOPPING, TERM
          |  still over `settle` later      | STOPPING, TERM (a collection that is not over is waited for)
          |  back within 60 s, at most 4 ×  | RUNNING, COLLECT, 10 s after the last; the fifth time STOPPING, TERM
          |  a heap snapshot is wanted      | STOPPING, SNAPSHOT; TERM once it is over
LINGERING | 0.25 s over                     | SWEEPING, TERM to the leftovers
STOPPING, | tree empty                      | END
SWEEPING  | grace over                      | KILLING
any       | hard, host floor, halt by force | KILLING, KILL to the tree until it is empty
          | (side by side the floor is for the largest; for all, below half of it)
KILLING   | 10 s over                       | ABANDONED (uninterruptible sleep): END, and named
"""

from collections.abc import Mapping
from enum import Enum, auto
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from seqsup.model import GIB, MIB, Halt, Limits, OnUsageLimit, Outcome, Reason, Retry, Sample, Timeouts
from seqsup.units import format_duration, format_size, told_apart

LINGER = 0.25  # all eight MCP servers measured were gone 0.13 s after their client
LEFTOVER_GRACE = 2.0  # nobody waits for what a leftover still does
KILL_DEADLINE = 10.0
DISK_FLOOR = 256 * MIB  # "auto", on a disk of 5 GiB and more
UNKNOWN_RESET = 900.0  # seconds until a usage limit is tried again that does not say when it resets
_FILL_RATE = 2000 * MIB  # bytes/s one process was seen to grow at
_HUGE_RATE = 10_000 * MIB  # by huge pages, of memory that the host has at hand
_PAST = 0.02  # of hard: by as much may that pass it
_WHIM = 0.95  # of what was available: a host's figure is never the same twice
_STILL, _STIR = 1.0, 4 * MIB  # a tree stands still that for so long has grown by no more than that
_MIN_PAUSE, _FIRST_PAUSE, _MAX_PAUSE = 0.001, 0.02, 1.0
_BUSY_OFF = 0.01  # seconds by which the difference of two figures of hundredths may be wrong
FAR = 0.03  # seconds between two looks: below, to ask how busy the host was spares none
COLLECT_EVERY = 10.0  # a collection stops the agent for up to seconds
GIVES_BACK = 1.0  # seconds: RSS reads 0 up to half of one before the memory is back
FRESH = 2.0  # seconds; a look comes after one at the latest
LASTING = 60.0  # a collection that kept it below soft for so long was of use
COMEBACKS = 5
GC_PACE = 20.0  # seconds a GiB, for a heap of which all is needed; on a quiet machine 6
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
    TERMINATE = auto()
    KILL = auto()
    END = auto()


class Rules(Struct, frozen=True, kw_only=True):
    """What of the profile governs one attempt."""

    limits: Limits
    timeouts: Timeouts
    sweep: bool
    snapshot: bool = False  # of a heap, before what is over soft is terminated
    leaps: bool = False  # it may grow by huge pages, and no kernel keeps hard


class Watch(Struct, frozen=True, kw_only=True):
    """What the past samples of one attempt amount to."""

    started: float
    phase: Phase = Phase.RUNNING
    since: float = 0.0  # when the phase began
    reason: Reason | None = None  # why we ended it; None while, or when, it ended by itself
    why: str = ""
    note: str = ""  # what the last signal was sent for, its own cause or not
    over_soft_since: float | None = None
    asked: float | None = None  # when the last collection was asked for
    settling: bool = False  # it may still bring the tree below soft
    comebacks: int = 0  # collections in a row whose effect did not last
    warned: bool = False
    snapping: bool = False  # TERM is held back until a heap snapshot is over; grace goes on
    empty: int = 0  # looks in a row that found nobody
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
        settling=watch.settling and over_soft_since is not None,
        empty=watch.empty + 1 if sample.root_exited and not sample.processes else 0,
    )
    if watch.empty >= (1 if sample.childless else _EMPTY_PASSES):
        return replace(watch, phase=Phase.ENDED), Action.END
    if watch.empty:
        return watch, Action.WAIT
    if watch.phase is Phase.KILLING:
        return _kill_on(watch, sample)
    if breach := _at_once(rules.limits, sample):
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


def pause(watch: Watch, rules: Rules, sample: Sample, rate: float, cpus: int) -> float:
    """Seconds until the tree is measured again: half the time in which a limit could be reached.

    `rate` is the growth seen between the last two samples, in bytes/s. Where a tree stands still there is no rate that
    could double, and only the fastest known one to be met: then three quarters of its time to `hard`.
    Measured with these figures: overshoot at most 7 MiB at 1.8-3.4 GiB/s, 0.05-0.2 % of a core while idle.
    """
    until_near = _until_near(watch, rules, sample, _worst(rate, cpus), 0.0)
    return max(min(until_near, unmoved(watch, rules, sample, rate, cpus)), _MIN_PAUSE)


def unmoved(watch: Watch, rules: Rules, sample: Sample, rate: float, cpus: int) -> float:
    """Seconds until the next sample, if the tree holds the very same whenever it is measured meanwhile."""
    if watch.phase is Phase.KILLING or watch.empty:
        return _MIN_PAUSE
    limits, timeouts = rules.limits, rules.timeouts
    waits = [_MAX_PAUSE]
    if limits.host_floor is not None:
        waits += [(sample.host_available - limits.host_floor) / _worst(rate, cpus) / 2]
    if watch.phase is Phase.RUNNING:
        # A short agent is looked at in the last fifth of its life too, lest what it began with be its peak
        waits += [max((sample.at - watch.started) / 4, _FIRST_PAUSE)]
        waits += _until_deadlines(watch, rules, sample)
    elif watch.phase is Phase.LINGERING:
        waits += [0.005]
    else:
        waits += [0.02, watch.since + timeouts.grace - sample.at]
    return max(min(waits), _MIN_PAUSE)


def still_for(watch: Watch, rules: Rules, sample: Sample, busy: float, cpus: int) -> float:
    """Seconds from now for which a tree that held this need not be measured, as who does not run does not grow.

    `busy` is how long all processors together have worked since it did. 0 where that is too long to tell.
    """
    if busy < 0:
        return 0.0
    seconds = _until_near(watch, rules, sample, _worst(0.0, cpus), busy + _BUSY_OFF)
    return seconds if seconds >= FAR else 0.0


def _until_near(watch: Watch, rules: Rules, sample: Sample, worst: float, busy: float) -> float:
    """Seconds until the tree is to be measured again, that may have worked for `busy` since it was."""
    if (hard := rules.limits.hard) is None:
        return inf
    room = hard - sample.used
    share = 3 / 4 if sample.at - watch.level_since >= _STILL else 1 / 2
    seconds = (room * share - busy * 2 * _FILL_RATE) / worst
    return min(seconds, (room + hard * _PAST) / _HUGE_RATE - busy) if rules.leaps else seconds


def _worst(rate: float, cpus: int) -> float:
    return max(_FILL_RATE * min(cpus, 3), 2 * rate)


def until_trim(rate: float, most: int) -> float:
    """Seconds until output that grows by `rate` bytes/s is to be looked at again, lest it take twice its bound."""
    return min(max(most / rate / 2, _MIN_PAUSE), _MAX_PAUSE) if rate > 0 else _MAX_PAUSE


def renewal_due(own: int, first: int) -> bool:
    """Say whether the supervisor has grown enough to begin anew. `first` is what it held after its first chain."""
    return own > max(64 * MIB, first * 3 // 2)


def no_room(*, room: int, most: int, need: int | None, floor: int | None, claimed: int | None) -> str:
    """Say what stands against the start of an agent, in words and numbers; empty when nothing does.

    `room` is what may be taken now and `most` what it was before the run. `claimed` is what running agents may take
    beyond what they have; None: none runs, and then nobody is asked for more than there ever was, so that waiting
    can have an end.
    """
    least = floor or 0
    if room < least:
        return "{} are available, below memory.host_floor {}".format(*told_apart(room, least))
    if need is None:
        return ""
    if claimed is None:
        need = min(need, max(int(most * _WHIM) - least, 0))
    if room >= need + (claimed or 0) + least:
        return ""
    others = f", running agents {format_size(claimed)} more" if claimed is not None else ""
    above = f" above memory.host_floor {format_size(least)}" if least else ""
    return f"it may take {format_size(need)}{others}{above}, and {format_size(room)} are available"


def spared(agent: str, seen: Mapping[str, Sample], stopped: Mapping[str, float], now: float) -> bool:
    """Say whether another agent is stopped for the host's floor first: one that holds more, or just gives back.

    `seen` are the last looks at all that the floor is for, `stopped` says since when who is stopped for it.
    """
    if agent in stopped:
        return False
    if any(now - since < GIVES_BACK for since in stopped.values()):
        return True
    held = {other: sample.used for other, sample in seen.items() if other not in stopped and now - sample.at < FRESH}
    return agent != max(held, key=held.__getitem__, default=agent)


def far_over(hard: int) -> int:
    """Where a companion is stopped at once; above `hard` itself it is restarted between agents."""
    return hard * 3 // 2


def until_full(room: int | None, rate: float, cpus: int) -> float:
    """Seconds until the next look at a tree that may take this many bytes more; None: any. See `pause`."""
    if room is None:
        return _MAX_PAUSE
    return min(max(room / _worst(rate, cpus) / 2, _MIN_PAUSE), _MAX_PAUSE)


def retryable(retry: Retry, expect: tuple[Reason, ...], outcome: Outcome, halt: Halt, now: float = 0.0) -> bool:
    """Say whether another attempt may help. `now` is of the epoch."""
    if outcome.reason in expect or halt >= Halt.NOW:
        return False
    if outcome.reason is Reason.USAGE_LIMIT:
        return retry.usage_limit is OnUsageLimit.WAIT or _soon(retry, outcome, now)
    return outcome.blames_us or outcome.reason in retry.on


def costless(retry: Retry, outcome: Outcome) -> bool:
    """Say whether the attempt does not count: it could not have gone well, and the next one may."""
    return outcome.blames_us or awaited(retry, outcome)


def awaited(retry: Retry, outcome: Outcome) -> bool:
    """Say whether the profile wants its usage limit to be waited for, however long that takes."""
    return outcome.reason is Reason.USAGE_LIMIT and retry.usage_limit is OnUsageLimit.WAIT


def retry_wait(outcome: Outcome, backoff: float, now: float) -> float:
    """Seconds until the next attempt; `backoff` is what the number of attempts asks for, `now` is of the epoch."""
    if outcome.reason is not Reason.USAGE_LIMIT:
        return 0.0 if outcome.blames_us else backoff
    until = now + UNKNOWN_RESET if outcome.resets_at is None else outcome.resets_at
    return max(until - now, backoff)


def _soon(retry: Retry, outcome: Outcome, now: float) -> bool:
    """A limit by the minute is no more than a reason to wait as usual."""
    return outcome.resets_at is not None and outcome.resets_at - now <= retry.max_wait


def next_heap(heap: int | None, ceiling: int | None, grow: float, reason: Reason) -> int | None:
    """The heap limit of the next attempt: grown after the heap ran out, as far as fits under the hard limit."""
    if heap is None or reason is not Reason.HEAP_OOM:
        return heap
    grown = int(heap * grow)
    return max(heap, min(grown, ceiling)) if ceiling is not None else grown


def ok(reason: Reason, expect: tuple[Reason, ...]) -> bool:
    return reason is Reason.COMPLETED or reason in expect


def drained(
    *, available: int, owned: int, need_available: int | None, threshold: int | None, unkilled: Mapping[int, int]
) -> str:
    """Say what is still missing, in words and numbers; empty when memory is back.

    `unkilled` survived SIGKILL: bytes by pid.
    """
    missing = [f"pid {pid} took SIGKILL, still there with {format_size(size)}" for pid, size in unkilled.items()]
    if need_available is not None and available < need_available:
        has, needed = told_apart(available, need_available)
        missing.append(f"the host has {has} available, of {needed} that must be back")
    if threshold is not None and owned > threshold:
        most, has = told_apart(threshold, owned)
        missing.append(f"this run still owns {has}, over drain.threshold {most}")
    return "; ".join(missing)


def disk_too_full(free: int, total: int, floor: int | str | None) -> str:
    """Say that a disk has too little room to start an agent, with the numbers; empty when it has enough."""
    if floor is None:
        return ""
    least = min(DISK_FLOOR, total // 20) if isinstance(floor, str) else floor
    if free >= least:
        return ""
    has, wanted = format_size(free), format_size(least)
    return f"the disk of the state folder has {has} free, below run.disk_floor {wanted}; free some, and it goes on"


def _over_soft_since(watch: Watch, soft: int | None, sample: Sample) -> float | None:
    if soft is None or sample.used < soft:
        return None
    return sample.at if watch.over_soft_since is None else watch.over_soft_since


def _at_once(limits: Limits, sample: Sample) -> tuple[Reason, str] | None:
    if sample.kernel_oom:
        return Reason.KERNEL_OOM, f"the kernel killed in it for want of memory ({sample.kernel_oom})"
    if limits.hard is not None and sample.used >= limits.hard:
        return Reason.HARD, _why_hard(format_size(sample.used), format_size(limits.hard))
    if limits.host_floor is not None and sample.host_available < limits.host_floor // (2 if sample.spared else 1):
        has, floor = told_apart(sample.host_available, limits.host_floor)
        return Reason.HOST_FLOOR, (
            f"the host had {has} available, below memory.host_floor {floor}; its tree was {format_size(sample.used)}"
        )
    if sample.halt is Halt.KILL:
        return Reason.HALTED, "stopped by the operator, by force"
    return None


def _why_hard(used: str, hard: str) -> str:
    return f"its tree reached memory.hard {hard}" if used == hard else f"its tree reached {used} (memory.hard {hard})"


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
    if warn is not None and sample.used >= warn and not watch.warned:
        return replace(watch, warned=True), Action.WARN
    return watch, Action.WAIT


def _in_time(watch: Watch, rules: Rules, sample: Sample) -> tuple[Reason, str] | None:
    timeouts = rules.timeouts
    if sample.halt is Halt.NOW:
        return Reason.HALTED, "stopped by the operator"
    if timeouts.wall is not None and sample.at - watch.started >= timeouts.wall:
        return Reason.TIMEOUT, f"it ran longer than timeouts.wall {format_duration(timeouts.wall)}"
    if timeouts.stall is not None and sample.quiet >= timeouts.stall:
        return Reason.STALLED, (
            f"no output for {format_duration(sample.quiet)} (timeouts.stall {format_duration(timeouts.stall)})"
        )
    return None


def _sustained(watch: Watch, limits: Limits, sample: Sample) -> bool:
    return watch.over_soft_since is not None and sample.at - watch.over_soft_since >= limits.sustain


def _over_soft(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    """Ask for a collection, give it its time, and stop the tree where none can be had or none helps."""
    since_asked = sample.at - watch.asked if watch.asked is not None else None
    comebacks = watch.comebacks + 1 if since_asked is not None and since_asked < LASTING else 0
    if watch.settling and since_asked is not None:
        if since_asked < _settle(watch, rules.limits, sample):
            return watch, Action.WAIT
    elif sample.collectable and comebacks < COMEBACKS:
        if since_asked is not None and since_asked < COLLECT_EVERY:
            return watch, Action.WAIT
        return replace(watch, asked=sample.at, settling=True, comebacks=comebacks), Action.COLLECT
    breach = (Reason.SOFT, _why_soft(watch, rules.limits, sample, comebacks))
    watch = _stop(watch, Phase.STOPPING, sample, breach)
    if rules.snapshot and sample.collectable:
        return replace(watch, snapping=True), Action.SNAPSHOT
    return watch, Action.TERMINATE


def _settle(watch: Watch, limits: Limits, sample: Sample) -> float:
    """Seconds that a collection may take. One that is not over by `settle` is worth more: nothing grows meanwhile."""
    return limits.settle if _collected(watch, sample) else limits.settle + GC_PACE * sample.used / GIB


def _collected(watch: Watch, sample: Sample) -> bool:
    """Say whether the collection that was asked for last is over."""
    last = sample.collection
    return watch.asked is not None and last is not None and last.at + last.seconds >= watch.asked


def _why_soft(watch: Watch, limits: Limits, sample: Sample, comebacks: int) -> str:
    assert watch.over_soft_since is not None
    over = sample.at - watch.over_soft_since
    soft = format_size(limits.soft or 0)
    why = f"its tree was over memory.soft {soft} for {format_duration(over)} (now {format_size(sample.used)})"
    if watch.asked is None:
        return why
    ago, last = format_duration(sample.at - watch.asked), sample.collection
    if last is None or not _collected(watch, sample):
        why += f"; a collection asked for {ago} ago is not over"
    else:
        why += f", {ago} after a collection that freed {format_size(last.freed)}"
    if comebacks >= COMEBACKS:
        why += f", the {comebacks}th in a row of which none kept it below for {format_duration(LASTING)}"
    return why


def _until_deadlines(watch: Watch, rules: Rules, sample: Sample) -> list[float]:
    limits, timeouts = rules.limits, rules.timeouts
    waits = []
    if timeouts.wall is not None:
        waits.append(watch.started + timeouts.wall - sample.at)
    if timeouts.stall is not None:
        waits.append(timeouts.stall - sample.quiet)
    if watch.over_soft_since is not None:
        due = [watch.over_soft_since + limits.sustain]
        if watch.asked is not None:
            due.append(watch.asked + (_settle(watch, limits, sample) if watch.settling else COLLECT_EVERY))
        waits += [moment - sample.at for moment in due if moment > sample.at]
    return waits


def _linger_on(watch: Watch, sample: Sample) -> tuple[Watch, Action]:
    waited = sample.at - watch.since
    if waited < LINGER and sample.halt < Halt.NOW:
        return watch, Action.WAIT
    note = f"{sample.processes} left over {format_duration(waited)} after their leader ended"
    return replace(watch, phase=Phase.SWEEPING, since=sample.at, note=note), Action.TERMINATE


def _stop_on(watch: Watch, rules: Rules, sample: Sample) -> tuple[Watch, Action]:
    watch, action = _until_grace(watch, sample, rules.timeouts.grace)
    if action is Action.WAIT and watch.snapping and not sample.snapping:
        return replace(watch, snapping=False), Action.TERMINATE
    return watch, action


def _until_grace(watch: Watch, sample: Sample, grace: float) -> tuple[Watch, Action]:
    if sample.at - watch.since < grace:
        return watch, Action.WAIT
    note = f"{sample.processes} still there {format_duration(grace)} after TERM"
    return replace(watch, phase=Phase.KILLING, since=sample.at, note=note), Action.KILL


def _kill_on(watch: Watch, sample: Sample) -> tuple[Watch, Action]:
    if sample.at - watch.since < KILL_DEADLINE:
        return watch, Action.KILL
    return replace(watch, phase=Phase.ABANDONED), Action.END


def _stop(watch: Watch, phase: Phase, sample: Sample, breach: tuple[Reason, str]) -> Watch:
    """Begin to stop the tree. The first cause wins, and none is given to what had ended by itself."""
    reason, why = breach
    if watch.phase is Phase.RUNNING:
        watch = replace(watch, reason=reason, why=why)
    return replace(watch, phase=phase, since=sample.at, note=why)
