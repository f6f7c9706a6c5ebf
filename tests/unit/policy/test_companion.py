"""Companions, as histories: looks in, phases out. No process, no clock."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import Restart
from seqsup.model.plan import CompanionStart
from seqsup.model.profile import Readiness
from seqsup.policy.companion import (
    FAILURES,
    STEADY,
    CompanionLife,
    CompanionLook,
    CompanionPhase,
    far_over,
    over_hard,
    pause,
    restart_due,
    step,
    why_given_up,
)
from seqsup.policy.watch import LEFTOVER_GRACE
from seqsup.units import MIB

DUE, STARTING, READY = CompanionPhase.DUE, CompanionPhase.STARTING, CompanionPhase.READY
FAILED, GIVEN_UP, ENDED = CompanionPhase.FAILED, CompanionPhase.GIVEN_UP, CompanionPhase.ENDED


def start(hard: int | None = 100 * MIB, delay: float | None = None) -> CompanionStart:
    return CompanionStart(
        name="mcp", command=("mcp",), cwd="/", env={}, ready=Readiness(delay=delay, timeout=10.0), restart_every=3,
        hard=hard, grace=7.0, environment={},
    )  # fmt: skip


START = start()


def at(seconds: float, **facts: object) -> CompanionLook:
    return CompanionLook(at=seconds, **facts)  # type: ignore[arg-type]


def crash(seconds: float, why: str = "exit 1") -> CompanionLook:
    return at(seconds, broken=why, died=True)


def lives(looks: Iterable[CompanionLook], start: CompanionStart = START) -> list[CompanionLife]:
    life, found = CompanionLife(), []
    for look in looks:
        life = step(life, start, look)
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
    assert too_large == "killed at 150 MiB, far above memory.hard 100 MiB"
    assert not lives([at(0), at(10, lacks="x")])[-1].died


def test_companion_that_is_far_too_large_is_given_up_as_one_that_crashes() -> None:
    too_large = [look for now in range(0, 600, 60) for look in (at(now), at(now), at(now, used=200 * MIB))]
    life = next(life for life in lives(too_large) if life.phase is GIVEN_UP)
    assert why_given_up(life).startswith("was killed 5 times in a row; last time: killed at 200 MiB")


def test_companion_that_cannot_be_started_is_given_up_in_other_words() -> None:
    vain = [look for now in range(0, 600, 60) for look in (at(now), at(now, broken="not found"), at(now))]
    life = next(life for life in lives(vain) if life.phase is GIVEN_UP)
    assert why_given_up(life) == "failed to start 5 times; last time: not found"


GRACES = {
    "the run ends it": ([at(0), at(1), at(2, wanted=False)], 7.0),
    "the run ends it while it starts": ([at(0), at(1, lacks="x"), at(2, wanted=False)], 7.0),
    "it crashed, and left others": ([at(0), at(1), crash(2)], LEFTOVER_GRACE),
    "not ready in time": ([at(0), at(10, lacks="x")], LEFTOVER_GRACE),
    "far too large": ([at(0), at(1), at(2, used=150 * MIB)], 0.0),
}


@pytest.mark.parametrize("name", GRACES)
def test_grace_of_what_is_left_depends_on_the_end(name: str) -> None:
    looks, grace = GRACES[name]
    assert lives(looks)[-1].grace == grace


PAUSES = {
    "until the back-off is over": (CompanionLife(phase=DUE, since=5.0), at(3), 2.0),
    "at once when it is over": (CompanionLife(phase=DUE, since=5.0), at(6), 0.001),
    "first look at its start": (CompanionLife(phase=STARTING, since=5.0), at(5), 0.02),
    "as long as it takes already": (CompanionLife(phase=STARTING, since=5.0), at(5.25), 0.25),
    "half a second at most": (CompanionLife(phase=STARTING, since=5.0), at(9), 0.5),
    "a second while it is ready": (CompanionLife(phase=READY), at(9), 1.0),
}


@pytest.mark.parametrize("name", PAUSES)
def test_pause_until_the_next_look(name: str) -> None:
    life, look, seconds = PAUSES[name]
    assert pause(life, start(hard=None), look, 0.0, 2) == pytest.approx(seconds)


def test_pause_is_no_longer_than_the_delay_of_its_readiness() -> None:
    life = CompanionLife(phase=STARTING, since=5.0)
    assert pause(life, start(delay=0.3), at(5.2), 0.0, 2) == pytest.approx(0.1)
    assert pause(life, start(delay=0.3), at(5.4), 0.0, 2) == pytest.approx(0.4)


def test_pause_is_short_near_the_limit() -> None:
    life = CompanionLife(phase=READY)
    far, near = (pause(life, START, at(9, used=used), 0.0, 2) for used in (10 * MIB, 149 * MIB))
    assert 0 < near < far < 1
    assert pause(life, START, at(9, used=10 * MIB), 1e12, 2) < far


def test_restart_between_agents_is_due_above_the_limit_or_after_so_many_agents() -> None:
    large = Restart.MEMORY, "its tree uses 100 MiB; a GC freed 0 (memory.hard 100 MiB)"
    assert restart_due(START, 1, 100 * MIB, "; a GC freed 0") == large
    assert restart_due(START, 1, 99 * MIB, "") is None
    assert restart_due(START, 3, 99 * MIB, "") == (Restart.EVERY_N, "3 agents since its start")
    assert restart_due(start(hard=None), 1, 10**15, "") is None


def test_companion_that_no_agent_used_is_not_restarted_for_its_size() -> None:
    assert over_hard(START, 200 * MIB)
    assert restart_due(START, 0, 200 * MIB, "") is None


def test_companion_without_a_limit_may_grow() -> None:
    assert lives([at(0), at(1), at(2, used=10**15)], start(hard=None))[-1].phase is READY


def test_companion_that_is_killed_for_its_memory_is_restarted_for_memory() -> None:
    by_us = lives([at(0), at(1), at(2, used=150 * MIB)])[-1]
    by_kernel = lives([at(0), at(1), at(2, broken="SIGKILL", died=True, oom="oom_kill 1")])[-1]
    crashed = lives([at(0), at(1), crash(2)])[-1]
    assert [life.restart for life in (by_us, by_kernel, crashed)] == [Restart.MEMORY, Restart.MEMORY, Restart.CRASHED]
    assert by_kernel.why == "killed by the kernel at 150 MiB, far above memory.hard 100 MiB; oom_kill 1"


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


# -- each row of the table, just before its moment and at it


def failed_once(at_seconds: float) -> list[CompanionLook]:
    """It starts, is ready, crashes at this moment, and its processes are gone."""
    return [at(0), at(0), crash(at_seconds), at(at_seconds)]


@pytest.mark.parametrize(("waited", "phase"), [(0.19, DUE), (0.21, STARTING)])
def test_failed_companion_is_started_again_once_its_back_off_is_over(waited: float, phase: CompanionPhase) -> None:
    assert lives([*failed_once(1.0), at(1.0 + waited)])[-1].phase is phase


@pytest.mark.parametrize(("lived", "failures"), [(STEADY - 0.1, 2), (STEADY, 1), (STEADY + 0.1, 1)])
def test_failures_are_counted_from_zero_after_a_minute(lived: float, failures: int) -> None:
    again = [at(10), at(10), crash(10 + lived)]
    assert lives([*failed_once(1.0), *again])[-1].failures == failures


def test_minute_is_counted_from_the_start_and_not_from_readiness() -> None:
    slow = [at(10), at(19, lacks="x"), at(19.5), crash(10 + STEADY)]
    assert lives([*failed_once(1.0), *slow])[-1].failures == 1


def test_fifth_failure_gives_it_up_and_the_fourth_does_not() -> None:
    assert lives(failures(FAILURES - 1, 1.0))[-2].phase is DUE
    given_up = lives([*failures(FAILURES, 1.0), at(10_000.0)])
    assert given_up[-1].phase is GIVEN_UP, "for good"
    assert FAILURES == 5


def test_timeout_of_readiness_counts_from_each_start() -> None:
    late = [at(100), at(109.9, lacks="x"), at(110, lacks="x")]
    assert [life.phase for life in lives([*failed_once(1.0), *late])][-3:] == [STARTING, STARTING, FAILED]


def test_ready_companion_that_lacks_something_again_stays_ready() -> None:
    assert lives([at(0), at(1), at(100, lacks="x")])[-1].phase is READY


def test_companion_that_fails_is_reported_with_its_own_words() -> None:
    found = lives([at(0), at(20, broken="not found", lacks="x")])[-1]
    assert (found.why, found.died, found.failures) == ("not found", False, 1)
    crashed = lives([at(0), at(1), crash(2, "signal 11")])[-1]
    assert (crashed.why, crashed.died) == ("signal 11", True)
