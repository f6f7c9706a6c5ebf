"""Memory and disk: whether there is enough to start, to continue, and to finish a drain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.process import Sample
from seqsup.policy import resources
from seqsup.policy.resources import DISK_FLOOR, FRESH, disk_too_full, no_room
from seqsup.units import GIB, MIB


def at(seconds: float, mib: float) -> Sample:
    return Sample(at=seconds, used=int(mib * MIB), processes=1, host_available=8000 * MIB)


@pytest.mark.parametrize(
    ("stopped", "used", "first"),
    [
        ({}, {"a": 10, "b": 30, "c": 20}, {"b"}),
        ({}, {"a": 30, "b": 30}, {"a"}),
        ({"b": 9.5}, {"a": 10, "b": 30, "c": 20}, {"b"}),  # what it held is not back yet
        ({"b": 9.0}, {"a": 10, "b": 30, "c": 20}, {"b", "c"}),  # that was not enough, or it does not end
        ({"b": 8.0, "c": 9.5}, {"a": 10, "b": 30, "c": 20}, {"b", "c"}),
        ({"b": 7.0, "c": 8.0}, {"a": 10, "b": 30, "c": 20}, {"a", "b", "c"}),
    ],
)
def test_largest_agent_is_stopped_first_for_the_host_floor(
    stopped: dict[str, float], used: dict[str, int], first: set[str]
) -> None:
    seen = {agent: at(10, mib) for agent, mib in used.items()}
    assert {agent for agent in seen if not resources.spared(agent, seen, stopped, 10)} == first


def test_agent_that_was_not_measured_lately_does_not_spare_another() -> None:
    seen = {"a": at(10, 10), "b": at(10 - FRESH, 30)}
    assert not resources.spared("a", seen, {}, 10)


@pytest.mark.parametrize(
    ("available", "owned", "need", "threshold", "missing"),
    [
        (1000, 10, 1000, 10, []),
        (999, 10, 1000, 10, ["999 MiB", "1000 MiB"]),
        (1000, 11, 1000, 10, ["11 MiB", "10 MiB"]),
        (1, 11, 1000, 10, ["1 MiB", "1000 MiB", "11 MiB", "10 MiB"]),
        (1, 11, None, 10, ["11 MiB", "10 MiB"]),
        (1, 11, 1000, None, ["1 MiB", "1000 MiB"]),
        (1, 11, None, None, []),
    ],
)
def test_drained(available: int, owned: int, need: int | None, threshold: int | None, missing: list[str]) -> None:
    said = resources.drained(
        available=available * MIB,
        owned=owned * MIB,
        need_available=need * MIB if need is not None else None,
        threshold=threshold * MIB if threshold is not None else None,
        unkilled={},
    )
    assert bool(said) == bool(missing)
    assert all(number in said for number in missing)


def test_memory_is_not_back_while_a_process_survives_sigkill() -> None:
    said = resources.drained(available=MIB, owned=0, need_available=None, threshold=None, unkilled={7: 2 * MIB})
    assert said == "pid 7 is still running after SIGKILL (2 MiB)"


@pytest.mark.parametrize(
    ("own", "first", "grew"),
    [(96, 40, False), (97, 40, True), (150, 100, False), (151, 100, True)],
)
def test_supervisor_grew_by_half_and_beyond_96_mib(own: int, first: int, grew: bool) -> None:
    assert resources.supervisor_grew(own * MIB, first * MIB) is grew


@pytest.mark.parametrize(
    ("room", "most", "need", "floor", "claimed", "why"),
    [
        (900, 1000, 500, 100, None, ""),
        (599, 1000, 500, 100, None,
         "needs 500 MiB and memory.host_floor reserves 100 MiB, but only 599 MiB is available"),
        (499, 1000, 500, None, None, "needs 500 MiB, but only 499 MiB is available"),
        (99, 1000, None, 100, None, "99 MiB are available, below memory.host_floor 100 MiB"),
        (100, 1000, None, 100, None, ""),
        (1, 1000, None, None, None, ""),
        # no agent must wait for more memory than there ever was, apart from noise of the host
        (1000, 1000, 8000, 100, None, ""),
        (951, 1000, 8000, 100, None, ""),
        (900, 1000, 8000, 100, None,
         "needs 850 MiB and memory.host_floor reserves 100 MiB, but only 900 MiB is available"),
        (90, 100, 8000, 512, None, "90 MiB are available, below memory.host_floor 512 MiB"),
        # beside others
        (1000, 1000, 400, 100, 500, ""),
        (999, 1000, 400, 100, 500,
         "needs 400 MiB; running agents may need 500 MiB more and memory.host_floor reserves 100 MiB,"
         " but only 999 MiB is available"),
        (500, 1000, 400, 100, 0, ""),  # they have all that they may take
        (450, 1000, 400, None, 100,
         "needs 400 MiB; running agents may need 100 MiB more, but only 450 MiB is available"),
        (99, 1000, 400, 100, 500, "99 MiB are available, below memory.host_floor 100 MiB"),
    ],
)  # fmt: skip
def test_reason_against_a_start(
    room: int, most: int, need: int | None, floor: int | None, claimed: int | None, why: str
) -> None:
    mib = [None if size is None else size * MIB for size in (room, most, need, floor, claimed)]
    assert no_room(**dict(zip(("room", "most", "need", "floor", "claimed"), mib, strict=True))) == why  # type: ignore[arg-type]


@given(
    free=st.integers(0, 2**50), total=st.integers(0, 2**50), floor=st.none() | st.just("auto") | st.integers(0, 2**50)
)
def test_a_disk_is_too_full_exactly_below_its_floor(free: int, total: int, floor: int | str | None) -> None:
    least = {None: 0, "auto": min(DISK_FLOOR, total // 20)}.get(floor, floor)  # type: ignore[arg-type]
    assert bool(disk_too_full(free, total, floor)) == (free < int(least or 0))


@pytest.mark.parametrize(
    ("free", "total", "floor", "said"),
    [
        (256 * MIB, 100 * GIB, "auto", ""),
        (256 * MIB - 1, 100 * GIB, "auto", "has 256 MiB free, below run.disk_floor 256 MiB"),
        (100 * MIB, 100 * GIB, "auto", "has 100 MiB free, below run.disk_floor 256 MiB"),
        (50 * MIB, 1000 * MIB, "auto", ""),
        (49 * MIB, 1000 * MIB, "auto", "has 49 MiB free, below run.disk_floor 50 MiB"),
        (1 * GIB, 100 * GIB, 2 * GIB, "has 1 GiB free, below run.disk_floor 2 GiB"),
        (0, 100 * GIB, None, ""),
        (0, 100 * GIB, 0, ""),
    ],
)
def test_disk_below_its_floor_is_reported_with_the_numbers(
    free: int, total: int, floor: int | str | None, said: str
) -> None:
    told = disk_too_full(free, total, floor)
    assert told == (f"the state folder's disk {said}; free some space to continue" if said else "")


def test_room_just_below_the_floor_is_shown_with_digits_that_differ() -> None:
    told = no_room(room=2 * GIB - MIB, most=8 * GIB, need=None, floor=2 * GIB, claimed=None)
    assert told == "2047 MiB are available, below memory.host_floor 2048 MiB"


def test_need_of_an_agent_that_runs_alone_is_bounded_by_what_the_host_had() -> None:
    """95 of 100 MiB that were available, less the floor of 20."""
    asked = {"most": 100 * MIB, "need": 8 * GIB, "floor": 20 * MIB, "claimed": None}
    assert no_room(room=95 * MIB, **asked) == ""  # type: ignore[arg-type]
    assert "needs 75 MiB and" in no_room(room=94 * MIB, **asked)  # type: ignore[arg-type]


def test_every_shortage_of_memory_is_reported() -> None:
    said = resources.drained(
        available=GIB, owned=30 * MIB, need_available=2 * GIB, threshold=20 * MIB, unkilled={7: 2 * MIB, 9: MIB}
    )
    assert said == (
        "pid 7 is still running after SIGKILL (2 MiB); pid 9 is still running after SIGKILL (1 MiB);"
        " 1 GiB available; waiting for 2 GiB (drain.available); the run still uses 30 MiB, above drain.threshold"
        " 20 MiB"
    )


def test_small_shortage_of_memory_is_shown_with_digits_that_differ() -> None:
    said = resources.drained(
        available=2 * GIB - MIB, owned=2 * GIB + MIB, need_available=2 * GIB, threshold=2 * GIB, unkilled={}
    )
    assert "2047 MiB available; waiting for 2048 MiB" in said
    assert "uses 2049 MiB, above drain.threshold 2048 MiB" in said


@pytest.mark.parametrize(("ago", "spared"), [(FRESH - 0.01, True), (FRESH, False)])
def test_agent_is_spared_for_a_larger_one_that_was_looked_at_within_two_seconds(ago: float, spared: bool) -> None:
    seen = {"a": at(10, 10), "b": at(10 - ago, 30)}
    assert resources.spared("a", seen, {}, 10) is spared


def test_agent_that_was_never_measured_is_spared_for_one_that_was() -> None:
    assert not resources.spared("a", {}, {}, 10)
    assert resources.spared("a", {"b": at(10, 1)}, {}, 10)
