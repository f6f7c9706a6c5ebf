"""The one place that waits: it wakes at a poke, and in time."""

import asyncio

import pytest

from seqsup.host.wake import Wake

LONG = 60.0  # seconds, of which none of these stories takes one


def test_poke_ends_a_wait_of_a_branch_too() -> None:
    async def story() -> None:
        wake = Wake()
        branch = wake.branch()
        waits = asyncio.gather(wake.wait(LONG), branch.wait(LONG))
        await asyncio.sleep(0)
        wake.poke()
        await asyncio.wait_for(waits, LONG / 2)

    asyncio.run(story())


def test_poke_before_a_wait_is_not_lost() -> None:
    async def story() -> None:
        wake = Wake()
        wake.poke()
        await asyncio.wait_for(wake.wait(LONG), LONG / 2)

    asyncio.run(story())


def test_wait_is_over_in_time() -> None:
    asyncio.run(asyncio.wait_for(Wake().wait(0.01), LONG / 2))


def test_second_task_needs_a_branch() -> None:
    async def story() -> None:
        wake = Wake()
        first = asyncio.create_task(wake.wait(LONG))
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="branch"):
            await wake.wait(LONG)
        wake.poke()
        await asyncio.wait_for(first, LONG / 2)

    asyncio.run(story())
