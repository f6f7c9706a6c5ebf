"""Short ways to say what a row of the seed says. The seed is the guide to sequential agents: docs/reference/seed.md."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Started
from helpers.profiles import Event, agent, proven, shell, write
from helpers.seed import UNASKED, Agent, InAgent, Running, SeedAgent, Seqsup, Start, printed
from helpers.waiting import wait_for


@pytest.fixture
def start(seqsup: Seqsup, tmp_path: Path) -> Start:
    """Run these agents to their end, and return the events."""

    def run(*agents: Agent, code: int = 0, **tables: Any) -> list[Event]:
        ended = seqsup("start", write(tmp_path, *agents, **tables), "--json", deadline=120)
        assert ended.code == code, ended.stderr
        return proven(ended)

    return run


@pytest.fixture
def seed_agent(stub: Callable[..., list[str]]) -> SeedAgent:
    """An agent of so many MiB that loads an MCP server ("plain" or "hidden") and never stops it."""

    def command(name: str, mib: int = 1, server: str = "plain", **keys: Any) -> Agent:
        return agent(name, stub("seed_agent", name, mib, server), **keys)

    return command


GARBAGE = """
const kept = [];
for (let n = 0; n < 400_000; n++) kept.push({ n, text: `message ${n}` });
setTimeout(() => { kept.length = 0; console.log("ready"); }, 500);
setInterval(() => {}, 1000);
"""
LIMITS = {"memory": {"soft": "2GiB", "hard": "3GiB"}}
IN_AGENT = """
import json, subprocess, sys, time
import msgspec
from seqsup.memory import *

child = subprocess.Popen(["node", *{options}, "garbage.mjs"], stdout=subprocess.PIPE)
child.stdout.readline()
while not memory_usage().nodes:
    time.sleep(0.1)
print("answer", json.dumps(msgspec.to_builtins(eval(sys.argv[1]))))
child.kill()
"""


@pytest.fixture
def garbage(tmp_path: Path) -> Agent:
    """A Node agent whose heap is full of garbage. It runs until it is stopped."""
    (tmp_path / "garbage.mjs").write_text(GARBAGE)
    return agent("agent1", ["node", *UNASKED, "garbage.mjs"], **LIMITS)


@pytest.fixture
def in_agent(garbage: Agent, start: Start, tmp_path: Path) -> InAgent:
    """Evaluate an expression in a Python agent that has a Node child full of garbage, and return its value."""
    (tmp_path / "asks.py").write_text(IN_AGENT.format(options=UNASKED))

    def ask(expression: str) -> Any:
        start(agent("asks", [sys.executable, "asks.py", expression], **LIMITS))
        return json.loads(printed("asks").split("answer ", 1)[1])

    return ask


@pytest.fixture
def running(seqsup: Seqsup, seqsup_started: Callable[..., Started], tmp_path: Path) -> Running:
    """Start these agents, and return when the first has said `ready` and seqsup knows its heap."""

    def run(*agents: Agent, **tables: Any) -> Started:
        started = seqsup_started("start", write(tmp_path, *agents, **tables))
        wait_for(lambda: "ready" in printed(agents[0]["name"]))
        wait_for(lambda: "n/a" not in (shown := seqsup("mem").stdout) and "node" in shown)
        return started

    return run


@pytest.fixture
def routed(tmp_path: Path) -> Path:
    """The seed's router: agents with the words of the tasks that they are for, one for other tasks, one for all."""

    def appends(name: str, **keys: Any) -> Agent:
        return shell(name, f"echo {name} >>ran", **keys)

    return write(
        tmp_path, appends("frontend-developer", when=["button", "/css|html/"]),
        appends("backend-developer", when=["api", "database"]), appends("general-purpose", otherwise=True),
        appends("test-automator"),
    )  # fmt: skip
