"""Conversations of a CLI that keeps them in files: resumed after an interruption, started afresh after a failure."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import STUBS
from helpers.profiles import Event, of, parsed, proven, write
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]


@pytest.fixture(autouse=True)
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec python3 {STUBS}/claude.py "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def profile(folder: Path, prompt: str, **tables: Any) -> Path:
    return write(folder, {"name": "a", "preset": "claude", "prompt": prompt}, **tables)


def conversations() -> dict[str, list[str]]:
    """Return the prompts of each conversation, by its id."""
    return {file.name: file.read_text().splitlines() for file in Path.home().glob("conversations/*")}


def attempts(events: list[Event]) -> list[tuple[str, bool, str]]:
    """Return session, whether it was resumed, and reason."""
    starts, ends = of(events, "attempt_started"), of(events, "attempt_ended")
    return [(start["session"], start["resumed"], end["reason"]) for start, end in zip(starts, ends, strict=True)]


def test_conversation_continues_after_a_kill_with_its_reason(seqsup: Cli, tmp_path: Path) -> None:
    limits = {"hard": "100MiB", "host_floor": "none"}
    events = proven(seqsup("start", profile(tmp_path, "eat done", memory=limits, retry={"attempts": 2}), "--json"))
    [(session, prompts)] = conversations().items()
    assert attempts(events) == [(session, False, "hard"), (session, True, "completed")]
    assert prompts[0] == "eat done"
    assert prompts[1].startswith("You were stopped: your process tree reached ")
    assert prompts[1].endswith("MiB). Continue, but do not run that again as it was.")
    assert [event["resumes"] for event in of(events, "retry_scheduled")] == [True]


def test_conversation_continues_after_a_usage_limit(seqsup: Cli, tmp_path: Path) -> None:
    waits = profile(tmp_path, "limit done", usage={"on_limit": "wait"})
    events = proven(seqsup("start", waits, "--json"))
    [(session, prompts)] = conversations().items()
    assert attempts(events) == [(session, False, "usage-limit"), (session, True, "completed")]
    assert prompts[1] == "You were stopped by the usage limit of your provider. Continue."


@pytest.mark.parametrize(("how", "resumed"), [("auto", False), ("resume", True)])
def test_failure_of_the_agent_itself_is_resumed_on_request_only(
    seqsup: Cli, tmp_path: Path, how: str, resumed: bool
) -> None:
    ran = seqsup("start", profile(tmp_path, "fail done", retry={"attempts": 2, "how": how}), "--json")
    first, second = attempts(parsed(ran.stdout))
    assert (second[0] == first[0], second[1], ran.code) == (resumed, resumed, int(not resumed))
    [agent] = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert (agent["session"], agent["usd"]) == (second[0], pytest.approx(0.2))  # the CLI reports the session's sum


def test_two_brief_resumes_lead_to_a_fresh_conversation(seqsup: Cli, tmp_path: Path) -> None:
    crashes = profile(tmp_path, "crash crash crash {artifacts}", retry={"attempts": 4})
    ran = seqsup("start", crashes)
    assert ran.code == 1
    again, first = sorted(conversations().values(), key=len)
    assert (len(again), len(first)) == (1, 3)
    old, new = again[0].replace("/4/", "/1/").split()[-1], again[0].replace("/4/", "/2/").split()[-1]
    assert first[1].endswith(f"Your folder {old} is now {new}: move your files there.")
    assert ran.stderr.count("resumes its conversation") == 2
    assert ran.stderr.count("starts a fresh conversation") == 1


def killed(seqsup_started: Start, waits: Path) -> str:
    """Kill the supervisor while the agent's first turn waits, and return the conversation's id."""
    running = seqsup_started("start", waits)
    session = str(next(iter(wait_for(conversations))))
    running.process.kill()
    running.process.wait()
    return session


def test_resumed_run_resumes_the_conversation(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    waits = profile(tmp_path, "wait done", retry={"attempts": 1})
    session = killed(seqsup_started, waits)
    events = proven(seqsup("start", waits, "--resume", "--json"))
    assert attempts(events) == [(session, True, "completed")]
    assert conversations()[session][1].startswith("You were stopped by a crash of your supervisor")


def test_lost_conversation_starts_again_under_its_id_and_costs_no_attempt(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    waits = profile(tmp_path, "wait done", retry={"attempts": 1})
    session = killed(seqsup_started, waits)
    (Path.home() / "conversations" / session).unlink()
    (tmp_path / "go").touch()
    events = proven(seqsup("start", waits, "--resume", "--json"))
    assert attempts(events) == [(session, True, "failed"), (session, False, "completed")]
    assert conversations() == {session: ["wait done"]}


def test_changed_prompt_begins_a_conversation(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    session = killed(seqsup_started, profile(tmp_path, "wait"))
    [(other, resumed, _)] = attempts(proven(seqsup("start", profile(tmp_path, "done"), "--resume", "--json")))
    assert (other != session, resumed) == (True, False)
