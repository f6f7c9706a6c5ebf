"""`seqsup work`: its arguments, and what it says."""

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.jobs import add, add_command, job
from helpers.profiles import shell, write
from helpers.waiting import wait_for
from seqsup.queue.jobs import JobState

Seqsup = Callable[..., Result]
SeqsupStarted = Callable[..., Started]


@pytest.mark.parametrize("window", ["22:00", "22-7", "25:00-07:00", ""])
def test_malformed_window_is_refused(seqsup: Seqsup, window: str) -> None:
    refused = seqsup("work", "--window", window)
    assert refused.code == 2
    assert f"--window: expected two times of day such as \"22:00-07:00\", not '{window}'" in refused.stderr


@pytest.mark.parametrize("slots", ["0", "-1", "auto", "1.5", "1001"])
def test_wrong_number_of_slots_is_refused(seqsup: Seqsup, slots: str) -> None:
    refused = seqsup("work", "--slots", slots)
    assert refused.code == 2
    assert f"--slots: expected a whole number from 1 to 1000, not '{slots}'" in refused.stderr


def test_second_worker_of_a_name_is_refused(seqsup: Seqsup, seqsup_started: SeqsupStarted) -> None:
    first = seqsup_started("work", "--name", "night")
    wait_for(lambda: "worker night takes jobs" in first.stderr)
    refused = seqsup("work", "--name", "night")
    assert refused.code == 3
    assert refused.stderr.startswith("seqsup: a worker named night already runs")
    assert seqsup("work", "--name", "day", "--until-empty").code == 0
    first.process.kill()
    first.process.wait()
    assert seqsup("work", "--name", "night", "--until-empty").code == 0


def test_unfit_name_is_refused(seqsup: Seqsup) -> None:
    refused = seqsup("work", "--name", "../night")
    assert refused.code == 2
    assert "'../night' cannot be a worker's name" in refused.stderr


def test_worker_inside_an_agent_is_refused(seqsup: Seqsup, tmp_path: Path) -> None:
    seqsup("start", write(tmp_path, shell("a", "seqsup work --until-empty 2>said; echo $? >>said")))
    said = (tmp_path / "said").read_text()
    assert "cannot start a run inside agent a of r1" in said
    assert said.endswith("\n3\n")


def test_lines_are_objects_if_wanted(seqsup: Seqsup, tmp_path: Path) -> None:
    add_command(tmp_path, "sh", "-c", "exit 3", name="three")
    worked = seqsup("work", "--until-empty", "--log-format", "json")
    lines = [json.loads(line) for line in worked.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["worker_started", "job_started", "job_failed"]
    assert lines[1]["run"] == "r1"
    assert lines[2]["message"].startswith("#1 sh: failed after ")


def test_log_of_runs_is_shown_from_a_level_on(seqsup: Seqsup, tmp_path: Path) -> None:
    add(write(tmp_path, shell("a", "true")))
    worked = seqsup("work", "--until-empty", "--log-level", "info")
    assert worked.code == 0
    assert " a " in next(line for line in worked.stderr.splitlines() if "completed" in line)
    (tmp_path / "json").mkdir()
    add(write(tmp_path / "json", shell("a", "true")))
    worked = seqsup("work", "--until-empty", "--log-level", "info", "--log-format", "json")
    kinds = {json.loads(line)["event"] for line in worked.stderr.splitlines()}
    assert kinds >= {"worker_started", "job_started", "attempt_ended", "job_done"}


def test_worker_lives_on_without_its_terminal(seqsup_started: SeqsupStarted, tmp_path: Path) -> None:
    worker = seqsup_started("work", through=["nohup"])
    wait_for(lambda: "takes jobs" in worker.stderr)
    worker.send(signal.SIGHUP)
    number = add_command(tmp_path, "true")
    wait_for(lambda: job(number).state is JobState.DONE)
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 143


@pytest.mark.parametrize("listen", ["9473", "127.0.0.1:http", ""])
def test_malformed_address_of_metrics_is_refused(seqsup: Seqsup, listen: str) -> None:
    refused = seqsup("work", "--listen", listen)
    assert refused.code == 2
    assert '--listen: expected "host:port"' in refused.stderr


def test_taken_address_of_metrics_is_refused_before_a_job_is_taken(seqsup: Seqsup, tmp_path: Path) -> None:
    number = add_command(tmp_path, "true")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = seqsup("work", "--until-empty", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.code == 3
    assert "Address already in use; choose another address" in refused.stderr
    assert job(number).state is JobState.READY
