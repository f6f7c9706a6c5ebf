"""Companions, as histories: looks in, phases out. No process, no clock."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.policy.companion import (
    FAILURES,
    STEADY,
    CompanionLife,
    CompanionLook,
    CompanionPhase,
    CompanionRules,
    far_over,
    step,
)
from seqsup.units import MIB

DUE, STARTING, READY = CompanionPhase.DUE, CompanionPhase.STARTING, CompanionPhase.READY
FAILED, GIVEN_UP, ENDED = CompanionPhase.FAILED, CompanionPhase.GIVEN_UP, CompanionPhase.ENDED
RULES = CompanionRules(hard=100 * MIB, ready_timeout=10.0)


def at(seconds: float, **facts: object) -> CompanionLook:
    return CompanionLook(at=seconds, **facts)  # type: ignore[arg-type]


def crash(seconds: float, why: str = "exit 1") -> CompanionLook:
    return at(seconds, broken=why, died=True)


def lives(looks: Iterable[CompanionLook], rules: CompanionRules = RULES) -> list[CompanionLife]:
    life, found = CompanionLife(), []
    for look in looks:
        life = step(life, rules, look)
        found.append(life)
    return found


HISTORIES = {
    "ready at the first look": ([at(0), at(1)], [STARTING, READY]),
    "ready when nothing is lacking": ([at(0), at(1, lacks="no log line"), at(2)], [STARTING, STARTING, READY]),
    "not ready just before its timeout": ([at(0), at(9.9, lacks="x")], [STARTING, STARTING]),
    "not ready in time": ([at(0), at(10, lacks="x")], [STARTING, FAILED]),
    "ready at the very last moment": ([at(0), at(10)], [STARTING, READY]),
    "it ended before it was ready": ([at(0), crash(1)], [STARTING, FAILED]),
    "it could not be started": ([at(0), at(0, broken="not found")], [STARTING, FAILED]),
    "it ended when ready": ([at(0), at(1), crash(5)], [STARTING, READY, FAILED]),
    "above its limit it stays": ([at(0), at(1), at(2, used=149 * MIB)], [STARTING, READY, READY]),
    "half above its limit it does not": ([at(0), at(1), at(2, used=150 * MIB)], [STARTING, READY, FAILED]),
    "while it starts its memory does not count": ([at(0), at(1, lacks="x", used=900 * MIB)], [STARTING, STARTING]),
    "it is started again after a back-off": (
        [at(0), crash(1), at(2), at(2.1), at(2.2)], [STARTING, FAILED, DUE, DUE, STARTING],
    ),
    "the run ends it while it is ready": ([at(0), at(1), at(2, wanted=False)], [STARTING, READY, ENDED]),
    "the run ends it while it rests": ([at(0), crash(1), at(2), at(2, wanted=False)], [STARTING, FAILED, DUE, ENDED]),
    "it crashes as the run ends it": ([at(0), at(1), at(2, wanted=False, broken="x")], [STARTING, READY, ENDED]),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_companion_history(name: str) -> None:
    looks, phases = HISTORIES[name]
    assert [life.phase for life in lives(looks)] == phases


def failures(count: int, apart: float) -> list[CompanionLook]:
    """Looks at a companion that fails so often, each time after so many seconds."""
    looks, now = [], 0.0
    for _ in range(count):
        looks += [at(now), crash(now + apart), at(now + apart), at(now + apart + 60)]
        now += apart + 60
    return looks


def test_companion_is_given_up_after_five_failures_in_a_row() -> None:
    found = lives(failures(FAILURES, 1.0))
    assert [life.failures for life in found if life.phase is FAILED] == [1, 2, 3, 4]
    assert found[-1].phase is GIVEN_UP
    assert (found[-1].failures, found[-1].why, found[-1].died) == (5, "exit 1", True)


def test_failure_after_a_steady_time_is_the_first_of_its_row() -> None:
    found = lives(failures(9, STEADY))
    assert {life.failures for life in found if life.phase is FAILED} == {1}
    assert found[-1].phase is STARTING
    assert lives(failures(2, STEADY - 0.1))[-3].failures == 2


def test_rests_get_longer_with_each_failure() -> None:
    waits = [life.since for life in lives(failures(4, 1.0)) if life.phase is DUE]
    looked = [look.at for look in failures(4, 1.0)][2::4]
    assert [round(due - at, 3) for due, at in zip(waits, looked, strict=True)] == [0.2, 0.4, 0.8, 1.6]


def test_reason_of_a_failure_names_the_numbers() -> None:
    assert lives([at(0), at(10, lacks="no log line")])[-1].why == "it was not ready after 10 s: no log line"
    too_large = lives([at(0), at(1), at(2, used=150 * MIB)])[-1].why
    assert too_large == "its tree reached 150 MiB, far over memory.hard 100 MiB"
    assert not lives([at(0), at(10, lacks="x")])[-1].died


def test_companion_without_a_limit_may_grow() -> None:
    rules = CompanionRules(hard=None, ready_timeout=10.0)
    assert lives([at(0), at(1), at(2, used=10**15)], rules)[-1].phase is READY


def test_far_over_is_half_above_the_limit() -> None:
    assert far_over(100) == 150


LOOKS = st.builds(
    CompanionLook, at=st.floats(0, 1e6), wanted=st.booleans(), broken=st.sampled_from(["", "", "exit 1"]),
    died=st.booleans(), lacks=st.sampled_from(["", "x"]), used=st.integers(0, 10**9),
)  # fmt: skip


@given(st.lists(LOOKS, max_size=60))
def test_any_history_keeps_the_laws(looks: list[CompanionLook]) -> None:
    looks = sorted(looks, key=lambda look: look.at)
    before = CompanionLife()
    for look, life in zip(looks, lives(looks), strict=True):
        if not look.wanted:
            assert life.phase is ENDED
        if before.phase in (GIVEN_UP, ENDED):
            assert life.phase in (before.phase, ENDED)
        if life.phase is READY and before.phase is not READY:
            assert not look.lacks
            assert not look.broken
        if life.phase is STARTING and before.phase is DUE:
            assert look.at >= before.since
        assert life.failures <= FAILURES
        assert (life.phase is GIVEN_UP) <= (life.failures >= FAILURES)
        before = life
