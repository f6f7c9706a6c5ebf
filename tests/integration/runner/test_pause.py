"""A run that pauses between agents: at its operator's wish, or while its disk has too little room."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.disks import fill, tmpfs
from helpers.profiles import of, parsed, shell, write
from helpers.waiting import wait_for
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
WAITS = "echo $$ > pid; while [ ! -e gate ]; do sleep 0.01; done"


LANES = {"concurrency": 2, "allow_concurrency": True, "chain": 20}


def kinds(seqsup: Seqsup) -> list[str]:
    return [event["event"] for event in parsed(seqsup("events").stdout)]


def test_after_the_running_agent_no_next_one_starts_until_resume(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    process = seqsup_started("start", write(tmp_path, shell("a", WAITS), shell("b", "touch ran")))
    wait_for((tmp_path / "pid").exists)
    paused = seqsup("pause")
    assert (paused.code, "pauses after a; `seqsup resume r1`" in paused.stderr) == (0, True)
    assert "will pause after this agent" in " ".join(seqsup("status").stdout.split())
    (tmp_path / "gate").touch()
    wait_for(lambda: "run_paused" in kinds(seqsup))
    status = seqsup("status")
    assert (status.code, "pauses after" in status.stdout) == (0, False)
    assert "no process is running: the run is between agents" in seqsup("mem").stdout
    assert "paused: by the user; `seqsup resume r1` continues it" in " ".join(status.stdout.split())
    assert not (tmp_path / "ran").exists()
    assert "continues" in seqsup("resume").stderr
    assert process.wait().code == 0
    assert (tmp_path / "ran").exists()
    assert kinds(seqsup).count("run_continued") == 1
    assert seqsup("resume").stderr == "r1 nightly is not running\n"
    assert "is not running" in seqsup("pause").stderr


def both_wait(tmp_path: Path, run: dict[str, object]) -> Path:
    """Two that run side by side, each until its gate opens, and two to come."""
    waits = [shell(name, f"touch {name}; while [ ! -e gate-{name} ]; do sleep 0.01; done") for name in "ab"]
    rest = [shell(name, f"touch {name}") for name in "cd"]
    return write(tmp_path, *waits, *rest, run={**LANES, **run}, memory={"hard": "64MiB"})


def ended(seqsup: Seqsup, *which: object) -> int:
    return len(of(parsed(seqsup("events", *which).stdout), "agent_ended"))


def test_pause_starts_no_agent_while_another_lane_still_runs(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    process = seqsup_started("start", both_wait(tmp_path, {}))
    wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
    assert "pauses after a, b;" in seqsup("pause").stderr
    (tmp_path / "gate-a").touch()
    wait_for(lambda: ended(seqsup) == 1)
    (tmp_path / "gate-b").touch()
    wait_for(lambda: "run_paused" in kinds(seqsup))
    assert (ended(seqsup), (tmp_path / "c").exists()) == (2, False)
    assert seqsup("resume").code == 0
    assert process.wait().code == 0
    assert (tmp_path / "d").exists()


def test_full_disk_starts_no_agent_while_another_lane_still_runs(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=32m") as disk:
        profile = both_wait(tmp_path, {"state_dir": str(disk / "state"), "disk_floor": "8MiB"})
        process = seqsup_started("start", profile)
        wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 26 * MIB)
        (tmp_path / "gate-a").touch()
        wait_for(lambda: ended(seqsup, profile) == 1)
        (tmp_path / "gate-b").touch()
        wait_for(lambda: "below run.disk_floor 8 MiB" in process.stderr)
        assert (ended(seqsup, profile), (tmp_path / "c").exists()) == (2, False)
        (disk / "filler").unlink()
        assert process.wait().code == 0, process.stderr


def test_a_paused_run_can_be_stopped(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    process = seqsup_started("start", write(tmp_path, shell("a", WAITS), shell("b", "touch ran")))
    wait_for((tmp_path / "pid").exists)
    assert seqsup("pause", "r1").code == 0
    (tmp_path / "gate").touch()
    wait_for(lambda: "run_paused" in kinds(seqsup))
    process.send(signal.SIGINT)
    assert process.wait(40).code == 130
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("run", [{}, LANES])
def test_pause_holds_an_agent_that_waits_for_memory_too(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, run: dict[str, object]
) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    needy = shell("a", "touch ran", memory={"host_floor": total})
    process = seqsup_started("start", write(tmp_path, needy, run=run, drain={"timeout": "8s", "available": "none"}))
    wait_for(lambda: "admission_delayed" in kinds(seqsup))
    assert "pauses before its next agent" in seqsup("pause").stderr
    wait_for(lambda: "run_paused" in kinds(seqsup))
    assert "paused: by the user" in " ".join(seqsup("status").stdout.split())
    assert seqsup("resume").code == 0
    assert process.wait().code == 4, "it still left the queue than it may"
    assert kinds(seqsup).count("run_continued") == 1


def test_status_says_what_an_agent_waits_for(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    needy = shell("a", "true", memory={"host_floor": total})
    process = seqsup_started("start", write(tmp_path, needy, drain={"timeout": "1h", "available": "none"}))
    wait_for(lambda: "admission_delayed" in kinds(seqsup))
    assert "· a waits for memory: " in " ".join(seqsup("status").stdout.split())
    assert "below memory.host_floor" in json.loads(seqsup("status", "--json").stdout)["agents"][0]["delayed"]
    process.send(signal.SIGINT)
    assert process.wait().code == 130
    assert json.loads(seqsup("status", "--json").stdout)["agents"][0]["delayed"] == ""


def test_a_pause_outlives_its_supervisor(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", WAITS), shell("b", "touch ran"))
    process = seqsup_started("start", profile)
    wait_for((tmp_path / "pid").exists)
    assert seqsup("pause").code == 0
    process.send(signal.SIGKILL)
    process.process.wait()
    again = seqsup_started("start", profile, "--resume", "--quiet")
    wait_for(lambda: "paused     by the user; `seqsup resume r1` continues it" in again.stderr)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "gate").touch()
    assert seqsup("resume").code == 0
    assert again.wait().code == 0


def test_a_full_disk_holds_the_next_agent_back_until_there_is_room(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=32m") as disk:
        profile = write(
            tmp_path, shell("a", WAITS), shell("b", "touch ran"),
            run={"state_dir": str(disk / "state"), "disk_floor": "8MiB"},
        )  # fmt: skip
        process = seqsup_started("start", profile)
        wait_for((tmp_path / "pid").exists)
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 26 * MIB)
        (tmp_path / "gate").touch()
        wait_for(lambda: "below run.disk_floor 8 MiB" in process.stderr)
        assert "paused: the state folder's disk" in " ".join(seqsup("status", profile).stdout.split())
        assert not (tmp_path / "ran").exists()
        (disk / "filler").unlink()
        assert process.wait().code == 0, process.stderr
        assert (tmp_path / "ran").exists()
        (paused,) = of(parsed(seqsup("events", profile).stdout), "run_paused")
        assert "MiB free" in paused["why"]


def test_disk_floor_is_small_on_a_small_disk(seqsup: Seqsup, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        profile = write(tmp_path, shell("a", "true"), run={"state_dir": str(disk / "state")})
        assert seqsup("start", profile).code == 0
        assert of(parsed(seqsup("events", profile).stdout), "run_paused") == []
        fill(disk / "filler")


@pytest.mark.parametrize("now", [False, True])
def test_suspended_supervisor_is_reported_and_can_be_stopped(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, now: bool
) -> None:
    process = seqsup_started("start", write(tmp_path, shell("a", WAITS), shell("b", "touch ran")))
    wait_for((tmp_path / "pid").exists)
    process.send(signal.SIGSTOP)
    wait_for(lambda: "SUSPENDED" in seqsup("status").stdout)
    assert f"until `kill -CONT {process.pid}`" in seqsup("status").stdout
    assert json.loads(seqsup("status", "--json").stdout)["suspended"] is True
    stopped = seqsup("stop", *(["--now"] if now else []), deadline=20)
    assert "was suspended" in stopped.stderr
    (tmp_path / "gate").touch()
    assert process.wait().code == (143 if now else 130)
    assert not (tmp_path / "ran").exists()


TRACES = """
import ctypes, os, signal, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
ATTACH, WALL = 16, 0x40000000
signal.alarm(60)
if libc.ptrace(ATTACH, pid, 0, 0):
    sys.exit(99)
os.waitpid(pid, WALL)
print("holds it", flush=True)
while True:
    signal.pause()
"""


def test_supervisor_held_by_a_tracer_is_reported_with_what_releases_it(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    """An agent of its own user may do so: SIGCONT alone does not help."""
    process = seqsup_started("start", write(tmp_path, shell("a", WAITS)))
    wait_for((tmp_path / "pid").exists)
    assert json.loads(seqsup("status", "--json").stdout)["suspended"] is False
    with subprocess.Popen([sys.executable, "-c", TRACES, str(process.pid)], stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"holds it\n":
            pytest.skip("no process may be traced here")
        remedy = f"kill {tracer.pid}; kill -CONT {process.pid}"
        try:
            assert f"SUSPENDED: it watches nothing until `{remedy}`" in seqsup("status").stdout
        finally:
            subprocess.run(["sh", "-c", remedy], check=True)
    wait_for(lambda: "SUSPENDED" not in seqsup("status").stdout)
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


FULL_OF_FILES = "i=0; while true >{disk}/f$i; do i=$((i+1)); done 2>/dev/null; [ -e {disk}/../ok ]"


@pytest.mark.parametrize("beside", ["", "hooks", "companions"])
def test_a_disk_that_takes_no_more_files_ends_the_run_in_order(seqsup: Seqsup, tmp_path: Path, beside: str) -> None:
    with tmpfs(tmp_path / "disk", "size=32m,nr_inodes=100") as disk:
        agents = [shell("a", FULL_OF_FILES.format(disk=disk)), shell("b", "true")]
        run = {"state_dir": str(disk / "state"), "disk_floor": "none", "chain": 1, "on_failure": "continue"}
        keys: dict[str, Any] = {}
        if beside == "hooks":
            keys = {"hooks": {"after_agent": ["true"]}}
        if beside == "companions":
            (tmp_path / "ok").touch()
            keys = {"companions": [{"name": "c", "command": ["sleep", "60"], "ready": {"delay": "1ms"}}]}
        profile = write(tmp_path, *agents, run=run, retry={"attempts": 2, "wait": "1ms"}, **keys)
        stopped = seqsup("start", profile)
        told = " ".join(stopped.stderr.split())
        assert (stopped.code, "No space left on device" in told) == (4, True), stopped.stderr
        assert ("it could not be started" in told) == bool(beside), stopped.stderr
        status = json.loads(seqsup("status", profile, "--json").stdout)
        a = "completed" if beside == "companions" else "gave-up"
        assert [status["state"], *(agent["state"] for agent in status["agents"])] == ["stopped", a, "pending"]
        for filler in disk.glob("f*"):
            filler.unlink()
        write(tmp_path, shell("a", "true"), shell("b", "true"), run=run, **keys)
        assert seqsup("start", profile, "--resume").code == 0


def test_a_folder_that_takes_nothing_more_ends_the_run_in_order(seqsup: Seqsup, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=32m") as disk:
        state = disk / "state"
        sealed = f"mount --bind {state} {state} && mount -o remount,bind,ro {state}; exit 1"
        run, env = {"disk_floor": "none"}, {"SEQSUP_STATE_DIR": str(state)}
        profile = write(tmp_path, shell("a", sealed), run=run, retry={"attempts": 2, "wait": "1ms"})
        stopped = seqsup("start", profile, env=env)
        subprocess.run(["umount", "--lazy", str(state)], check=True)
        assert (stopped.code, "Read-only file system" in " ".join(stopped.stderr.split())) == (4, True), stopped.stderr
        assert "why a failed: exit 1" in stopped.stderr
        write(tmp_path, shell("a", "true"), run=run)
        assert seqsup("start", profile, "--resume", env=env).code == 0
