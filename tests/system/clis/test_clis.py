"""Real agent CLIs under seqsup, with real MCP servers and a model on this machine's loopback."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import npm
from helpers.command_line import Result, Started
from helpers.model_server import ANSWER, HANGS, LIMIT, Model, model
from helpers.paths import STUBS
from helpers.profiles import Event, agent, of, parsed, proven, reasons, write
from helpers.real_clis import environment, options
from helpers.waiting import alive, wait_for
from seqsup.containment.process import children

Cli = Callable[..., Result]
Start = Callable[..., Started]
CLIS = ("gemini", "qwen")

pytestmark = pytest.mark.timeout(300)
long = pytest.mark.long


def real_servers(folder: Path) -> dict[str, list[str]]:
    arguments = {"filesystem": [str(folder)]}
    return {
        name: ["node", str(npm.mcp_server(name)), *arguments.get(name, [])]
        for name in ("everything", "filesystem", "memory")
    }


def stub_server(mode: str) -> dict[str, list[str]]:
    return {"stub": ["node", str(STUBS / "mcp_server.mjs"), mode]}


def prompted(cli: str, folder: Path, asks: Model, servers: dict[str, list[str]], **keys: Any) -> dict[str, Any]:
    """An agent: the CLI with one prompt, its settings in a home of its own."""
    env = environment(cli, asks.url, folder / "cli home", servers) | {"TMPDIR": str(folder)}
    keys.setdefault("preset", cli)
    return agent(cli, [cli, *options(cli, may=False), "-p", "hi"], env=env, cwd=str(folder), **keys)


def run(seqsup: Cli, profile: Path) -> list[Event]:
    return proven(seqsup("start", profile, "--json", deadline=200))


def test_a_turn_of_gemini(seqsup: Cli, tmp_path: Path) -> None:
    with model() as asks:
        profile = write(tmp_path, prompted("gemini", tmp_path, asks, {}))
        events = run(seqsup, profile)
        assert reasons(events) == {"gemini": "completed"}
        assert asks.asked
    assert ANSWER in seqsup("logs", "gemini").stdout


@long
@pytest.mark.parametrize("cli", CLIS)
def test_a_turn_with_real_servers(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    with model() as asks:
        success = {"output": ANSWER}
        profile = write(tmp_path, prompted(cli, tmp_path, asks, real_servers(tmp_path), success=success))
        events = run(seqsup, profile)
    [ended] = of(events, "attempt_ended")
    assert (ended["reason"], ended["left_over"]) == ("completed", [])
    assert ended["peak"] > 100 << 20
    [begun] = of(events, "attempt_started")
    assert begun["runtime"].startswith("node v")


@long
@pytest.mark.parametrize("cli", CLIS)
def test_a_server_that_leaks_is_named_when_its_tree_is_stopped(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    with model(HANGS) as asks:
        memory = {"soft": "1GiB", "hard": "1GiB"}
        profile = write(tmp_path, prompted(cli, tmp_path, asks, stub_server("leaks"), memory=memory))
        events = run(seqsup, profile)
    [ended] = of(events, "attempt_ended")
    assert ended["reason"] in ("hard", "soft")
    largest = max(ended["processes"], key=lambda process: process["bytes"])
    assert "mcp_server.mjs leaks" in largest["command"]


@long
def test_a_server_that_stays_is_swept(seqsup: Cli, tmp_path: Path) -> None:
    with model() as asks:
        events = run(seqsup, write(tmp_path, prompted("qwen", tmp_path, asks, stub_server("stays"))))
    [ended] = of(events, "attempt_ended")
    assert ended["reason"] == "completed"
    assert ["mcp_server.mjs stays" in process["command"] for process in ended["left_over"]] == [True]


@long
@pytest.mark.parametrize("cli", CLIS)
def test_heap_oom_in_a_relaunched_child_is_reported(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    """Without its preset, which would have kept it from that."""
    with model() as asks:
        node, memory = {"max_old_space_size": "32MiB"}, {"hard": "2GiB"}
        env = {"GEMINI_CLI_NO_RELAUNCH": "true"} if cli == "gemini" else {}  # its child has a heap of its own choice
        asked = prompted(cli, tmp_path, asks, {}, preset="none", node=node, memory=memory)
        events = run(seqsup, write(tmp_path, {**asked, "env": asked["env"] | env}))
    [ended] = of(events, "attempt_ended")
    assert ended["reason"] == "heap-oom"
    assert "reached its heap limit" in ended["why"]


@long
@pytest.mark.parametrize("cli", CLIS)
def test_usage_limit_is_reported_with_its_reset(seqsup: Cli, tmp_path: Path, cli: str) -> None:
    with model(LIMIT) as asks:
        profile = write(tmp_path, prompted(cli, tmp_path, asks, {}))
        result = seqsup("start", profile, "--json", deadline=200)
    events = proven(result)
    assert (result.code, reasons(events)) == (75, {cli: "usage-limit"})
    assert "Your quota will reset after 1h0m0s" in of(events, "attempt_ended")[0]["why"]


@long
@pytest.mark.parametrize("cli", CLIS)
@pytest.mark.parametrize("how", ["grace", "kill"])
def test_a_stop_ends_all_its_processes(seqsup: Cli, seqsup_started: Start, tmp_path: Path, cli: str, how: str) -> None:
    """Without its preset it relaunches itself: TERM to its first process alone would leave six of seven."""
    with model(HANGS) as asks:
        profile = write(tmp_path, prompted(cli, tmp_path, asks, real_servers(tmp_path), preset="none"))
        started = seqsup_started("start", profile, "--json")
        [spawned] = wait_for(lambda: of(parsed(whole(started)), "spawned"), 60)
        wait_for(lambda: asks.asked, 90)
        tree = descendants(spawned["pid"])
        assert len(tree) >= 5
        for n in range(1, 4 if how == "kill" else 3):  # Ctrl-C: after this agent, now with its grace, kill
            started.send(signal.SIGINT)
            wait_for(lambda: len(of(parsed(whole(started)), "halt_requested")) == n)
        assert started.wait(90).code == 130
        assert reasons(parsed(started.stdout)) == {cli: "halted"}
        assert not [pid for pid in tree if alive(pid)]


def whole(started: Started) -> str:
    return started.stdout[: started.stdout.rfind("\n") + 1]


def descendants(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in descendants(child))]
