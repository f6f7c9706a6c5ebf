"""Artifact-only runs: nothing is spawned, and those that come later get the summaries that stand."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.command_line import Result
from helpers.profiles import agent, of, proven, shell, started, write

Seqsup = Callable[..., Result]


def profile(folder: Path, mode: str, **tables: Any) -> Path:
    return write(
        folder, shell("writer", "echo ran >> ran; echo two bugs"),
        agent("reviewer", ["review", "--notes", "{summary:writer}"] if mode == "artifact-only" else ["true"],
              stdin="mind: {summary:writer}", needs=["writer"]),
        run={"mode": mode}, **tables,
    )  # fmt: skip


def brief(seqsup: Seqsup, name: str) -> str:
    return seqsup("artifacts", "show", name, "--file", "brief.md").stdout


def test_brief_starts_no_process_and_passes_its_files_on(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "review").write_text("#!/bin/sh\ntouch reviewed\n")
    (tmp_path / "review").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert seqsup("start", profile(tmp_path, "sequential"), env=env).code == 0
    again = profile(tmp_path, "artifact-only", hooks={"before_run": ["touch hooked"]})
    plan = json.loads(seqsup("plan", again, "--json", env=env).stdout)
    assert plan["execution_mode"] == "artifact-only"
    events = proven(seqsup("start", again, "--json", env=env))
    assert started(events) == []
    assert [(each["agent"], each["stands"]) for each in of(events, "brief_written")] == [
        ("writer", "r1/writer/1"), ("reviewer", "r1/reviewer/1"),
    ]  # fmt: skip
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert [name for name in ("reviewed", "hooked") if (tmp_path / name).exists()] == []
    text = brief(seqsup, "reviewer")
    assert "review --notes 'two bugs'" in text
    assert "mind: two bugs" in text
    assert "## writer\n\ntwo bugs" in text
    assert "2 briefs written, no agent started" in seqsup("status").stdout


def test_file_left_beside_a_brief_is_passed_on_by_the_next_run(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "review").write_text("#!/bin/sh\n")
    (tmp_path / "review").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    path = profile(tmp_path, "artifact-only")
    assert seqsup("start", path, env=env).code == 0
    assert "--notes ''" in brief(seqsup, "reviewer")
    runs = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs"
    (runs / "r1/writer/brief/artifacts/summary.md").write_text("by hand\n")
    assert seqsup("start", path, env=env).code == 0
    assert "--notes 'by hand'" in brief(seqsup, "reviewer")
    assert seqsup("artifacts", "list", "r1").stdout.splitlines()[1].split()[:3] == ["writer", "–", "given"]
    assert seqsup("artifacts", "list", "r2").stdout.splitlines()[1].split()[:3] == ["writer", "–", "–"]
    assert (runs / "r2/reviewer/brief/artifacts/brief.md").stat().st_mode & 0o777 == 0o600


def test_run_resumed_with_briefs_passes_on_the_results_of_its_agents(seqsup: Seqsup, tmp_path: Path) -> None:
    def begun(mode: str) -> Path:
        return write(
            tmp_path, shell("writer", "echo two bugs"), shell("reviewer", "exit 1", stdin="mind: {summary:writer}"),
            run={"mode": mode},
        )  # fmt: skip

    assert seqsup("start", begun("sequential")).code == 1
    events = proven(seqsup("start", begun("artifact-only"), "--resume", "--json"))
    assert [each["agent"] for each in of(events, "brief_written")] == ["reviewer"]
    assert "mind: two bugs" in brief(seqsup, "reviewer")
    assert seqsup("artifacts", "summary", "writer").stdout == "two bugs\n"
