"""Which job is next, and why a job waits. Pure."""

from collections.abc import Iterable, Mapping

from seqsup.errors import SeqsupError
from seqsup.queue.jobs import Job, JobState, job_label
from seqsup.text import named

RETRY = "seqsup queue retry"


def needed_here(after: Iterable[int], numbers: list[int]) -> tuple[int, ...]:
    """Return the numbers of needed jobs; `numbers` are those of the jobs that this call has added so far."""
    return tuple(sorted({numbers[-each - 1] if each < 0 else each for each in after}))


def refuse_needed(needed: Mapping[int, JobState | None]) -> None:
    """SeqsupError: a job that others are to wait for is unknown, or can never be done."""
    for number, state in needed.items():
        if state is None:
            raise SeqsupError(f"--after {number}: there is no job {job_label(number)}; `seqsup queue` lists all jobs")
        if state in (JobState.FAILED, JobState.CANCELLED):
            told = f"--after {number}: job {job_label(number)} has {_ended(state)}, so no job can wait for it"
            raise SeqsupError(f"{told}; make it ready again first: {RETRY} {number}")


def why_waiting(job: Job, states: Mapping[int, JobState]) -> str:
    """Say what a job waits for besides its time; `states` has those of the jobs that it needs."""
    needed = [(number, states.get(number, JobState.CANCELLED)) for number in job.after]
    broken = [(number, state) for number, state in needed if state in (JobState.FAILED, JobState.CANCELLED)]
    if broken:
        number, state = broken[0]
        return f"needs {job_label(number)}, which has {_ended(state)}: {RETRY} {number}"
    left = [job_label(number) for number, state in needed if state is not JobState.DONE]
    return f"after {named(left)}" if left else ""


def _ended(state: JobState) -> str:
    return "failed" if state is JobState.FAILED else "been cancelled"
