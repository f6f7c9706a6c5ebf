"""When to look next: half the time in which a limit could be reached."""

from math import inf

from seqsup.model.process import Sample
from seqsup.policy.watch import OOM_SETTLE, Phase, Rules, Watch, last_asked, settle
from seqsup.units import MIB

_FILL_RATE = 2000 * MIB  # bytes/s one process was seen to grow at
_HUGE_RATE = 10_000 * MIB  # by huge pages, of memory that the host has at hand
_PAST = 0.02  # of hard: by as much may that pass it
_STILL = 1.0  # seconds for which a tree has not grown, see watch.level_since
_MIN_PAUSE, _FIRST_PAUSE, _MAX_PAUSE = 0.001, 0.02, 1.0


def pause(watch: Watch, rules: Rules, sample: Sample, rate: float, cpus: int) -> float:
    """Return the seconds until the tree is measured again: half the time in which a limit could be reached.

    `rate` is the growth between the last two samples, in bytes/s. An idle tree has no rate that could double. Then the
    fastest known growth counts, and the pause is three quarters of its time to `hard`. Measured with these figures:
    overshoot at most 7 MiB at 1.8-3.4 GiB/s, 0.05-0.2 % of a core while idle.
    """
    if watch.phase is Phase.KILLING or watch.empty:
        return _MIN_PAUSE
    limits, timeouts, worst = rules.limits, rules.timeouts, _worst(rate, cpus)
    waits = [_MAX_PAUSE, _until_near(watch, rules, sample, worst)]
    if limits.host_floor is not None:
        waits += [(sample.host_available - limits.host_floor) / worst / 2]
    if watch.oom_at is not None:
        waits += [OOM_SETTLE / 2]
    if watch.phase is Phase.RUNNING:
        # A short agent is measured in the last fifth of its life too, or its peak would be its first sample
        waits += [max((sample.at - watch.started) / 4, _FIRST_PAUSE)]
        waits += _until_deadlines(watch, rules, sample)
    elif watch.phase is Phase.LINGERING:
        waits += [0.005]
    else:
        waits += [0.02, watch.since + timeouts.grace - sample.at]
    return max(min(waits), _MIN_PAUSE)


def _until_near(watch: Watch, rules: Rules, sample: Sample, worst: float) -> float:
    if (hard := rules.limits.hard) is None:
        return inf
    room = hard - sample.used
    share = 3 / 4 if sample.at - watch.level_since >= _STILL else 1 / 2
    seconds = room * share / worst
    return min(seconds, (room + hard * _PAST) / _HUGE_RATE) if rules.leaps else seconds


def _worst(rate: float, cpus: int) -> float:
    return max(_FILL_RATE * min(cpus, 3), 2 * rate)


def until_trim(rate: float, most: int) -> float:
    """Return the seconds until output that grows by `rate` bytes/s is checked again: before it is twice its bound."""
    return min(max(most / rate / 2, _MIN_PAUSE), _MAX_PAUSE) if rate > 0 else _MAX_PAUSE


def until_trim_while_growing(rate: float, most: int) -> float:
    """Seconds between two looks at nothing but the output, while that grows."""
    return min(until_trim(rate, most), _FIRST_PAUSE)


def until_full(room: int | None, rate: float, cpus: int) -> float:
    """Seconds until the next look at a tree that may take this many bytes more; None: any. See `pause`."""
    if room is None:
        return _MAX_PAUSE
    return min(max(room / _worst(rate, cpus) / 2, _MIN_PAUSE), _MAX_PAUSE)


def _until_deadlines(watch: Watch, rules: Rules, sample: Sample) -> list[float]:
    limits, timeouts = rules.limits, rules.timeouts
    waits = []
    if timeouts.wall is not None:
        waits.append(watch.started + timeouts.wall - sample.at)
    if rules.stall is not None:
        waits.append(rules.stall - sample.quiet)
    if watch.over_soft_since is not None:
        due = [watch.over_soft_since + limits.sustain]
        if watch.settling and watch.asked is not None:
            due.append(watch.asked + settle(watch, limits, sample))
        else:
            due.append(last_asked(watch) + rules.gap)
        waits += [moment - sample.at for moment in due if moment > sample.at]
    return waits
