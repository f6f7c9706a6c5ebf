"""What every queue can do, wherever its jobs are kept."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from seqsup.errors import Refused, SeqsupError
from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue.jobs import Job, JobResult, JobState, NewJob, Taken


class QueueError(Refused):
    """The queue cannot be used: the message says why, and what to do. Nothing was changed."""


class NoSuchJob(SeqsupError):
    """The queue has no job of this number."""


class Lease(Protocol):
    """A worker's hold on one job, while it is carried out."""

    taken: Taken
    lease_file: Path | None  # says until when this machine may run the job; None: no other machine gets it

    def begin(self, run: str, state_dir: str) -> None:
        """Record which run carries the job out."""

    def note(self, text: str) -> None:
        """Record what the job does now, for `seqsup queue`. Lost notes do no harm."""

    def wanted(self) -> Halt:
        """Return how soon the job must end: because it was stopped, or because this worker has lost it.

        The end of the worker is no such reason: a CarryOut hears of it by the worker's own stop.
        """


class Unfinished(Exception):
    """A job is not over, and its run can be resumed: it becomes ready again with its run, before jobs of its priority.

    Raised by a CarryOut. `lost`: the supervisor of the run was killed, which counts as a lost machine.
    """

    def __init__(self, why: str, *, lost: bool = False) -> None:
        super().__init__(why)
        self.lost = lost


CarryOut = Callable[[Lease], Awaitable[JobResult]]
"""Carry a job out and return its result. It looks at `lease.wanted()` several times a second. Unfinished: see there."""


class Queue(Protocol):
    """A queue of jobs. Each call is one transaction: all of it happens, or nothing. QueueError: nothing happened.

    The order is: priority, then `first`, then age.
    """

    address: str  # for people, without a password
    say: Callable[[str], None]  # `serve` tells people by it what they should know of the queue
    figures: WorkerFigures  # `serve` keeps its heartbeat, and counts the jobs that it rescues or gives up

    def add(self, jobs: Sequence[NewJob]) -> list[int]:
        """Add jobs, and return their numbers. NoSuchJob: `after` names an unknown one. SeqsupError: a failed one."""

    def job(self, number: int) -> Job:
        """NoSuchJob: there is none."""

    def jobs(self, *, over: int = 20, waiting: int = 50) -> list[Job]:
        """Return the jobs that run, the next `waiting` ones in their order, and the last `over` that are over."""

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state."""

    def oldest_wait(self) -> float:
        """Return for how many seconds the oldest ready job has waited; 0 if none is ready."""

    def workers(self) -> list[str]:
        """Return the names of the workers that live."""

    def drop(self, number: int, *, now: bool = False) -> Job:
        """Cancel a job that is not over. One that runs ends after its agent, or `now`. Return it as it is then."""

    def first(self, number: int) -> Job:
        """Put a job that has not started at the head of its priority."""

    def retry(self, number: int) -> Job:
        """Make a failed or cancelled job ready again, under the same number."""

    def pause(self, paused: bool) -> None:
        """Have workers take no further job, or take jobs again."""

    def paused(self) -> bool: ...

    async def serve(
        self, worker: str, carry_out: CarryOut, *, slots: int, until_empty: bool, open_now: Callable[[], bool],
        stop: "WorkerStop",
    ) -> None:  # fmt: skip
        """Take jobs and carry them out, at most `slots` at a time, until `stop` wants an end, or with `until_empty`
        until no job can become ready by itself.

        First settle what an earlier worker of this name left. `open_now` says whether jobs may be taken at this time of
        day. The result of a job is on this machine's disk before it is accepted.
        """

    def close(self) -> None: ...


class WorkerStop(Protocol):
    """A worker's end, as its signals want it."""

    halt: Halt

    def subscribe(self, subscriber: Callable[..., None]) -> Any: ...

    def unsubscribe(self, subscriber: Any) -> None: ...
