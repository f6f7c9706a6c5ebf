"""Kills and power cuts at every moment: the embedded queue opens, and no job is lost, doubled or half changed."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import environment
from helpers.paths import ROOT, STUBS
from helpers.queue_scenes import ACTIONS
from helpers.queues import add, new, states, work
from helpers.waiting import DEADLINE, wait_for
from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import FILE, QueueFile
from seqsup.queue.jobs import MAX_LOST, JobResult, JobState
from seqsup.queue.store import Unfinished
from seqsup.state.run_folder import hold, private, run_folder

_VOLATILE = {"added", "ready", "started", "ended", "retried", "token", "cookie", "not_before"}  # other at each attempt


@pytest.fixture
def state() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


def content(state: Path) -> dict[str, Any]:
    """Return all that a queue has, without times and random values, of which only their presence counts."""
    with closing(QueueFile(state)) as file:
        columns = [row[1] for row in file.rows("PRAGMA table_info(jobs)")]
        jobs = [dict(zip(columns, row, strict=True)) for row in file.rows("SELECT * FROM jobs ORDER BY number")]
        for job in jobs:
            job |= {name: job[name] is not None for name in _VOLATILE}
        counted = file.rows("SELECT state, jobs FROM counts WHERE jobs > 0 ORDER BY state")
        assert counted == file.rows("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")
        tables = {name: file.rows(f"SELECT * FROM {name}") for name in ("orders", "needs", "door")}
        return {"jobs": jobs, **tables}


@contextmanager
def started(stub: str, *args: object) -> Iterator["subprocess.Popen[bytes]"]:
    env = environment({"PYTHONPATH": f"{ROOT / 'supervisor'}:{ROOT / 'tests'}"})
    process = subprocess.Popen([sys.executable, str(STUBS / f"{stub}.py"), *map(str, args)], env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)


@pytest.mark.parametrize("action", ["create", *ACTIONS])
def test_kill_at_any_statement_leaves_all_of_a_change_or_nothing(tmp_path: Path, action: str) -> None:
    with started("queue_dies", action, tmp_path) as process:
        assert process.wait(DEADLINE) == 0
    killed = sorted(path for path in tmp_path.iterdir() if path.name.isdigit())
    assert len(killed) > 2
    before, after = content(tmp_path / "before"), content(tmp_path / "after")
    assert (before != after) == (action != "create")
    found = [content(folder) for folder in killed]
    assert all(each in (before, after) for each in found)
    assert before in found
    for folder in killed:
        _finish(folder)


def _finish(state: Path) -> None:
    """Have a worker carry out all jobs: each that can be done is done once."""
    with closing(EmbeddedQueue(state)) as queue:
        queue.pause(False)
        left = {job.number for job in queue.jobs() if not job.state.over}
        hands = work(queue)
        assert len(set(hands.names)) == len(hands.names)
        waiting = {job.number for job in queue.jobs() if not job.state.over}
        assert {taken.number for taken in hands.taken} | waiting | _poisoned(queue) >= left
        assert all("retry" in job.why for job in queue.jobs() if not job.state.over)


def _poisoned(queue: EmbeddedQueue) -> set[int]:
    return {job.number for job in queue.jobs() if job.lost > MAX_LOST}


def test_power_cut_at_any_write_leaves_whole_changes(tmp_path: Path, state: Path) -> None:
    """SQLite appends each change to its log; a cut leaves a beginning of it, perhaps within a page."""
    contents: list[dict[str, Any]] = []
    queue, file = EmbeddedQueue(state), QueueFile(state)  # open until the copies are made: so the log is kept
    desk = Desk(state, file, "w")

    def note(change: Callable[[], Any]) -> Any:
        found = change()
        contents.append(content(state))
        return found

    note(lambda: None)
    note(lambda: queue.add([new("one"), new("two", after=(-1,)), new("three", after=(-1, -2))]))
    taken = note(desk.take)
    note(lambda: desk.begin(taken, "r1", "/state"))
    note(lambda: desk.finish(taken, JobResult(exit_code=1, run="r1")))
    note(lambda: queue.retry(1))
    taken = note(desk.take)
    note(lambda: desk.give_back(taken, Unfinished("its worker stopped")))
    taken = note(desk.take)
    note(lambda: desk.finish(taken, JobResult(exit_code=0, run="r1")))
    note(lambda: queue.drop(2))
    log = (state / f"{FILE}-wal").read_bytes()
    frame = 4096 + 24
    cuts = {32 + whole + part for whole in range(0, len(log) - 32, frame) for part in (0, 13, 2000)} | {0, 7, len(log)}
    reached = []
    for cut in sorted(cuts):
        folder = private(tmp_path / "cut" / str(cut))
        shutil.copy(state / FILE, folder / FILE)
        (folder / f"{FILE}-wal").write_bytes(log[:cut])
        reached.append(contents.index(content(folder)))
    assert reached == sorted(reached)
    assert set(reached) == set(range(len(contents)))
    file.close()
    queue.close()


def test_several_create_a_queue_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        opening = [stack.enter_context(started("queue_opens", tmp_path, 60, 3)) for _ in range(4)]
        assert [each.wait(60) for each in opening] == [0] * 4


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
def test_killed_adders_lose_no_accepted_job_and_leave_no_half_chain(tmp_path: Path, state: Path, seed: int) -> None:
    moments = random.Random(seed)
    for number in range(6):
        file = tmp_path / str(number)
        with started("queue_adds", f"adder-{number}", 100_000, file), started("queue_adds", f"other-{number}", 5, file):
            chains = moments.randrange(1, 30)
            wait_for(lambda: file.read_text().count("\n") >= chains)
    accepted = [list(map(int, line.split())) for n in range(6) for line in (tmp_path / str(n)).read_text().splitlines()]
    with closing(EmbeddedQueue(state)) as queue:
        jobs = {job.number: job for job in queue.jobs(waiting=10**6)}
        for chain in accepted:
            assert len(chain) == 3
            assert [jobs[number].after for number in chain] == [(), tuple(chain[:1]), tuple(chain[:2])]
        assert set(Counter(job.name for job in jobs.values()).values()) == {3}
        assert len(accepted) <= len(jobs) / 3 <= len(accepted) + 12
        assert sum(queue.counts().values()) == len(jobs)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
def test_killed_workers_lose_no_job(tmp_path: Path, state: Path, seed: int) -> None:
    ledger, moments = tmp_path / "ledger", random.Random(seed)
    ledger.touch()
    with closing(EmbeddedQueue(state)) as queue:
        for _ in range(20):
            queue.add([new("one"), new("two", after=(-1,))])
        for _ in range(6):
            lines = ledger.read_text().count("\n") + moments.randrange(1, 6)
            with started("queue_works", moments.choice(["a", "b"]), ledger, moments.choice([0, 0.01, 0.05])):
                wait_for(lambda: ledger.read_text().count("\n") >= lines or not queue.counts()[JobState.READY])
        work(queue)
        carried = Counter(map(int, ledger.read_text().split()))
        jobs = queue.jobs(over=100)
        assert len(jobs) == 40
        for job in jobs:
            poisoned = job.lost > MAX_LOST
            assert poisoned or job.state is JobState.DONE or "retry" in job.why
            assert carried[job.number] <= job.lost + 1


def test_adders_and_workers_at_once_take_each_job_once(tmp_path: Path, state: Path) -> None:
    ledger, accepted = tmp_path / "ledger", tmp_path / "accepted"
    ledger.touch()
    with closing(EmbeddedQueue(state)) as queue, started("queue_works", "a", ledger, 0) as one:
        with started("queue_works", "b", ledger, 0) as other:
            wait_for(lambda: queue.workers() == ["a", "b"])
            adders = [started("queue_adds", f"adder-{n}", 4, accepted) for n in range(8)]
            processes = [adder.__enter__() for adder in adders]
            for adder, process in zip(adders, processes, strict=True):
                assert process.wait(DEADLINE) == 0
                adder.__exit__(None, None, None)
            wait_for(lambda: queue.counts()[JobState.DONE] == 96)
            for process in (one, other):
                process.terminate()
                assert process.wait(DEADLINE) == 0
        assert Counter(map(int, ledger.read_text().split())) == Counter(range(1, 97))
        assert Counter(map(int, accepted.read_text().split())) == Counter(range(1, 97))
        assert queue.workers() == []


def test_queue_is_created_once_by_many_at_once(tmp_path: Path, state: Path) -> None:
    accepted = tmp_path / "accepted"
    adders = [started("queue_adds", f"adder-{n}", 1, accepted) for n in range(8)]
    for process in [adder.__enter__() for adder in adders]:
        assert process.wait(DEADLINE) == 0
    assert Counter(map(int, accepted.read_text().split())) == Counter(range(1, 25))


# -- what a dead worker left


def _dead_worker(tmp_path: Path, name: str) -> None:
    """Have a worker take a job, and kill it."""
    ledger = tmp_path / f"ledger-{name}"
    with started("queue_works", name, ledger, 600):
        wait_for(ledger.exists)


@pytest.mark.parametrize("name", ["same", "other"])
def test_job_of_a_dead_worker_is_resumed_first(tmp_path: Path, state: Path, name: str) -> None:
    with closing(EmbeddedQueue(state)) as queue:
        add(queue, "job")
        add(queue, "urgent", priority=9, not_before=1.0)
        queue.first(add(queue, "next", priority=9))
        queue.drop(2)
        queue.drop(3)
        _dead_worker(tmp_path, "same")
        assert queue.job(1).state is JobState.RUNNING
        assert queue.workers() == []
        queue.retry(2)
        hands = work(queue, worker=name)
        assert hands.names == ["job", "urgent"]
        assert (hands.taken[0].resumed, hands.taken[0].lost) == (True, 1)
        assert queue.job(1).worker == name


def test_job_that_kills_its_workers_fails(tmp_path: Path, state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue:
        add(queue, "poison")
        add(queue, "next", after=(1,))
        for n in range(MAX_LOST + 1):
            _dead_worker(tmp_path, f"w{n}")
        assert work(queue).names == []
        job = queue.job(1)
        assert (job.state, job.lost) == (JobState.FAILED, MAX_LOST + 1)
        assert "retry 1" in queue.job(2).why


def test_run_whose_supervisor_lives_is_not_lost(state: Path) -> None:
    private(run_folder(state, 7))
    supervisor = hold(run_folder(state, 7))
    with closing(EmbeddedQueue(state)) as queue, closing(QueueFile(state)) as file:
        add(queue, "job")
        dead = Desk(state, file, "dead")
        taken = dead.take()
        assert taken is not None
        dead.begin(taken, "r7", str(state))
        for _ in range(MAX_LOST + 2):
            again = dead.settle(())
            assert again is not None
            assert (again.lost, again.resumed, again.cookie) == (0, True, taken.cookie)
        os.close(supervisor)
        again = dead.settle(())
        assert again is not None
        assert again.lost == 1


def test_job_of_a_live_worker_is_left_alone(tmp_path: Path, state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue:
        add(queue, "job")
        ledger = tmp_path / "ledger"
        with started("queue_works", "a", ledger, 600), closing(QueueFile(state)) as file:
            wait_for(ledger.exists)
            assert Desk(state, file, "b").settle(()) is None
            assert states(queue) == {"job": JobState.RUNNING}


def test_result_of_a_stale_token_is_refused(state: Path) -> None:
    with closing(EmbeddedQueue(state)) as queue, closing(QueueFile(state)) as file:
        one, two = queue.add([new("one"), new("two", after=(-1,))])
        desk = Desk(state, file, "w")
        stale = desk.take()
        taken = desk.settle(())
        assert stale is not None
        assert taken is not None
        assert not desk.finish(stale, JobResult(exit_code=0, run="r1"))
        desk.begin(stale, "r99", "/elsewhere")
        desk.note(stale, "stale")
        desk.give_back(stale, Unfinished("stale", lost=True))
        assert desk.wanted(stale) > desk.wanted(taken)
        job = queue.job(one)
        assert (job.state, job.run, job.note, job.lost) == (JobState.RUNNING, None, "", 1)
        assert queue.job(two).state is JobState.WAITING
        assert desk.finish(taken, JobResult(exit_code=0, run="r2"))
        assert not desk.finish(taken, JobResult(exit_code=1, run="r3"))
        assert (queue.job(one).state, queue.job(one).run) == (JobState.DONE, "r2")
        assert queue.job(two).state is JobState.READY
