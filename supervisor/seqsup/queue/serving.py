"""A worker of the embedded queue: it takes one job after another, and keeps the result of each."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path

from seqsup.host.slim_asyncio import asyncio
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.queue.desk import Desk
from seqsup.queue.jobs import JobResult, Taken
from seqsup.queue.store import CarryOut, QueueError, Unfinished, WorkerStop

_LONGEST_SLEEP = 30.0  # seconds, because no pipe tells of a window that opens, or of another worker's death
_LOOK = 1.0  # seconds between two looks whether a running job is to end
_FAULT = 70


class _Held:
    """A job in this worker's hands: the Lease of its CarryOut."""

    lease_file: Path | None = None

    def __init__(self, desk: Desk, taken: Taken) -> None:
        self.taken, self._desk = taken, desk
        self._halt, self._looked = Halt.NONE, -inf

    def begin(self, run: str, state_dir: str) -> None:
        with suppress(QueueError):  # its run is found by its cookie
            self._desk.begin(self.taken, run, state_dir)

    def note(self, text: str) -> None:
        with suppress(QueueError):
            self._desk.note(self.taken, text)

    def wanted(self) -> Halt:
        if time.monotonic() - self._looked >= _LOOK:
            with suppress(QueueError):  # a full disk stops no job
                self._halt = self._desk.wanted(self.taken)
            self._looked = time.monotonic()
        return self._halt


class Worker:
    """Takes jobs, and has each carried out."""

    def __init__(
        self, desk: Desk, carry_out: CarryOut, slots: int, open_now: Callable[[], bool], stop: WorkerStop
    ) -> None:  # fmt: skip
        self._desk, self._carry_out, self._slots = desk, carry_out, slots
        self._open_now, self._stop, self._wake = open_now, stop, Wake()
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by the number of the job

    async def serve(self, pipe: int, *, until_empty: bool) -> None:
        """Do so until the stop, or with `until_empty` until no job can become ready by itself.

        If the queue cannot be used, finish the jobs that run, and raise its error.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe, self._hear, pipe)
        subscribed = self._stop.subscribe(lambda *_: self._wake.poke())
        try:
            while (sleep := self._look(until_empty=until_empty)) is not None:
                await self._wake.wait(sleep)
        except QueueError:
            await asyncio.gather(*self._tasks.values())
            raise
        finally:
            loop.remove_reader(pipe)
            self._stop.unsubscribe(subscribed)
            for task in self._tasks.values():
                task.cancel()

    def _hear(self, pipe: int) -> None:
        with suppress(BlockingIOError):
            os.read(pipe, 65536)
        self._wake.poke()

    def _look(self, *, until_empty: bool) -> float | None:
        """Take what can be taken, and return for how many seconds to sleep; None: this worker is done."""
        for number in [number for number, task in self._tasks.items() if task.done()]:
            self._tasks.pop(number).result()
        if not self._stop.halt:
            while len(self._tasks) < self._slots and (taken := self._next()) is not None:
                self._begin(taken)
        if not self._tasks and (self._stop.halt or (until_empty and not self._desk.has_more())):
            return None
        at = None if self._stop.halt or len(self._tasks) >= self._slots else self._desk.next_time()
        return _LONGEST_SLEEP if at is None else min(max(at - time.time(), _LOOK / 20), _LONGEST_SLEEP)

    def _next(self) -> Taken | None:
        """Take over a job of a dead worker first, also outside of the window: its agents may still be running."""
        return self._desk.settle(self._tasks) or (self._desk.take() if self._open_now() else None)

    def _begin(self, taken: Taken) -> None:
        task = asyncio.create_task(self._carry(_Held(self._desk, taken)))
        task.add_done_callback(lambda _: self._wake.poke())
        self._tasks[taken.number] = task

    async def _carry(self, held: _Held) -> None:
        """Carry one job out. Its result is in the journal of runs by then, so it may wait for room in the queue."""
        taken = held.taken
        try:
            result = await self._carry_out(held)
        except Unfinished as unfinished:
            why = unfinished
            await self._until_kept(lambda: self._desk.give_back(taken, why))
            return
        except Exception as error:
            result = JobResult(exit_code=_FAULT, run=None, why=f"internal error: {error!r}")
        await self._until_kept(lambda: self._desk.finish(taken, result))

    async def _until_kept(self, write: Callable[[], object]) -> None:
        """Write until the queue accepts it.

        If this worker is to stop now, leave it to the next one, which finds the result in the journal of runs.
        """
        while True:
            try:
                write()
            except QueueError:
                if self._stop.halt >= Halt.NOW:
                    raise
                await Wake().wait(1)
            else:
                return
