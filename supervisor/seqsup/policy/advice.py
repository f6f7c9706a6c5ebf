"""How long a plan takes, and how much memory, from counts, history and timeouts. Pure."""

from collections.abc import Iterator, Sequence

from seqsup.model.profile import Retry
from seqsup.policy.learning import Expected
from seqsup.policy.retry import longest
from seqsup.units import format_duration, format_size

PAGE = "https://github.com/seqsup/seqsup/blob/main/docs/explanation/when-one-at-a-time-is-wrong.md"
_MANY = 10  # agents: fewer need no advice if they are over within _LONG
_LONG = 3600.0  # seconds


def advice(
    limits: Sequence[tuple[float | None, Retry]],
    usual: Sequence[Expected | None],
    lanes: int = 1,
    available: int | None = None,
) -> Iterator[str]:
    """Yield at most two lines on agents of which each has a wall, retries and, if it ran before, an expectation.

    The first is on time: the usual one if there is history, else the sum of timeouts.wall; both with the bound of all
    attempts. The second is on memory: the largest past peak beside the sum of all, and the bytes that the host has
    `available`. A small plan gets none.
    """
    walls = [wall for wall, _ in limits]
    count, known = len(walls), [each for each in usual if each is not None]
    if not count:
        return
    once = None if None in walls else sum(wall or 0 for wall in walls) / lanes
    mean = sum(each.seconds for each in known) / len(known) if known else 0.0
    expected = mean * count / lanes
    if count < _MANY and expected < _LONG:
        return
    beside = f", {lanes} at a time" if lanes > 1 else ""
    alike = f" × {format_duration(walls[0])}" if walls[0] is not None and len({*walls}) == 1 else ""
    most = sum(longest(retry, wall or 0) for wall, retry in limits) / lanes
    retried = f", or {format_duration(most)} with all retries" if once is not None and most > once else ""
    if known:
        bound = f"; at most {format_duration(once)} by timeouts.wall{retried}" if once is not None else ""
        unknown = f" ({count - len(known)} never ran)" if len(known) < count else ""
        line = f"{count} agents × usually {format_duration(mean)}{unknown}{beside} ≈ {format_duration(expected)}{bound}"
    elif once is not None:
        line = f"{count} agents{alike or ', each up to its timeouts.wall'}{beside} ≈ {format_duration(once)} at most"
        line += f"{' (timeouts.wall)' if alike else ''}{retried}"
    else:
        line = f"{count} agents{beside}: no timeouts.wall limits their time, and none has run before"
    if (expected if known else once or _LONG) >= _LONG:
        line += f". Too long? {PAGE}"
    yield line
    yield from _memory(known if len(known) == count else [], available)


def _memory(known: Sequence[Expected], available: int | None) -> Iterator[str]:
    if peaks := [each.peak for each in known if each.peak]:
        host = f"; {format_size(available)} is available" if available is not None else ""
        yield (
            f"usual peaks: {format_size(max(peaks))} for one agent at a time, {format_size(sum(peaks))} for all at"
            f" once{host}"
        )
