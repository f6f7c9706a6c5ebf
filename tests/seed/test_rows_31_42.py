"""Trouble, migration, timeouts, concurrency at one's own risk, and the figures in Prometheus."""

import json
from pathlib import Path

import pytest

from helpers.monitoring import free_port, prometheus
from helpers.paths import ROOT
from helpers.profiles import agent, of, reasons, shell, write
from helpers.seed import Agent, Running, SeedAgent, Seqsup, Start, check
from helpers.waiting import wait_for
from seqsup.units import MIB


def test_row_31_old_sessions_are_cleaned(seqsup: Seqsup, start: Start) -> None:
    start(shell("a", "true"))
    assert "nothing to remove" in "".join(seqsup("artifacts", "clean", "--days", "1")[1:])
    assert "r1" in "".join(seqsup("artifacts", "clean", "--days", "0", "--dry-run")[1:])


def test_row_32_cron_appends_memory_to_a_log(seqsup: Seqsup, running: Running, garbage: Agent, tmp_path: Path) -> None:
    running(garbage)
    for _ in range(2):
        assert seqsup("mem", "--log", tmp_path / "claude-memory.log") == (0, "", "")
    first, second = map(json.loads, (tmp_path / "claude-memory.log").read_text().splitlines())
    assert first["time"] < second["time"]
    assert second["used"] > 10 * MIB
    assert "*/5 * * * *" in seqsup("init", tmp_path / "nightly.toml", "--timer").stdout


def test_row_33_doctor_proves_that_a_run_was_one_at_a_time(seqsup: Seqsup, start: Start, seed_agent: SeedAgent) -> None:
    start(seed_agent("agent1"), seed_agent("agent2"))
    proof = seqsup("doctor", "--run", "r1", "--json")
    assert "2 attempts, no two at the same time" in check(proof, "one at a time", "ok")
    assert "2 of 2" in check(proof, "drained", "ok")


def test_row_34_hook_that_cannot_run_is_refused_with_its_remedy(seqsup: Seqsup, tmp_path: Path) -> None:
    hook = tmp_path / "post-agent-execution.sh"
    hook.write_text("#!/bin/sh\n")
    refused = seqsup("start", write(tmp_path, shell("a", "touch ran"), hooks={"after_agent": [f"./{hook.name}"]}))
    assert refused.code == 2
    assert "is not executable" in refused.stderr
    assert f"chmod +x {hook.name}" in refused.stderr.replace(f"{tmp_path}/", "")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("event", "hook", "said"),
    [
        ("post-task", "hooks/post-agent-execution.sh", "hooks.post-task is not an event of Claude Code"),
        ("Stop", "hooks/post-agent-execution.sh", "hooks.Stop[0] is a string: it never runs"),
        ("Stop", {"hooks": [{"type": "command", "command": "hooks/nothing.sh"}]}, "hooks/nothing.sh"),
    ],
)
def test_row_35_hook_in_settings_local_json_that_never_runs_is_named(
    seqsup: Seqsup, tmp_path: Path, event: str, hook: object, said: str
) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "settings.local.json").write_text(json.dumps({"hooks": {event: [hook]}}))
    assert said in check(seqsup("doctor", "--json"), "claude settings", "warn")


@pytest.mark.parametrize("flag", [["--parallel"], ["-j", "3"]])
def test_row_36_parallel_flag_is_refused_with_what_to_set_instead(
    seqsup: Seqsup, tmp_path: Path, flag: list[str]
) -> None:
    refused = seqsup("start", write(tmp_path, shell("a", "touch ran")), *flag)
    assert refused.code == 2
    assert "agents run one at a time" in refused.stderr
    assert "run.allow_concurrency" in refused.stderr
    assert not (tmp_path / "ran").exists()


def test_row_37_timeouts_stop_a_deaf_agent_and_a_silent_one(start: Start) -> None:
    deaf = shell("deaf", "trap '' TERM; while :; do echo working; sleep 0.1; done", timeouts={"wall": "1s"})
    silent = shell("silent", "sleep 60", timeouts={"stall": "1s"})
    events = start(deaf, silent, code=1, timeouts={"grace": "500ms"}, run={"on_failure": "continue"})
    assert reasons(events) == {"deaf": "timeout", "silent": "stalled"}
    assert [each["signal"] for each in of(events, "stop_sent") if each["agent"] == "deaf"] == ["SIGTERM", "SIGKILL"]


def test_row_38_plan_says_what_a_run_usually_takes(seqsup: Seqsup, start: Start, tmp_path: Path) -> None:
    start(shell("a", "sleep 1"))
    assert "usually 1" in seqsup("plan", tmp_path / "nightly.toml").stdout


TWO = {"concurrency": 2, "allow_concurrency": True}


def test_row_39_two_at_a_time_only_at_ones_own_risk(seqsup: Seqsup, tmp_path: Path) -> None:
    meets = [shell(name, f"touch {name}; until [ -e {other} ]; do sleep 0.02; done") for name, other in ("ab", "ba")]
    refused = seqsup("start", write(tmp_path, *meets, run={"concurrency": 2}, memory={"hard": "64MiB"}))
    assert (refused.code, "allow_concurrency" in refused.stderr) == (2, True)
    profile = write(tmp_path, *meets, run=TWO, memory={"hard": "64MiB"})
    assert "2 at a time at your own risk: their memory adds up" in seqsup("plan", profile).stdout
    assert seqsup("start", profile).code == 0


def test_row_40_prometheus_sees_the_agents_memory(running: Running, garbage: Agent, tmp_path: Path) -> None:
    port = free_port()
    running(garbage, metrics={"listen": f"127.0.0.1:{port}"})
    targets = f"static_configs: [{{targets: ['127.0.0.1:{port}']}}]"
    with prometheus(tmp_path, f"scrape_configs: [{{job_name: seqsup, scrape_interval: 250ms, {targets}}}]") as server:
        wait_for(lambda: (server.value('seqsup_agent_tree_rss_bytes{agent="agent1"}') or 0) > 30 * MIB)
        assert server.value("seqsup_sequence_violations_total") == 0


def test_row_41_heap_out_of_memory_is_named_and_retried_with_a_larger_heap(start: Start) -> None:
    """The crash of the seed, which the table of reasons explains."""
    fills = "const kept = []; while (kept.length < 900) kept.push(Array.from({ length: 10_000 }, Math.random))"
    retry = {"attempts": 3, "grow_heap": 3}
    events = start(agent("a", ["node", "-e", fills], node={"max_old_space_size": "50MiB"}, retry=retry))
    assert [end["reason"] for end in of(events, "attempt_ended")] == ["heap-oom", "completed"]
    assert "| heap-oom | V8 reached its own heap limit" in (ROOT / "docs/reference/reasons.md").read_text()


@pytest.mark.memory
def test_row_42_no_agent_crashes_under_seqsup_where_all_at_once_do(seqsup: Seqsup) -> None:
    measured = seqsup("bench", "--agents", "3", "--memory", "128MiB", "--json", deadline=120)
    crashed = {row["way"]: row["crashed"] for row in json.loads(measured.stdout)["ways"]}
    assert crashed["all at once"] > 0
    assert crashed["under seqsup"] == 0
