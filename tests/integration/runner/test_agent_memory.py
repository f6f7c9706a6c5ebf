"""The memory figures of an agent: before its start, at peak, at its end, after its drain, and what it gave back."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import Event, agent, of, proven, shell, write
from helpers.tiers import LIMITING
from seqsup.units import MIB

Seqsup = Callable[..., Result]


def _python(code: str) -> list[object]:
    return [sys.executable, "-S", "-c", code]


def _in_a_cgroup(events: list[Event]) -> None:
    if events[0]["containment"] not in LIMITING:
        pytest.skip("no cgroup here that weighs the tree")


def test_peak_of_a_short_agent_is_the_kernels(seqsup: Seqsup, tmp_path: Path) -> None:
    """The memory is there for less time than lies between two looks."""
    moment = f"held = b'x' * {100 * MIB}; del held; import time; time.sleep(0.1)"
    events = proven(seqsup("start", write(tmp_path, agent("a", _python(moment))), "--json"))
    _in_a_cgroup(events)
    (ended,) = of(events, "attempt_ended")
    assert 100 * MIB <= ended["peak"] < 140 * MIB


def test_page_cache_is_not_in_the_peak_of_a_short_agent(seqsup: Seqsup, tmp_path: Path) -> None:
    writes = f"head -c {100 * MIB} /dev/zero > big; cat big > /dev/null"
    events = proven(seqsup("start", write(tmp_path, shell("a", writes)), "--json"))
    _in_a_cgroup(events)
    (ended,) = of(events, "attempt_ended")
    assert 0 < ended["peak"] < 20 * MIB
