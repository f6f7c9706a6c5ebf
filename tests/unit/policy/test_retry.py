"""Retries: after which outcome, after how long, and with which heap."""

import pytest
from msgspec.structs import replace

from seqsup.model.enums import Halt, Verdict
from seqsup.model.outcome import Leak, Outcome
from seqsup.model.profile import Retry
from seqsup.model.reason import Reason
from seqsup.policy import retry
from seqsup.units import MIB


@pytest.mark.parametrize(
    ("reason", "expect", "halt", "expected"),
    [
        (Reason.FAILED, (), Halt.NONE, True),
        (Reason.FAILED, (), Halt.AFTER_AGENT, True),  # "after this agent" is after its retries
        (Reason.FAILED, (), Halt.NOW, False),
        (Reason.FAILED, (), Halt.KILL, False),
        (Reason.FAILED, (Reason.FAILED,), Halt.NONE, False),
        (Reason.HARD, (Reason.FAILED,), Halt.NONE, True),
        (Reason.COMPLETED, (), Halt.NONE, False),
        (Reason.HALTED, (), Halt.NONE, False),
        (Reason.TIMEOUT, (), Halt.NONE, False),  # not in `on`
    ],
)
def test_retryable(reason: Reason, expect: tuple[Reason, ...], halt: Halt, expected: bool) -> None:
    rule = Retry(attempts=3, on=(Reason.FAILED, Reason.HARD), wait=1.0, max_wait=60.0, grow_heap=1.5)
    outcome = Outcome(reason=reason, why="", exit=None, seconds=1.0, peak=0)
    assert retry.retryable(rule, expect, outcome, halt) is expected


STOPS = Retry(attempts=3, on=(Reason.FAILED,), wait=1.0, max_wait=60.0, grow_heap=1.5)


def met(resets_at: float | None) -> Outcome:
    return Outcome(reason=Reason.USAGE_LIMIT, why="", exit=None, seconds=1.0, peak=0, resets_at=resets_at)


@pytest.mark.parametrize(
    ("awaited", "resets_at", "again", "wait"),
    [
        (False, None, False, 900),
        (False, 1061, False, 61),
        (False, 1060, True, 60),  # within max_wait
        (False, 1001, True, 4),  # the back-off is longer
        (False, 900, True, 4),
        (True, None, True, 900),
        (True, 5000, True, 4000),
        (True, 900, True, 4),
    ],
)
def test_a_usage_limit(awaited: bool, resets_at: float | None, again: bool, wait: float) -> None:
    outcome, now = met(resets_at), 1000.0
    assert retry.retryable(STOPS, (), outcome, Halt.NONE, now, awaited=awaited) is again
    assert retry.retry_wait(STOPS, outcome, 3, now, 0.0) == wait
    assert not retry.retryable(STOPS, (Reason.USAGE_LIMIT,), outcome, Halt.NONE, now, awaited=awaited)
    assert not retry.retryable(STOPS, (), outcome, Halt.NOW, now, awaited=awaited)


def test_failure_by_our_own_options_is_retried_at_once_and_does_not_count() -> None:
    outcome = Outcome(reason=Reason.MISCONFIGURED, why="", exit=None, seconds=1.0, peak=0, blames_us=True)
    assert retry.retryable(STOPS, (), outcome, Halt.NONE)
    assert retry.costless(outcome, awaited=False)
    assert retry.retry_wait(STOPS, outcome, 3, 0.0, 1.0) == 0
    assert not retry.retryable(STOPS, (), replace(outcome, blames_us=False), Halt.NONE)


@pytest.mark.parametrize(
    ("heap", "ceiling", "grow", "reason", "expected"),
    [
        (100, 1000, 1.5, Reason.HEAP_OOM, 150),
        (100, 120, 1.5, Reason.HEAP_OOM, 120),
        (100, 80, 1.5, Reason.HEAP_OOM, 100),  # never smaller
        (100, None, 1.5, Reason.HEAP_OOM, 150),
        (100, 1000, 1.0, Reason.HEAP_OOM, 100),
        (100, 1000, 1.5, Reason.HARD, 100),
        (100, 1000, 1.5, Reason.FAILED, 100),
        (None, 1000, 1.5, Reason.HEAP_OOM, None),
    ],
)
def test_next_heap(heap: int | None, ceiling: int | None, grow: float, reason: Reason, expected: int | None) -> None:
    assert retry.next_heap(heap, ceiling, grow, reason) == expected


@pytest.mark.parametrize(
    ("reason", "expect", "expected"),
    [
        (Reason.COMPLETED, (), True),
        (Reason.COMPLETED, (Reason.HARD,), True),
        (Reason.HARD, (Reason.HARD,), True),
        (Reason.HARD, (), False),
        (Reason.HALTED, (Reason.HARD,), False),
    ],
)
def test_ok(reason: Reason, expect: tuple[Reason, ...], expected: bool) -> None:
    assert retry.ok(reason, expect) is expected


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"),
    [(1, 0.0, 0.5), (2, 0.0, 1.0), (3, 0.0, 2.0), (2, 0.1, 1.1), (7, 0.0, 30.0), (7, 5.0, 30.0), (10**6, 0.0, 30.0)],
)
def test_backoff_doubles_up_to_the_longest_wait(failures: int, jitter: float, expected: float) -> None:
    assert retry.backoff(0.5, 30.0, failures, jitter) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 1.0), (0.5, 1.125), (1.0, 1.25)])
def test_a_quarter_of_the_first_wait_is_left_to_chance(chance: float, expected: float) -> None:
    outcome = Outcome(reason=Reason.FAILED, why="", exit=None, seconds=1.0, peak=0)
    assert retry.retry_wait(STOPS, outcome, 1, 0.0, chance) == expected


def leaked(at: str = "leak.js:1", *, proven: bool = True, reason: Reason = Reason.SOFT) -> Outcome:
    leak = Leak(verdict=Verdict.JS_LEAK, at=at, proven=proven)
    return Outcome(reason=reason, why="", exit=None, seconds=1.0, peak=0, leak=leak)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], ""),
        ([leaked()], ""),
        ([leaked(), leaked()], "leak.js:1"),
        ([leaked("other.js:1"), leaked(), leaked()], "leak.js:1"),
        ([leaked(), leaked("other.js:1")], ""),
        ([leaked(), leaked(proven=False)], ""),
        ([leaked(proven=False), leaked(proven=False)], ""),  # it may be garbage
        ([leaked(), met(None)], ""),
        ([met(None), met(None)], ""),
    ],
)
def test_a_leak_is_the_same_if_proven_twice_in_a_row(outcomes: list[Outcome], expected: str) -> None:
    assert retry.same_leak(outcomes) == expected


@pytest.mark.parametrize(
    ("last", "heap", "grown", "grow", "expected"),
    [
        (leaked(), 100, 100, 1.5, "the leak at leak.js:1 may return"),
        (leaked(reason=Reason.HEAP_OOM), 100, 150, 1.5, "with a heap of 150 MiB; the leak at leak.js:1 may return"),
        (
            replace(leaked(reason=Reason.HEAP_OOM), leak=None), 100, 100, 1.5,
            "with the same heap of 100 MiB: a larger one does not fit below memory.hard (300 MiB)",
        ),
        (
            replace(leaked(reason=Reason.HEAP_OOM), leak=None), 100, 100, 1.0,
            "with the same heap of 100 MiB: retry.grow_heap is 1",
        ),
        (met(None), 100, 100, 1.5, ""),
        (replace(leaked(reason=Reason.HEAP_OOM), leak=None), None, None, 1.5, ""),
    ],
)  # fmt: skip
def test_a_retry_says_what_it_can_expect(
    last: Outcome, heap: int | None, grown: int | None, grow: float, expected: str
) -> None:
    before, after = (None if size is None else size * MIB for size in (heap, grown))
    assert retry.outlook(last, before, after, grow, 300 * MIB) == expected
