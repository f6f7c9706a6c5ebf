"""Runs whose supervisor is killed, and their journals."""

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from helpers.command_line import MARK
from helpers.paths import ROOT, STUBS
from seqsup.containment.mark import COOKIE
from seqsup.model.events import AnyEvent, AttemptEnded, Recorded
from seqsup.state.journal import Journal

ONCE = ["attempt_started", "spawned", "attempt_ended", "drained"]


def killed(side: str, at: int, *args: object) -> int:
    """Run the real command line until it is killed at a write to its journal, and return how it ended."""
    return subprocess.run(
        [sys.executable, str(STUBS / "dies_at.py"), str(at), side, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=40,
        check=False,
    ).returncode


def journal() -> list[Recorded]:
    """Return the events of this test's first run."""
    opened = Journal.open(Path(os.environ["SEQSUP_STATE_DIR"]))
    try:
        assert len(opened.runs()) == 1
        return list(opened.events(1))
    finally:
        opened.close()


def bodies(events: Iterable[Recorded]) -> list[AnyEvent]:
    return [recorded.body for recorded in events]


def kinds(events: Iterable[Recorded]) -> list[str]:
    return [str(type(body).__struct_config__.tag) for body in bodies(events)]


def completed(events: Iterable[Recorded]) -> set[str]:
    return {body.agent for body in bodies(events) if isinstance(body, AttemptEnded) and body.ok}


def running(test: str) -> list[str]:
    """Processes of this test's agents: by the cookie of their run, or where that was cleared by their argument."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            command = process.cmdline()
            ours = f"{MARK}={test}\0".encode() in environ and f"{COOKIE}=".encode() in environ
            if (ours or f"--seqsup-test={test}" in command) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {shlex.join(command)}")
        except (OSError, psutil.Error):
            continue
    return found


def ledger(folder: Path) -> Counter[str]:
    path = folder / "ledger"
    return Counter(path.read_text().split() if path.exists() else [])
