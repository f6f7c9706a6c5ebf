"""Presets: what they set, that the user's own wins, and runs that meet a usage limit."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, proven, reasons, shell, write
from helpers.supervised import step, tried
from helpers.waiting import wait_for
from seqsup.model.events import StopSent
from seqsup.model.preset import Preset, read_preset
from seqsup.model.profile import AgentTable
from seqsup.model.reason import Reason
from seqsup.profile.complaint import ProfileError
from seqsup.profile.parse import from_tables
from seqsup.state.samples import read as samples

Cli = Callable[..., Result]
Start = Callable[..., Started]


def profiled(preset: str, **tables: Any) -> AgentTable:
    own = tables.pop("own", {})
    return from_tables({"agents": [agent("a", ["x"], preset=preset, **own)], **tables}).agents[0]


def test_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(ProfileError, match=r"agents\[0\]\.preset: .*'gemin' \(did you mean gemini\?\)"):
        profiled("gemin")
    assert profiled("none").preset is None


def test_the_users_own_keys_win_over_it_the_agents_over_all() -> None:
    assert profiled("mcp-server").timeouts.wall is None
    assert profiled("mcp-server", timeouts={"wall": "2h"}).timeouts.wall == 7200
    assert profiled("mcp-server", timeouts={"wall": "2h"}, own={"timeouts": {"wall": "none"}}).timeouts.wall is None
    assert profiled("mcp-server", timeouts={"grace": "1s"}).timeouts.wall is None


def test_its_variables_are_set_and_the_users_own_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_CODE_MAX_TOOL_CONCURRENCY", "7")
    said = 'echo "$QWEN_CODE_NO_RELAUNCH $QWEN_CODE_MAX_TOOL_CONCURRENCY"'
    told = tried(step("sh", "-c", said, cwd=tmp_path, preset=read_preset("qwen")), tmp_path / "run")
    assert told.stdout == "true 7\n"


def test_variables_of_an_outer_session_do_not_reach_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAUDECODE", "CODEX_THREAD_ID"):
        monkeypatch.setenv(name, "outer")
    monkeypatch.setenv("MYCLI_SESSION", "outer")
    said, env = 'echo "<$CLAUDECODE$MYCLI_SESSION$CODEX_THREAD_ID>"', {"CODEX_THREAD_ID": "mine"}
    users = Preset(title="My CLI", session_env=("MYCLI_SESSION",))
    assert tried(step("sh", "-c", said, cwd=tmp_path, env=env, preset=users), tmp_path / "run").stdout == "<mine>\n"


def test_cli_ends_by_the_signals_of_its_preset_and_that_is_no_success(tmp_path: Path) -> None:
    interruptible = """
import signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
signal.signal(signal.SIGINT, lambda *_: (print("partial answer", flush=True), sys.exit(0)))
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
print("ready", flush=True)
while True:
    time.sleep(60)
"""
    changes: dict[str, Any] = {"timeouts": {"wall": 1.0, "grace": 20.0}, "preset": read_preset("claude")}
    told = tried(step("python3", "-c", interruptible, cwd=tmp_path, **changes), tmp_path / "run")
    assert told.reason is Reason.TIMEOUT
    assert (told.outcome.exit_code, told.stdout) == (0, "ready\npartial answer\n")
    signals = [event.signal for event in told.events if isinstance(event, StopSent)]
    assert signals == ["SIGINT", "SIGTERM"]  # the second is for the process that it left behind
    assert told.outcome.seconds < 15


def test_a_plan_shows_all_that_it_sets(seqsup: Cli, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true", preset="gemini", env={"MINE": "x"}), shell("b", "true", preset="qwen"))
    shown = " ".join(seqsup("plan", profile, "-v", env={"QWEN_CODE_NO_RELAUNCH": "no"}).stdout.split())
    assert "preset gemini: Gemini CLI" in shown
    assert "GEMINI_CLI_NO_RELAUNCH=true, timeouts.grace=10s; the profile's keys win" in shown
    assert "QWEN_CODE_NO_RELAUNCH as you set it, QWEN_CODE_MAX_TOOL_CONCURRENCY=1" in shown
    preset = read_preset("gemini")
    for said in (*preset.failure, *preset.usage_limit, *preset.leaks):
        assert said.replace("\n", "\\n") in shown
    assert "then the run stops" in shown


def test_known_program_gets_its_preset_in_plan_and_run(seqsup: Cli, tmp_path: Path) -> None:
    """The seed's row 2: without a key, and in `seqsup run` too."""
    for name in ("opencode", "claude"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'Claude AI usage limit reached|1'; exit 1\n")
        (tmp_path / name).chmod(0o755)
    claude, opencode = str(tmp_path / "claude"), str(tmp_path / "opencode")
    streams = agent("b", [opencode, "run", "--format", "json"])
    profile = write(tmp_path, agent("a", [claude]), streams, agent("c", [claude], preset="none"))
    assert "  preset claude for a; opencode for b\n" in seqsup("plan", profile).stdout
    steps = json.loads(seqsup("plan", profile, "--json").stdout)["steps"]
    assert [step["timeouts"]["stall"] for step in steps] == [None, "auto", None]
    ran = seqsup("run", "--", claude)
    assert (ran.code, seqsup("run", "--", "true").code) == (1, 0)
    assert "claude reached its usage limit: Claude AI usage limit reached|1" in ran.stderr


def test_a_prompt_reaches_its_cli_with_results_of_earlier_agents(seqsup: Cli, tmp_path: Path) -> None:
    """A check of its success is a command of its own, and no conversation."""
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" >> given\n")
    program.chmod(0o755)
    asked = {
        "name": "b", "preset": "codex", "prompt": "-- Fix {summary:a}\nin {task}", "model": "m{task}",
        "args": ["-c", "x={summary:a}"], "success": {"command": ["grep", "-q", "Fix it", "given"]},
    }  # fmt: skip
    profile = write(tmp_path, shell("a", "echo it"), asked)
    path = f"{tmp_path}:{os.environ['PATH']}"
    events = proven(seqsup("start", profile, "--task", "2", "--json", env={"PATH": path}))
    assert reasons(events) == {"a": "completed", "b": "completed"}
    assert (tmp_path / "given").read_text().splitlines() == [
        "exec", "--sandbox", "workspace-write", "--json", "--model", "m2", "-c", "x=it", "--", "-- Fix it", "in 2",
    ]  # fmt: skip


# Usage limits

LIMITED = 'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; [ "$n" -ge {times} ] || '
LIMITED += '{{ echo "Claude AI usage limit reached|$(($(date +%s) + {seconds}))"; exit 1; }}'


def limited(folder: Path, seconds: int, times: int = 1, on_limit: str = "stop", **retry: object) -> Path:
    """A profile of two agents, the first of which meets a limit so many times."""
    meets = shell("meets", LIMITED.format(seconds=seconds, times=times), preset="claude", cwd=str(folder))
    usage = {"on_limit": on_limit, "wait_at_most": "2h"}
    return write(folder, meets, shell("other", "true"), retry={"attempts": 1, **retry}, usage=usage)


def test_run_stops_at_a_usage_limit_and_resume_continues_it(seqsup: Cli, tmp_path: Path) -> None:
    profile = limited(tmp_path, 3600)
    events = proven(stopped := seqsup("start", profile, "--json"))
    assert stopped.code == 75
    assert reasons(events) == {"meets": "usage-limit"}
    assert re.match(
        r"claude reached its usage limit: Claude AI usage limit reached\|\d+", of(events, "agent_ended")[0]["why"]
    )
    assert re.fullmatch(r"meets is at a usage limit, which resets at .*\d\d:\d\d", events[-1]["why"])
    assert not of(events, "limit_paused")
    resumed = seqsup("start", profile, "--json", "--resume")
    assert resumed.code == 0
    assert reasons(parsed(resumed.stdout)) == {"meets": "completed", "other": "completed"}


def test_run_stops_at_exhausted_credit_and_neither_waits_nor_retries(seqsup: Cli, tmp_path: Path) -> None:
    script = "echo tried >> tries; echo Credit balance is too low; exit 1"
    poor = shell("poor", script, preset="claude", cwd=str(tmp_path))
    profile = write(tmp_path, poor, shell("other", "true"), usage={"on_limit": "wait"}, run={"on_failure": "continue"})
    events = proven(stopped := seqsup("start", profile, "--json"))
    assert (stopped.code, reasons(events)) == (4, {"poor": "no-credit"})
    assert (tmp_path / "tries").read_text() == "tried\n"
    assert events[-1]["why"] == "poor has no credit left: top it up, then --resume"
    (tmp_path / "claude").write_text("#!/bin/sh\necho Credit balance is too low; exit 1\n")
    (tmp_path / "claude").chmod(0o755)
    assert seqsup("run", "--", str(tmp_path / "claude")).code == 4


def test_a_limit_is_waited_for_if_the_profile_says_so_and_costs_no_attempt(seqsup: Cli, tmp_path: Path) -> None:
    events = proven(seqsup("start", limited(tmp_path, 2, times=2, on_limit="wait"), "--json"))
    assert reasons(events) == {"meets": "completed", "other": "completed"}
    assert [ended["reason"] for ended in of(events, "attempt_ended")][:2] == ["usage-limit"] * 2
    ended = of(events, "attempt_ended", "attempt_started", "limit_paused")
    for pause, after in pairwise(ended):
        if pause["event"] == "limit_paused":
            assert re.fullmatch(r"until \d\d:\d\d, waiting for claude's usage limit to reset", pause["why"])
            assert at(after) >= pause["until"]


def test_a_limit_that_resets_after_the_longest_wait_stops_the_run(seqsup: Cli, tmp_path: Path) -> None:
    events = proven(result := seqsup("start", limited(tmp_path, 3 * 3600, on_limit="wait"), "--json"))
    assert (result.code, of(events, "limit_paused")) == (75, [])
    assert events[-1]["why"].endswith("; usage.wait_at_most is 2 h")


def test_agent_starts_only_within_its_window(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    def at(minutes: int) -> str:
        return time.strftime("%H:%M", time.localtime(time.time() + 60 * minutes))

    closed = write(tmp_path, shell("a", "true"), usage={"window": f"{at(30)}-{at(60)}"})
    started = seqsup_started("start", closed, "--json")
    delayed = wait_for(lambda: of(parsed(started.stdout[: started.stdout.rfind("\n") + 1]), "start_delayed"))[0]
    assert 1700 < delayed["until"] - time.time() < 1800
    assert "a waits until " in seqsup("status").stdout
    assert seqsup("stop").code == 0
    assert started.wait(40).code == 128 + signal.SIGINT
    opened = write(tmp_path, shell("a", "true"), usage={"window": f"{at(-30)}-{at(30)}"})
    assert seqsup("start", opened).code == 0


def test_a_limit_by_the_minute_is_waited_for_in_any_case_but_counts(seqsup: Cli, tmp_path: Path) -> None:
    profile = limited(tmp_path, 1, times=2, attempts=2, max_wait="30s")
    events = proven(result := seqsup("start", profile, "--json"))
    assert (result.code, reasons(events)) == (75, {"meets": "usage-limit"})
    assert len(of(events, "retry_scheduled")) == 1
    assert len(of(events, "attempt_ended")) == 2


def at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp() + 0.001  # it is cut to milliseconds


def paused(started: Started) -> dict[str, Any]:
    said = wait_for(lambda: of(parsed(started.stdout[: started.stdout.rfind("\n") + 1]), "limit_paused"))
    return said[-1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_pause_can_be_ended_and_holds_for_a_resumed_run(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, how: signal.Signals
) -> None:
    profile = limited(tmp_path, 5, on_limit="wait")
    started = seqsup_started("start", profile, "--json")
    until = paused(started)["until"]
    started.send(how)
    ended = started.wait(40)
    assert ended.code == (-9 if how is signal.SIGKILL else 128 + how)
    resumed = parsed(seqsup("start", profile, "--json", "--resume").stdout)
    if pauses := of(resumed, "limit_paused"):  # else it took so long that nothing was left to wait for
        assert [pause["until"] for pause in pauses] == [until]
    assert at(of(resumed, "attempt_started")[0]) >= until
    assert (resumed[-1]["event"], resumed[-1]["exit_code"]) == ("run_ended", 0)


def test_stop_ends_a_pause_and_does_not_claim_to_wait_for_paused_agents(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path
) -> None:
    started = seqsup_started("start", limited(tmp_path, 3600, on_limit="wait"), "--json")
    paused(started)
    assert re.fullmatch(r"r1 \S+ ends before its next agent\n", seqsup("stop").stderr)
    assert started.wait(40).code == 128 + signal.SIGINT


def test_status_tells_of_a_pause(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    started = seqsup_started("start", limited(tmp_path, 3600, on_limit="wait"), "--json")
    until = paused(started)["until"]
    assert until - time.time() > 3000
    assert "meets" in seqsup("status").stdout
    started.send(signal.SIGINT)
    assert started.wait().code == 130


# success.command


def checked(folder: Path, *command: str, **changes: Any) -> Any:
    success = {"command": command, **changes.pop("success", {})}
    script = 'echo made > made; echo "$SEQSUP_AGENT"'
    return tried(step("sh", "-c", script, cwd=folder, success=success, **changes), folder / "run")


def test_a_success_command_runs_where_the_agent_ran_and_as_it_was(tmp_path: Path) -> None:
    said = 'test "$(cat made)$SEQSUP_AGENT$X" = madeagentx && pwd > where'
    told = checked(tmp_path, "sh", "-c", said, env={"X": "x"})
    assert told.reason == "completed"
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    assert told.names == ["AttemptStarted", "Spawned", "AttemptEnded"]
    assert told.stdout == "agent\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sh", "-c", "echo first; echo two tests failed >&2; exit 3"], "exit 3: two tests failed"),
        (["sh", "-c", "echo two tests failed; false"], "exit 1: two tests failed"),
        (["false"], "exit 1"),
        (["no-such-program"], "not found on PATH"),
        (["sh", "-c", "kill -SEGV $$"], "killed by SIGSEGV"),
    ],
)
def test_failed_success_command_leaves_no_result(tmp_path: Path, command: list[str], words: str) -> None:
    outcome = checked(tmp_path, *command).outcome
    assert outcome.reason == "no-result"
    assert outcome.why.endswith(words)


def test_success_command_runs_only_after_the_other_checks_hold(tmp_path: Path) -> None:
    outcome = checked(tmp_path, "touch", "asked", success={"file": "none"}).outcome
    assert outcome.reason == "no-result"
    assert not (tmp_path / "asked").exists()


def test_watch_is_active_while_the_success_command_runs(seqsup: Cli, tmp_path: Path) -> None:
    """It may take minutes, and figures that do not move look like a hung watch."""
    assert seqsup("start", write(tmp_path, shell("a", "true", success={"command": ["sleep", "2.5"]}))).code == 0
    told = json.loads(seqsup("status", "--json").stdout)
    folder, peak = Path(told["folder"]), told["agents"][0]["peak"]
    seen = [(line.agent, line.attempt, *line.programs) for line in samples(folder)]
    assert seen
    assert ("a", 1, "sleep") in seen
    assert set(seen) <= {
        ("a", 1, "sleep"),
        ("a", 1),
    }  # none is left in the last, or none is named yet in the first
    assert peak >= max(line.peak for line in samples(folder)), "limits that tune suggests are to hold it too"


def test_leftover_process_of_a_success_command_is_stopped(tmp_path: Path) -> None:
    told = checked(tmp_path, "sh", "-c", "sleep 100 & echo $! > pid")
    assert told.reason == "completed"
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_its_words_are_filled_in(seqsup: Cli, tmp_path: Path) -> None:
    success = {"command": ["sh", "-c", 'test "$0" = "a {b} task"', "a {b} {task}"]}
    profile = write(tmp_path, shell("a", "true", success=success))
    assert "then sh -c" in seqsup("plan", profile, "-v", "--task", "task").stdout
    assert seqsup("start", profile, "--task", "task").code == 0
    wrong = write(tmp_path, shell("a", "true", success={"command": ["x", "{summary:a}"]}))
    assert seqsup("plan", wrong).code == 2
