"""Retries: whether, when and with which heap."""

from collections.abc import Sequence

from seqsup.model.enums import Halt
from seqsup.model.outcome import Outcome
from seqsup.model.profile import Retry
from seqsup.model.reason import Reason
from seqsup.policy import usage
from seqsup.units import format_size

_DOUBLINGS = 30  # beyond, every wait is the longest


def retryable(
    retry: Retry, expect: tuple[Reason, ...], outcome: Outcome, halt: Halt, now: float = 0.0, *, awaited: bool = False
) -> bool:  # fmt: skip
    """Say whether another attempt may help. `now` is of the epoch; `awaited`: its usage limit is waited for."""
    if outcome.reason in expect or halt >= Halt.NOW:
        return False
    if outcome.reason is Reason.UNFINISHED:
        return halt < Halt.AFTER_AGENT
    if outcome.session_lost:
        return True
    if outcome.reason is Reason.USAGE_LIMIT:
        return awaited or _soon(retry, outcome, now)
    return outcome.blames_us or outcome.reason in retry.on


def costless(outcome: Outcome, *, awaited: bool) -> bool:
    """Say whether the attempt does not count: it could not have gone well, and the next one may."""
    return outcome.blames_us or outcome.session_lost or outcome.reason is Reason.UNFINISHED or awaited


def backoff(first: float, most: float, failures: int, jitter: float = 0.0) -> float:
    """Return the seconds to wait after so many failures in a row: doubled each time, plus `jitter`, up to `most`."""
    return min(first * 2.0 ** min(failures - 1, _DOUBLINGS) + jitter, most)


def retry_wait(retry: Retry, outcome: Outcome, failures: int, now: float, chance: float) -> float:
    """Return the seconds until the next attempt. `now` is of the epoch, `chance` a random number from 0 to 1."""
    pause = backoff(retry.wait, retry.max_wait, failures, chance * retry.wait / 4)
    if outcome.reason is not Reason.USAGE_LIMIT:
        at_once = outcome.blames_us or outcome.session_lost or outcome.reason is Reason.UNFINISHED
        return 0.0 if at_once else pause
    return max(usage.until(outcome, now) - now, pause)


def longest(retry: Retry, wall: float) -> float:
    """Return the seconds that all attempts of `wall` seconds and the waits between them take at most.

    Attempts that do not count, such as those that a usage limit ended, are left out.
    """
    again = retry.attempts - 1 if retry.on else 0
    waits = [backoff(retry.wait, retry.max_wait, n, retry.wait / 4) for n in range(1, min(again, _DOUBLINGS) + 1)]
    return wall * (1 + again) + sum(waits) + sum(waits[-1:]) * (again - len(waits))


def _soon(retry: Retry, outcome: Outcome, now: float) -> bool:
    """Return whether the limit resets within retry.max_wait: then the usual wait is enough."""
    return outcome.resets_at is not None and outcome.resets_at - now <= retry.max_wait


def next_heap(heap: int | None, ceiling: int | None, grow: float, reason: Reason) -> int | None:
    """The heap limit of the next attempt: grown after the heap ran out, as far as fits under the hard limit."""
    if heap is None or reason is not Reason.HEAP_OOM:
        return heap
    grown = int(heap * grow)
    return max(heap, min(grown, ceiling)) if ceiling is not None else grown


def same_leak(outcomes: Sequence[Outcome]) -> str:
    """Return the line of code if a GC proved the last two attempts to leak there; else an empty string."""
    leaks = [outcome.leak for outcome in outcomes[-2:]]
    lines = {leak.at if leak is not None and leak.proven else "" for leak in leaks}
    return lines.pop() if len(leaks) == 2 and len(lines) == 1 else ""


def outlook(last: Outcome, heap: int | None, grown: int | None, grow: float, hard: int | None) -> str:
    """Say what the next attempt can expect; sizes in bytes, `heap` and `grown` are V8's limits before and after."""
    parts = []
    if last.reason is Reason.HEAP_OOM and heap is not None and grown is not None:
        if grown > heap:
            parts.append(f"with a heap of {format_size(grown)}")
        else:
            fits = "" if hard is None else f": a larger one does not fit below memory.hard ({format_size(hard)})"
            parts.append(f"with the same heap of {format_size(heap)}{': retry.grow_heap is 1' if grow <= 1 else fits}")
    if last.leak is not None:
        parts.append(f"the leak at {last.leak.at} may return")
    return "; ".join(parts)


def ok(reason: Reason, expect: tuple[Reason, ...]) -> bool:
    return reason is Reason.COMPLETED or reason in expect
