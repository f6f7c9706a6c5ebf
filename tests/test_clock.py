"""The calendar may jump: nothing waits, limits, retries or resumes by it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT, STUBS

from profiles import of, parsed, reasons, shell, started, write


def jumping(tmp_path: Path, *args: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(STUBS / "jumps.py"), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_run_goes_its_way_while_the_calendar_jumps_by_a_day(tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("ok", "sleep 0.2"), shell("slow", "exec sleep 60", timeouts={"wall": "400ms"}),
        shell("silent", "exec sleep 60", timeouts={"stall": "400ms"}, retry={"on": []}),
        shell("twice", "[ -e tried ] || { touch tried; exit 3; }", retry={"attempts": 2}),
        shell("last", "[ -e mended ]"),
        run={"on_failure": "continue", "keep": "12h"}, output={"max": "64KiB"},
    )  # fmt: skip
    began = time.monotonic()
    first = jumping(tmp_path, "start", profile, "--json")
    assert first.returncode == 1, first.stderr
    events = parsed(first.stdout)
    assert reasons(events) == {
        "ok": "completed", "slow": "timeout", "silent": "stalled", "twice": "completed", "last": "failed",
    }  # fmt: skip
    assert all(0 <= event["seconds"] < time.monotonic() - began for event in of(events, "attempt_ended", "run_ended"))
    assert events[-1]["sequence_violations"] == 0
    (tmp_path / "mended").touch()
    resumed = jumping(tmp_path, "start", profile, "--resume", "--json")
    assert started(parsed(resumed.stdout)) == ["slow", "silent", "last"]
    for command in ("status", "runs", "logs", "plan"):
        looked = jumping(tmp_path, command, *([profile] if command == "plan" else []))
        assert looked.returncode in (0, 1)
        assert "Traceback" not in looked.stderr
    assert [event["runs"] for event in of(parsed(resumed.stdout), "runs_removed")] == [], "never the last one"


# Who may ask the calendar, and why nobody waits, is limited or is stopped by what it says
CALENDAR = {
    "agent.py": "a provider's limit resets at a time of day: only that is waited for by it, and looked at again",
    "attempt.py": "a provider's words tell a time of day",
    "sockets.py": "how old what the dead have left is",
    "cli/_live.py": "for people to read",
    "cli/_watch.py": "for people to read",
    "cli/report.py": "for people to read",
    "cli/runs.py": "for people to read",
    "cli/status.py": "for people to read",
    "journal.py": "when an event was told, for people; beside it stands monotonic time",
    "log.py": "for people to read",
    "metrics/exporter.py": "Prometheus wants it",
    "retention.py": "how old a run is; the last one of a profile always stays",
    "run.py": "when an event was told, for people",
    "timeline.py": "for people to read",
}


def test_nobody_asks_the_calendar_but_those_who_have_a_reason() -> None:
    package = ROOT / "supervisor" / "seqsup"
    asks = re.compile(r"\btime\.time\(\)|\bdatetime\.now\(")
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if asks.search(file.read_text())}
    assert found - set(CALENDAR) == set()
