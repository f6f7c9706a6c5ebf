"""Which jobs another one needs, and why a job waits. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from seqsup.errors import SeqsupError
from seqsup.queue.jobs import MAX_LOST, Job, JobState, job_label
from seqsup.queue.store import NoSuchJob
from seqsup.text import named

RETRY = "seqsup queue retry"
_BROKEN = (JobState.FAILED, JobState.CANCELLED)


def needed_here(after: Iterable[int], numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of needed jobs; `numbers` are those of the jobs that this call has added so far.

    So a job needs only older ones, and no cycle can arise. NoSuchJob: a number below zero means a later job.
    """
    after = tuple(after)
    if any(each < -len(numbers) for each in after):
        raise NoSuchJob(f"job {len(numbers) + 1} of this call can need only earlier ones, not its number {-min(after)}")
    return tuple(sorted({numbers[-each - 1] if each < 0 else each for each in after}))


def refuse_needed(needed: Mapping[int, JobState | None]) -> None:
    """NoSuchJob: a job that others are to wait for is unknown. SeqsupError: it may never be done."""
    for number, state in needed.items():
        if state is None:
            raise NoSuchJob(f"--after {number}: there is no job {job_label(number)}; `seqsup queue` lists all jobs")
        if state in _BROKEN:
            said = f"--after {number}: job {job_label(number)} has {_ended(state)}, so no job can wait for it"
            raise SeqsupError(f"{said}; make it ready again first: {RETRY} {number}")


def why_waiting(job: Job, states: Mapping[int, JobState]) -> str:
    """Say what a job waits for besides its time, and what to do if it waits in vain.

    `states` has those of the jobs that it needs.
    """
    broken = [number for number in job.after if states[number] in _BROKEN]
    if broken:
        first, ended = broken[0], _ended(states[broken[0]])
        return f"needs {job_label(first)}, which has {ended}: {RETRY} {first}, or drop {job.number}"
    left = [job_label(number) for number in job.after if states[number] is not JobState.DONE]
    return f"after {named(left)}" if left else ""


def poisonous(lost: int) -> str:
    """Say why a job may not run again after so many lost supervisors or machines; empty: it may."""
    if lost <= MAX_LOST:
        return ""
    return f"its supervisor was killed {lost} times, more than {MAX_LOST}: it may be the reason; look at its logs"


def _ended(state: JobState) -> str:
    return "failed" if state is JobState.FAILED else "been cancelled"
