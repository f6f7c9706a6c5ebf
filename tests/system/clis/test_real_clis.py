"""Each real agent CLI, started as its preset says: a turn with a tool, a session resumed, a session that is lost."""

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.model_server import Model, Step, model
from helpers.real_clis import CLIS, SIXTEEN, command, environment, form
from seqsup.model.preset import put

COUNTS: list[Step] = [{"main": True, "when": "count", "shell": SIXTEEN, "times": 1}, {"say": "counted"}]
ID = re.compile(r'"(?:session_id|thread_id|sessionI[dD])":\s*"([^"]+)"')

Turn = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.long


@pytest.fixture
def asks() -> Iterator[Model]:
    with model(COUNTS) as asks:
        yield asks


@pytest.fixture
def turn(cli: str, asks: Model, tmp_path: Path) -> Turn:
    env = environment(cli, asks.url, tmp_path / "own")

    def run(*words: str, resume: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(cli, *words, resume=resume),
            env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("cli", CLIS)
def test_cli_has_a_turn_with_a_tool_and_resumes_it(cli: str, asks: Model, turn: Turn) -> None:
    """A prompt may begin as an option does."""
    minted = str(uuid.uuid4())
    first = turn("- count", *put(form(cli).mint, "id", minted))
    assert first.returncode == 0, first.stdout + first.stderr
    assert all(json.loads(line) for line in first.stdout.splitlines())
    assert "counted" in first.stdout
    assert [asked.step for asked in asks.asked if "sixteen" in asked.last] == [1]
    session = ID.findall(first.stdout)[-1]
    assert session == minted or not form(cli).mint
    before = len(asks.asked)
    again = turn("--and now", resume=session)
    assert again.returncode == 0, again.stdout + again.stderr
    earlier = re.compile("count.*sixteen.*counted.*--and now", re.DOTALL)
    assert any(earlier.search(asked.text) for asked in asks.asked[before:])


@pytest.mark.parametrize("cli", CLIS)
def test_lost_session_is_told_in_the_words_that_the_preset_knows(cli: str, turn: Turn) -> None:
    lost = turn("count", resume="ses_1b7a4c0fffferY2Bq0Bxw5QbZK" if cli == "opencode" else str(uuid.uuid4()))
    assert lost.returncode != 0
    assert any(re.search(pattern, lost.stdout + lost.stderr) for pattern in form(cli).lost), lost.stderr
