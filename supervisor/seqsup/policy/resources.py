"""Whether the machine has what an agent needs, before, beside and after it."""

from collections.abc import Mapping

from seqsup.model.process import Sample
from seqsup.units import MIB, format_size, told_apart

_MODEST = 96 * MIB  # of the supervisor's own memory
DISK_FLOOR = 256 * MIB  # "auto", on a disk of 5 GiB and more
_WHIM = 0.95  # of what was available: a host's figure is never the same twice
GIVES_BACK = 1.0  # seconds: RSS reads 0 up to half of one before the memory is back
FRESH = 2.0  # seconds; a look comes after one at the latest


def supervisor_grew(own: int, first: int) -> bool:
    """Return whether the supervisor uses half more than the `first` bytes it used after its first chain."""
    return own > max(_MODEST, first * 3 // 2)


def no_room(*, room: int, most: int, need: int | None, floor: int | None, claimed: int | None) -> str:
    """Say why an agent cannot start, in words and numbers; empty if it can.

    `room` is what may be used now, and `most` what it was before the run. `claimed` is what running agents may use
    beyond their present memory. None: no agent runs, and no other run. Then the agent need not wait for more than there
    ever was, so that waiting can end.
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
    others = f"; running agents may need {format_size(claimed)} more" if claimed else ""
    above = f" and memory.host_floor reserves {format_size(least)}" if least else ""
    return f"needs {format_size(need)}{others}{above}, but only {format_size(room)} is available"


def spared(agent: str, seen: Mapping[str, Sample], stopped: Mapping[str, float], now: float) -> bool:
    """Return whether another agent is stopped for the host's floor first: a larger one, or one that is just freeing
    memory.

    `seen` are the last samples of all agents that the floor applies to, `stopped` the times since when agents are being
    stopped for it.
    """
    if agent in stopped:
        return False
    if any(now - since < GIVES_BACK for since in stopped.values()):
        return True
    held = {other: sample.used for other, sample in seen.items() if other not in stopped and now - sample.at < FRESH}
    return agent != max(held, key=held.__getitem__, default=agent)


def drained(
    *, available: int, owned: int, need_available: int | None, threshold: int | None, unkilled: Mapping[int, int]
) -> str:
    """Say what is still missing, in words and numbers; empty when memory is back.

    `unkilled` survived SIGKILL: bytes by pid.
    """
    missing = [f"pid {pid} is still running after SIGKILL ({format_size(size)})" for pid, size in unkilled.items()]
    if need_available is not None and available < need_available:
        has, needed = told_apart(available, need_available)
        missing.append(f"{has} available; waiting for {needed} (drain.available)")
    if threshold is not None and owned > threshold:
        most, has = told_apart(threshold, owned)
        missing.append(f"the run still uses {has}, above drain.threshold {most}")
    return "; ".join(missing)


def disk_too_full(free: int, total: int, floor: int | str | None) -> str:
    """Say that a disk has too little room to start an agent, with the numbers; empty when it has enough."""
    if floor is None:
        return ""
    least = min(DISK_FLOOR, total // 20) if isinstance(floor, str) else floor
    if free >= least:
        return ""
    has, wanted = format_size(free), format_size(least)
    return f"the state folder's disk has {has} free, below run.disk_floor {wanted}; free some space to continue"
