"""Expectations from past attempts: time, memory, and limits that would fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.reason import Reason
from seqsup.policy.learning import (
    ENOUGH,
    FEW,
    Expected,
    Past,
    SuggestedLimits,
    expect,
    good,
    need,
    quantile,
    relevant,
    risen,
    suggest,
)
from seqsup.units import MIB

PEAKS = st.integers(0, 2**40)
PASTS = st.lists(
    st.builds(
        Past, run=st.integers(1, 99), attempt=st.integers(1, 3), content=st.sampled_from("AB"),
        reason=st.sampled_from(Reason), ok=st.booleans(), seconds=st.floats(0, 1e6), peak=PEAKS,
    ),
    max_size=30,
)  # fmt: skip


def past(*peaks: int, ok: bool = True, reason: str = "completed", seconds: float = 10) -> list[Past]:
    return [Past(n, 1, "A", reason, ok, seconds, peak * MIB) for n, peak in enumerate(peaks)]


@given(values=st.lists(st.floats(0, 1e9), min_size=1), share=st.floats(0.01, 1))
def test_a_quantile_is_one_of_the_values_and_so_many_do_not_exceed_it(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


@given(known=PASTS, content=st.sampled_from("ABC"))
def test_expected_value_lies_within_the_past_ones(known: list[Past], content: str) -> None:
    usual = expect(known, content)
    well = [each for each in relevant(known, content) if each.ok]
    assert (usual is None) == (not well)
    if usual is not None:
        peaks = [each.peak for each in well if each.peak]
        assert (usual.attempts, usual.weighed) == (len(well), len(peaks))
        assert min(peaks, default=0) <= usual.peak <= usual.high <= max(peaks, default=0)
        assert usual.seconds <= usual.long


@given(known=PASTS)
def test_suggested_limits_leave_room_for_what_was_seen_and_rise_in_order(known: list[Past]) -> None:
    limits = suggest(known)
    if limits is None:
        assert good(known) < FEW
        return
    assert limits.of.high < limits.soft < limits.hard  # a collection is requested between them
    assert limits.wall >= max(60, 2 * limits.of.long)
    assert all(size % (64 * MIB) == 0 for size in (limits.soft, limits.hard))
    for each in known:
        if each.reason in ("hard", "soft", "kernel-oom", "heap-oom"):
            assert limits.soft >= each.peak


@given(known=PASTS, peak=PEAKS)
def test_a_peak_has_risen_only_if_it_is_more_than_twice_what_was_usual(known: list[Past], peak: int) -> None:
    usual = expect(known, "A")
    if usual is not None and risen(peak, usual):
        assert peak > 2 * usual.peak
        assert usual.weighed >= ENOUGH
        assert not risen(usual.peak, usual)


@pytest.mark.parametrize(
    ("peak", "known", "told"),
    [
        (211, past(*[100] * 5), True),
        (199, past(*[100] * 5), False),
        (211, past(*[100] * 4), False),
        (30, past(*[10] * 5), False),
        (211, past(*[100] * 5, ok=False), False),
        (211, past(*[100] * 4, 0, 0), False),
        (211, past(*[100] * 5, *[0] * 9), True),
    ],
    ids=["twice", "not yet", "too few", "a whim", "none went well", "too few were weighed", "enough were"],
)
def test_high_peak_is_reported(peak: int, known: list[Past], told: bool) -> None:
    usual = expect(known, "A")
    assert (usual is not None and risen(peak * MIB, usual)) == told


def test_attempt_that_was_not_measured_gives_no_memory_figure() -> None:
    usual = expect(past(0, 0, 100, 0))
    assert usual is not None
    assert (usual.attempts, usual.weighed, usual.peak, usual.high) == (4, 1, 100 * MIB, 100 * MIB)
    assert need(usual, None) is None
    assert need(expect(past(0, 100, 100, 100)), None) == 125 * MIB


@pytest.mark.parametrize(
    ("peaks", "hard", "needed"),
    [((), 1000, None), ((400, 400), 1000, None), ((400, 300, 400), 1000, 500), ((900, 900, 900), 1000, 1000)],
)
def test_past_peak_is_the_memory_that_an_agent_may_use_again(
    peaks: tuple[int, ...], hard: int, needed: int | None
) -> None:
    assert need(expect(past(*peaks)), hard * MIB) == (None if needed is None else needed * MIB)


def usual(peak: int, weighed: int = ENOUGH) -> Expected:
    """Attempts of 10 s that took so many bytes."""
    return Expected(attempts=weighed, seconds=10.0, long=10.0, peak=peak, high=peak, weighed=weighed)


def test_past_of_another_content_counts_only_where_there_is_none_of_this_one() -> None:
    mine, other = Past(1, 1, "A", "completed", True, 10, 100 * MIB), Past(2, 1, "B", "completed", True, 20, MIB)
    assert relevant([mine, other], "A") == [mine]
    assert relevant([mine, other], "C") == [mine, other]


def test_expected_is_the_median_and_what_19_of_20_stay_within() -> None:
    known = [Past(n, 1, "A", "completed", True, float(n), n * MIB) for n in range(1, 21)]
    assert expect(known) == Expected(20, 10.0, 19.0, 10 * MIB, 19 * MIB, 20)


def test_expected_without_any_weighed_attempt_knows_no_memory() -> None:
    found = expect(past(0, 0))
    assert found == Expected(2, 10, 10, 0, 0, 0)


def test_attempts_that_failed_are_no_measure() -> None:
    assert expect(past(100, 100, ok=False)) is None


@pytest.mark.parametrize(("weighed", "known"), [(FEW - 1, None), (FEW, 125 * MIB)])
def test_need_is_known_from_three_attempts_on(weighed: int, known: int | None) -> None:
    assert need(usual(100 * MIB, weighed), None) == known


def test_need_of_an_agent_that_never_ran_is_unknown() -> None:
    assert need(None, 100 * MIB) is None


@pytest.mark.parametrize(
    ("peak", "before", "news"),
    [
        (200 * MIB, 100 * MIB, False),
        (200 * MIB + 1, 100 * MIB, True),
        (74 * MIB - 1, 10 * MIB, False),
        (74 * MIB, 10 * MIB, True),
    ],
    ids=["twice", "above twice", "less than 64 MiB more", "64 MiB more"],
)
def test_risen_peak_is_above_twice_the_usual_and_by_64_mib(peak: int, before: int, news: bool) -> None:
    assert risen(peak, usual(before)) is news


def test_risen_peak_needs_five_weighed_attempts() -> None:
    assert not risen(900 * MIB, usual(100 * MIB, ENOUGH - 1))
    assert risen(900 * MIB, usual(100 * MIB, ENOUGH))


def test_suggested_limits_are_a_quarter_and_a_half_over_the_peaks_in_steps_of_64_mib() -> None:
    limits = suggest(past(300, 310, 320, seconds=50))
    assert limits is not None
    assert (limits.soft, limits.hard) == (448 * MIB, 512 * MIB)  # from 400 and 480
    assert limits.wall == 180  # from 150: whole minutes
    assert limits.held_back == 0
    assert limits.of == Expected(3, 50, 50, 310 * MIB, 320 * MIB, 3)


def test_suggested_hard_is_a_step_above_soft_even_for_the_smallest() -> None:
    limits = suggest(past(1, 1, 1))
    assert limits is not None
    assert (limits.soft, limits.hard) == (64 * MIB, 128 * MIB)


@pytest.mark.parametrize(("seconds", "wall"), [(0.5, 60.0), (20.0, 60.0), (20.1, 120.0), (100.0, 300.0)])
def test_suggested_wall_is_three_times_the_long_attempts_and_a_minute_at_least(seconds: float, wall: float) -> None:
    limits = suggest(past(1, 1, 1, seconds=seconds))
    assert limits is not None
    assert limits.wall == wall


@pytest.mark.parametrize("reason", ["hard", "soft", "kernel-oom", "heap-oom"])
def test_suggested_limits_leave_room_for_attempts_that_a_limit_ended(reason: str) -> None:
    limits = suggest([*past(100, 100, 100), *past(600, 700, ok=False, reason=reason)])
    assert isinstance(limits, SuggestedLimits)
    assert (limits.soft, limits.held_back) == (896 * MIB, 2)  # 700 and a quarter is 875


def test_suggested_limits_do_not_heed_other_failures() -> None:
    limits = suggest([*past(100, 100, 100), *past(700, ok=False, reason="failed")])
    assert limits is not None
    assert (limits.soft, limits.held_back) == (128 * MIB, 0)


@pytest.mark.parametrize(("known", "count"), [(past(1, 1, 0), 2), ([*past(1, 1), *past(1, ok=False)], 2)])
def test_two_weighed_attempts_that_went_well_are_too_few_for_limits(known: list[Past], count: int) -> None:
    assert good(known) == count
    assert suggest(known) is None


@pytest.mark.parametrize(("share", "found"), [(0.0, 1), (0.2, 1), (0.21, 2), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_quantile_is_by_nearest_rank(share: float, found: int) -> None:
    assert quantile([5, 3, 1, 4, 2], share) == found
