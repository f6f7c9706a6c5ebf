"""Jobs of the queue, as commands look at them: `#12`, what it waits for, and its run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqsup.cli.find_run import Found, NeverRan
from seqsup.cli.output import notice
from seqsup.errors import SeqsupError
from seqsup.queue.address import EMBEDDED, open_queue
from seqsup.queue.jobs import Job, JobState
from seqsup.queue.store import NoSuchJob, Queue
from seqsup.queue.table import MOST, Seen, describe, shown
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import label, state_dir
from seqsup.text import printable

_WORKERS = "workers"  # as cli/commands/work.py has it


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


def run_of_job(number: int) -> Found:
    """Return the run of a job. NeverRan says what a job waits for; SeqsupError: its run is on another machine."""
    with opened() as queue:
        job = queue.job(number)
        if job.run is None:
            raise NeverRan(f"no run yet: {told(queue, job)}")
        found = run_here(queue, job)
        if found is None:
            where = f"machine of worker {printable(job.worker or '?')}, in {printable(job.state_dir or '?')}"
            raise SeqsupError(f"{told(queue, job)}; its run {printable(job.run)} is on the {where}: look there")
    return found


def run_here(queue: Queue, job: Job) -> Found | None:
    """Return the run of a job; None: it has none yet, or it is on another machine, or was removed."""
    if job.run is None or job.state_dir is None:
        return None
    if queue.address != EMBEDDED and not (state_dir() / _WORKERS / (job.worker or "")).is_file():
        return None
    folder = Path(job.state_dir)
    try:
        journal = Journal.open(folder)
    except NoJournal:
        return None
    return next((Found(folder, journal, row) for row in journal.runs() if label(row.run) == job.run), None)


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


def drop(queue: Queue, job: Job, *, now: bool = False) -> None:
    """Cancel a job that is not over, and say so."""
    name = f"{job.label} {printable(job.name)}"
    if job.state.over:
        notice(f"{name} is over already: {job.state}")
    elif queue.drop(job.number, now=now).state.over:
        notice(f"{name} left the queue")
    else:
        notice(f"{name} ends {'now' if now else 'after its running agent'}")
