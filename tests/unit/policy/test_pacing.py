"""When to look next, where a whole history says nothing more; see test_watch.py for those."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.policy import pacing
from seqsup.units import GIB, MIB

KIB = 1024


@given(rate=st.floats(0, 1e12), most=st.integers(64 * KIB, 2**40))
def test_the_next_look_comes_before_the_bound_is_reached_twice(rate: float, most: int) -> None:
    wait = pacing.until_trim(rate, most)
    assert 0.001 <= wait <= 1.0
    assert wait == 0.001 or rate * wait <= most


@pytest.mark.parametrize(
    ("rate", "most", "seconds"),
    [
        (0.0, 64 * KIB, 1.0),
        (-1.0, 64 * KIB, 1.0),
        (1.0, 64 * KIB, 1.0),
        (MIB, MIB, 0.5),
        (100 * MIB, MIB, 0.005),
        (1e12, MIB, 0.001),
    ],
)
def test_output_is_looked_at_in_half_the_time_to_its_bound(rate: float, most: int, seconds: float) -> None:
    assert pacing.until_trim(rate, most) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("room", "rate", "cpus", "seconds"),
    [
        (None, 1e12, 64, 1.0),
        (200 * MIB, 0.0, 1, 0.05),  # at 2000 MiB/s
        (200 * MIB, 0.0, 2, 0.025),
        (200 * MIB, 0.0, 3, 0.05 / 3),
        (200 * MIB, 0.0, 64, 0.05 / 3),  # one process cannot fill more than three CPUs could
        (200 * MIB, 500 * MIB, 1, 0.05),
        (200 * MIB, 2000 * MIB, 1, 0.025),  # a rate may double
        (100 * GIB, 0.0, 1, 1.0),
        (0, 0.0, 1, 0.001),
        (-5, 0.0, 1, 0.001),
    ],
)
def test_tree_is_looked_at_in_half_the_time_to_its_limit(
    room: int | None, rate: float, cpus: int, seconds: float
) -> None:
    assert pacing.until_full(room, rate, cpus) == pytest.approx(seconds)
