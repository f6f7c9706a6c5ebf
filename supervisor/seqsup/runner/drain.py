"""Proof that an agent's memory is back: no stray of it anywhere, and what the profile wants is available again."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from seqsup.containment.mark import bearers
from seqsup.containment.memory_files import kept_since
from seqsup.containment.stop import stop_leftovers
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.model.events import Drained
from seqsup.model.plan import Drain, Step
from seqsup.model.process import ProcessMemory
from seqsup.policy import resources, watch
from seqsup.runner.attempt import Ended
from seqsup.runner.context import RunContext
from seqsup.text import printable
from seqsup.units import format_size

_FIRST_INTERVAL = 0.01  # seconds; it grows to the profile's
_QUICK = 1.0  # seconds: in less, numbers of processes do not come round to where they were
_NAMED = 3  # files


class Back(NamedTuple):
    """Result of a wait for memory."""

    missing: str  # empty when it is back
    available: int  # of the host, in bytes
    owned: int  # by the run
    seconds: float


class Drainer:
    """Stops what ended agents left, and waits until their memory is back."""

    def __init__(
        self, cookie: str, companions_used: Callable[[], int], run_began: Callable[[], float], context: RunContext
    ) -> None:
        """`companions_used` gives bytes, `run_began` seconds of the epoch."""
        self._cookie, self._companions_used, self._run_began = cookie, companions_used, run_began
        self._host, self._reaper, self._stop_request = context.host, context.reaper, context.stop_request

    async def drain(self, step: Step, number: int, ended: Ended, wake: Wake) -> Drained:
        """Stop strays, then wait until memory is back or the profile's timeout is over; the event says which."""
        began = time.monotonic()
        rule = step.drain
        strays: tuple[ProcessMemory, ...] = ()
        if rule.sweep and any(self._strays(ended)):
            strays, _ = await stop_leftovers(
                lambda: self._strays(ended), wake, grace=watch.LEFTOVER_GRACE, deadline=rule.timeout
            )
        found = await self.until_back(rule, rule.available, wake, began=began, enough=Halt.KILL)
        forced = self._stop_request.halt is Halt.KILL
        return Drained(
            agent=step.name, attempt=number, reached=not found.missing, seconds=found.seconds,
            before=ended.host_before, after=found.available, owned=found.owned, strays=strays, why=found.missing,
            end=ended.outcome.end, gave_back=_given_back(ended, strays),
            on_timeout=rule.on_timeout if found.missing and not forced else None,
        )  # fmt: skip

    async def until_back(
        self, rule: Drain, available_again: int | None, wake: Wake, *, began: float, enough: Halt
    ) -> Back:
        """Wait until the host has that much available again and the run's memory is within its bound.

        Ends at the profile's timeout, counted from `began`, or when the stop request is `enough`.
        """
        interval = _FIRST_INTERVAL
        while True:
            available = self._host.available()
            owned = self._host.own() + self._companions_used() + self._reaper.let_go_bytes()
            missing = resources.drained(
                available=available, owned=owned, need_available=available_again, threshold=rule.threshold,
                unkilled=self._reaper.still_abandoned(),
            )  # fmt: skip
            waited = time.monotonic() - began
            if not missing or waited >= rule.timeout or self._stop_request.halt >= enough:
                break
            await wake.wait(min(interval, rule.timeout - waited))
            interval = min(interval * 2, rule.interval)
        if available_again is not None and available < available_again:
            missing += _in_memory(self._run_began())
        return Back(missing, available, owned, time.monotonic() - began)

    def _strays(self, ended: Ended) -> Iterator[int]:
        born = self._reaper.born_since(ended.since) if time.monotonic() - ended.began < _QUICK else None
        return bearers(self._cookie, ended.tree, except_pids=self._reaper.let_go(), among=born)


def _given_back(ended: Ended, strays: tuple[ProcessMemory, ...]) -> int | None:
    """Return the bytes that an attempt's tree and leftover processes used and no longer do; None if never measured."""
    left_over = sum(process.bytes for process in ended.outcome.left_over)
    found = sum(process.bytes for process in strays)
    if ended.outcome.end is None and not left_over + found:
        return None
    return max(max(ended.outcome.end or 0, left_over) - ended.kept, 0) + found


def _in_memory(since: float) -> str:
    """Name memory without a process."""
    if not (files := kept_since(since)):
        return ""
    largest = " · ".join(f"{printable(name)} {format_size(size)}" for name, size in list(files.items())[:_NAMED])
    others = len(files) - _NAMED
    more = f" · {others} more" if others > 0 else ""
    return f"; files in memory since the run began: {format_size(sum(files.values()))} ({largest}{more})"
