"""What a queue holds, as people read it: a table of its jobs, what they wait for, and what to do. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from seqsup.queue.jobs import Job, JobState
from seqsup.queue.order import RETRY
from seqsup.text import columns as wide
from seqsup.text import fit, printable, styled, wrap
from seqsup.units import clock, format_duration
from seqsup.view.ndjson import timestamp
from seqsup.view.table import NONE, Column, render

NO_WORKER = "no worker is running: seqsup work"
PAUSED = "the queue is paused: seqsup queue resume"
MOST = 50  # rows
_COLUMNS = (
    Column("job"),
    Column("name", right=False),
    Column("state", right=False),
    Column("since", right=False, optional=1),
    Column("time", optional=2),
    Column("run", right=False, optional=4),
    Column("worker", right=False, optional=3),
    Column("what", right=False),
)
_STYLES = {
    JobState.DONE: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow", JobState.WAITING: "yellow",
    JobState.READY: "", JobState.RUNNING: "bold",
}  # fmt: skip
_COUNTED = (
    JobState.RUNNING, JobState.READY, JobState.WAITING, JobState.DONE, JobState.FAILED, JobState.CANCELLED,
)  # fmt: skip
_LEAST = 16  # columns of a text
_NAMED = 3  # jobs that cannot start


class QueueView(Struct, frozen=True, kw_only=True):
    """What is known of a queue at a time."""

    jobs: Sequence[Job]
    counts: Mapping[JobState, int]
    paused: bool
    workers: Sequence[str]

    @property
    def empty(self) -> bool:
        return not any(self.counts.values())


def table(seen: QueueView, now: float, width: int | None = None, most: int = MOST) -> list[str]:
    """Return the lines: how many of each state, at most so many rows, and what the user may do."""
    jobs = _shown(seen.jobs, most)
    lines = wrap(_headline(seen.counts), width)
    if jobs:
        lines += ["", *_rows(jobs, now, width)]
    hidden = sum(number for state, number in seen.counts.items() if not state.over)
    hidden -= sum(not each.state.over for each in jobs)
    if hidden > 0:
        lines += wrap(styled("dim", f"  {hidden} more: --json lists all that are not over"), width)
    for line in _remedies(seen, jobs):
        lines += wrap(line, width)
    return lines


def describe(job: Job, now: float) -> str:
    """Say in a line what a job waits for, does, or came to."""
    parts = [" ".join(job.why.split("\n"))]
    if job.state in (JobState.WAITING, JobState.READY) and job.not_before is not None and job.not_before > now:
        parts.append(f"not before {clock(job.not_before, now)}")
    if job.state is JobState.RUNNING:
        parts = ["stops" if job.stop_wanted else "", job.note or job.why]
    return printable(", ".join(filter(None, parts)))


def sentence(job: Job, now: float) -> str:
    """Say in a line how it is with a job: `#12 nightly waits: after #3, not before 02:00`."""
    told = {
        JobState.WAITING: "waits", JobState.READY: "waits for a worker", JobState.DONE: "is done",
        JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled",
        JobState.RUNNING: f"is carried out by {printable(job.worker)}" if job.worker else "is carried out",
    }[job.state]  # fmt: skip
    what = describe(job, now)
    return f"{job.label} {printable(job.name)} {told}" + (f": {what}" if what else "")


def object_of(job: Job) -> dict[str, object]:
    """Return a job for programs."""
    moments = {name: getattr(job, name) for name in ("added", "not_before", "started", "ended")}
    return {
        "job": job.label, "number": job.number, "name": job.name, "state": str(job.state), "priority": job.priority,
        "by": job.by, "after": list(job.after), "lost": job.lost,
        "stop_wanted": job.stop_wanted, "worker": job.worker, "run": job.run, "state_dir": job.state_dir,
        **{name: None if at is None else timestamp(at) for name, at in moments.items()},
        "exit_code": job.exit_code, "why": job.why, "note": job.note,
    }  # fmt: skip


def _headline(counts: Mapping[JobState, int]) -> str:
    told = [f"{counts[state]} {state}" for state in _COUNTED if counts.get(state)]
    return f"{styled('bold', 'queue')}  " + " · ".join(told)


def _shown(jobs: Sequence[Job], most: int) -> list[Job]:
    """Return the jobs of a table: some that ended last, those that run, and the next ones."""
    over = sorted((each for each in jobs if each.state.over), key=lambda job: job.ended or 0.0)
    active = [each for each in jobs if not each.state.over][: most - min(len(over), most // 5)]
    return [*over[len(over) - min(len(over), most - len(active)) :], *active]


def _rows(jobs: Sequence[Job], now: float, width: int | None) -> list[str]:
    """Lay out the table. Columns go before a name is cut; the worker is shown only if there are several."""
    cells = [_cells(each, now, width) for each in jobs]
    unused = {
        "worker": len({each["worker"] for each in cells if each["worker"] != NONE}) < 2,
        "run": all(each["run"] == NONE for each in cells),
        "what": all(each["what"] == NONE for each in cells),
    }
    used = [each for each in _COLUMNS if not unused.get(each.title)]
    for column in sorted((each for each in used if each.optional), key=lambda each: -each.optional):
        if width is None or sum(max(wide(each[one.title]) for each in cells) + 2 for one in used) <= width:
            break
        used.remove(column)
    return render(used, [[each[one.title] for one in used] for each in cells], width)


def _cells(job: Job, now: float, width: int | None) -> dict[str, str]:
    moment = job.ended if job.state.over else job.started if job.state is JobState.RUNNING else job.added
    took = None
    if job.started is not None and job.state not in (JobState.WAITING, JobState.READY):
        took = max(0.0, (now if job.ended is None else job.ended) - job.started)
    name, what = printable(job.name), describe(job, now) or NONE
    if width is not None:  # else one long text would take the place of whole columns
        name, what = fit(name, max(width // 4, _LEAST)), fit(what, max(2 * width // 5, _LEAST))
    return {
        "job": job.label,
        "name": name,
        "state": styled(_STYLES[job.state], str(job.state)),
        "since": NONE if moment is None else styled("dim", clock(moment, now)),
        "time": NONE if took is None else format_duration(took),
        "run": styled("dim", printable(job.run)) if job.run else NONE,
        "worker": styled("dim", printable(job.worker)) if job.worker else NONE,
        "what": what,
    }


def _remedies(seen: QueueView, jobs: Sequence[Job]) -> Iterator[str]:
    stuck = [job for job in jobs if job.state is JobState.WAITING and RETRY in job.why]
    for job in stuck[:_NAMED]:
        yield f"{job.label} cannot start: {printable(job.why)}"
    if len(stuck) > _NAMED:
        yield f"{len(stuck) - _NAMED} more cannot start"
    if seen.paused:
        yield styled("yellow", PAUSED)
    elif not seen.workers and any(seen.counts.get(state) for state in (JobState.READY, JobState.WAITING)):
        yield styled("yellow", NO_WORKER)
