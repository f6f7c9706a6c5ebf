"""Whether a silent agent works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.policy.stall import is_busy


@pytest.mark.parametrize(
    ("before", "now", "busy"),
    [
        ({}, {}, False),
        ({1: 5.0}, {1: 5.22}, False),  # qwen that waits
        ({1: 5.0}, {1: 5.6}, True),
        ({1: 5.0, 2: 1.0}, {1: 5.3, 2: 1.3}, True),  # together
        ({1: 5.0}, {1: 5.0, 2: 0.6}, True),  # a new tool
        ({1: 5.0, 2: 9.0}, {1: 5.0}, False),  # a tool ended, of which nothing is known
        ({1: 5.0, 2: 9.0}, {1: 14.0}, True),  # and its parent waited for it
        ({2: 9.0}, {2: 0.1}, False),  # another process has its pid
    ],
)
def test_cpu_time_of_any_process_is_a_sign_of_life(before: dict[int, float], now: dict[int, float], busy: bool) -> None:
    assert is_busy(before, now, 10.0) is busy


cpus = st.dictionaries(st.integers(1, 9), st.floats(0, 1000))


@given(cpus, cpus, st.floats(0.1, 100))
def test_tree_that_used_nothing_is_idle_and_more_use_is_no_less_busy(
    before: dict[int, float], now: dict[int, float], seconds: float
) -> None:
    assert not is_busy(before, before, seconds)
    more = {pid: cpu + 10 * seconds for pid, cpu in now.items()}
    assert is_busy(before, more, seconds) >= is_busy(before, now, seconds)
