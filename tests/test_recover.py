"""What a sweep finds, and what it must not touch: strangers, live runs, what another is already putting in order."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result, Started, alive, wait_for
from seqsup.events import AttemptStarted, RunStarted
from seqsup.folder import MEMBERS, hold, private, run_folder
from seqsup.host import boot_id
from seqsup.journal import Journal

from profiles import agent, of, parsed, shell, write

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_sweep_does_not_touch_a_run_that_lives(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "echo $$ > pid; while [ ! -e gate ]; do sleep 0.01; done"))
    process = seqsup_started("start", profile)
    (pid,) = wait_for(lambda: lines(tmp_path / "pid"))
    swept = seqsup("sweep")
    assert (swept.code, swept.stdout) == (0, "no supervisor died and left anything\n")
    assert alive(int(pid))
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


def dead_run(state_dir: Path, members: str, boot: str) -> None:
    """A run as a supervisor that died in this boot, or another, would have left it."""
    journal = Journal.open(state_dir, write=True)
    run = journal.begin("nightly", None, os.urandom(16).hex())
    folder = private(run_folder(state_dir, run))
    (folder / MEMBERS).write_text(members)
    journal.append(
        run,
        RunStarted(
            name="nightly", profile=None, task="", agents=("a",), skips={}, supervisor=1, boot_id=boot, version="0",
            containment="subreaper",
        ),
    )  # fmt: skip
    journal.append(
        run,
        AttemptStarted(agent="a", attempt=1, content="c", command=("x",), hard=None, heap=None, folder="a/1"),
    )
    journal.close()


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


@pytest.mark.parametrize(("another_start", "another_boot"), [(1, False), (0, True)], ids=["start", "boot"])
def test_a_stranger_that_got_the_number_of_a_member_is_let_alone(
    seqsup: Seqsup, stub: Stub, another_start: int, another_boot: bool
) -> None:
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as stranger:
        seen = f"{stranger.pid} {start_time(stranger.pid) - another_start}\n"
        boot = "another" if another_boot else boot_id()
        dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), seen, boot)
        swept = seqsup("sweep")
        assert swept.code == 0
        assert "lost while a ran" in swept.stdout
        survived = stranger.poll() is None
        stranger.kill()
    assert survived


def test_a_member_without_a_mark_is_known_by_number_and_start(seqsup: Seqsup, stub: Stub) -> None:
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as member:
        torn = f"{member.pid} {start_time(member.pid)}\n12 13 14\n99"
        try:
            dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), torn, boot_id())
            assert seqsup("sweep").code == 0
            assert member.wait(10) == -signal.SIGTERM
        finally:
            member.kill()


def test_orphans_without_any_mark_are_stopped_after_a_crash(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, stub: Stub
) -> None:
    """Their environment is cleared and their parent is init: only the list of who was seen names them."""
    cleared = agent("a", ["sh", "-c", '"$@" > said; sleep 60', "sh", *stub("env_cleared")])
    process = seqsup_started("start", write(tmp_path, cleared, memory={"enforce": "watch"}))
    orphan = int(wait_for(lambda: lines(tmp_path / "said")[1:])[0])
    members = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / "r1" / MEMBERS
    wait_for(lambda: f"{orphan} " in members.read_text())
    process.send(signal.SIGKILL)
    process.process.wait()
    assert alive(orphan)
    assert seqsup("sweep").code == 0
    assert not alive(orphan)


def test_a_deaf_agent_of_a_dead_supervisor_is_killed(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, stub: Stub
) -> None:
    deaf = agent("a", ["sh", "-c", '"$@" > said & echo $! > pid; wait', "sh", *stub("deaf")])
    process = seqsup_started("start", write(tmp_path, deaf, memory={"enforce": "watch"}))
    wait_for(lambda: lines(tmp_path / "said"))
    process.send(signal.SIGKILL)
    process.process.wait()
    assert alive(int(lines(tmp_path / "pid")[0]))
    swept = seqsup("sweep")
    assert swept.code == 0
    assert "lost while a ran" in swept.stdout
    assert not alive(int(lines(tmp_path / "pid")[0]))


def test_who_is_already_at_it_is_left_alone(seqsup: Seqsup) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    dead_run(state_dir, "", boot_id())
    lock = hold(run_folder(state_dir, 1))
    try:
        assert "no supervisor died" in seqsup("sweep").stdout
    finally:
        os.close(lock)
    assert "lost while a ran" in seqsup("sweep").stdout


def test_many_starts_at_once_after_a_crash_are_one_at_a_time(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    first = seqsup_started("start", write(tmp_path, shell("a", "echo $$ > pid; exec sleep 60")))
    wait_for(lambda: lines(tmp_path / "pid"))
    first.send(signal.SIGKILL)
    first.process.wait()
    others = [
        seqsup_started(
            "start", write(tmp_path, shell("b", "echo + >> marks; sleep 0.05; echo - >> marks"), name=f"n{n}")
        )
        for n in range(4)
    ]
    assert [other.wait().code for other in others] == [0] * 4
    assert lines(tmp_path / "marks") == ["+", "-"] * 4
    assert not alive(int(lines(tmp_path / "pid")[0]))
    told = of(parsed(seqsup("events", "r1").stdout), "attempt_lost")
    assert len(told) == 1


def test_a_zombie_that_nobody_reaps_holds_up_no_sweep(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    """An init that does not reap is usual in containers: what it adopted stays in the table of processes for ever."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as zombie:
        start = start_time(zombie.pid)
        wait_for(lambda: not alive(zombie.pid))
        dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), f"{zombie.pid} {start}\n", boot_id())
        swept = seqsup_started("sweep").wait(20)
        assert (swept.code, swept.stdout) == (0, "r1 nightly, lost while a ran: nothing of it was left\n")
