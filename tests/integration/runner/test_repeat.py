"""`repeat`: rounds of an agent until a command succeeds, with a proof that memory is back after each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, shell, write
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]

ROUND = "echo round >> rounds; [ ! -e fail ]"


def repeated(folder: Path, script: str = ROUND, **keys: Any) -> Path:
    until = {"until": ["sh", "-c", '[ "$(wc -l < rounds)" -ge 3 ]'], **keys}
    return write(folder, shell("a", script, repeat=until, retry={"attempts": 1}), agent("b", ["true"], needs=["a"]))


def ends(ran: Result) -> list[str]:
    return [event["reason"] for event in of(parsed(ran.stdout), "attempt_ended")]


def test_rounds_end_when_the_command_succeeds(seqsup: Cli, tmp_path: Path) -> None:
    ran = seqsup("start", repeated(tmp_path), "--json")
    assert ran.code == 0
    assert ends(ran) == ["unfinished", "unfinished", "completed", "completed"]
    assert len(of(parsed(ran.stdout), "drained")) == 4
    assert [event["outlook"] for event in of(parsed(ran.stdout), "retry_scheduled")] == [
        "round 2 of 10",
        "round 3 of 10",
    ]


def test_an_agent_is_unfinished_after_its_last_round(seqsup: Cli, tmp_path: Path) -> None:
    ran = seqsup("start", repeated(tmp_path, max=2))
    assert ran.code == 1
    assert (tmp_path / "rounds").read_text() == "round\nround\n"
    assert "repeat.until sh -c" in ran.stderr


def test_a_round_that_fails_is_retried_as_usual(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    assert ends(seqsup("start", repeated(tmp_path), "--json")) == ["failed"]


def test_a_resumed_run_continues_with_the_next_round(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    profile = repeated(tmp_path, f"{ROUND}; [ $(wc -l < rounds) != 2 ] || [ -e go ] || sleep 60", max=2)
    running = seqsup_started("start", profile)
    wait_for(lambda: (tmp_path / "rounds").read_text().count("\n") == 2)
    running.process.kill()
    running.process.wait()
    (tmp_path / "go").touch()
    resumed = seqsup("start", profile, "--resume", "--json")
    assert (resumed.code, ends(resumed)) == (0, ["completed", "completed"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"until": ["no-such-program"]}, "agent a: repeat.until[0]: no program no-such-program on PATH"),
        ({"until": []}, "agent a: repeat.until: empty"),
        ({"max": 0}, "agent a: repeat.max: expected a whole number from 1, not 0"),
        ({"until": "make test"}, 'write until = ["make", "test"]'),
    ],
)
def test_a_mistake_is_refused_with_its_line(seqsup: Cli, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    ran = seqsup("start", repeated(tmp_path, **keys))
    assert ran.code == 2
    assert message in ran.stderr
    assert not (tmp_path / "rounds").exists()
