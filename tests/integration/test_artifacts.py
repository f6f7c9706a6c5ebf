"""seqsup.artifacts: summaries and files for Python programs."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result
from helpers.profiles import agent, shell, write
from seqsup import artifacts
from seqsup.artifacts import ArtifactError
from seqsup.errors import SeqsupError

Seqsup = Callable[..., Result]


def python(name: str, *lines: str) -> dict[str, object]:
    return agent(name, [sys.executable, "-c", "\n".join(["from seqsup import artifacts", *lines])])


def test_what_an_agent_puts_is_read_by_the_next_and_from_outside(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path,
        python("a", "artifacts.put('a', summary='Two bugs', details='line\\n' * 5000)"),
        python("b", "from pathlib import Path", "assert artifacts.summary('a') == 'Two bugs'",
               "Path('own.json').write_text('[]')", "artifacts.put(details=[Path('own.json')])", "print('the end')"),
        shell("c", "exit 0"),
    )  # fmt: skip
    result = seqsup("start", profile)
    assert result.code == 0, result.stderr
    assert artifacts.summary("a") == "Two bugs"
    assert artifacts.read("a") == b"line\n" * 5000
    assert artifacts.read("b", "own.json") == b"[]"
    assert artifacts.summary("b") == "the end"
    folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1")
    assert artifacts.summary("a", run=folder) == "Two bugs"
    assert seqsup("artifacts", "show", "a", "--file", "details.md").stdout == "line\n" * 5000
    with pytest.raises(ArtifactError, match=r'r1 has no agent "x"'):
        artifacts.summary("x")
    with pytest.raises(ArtifactError, match=r"no file details\.md in .*/c/1/artifacts"):
        artifacts.read("c")
    with pytest.raises(SeqsupError, match=r'no run "/.*/r7" in /.*; `seqsup runs` lists'):
        artifacts.summary("a", run=folder.parent / "r7")


def test_put_outside_of_that_agent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="not inside an agent"):
        artifacts.put("a", summary="x")
    monkeypatch.setenv("SEQSUP_ARTIFACTS", str(tmp_path))
    monkeypatch.setenv("SEQSUP_AGENT", "b")
    with pytest.raises(ArtifactError, match="this is the agent b, and only a itself can store something for a"):
        artifacts.put("a", summary="x")
    with pytest.raises(ArtifactError, match="nothing to store: give a summary, details, or both"):
        artifacts.put("b")
    with pytest.raises(ArtifactError, match="the summary has 16385 bytes, more than 16384: shorten it"):
        artifacts.put("b", summary="x" * 16385, details="y")
    assert [each.name for each in tmp_path.iterdir()] == ["home"]
    assert [each.name for each in artifacts.put("b", summary="x", details="y")] == ["details.md", "summary.md"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"agent": 5, "summary": "x"}, "agent is text, not int"),
        ({"summary": 5}, "summary is text, not int"),
        ({"summary": b"x"}, "summary is text, not bytes"),
        ({"details": 5}, "details are text, a Path, or several Paths, not int"),
        ({"details": b"x"}, "details are text, a Path, or several Paths, not bytes"),
        ({"details": ["notes.md"]}, "details are text, a Path, or several Paths, not str in list"),
    ],
)
def test_value_of_a_wrong_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], why: str
) -> None:
    monkeypatch.setenv("SEQSUP_ARTIFACTS", str(tmp_path))
    monkeypatch.setenv("SEQSUP_AGENT", "b")
    with pytest.raises(TypeError, match=f"^{re.escape(why)}$"):
        artifacts.put(**given)
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("read", [artifacts.summary, artifacts.read])
def test_name_of_an_agent_is_text(read: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"^agent is text, not NoneType$"):
        read(None)


def test_reading_without_any_run_is_an_error() -> None:
    with pytest.raises(SeqsupError, match="no run"):
        artifacts.summary("a")
