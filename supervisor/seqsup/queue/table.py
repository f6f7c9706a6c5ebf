"""What a queue holds, as people read it: a table of its jobs, what they wait for, and what to do. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from seqsup.queue.jobs import Job, JobState, job_label
from seqsup.text import named, printable, styled, wrap
from seqsup.units import clock, format_duration
from seqsup.view.table import NONE, Column, render

NO_WORKER = "no worker is running: seqsup work"
PAUSED = "the queue is paused: seqsup queue resume"
_COLUMNS = (
    Column("job"),
    Column("name", right=False),
    Column("state", right=False),
    Column("since", right=False, optional=2),
    Column("time", optional=1),
    Column("run", right=False, optional=4),
    Column("worker", right=False, optional=3),
    Column("what", right=False),
)
_STYLES = {
    JobState.DONE: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow", JobState.WAITING: "yellow",
    JobState.READY: "", JobState.RUNNING: "bold",
}  # fmt: skip
MOST = 50  # rows
_NAMED = 3  # jobs, in what another one waits for
_ENDED = {JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled"}


class Seen(Struct, frozen=True, kw_only=True):
    """What is known of a queue at a time."""

    jobs: Sequence[Job]  # those to be shown
    counts: Mapping[str, int]
    states: Mapping[int, JobState]  # of those, and of what they wait for
    paused: bool
    attended: bool


def table(seen: Seen, now: float, width: int | None = None) -> list[str]:
    """Return the lines: how many of each state, a row for each job, and what the user may do."""
    lines = wrap(headline(seen.counts), width)
    if seen.jobs:
        used = _used(seen.jobs)
        lines += ["", *render(used, [_cells(each, seen.states, now, used) for each in seen.jobs], width)]
    hidden = _open(seen.counts, running=True) - sum(not each.state.over for each in seen.jobs)
    if hidden > 0:
        lines += wrap(f"  {hidden} more wait: --json lists all", width)
    for line in _remedies(seen):
        lines += wrap(line, width)
    return lines


def headline(counts: Mapping[str, int]) -> str:
    """One line: `queue  1 running · 2 ready · 12 done · 1 failed`."""
    order = (
        JobState.RUNNING, JobState.READY, JobState.WAITING, JobState.DONE, JobState.FAILED, JobState.CANCELLED,
    )  # fmt: skip
    told = [f"{counts[state]} {state}" for state in order if counts.get(state)]
    return f"{styled('bold', 'queue')}  " + (" · ".join(told) if told else "no jobs")


def held_by(after: Sequence[int], not_before: float | None, now: float) -> str:
    """Say what a job waits for: `for #3 and until 02:00`; empty: for nothing."""
    parts = [f"for {named(map(job_label, after), _NAMED)}"] if after else []
    if not_before is not None and not_before > now:
        parts.append(f"until {clock(not_before, now)}")
    return " and ".join(parts)


def describe(job: Job, states: Mapping[int, JobState], now: float) -> str:
    """Say in a line what a job waits for, does, or came to."""
    if job.state is JobState.RUNNING:
        told = job.note if not job.stop_wanted else f"stops; {job.note}" if job.note else "stops"
    elif job.state is JobState.WAITING:
        open_ones = [each for each in job.after if states.get(each) is not JobState.DONE]
        failed = [each for each in open_ones if states.get(each) in _ENDED]
        told = held_by(open_ones, job.not_before, now)
        if failed:
            told += f"; {job_label(failed[0])} {_ENDED[states[failed[0]]]}"
        told = told or job.why
    else:
        told = job.why
    return printable(told)


def object_of(job: Job) -> dict[str, object]:
    """Return a job for programs: times in seconds of the epoch."""
    return {
        "job": job.label, "number": job.number, "name": job.name, "state": str(job.state), "priority": job.priority,
        "added": job.added, "by": job.by, "not_before": job.not_before, "after": list(job.after), "lost": job.lost,
        "stop_wanted": job.stop_wanted, "worker": job.worker, "run": job.run, "state_dir": job.state_dir,
        "started": job.started, "ended": job.ended, "exit_code": job.exit_code, "why": job.why, "note": job.note,
    }  # fmt: skip


def shown(jobs: Sequence[Job], most: int = MOST) -> list[Job]:
    """Return the jobs of a table: some that ended last, those that run, and the next ones."""
    over = [each for each in jobs if each.state.over]
    active = sorted((each for each in jobs if not each.state.over), key=lambda job: job.state is not JobState.RUNNING)
    active = active[: most - min(len(over), most // 5)]
    return [*over[len(over) - min(len(over), most - len(active)) :], *active]


def _used(jobs: Sequence[Job]) -> list[Column]:
    """Return the columns that say something; the worker only if there are several."""
    workers = {each.worker for each in jobs if each.worker}
    unused = {"worker": len(workers) < 2, "run": not any(each.run for each in jobs)}
    return [each for each in _COLUMNS if not unused.get(each.title)]


def _cells(job: Job, states: Mapping[int, JobState], now: float, used: Sequence[Column]) -> list[str]:
    since = job.ended if job.state.over else job.started if job.state is JobState.RUNNING else job.added
    ended = job.ended if job.state.over else now
    took = None if job.started is None or ended is None else max(0.0, ended - job.started)
    cells = {
        "job": job.label,
        "name": printable(job.name),
        "state": styled(_STYLES[job.state], str(job.state)),
        "since": NONE if since is None else styled("dim", clock(since, now)),
        "time": NONE if took is None or job.state in (JobState.WAITING, JobState.READY) else format_duration(took),
        "run": styled("dim", printable(job.run or NONE)),
        "worker": styled("dim", printable(job.worker or NONE)),
        "what": describe(job, states, now) or NONE,
    }
    return [cells[column.title] for column in used]


def _remedies(seen: Seen) -> Iterator[str]:
    stuck: dict[int, list[Job]] = {}
    for job in seen.jobs:
        for each in job.after if job.state is JobState.WAITING else ():
            if seen.states.get(each) in _ENDED:
                stuck.setdefault(each, []).append(job)
    for number, jobs in stuck.items():
        why = f"{named((job.label for job in jobs), _NAMED)} cannot start: {job_label(number)}"
        drop = " ".join(str(job.number) for job in jobs)
        yield f"{why} {_ENDED[seen.states[number]]}; seqsup queue retry {number}, or seqsup queue drop {drop}"
    if seen.paused:
        yield styled("yellow", PAUSED)
    elif not seen.attended and _open(seen.counts):
        yield styled("yellow", NO_WORKER)


def _open(counts: Mapping[str, int], *, running: bool = False) -> int:
    return sum(counts.get(state, 0) for state in (JobState.READY, JobState.WAITING, *[JobState.RUNNING] * running))
