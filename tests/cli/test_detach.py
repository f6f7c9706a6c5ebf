"""Runs in the background, and runs that wait: found, followed and stopped from any terminal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import shell, write
from helpers.waiting import alive, wait_for

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
WAITS = "echo $$ > pid; echo here; while [ ! -e gate ]; do sleep 0.01; done; echo there"


def state_dir() -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"])


def pid_of(stderr: str) -> int:
    return int(stderr.partition("in the background, pid ")[2].split()[0])


@pytest.fixture
def gone(seqsup: Seqsup) -> Iterator[list[int]]:
    """Supervisors that must be gone at the end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
        wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_a_run_in_the_background_is_reached_from_a_second_terminal(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, gone: list[int]
) -> None:
    profile = write(tmp_path, shell("a", WAITS), shell("b", "echo b; echo $PPID > ppid"))
    started = seqsup("start", profile, "--detach")  # it returns, though our ends of its pipes stay open
    assert (started.code, started.stdout) == (0, "r1\n")
    assert "next: seqsup status r1 · seqsup logs r1 -f · seqsup stop r1" in started.stderr
    gone.append(pid := pid_of(started.stderr))
    wait_for((tmp_path / "pid").exists)
    assert os.getsid(pid) == pid
    status = json.loads(seqsup("status", "--json").stdout)
    assert (status["state"], status["supervisor"]) == ("running", pid)
    following = seqsup_started("logs", "r1", "-f")
    wait_for(lambda: "here\n" in following.stdout)
    (tmp_path / "gate").touch()
    followed = following.wait()
    assert "there\n" in followed.stdout
    assert "==> b <==\nb\n" in followed.stdout
    wait_for(lambda: not alive(pid))
    assert seqsup("status", "r1").code == 0
    assert "2 of 2 completed" in (state_dir() / "detached.log").read_text()
    assert (state_dir() / "detached.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("full", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_detached_run_starts_when_its_terminal_is_full_or_closed(
    seqsup: Seqsup, tmp_path: Path, full: list[str]
) -> None:
    """A user who takes the missing message for a failure starts the run a second time."""
    profile = write(tmp_path, shell("a", "true"))
    with Path("/dev/full").open("wb") as none:
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | dict.fromkeys(full, none)
        ended = subprocess.run(
            [sys.executable, "-m", "seqsup", "start", str(profile), "--detach"],
            stdin=subprocess.DEVNULL, text=True, check=False, **streams,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    if full == ["stdout"]:
        assert "seqsup: stdout: No space left on device" in ended.stderr
        assert "seqsup status r1" in ended.stderr
    if full == ["stderr"]:
        assert ended.stdout == "r1\n"
    wait_for(lambda: seqsup("status", "--json").stdout.find('"state":"completed"') > 0)


def test_detached_run_survives_its_terminal(seqsup: Seqsup, tmp_path: Path, gone: list[int]) -> None:
    """A terminal that goes away hangs up its whole session."""
    profile = write(tmp_path, shell("a", WAITS))
    command = f"{sys.executable} -m seqsup start {profile} --detach 2>said; kill -HUP 0"
    subprocess.run(
        ["setsid", "-w", "sh", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        cwd=tmp_path, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    gone.append(pid := pid_of((tmp_path / "said").read_text()))
    wait_for((tmp_path / "pid").exists)
    assert alive(pid)
    assert seqsup("stop", "--now").code == 0
    wait_for(lambda: not alive(pid))
    assert "halted" in seqsup("status").stdout


def test_detached_run_reports_a_failed_start_to_its_caller(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    bad = write(tmp_path, shell("a", "true"), memory={"hrad": "1GiB"}, name="bad")
    refused = seqsup("start", bad, "--detach")
    assert (refused.code, refused.stdout, "hrad" in refused.stderr) == (2, "", True)
    assert seqsup("start", bad, "--detach", "--json").code == 2
    first = seqsup_started("start", write(tmp_path, shell("a", WAITS)))
    wait_for((tmp_path / "pid").exists)
    busy = seqsup("start", write(tmp_path, shell("a", "true"), name="other"), "--detach", "--no-wait")
    assert (busy.code, busy.stdout, "another run is active" in busy.stderr) == (3, "", True)
    (tmp_path / "gate").touch()
    assert first.wait().code == 0


def test_waiting_run_is_listed_and_can_be_stopped_or_start(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, gone: list[int]
) -> None:
    first = seqsup_started("start", write(tmp_path, shell("a", WAITS)))
    wait_for((tmp_path / "pid").exists)
    profile = write(tmp_path, shell("a", "touch ran"), name="second")
    third = write(tmp_path, shell("a", "touch third"), name="third")
    second = seqsup("start", profile, "--detach")
    assert (second.code, second.stdout) == (0, "q2\n")
    assert "waits for the machine's turn in the background" in second.stderr
    assert "next: seqsup status second · seqsup stop q2" in second.stderr  # there are no logs yet
    gone.append(pid_of(second.stderr))
    apart = write(tmp_path, shell("a", "true"), name="apart", run={"state_dir": str(tmp_path / "own")})
    waits_apart = seqsup("start", apart, "--detach").stderr
    gone.append(pid_of(waits_apart))
    assert "next: seqsup status q3 · seqsup stop q3" in waits_apart  # its own folder knows nothing of it yet
    assert (seqsup("status", "q3").code, seqsup("stop", "q3").code) == (0, 0)
    wait_for(lambda: not alive(gone[1]))
    other = seqsup_started("start", third)
    wait_for(lambda: "waiting for" in other.stderr)
    listed = json.loads(seqsup("runs", "--json").stdout)["waiting"]
    assert [(each["label"], each["name"], each["pid"]) for each in listed] == [
        ("q2", "second", gone[0]), ("q3", "third", other.pid),
    ]  # fmt: skip
    assert "q3   third    waiting" in seqsup("runs").stdout
    assert f"q2  second waits for the machine's turn, pid {gone[0]}" in seqsup("status").stdout
    waits = seqsup("status", "q3")
    assert waits.code == 0
    assert waits.stdout.startswith(f"q3  third waits for the machine's turn, pid {other.pid}")
    assert f", second (pid {gone[0]}" in waits.stdout
    assert json.loads(seqsup("status", "q3", "--json").stdout)["state"] == "waiting"
    assert "q3 third" in seqsup("stop", "third").stderr
    assert other.wait().code == 143
    (tmp_path / "gate").touch()
    assert first.wait().code == 0
    wait_for((tmp_path / "ran").exists)
    wait_for(lambda: not alive(gone[0]))
    assert not (tmp_path / "third").exists()
    waits_again = seqsup("stop", "q2")
    assert waits_again.code == 2


def test_waiting_profile_is_told_how_to_stop_the_wait(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("b", "true"), name="second")
    assert seqsup("start", profile).code == 0
    first = seqsup_started("start", write(tmp_path, shell("a", WAITS)))
    wait_for((tmp_path / "pid").exists)
    second = seqsup_started("start", profile)
    wait_for(lambda: "waiting for" in second.stderr)
    told = seqsup("stop", profile).stderr.splitlines()
    assert told[0] == "r1 second is not running"
    assert "q2 second waits for its turn: seqsup stop q2" in told
    assert seqsup("stop", "q2").code == 0
    assert second.wait().code == 143
    (tmp_path / "gate").touch()
    assert first.wait().code == 0
