"""Memory that counts without a cgroup: shared mappings, forked pages, and pages freed with MADV_FREE."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.supervised import Tried, step, tried
from seqsup.model.events import StopSent
from seqsup.model.reason import Reason
from seqsup.units import MIB

pytestmark = pytest.mark.memory

Run = Callable[..., Tried]


@pytest.fixture
def run(tmp_path: Path, stub: Callable[..., list[str]]) -> Run:
    def once(what: str, mib: int, hard: int) -> Tried:
        made = step(*stub("shares", what, mib), cwd=tmp_path, limits={"hard": hard * MIB}, timeouts={"wall": 20.0})
        return tried(made, tmp_path / "run")

    return once


def test_mapping_that_many_processes_fill_in_parts_is_killed_at_hard(run: Run) -> None:
    made = run("parts", 640, 256)
    assert made.reason is Reason.HARD
    assert 256 * MIB <= made.outcome.peak < 400 * MIB
    (stopped,) = (event for event in made.events if isinstance(event, StopSent))
    assert sum(process.bytes for process in stopped.processes) <= made.outcome.peak
    assert " by PSS" in made.outcome.why or " by resident pages" in made.outcome.why


def test_pages_given_back_do_not_cause_a_kill(run: Run) -> None:
    made = run("freed", 96, 256)
    assert (made.reason, made.outcome.why) == (Reason.COMPLETED, "")
    assert made.outcome.peak < 256 * MIB


def test_pages_that_forked_processes_share_do_not_cause_a_kill(run: Run) -> None:
    made = run("forks", 300, 700)
    assert (made.reason, made.outcome.why) == (Reason.COMPLETED, "")
    assert made.outcome.peak < 500 * MIB
