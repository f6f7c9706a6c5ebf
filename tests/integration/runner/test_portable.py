"""seqsup where there is no Linux, by psutil: the whole way of an attempt; what cannot be promised is said."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT, STUBS
from helpers.profiles import agent, of, proven, reasons, shell, write
from helpers.waiting import alive, wait_for

Stub = Callable[..., list[str]]


def elsewhere(folder: Path, *args: object) -> Result:
    """Run the command line without anything that only Linux has."""
    ended = subprocess.run(
        [sys.executable, STUBS / "without_linux.py", *map(str, args)], capture_output=True, text=True, check=False,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, timeout=60,
    )  # fmt: skip
    return Result(ended.returncode, ended.stdout, ended.stderr)


def test_without_what_only_linux_has_a_run_is_a_run(tmp_path: Path, stub: Stub) -> None:
    agents = [
        shell("well", "echo done", stdin="text"),
        agent("late", stub("deaf"), timeouts={"wall": "500ms", "grace": "200ms"}),
    ]
    ended = elsewhere(tmp_path, "start", write(tmp_path, *agents, name="both"), "--json")
    assert reasons(proven(ended)) == {"well": "completed", "late": "timeout"}
    assert elsewhere(tmp_path, "run", "--", "true").code == 0
    assert "not Linux" in elsewhere(tmp_path, "doctor").stdout


@contextmanager
def beginning_elsewhere(folder: Path, *args: object) -> Iterator["subprocess.Popen[str]"]:
    """The same in the background; it ends by itself."""
    with subprocess.Popen(
        [sys.executable, STUBS / "without_linux.py", *map(str, args)], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process


def test_a_run_is_paused_let_go_on_and_stopped_and_one_in_the_queue_turned_away(tmp_path: Path) -> None:
    holds = shell("holds", "touch began; exec sleep 60")
    first, second = write(tmp_path, holds, name="first"), write(tmp_path, shell("b", "true"), name="second")
    with beginning_elsewhere(tmp_path, "start", first) as running:
        wait_for((tmp_path / "began").exists)
        with beginning_elsewhere(tmp_path, "start", second) as waiting:
            told = waiting.stderr
            assert told is not None
            wait_for(lambda: "waiting for first" in told.readline())
            away = elsewhere(tmp_path, "stop", "second")
            assert (away.code, "waits no longer" in away.stderr) == (0, True), away.stderr
            assert waiting.wait(40) == 128 + signal.SIGTERM
        assert elsewhere(tmp_path, "pause", "first").code == 0
        on = elsewhere(tmp_path, "resume", "first")
        assert (on.code, "goes on" in on.stderr) == (0, True), on.stderr
        ended = elsewhere(tmp_path, "stop", "first", "--now")
        assert (ended.code, "ends now" in ended.stderr) == (0, True), ended.stderr
        assert running.wait(40) == 128 + signal.SIGTERM
    gone = elsewhere(tmp_path, "stop", "first")
    assert (gone.code, "does not run" in gone.stderr) == (0, True)


def test_what_it_cannot_promise_is_said(tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"))
    assert "psutil: not Linux: " in elsewhere(tmp_path, "plan", profile).stdout
    checks = {check["what"]: check for check in json.loads(elsewhere(tmp_path, "doctor", "--json").stdout)["checks"]}
    assert (checks["containment"]["level"], "subreaper" in checks) == ("warn", False)
    assert "by the mark in its environment only" in checks["containment"]["finding"]
    events = proven(elsewhere(tmp_path, "start", profile, "--json"))
    assert events[0]["containment"] == "psutil"
    assert of(events, "warned")[0]["message"].startswith("not Linux")
    refused = elsewhere(tmp_path, "start", write(tmp_path, shell("a", "true"), memory={"enforce": "cgroup"}))
    assert (refused.code, "only Linux has cgroups" in refused.stderr) == (3, True)


@pytest.mark.parametrize(
    ("name", "args"),
    [("orphans", [3]), ("forks", [2, 2]), ("escapes", ["double-fork"]), ("escapes", ["setsid"]), ("detaches", [])],
)
def test_leftovers_are_found_and_stopped(stub: Stub, tmp_path: Path, name: str, args: list[object]) -> None:
    profile = write(tmp_path, agent("a", stub(name, *args), timeouts={"grace": "500ms"}))
    with beginning_elsewhere(tmp_path, "start", profile, "--json") as run:
        output = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1/a/1/stdout.log")
        said = wait_for(lambda: output.exists() and output.read_text().endswith("\n") and output.read_text().split())
        assert said[0] == "ready"
        run.send_signal(signal.SIGTERM)  # some have ended by themselves
        stdout, stderr = run.communicate(timeout=40)
    events = proven(Result(run.returncode, stdout, stderr))
    assert not any(alive(int(pid)) for pid in said[1:])
    assert of(events, "drained")[0]["reached"]


@pytest.mark.memory
def test_a_tree_over_hard_is_killed_whole(tmp_path: Path) -> None:
    program = "import os,time\nfor _ in range(3):\n  if not os.fork(): break\nx = b'x' * (60 << 20)\ntime.sleep(60)"
    profile = write(tmp_path, agent("a", [sys.executable, "-c", program]), memory={"hard": "200MiB"})
    events = proven(elsewhere(tmp_path, "start", profile, "--json"))
    assert reasons(events) == {"a": "hard"}
    (stop,) = of(events, "stop_sent")
    assert len(stop["processes"]) == 4
    assert [process["kind"] for process in stop["processes"]].count("agent") == 1
    assert not any(alive(process["pid"]) for process in stop["processes"])
