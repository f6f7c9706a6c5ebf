"""A conversation as the commands show it: while it runs, and afterwards."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import Event, of, parsed, shell, write
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]
TURN = ROOT / "tests/data/streams/claude/turn.ndjson"
SESSION = "e1cabc17-a1f4-4e7b-b51b-110218dd9a58"
ANSWER = "There are three files, and the tests pass."


@pytest.fixture
def nightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile with a program that writes what claude wrote, up to its tool, and the rest once `go` is there."""
    cli = tmp_path / "bin/claude"
    cli.parent.mkdir()
    cli.write_text(f"#!/bin/sh\nsed -n 2,3p {TURN}\nuntil [ -e go ]; do sleep 0.05; done\nsed -n '4,$p' {TURN}\n")
    cli.chmod(0o755)
    monkeypatch.setenv("PATH", f"{cli.parent}:{os.environ['PATH']}")
    plan = {"name": "plan", "preset": "claude", "prompt": "count the files"}
    return write(tmp_path, plan, shell("next", "echo '{summary:plan}'"))


def uses(events: list[Event]) -> list[str]:
    """Return the beginnings of the commands of the tools in use."""
    tools = [each["conversation"]["tool"] for each in of(events, "agent_progress")]
    return [tool["about"] for tool in tools if tool]


def test_conversation_is_shown_while_it_runs_and_afterwards(
    nightly: Path, seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    started = seqsup_started("start", nightly, "--json")

    def status() -> str:
        told = seqsup("status").stdout
        return told if "plan works:" in told else ""

    shown = wait_for(status)
    assert "plan works: turn 1 · Bash " in shown
    assert ": expr 41 + 1 · 1.2k tokens" in shown
    [agent, _] = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert (agent["session"], agent["model"]) == (SESSION, "claude-opus-5-5")
    (tmp_path / "go").touch()
    events = parsed(started.wait().stdout)
    assert "expr 41 + 1" in uses(events)
    [ended] = [each for each in of(events, "attempt_ended") if each["agent"] == "plan"]
    assert (ended["conversation"]["usd"], ended["conversation"]["result"]["text"]) == (pytest.approx(0.0128), ANSWER)
    assert "expr 41 + 1" in uses(parsed(seqsup("events").stdout))

    assert seqsup("logs", "next").stdout == f"{ANSWER}\n"
    assert seqsup("logs", "plan").stdout == f"▶ Bash: expr 41 + 1\n{ANSWER}\n"
    assert seqsup("logs", "plan", "-n", "1", "-f").stdout == f"{ANSWER}\n"
    assert [json.loads(line)["type"] for line in seqsup("logs", "plan", "--raw").stdout.splitlines()][-1] == "result"
    shown = seqsup("status").stdout
    assert f"  to continue with plan yourself: claude --resume {SESSION}\n" in shown
    narrow = seqsup("status", env={"COLUMNS": "60"}).stdout
    assert f"  to continue with plan yourself:\n    claude --resume {SESSION}\n" in narrow
    assert re.search(r"^  plan +1 +completed +\S+ s +2 +\$0\.01 ", shown, re.MULTILINE), shown
    [agent, other] = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert (agent["turns"], agent["tokens"]["output"], agent["usd"]) == (2, 160, pytest.approx(0.0128))
    assert (other["turns"], other["usd"]) == (0, None)


def test_run_and_follow_print_what_a_person_reads(nightly: Path, seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    ended = seqsup("run", "--preset", "claude", "count the files")
    assert (ended.code, ended.stdout) == (0, f"▶ Bash: expr 41 + 1\n{ANSWER}\n")
    told = seqsup("start", nightly, "--follow").stdout
    assert f"plan | {ANSWER}\n" in told
    assert '"type"' not in told
