"""Memory and disk: whether there is enough of them to start, to go on, and to be done."""

import pytest

from seqsup.model.process import Sample
from seqsup.policy import resources
from seqsup.policy.resources import FRESH
from seqsup.units import MIB


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
def test_for_the_hosts_floor_the_largest_is_stopped_first(
    stopped: dict[str, float], used: dict[str, int], first: set[str]
) -> None:
    seen = {agent: at(10, mib) for agent, mib in used.items()}
    assert {agent for agent in seen if not resources.spared(agent, seen, stopped, 10)} == first


def test_who_was_not_looked_at_lately_is_no_reason_to_spare_another() -> None:
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


def test_memory_is_not_back_while_somebody_survives_sigkill() -> None:
    said = resources.drained(available=MIB, owned=0, need_available=None, threshold=None, unkilled={7: 2 * MIB})
    assert said == "pid 7 took SIGKILL, still there with 2 MiB"
