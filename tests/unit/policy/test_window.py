"""A part of each day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.policy.window import DAY, Window

MINUTES = st.integers(0, DAY - 1)


@given(MINUTES, st.integers(1, DAY), MINUTES)
def test_window_holds_each_minute_from_its_begin_until_before_its_end(begin: int, end: int, minute: int) -> None:
    if begin == end:
        return
    holds = any(begin <= each < (end if end > begin else end + DAY) for each in (minute, minute + DAY))
    assert Window(begin, end).holds(minute) == holds


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("22:00-07:00", (22 * 60, 7 * 60)), ("7:05-22:00", (7 * 60 + 5, 22 * 60)), (" 00:00 - 24:00 ", (0, DAY)),
    ],
)  # fmt: skip
def test_window_is_read(text: str, window: tuple[int, int]) -> None:
    assert Window.parse(text) == Window(*window)


@pytest.mark.parametrize(
    "text", ["", "22:00", "22-7", "22:00-22:00", "24:00-07:00", "22:60-07:00", "22:00-07:00-08:00", "٢٢:00-07:00"]
)
def test_window_that_is_malformed_or_empty_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        Window.parse(text)


def test_window_is_written_for_people() -> None:
    assert str(Window.parse("22:00-7:05")) == "22:00 and 07:05"
