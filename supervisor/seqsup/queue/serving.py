"""A worker of the embedded queue: it takes one job after another, and keeps the result of each."""

import asyncio
import os
import time
from collections.abc import Callable, Container
from contextlib import suppress
from typing import TYPE_CHECKING

from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.queue.jobs import JobResult, Taken
from seqsup.queue.store import CarryOut, QueueError, Unfinished, WorkerStop

if TYPE_CHECKING:
    from seqsup.queue.embedded import EmbeddedQueue

_LONGEST_SLEEP = 30.0  # seconds, because no pipe tells of a window that opens, or of another worker's death
_LOOK = 1.0  # seconds between two looks whether a running job was dropped
_FAULT = 70


class _Held:
    """A job in this worker's hands: the Lease of its CarryOut."""

    def __init__(self, queue: "EmbeddedQueue", taken: Taken) -> None:
        self.taken, self._queue = taken, queue
        self._halt, self._looked = Halt.NONE, 0.0

    def begin(self, run: str, state_dir: str) -> None:
        self._queue.begin(self.taken, run, state_dir)

    def note(self, text: str) -> None:
        with suppress(QueueError):
            self._queue.note(self.taken, text)

    def wanted(self) -> Halt:
        if time.monotonic() - self._looked >= _LOOK:
            with suppress(QueueError):  # a full disk stops no job
                self._halt = self._queue.wanted(self.taken)
            self._looked = time.monotonic()
        return self._halt


async def serve(
    queue: "EmbeddedQueue", worker: str, carry_out: CarryOut, slots: int, until_empty: bool,
    open_now: Callable[[], bool], stop: WorkerStop, pipe: int,
) -> None:  # fmt: skip
    """Take jobs and carry them out until the stop, or with `until_empty` until no job can become ready by itself."""
    wake, tasks = Wake(), dict[int, asyncio.Task[None]]()  # by the number of the job
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe, _hear, pipe, wake)
    subscribed = stop.subscribe(lambda *_: wake.poke())

    def begin(taken: Taken) -> None:
        task = asyncio.create_task(_carry_out(queue, _Held(queue, taken), carry_out))
        tasks[taken.number] = task
        task.add_done_callback(lambda _: wake.poke())

    try:
        while True:
            for number in [number for number, task in tasks.items() if task.done()]:
                tasks.pop(number).result()
            if not stop.halt:
                while len(tasks) < slots and (taken := _next(queue, worker, tasks, open_now)) is not None:
                    begin(taken)
            if not tasks and (stop.halt or (until_empty and not queue.can_go_on())):
                return
            await wake.wait(_sleep(queue, busy=len(tasks) >= slots))
    finally:
        loop.remove_reader(pipe)
        stop.unsubscribe(subscribed)
        for task in tasks.values():
            task.cancel()


def _hear(pipe: int, wake: Wake) -> None:
    os.read(pipe, 4096)
    wake.poke()


def _next(
    queue: "EmbeddedQueue", worker: str, held: Container[int], open_now: Callable[[], bool]
) -> Taken | None:  # fmt: skip
    """Take over a job of a dead worker first, also outside of the window: its agents may still be running."""
    return queue.settle(worker, held) or (queue.take(worker) if open_now() else None)


def _sleep(queue: "EmbeddedQueue", *, busy: bool) -> float:
    at = None if busy else queue.next_time()
    return _LONGEST_SLEEP if at is None else min(max(at - time.time(), 0.05), _LONGEST_SLEEP)


async def _carry_out(queue: "EmbeddedQueue", held: _Held, carry_out: CarryOut) -> None:
    """Carry one job out. Its result is in the journal of runs by then, so it may wait for room in the queue."""
    try:
        result = await carry_out(held)
    except Unfinished as unfinished:
        why = unfinished
        await _until_kept(lambda: queue.release(held.taken, why))
        return
    except Exception as error:
        result = JobResult(exit_code=_FAULT, run=None, why=f"internal error: {error!r}")
    await _until_kept(lambda: queue.finish(held.taken, result))


async def _until_kept(write: Callable[[], object]) -> None:
    while True:
        try:
            write()
        except QueueError:
            await Wake().wait(1)
        else:
            return
