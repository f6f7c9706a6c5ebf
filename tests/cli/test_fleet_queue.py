"""`seqsup add` and `seqsup queue` with a queue on a real PostgreSQL."""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.postgres import Server, fleet, postgres, with_queue
from helpers.profiles import shell, write
from helpers.waiting import alive, wait_for
from seqsup.queue.fleet import FleetQueue

__all__ = ["fleet", "postgres", "with_queue"]
Cli = Callable[..., Result]
CliStarted = Callable[..., Started]


@pytest.fixture
def empty(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a database without a queue, as SEQSUP_QUEUE has it."""
    with postgres.database() as name:
        url = postgres.url(name)
        monkeypatch.setenv("SEQSUP_QUEUE", url)
        yield url


@pytest.fixture
def queue(fleet: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SEQSUP_QUEUE", fleet)
    return fleet


def test_init_creates_the_queue_and_is_safe_to_repeat(seqsup: Cli, empty: str) -> None:
    lacking = seqsup("queue")
    assert (lacking.code, lacking.stdout) == (3, "")
    assert f"{empty} has no queue yet: create it with seqsup queue init" in " ".join(lacking.stderr.split())
    for _ in range(2):
        made = seqsup("queue", "init", "--lease", "10s")
        assert (made.code, made.stderr) == (0, f"seqsup: the queue {empty} is ready\n")
        assert re.search(r"^CREATE ROLE seqsup LOGIN", made.stdout, re.MULTILINE)
    assert seqsup("queue") == (0, "", "seqsup: no jobs yet: `seqsup add PROFILE` queues one\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--lease", "soon"], "--lease: expected a duration"),
        (["--lease", "0s"], "--lease: must be above 0"),
        (["--on-lease-loss", "explode"], "--on-lease-loss: expected one of stop, ride-out, not 'explode'"),
        (["--queue", "embedded"], "the queue of this machine needs no tables"),
    ],
)
def test_init_creates_nothing_after_a_mistake(seqsup: Cli, empty: str, line: list[str], said: str) -> None:
    ended = seqsup("queue", "init", *line)
    assert (ended.code, ended.stdout, said in ended.stderr) == (2, "", True)
    assert "has no queue yet" in seqsup("queue").stderr


def test_a_server_that_does_not_answer_is_named_without_a_password(seqsup: Cli) -> None:
    ended = seqsup("add", "--queue", "postgresql://me:hunter22@127.0.0.1:1/db", "--", "true")
    assert (ended.code, ended.stdout) == (3, "")
    assert "postgresql://me@127.0.0.1:1/db cannot be reached" in " ".join(ended.stderr.split())
    assert "hunter22" not in ended.stderr


def test_a_job_runs_on_a_worker_and_its_output_is_seen_elsewhere(seqsup: Cli, queue: str, tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("one\ntwo\n")
    write(tmp_path, shell("each", "echo item {item}", for_each={"lines": "items.txt"}), name="night")
    assert seqsup("add", "night.toml").stdout == "#1\n"
    assert seqsup("add", "night.toml", "--spread", "--after", "1").stdout == "#2\n#3\n"
    away = {"SEQSUP_STATE_DIR": str(tmp_path / "away")}
    worked = seqsup("work", "--until-empty", "--name", "other", env=away)
    assert worked.code == 0, worked.stderr
    jobs = json.loads(seqsup("queue", "--json").stdout)["jobs"]
    assert {job["job"]: (job["state"], job["worker"]) for job in jobs} == {
        f"#{n}": ("done", "other") for n in (1, 2, 3)
    }  # fmt: skip
    assert seqsup("logs", "j1", "each.2").stdout == "item two\n"  # its state folder is on this machine
    shutil.rmtree(tmp_path / "away")
    shown = seqsup("logs", "j1")
    assert (shown.code, "item two" in shown.stdout) == (0, True)
    assert "#1 night is done; this is the end of its output on the machine of worker other" in shown.stderr
    assert seqsup("status", "j1") == (0, "#1 night is done\n", "")
    assert "its run r1 is on the machine of worker other" in " ".join(seqsup("report", "j1").stderr.split())


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_ends_before_another_machine_gets_its_job(
    seqsup: Cli, seqsup_started: CliStarted, queue: str, tmp_path: Path, signum: signal.Signals
) -> None:
    """Only the worker is killed or frozen: the process of its job lives on, and must see by itself that time is up."""
    FleetQueue.init(queue, lease=5)
    script = "if test -e pid; then ! kill -0 $(cat pid) && touch alone; else echo $$ >pid; exec sleep 60; fi"
    assert seqsup("add", "--", "sh", "-c", script).stdout == "#1\n"
    first = seqsup_started("work", "--name", "one", env={"SEQSUP_STATE_DIR": str(tmp_path / "one")})
    agent = int(wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().strip()))
    first.send(signum)
    try:
        worked = seqsup("work", "--until-empty", "--name", "two", env={"SEQSUP_STATE_DIR": str(tmp_path / "two")})
        assert (worked.code, (tmp_path / "alone").exists()) == (0, True), worked.stderr
        assert not alive(agent)
    finally:
        first.send(signal.SIGKILL)


@pytest.mark.parametrize(
    ("keys", "line", "said"),
    [
        ({"stdin_file": "large.txt"}, [], "large.txt cannot travel to another machine"),
        ({"stdin_file": "no.txt"}, [], "no.txt does not exist"),
        ({"for_each": {"glob": "*.md"}}, [], "another machine does not have the files of this one"),
        ({}, ["--only", "b"], "--only: no agent b"),
        ({"command": ["echo", "{task}"]}, [], "{task} is empty"),
    ],
)
def test_after_a_mistake_nothing_is_queued(
    seqsup: Cli, queue: str, tmp_path: Path, keys: dict[str, object], line: list[str], said: str
) -> None:
    (tmp_path / "large.txt").write_bytes(bytes(1024 * 1024 + 1))
    (tmp_path / "a.md").touch()
    script = "echo {item}" if "for_each" in keys else "true"
    write(tmp_path, shell("a", script, **{k: v for k, v in keys.items() if k != "command"}) | keys, name="night")
    ended = seqsup("add", "night.toml", *line)
    assert (ended.code, ended.stdout) == (2, "")
    assert said in " ".join(ended.stderr.split())
    assert json.loads(seqsup("queue", "--json").stdout)["jobs"] == []


def test_a_program_that_only_workers_have_can_be_queued(seqsup: Cli, queue: str, tmp_path: Path) -> None:
    write(tmp_path, {"name": "a", "command": ["only-on-workers"]}, name="night")
    assert seqsup("add", "night.toml").stdout == "#1\n"
    assert seqsup("add", "--after", "1", "--", "only-on-workers").stdout == "#2\n"
    assert "--after 9: there is no job #9" in seqsup("add", "--after", "9", "--", "true").stderr
    assert seqsup("queue", "drop", "2").stderr == "seqsup: #2 only-on-workers left the queue\n"
    assert seqsup("stop", "j1").stderr == "seqsup: #1 night left the queue\n"
    assert seqsup("queue", "retry", "1").stderr == "seqsup: #1 night is ready again\n"
