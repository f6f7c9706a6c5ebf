"""Whoever waits sleeps on while all is still, and no longer."""

import asyncio

import pytest

from seqsup.host.wake import Wake

LONG = 60.0  # seconds, of which none of these stories takes one


def waited(wake: Wake, answers: list[float], seconds: float = LONG) -> int:
    """Let one wait who is told these when it asks for how long all is still; how often it asked."""
    left = list(answers)
    asyncio.run(asyncio.wait_for(wake.wait(seconds, 0.001, lambda: left.pop(0)), LONG / 2))
    return len(answers) - len(left)


def test_a_wait_lasts_while_all_is_found_still() -> None:
    assert waited(Wake(), [0.001, 0.002, 0.0, 0.001]) == 3


def test_a_wait_is_over_in_time_however_still_it_is() -> None:
    assert 0 < waited(Wake(), [0.001] * 1000, seconds=0.05) <= 50


def test_a_poke_ends_it_though_all_is_still() -> None:
    wake = Wake()

    def still() -> float:
        wake.poke()
        return 0.001

    asyncio.run(asyncio.wait_for(wake.wait(LONG, 0.001, still), LONG / 2))


def test_what_fails_while_it_sleeps_fails_for_who_waits() -> None:
    with pytest.raises(IndexError):
        waited(Wake(), [0.001])
