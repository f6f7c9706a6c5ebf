"""Real agent CLIs that are killed amid a tool: the next attempt shows the model the earlier conversation."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.model_server import Model, Step, model
from helpers.profiles import Event, of, parsed, proven, write
from helpers.real_clis import CLIS, environment, options
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]

# Some write a turn down only a moment after its tool has started
WORKS: Step = {"main": True, "when": "count", "shell": "echo one; sleep 3; touch works; sleep 99", "times": 1}
SCRIPT: list[Step] = [WORKS, {"say": "counted"}]

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]


def profile(cli: str, asks: Model, folder: Path, attempts: int) -> Path:
    env = environment(cli, asks.url, folder / "own")
    agent = {"name": "a", "preset": cli, "prompt": "count", "args": options(cli), "env": env}
    return write(folder, agent, retry={"attempts": attempts})


def resumed(asks: Model, reminder: str) -> bool:
    """Return whether the model got the first prompt and then the reminder."""
    earlier = re.compile(f"count.*You were stopped{reminder}", re.DOTALL)
    return any(earlier.search(asked.text) for asked in asks.asked)


def sessions(events: list[Event]) -> list[tuple[str, bool]]:
    return [(event["session"], event["resumed"]) for event in of(events, "attempt_started")]


@pytest.mark.parametrize("cli", CLIS)
def test_killed_conversation_is_resumed_by_the_retry(seqsup_started: Start, tmp_path: Path, cli: str) -> None:
    with model(SCRIPT) as asks:
        run = seqsup_started("start", profile(cli, asks, tmp_path, 2), "--json")
        wait_for((tmp_path / "works").exists, 90)
        [spawned] = of(parsed(run.stdout.rpartition("\n")[0]), "spawned")
        os.kill(spawned["pid"], signal.SIGKILL)
        ended = run.wait(90)
    assert ended.code == 0, ended.stderr
    assert [resumed for _, resumed in sessions(proven(ended))] == [False, True]
    assert resumed(asks, ": your program was ended")


@pytest.mark.parametrize("cli", CLIS)
def test_conversation_is_resumed_after_the_death_of_the_supervisor(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, cli: str
) -> None:
    with model(SCRIPT) as asks:
        own = profile(cli, asks, tmp_path, 1)
        run = seqsup_started("start", own)
        wait_for((tmp_path / "works").exists, 90)
        run.process.kill()
        run.process.wait()
        [(_, again)] = sessions(proven(seqsup("start", own, "--resume", "--json", deadline=90)))
    assert again
    assert resumed(asks, " by a crash of your supervisor")
