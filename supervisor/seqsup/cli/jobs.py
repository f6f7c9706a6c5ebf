"""Jobs of the queue, as commands look at them: `#12`, and what it waits for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from seqsup.cli.output import notice
from seqsup.queue.address import open_queue
from seqsup.queue.jobs import Job, JobState
from seqsup.queue.store import NoSuchJob, Queue
from seqsup.queue.table import MOST, Seen, describe, shown
from seqsup.text import printable


@contextmanager
def opened(url: str | None = None) -> Iterator[Queue]:
    queue = open_queue(url)
    try:
        yield queue
    finally:
        queue.close()


def look(queue: Queue, most: int = MOST) -> Seen:
    """Return what a table of at most so many rows shows."""
    jobs = shown(queue.jobs(over=most, most=most), most)
    return Seen(
        jobs=jobs, counts=queue.counts(), states=states(queue, jobs), paused=queue.paused(), attended=queue.attended()
    )  # fmt: skip


def states(queue: Queue, jobs: list[Job]) -> dict[int, JobState]:
    """Return the states of jobs and of those that they wait for."""
    known = {each.number: each.state for each in jobs}
    for number in {number for each in jobs if each.state is JobState.WAITING for number in each.after} - {*known}:
        known[number] = queue.job(number).state
    return known


def told(queue: Queue, job: Job) -> str:
    """Say in a line how it is with a job: `#12 nightly waits for #3 and until 02:00`."""
    head, what = f"{job.label} {printable(job.name)}", describe(job, states(queue, [job]), time.time())
    behind = f": {what}" if what else ""
    match job.state:
        case JobState.WAITING:
            return f"{head} waits {what}"
        case JobState.READY:
            return f"{head} waits for a worker{behind}"
        case JobState.RUNNING:
            where = f" by {printable(job.worker)}" if job.worker else ""
            return f"{head} is carried out{where}{behind}"
        case JobState.CANCELLED:
            return f"{head} was cancelled{behind}"
    return f"{head} {'is done' if job.state is JobState.DONE else 'failed'}{behind}"


def each_of(queue: Queue, numbers: tuple[int, ...]) -> list[Job]:
    """Return the jobs. NoSuchJob names all that there are not: so a slip changes nothing."""
    found, wrong = [], []
    for number in dict.fromkeys(numbers):
        try:
            found.append(queue.job(number))
        except NoSuchJob as error:
            wrong.append(str(error))
    if wrong:
        raise NoSuchJob("\n".join(wrong))
    return found


def say_dropped(job: Job, was: Job) -> None:
    """Say what a drop did. `was` is the job before."""
    name = f"{job.label} {printable(job.name)}"
    if was.state.over:
        notice(f"{name} is over already: {was.state}")
    elif job.state.over:
        notice(f"{name} left the queue")
    else:
        notice(f"{name} ends after its running agent")
