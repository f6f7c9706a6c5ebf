"""An agent CLI is spared: above a limit the process of a tool ends first, and the CLI sees its tool fail."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import STUBS
from helpers.profiles import Event, agent, of, parsed, reasons, write
from helpers.tiers import BEST, LIMITING, WEAKEST, environment
from helpers.waiting import alive, wait_for
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
os.environ["SUPERVISOR"] = str(os.getppid())
for command in sys.argv[1:]:
    print("exit", subprocess.run(["sh", "-c", command + "; exit $?"]).returncode, flush=True)
print(open(os.environ["SEQSUP_NOTICES"]).read() if "SEQSUP_NOTICES" in os.environ else "no notices")
print("server", "gone" if server.poll() is not None else "lives")
"""
EATER = f"{sys.executable} {STUBS / 'grows.py'} 90 --rate 150"


Start = Callable[..., tuple[list[Event], str]]


def made(folder: Path, program: str, memory: dict[str, object], *tools: str) -> Path:
    """Return a profile with a CLI of that name, which runs these tools beside an MCP server."""
    server, cli = folder / "mcp-server-files.py", folder / program
    server.symlink_to(STUBS / "grows.py")
    cli.write_text(CLI.format(python=sys.executable, server=str(server), mcp=MCP))
    cli.chmod(0o755)
    return write(folder, agent("one", [cli, *tools]), memory=memory)


@pytest.fixture
def start(seqsup: Cli, tmp_path: Path) -> Start:
    """Run a CLI with these tools in a tier of containment, and return the events and its output."""

    def once(tier: str, *profile: Any) -> tuple[list[Event], str]:
        result = seqsup("start", made(tmp_path, *profile), "--json", env=environment(tier))
        return parsed(result.stdout), seqsup("logs", "one").stdout

    return once


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


def test_kernel_ends_tool_before_cli_and_mcp_server(
    seqsup: Cli, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    """The tool stops seqsup and outruns the limit: at that moment the MCP server is larger."""
    tool = f"{sys.executable} {STUBS / 'outruns.py'} $SUPERVISOR"
    seen = "until grep outruns $SEQSUP_NOTICES; do sleep 0.02; done"
    run = seqsup_started("start", made(tmp_path, "claude", LIMITS["hard"], tool, seen), "--json")
    wait_for(lambda: "spawned" in run.stdout)
    if parsed(run.stdout)[0]["containment"] not in LIMITING:
        pytest.skip("no kernel keeps a limit here")
    folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1")
    pid = int(wait_for(lambda: (folder / "one/1/stdout.log").read_text()).split()[1])
    (spawned,) = of(parsed(run.stdout), "spawned")
    wait_for(lambda: Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n")
    assert Path(f"/proc/{spawned['pid']}/oom_score_adj").read_text() == "500\n"
    wait_for(lambda: "outruns" in (folder / "memory.ndjson").read_text())
    os.kill(pid, signal.SIGUSR1)
    wait_for(lambda: not alive(pid))
    run.send(signal.SIGCONT)
    events = parsed(run.wait().stdout)
    (killed,) = of(events, "tool_killed")
    assert (killed["process"]["pid"], killed["key"]) == (pid, "hard")
    assert reasons(events) == {"one": "completed"}
    assert "server lives" in seqsup("logs", "one").stdout
