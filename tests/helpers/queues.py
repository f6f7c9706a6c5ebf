"""Queues, jobs, and workers in this process that carry jobs out in no time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from helpers.waiting import DEADLINE
from seqsup.model.enums import Halt
from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import JobResult, JobState, NewJob, Order, Taken
from seqsup.queue.store import CarryOut, Lease, Queue
from seqsup.runner.stop_request import StopRequest
from seqsup.state.run_folder import state_dir

if TYPE_CHECKING:
    pass

End = int | JobResult | Exception | Callable[[Lease], Awaitable[JobResult]]


class Store(Protocol):
    """A place for the jobs of one test."""

    def open(self) -> Queue:
        """Open its queue, as another process would."""


class Embedded:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def open(self) -> Queue:
        return EmbeddedQueue(self.state_dir)


class Fleet:
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Queue:
        from seqsup.queue.fleet import FleetQueue

        return FleetQueue(self.url)


@contextmanager
def desk(worker: str = "w") -> Iterator[Desk]:
    """What a worker sees of the queue of this test's state folder."""
    with closing(QueueFile(state_dir())) as file:
        yield Desk(state_dir(), file, worker)


def new(name: str = "job", order: Order | None = None, **fields: Any) -> NewJob:
    return NewJob(name=name, order=order or Order(folder="/", command=("true",)), **fields)


def add(queue: Queue, name: str = "job", **fields: Any) -> int:
    (number,) = queue.add([new(name, **fields)])
    return number


class Hands:
    """A CarryOut that ends each job as `ends` says by its name, else well. It remembers the jobs."""

    def __init__(self, ends: Mapping[str, End] | None = None) -> None:
        self._ends = ends or {}
        self.taken: list[Taken] = []

    @property
    def names(self) -> list[str]:
        return [taken.name for taken in self.taken]

    async def __call__(self, lease: Lease) -> JobResult:
        self.taken.append(lease.taken)
        end = self._ends.get(lease.taken.name, 0)
        if isinstance(end, Exception):
            raise end
        if isinstance(end, int):
            return JobResult(exit_code=end, run=None)
        return end if isinstance(end, JobResult) else await end(lease)


async def serve(
    queue: Queue, carry_out: CarryOut, *, worker: str = "w", slots: int = 1, until_empty: bool = True,
    open_now: Callable[[], bool] = lambda: True, stop: StopRequest | None = None,
) -> None:  # fmt: skip
    """Serve a queue, and fail after a while if it has no end."""
    serving = queue.serve(
        worker, carry_out, slots=slots, until_empty=until_empty, open_now=open_now, stop=stop or StopRequest()
    )
    await asyncio.wait_for(serving, DEADLINE)


def work(queue: Queue, ends: Mapping[str, End] | None = None, **how: Any) -> Hands:
    """Have a worker carry out all that it can."""
    hands = Hands(ends)
    asyncio.run(serve(queue, hands, **how))
    return hands


async def until(fact: Callable[[], object]) -> None:
    """Wait for a fact while a worker serves."""
    async with asyncio.timeout(DEADLINE):
        while not fact():
            await asyncio.sleep(0.01)


async def until_stopped(lease: Lease) -> JobResult:
    """Be a job that runs until it is to end."""
    await until(lease.wanted)
    return JobResult(exit_code=143, run=None, why=f"stopped {Halt(lease.wanted()).name}", cancelled=True)


def stop(request: StopRequest, halt: Halt = Halt.AFTER_AGENT) -> None:
    request.wish(halt, 15, "the test")


def states(queue: Queue) -> dict[str, JobState]:
    """Return the state of each job by its name."""
    return {job.name: job.state for job in queue.jobs(over=1000, waiting=1000)}


async def beside(serving: Awaitable[None], request: StopRequest, *facts: Callable[[], object]) -> None:
    """Serve, wait for one fact after another, and stop."""
    task = asyncio.ensure_future(serving)
    try:
        for fact in facts:
            waiting = asyncio.ensure_future(until(fact))
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not waiting.done():
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
                task.result()
                raise AssertionError("the worker ended by itself")
            await waiting
        stop(request)
        await task
    finally:
        task.cancel()


def opened(store: Store) -> closing[Any]:
    return closing(store.open())
