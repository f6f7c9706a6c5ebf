"""Advice on a plan: how long it takes, and how much memory, by counts, history and timeouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.profile import Retry
from seqsup.policy.advice import PAGE, advice
from seqsup.policy.learning import Expected
from seqsup.policy.retry import longest
from seqsup.units import GIB, MIB

WALL = st.none() | st.floats(1, 1e6)
ONCE = Retry(attempts=1)
TOO_LONG = f". Too long? {PAGE}"


def usual(seconds: float = 41, peak: int = 600 * MIB) -> Expected:
    return Expected(attempts=3, seconds=seconds, long=seconds, peak=peak, high=peak, weighed=3 if peak else 0)


@pytest.mark.parametrize(
    ("walls", "known", "lanes", "told"),
    [
        ([360.0] * 52, [None] * 52, 1, [f"52 agents × 6 min ≈ 5 h 12 min at most (timeouts.wall){TOO_LONG}"]),
        (
            [360.0] * 52,
            [None] * 52,
            2,
            [f"52 agents × 6 min, 2 at a time ≈ 2 h 36 min at most (timeouts.wall){TOO_LONG}"],
        ),
        (
            [360.0] * 52,
            [usual()] * 52,
            1,
            [
                "52 agents × usually 41 s ≈ 35 min 32 s; at most 5 h 12 min by timeouts.wall",
                "usual peaks: 600 MiB for one agent at a time, 30.5 GiB for all at once; 8 GiB is available",
            ],
        ),
        (
            [None] * 12,
            [usual(600)] * 9 + [None] * 3,
            1,
            [f"12 agents × usually 10 min (3 never ran) ≈ 2 h{TOO_LONG}"],
        ),
        ([60.0] * 9 + [120.0], [None] * 10, 1, ["10 agents, each up to its timeouts.wall ≈ 11 min at most"]),
        (
            [None, *[60.0] * 9],
            [None] * 10,
            1,
            [f"10 agents: no timeouts.wall limits their time, and none has run before{TOO_LONG}"],
        ),
        ([3600.0] * 9, [None] * 9, 1, []),
        ([None] * 2, [usual(1700, 0)] * 2, 1, []),
        ([None] * 2, [usual(1900, 0)] * 2, 1, [f"2 agents × usually 31 min 40 s ≈ 1 h 3 min{TOO_LONG}"]),
        ([], [], 1, []),
    ],
)
def test_advice_names_counts_times_and_peaks(
    walls: list[float | None], known: list[Expected | None], lanes: int, told: list[str]
) -> None:
    assert list(advice([(wall, ONCE) for wall in walls], known, lanes, 8 * GIB)) == told


@pytest.mark.parametrize(
    ("retry", "told"),
    [
        (Retry(attempts=3, wait=1, max_wait=60), ", or 3 h 1 min with all retries"),
        (Retry(attempts=3, wait=600, max_wait=3600), ", or 8 h 50 min with all retries"),
        (Retry(attempts=3, on=()), ""),
        (ONCE, ""),
    ],
)
def test_advice_names_the_time_with_all_retries(retry: Retry, told: str) -> None:
    [line] = advice([(360.0, retry)] * 10, [None] * 10)
    assert line == f"10 agents × 6 min ≈ 1 h at most (timeouts.wall){told}{TOO_LONG}"
    [line, _] = advice([(360.0, retry)] * 10, [usual()] * 10)
    assert line.endswith(f"; at most 1 h by timeouts.wall{told}")


def test_longest_time_of_endless_retries_takes_no_time() -> None:
    assert longest(Retry(attempts=10**9, wait=1, max_wait=60), 60) == pytest.approx(120e9, rel=1e-3)


@given(
    st.lists(st.tuples(WALL, st.none() | st.builds(usual, st.floats(0, 1e6), st.integers(0, 2**40)))), st.integers(1, 9)
)
def test_advice_has_at_most_two_lines(agents: list[tuple[float | None, Expected | None]], lanes: int) -> None:
    told = list(advice([(wall, Retry()) for wall, _ in agents], [known for _, known in agents], lanes))
    assert len(told) <= 2
    assert agents or not told
