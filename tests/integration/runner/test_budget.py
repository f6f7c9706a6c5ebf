"""Budgets of agents and runs: on real processes that write what a CLI writes."""

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.command_line import Result, Started
from helpers.profiles import agent, of, parsed, proven, reasons, shell, write
from helpers.waiting import wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]

# A CLI that answers as often as its first argument says, each time with 1000 tokens, and then exits or stays
CLAUDE = f"""#!{sys.executable}
import json, os, signal, sys, time
answers, then = int(sys.argv[1]), sys.argv[2]
with open("calls", "a") as calls:
    print(json.dumps(sys.argv[3:]), file=calls)
signal.signal(signal.SIGINT, lambda *_: os._exit(0))
print(json.dumps({{"type": "system", "subtype": "init", "session_id": f"s{{os.getpid()}}", "model": "m"}}), flush=True)
if os.path.exists("limit"):
    print(open("limit").read(), flush=True)
for n in range(answers):
    usage = {{"input_tokens": 400, "output_tokens": 0, "cache_read_input_tokens": 600}}
    message = {{"id": f"{{os.getpid()}}.{{n}}", "content": [{{"type": "text", "text": "well"}}], "usage": usage}}
    print(json.dumps({{"type": "assistant", "message": message}}), flush=True)
if then == "stay":
    time.sleep(60)
if then == "result":
    done = {{"type": "result", "subtype": "success", "is_error": False, "result": "done", "num_turns": answers}}
    print(json.dumps({{**done, "terminal_reason": "completed"}}), flush=True)
    time.sleep(1)
    then = "0"
sys.exit(int(then))
"""
STREAM = ["--output-format", "stream-json", "--verbose"]


def claude(folder: Path, name: str, answers: int, then: str, **changes: Any) -> dict[str, Any]:
    (folder / "claude").write_text(CLAUDE)
    (folder / "claude").chmod(0o755)
    return agent(name, [str(folder / "claude"), str(answers), then, *STREAM], preset="claude", **changes)


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_agent_is_stopped_at_its_budget_and_not_retried(seqsup: Cli, tmp_path: Path) -> None:
    spender = claude(tmp_path, "spender", 3, "stay", budget={"tokens": 3000})
    other = claude(tmp_path, "other", 2, "0", budget={"turns": 3})
    profile = write(tmp_path, spender, other, shell("plain", "true"), run={"on_failure": "continue"})
    events = proven(ended := seqsup("start", profile, "--json"))
    assert (ended.code, reasons(events)) == (1, {"spender": "budget", "other": "completed", "plain": "completed"})
    assert of(events, "agent_ended")[0]["why"] == "it has used 3,000 tokens (budget.tokens 3,000)"
    assert [event["signal"] for event in of(events, "stop_sent")] == ["SIGINT"]
    assert len(calls(tmp_path)) == 2
    again = seqsup("start", profile, "--json", "--resume")
    assert (again.code, len(calls(tmp_path))) == (1, 2), "its budget is still spent"
    shown = " ".join(seqsup("plan", profile, "-v").stdout.split())
    assert "plain: no budget holds for it" not in shown
    assert "budget 3,000 tokens" in shown


def test_agent_that_has_reported_its_result_is_not_stopped(seqsup: Cli, tmp_path: Path) -> None:
    """The last answer may reach the budget, and a CLI takes a moment to exit."""
    done = claude(tmp_path, "done", 3, "result", budget={"usd": 9, "tokens": 3000})
    events = proven(seqsup("start", write(tmp_path, done), "--json"))
    assert reasons(events) == {"done": "completed"}, events


def test_no_further_agent_starts_near_the_usage_limit(seqsup: Cli, tmp_path: Path) -> None:
    resets_at = time.time() + 60

    def nearly(share: float) -> dict[str, Any]:
        window = {"utilization": share, "resetsAt": resets_at, "status": "allowed"}
        info = {"status": "allowed", "resetsAt": resets_at, "rateLimitType": "five_hour"}
        return info | {"unifiedWindows": {"five_hour": window}}

    def started(on_limit: str) -> Result:
        (tmp_path / "limit").write_text(json.dumps({"type": "rate_limit_event", "rate_limit_info": nearly(0.91)}))
        first, second = claude(tmp_path, "a", 1, "0"), shell("b", "true", preset="claude")
        profile = write(tmp_path, first, second, usage={"stop_at": "80%", "on_limit": on_limit})
        return seqsup("start", profile, "--json")

    events = proven(ended := started("stop"))
    assert (ended.code, reasons(events)) == (75, {"a": "completed"})
    said = r"b was not started: 91 % of claude's usage limit is used \(usage\.stop_at 80 %\), until .*\d\d:\d\d"
    assert re.fullmatch(said, events[-1]["why"])
    resets_at = time.time() + 3
    events = proven(ended := started("wait"))
    assert (ended.code, reasons(events)) == (0, {"a": "completed", "b": "completed"})
    assert [event["agent"] for event in of(events, "start_delayed")] == ["b"]
    assert time.time() >= resets_at


def test_budget_holds_for_all_attempts_together(seqsup: Cli, tmp_path: Path) -> None:
    fails = claude(tmp_path, "fails", 2, "3", budget={"turns": 5}, retry={"attempts": 9, "wait": 0})
    events = proven(seqsup("start", write(tmp_path, fails), "--json"))
    assert reasons(events) == {"fails": "budget"}
    assert [event["reason"] for event in of(events, "attempt_ended")][:2] == ["failed", "failed"]
    assert len(calls(tmp_path)) == 3


def test_spent_run_budget_starts_no_further_agent_and_a_resumed_run_counts_on(seqsup: Cli, tmp_path: Path) -> None:
    agents = [claude(tmp_path, name, 2, "0") for name in "abc"]
    run = {"budget": {"tokens": 4000}, "on_failure": "continue"}
    profile = write(tmp_path, *agents, run=run)
    events = proven(ended := seqsup("start", profile, "--json"))
    assert (ended.code, reasons(events)) == (4, {"a": "completed", "b": "completed"})
    assert events[-1]["why"] == "the run has used 4,000 tokens (run.budget.tokens 4,000); c was not started"
    assert seqsup("start", profile, "--resume").code == 4
    assert len(calls(tmp_path)) == 2
    write(tmp_path, *agents, run=run | {"budget": {"tokens": 5000}})
    events = proven(ended := seqsup("start", profile, "--json", "--resume"))
    assert (ended.code, reasons(events)["c"]) in ((4, "budget"), (0, "completed"))  # it may exit first
    assert len(calls(tmp_path)) == 3


def test_attempt_that_a_dead_supervisor_left_counts(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    limits = {"budget": {"turns": 5}, "timeouts": {"wall": "20s"}, "retry": {"attempts": 1}}
    profile = write(tmp_path, claude(tmp_path, "spender", 3, "stay", **limits))
    first = seqsup_started("start", profile)
    wait_for(lambda: [each["conversation"]["turns"] for each in of(parsed(seqsup("events").stdout), "agent_progress")])
    first.send(signal.SIGKILL)
    first.process.wait()
    events = proven(seqsup("start", profile, "--json", "--resume"))
    assert of(parsed(seqsup("events").stdout), "attempt_lost")[0]["conversation"]["turns"] == 3
    assert reasons(events) == {"spender": "budget"}
    [told] = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert (told["turns"], told["resumed"]) == (6, False)


def test_cli_gets_what_is_left_as_its_own_limit(seqsup: Cli, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script = f'exec {shlex.quote(str(tmp_path / "claude"))} 2 $(test -e calls && echo 0 || echo 3) "$@"'
    (tmp_path / "bin" / "claude").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "claude").chmod(0o755)
    claude(tmp_path, "unused", 0, "0")
    asked = {
        "name": "a", "preset": "claude", "prompt": "Do it", "cwd": str(tmp_path),
        "budget": {"turns": 9, "usd": 2.5}, "retry": {"attempts": 2, "wait": 0},
    }  # fmt: skip
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    ended = seqsup("start", write(tmp_path, asked, run={"budget": {"turns": 8}}), env={"PATH": path})
    assert ended.code == 0, ended.stderr
    first, second = calls(tmp_path)
    assert first[first.index("--max-turns") + 1] == "8"
    assert second[second.index("--max-turns") + 1] == "6"
    assert first[first.index("--max-budget-usd") + 1] == "2.5000"
