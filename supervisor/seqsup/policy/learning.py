"""Expectations from an agent's past attempts: time, memory, limits. Pure."""

from collections.abc import Iterable, Sequence
from math import ceil

from msgspec import Struct

from seqsup.model.reason import CONSEQUENCES, OF_MEMORY
from seqsup.units import MIB

FEW = 3  # attempts from which limits are suggested
ENOUGH = 5  # attempts with which a peak is compared
_RISE, _LEAST_RISE = 2.0, 64 * MIB  # a peak is news beyond twice the median, if that is more than a runtime's whim
_SOFT, _HARD, _STEP = 1.25, 1.5, 64 * MIB  # over what 95 % of the attempts stay below
_WALL, _SHORTEST_WALL = 3, 60.0
_HELD_BACK = tuple(reason for reason in OF_MEMORY if CONSEQUENCES[reason].limit)  # by a limit of its own


class Past(Struct, frozen=True):
    """One attempt of an agent that has ended."""

    run: int
    attempt: int
    content: str
    reason: str
    ok: bool
    seconds: float
    peak: int  # bytes


class Expected(Struct, frozen=True):
    """Usual use of an attempt, and the value that 19 of 20 stay within, over successful attempts."""

    attempts: int
    seconds: float
    long: float
    peak: int  # bytes; 0 where no peak is known
    high: int
    weighed: int  # attempts with a known peak: one may be over before it is measured


class SuggestedLimits(Struct, frozen=True):
    """Limits suggested for an agent, in bytes and seconds."""

    soft: int
    hard: int
    wall: float
    of: Expected
    held_back: int  # attempts that a memory limit ended: they would have taken more


def relevant(past: Iterable[Past], content: str | None) -> list[Past]:
    """Those of this very content; where there are none, as with another task, those of the agent's name."""
    known = list(past)
    return [each for each in known if each.content == content] or known


def expect(past: Iterable[Past], content: str | None = None) -> Expected | None:
    good = [each for each in relevant(past, content) if each.ok]
    if not good:
        return None
    seconds, peaks = [each.seconds for each in good], [each.peak for each in good if each.peak]
    return Expected(
        len(good),
        quantile(seconds, 0.5),
        quantile(seconds, 0.95),
        int(quantile(peaks, 0.5)) if peaks else 0,
        int(quantile(peaks, 0.95)) if peaks else 0,
        len(peaks),
    )


def need(usual: Expected | None, hard: int | None) -> int | None:
    """Return the memory that an attempt may use, in bytes, with a margin; None if too little is known."""
    if usual is None or usual.weighed < FEW:
        return None
    known = int(usual.high * _SOFT)
    return known if hard is None else min(known, hard)


def risen(peak: int, usual: Expected) -> bool:
    """Say whether a peak is far above what was usual; it is not where too little is known."""
    return usual.weighed >= ENOUGH and peak > _RISE * usual.peak and peak - usual.peak >= _LEAST_RISE


def good(past: Iterable[Past]) -> int:
    """How many attempts limits could be suggested from."""
    return sum(each.ok and each.peak > 0 for each in past)


def suggest(past: Iterable[Past]) -> SuggestedLimits | None:
    """Limits with a margin over what was seen; None where too little was."""
    known = [each for each in past if each.peak]
    usual = expect(known)
    if usual is None or usual.attempts < FEW:
        return None  # each of them was weighed
    held_back = [each for each in known if each.reason in _HELD_BACK]
    high = max(usual.high, *(each.peak for each in held_back), 0)
    soft = _up(high * _SOFT, _STEP)
    hard = max(_up(high * _HARD, _STEP), soft + _STEP)
    wall = max(_WALL * usual.long, _SHORTEST_WALL)
    return SuggestedLimits(soft, hard, float(_up(wall, 60)), usual, len(held_back))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(ceil(share * len(ranked)) - 1, 0)]


def _up(value: float, step: int) -> int:
    return ceil(value / step) * step
