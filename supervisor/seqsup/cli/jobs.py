"""Jobs of the queue, as commands look at them: `#12`, what it waits for, and its run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqsup.cli.find_run import Found, NeverRan
from seqsup.cli.output import Outlet, notice
from seqsup.errors import SeqsupError
from seqsup.queue.address import HERE, open_queue
from seqsup.queue.jobs import Job, JobState
from seqsup.queue.store import NoSuchJob, Queue
from seqsup.queue.table import MOST, QueueView, sentence
from seqsup.state.journal import Journal
from seqsup.text import printable

_LOOK_AGAIN = 1.0  # seconds
_KNOWN = 4096  # bytes by which what was printed last is found again


@contextmanager
def opened(url: str | None = None) -> Iterator[Queue]:
    queue = open_queue(url)
    try:
        yield queue
    finally:
        queue.close()


def look(queue: Queue) -> QueueView:
    """Return what a table shows."""
    return QueueView(
        jobs=queue.jobs(over=MOST, waiting=MOST), counts=queue.counts(), paused=queue.paused(), workers=queue.workers()
    )  # fmt: skip


def told(job: Job) -> str:
    """Say in a line how it is with a job."""
    return sentence(job, time.time())


def run_of_job(number: int) -> Found:
    """Return the run of a job. NeverRan says what a job waits for; SeqsupError: its run is on another machine."""
    with opened() as queue:
        job = queue.job(number)
        if job.run is None:
            raise NeverRan(f"no run yet: {told(job)}")
        found = run_here(job)
        if found is None:
            where = f"machine of worker {printable(job.worker or '?')}, in {printable(job.state_dir or '?')}"
            raise SeqsupError(f"{told(job)}; its run {printable(job.run)} is on the {where}: look there")
    return found


def run_here(job: Job) -> Found | None:
    """Return the run of a job; None: it has none yet, or it is on another machine, or was removed."""
    if job.run is None or job.state_dir is None:
        return None
    folder = Path(job.state_dir)
    try:
        journal = Journal.open(folder)
    except SeqsupError:  # another machine may have no such folder, and another user may not enter it
        return None
    return next((Found(folder, journal, row) for row in reversed(journal.runs()) if row.cookie == job.cookie), None)


def output_of_job(number: int, *, following: bool) -> bool:
    """Print the end of what a job printed on another machine. False: it runs here, or did not run yet."""
    with opened() as queue:
        job = queue.job(number)
        if queue.address == HERE or job.run is None or run_here(job) is not None:
            return False
        from seqsup.queue.fleet import FleetQueue

        assert isinstance(queue, FleetQueue)
        notice(f"{told(job)}; this is the end of its output on the machine of worker {printable(job.worker or '?')}")
        outlet, known = Outlet(sys.stdout), b""
        while True:
            output = queue.output(number)
            outlet.write(output[_printed(output, known) :])
            sys.stdout.flush()
            known = output
            if not following or job.state.over:
                return True
            time.sleep(_LOOK_AGAIN)
            job = queue.job(number)


def _printed(output: bytes, known: bytes) -> int:
    """Return how much of the output was printed before: the queue keeps only its end."""
    if output.startswith(known):
        return len(known)
    end = known[-_KNOWN:]
    at = output.find(end)
    return at + len(end) if at >= 0 else 0


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


def retried(queue: Queue, numbers: tuple[int, ...]) -> list[Job]:
    """Return the jobs that are to run again. SeqsupError names all that cannot: so a slip changes nothing."""
    found = each_of(queue, numbers)
    wrong = [
        f"job {job.label} is {job.state}" for job in found if job.state not in (JobState.FAILED, JobState.CANCELLED)
    ]
    if wrong:
        raise SeqsupError(f"{'; '.join(wrong)}: only a failed or cancelled one can be retried")
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
