"""`seqsup work` carries jobs out, whatever is killed meanwhile."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.crashes import ledger
from helpers.jobs import add, add_command, events, job, order_of, put, rows, state, supervisor
from helpers.profiles import shell, write
from helpers.waiting import alive, wait_for
from seqsup.model.events import AttemptEnded, AttemptStarted, RunStarted
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.jobs import JobState, NewJob
from seqsup.state.turn import queued

Seqsup = Callable[..., Result]
SeqsupStarted = Callable[..., Started]


def chain(folder: Path, name: str = "chain", agents: str = "ab") -> Path:
    """A profile whose agents write to the ledger, and then wait until the file `go` is there."""
    folder.mkdir(exist_ok=True)
    script = "echo {} >>ledger; until test -e go; do sleep 0.02; done"
    return write(folder, *(shell(each, script.format(each)) for each in agents), name=name)


def runs(folder: Path, agent: str = "a") -> bool:
    return ledger(folder)[agent] > 0


def over(number: int) -> bool:
    return job(number).state.over


def attempts(run: int) -> Counter[str]:
    return Counter(each.agent for each in events(run) if isinstance(each, AttemptStarted))


# -- jobs


def test_worker_carries_each_job_out_as_one_run(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    first, second = add(chain(tmp_path)), add(chain(tmp_path, "other", "cd"))
    worked = seqsup("work", "--until-empty", "--name", "w1")
    assert worked.code == 0, worked.stderr
    assert [(job(each).state, job(each).run, job(each).worker) for each in (first, second)] == [
        (JobState.DONE, "r1", "w1"), (JobState.DONE, "r2", "w1"),
    ]  # fmt: skip
    assert ledger(tmp_path) == Counter("abcd")
    lines = worked.stderr.splitlines()
    assert lines[0] == "worker w1 takes jobs (queue: this machine)"
    assert lines[1] == f"#{first} chain: started as r1"
    assert lines[2].startswith(f"#{first} chain: done after ")
    assert seqsup("work", "--until-empty").code == 0


def test_job_that_fails_says_why(seqsup: Seqsup, tmp_path: Path) -> None:
    number = add(write(tmp_path, shell("a", "exit 3"), shell("b", "true")))
    worked = seqsup("work", "--until-empty")
    assert worked.code == 1, worked.stderr
    found = job(number)
    assert (found.state, found.exit_code, found.why) == (JobState.FAILED, 1, "a: exit 3")
    assert f"#{number} nightly: failed after" in worked.stderr


def test_command_passes_its_exit_code_on(seqsup: Seqsup, tmp_path: Path) -> None:
    failed = add_command(tmp_path, "sh", "-c", "pwd >where; exit 7", name="seven")
    missing, gone = add_command(tmp_path, "no-such-program"), add_command(tmp_path / "gone", "true")
    worked = seqsup("work", "--until-empty")
    assert worked.code == 1, worked.stderr
    assert (job(failed).state, job(failed).exit_code, job(failed).run) == (JobState.FAILED, 7, "r1")
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    assert (job(missing).exit_code, job(missing).run) == (2, None)
    assert "no program no-such-program on PATH" in job(missing).why
    assert f"the folder of the job, {tmp_path}/gone, cannot be entered" in job(gone).why


def test_profile_is_planned_as_it_was_added(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "echo '{task}' >said"), shell("b", "touch b"))
    number = put(NewJob(name="x", order=order_of(profile, task="Add Button", only=("a",))))
    profile.write_text("no profile")
    assert seqsup("work", "--until-empty").code == 0, job(number).why
    assert (tmp_path / "said").read_text() == "Add Button\n"
    assert not (tmp_path / "b").exists()


def test_retried_job_resumes_its_run(seqsup: Seqsup, tmp_path: Path) -> None:
    number = add(write(tmp_path, shell("a", "echo a >>ledger"), shell("b", "echo b >>ledger; test -e go")))
    assert seqsup("work", "--until-empty").code == 1
    (tmp_path / "go").touch()
    with closing(EmbeddedQueue(state())) as queue:
        queue.retry(number)
    worked = seqsup("work", "--until-empty")
    assert worked.code == 0, worked.stderr
    assert f"#{number} nightly: resumed as r1" in worked.stderr
    assert ledger(tmp_path) == Counter("abb")


def test_dropped_job_ends_after_its_agent(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work", "--until-empty")
    wait_for(lambda: runs(tmp_path))
    with closing(EmbeddedQueue(state())) as queue:
        queue.drop(number)
    wait_for(lambda: any(type(each).__name__ == "HaltRequested" for each in events(1)))
    (tmp_path / "go").touch()
    assert worker.wait().code == 0
    assert job(number).state is JobState.CANCELLED
    assert ledger(tmp_path) == Counter("a")


def test_job_that_the_user_stops_is_cancelled(seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work", "--until-empty")
    wait_for(lambda: runs(tmp_path))
    assert seqsup("stop", "--now").code == 0
    assert worker.wait().code == 0
    assert job(number).state is JobState.CANCELLED


# -- the worker is stopped


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_worker_ends_after_the_agent_and_the_next_one_resumes(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path, signum: signal.Signals
) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    worker.send(signum)
    wait_for(lambda: any(type(each).__name__ == "HaltRequested" for each in events(1)))
    (tmp_path / "go").touch()
    stopped = worker.wait()
    assert stopped.code == 128 + signum, stopped.stderr
    assert (job(number).state, job(number).run) == (JobState.READY, "r1")
    worked = seqsup("work", "--until-empty")
    assert worked.code == 0, worked.stderr
    assert job(number).state is JobState.DONE
    assert ledger(tmp_path) == Counter("ab")


def test_second_signal_stops_the_agent_now(seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    worker.send(signal.SIGTERM)
    wait_for(lambda: "stops after the running agent" in worker.stderr)
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 128 + signal.SIGTERM
    assert job(number).state is JobState.READY
    (tmp_path / "go").touch()
    assert seqsup("work", "--until-empty").code == 0
    assert ledger(tmp_path) == Counter("aab")


def test_third_signal_kills_an_agent_that_ignores_the_others(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    deaf = shell("a", "trap '' TERM; echo a >>ledger; while true; do sleep 0.1; done")
    number = add(write(tmp_path, deaf, timeouts={"grace": "5m", "wall": "10m"}))
    worker = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    for word in ("stops after", "stops the running agent now", "kills"):
        worker.send(signal.SIGTERM)
        wait_for(lambda: word in worker.stderr)
    assert worker.wait().code == 128 + signal.SIGTERM
    assert job(number).state is JobState.READY


def test_idle_worker_ends_at_once(seqsup_started: SeqsupStarted) -> None:
    worker = seqsup_started("work")
    wait_for(lambda: "takes jobs" in worker.stderr)
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 128 + signal.SIGTERM


def test_job_that_is_dropped_while_no_worker_lives_does_not_run_on(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    kill(worker)
    with closing(EmbeddedQueue(state())) as queue:
        queue.drop(number, now=True)
    assert seqsup("work", "--until-empty").code == 0
    assert job(number).state is JobState.CANCELLED
    assert ledger(tmp_path) == Counter("a")


# -- the worker, or the supervisor of a run, is killed


def kill(started: Started) -> None:
    started.process.kill()
    started.process.wait()


def test_run_of_a_killed_worker_continues_and_the_next_worker_waits_for_it(
    seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    number = add(chain(tmp_path))
    first = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    kill(first)
    second = seqsup_started("work", "--until-empty")
    wait_for(lambda: f"#{number} chain: still runs as r1" in second.stderr)
    (tmp_path / "go").touch()
    ended = second.wait()
    assert ended.code == 0, ended.stderr
    assert job(number).state is JobState.DONE
    assert ledger(tmp_path) == Counter("ab")
    assert attempts(1) == Counter("ab")
    assert sum(isinstance(each, RunStarted) for each in events(1)) == 1


def test_result_of_a_run_that_ended_without_a_worker_is_found(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    number = add(write(tmp_path, shell("a", "echo a >>ledger; until test -e go; do sleep 0.02; done; exit 5")))
    first = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    pid = wait_for(lambda: supervisor("nightly"))
    kill(first)
    (tmp_path / "go").touch()
    wait_for(lambda: not alive(pid))
    worked = seqsup("work", "--until-empty")
    assert (job(number).state, job(number).why, job(number).run) == (JobState.FAILED, "a: exit 5", "r1"), worked.stderr
    assert ledger(tmp_path) == Counter("a")


def test_next_worker_passes_requests_on_to_a_run_that_it_waits_for(
    seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    number = add(chain(tmp_path))
    first = seqsup_started("work")
    wait_for(lambda: runs(tmp_path))
    kill(first)
    second = seqsup_started("work", "--until-empty")
    wait_for(lambda: "still runs as" in second.stderr)
    second.send(signal.SIGTERM)
    wait_for(lambda: any(type(each).__name__ == "HaltRequested" for each in events(1)))
    second.send(signal.SIGTERM)
    assert second.wait().code == 128 + signal.SIGTERM
    assert (job(number).state, job(number).run) == (JobState.READY, "r1")


def test_run_of_a_killed_supervisor_is_resumed(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    number = add(chain(tmp_path))
    worker = seqsup_started("work", "--until-empty")
    wait_for(lambda: runs(tmp_path))
    os.kill(wait_for(lambda: supervisor("chain")), signal.SIGKILL)
    wait_for(lambda: ledger(tmp_path)["a"] == 2)
    (tmp_path / "go").touch()
    ended = worker.wait()
    assert ended.code == 0, ended.stderr
    assert f"#{number} chain: not finished: its supervisor was killed" in ended.stderr
    assert f"#{number} chain: resumed as r1" in ended.stderr
    assert (job(number).state, job(number).lost) == (JobState.DONE, 1)
    assert ledger(tmp_path) == Counter("aab")


def test_job_that_waits_for_its_turn_does_not_start_after_its_worker(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    start = seqsup_started("start", chain(outside, "outside"))
    wait_for(lambda: runs(outside))
    number = add(chain(inside))
    worker = seqsup_started("work")
    wait_for(lambda: f"#{number} chain: waiting for outside" in worker.stderr)
    (waiting,) = queued(state())
    kill(worker)
    wait_for(lambda: not alive(waiting.pid))
    (outside / "go").touch()
    assert start.wait().code == 0
    assert [row.name for row in rows()] == ["outside"]
    (inside / "go").touch()
    assert seqsup("work", "--until-empty").code == 0
    assert ledger(inside) == Counter("ab")


KILLS = 2  # as often as a job outlives a machine
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 40))]


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_moments_lose_and_repeat_nothing(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path, seed: int
) -> None:
    chance, story = random.Random(seed), list[str]()
    names = [f"a{number}" for number in range(chance.randint(2, 4))]
    script = "sleep {:.2f}; echo {} >>ledger"
    profile = write(tmp_path, *(shell(name, script.format(chance.uniform(0.02, 0.3), name)) for name in names))
    number = add(profile)
    for _ in range(KILLS):
        worker = seqsup_started("work", "--until-empty")
        seconds, victims = (
            chance.uniform(0, 1.5),
            chance.choice([("worker",), ("supervisor",), ("worker", "supervisor")]),
        )
        story.append(f"{seconds:.2f} s, then kill {' and '.join(victims)}")
        time.sleep(seconds)
        pid = supervisor("nightly")
        if "supervisor" in victims and pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if "worker" in victims:
            kill(worker)
        else:
            assert worker.wait().code == 0, story
    worked = seqsup("work", "--until-empty")
    assert (job(number).state, len(rows())) == (JobState.DONE, 1), (story, worked.stderr)
    ends = Counter(each.agent for each in events(1) if isinstance(each, AttemptEnded) and each.ok)
    assert ends == Counter(names), story
    written, begun = ledger(tmp_path), attempts(1)
    assert all(1 <= written[name] <= begun[name] for name in names), (story, written, begun)
    if not any("supervisor" in told for told in story):
        assert written == Counter(names), story


# -- the machine's turn


def test_start_of_the_user_takes_its_turn_between_jobs(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "user")]
    *_, user = (chain(folder, folder.name, "a") for folder in folders)
    for folder in folders[:2]:
        add(folder / f"{folder.name}.toml")
    worker = seqsup_started("work", "--until-empty")
    wait_for(lambda: runs(folders[0]))
    start = seqsup_started("start", user)
    wait_for(lambda: queued(state()))
    for folder in folders:
        (folder / "go").touch()
    assert start.wait().code == 0
    assert worker.wait().code == 0
    assert [row.name for row in rows()] == ["one", "user", "two"]


def test_two_slots_run_two_jobs_at_a_time(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    numbers = []
    for own, other in (("one", "two"), ("two", "one")):
        script = f"touch {own}; until test -e {other}; do sleep 0.02; done"
        numbers.append(add(write(tmp_path, shell("a", script), name=own)))
    worker = seqsup_started("work", "--until-empty", "--slots", 2)
    assert worker.wait().code == 0
    assert [job(number).state for number in numbers] == [JobState.DONE] * 2


def test_agent_waits_for_memory_while_one_of_another_slot_runs(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    large = {"hard": total - 1024**2, "soft": "none"}
    numbers = [add(chain(tmp_path / "one", "one", "a"))]
    worker = seqsup_started("work", "--until-empty", "--slots", 2)
    wait_for(lambda: runs(tmp_path / "one"))
    for name in ("two", "three"):  # neither waits for the other once the small one has ended
        (tmp_path / name).mkdir()
        script = "echo a >>ledger"
        numbers.append(
            add(write(tmp_path / name, shell("a", script), name=name, memory=large, drain={"timeout": "1s"}))
        )
    wait_for(lambda: len(rows()) > 1 and any(type(each).__name__ == "AdmissionDelayed" for each in events(2)))
    assert not runs(tmp_path / "two")
    (tmp_path / "one" / "go").touch()
    assert worker.wait().code == 0, worker.stderr
    assert [job(number).state for number in numbers] == [JobState.DONE] * 3


def test_start_of_the_user_takes_its_turn_between_jobs_of_two_slots(
    seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three", "user")]
    profiles = [chain(folder, folder.name, "a") for folder in folders]
    for profile in profiles[:3]:
        add(profile)
    worker = seqsup_started("work", "--until-empty", "--slots", 2)
    wait_for(lambda: runs(folders[0]) and runs(folders[1]))
    start = seqsup_started("start", profiles[3])
    wait_for(lambda: queued(state()))
    (folders[0] / "go").touch()
    wait_for(lambda: job(1).state is JobState.DONE)
    for folder in folders:
        (folder / "go").touch()
    assert start.wait().code == 0
    assert worker.wait().code == 0
    assert [row.name for row in rows()][2:] == ["user", "three"]


def test_killed_worker_of_two_slots_keeps_the_turn_until_its_runs_have_ended(
    seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "user")]
    profiles = [chain(folder, folder.name, "a") for folder in folders]
    for profile in profiles[:2]:
        add(profile)
    first = seqsup_started("work", "--slots", 2)
    wait_for(lambda: runs(folders[0]) and runs(folders[1]))
    kill(first)
    start = seqsup_started("start", profiles[2])
    wait_for(lambda: queued(state()))
    (folders[0] / "go").touch()
    second = seqsup_started("work", "--until-empty", "--slots", 2)
    wait_for(lambda: job(1).state is JobState.DONE)
    assert not runs(folders[2])
    for folder in folders:
        (folder / "go").touch()
    assert start.wait().code == 0
    assert second.wait().code == 0
    assert [sum(ledger(folder).values()) for folder in folders] == [1, 1, 1]


# -- the time of day


def test_worker_takes_no_job_outside_of_its_window(
    seqsup: Seqsup, seqsup_started: SeqsupStarted, tmp_path: Path
) -> None:
    hour = time.localtime().tm_hour
    closed = seqsup_started("work", "--name", "night", "--window", f"{(hour + 5) % 24}:00-{(hour + 6) % 24}:00")
    wait_for(lambda: "takes jobs, from" in closed.stderr)
    number = add_command(tmp_path, "true")
    assert seqsup("work", "--name", "day", "--until-empty", "--window", "00:00-24:00").code == 0
    assert (job(number).state, job(number).worker) == (JobState.DONE, "day")
