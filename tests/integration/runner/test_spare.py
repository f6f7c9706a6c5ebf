"""An agent CLI is spared: above a limit the process of a tool ends first, and the CLI sees its tool fail."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import STUBS
from helpers.profiles import Event, agent, of, parsed, reasons, write
from helpers.tiers import BEST, WEAKEST, environment
from seqsup.units import MIB

pytestmark = pytest.mark.memory

Cli = Callable[..., Result]
LIMIT = 200 * MIB
MCP = 120  # MiB: the server is larger than the tool
LIMITS = {"soft": {"soft": LIMIT, "sustain": "200ms", "warn": "none"}, "hard": {"hard": LIMIT, "soft": "none"}}
# Starts an MCP server, then each argument as a tool, and prints its exit code
CLI = """#!{python}
import os, subprocess, sys

server = subprocess.Popen([{python!r}, {server!r}, "{mcp}"], stdout=subprocess.PIPE)
server.stdout.readline()
for command in sys.argv[1:]:
    print("exit", subprocess.run(["sh", "-c", command + "; exit $?"]).returncode, flush=True)
print(open(os.environ["SEQSUP_NOTICES"]).read() if "SEQSUP_NOTICES" in os.environ else "no notices")
print("server", "gone" if server.poll() is not None else "lives")
"""
EATER = f"{sys.executable} {STUBS / 'grows.py'} 90 --rate 150"


@pytest.fixture
def start(seqsup: Cli, tmp_path: Path) -> Callable[..., tuple[list[Event], str]]:
    """Run a CLI with these tools in a tier of containment, and return the events and its output."""

    def once(tier: str, program: str, memory: dict[str, object], *tools: str) -> tuple[list[Event], str]:
        server, cli = tmp_path / "mcp-server-files.py", tmp_path / program
        server.symlink_to(STUBS / "grows.py")
        cli.write_text(CLI.format(python=sys.executable, server=str(server), mcp=MCP))
        cli.chmod(0o755)
        profile = write(tmp_path, agent("one", [cli, *tools]), memory=memory)
        events = parsed(seqsup("start", profile, "--json", env=environment(tier)).stdout)
        return events, seqsup("logs", "one").stdout

    return once


Start = Callable[..., tuple[list[Event], str]]


@pytest.mark.parametrize("tier", [BEST, WEAKEST])
@pytest.mark.parametrize("key", LIMITS)
def test_limit_ends_tool_and_cli_completes(start: Start, tier: str, key: str) -> None:
    events, printed = start(tier, "claude", LIMITS[key], EATER, "echo next")
    assert reasons(events) == {"one": "completed"}, printed
    (killed,) = of(events, "tool_killed")
    assert (killed["key"], killed["limit"]) == (key, LIMIT)
    assert "grows.py 90" in killed["process"]["command"]
    assert killed["process"]["bytes"] < MCP * MIB
    assert "exit 137\nnext\nexit 0" in printed
    assert f"grows.py (pid {killed['process']['pid']}" in printed
    assert "server lives" in printed


@pytest.mark.parametrize("key", LIMITS)
def test_tool_that_exceeds_its_limit_again_and_again_ends_agent(start: Start, key: str) -> None:
    events, _ = start(BEST, "claude", LIMITS[key], *[EATER] * 7)
    assert len(of(events, "tool_killed")) == 5
    assert reasons(events) == {"one": key}


@pytest.mark.parametrize(("program", "memory"), [("opencode", {}), ("claude", {"spare": "none"})])
def test_agent_that_is_not_spared_is_stopped(start: Start, program: str, memory: dict[str, object]) -> None:
    events, _ = start(BEST, program, LIMITS["hard"] | memory, EATER)
    assert (reasons(events), of(events, "tool_killed")) == ({"one": "hard"}, [])
