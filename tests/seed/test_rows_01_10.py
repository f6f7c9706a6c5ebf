"""One at a time, and memory back before the next: how the seed's sequential execution works, and its functions."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Started
from helpers.paths import ROOT
from helpers.profiles import agent, of, shell, write
from helpers.seed import InAgent, SeedAgent, Seqsup, Start, printed
from seqsup import memory
from seqsup.units import GIB, MIB


def test_row_01_one_agent_at_a_time_also_of_two_runs(
    seqsup_started: Callable[..., Started], seed_agent: SeedAgent, tmp_path: Path
) -> None:
    runs = [
        seqsup_started("start", write(tmp_path, *(seed_agent(f"{name}{n}") for n in (1, 2, 3)), name=name))
        for name in ("first", "second")
    ]
    assert [run.wait().code for run in runs] == [0, 0]
    ledger = [line.split() for line in (tmp_path / "ledger").read_text().splitlines()]
    assert len(ledger) == 12
    for (begins, one), (ends, same) in zip(ledger[::2], ledger[1::2], strict=True):
        assert (begins, ends, one) == ("begin", "end", same)
    assert any("waiting for" in run.stderr for run in runs)


def test_row_02_known_cli_is_recognized_and_the_profile_keeps_its_subagents_to_one(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    for name in ("claude", "gemini"):
        (tmp_path / name).write_text("#!/bin/sh\nenv\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert "GEMINI_CLI_NO_RELAUNCH=true\n" in seqsup("run", "--", "gemini", "-p", "hi", env=path).stdout
    one = {"CLAUDE_CODE_MAX_CONCURRENT_SUBAGENTS": "1"}
    profile = write(tmp_path, agent("a", ["claude", "-p", "hi"], env=one))
    assert json.loads(seqsup("plan", profile, "--json", env=path).stdout)["steps"][0]["preset"]["name"] == "claude"
    assert seqsup("start", profile, env=path).code == 0
    assert "CLAUDE_CODE_MAX_CONCURRENT_SUBAGENTS=1\n" in printed("a", run="r2")


ROUTES = {
    "Add Button": ["frontend-developer", "test-automator"],
    "Two buttons, and the html": ["frontend-developer", "test-automator"],
    "A button for the API": ["frontend-developer", "backend-developer", "test-automator"],
    "Write the notes": ["general-purpose", "test-automator"],
}


@pytest.mark.parametrize("task", ROUTES)
def test_row_03_task_router(seqsup: Seqsup, routed: Path, tmp_path: Path, task: str) -> None:
    assert seqsup("start", routed, "--task", task).code == 0
    assert (tmp_path / "ran").read_text().split() == ROUTES[task]


def test_row_04_plan_says_sequential(seqsup: Seqsup, routed: Path) -> None:
    plan = json.loads(seqsup("plan", routed, "--task", "Add Button", "--json").stdout)
    assert plan["execution_mode"] == "sequential"
    assert {each["agent"]: each["taken"] for each in plan["routing"]} == {
        "frontend-developer": True, "backend-developer": False, "general-purpose": False, "test-automator": True,
    }  # fmt: skip


def test_row_05_memory_is_cleaned_up_between_agents(start: Start, seed_agent: SeedAgent) -> None:
    events = start(seed_agent("agent1", 100), seed_agent("agent2", 100), seed_agent("agent3", 100))
    assert [len(end["left_over"]) for end in of(events, "attempt_ended")] == [1, 1, 1]
    kinds = [each["event"] for each in of(events, "attempt_started", "drained")]
    assert kinds == ["attempt_started", "drained"] * 3
    assert all(each["reached"] and each["gave_back"] > 100 * MIB for each in of(events, "drained"))


def test_row_06_hook_runs_after_each_agent(start: Start, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles" / "hooks", tmp_path / "hooks")
    hooks = {"after_agent": ["hooks/post-agent-execution.sh"]}
    events = start(shell("a", "true"), shell("b", "true"), shell("c", "true"), hooks=hooks)
    assert [(each["agent"], each["ok"]) for each in of(events, "hook_ended")] == [("a", True), ("b", True), ("c", True)]


def test_row_07_force_gc(in_agent: InAgent) -> None:
    freed = in_agent("force_gc()")
    assert freed["collection"]["answered"] == 1
    assert freed["collection"]["after"]["used"] < 10 * MIB < freed["collection"]["before"]["used"]


def test_row_08_get_memory_usage(in_agent: InAgent) -> None:
    usage = in_agent("memory_usage()")
    assert GIB > usage["used"] > usage["nodes"][0]["heap"]["used"] > 10 * MIB
    assert usage["nodes"][0]["heap"]["external"] > 0


def test_row_09_cleanup_between_agents_returns_what_it_freed(in_agent: InAgent) -> None:
    freed = in_agent("cleanup_between_agents()")
    assert freed["reached"]
    assert freed["collection"]["before"]["used"] - freed["collection"]["after"]["used"] > 10 * MIB


@pytest.mark.parametrize(("threshold", "reached"), [("4GiB", True), ("1MiB", False)])
def test_row_10_wait_for_memory_cleanup(in_agent: InAgent, threshold: str, reached: bool) -> None:
    assert in_agent(f"wait_for_memory_cleanup('{threshold}', '500ms', '100ms')") is reached


def test_row_10_figures_of_the_seed_are_refused_as_wrong_units() -> None:
    with pytest.raises(ValueError, match="4096"):
        memory.wait_for_memory_cleanup(4096, 30000, 1000)
