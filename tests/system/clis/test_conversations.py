"""Conversations of real agent CLIs under seqsup, with a scripted model."""

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.model_server import HANGS, Model, Step, model
from helpers.past import state_dir
from helpers.paths import STUBS
from helpers.profiles import Event, of, parsed, proven, reasons, write
from helpers.real_clis import CLIS, SIXTEEN, environment, options
from helpers.waiting import alive, wait_for
from seqsup.containment.process import children

Cli = Callable[..., Result]
Stub = Callable[..., list[str]]
Start = Callable[..., Started]

SAYS: Step = {"say": "counted"}
TOOL: Step = {"main": True, "when": "count", "shell": SIXTEEN, "times": 1}
STUBBORN = ["node", str(STUBS / "mcp_server.mjs"), "stays"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]


def conversation(
    cli: str, asks: Model, folder: Path, servers: dict[str, list[str]] | None = None, **keys: Any
) -> dict[str, Any]:
    """An agent: the CLI with the prompt "count", its settings in a home of its own."""
    env = environment(cli, asks.url, folder / "own", servers, subscriber=True)
    asked = {"prompt": "count", "args": options(cli)}
    return {"name": cli, "preset": cli, **asked, "env": env, "cwd": str(folder), **keys}


def run(seqsup: Cli, profile: Path) -> list[Event]:
    return proven(seqsup("start", profile, "--json", deadline=150))


@pytest.mark.parametrize("cli", CLIS)
def test_turn_with_a_tool_completes(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    with model([TOOL, SAYS]) as asks:
        events = run(seqsup, write(tmp_path, conversation(cli, asks, tmp_path)))
    assert reasons(events) == {cli: "completed"}, of(events, "attempt_ended")
    assert any("sixteen" in asked.last for asked in asks.asked)
    assert of(events, "attempt_ended")[0]["left_over"] == []


@pytest.mark.parametrize("cli", [cli for cli in CLIS if cli != "gemini"])  # which fails at once
def test_answer_cut_amid_a_line_is_asked_for_again(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    """An error that the CLI repairs by itself is no failure."""
    cut: Step = {"main": True, "say": "I count. " * 20, "cut": True, "times": 1}
    with model([cut, SAYS]) as asks:
        events = run(seqsup, write(tmp_path, conversation(cli, asks, tmp_path)))
    assert (reasons(events), len(of(events, "attempt_started"))) == ({cli: "completed"}, 1), of(events, "attempt_ended")


@pytest.mark.memory
@pytest.mark.parametrize("cli", CLIS)
def test_tool_above_the_limit_ends_and_the_model_reads_it(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    """opencode would wait for its killed tool, so it is stopped itself."""
    shutil.copy(STUBS / "grows.py", tmp_path)  # copilot reads no file elsewhere
    eats: Step = {"main": True, "when": "count", "shell": "python3 grows.py 3000", "times": 1}
    with model([eats, SAYS]) as asks:
        memory = {"hard": "2500MiB", "soft": "none", "warn": "none"}  # qwen itself may take 1.8 GiB
        events = run(seqsup, write(tmp_path, conversation(cli, asks, tmp_path), memory=memory))
    killed = [event["process"]["command"] for event in of(events, "tool_killed")]
    if cli == "opencode":
        assert (reasons(events), killed) == ({cli: "hard"}, [])
        return
    assert reasons(events) == {cli: "completed"}, of(events, "attempt_ended")
    assert ["grows.py" in command for command in killed] == [True]
    assert any(re.search("137|Killed|[Ss]ignal: 9|exit code 1", asked.last) for asked in asks.asked), asks.asked


@pytest.mark.parametrize("cli", CLIS)
def test_server_that_outlives_its_killed_cli_is_stopped(
    seqsup_started: Start, tmp_path: Path, cli: str,
) -> None:  # fmt: skip
    """codex gives its servers neither the environment nor the process group of the agent."""
    with model([{"main": True, "silence": "before"}]) as asks:
        profile = write(tmp_path, conversation(cli, asks, tmp_path, {"stub": STUBBORN}))
        started = seqsup_started("start", profile, "--json")
        wait_for(lambda: asks.asked, 60)
        [spawned] = of(whole(started), "spawned")
        os.kill(spawned["pid"], signal.SIGKILL)
        started.wait(60)
    [ended] = of(whole(started), "attempt_ended")
    assert sum("mcp_server.mjs stays" in process["command"] for process in ended["left_over"]) == 1
    assert not [process for process in ended["left_over"] if alive(process["pid"])]


@pytest.mark.parametrize("cli", CLIS)
def test_killed_conversation_is_resumed(seqsup_started: Start, tmp_path: Path, cli: str) -> None:
    with model([TOOL, {**HANGS[0], "when": "sixteen", "times": 1}, SAYS]) as asks:
        profile = write(tmp_path, conversation(cli, asks, tmp_path), retry={"attempts": 2})
        started = seqsup_started("start", profile, "--json")
        wait_for(lambda: any(asked.step == 1 for asked in asks.asked), 60)
        wait_for(lambda: is_stored("sixteen", tmp_path / "own"), 20)
        [spawned] = of(whole(started), "spawned")
        for pid in descendants(spawned["pid"]):
            os.kill(pid, signal.SIGKILL)
        started.wait(90)
    assert reasons(whole(started)) == {cli: "completed"}
    assert len(of(whole(started), "attempt_started")) == 2, of(whole(started), "attempt_ended")
    earlier = re.compile("count.*sixteen.*You were stopped", re.DOTALL)
    assert any(earlier.search(asked.text) for asked in asks.asked)


@pytest.mark.parametrize("cli", ["claude", "codex"])
def test_conversation_of_a_killed_supervisor_is_resumed(
    seqsup: Cli, seqsup_started: Start, tmp_path: Path, cli: str
) -> None:
    with model([TOOL, {**HANGS[0], "when": "sixteen", "times": 1}, SAYS]) as asks:
        profile = write(tmp_path, conversation(cli, asks, tmp_path))
        started = seqsup_started("start", profile)
        wait_for(lambda: any(asked.step == 1 for asked in asks.asked), 60)
        wait_for(lambda: is_stored("sixteen", tmp_path / "own"), 20)
        started.send(signal.SIGKILL)
        started.wait()
        events = parsed(seqsup("start", "--resume", "--json", deadline=90).stdout)
    assert reasons(events) == {cli: "completed"}
    earlier = re.compile("count.*sixteen.*a crash of your supervisor", re.DOTALL)
    assert any(earlier.search(asked.text) for asked in asks.asked)


def test_stopped_claude_keeps_what_it_has_said(seqsup: Cli, seqsup_started: Start, tmp_path: Path) -> None:
    with model([{"say": "I count each. " * 20, "silence": "midway", "times": 1}, SAYS]) as asks:
        piecewise = [*options("claude"), "--include-partial-messages"]
        profile = write(tmp_path, conversation("claude", asks, tmp_path, args=piecewise))
        started = seqsup_started("start", profile, "--json")
        printed = state_dir() / "runs/r1/claude/1/stdout.log"
        wait_for(lambda: asks.midway.is_set() and "I count each." in printed.read_text(), 60)
        for n in (1, 2):  # stop after this agent, then now
            started.send(signal.SIGINT)
            wait_for(lambda: len(of(whole(started), "halt_requested")) == n)
        assert started.wait(60).code == 130
        assert reasons(whole(started)) == {"claude": "halted"}
        events = parsed(seqsup("start", "--resume", "--json", deadline=90).stdout)
    assert reasons(events) == {"claude": "completed"}
    assert re.search("count.*I count each.*You were stopped by the user", asks.asked[-1].text, re.DOTALL)


@pytest.mark.parametrize(("cli", "tries"), [("claude", 1), ("codex", 1), ("gemini", 3), ("qwen", 4)])
def test_conversation_is_resumed_once_its_usage_limit_resets(seqsup: Cli, tmp_path: Path, cli: str, tries: int) -> None:
    """`tries`: how often the CLI asks by itself before it gives up."""
    limit: Step = {"when": "sixteen", "error": "usage-limit", "resets_in": 2, "times": tries}
    with model([TOOL, limit, SAYS]) as asks:
        events = run(seqsup, write(tmp_path, conversation(cli, asks, tmp_path, usage={"on_limit": "wait"})))
    assert [ended["reason"] for ended in of(events, "attempt_ended")] == ["usage-limit", "completed"]
    earlier = re.compile("count.*sixteen.*You were stopped by the usage limit", re.DOTALL)
    assert any(earlier.search(asked.text) for asked in asks.asked)


@pytest.mark.parametrize(("cli", "budget"), [*((cli, {"turns": 2}) for cli in CLIS), ("claude", {"usd": 0.01})])
def test_conversation_ends_at_its_budget(seqsup: Cli, tmp_path: Path, cli: str, budget: dict[str, float]) -> None:
    endless: Step = {"main": True, "shell": SIXTEEN, "in": 1000, "out": 100}
    with model([endless, SAYS]) as asks:
        events = run(seqsup, write(tmp_path, conversation(cli, asks, tmp_path, budget=budget)))
    assert reasons(events) == {cli: "budget"}, of(events, "attempt_ended")
    assert len([asked for asked in asks.asked if asked.step == 0]) >= 2


@pytest.mark.memory
@pytest.mark.parametrize("cli", [cli for cli in CLIS if cli != "opencode"])  # which waits for a killed tool
def test_tool_that_eats_memory_is_ended_and_its_cli_lives_on(seqsup: Cli, stub: Stub, tmp_path: Path, cli: str) -> None:
    script = tmp_path / "eats.sh"
    script.write_text(f"{shlex.join(stub('grows', 1000, '--rate', 400))}; printf six%s teen")
    eats: Step = {**TOOL, "shell": "sh eats.sh"}
    with model([eats, SAYS]) as asks:
        events = run(
            seqsup,
            write(
                tmp_path,
                conversation(cli, asks, tmp_path),
                memory={"soft": "800MiB", "sustain": "200ms", "hard": "4GiB"},
            ),
        )
    assert reasons(events) == {cli: "completed"}, of(events, "attempt_ended")
    assert len(of(events, "tool_killed")) == 1
    assert any("Killed" in asked.last and "sixteen" in asked.last for asked in asks.asked)


def is_stored(text: str, home: Path) -> bool:
    """Say whether a CLI has written this into its session below `home`."""
    return any(text.encode() in content for path in home.rglob("*") if path.suffix != ".log" for content in read(path))


def read(path: Path) -> list[bytes]:
    """Return a file's content; nothing if it is no file, or gone meanwhile."""
    try:
        return [path.read_bytes()] if path.is_file() else []
    except FileNotFoundError:
        return []


def whole(started: Started) -> list[Event]:
    return parsed(started.stdout[: started.stdout.rfind("\n") + 1])


def descendants(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in descendants(child))]
