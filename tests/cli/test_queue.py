"""`seqsup queue` and its subcommands, and `#12` where a run may stand."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import shell, write
from helpers.queues import desk
from helpers.terminals import Open, in_tmux
from helpers.waiting import wait_for
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import JobResult, NewJob, Order, Taken
from seqsup.state.run_folder import state_dir

Cli = Callable[..., Result]


@pytest.fixture
def queue(test_id: str) -> Iterator[EmbeddedQueue]:
    with closing(EmbeddedQueue(state_dir())) as opened:
        yield opened


def new(name: str, after: tuple[int, ...] = ()) -> NewJob:
    return NewJob(name=name, order=Order(folder="/", command=("true",)), after=after)


def take() -> Taken:
    with desk() as worker:
        job = worker.take()
    assert job is not None
    return job


def ends(code: int = 0, run: str | None = None, why: str = "") -> None:
    job = take()
    with desk() as worker:
        assert worker.finish(job, JobResult(exit_code=code, run=run, why=why))


def rows(seqsup: Cli, **env: str) -> list[str]:
    return [line for line in seqsup("queue", env=env).stdout.splitlines() if line.lstrip().startswith("#")]


def test_an_empty_queue_says_how_to_fill_it(seqsup: Cli) -> None:
    assert seqsup("queue") == (0, "", "seqsup: no jobs yet: `seqsup add PROFILE` queues one\n")


def test_the_queue_shows_what_waits_runs_and_ended(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("smoke"), new("build"), new("night", (2,)), new("later", (1,))])
    ends(1, "r1", "agent smoke failed")
    running = take()
    with desk() as worker:
        worker.begin(running, "r2", str(state_dir()))
        worker.note(running, "compile: 3 of 7, 61 % of memory.hard")
    shown = seqsup("queue", env={"COLUMNS": "120"})
    assert (shown.code, shown.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines[0] == "queue 1 running · 2 waiting · 1 failed"
    first, second, third, fourth = lines[3:7]
    assert first.startswith("#1 smoke failed")
    assert first.endswith("r1 agent smoke failed")
    assert second.startswith("#2 build running")
    assert second.endswith("r2 compile: 3 of 7, 61 % of memory.hard")
    assert third.endswith("– after #2")
    assert fourth.startswith("#4 later waiting")
    assert lines[7].startswith("#4 cannot start: needs #1, which has failed: seqsup queue retry 1")
    assert lines[-1] == "no worker is running: seqsup work"


def test_the_queue_fits_eighty_columns_and_fifty_rows(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new(f"a job of a rather long name {n}" * 3) for n in range(300)])
    ends(1, "r1", "why " * 100)
    shown = seqsup("queue", env={"COLUMNS": "80"}).stdout.splitlines()
    assert len(shown) <= 56
    assert all(len(line) <= 80 for line in shown)
    assert "  250 more: --json lists all that are not over" in shown
    assert len(json.loads(seqsup("queue", "--json").stdout)["jobs"]) == 300


def test_names_and_notes_of_jobs_move_no_cursor(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a\x1b[2J\nb\u202e"), new("c")])
    job = take()
    with desk() as worker:
        worker.note(job, "x\x1b]0;title\x07\ny")
    for line in (["queue"], ["status", "#1"], ["queue", "move", "2", "--first"], ["stop", "#1"], ["logs", "j1"]):
        shown = seqsup(*line, env={"FORCE_COLOR": "", "COLUMNS": "120"})
        assert "\x1b" not in shown.stdout + shown.stderr
        assert "\u202e" not in shown.stdout + shown.stderr
    assert len(rows(seqsup)) == 2


def test_the_object_has_all_that_is_known(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a")])
    ends(3, "r7", "why")
    told = json.loads(seqsup("queue", "--json").stdout)
    assert (told["schema"], told["queue"], told["paused"], told["workers"]) == (
        "seqsup.queue/1", "this machine", False, [],
    )  # fmt: skip
    assert told["counts"]["failed"] == 1
    (job,) = told["jobs"]
    assert {key: job[key] for key in ("job", "number", "state", "run", "exit_code", "why", "worker")} == {
        "job": "#1", "number": 1, "state": "failed", "run": "r7", "exit_code": 3, "why": "why", "worker": "w",
    }  # fmt: skip


# -- what can be done with jobs


def test_dropped_jobs_leave_the_queue(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a"), new("b"), new("c")])
    ends()
    take()
    dropped = seqsup("queue", "drop", "1", "#2", "3")
    assert dropped.stderr == (
        "seqsup: #1 a is over already: done\nseqsup: #2 b ends after its running agent\nseqsup: #3 c left the queue\n"
    )
    assert [queue.job(n).state for n in (1, 2, 3)] == ["done", "running", "cancelled"]
    assert queue.job(2).stop_wanted


def test_a_job_is_moved_before_the_others(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a"), new("b")])
    moved = seqsup("queue", "move", "2", "--first")
    assert (moved.code, moved.stderr) == (0, "seqsup: #2 b is first among the jobs of priority 0\n")
    assert take().number == 2


def test_a_failed_job_is_retried_and_releases_those_that_wait(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a"), new("b", (1,))])
    ends(1)
    assert seqsup("queue", "retry", "1").stderr == "seqsup: #1 a is ready again\n"
    ends()
    assert queue.job(2).state == "ready"
    refused = seqsup("queue", "retry", "2")
    assert (refused.code, "is ready: only a failed or cancelled one" in refused.stderr) == (2, True)


def test_retry_of_several_changes_none_if_one_cannot_be_retried(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("first"), new("second")])
    ends(1)
    refused = seqsup("queue", "retry", "1", "2")
    assert refused.code == 2
    assert "job #2 is ready: only a failed or cancelled one can be retried" in refused.stderr
    assert queue.job(1).state == "failed"


def test_a_paused_queue_says_so(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a")])
    assert seqsup("queue", "pause").stderr == "seqsup: the queue is paused: `seqsup queue resume` continues it\n"
    with desk() as worker:
        assert worker.take() is None
    assert seqsup("queue").stdout.endswith("the queue is paused: seqsup queue resume\n")
    assert seqsup("queue", "resume").stderr == "seqsup: the queue continues\n"
    assert seqsup("queue", "resume").stderr == "seqsup: the queue is not paused\n"
    assert take()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["drop", "1", "77"], "the queue has no job #77: its last one is #1"),
        (["retry", "77", "1"], "the queue has no job #77"),
        (["drop", "one"], "N: expected the number of a job, such as 3, not 'one'"),
        (["drop"], "incomplete: seqsup queue drop N..."),
        (["move", "1"], "incomplete: seqsup queue move 1 --first"),
        (["move", "77", "--first"], "the queue has no job #77"),
        (["droop", "1"], 'unknown command "droop" (did you mean drop?)'),
        (["--json", "drop", "1"], "--json goes with no subcommand"),
        (["drop", "1", "--queue", "mysql://x"], "--queue: a queue is in PostgreSQL, not in mysql"),
        (["--queue", "mysql://x", "drop", "1"], "--queue: a queue is in PostgreSQL, not in mysql"),
        (["--watch"], "--watch needs a terminal"),
    ],
)
def test_after_a_mistake_no_job_is_touched(
    seqsup: Cli, queue: EmbeddedQueue, line: list[str], said: str
) -> None:  # fmt: skip
    queue.add([new("a")])
    ended = seqsup("queue", *line)
    assert (ended.code, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert queue.job(1).state == "ready"


@in_tmux
def test_watch_shows_the_queue_until_ctrl_c(terminal: Open, queue: EmbeddedQueue) -> None:
    queue.add([new(f"job-{n}") for n in range(40)])
    term = terminal()
    term.type("queue", "--watch")
    wait_for(lambda: "40 ready" in term.shown() and "#12" in term.shown())
    queue.drop(1)
    wait_for(lambda: "39 ready" in term.shown())
    assert "no worker is running" in term.shown()
    term.press("C-c")
    wait_for(lambda: "39 ready" not in term.shown())
    assert queue.job(2).state == "ready"


# -- a job's run


@pytest.fixture
def ran(seqsup: Cli, tmp_path: Path) -> Result:
    """The first job ended as r1."""
    write(tmp_path, shell("a", "echo hello; seqsup artifacts put --summary well"), name="night")
    assert seqsup("add", "night.toml").stdout == "#1\n"
    ended = seqsup("work", "--until-empty")
    assert ended.code == 0
    return ended


@pytest.mark.parametrize("job", ["#1", "j1"])
def test_the_number_of_a_job_finds_its_run(seqsup: Cli, ran: Result, tmp_path: Path, job: str) -> None:
    status = seqsup("status", job)
    assert (status.code, status.stderr) == (0, "")
    assert status.stdout.startswith("#1 night is done\nr1  night  1 of 1 completed")
    assert json.loads(seqsup("status", job, "--json").stdout)["run"] == "r1"
    assert "hello\n" in seqsup("logs", job).stdout
    assert seqsup("logs", job, "a").stdout == "hello\n"
    assert "hello\n" in seqsup("logs", "-f", job).stdout
    assert json.loads(seqsup("events", job).stdout.splitlines()[0])["run"] == "r1"
    assert "well" in seqsup("artifacts", "show", job).stdout
    assert seqsup("artifacts", "summary", job, "a").stdout == "well\n"
    assert seqsup("report", job).stdout == "night-r1.html\n"
    assert seqsup("pause", job).stderr == "r1 night is not running\n"
    assert seqsup("stop", job).stderr == "seqsup: #1 night is over already: done\n"


@pytest.mark.parametrize(
    "line", [["logs"], ["logs", "-f"], ["report"], ["events"], ["artifacts", "list"], ["pause"], ["mem"]]
)
def test_a_job_that_has_not_run_says_what_it_waits_for(seqsup: Cli, queue: EmbeddedQueue, line: list[str]) -> None:
    queue.add([new("a"), new("b", (1,))])
    ended = seqsup(*line, "#2")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == "seqsup: no run yet: #2 b waits: after #1\n"


def test_status_of_a_job_without_a_run(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a"), new("b", (1,))])
    assert seqsup("status", "#2") == (0, "#2 b waits: after #1\n", "")
    assert seqsup("status", "#1") == (0, "#1 a waits for a worker\n", "")
    told = json.loads(seqsup("status", "#2", "--json").stdout)
    assert (told["schema"], told["job"], told["run"], told["state"]) == ("seqsup.status/1", "#2", None, "waiting")
    queue.drop(2)
    assert seqsup("status", "#2") == (1, "#2 b was cancelled: dropped\n", "")
    assert seqsup("status", "#9").stderr.startswith("seqsup: the queue has no job #9: its last one is #2")


def test_stop_of_a_waiting_job_cancels_it(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a"), new("b")])
    assert seqsup("stop", "#2") == (0, "", "seqsup: #2 b left the queue\n")
    take()
    assert seqsup("stop", "--now", "j1") == (0, "", "seqsup: #1 a ends now\n")
    assert (queue.job(2).state, queue.job(1).stop_wanted) == ("cancelled", True)


def test_a_run_that_is_not_here_is_reported_to_be_elsewhere(seqsup: Cli, queue: EmbeddedQueue) -> None:
    queue.add([new("a")])
    ends(0, "r5")
    ended = seqsup("logs", "#1")
    assert ended.code == 2
    assert ended.stderr.startswith("seqsup: #1 a is done; its run r5 is on the machine of worker w")


def test_runs_are_found_without_the_queue(seqsup: Cli, ran: Result) -> None:
    """A damaged queue hinders no command that is not about it."""
    (state_dir() / "queue.db").unlink()
    (state_dir() / "queue.db").mkdir()
    for line in (["status"], ["status", "r1"], ["logs", "night"], ["runs"]):
        assert seqsup(*line).code == 0
    ended = seqsup("status", "#1")
    assert ended.code != 0
    assert "queue.db" in ended.stderr
