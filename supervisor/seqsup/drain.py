"""Proof that an agent's memory is back: no stray of it anywhere, and what the profile wants is available again."""

import time
from collections.abc import Iterator

from . import policy
from .attempt import Ended, World
from .containment.cookie import bearers
from .containment.stop import stop
from .events import Drained
from .model import Halt, ProcessMemory, Step

_FIRST_INTERVAL = 0.01  # seconds; it grows to the profile's


async def drain(step: Step, number: int, ended: Ended, cookie: str, world: World) -> Drained:
    """Stop strays, then wait until memory is back or the profile's timeout is over; the event says which."""
    began = time.monotonic()
    rule = step.drain
    strays: tuple[ProcessMemory, ...] = ()
    if rule.sweep and any(_strays(cookie, ended, world)):
        strays, _ = await stop(
            lambda: _strays(cookie, ended, world), world.wake, grace=policy.LEFTOVER_GRACE, deadline=rule.timeout
        )
    interval = _FIRST_INTERVAL
    while True:
        available, owned = world.host.available(), world.host.own() + world.beside() + world.reaper.let_go_bytes()
        missing = policy.drained(
            available=available, owned=owned, need_available=rule.available, threshold=rule.threshold,
            unkilled=world.reaper.still_abandoned(),
        )  # fmt: skip
        waited, forced = time.monotonic() - began, world.operator.halt is Halt.KILL
        if not missing or waited >= rule.timeout or forced:
            break
        await world.wake.wait(min(interval, rule.timeout - waited))
        interval = min(interval * 2, rule.interval)
    return Drained(
        agent=step.name, attempt=number, reached=not missing, seconds=time.monotonic() - began,
        before=ended.last_available, after=available, freed=available - ended.last_available, owned=owned,
        strays=strays, why=missing, on_timeout=rule.on_timeout if missing and not forced else None,
    )  # fmt: skip


def _strays(cookie: str, ended: Ended, world: World) -> Iterator[int]:
    return bearers(cookie, ended.tree, except_pids=ended.bystanders | world.reaper.let_go())
