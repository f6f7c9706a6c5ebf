"""Whether a tree's estimate is confirmed by PSS before a limit decides, pure.

The estimate adds up resident pages at every look. It counts too much where forked processes share pages, where several
touch one mapping, and where pages were given back with MADV_FREE. The exact figure is PSS without such pages. Reading
it takes 20 ms a GiB and more, and nothing is watched meanwhile.
"""

from msgspec import Struct

from seqsup.units import MIB

FIRST = 1 / 2  # of a limit: from here on the first reading is due. At 2 GiB/s later ones come too late
_NEAR = 3 / 4  # of a limit: from here on a reading need not wait for its turn
PAST = 0.02  # of hard: by as much may a tree pass it
_CHEAP = 0.025  # seconds; a dearer reading below a limit needs a doubt
_EARLY, _SOFT = 4, 20  # readings may take 1/4 of the time below a limit, and 1/20 above soft and far from both
_MUCH = 32 * MIB
_UNDOUBTED = 4  # times the time: a busy machine takes longer to read


class MemoryBounds(Struct, frozen=True):
    """The limits of a tree in bytes; None: it has no such limit."""

    soft: int | None = None
    hard: int | None = None


NO_BOUNDS = MemoryBounds()


class ExactReading(Struct, frozen=True):
    """Result of an exact reading, in bytes."""

    at: float  # monotonic seconds
    exact: int
    estimate: int  # at the same look


class Look(Struct, frozen=True, kw_only=True):
    """One look at a tree, without an exact reading. Memory in bytes, time in monotonic seconds."""

    at: float
    estimate: int
    growth: int = 0  # by as much may the tree have grown since the last reading
    doubt: int = 0  # of the estimate: what may be counted more than once
    rate: float = 0.0  # bytes/s, by which it grows
    cost: float = 0.0  # seconds that a reading takes


def used(look: Look, reading: ExactReading | None) -> int:
    """Return the memory in bytes that counts: the estimate, or less where a reading showed that."""
    return look.estimate if reading is None else min(look.estimate, reading.exact + look.growth)


def due(look: Look, reading: ExactReading | None, bounds: MemoryBounds) -> bool:
    """Say whether the exact figure is to be read now: a limit is reached or near, and there is time."""
    if bounds.hard is not None and not _has_time(look, used(look, reading), bounds.hard):
        return False
    if doubtful(look.doubt, look.estimate) and _stale(look, reading):
        return True
    return _wanted(look, reading, bounds.soft, urgent=False) or _wanted(look, reading, bounds.hard, urgent=True)


def doubtful(doubt: int, estimate: int) -> bool:
    """Say whether so much may be counted twice that the exact figure is read far from the limits too."""
    return doubt >= max(_MUCH, estimate // 4)


def _stale(look: Look, reading: ExactReading | None) -> bool:
    if reading is None:
        return True
    return look.growth > max(_MUCH, reading.exact // 8) and look.at - reading.at >= _SOFT * look.cost


def _has_time(look: Look, counted: int, hard: int) -> bool:
    """Say whether the tree stays within what is allowed while it is read.

    A leap, as by forks, leaves half of that. Where nothing is in doubt a reading gains little, so it needs more time.
    """
    leeway = max(hard * (1 + PAST) - counted, hard * PAST / 2)
    in_doubt = max(look.doubt, look.estimate - counted) >= hard * PAST
    return look.rate * look.cost * (1 if in_doubt else _UNDOUBTED) <= leeway


def _wanted(look: Look, reading: ExactReading | None, limit: int | None, *, urgent: bool) -> bool:
    counted = used(look, reading)
    if limit is None or (room := limit - counted) > (limit * (1 - FIRST) if reading is None else limit):
        return False
    if room <= 0:
        confirmed = reading is not None and reading.exact >= limit and look.at - reading.at < _SOFT * look.cost
        return urgent or not confirmed
    in_doubt = max(look.doubt, look.estimate - counted) >= limit * PAST
    if look.cost > _CHEAP and not in_doubt:
        return False
    if reading is None:
        return True
    rested = look.at - reading.at >= _EARLY * look.cost or in_doubt or room <= limit * (1 - _NEAR)
    return room <= (limit - reading.exact) / 2 and rested
