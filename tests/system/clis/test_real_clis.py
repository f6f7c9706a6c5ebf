"""Each real agent CLI finds the model's server of the tests, and has a turn with a tool there."""

import json
import subprocess
from pathlib import Path

import pytest

from helpers.model_server import Step, model
from helpers.real_clis import CLIS, command, environment

COUNTS: list[Step] = [{"main": True, "when": "count", "shell": "expr 41 + 1", "times": 1}, {"say": "counted"}]


@pytest.mark.long
@pytest.mark.parametrize("cli", CLIS)
def test_cli_has_a_turn_with_a_tool(cli: str, tmp_path: Path) -> None:
    with model(COUNTS) as asks:
        env = environment(cli, asks.url, tmp_path / "own")
        ended = subprocess.run(
            command(cli, asks.url, "count"),
            env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(json.loads(line) for line in ended.stdout.splitlines())
    assert "counted" in ended.stdout
    [answered] = [asked for asked in asks.asked if asked.step == 1 and "42" in asked.last]
    assert "count" in answered.text
