"""When an agent may start: the wait for a usage limit, and the time of day."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.conversation import ProviderLimit
from seqsup.model.enums import OnUsageLimit
from seqsup.model.outcome import Outcome
from seqsup.model.profile import UsageRule
from seqsup.model.reason import Reason
from seqsup.policy.usage import awaited, held_back, is_open, opening

STOP, WAIT = OnUsageLimit.STOP, OnUsageLimit.WAIT


def ended(reason: Reason, resets_at: float | None = None) -> Outcome:
    return Outcome(reason=reason, why="", exit=None, seconds=1.0, peak=0, resets_at=resets_at)


@pytest.mark.parametrize(
    ("reason", "on_limit", "most", "resets_at", "since", "expected"),
    [
        (Reason.USAGE_LIMIT, STOP, 3600, 1001, 1000, False),
        (Reason.FAILED, WAIT, 3600, None, 1000, False),
        (Reason.USAGE_LIMIT, WAIT, 3600, 4600, 1000, True),
        (Reason.USAGE_LIMIT, WAIT, 3600, 4601, 1000, False),
        (Reason.USAGE_LIMIT, WAIT, None, 10**9, 1000, True),
        (Reason.USAGE_LIMIT, WAIT, 3600, None, 1000, True),  # 15 min
        (Reason.USAGE_LIMIT, WAIT, 800, None, 1000, False),
        (Reason.USAGE_LIMIT, WAIT, 3600, None, -1700, True),  # the last of several limits in a row
        (Reason.USAGE_LIMIT, WAIT, 3600, None, -1701, False),
    ],
)
def test_limit_is_waited_for_up_to_the_longest_wait(
    reason: Reason, on_limit: OnUsageLimit, most: float | None, resets_at: float | None, since: float, expected: bool
) -> None:
    usage = UsageRule(on_limit=on_limit, wait_at_most=most)
    assert awaited(usage, ended(reason, resets_at), since, 1000.0) is expected


@pytest.mark.parametrize(
    ("stop_at", "used", "resets_at", "seen", "expected"),
    [
        (None, 1.0, 2000, 1000, None),
        (0.8, None, 2000, 1000, None),
        (0.8, 0.79, 2000, 1000, None),
        (0.8, 0.8, 2000, 1000, 2000),
        (0.8, 0.91, 1000, 900, None),  # it has been reset since
        (0.8, 0.91, None, 900, 1800),
        (0.8, 0.91, None, 100, None),
    ],
)
def test_no_agent_starts_from_a_share_of_the_limit_on_until_the_reset(
    stop_at: float | None, used: float | None, resets_at: float | None, seen: float, expected: float | None
) -> None:
    limit = ProviderLimit(used=used, resets_at=resets_at)
    assert held_back(UsageRule(stop_at=stop_at), limit, seen, 1000.0) == expected


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Summer time began on 2026-03-29 at 2:00 and ended on 2026-10-25 at 3:00."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(text: str, summer: int = -1) -> float:
    moment = time.strptime(text, "%Y-%m-%d %H:%M")
    return time.mktime((*moment[:8], summer))


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        ("", "2026-12-02 12:00", "2026-12-02 12:00"),
        ("22:00-07:00", "2026-12-02 12:00", "2026-12-02 22:00"),
        ("22:00-07:00", "2026-12-02 21:59", "2026-12-02 22:00"),
        ("22:00-07:00", "2026-12-02 23:00", "2026-12-02 23:00"),
        ("22:00-07:00", "2026-12-03 06:59", "2026-12-03 06:59"),
        ("22:00-07:00", "2026-12-03 07:00", "2026-12-03 22:00"),
        ("9:00-17:30", "2026-12-02 17:30", "2026-12-03 09:00"),
        ("18:00-24:00", "2026-12-31 10:00", "2026-12-31 18:00"),
        ("00:00-24:00", "2026-12-02 12:00", "2026-12-02 12:00"),
        ("02:30-05:00", "2026-03-29 01:00", "2026-03-29 03:00"),  # there is no 2:30 in this night
        ("02:10-02:50", "2026-03-29 01:00", "2026-03-30 02:10"),
        ("04:00-05:00", "2026-03-28 22:00", "2026-03-29 04:00"),
        ("04:00-05:00", "2026-10-24 22:00", "2026-10-25 04:00"),
    ],
)
def test_window_opens_at_its_local_time(window: str, now: str, expected: str) -> None:
    assert opening(window, local(now)) == local(expected)


@pytest.mark.usefixtures("berlin")
def test_window_is_open_in_both_hours_that_the_end_of_summer_time_repeats() -> None:
    assert opening("02:30-02:40", local("2026-10-25 02:35", 1)) == local("2026-10-25 02:35", 1)
    assert opening("02:30-02:40", local("2026-10-25 02:40", 1)) == local("2026-10-25 02:30", 0)


@given(st.integers(0, 1439), st.integers(0, 1439), st.floats(1.7e9, 1.9e9))
def test_opening_is_never_before_now_and_within_the_window(opens: int, closes: int, now: float) -> None:
    if opens == closes:
        return
    window = f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"
    at = opening(window, now)
    assert now <= at <= now + 2 * 86400
    assert is_open(window, at)
    assert opening(window, at) == at
