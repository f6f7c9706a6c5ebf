"""`seqsup add`: what it queues, what it says, and that after a mistake nothing is queued."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result
from helpers.profiles import shell, write
from helpers.queues import desk
from seqsup.queue.jobs import JobResult, Taken

Cli = Callable[..., Result]
NO_WORKER = "seqsup: no worker is running: seqsup work\n"


def jobs(seqsup: Cli) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(seqsup("queue", "--json").stdout)["jobs"]
    return sorted(listed, key=lambda job: job["number"])


def taken() -> Taken:
    """Take the next job as a worker would."""
    with desk() as worker:
        job = worker.take()
    assert job is not None
    return job


def finish(job: Taken, code: int = 0) -> None:
    with desk() as worker:
        assert worker.finish(job, JobResult(exit_code=code, run=None))


def test_a_profile_is_queued_with_its_text_and_folder(seqsup: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, shell("a", "echo {task}"), shell("b", "true"), name="night")
    added = seqsup("add", "night.toml", "--task", "a dark mode", "--only", "a", "--priority", "-3")
    assert added == (0, "#1\n", NO_WORKER)
    (told,) = jobs(seqsup)
    assert {key: told[key] for key in ("name", "state", "priority", "after", "not_before")} == {
        "name": "night", "state": "ready", "priority": -3, "after": [], "not_before": None,
    }  # fmt: skip
    assert told["by"].endswith(f"@{os.uname().nodename}")
    order = taken().order
    assert (order.profile, order.path, order.folder) == (path.read_text(), str(path), str(tmp_path))
    assert (order.task, order.only, order.files) == ("a dark mode", ("a",), {})


def test_the_profile_of_the_folder_is_queued_without_a_name(seqsup: Cli, tmp_path: Path) -> None:
    write(tmp_path, shell("a", "true"), name="agents")
    added = seqsup("add")
    assert (added.stdout, added.stderr) == ("#1\n", f"seqsup: using agents.toml\n{NO_WORKER}")


def test_a_command_is_queued_with_all_its_words(seqsup: Cli, tmp_path: Path) -> None:
    assert seqsup("add", "--hard", "1GiB", "--retries", "2", "--", "sh", "-c", "echo $1", "--", "--task").code == 0
    assert seqsup("add", "--timeout", "5m", "--name", "tests", "--", "true").code == 0
    assert [job["name"] for job in jobs(seqsup)] == ["sh -c 'echo $1' -- --task", "tests"]
    order = taken().order
    assert order.command == ("sh", "-c", "echo $1", "--", "--task")
    assert (order.options.hard, order.options.retries, order.folder) == ("1GiB", 2, str(tmp_path))
    assert taken().order.options.timeout == "5m"


@pytest.mark.parametrize("line", [["Fix", "the test"], ["--", "-v: explain"]])
def test_a_prompt_is_queued_with_its_preset(
    seqsup: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    (tmp_path / "claude").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert seqsup("add", "--preset", "claude", "--model", "m", *line).stdout == "#1\n"
    words = tuple(word for word in line if word != "--")
    assert jobs(seqsup)[0]["name"] == f"claude: {' '.join(words)}"
    order = taken().order
    assert (order.command, order.options.preset, order.options.model) == (words, "claude", "m")


def test_a_job_waits_for_others_and_says_so(seqsup: Cli) -> None:
    for _ in range(2):
        seqsup("add", "--", "true")
    third = seqsup("add", "--after", "1", "--after", "#2", "--after", "j2", "--", "true")
    assert third == (0, "#3\n", f"seqsup: #3 true waits: after #1, #2\n{NO_WORKER}")
    assert jobs(seqsup)[2]["after"] == [1, 2]
    finish(taken())
    assert seqsup("add", "--after", "1", "--", "true").stderr == NO_WORKER  # it is done


def test_a_job_waits_for_its_time(seqsup: Cli) -> None:
    added = seqsup("add", "--at", "2099-12-24T02:00", "--", "true", env={"TZ": "UTC"})
    assert "#1 true waits: not before 2099-12-24 02:00\n" in added.stderr
    assert seqsup("add", "--at", "23:59", "--", "true").code == 0
    told = jobs(seqsup)
    assert (told[0]["state"], told[0]["not_before"]) == ("waiting", "2099-12-24T02:00:00.000Z")
    assert told[1]["not_before"] > told[1]["added"]


def test_a_paused_queue_takes_jobs_and_says_so(seqsup: Cli) -> None:
    seqsup("queue", "pause")
    assert seqsup("add", "--", "true") == (0, "#1\n", "seqsup: the queue is paused: seqsup queue resume\n")


def test_spread_makes_a_job_of_each_item_and_chain(seqsup: Cli, tmp_path: Path) -> None:
    write(
        tmp_path, shell("file", "echo {item}", for_each=["a.md", "b.md"]), shell("report", "true", needs=["file"]),
        shell("other", "true"), name="night",
    )  # fmt: skip
    added = seqsup("add", "night.toml", "--spread")
    assert added.stdout.split() == ["#1", "#2", "#3", "#4"]
    told = jobs(seqsup)
    assert sorted(job["name"] for job in told) == [
        "night: file.1 a.md", "night: file.2 b.md", "night: other", "night: report",
    ]  # fmt: skip
    (report,) = (job for job in told if job["name"] == "night: report")
    assert len(report["after"]) == 2
    assert f"{report['job']} night: report waits: after" in added.stderr


MISTAKES = [
    (["no.toml"], 2, "no.toml: cannot be read"),
    (["broken.toml"], 2, "broken.toml:1:9: not TOML"),
    (["task.toml"], 2, "{task} is empty"),
    (["lacking.toml"], 2, "no program no-such-program"),
    (["ok.toml", "--only", "b"], 2, "--only: no agent b"),
    (["ok.toml", "task.toml"], 2, "one profile at a time, or a command behind --: seqsup add -- ok.toml task.toml"),
    (["ok.toml", "--hard", "1GiB"], 2, "--hard goes with a command"),
    (["ok.toml", "--", "true"], 2, "unexpected argument: ok.toml"),
    (["--"], 2, "incomplete: seqsup add -- CMD"),
    (["--preset", "claude"], 2, 'incomplete: seqsup add --preset claude "PROMPT"'),
    (["--preset", "claud", "x"], 2, "no preset 'claud' (did you mean claude?)"),
    (["--model", "m", "--", "true"], 2, "--model goes with --preset"),
    (["--task", "x", "--", "true"], 2, "--task goes with a profile, not with a command"),
    (["--spread", "--", "true"], 2, "--spread goes with a profile, not with a command"),
    (["--hard", "lots", "--", "true"], 2, "--hard: expected a size"),
    (["--retries", "-1", "--", "true"], 2, "--retries: expected a whole number from 0"),
    (["--", "no-such-program"], 2, "the command: no program no-such-program"),
    (["--", "echo hi"], 2, "hint: write it without the quotes: seqsup add -- echo hi"),
    (["--after", "1", "--", "true"], 2, "--after 1: there is no job #1"),
    (["--after", "two", "--", "true"], 2, "--after: expected the number of a job, such as 3, not 'two'"),
    (["--after", "0", "--", "true"], 2, "--after: expected the number of a job"),
    (["--at", "25:00", "--", "true"], 2, "--at: expected 02:00 or 2026-12-24T02:00, not '25:00'"),
    (["--at", "tomorrow", "--", "true"], 2, "--at: expected 02:00 or 2026-12-24T02:00, not 'tomorrow'"),
    (["--at", "2020-01-01T02:00", "--", "true"], 2, "--at: '2020-01-01T02:00' is in the past"),
    (["--priority", "101", "--", "true"], 2, "--priority: expected a whole number from -100 to 100, not '101'"),
    (["--priority", "high", "--", "true"], 2, "--priority: expected a whole number from -100 to 100, not 'high'"),
    (["--queue", "mysql://me:secret@host/db", "--", "true"], 2, "--queue: a queue is in PostgreSQL, not in mysql"),
    (["--queue", "nowhere", "--", "true"], 2, '--queue: expected "postgresql://USER@HOST/DATABASE"'),
]


@pytest.mark.parametrize(("line", "code", "said"), MISTAKES, ids=[" ".join(line) for line, _, _ in MISTAKES])
def test_after_a_mistake_nothing_is_queued(
    seqsup: Cli, tmp_path: Path, line: list[str], code: int, said: str
) -> None:  # fmt: skip
    write(tmp_path, shell("a", "true"), name="ok")
    write(tmp_path, shell("a", "echo {task}"), name="task")
    write(tmp_path, shell("a", "true"), {"name": "b", "command": ["no-such-program"]}, name="lacking")
    (tmp_path / "broken.toml").write_text("[[agents\n")
    ended = seqsup("add", *line)
    assert (ended.code, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "secret" not in ended.stderr
    assert jobs(seqsup) == []


def test_no_job_waits_for_one_that_failed_or_for_itself(seqsup: Cli) -> None:
    seqsup("add", "--", "false")
    finish(taken(), code=1)
    refused = seqsup("add", "--after", "1", "--", "true")
    assert (refused.code, refused.stdout) == (2, "")
    assert "--after 1: job #1 has failed" in refused.stderr
    assert "seqsup queue retry 1" in refused.stderr
    assert "there is no job #2" in seqsup("add", "--after", "2", "--", "true").stderr
    assert len(jobs(seqsup)) == 1


def test_a_job_of_spread_that_fails_leaves_no_other_queued(seqsup: Cli, tmp_path: Path) -> None:
    write(
        tmp_path, shell("a", "true"), shell("b", "echo {summary:c}", needs=["c"]),
        shell("c", "echo {item}", for_each=["x"]), name="night",
    )  # fmt: skip
    assert seqsup("add", "night.toml", "--spread").code == 2
    assert jobs(seqsup) == []


# -- which queue


def config(text: str) -> Path:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "seqsup"
    folder.mkdir(exist_ok=True)
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_the_users_file_selects_the_queue(seqsup: Cli) -> None:
    config('queue = "embedded"\n')
    assert seqsup("add", "--", "true").stdout == "#1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('# mine\nqeueu = "embedded"\n', ":2:1: qeueu: unknown key\n"),
        ("queue = 7\n", ":1:9: queue: expected text in quotes"),
        ('queue = "mysql://me:hunter22@host/db"\n', ":1:9: queue: a queue is in PostgreSQL, not in mysql"),
        ("queue = embedded\n", ":1:9: not TOML"),
    ],
)
def test_a_mistake_in_the_users_file_is_named_by_line_and_key(seqsup: Cli, text: str, said: str) -> None:
    file = config(text)
    ended = seqsup("add", "--", "true")
    assert (ended.code, ended.stdout) == (2, "")
    assert f"seqsup: {file}{said}" in ended.stderr
    assert any(word in ended.stderr for word in ("hint: ", "expected"))
    assert "hunter22" not in ended.stderr
    assert seqsup("add", "--queue", "embedded", "--", "true").code == 0  # the file is not asked


def test_a_pipe_in_place_of_the_users_file_is_not_waited_for(seqsup: Cli) -> None:
    file = config("")
    file.unlink()
    os.mkfifo(file)
    refused = seqsup("queue")
    assert (refused.code, f"{file}: cannot be read: not a regular file" in refused.stderr) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="others may change the files of a user who is not root")
def test_root_does_not_believe_what_another_user_can_change(seqsup: Cli) -> None:
    file = config('queue = "embedded"\n')
    file.chmod(0o666)
    ended = seqsup("add", "--", "true")
    assert (ended.code, ended.stdout) == (3, "")
    assert f"seqsup: {file} is not read as root: every user can write {file}; chmod go-w" in ended.stderr
