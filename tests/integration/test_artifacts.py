"""seqsup.artifacts: summaries and files for Python programs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

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
    with pytest.raises(SeqsupError, match="no run r7 in"):
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
    assert [each.name for each in artifacts.put("b", summary="x", details="y")] == ["details.md", "summary.md"]


def test_reading_without_any_run_is_an_error() -> None:
    with pytest.raises(SeqsupError, match="no run"):
        artifacts.summary("a")
