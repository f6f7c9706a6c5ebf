"""kill -9 at every event of a run with companions, hooks, chains or lanes: of the supervisor or a process beside it."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result
from helpers.crashes import ONCE, bodies, completed, journal, killed, kinds, ledger, running
from helpers.paths import ROOT, STUBS
from helpers.profiles import shell, write
from seqsup.model.events import AttemptEnded, RunEnded
from seqsup.model.history import fold

Seqsup = Callable[..., Result]

AGENTS = ("one", "two", "three")
HOOK = ["hook_started", "hook_ended"]
TURN = ["agent_due", *HOOK, "attempt_started", "spawned", "attempt_ended", "drained", "agent_ended"]
UP = ["companion_started", "companion_ready"]
STORY = [
    *("run_started", *UP, *TURN, *TURN),
    *("companion_stopped", "companion_started", "companion_restarted", "companion_ready", "chain_ended", *HOOK),
    *(*TURN, "companion_stopped", "run_ended"),
]
QUICK = {("supervisor", 2), ("supervisor", 4), ("supervisor", 20), ("supervisor", 24), ("supervisor", len(STORY) - 1)}
QUICK |= {("agent", 8), ("companion", 8), ("companion-keeper", 8), ("hook", 5)}
OTHERS = ("agent", "hook", "companion", "companion-keeper")


def moments(target: str) -> list[Any]:
    """At every event the supervisor, and of the others one in turn."""
    due = [
        at for at in range(1, len(STORY) + 1)
        if target not in OTHERS or OTHERS[at % len(OTHERS)] == target or (target, at) in QUICK
    ]  # fmt: skip
    return [
        pytest.param(
            target, at, marks=() if (target, at) in QUICK else pytest.mark.long, id=f"{target}-{at}-{STORY[at - 1]}"
        )
        for at in due
    ]  # fmt: skip


def profile(folder: Path) -> Path:
    tables: dict[str, Any] = {
        "run": {"chain": 2}, "retry": {"attempts": 3}, "hooks": {"before_agent": ["sleep 0.1"], "chain_end": ["true"]},
    }  # fmt: skip
    mcp = {"name": "mcp", "command": ["node", str(STUBS / "mcp_server.mjs"), "stays"], "ready": {"log": "ready"}}
    agents = [shell(name, f"sleep 0.2; echo {name} >>ledger") for name in AGENTS]
    return write(folder, *agents, companions=[mcp], **tables)


def in_lanes(folder: Path) -> Path:
    """Write a profile of two lanes, which promise no order."""
    agents = [shell(name, f"sleep 0.1; echo {name} >>ledger") for name in AGENTS]
    return write(folder, *agents, run={"concurrency": 2, "allow_concurrency": True}, memory={"hard": "64MiB"})


LANES = 3 * len(ONCE) + 5  # at least as many as that run's events


def test_the_story_is_the_one_that_is_killed_at_every_event(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", profile(tmp_path)).code == 0
    assert kinds(journal()) == STORY
    assert ledger(tmp_path) == Counter(AGENTS)


@pytest.mark.parametrize(("target", "at"), moments("supervisor"))
def test_no_process_is_left_and_the_run_resumes_after_any_kill(
    seqsup: Seqsup, tmp_path: Path, test_id: str, target: str, at: int
) -> None:
    nightly = profile(tmp_path)
    assert killed("before", at, "start", nightly) == -signal.SIGKILL
    before = kinds(journal())
    assert before == STORY[: len(before)]  # what is not durable by itself may not have reached the disk yet
    assert len(before) < at
    assert seqsup("sweep").code == 0
    assert running(test_id) == []
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    as_undisturbed(tmp_path, test_id, twice=1)


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=() if at in (4, 7) else pytest.mark.long) for at in range(1, LANES + 1)]
)
def test_no_process_is_left_and_two_lanes_resume_after_any_kill(
    seqsup: Seqsup, tmp_path: Path, test_id: str, at: int
) -> None:
    nightly = in_lanes(tmp_path)
    if killed("before", at, "start", nightly) != -signal.SIGKILL:
        assert at > LANES - 3, "it had fewer events than expected"
        return
    assert len(kinds(journal())) < at
    assert seqsup("sweep").code == 0
    assert running(test_id) == []
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    as_undisturbed(tmp_path, test_id, twice=2)


@pytest.mark.parametrize(("target", "at"), [moment for target in OTHERS for moment in moments(target)])
def test_run_completes_after_any_process_beside_the_supervisor_is_killed(
    tmp_path: Path, test_id: str, target: str, at: int
) -> None:
    run = subprocess.run(
        [sys.executable, str(STUBS / "kills_at.py"), str(at), target, "start", str(profile(tmp_path))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=90, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr.decode()
    as_undisturbed(tmp_path, test_id, twice=0)


def as_undisturbed(folder: Path, test: str, *, twice: int) -> None:
    """Require that the same agents completed, each once. One that was finishing at the kill may have run twice."""
    events = journal()
    assert completed(events) == set(AGENTS)
    assert Counter(body.agent for body in bodies(events) if isinstance(body, AttemptEnded) and body.ok) == Counter(
        AGENTS
    )
    assert ledger(folder).keys() == set(AGENTS)
    assert ledger(folder).total() <= len(AGENTS) + twice
    last = bodies(events)[-1]
    assert isinstance(last, RunEnded)
    assert (last.exit_code, last.sequence_violations, last.completed) == (0, 0, len(AGENTS))
    assert fold(events).sequence_violations == 0
    assert running(test) == []
