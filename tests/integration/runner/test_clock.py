"""The calendar may jump: nothing waits, limits, retries or resumes by it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT, STUBS
from helpers.profiles import of, parsed, reasons, shell, started, write
from helpers.told import BEGAN, Told
from helpers.written import Written
from seqsup.model.history import fold
from seqsup.model.run_view import Now, remaining
from seqsup.view.canvas import Canvas
from seqsup.view.live_frame import Scene, frame
from seqsup.view.summary import headline

DAY = 86400.0


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


def spoken(told: Told, now: Now) -> str:
    return "\n".join(Canvas(80).paint(line) for line in frame(Scene(view=fold(told.events)), now, Canvas(80)))


@pytest.mark.parametrize("jump", [-DAY, 0.0, DAY])
def test_durations_use_the_monotonic_clock(jump: float) -> None:
    now = Now(BEGAN + jump + 90, 90)
    runs = Told().run("a", "b").started("a")
    view = fold(runs.events)
    view.expected = {"a": 100.0, "b": 50.0}
    assert headline(view, now.mono) == "nightly  0 of 2 completed · 1 min 29 s"
    assert remaining(view, now.mono) == (62, 0)
    said = spoken(runs, now)
    assert "0 of 2 done · 1 min 29 s" in said
    assert "▶ a  1 min 28 s · pid 4712" in said
    assert "retry in 16 s" in spoken(runs.ended("a").retry("a", wait=101), now)


@pytest.mark.parametrize("jump", [-60.0, 0.0, 60.0])
def test_a_limit_that_resets_at_a_time_of_day_is_waited_for_by_the_calendar(jump: float) -> None:
    at_limit = Told().run("a").started("a").ended("a").paused("a", wait=600)
    until = fold(at_limit.events).agents["a"].limit_until
    assert until is not None
    assert "retry in 5 min" in spoken(at_limit, Now(until - 300, 305 + jump))


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_status_of_a_run_during_which_the_calendar_was_set(
    seqsup: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    state, rightly = Written(tmp_path / "state"), time.time
    monkeypatch.setenv("SEQSUP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(time, "time", lambda: rightly() - jump)
    runs = Told().run("a").started("a")
    runs.events[0].body.expected["a"] = 9000.0  # type: ignore[union-attr]
    number = state.run(runs)
    state.live(number)
    head, now = seqsup("status").stdout.splitlines()[:2]
    told = json.loads(seqsup("status", "--json").stdout)
    assert re.fullmatch(r"r1  nightly  0 of 1 completed · (\d+ ms|\d+(\.\d)? s)", head)
    assert re.search(r", for (\d+ ms|\d+(\.\d)? s) · about 2 h (29|30) min left", now)
    assert 8900 < told["remaining"]["seconds"] < 9000
    assert {"began", "due"}.isdisjoint(told | told["agents"][0])
    state.go_on(number, Told().retry("a", wait=9000))
    assert re.search(r"attempt 2 in 2 h (29|30) min", seqsup("status").stdout)
    state.close()


SET_BACK = """
import asyncio, sys, time
from seqsup.cli import app
from seqsup.runner.timed_wait import TimedWait
from seqsup.policy import usage
usage.UNKNOWN_RESET = 1.0
rightly, wait = time.time, TimedWait.until
def set_back():
    time.time = lambda: rightly() - 86400
async def wait_until(self, until, enough):
    asyncio.get_running_loop().call_soon(set_back)
    await wait(self, until, enough)
TimedWait.until = wait_until
sys.exit(app.main(sys.argv[1:]))
"""


def test_wait_for_a_usage_limit_is_no_longer_than_announced_if_the_calendar_is_set_back(
    tmp_path: Path,
) -> None:
    script = "[ -e tried ] || { touch tried; echo Claude AI usage limit reached; exit 1; }"
    profile = write(tmp_path, shell("a", script, preset="claude", usage={"on_limit": "wait"}))
    ended = subprocess.run(
        [sys.executable, "-c", SET_BACK, "start", profile], env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, "does not report when its usage limit resets" in ended.stderr) == (0, True), ended.stderr


# Places that may read the calendar, and why it cannot delay, limit or stop anything there
CALENDAR = {
    "runner/agent.py": "a provider's limit resets at a time of day: only that is waited for by it, and looked at again",
    "runner/spending.py": "when a provider's limit was reported",
    "runner/timed_wait.py": "a usage limit, and usage.window, which are times of day",
    "runner/ending.py": "a provider's words tell a time of day",
    "node/sockets.py": "how old what the dead have left is",
    "view/live.py": "for people to read",
    "view/ndjson.py": "when an agent's progress was reported, for people",
    "cli/watch.py": "for people to read",
    "cli/commands/mem.py": "for people to read, and to log",
    "cli/commands/report.py": "for people to read",
    "cli/commands/runs.py": "for people to read",
    "cli/commands/status.py": "for people to read",
    "state/journal.py": "when an event was told, for people; beside it stands monotonic time",
    "view/log.py": "for people to read",
    "metrics/exporter.py": "Prometheus wants it",
    "state/retention.py": "how old a run is; the last one of a profile always stays",
    "cli/arguments.py": "--since names a time of day",
    "runner/notifier.py": "when an event was told, for people",
    "runner/run.py": "when an event was told, for people",
    "runner/run_plan.py": "when the run began, for files that are older",
    "state/samples.py": "for people to read",
    "metrics/queue_figures.py": "Prometheus wants it",
    "cli/commands/work.py": "--window names times of day",
    "queue/embedded.py": "--at names a time of day; the rest is for people to read",
    "queue/desk.py": "the same",
    "queue/serving.py": "the same; looked at again every 30 seconds",
    "cli/jobs.py": "for people to read",
    "cli/commands/add.py": "for people to read",
    "cli/commands/queue.py": "for people to read",
    "cli/commands/workers.py": "for people to read",
}


def test_only_listed_places_read_the_calendar() -> None:
    package = ROOT / "supervisor" / "seqsup"
    asks = re.compile(r"\btime\.time\(\)|\bdatetime\.now\(")
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if asks.search(file.read_text())}
    assert found - set(CALENDAR) == set()
