"""Sizes, durations and moments: what people write, and what they read."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.units import (
    GIB,
    MIB,
    clock,
    format_age,
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_size,
    show,
    told_apart,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.5GiB", 3 * GIB // 2), ("512M", 512 * MIB), ("2GB", 2 * GIB), ("2 gib", 2 * GIB), ("1k", 1024),
        ("1000000", 1000000), (1000000, 1000000), ("7B", 7), ("0", 0), (0, 0), (" 1048576 ", MIB),
        ("1T", 1024 * GIB), ("0.5K", 512),
    ],
)  # fmt: skip
def test_a_size_is_read_as_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "1 G G", "-1", -1, 1.5e9, True, None, "1e3", "0x10", "1P", [], 2**70])
def test_text_that_is_not_a_size_is_refused_with_the_forms(text: object) -> None:
    with pytest.raises(ValueError, match=r'a size such as "512M"'):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30), ("5m", 300), ("1h30m", 5400), ("7d", 604800), ("250ms", 0.25), ("90", 90), (90, 90),
        (0.5, 0.5), ("1m 30s", 90), ("1.5h", 5400), ("1d1h1m1s1ms", 90061.001), ("0s", 0),
    ],
)  # fmt: skip
def test_a_duration_is_read_as_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [0, 999, 1800, 3600, "7200", 86400, 604800, 1000.5, "1000s", "90000s"])
def test_seconds_that_people_write_pass(value: object) -> None:
    assert parse_duration(value) >= 0


@pytest.mark.parametrize(
    ("value", "told"),
    [(90000, '"90s", or "25h"'), ("5000", '"5s", or "5000s"'), (1000.0, '"1s"'), (300_000, '"5m", or "5000m"')],
)
def test_whole_thousands_without_a_unit_are_refused_as_milliseconds(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"looks like milliseconds\nwrite {told}"):
        parse_duration(value)


@pytest.mark.parametrize(("value", "told"), [(1000.0, "1000MiB or 1000KiB"), (0.5, "0.5GiB"), (512, "512MiB")])
def test_hint_for_a_size_without_a_unit_is_a_likely_one(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"has no unit\nwrite {told}"):
        parse_size(value)


@pytest.mark.parametrize("text", ["", "s", "30m1h", "1hour", "-1s", -1, True, None, math.nan, math.inf, [], "1e3"])
def test_text_that_is_not_a_duration_is_refused_with_the_forms(text: object) -> None:
    with pytest.raises(ValueError, match=r'a duration such as "250ms"'):
        parse_duration(text)


@given(st.integers(0, 2**50))
def test_a_written_size_is_read_back_exactly(size: int) -> None:
    assert parse_size(write_size(size)) == size


@given(st.integers(0, 10**12))
def test_a_written_duration_is_read_back_exactly(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(write_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(0, 2**50))
def test_a_size_shown_to_people_is_near(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06, abs=600)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"), (374 * MIB, "374 MiB"), (1031 * MIB, "1031 MiB"), (GIB, "1 GiB"),
        (1288490189, "1.2 GiB"), (8 * GIB, "8 GiB"), (-41 * MIB, "-41 MiB"), (3 * MIB // 2, "1.5 MiB"),
    ],
)  # fmt: skip
def test_a_size_is_shown_short(size: int, shown: str) -> None:
    assert format_size(size) == shown


def test_two_sizes_are_shown_so_that_they_differ() -> None:
    assert told_apart(22 * GIB, 23 * GIB) == ("22 GiB", "23 GiB")
    assert told_apart(22 * GIB - MIB, 22 * GIB) == ("22527 MiB", "22528 MiB")
    assert told_apart(22 * GIB - 2048, 22 * GIB) == ("23068670 KiB", "23068672 KiB")
    assert told_apart(22 * GIB - 1, 22 * GIB) == ("23622320127 B", "23622320128 B")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"), (0.04, "40 ms"), (0.4, "0.4 s"), (1.2, "1.2 s"), (12, "12 s"), (59.6, "1 min"),
        (445, "7 min 25 s"), (3912, "1 h 5 min"),
    ],
)  # fmt: skip
def test_a_duration_is_shown_short(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (1023, "1023 B"), (1024, "1 KiB"), (MIB - 1024, "1023 KiB"), (MIB, "1 MiB"), (2 * MIB + MIB // 2, "2.5 MiB"),
        (10 * MIB, "10 MiB"), (1099 * MIB, "1099 MiB"), (1100 * MIB, "1.1 GiB"), (2 * GIB, "2 GiB"),
        (1023 * GIB, "1023 GiB"), (1024 * GIB, "1 TiB"), (1536 * GIB, "1.5 TiB"), (-1, "-1 B"),
    ],
)  # fmt: skip
def test_size_is_shown_in_the_unit_that_says_most(size: int, shown: str) -> None:
    assert format_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.001, "1 ms"), (0.099, "99 ms"), (0.0995, "0.1 s"), (1, "1 s"), (9.94, "9.9 s"), (9.95, "10 s"),
        (59.4, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (3600, "1 h"), (90061, "25 h 1 min"),
        (-5, "-5 s"), (-0.04, "-40 ms"),
    ],
)  # fmt: skip
def test_duration_is_shown_in_the_unit_that_says_most(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (86400, "1 day"), (2 * 86400, "2 days"), (7 * 86400, "7 days"), (86401, "24 hours"), (36 * 3600, "36 hours"),
        (3600, "1 hour"), (7200, "2 hours"), (5400, "1 h 30 min"), (30, "30 s"),
    ],
)  # fmt: skip
def test_age_is_shown_roughly(seconds: float, shown: str) -> None:
    assert format_age(seconds) == shown


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (0, "0"), (1023, "1023B"), (1024, "1KiB"), (1025, "1025B"), (512 * MIB, "512MiB"), (3 * GIB, "3GiB"),
        (2048 * GIB, "2TiB"), (1536 * MIB, "1536MiB"),
    ],
)  # fmt: skip
def test_size_is_written_in_the_largest_unit_that_is_exact(size: int, written: str) -> None:
    assert write_size(size) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"), (0.25, "0.25s"), (30, "30s"), (60, "1m"), (90, "90s"), (3600, "1h"), (5400, "90m"), (86400, "1d"),
        (172800, "2d"), (100, "100s"),
    ],
)  # fmt: skip
def test_duration_is_written_in_the_largest_unit_that_is_exact(seconds: float, written: str) -> None:
    assert write_duration(seconds) == written


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"), (False, "false"), ({"a": 1}, "a table"), ([1], "a list"), ("x", "'x'"), (7, "7"),
        ("x" * 58, "'" + "x" * 58 + "'"), ("x" * 59, "'" + "x" * 39 + "…" + "x" * 18 + "'"),
    ],
)  # fmt: skip
def test_value_is_shown_about_as_it_was_written(value: object, shown: str) -> None:
    assert show(value) == shown


def test_number_of_thousands_of_digits_is_shown_in_words() -> None:
    assert show(10**5000) == "a number of more than 60 digits"


@pytest.mark.parametrize(("size", "accepted"), [(2**60, True), (2**60 + 1, False), (0, True), (-1, False)])
def test_size_and_duration_have_a_largest_value(size: int, accepted: bool) -> None:
    for parse in (parse_size, parse_duration):
        if accepted:
            assert parse(size) == size
        else:
            with pytest.raises(ValueError, match=f"not {size}$"):
                parse(size)


def test_size_may_have_blanks_around_it_and_any_case() -> None:
    assert [parse_size(text) for text in (" 1 kib ", "1KIB", "1K", "1kB", "1b", "1Tib")] == [
        1024, 1024, 1024, 1024, 1, 1024 * GIB,
    ]  # fmt: skip
    assert parse_duration(" 1h 2m 3s 4ms ") == pytest.approx(3723.004)


def test_share_is_shown_in_whole_percent() -> None:
    assert [format_share(share) for share in (0, 0.424, 0.426, 1)] == ["0 %", "42 %", "43 %", "100 %"]


def test_moment_is_shown_with_its_date_on_another_day_only() -> None:
    noon = time.mktime((2026, 11, 24, 12, 5, 0, 0, 0, -1))
    assert clock(noon, noon + 3600) == "12:05"
    assert clock(noon, noon + 86400) == "2026-11-24 12:05"
    assert clock(noon, noon + 365 * 86400) == "2026-11-24 12:05", "the same day of another year"
