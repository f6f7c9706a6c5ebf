"""The table of a queue: it fits its width and its rows, and text from jobs moves no cursor."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from seqsup.queue.jobs import Job, JobState
from seqsup.queue.order import why_waiting
from seqsup.queue.table import MOST, NO_WORKER, PAUSED, QueueView, describe, sentence, table
from seqsup.text import columns, unpainted

NOW = 1_796_276_432.0


def job(number: int = 1, state: JobState = JobState.READY, **keys: object) -> Job:
    plain: dict[str, object] = {
        "name": "nightly", "priority": 0, "added": NOW - 60, "by": "maria@box", "not_before": None, "after": (),
        "lost": 0,
    }  # fmt: skip
    if state is JobState.RUNNING or state.over:
        plain |= {"started": NOW - 30, "worker": "box", "run": f"r{number}"}
    if state.over:
        plain |= {"ended": NOW - 10 + number / 1e6}
    return Job(number=number, state=state, **plain | keys)  # type: ignore[arg-type]


def seen(*jobs: Job, paused: bool = False, workers: tuple[str, ...] = ("box",), **more: int) -> QueueView:
    counts = Counter(each.state for each in jobs) + Counter({JobState(state): n for state, n in more.items()})
    return QueueView(jobs=jobs, counts=counts, paused=paused, workers=workers)


def told(what: QueueView, width: int | None = 80, most: int = MOST) -> str:
    return unpainted("\n".join(table(what, NOW, width, most)))


TEXT = st.text(max_size=40) | st.sampled_from(["\x1b[2J", "a\nb", "\u202e", "x" * 300, "名前" * 20])
JOBS = st.lists(
    st.builds(
        job, st.integers(1, 10**6), st.sampled_from(JobState), name=TEXT, note=TEXT, why=TEXT,
        worker=TEXT, run=st.none() | TEXT, not_before=st.none() | st.floats(NOW, NOW + 1e6),
    ),
    max_size=70,
)  # fmt: skip


@given(JOBS, st.integers(60, 200), st.integers(1, 60))
def test_rows_fit_the_width_and_are_at_most_as_many_as_wanted(jobs: list[Job], width: int, most: int) -> None:
    rows = [line for line in table(seen(*jobs), NOW, width, most) if unpainted(line).lstrip().startswith("#")]
    assert all(columns(line) <= width for line in rows)
    assert len([line for line in rows if "cannot start" not in line]) <= most + 1
    for line in table(seen(*jobs), NOW, width, most):
        assert unpainted(line).isprintable()


@given(JOBS)
def test_a_row_that_runs_or_waits_is_never_hidden_by_one_that_ended(jobs: list[Job]) -> None:
    most = 10
    active = [each for each in jobs if not each.state.over]
    shown = told(seen(*jobs), most=most).count("\n")
    assert shown >= min(len(active), most - 2)


def test_ten_thousand_jobs_are_counted() -> None:
    waiting = [job(n, JobState.READY) for n in range(10, 60)]
    lines = told(seen(*waiting, job(1, JobState.DONE), job(2, JobState.RUNNING), waiting=9_950)).splitlines()
    assert lines[0] == "queue  1 running · 50 ready · 9950 waiting · 1 done"
    assert lines[-1] == "  9952 more: --json lists all that are not over"
    assert len(lines) == 1 + 2 + MOST + 1


def test_the_table_has_what_ended_before_what_runs_and_what_waits() -> None:
    jobs = (
        job(5, JobState.RUNNING, note="build: 3 of 7"), job(6), job(7, JobState.WAITING, why="after #5"),
        job(3, JobState.DONE), job(2, JobState.FAILED, why="agent build failed", exit_code=1),
    )  # fmt: skip
    lines = told(seen(*jobs)).splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["#2", "#3", "#5", "#6", "#7"]
    assert "build: 3 of 7" in lines[5]
    assert "agent build failed" in lines[3]
    assert "after #5" in lines[7]


def test_only_a_fleet_shows_workers() -> None:
    one, two = job(1, JobState.RUNNING), job(2, JobState.RUNNING, worker="other")
    assert "worker" not in told(seen(one))
    assert "other" in told(seen(one, two))


def test_a_job_that_cannot_start_is_named_with_a_remedy() -> None:
    waiting = job(3, JobState.WAITING, after=(2,))
    why = why_waiting(waiting, {2: JobState.FAILED})
    stuck = [job(n, JobState.WAITING, after=(2,), why=why) for n in range(3, 8)]
    lines = told(seen(*stuck), width=None).splitlines()
    assert lines[-4] == "#3 cannot start: needs #2, which has failed: seqsup queue retry 2, or drop 3"
    assert lines[-1] == "2 more cannot start"


def test_a_queue_that_stands_says_why() -> None:
    assert told(seen(job(), workers=())).splitlines()[-1] == NO_WORKER
    assert told(seen(job(), workers=(), paused=True)).splitlines()[-1] == PAUSED
    assert NO_WORKER not in told(seen(job(1, JobState.DONE), workers=()))


def test_a_job_waits_for_jobs_and_its_time() -> None:
    later = job(2, JobState.WAITING, why="after #1", not_before=NOW + 5)
    assert describe(later, NOW).startswith("after #1, not before ")
    assert describe(later, NOW + 6) == "after #1"
    assert sentence(job(2, JobState.WAITING, why="after #1"), NOW) == "#2 nightly waits: after #1"
    assert sentence(job(2, JobState.FAILED, why="agent a failed"), NOW) == "#2 nightly failed: agent a failed"
    assert sentence(job(2, JobState.RUNNING, stop_wanted=True), NOW) == "#2 nightly is carried out by box: stops"
