"""What a sweep finds, and what it must not touch: strangers, live runs, runs that another sweep is recovering."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import agent, of, parsed, shell, write
from helpers.told import Told
from helpers.waiting import alive, wait_for
from seqsup.containment.cgroup.stale import find_stale
from seqsup.host.machine import boot_id
from seqsup.runner.recover import _Left
from seqsup.state.journal import Journal
from seqsup.state.run_folder import KILLED, LOCK, MEMBERS, QUEUE, hold, private, run_folder

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
    assert (swept.code, swept.stdout) == (0, "Nothing to clean up.\n")
    assert alive(int(pid))
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not yet seen"])
def test_live_run_of_a_copied_state_folder_is_not_touched(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, seen: bool
) -> None:
    script = "(exec setsid sleep 60) & echo $! > left; echo $$ > pid; while [ ! -e gate ]; do sleep 0.01; done"
    process = seqsup_started("start", write(tmp_path, shell("a", script)))
    (pid,) = wait_for(lambda: lines(tmp_path / "pid"))
    copy = shutil.copytree(os.environ["SEQSUP_STATE_DIR"], tmp_path / "copy")
    if not seen:  # as a copy may have it that was made while the agent began
        (run_folder(copy, 1) / MEMBERS).write_text("")
    there = {"SEQSUP_STATE_DIR": str(copy)}
    for command in (("sweep", "--dry-run"), ("sweep",)):
        swept = seqsup(*command, env=there)
        assert (swept.code, swept.stdout) == (0, "Nothing to clean up.\n")
    assert alive(int(pid))
    process.send(signal.SIGKILL)
    process.process.wait()
    (left,) = lines(tmp_path / "left")
    assert seqsup("sweep", env=there).code == 0
    wait_for(lambda: not alive(int(left)))


def dead_run(state_dir: Path, members: str, boot: str) -> None:
    """A run as a supervisor that died in this boot, or another, would have left it."""
    with ProcessPoolExecutor(1) as supervisor:
        supervisor.submit(_run_of, state_dir, members, boot).result()


def _run_of(state_dir: Path, members: str, boot: str) -> None:
    journal = Journal.open(state_dir, write=True)
    run = journal.begin("nightly", None, os.urandom(16).hex())
    folder = private(run_folder(state_dir, run))
    (folder / MEMBERS).write_text(members)
    for told in Told().run("a", boot_id=boot, profile=None).attempt_started("a").events:
        journal.append(run, told.body)
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
            assert member.wait(40) == -signal.SIGTERM
        finally:
            member.kill()


def test_damaged_members_file_does_not_delay_a_sweep(seqsup: Seqsup, stub: Stub) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    with subprocess.Popen(stub("silent"), stdin=subprocess.DEVNULL) as member:
        dead_run(state_dir, "", boot_id())
        kept = f"{member.pid} {start_time(member.pid)}\n".encode()
        (run_folder(state_dir, 1) / MEMBERS).write_bytes(b"\xff\0 1\nabc def\n-1 5\n" + kept + b"123 ")
        swept = seqsup("sweep")
        assert swept.code == 0, swept.stderr
        assert member.wait(timeout=40) < 0


@pytest.mark.parametrize("boot", [boot_id(), "another"], ids=["this boot", "another boot"])
def test_dead_run_with_an_unreadable_folder_is_named_and_refuses_a_start_only_if_processes_may_be_left(
    seqsup: Seqsup, tmp_path: Path, boot: str
) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    assert seqsup("run", "--", "true").code == 0
    dead_run(state_dir, "", boot)
    lock = run_folder(state_dir, 2) / LOCK
    lock.symlink_to(LOCK)  # in a circle: that stops root too
    told = f"r2 cannot be read: {lock}: Too many levels"
    listed, status = seqsup("runs"), seqsup("status")
    assert (listed.code, told in listed.stderr, "unknown" in listed.stdout) == (0, True, True), listed
    assert (status.code, told in status.stderr, "unknown whether its supervisor" in status.stdout) == (1, True, True)
    assert seqsup("status", "r1").code == 0
    cleaned = seqsup("artifacts", "clean", "--days", "0", "--dry-run")
    assert (cleaned.code, "r1" in cleaned.stdout, "r2 stays" in cleaned.stderr) == (0, True, True), cleaned
    swept, dry, begun = seqsup("sweep"), seqsup("sweep", "--dry-run"), seqsup("run", "--", "true")
    if boot == boot_id():
        assert (swept.code, dry.code, begun.code) == (1, 1, 125)
        assert all(
            f"Make {lock.parent} readable" in " ".join(each.split())
            for each in (swept.stdout, dry.stdout, begun.stderr)
        ), begun.stderr
    else:
        assert (swept.code, dry.code, begun.code) == (0, 0, 0), begun.stderr
    lock.unlink()
    assert "lost while a ran" in seqsup("sweep").stdout
    lock.unlink()
    lock.symlink_to(LOCK)  # once it is put in order it may be closed
    assert seqsup("run", "--", "true").code == 0


def test_sweep_of_a_live_run_needs_no_list_of_its_members(seqsup: Seqsup) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    dead_run(state_dir, "", boot_id())
    folder = run_folder(state_dir, 1)
    (folder / MEMBERS).unlink()
    (folder / MEMBERS).symlink_to(MEMBERS)
    lock = hold(folder)
    assert (seqsup("sweep").code, seqsup("status").code) == (0, 0)
    os.close(lock)
    assert (seqsup("sweep").code, seqsup("status").code) == (1, 1)


def test_run_that_is_over_is_reported_as_over_though_its_folder_is_unreadable(seqsup: Seqsup) -> None:
    assert seqsup("run", "--", "true").code == 0
    folder = run_folder(Path(os.environ["SEQSUP_STATE_DIR"]), 1)
    for name in (LOCK, MEMBERS):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    status = seqsup("status")
    assert (status.code, "completed" in status.stdout, "r1 cannot be read" in status.stderr) == (0, True, True)
    assert seqsup("sweep").code == seqsup("run", "--", "true").code == 0


def test_status_names_what_outlived_its_supervisor_and_what_stops_it(seqsup: Seqsup, stub: Stub) -> None:
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as member:
        try:
            dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), f"{member.pid} {start_time(member.pid)}\n", boot_id())
            told = " ".join(seqsup("status").stdout.split())
            assert re.search(r"while a ran; still running: .*silent.* MiB; `seqsup sweep` stops them", told), told
            assert member.poll() is None
            assert seqsup("sweep").code == 0
            swept = seqsup("status").stdout
            assert "its supervisor (pid 4711) died; no processes left" in swept
            assert "sweep" not in swept
        finally:
            member.kill()


def test_orphans_without_any_mark_are_stopped_after_a_crash(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, stub: Stub
) -> None:
    """Their environment is cleared and their parent is init: only the list of members names them."""
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


def test_sweep_skips_a_run_that_another_sweep_is_recovering(seqsup: Seqsup) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    dead_run(state_dir, "", boot_id())
    lock = hold(run_folder(state_dir, 1))
    try:
        assert "Nothing to clean up" in seqsup("sweep").stdout
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


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a companion"])
def test_run_whose_folder_is_removed_stops_reports_it_and_resumes(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, beside: bool
) -> None:
    waits = "touch begun; while [ ! -e gate ]; do sleep 0.02; done"
    serves = {"name": "c", "command": ["sh", "-c", "echo ready; exec sleep 60"], "ready": {"log": "ready"}}
    path = write(
        tmp_path, shell("a", waits), shell("b", "true"), companions=[serves] if beside else [],
        hooks={"after_run": ["true"]} if beside else {},
    )  # fmt: skip
    process = seqsup_started("start", path)
    wait_for(lambda: (tmp_path / "begun").exists())
    folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1")
    wait_for(lambda: removed(folder))  # it may be writing there
    (tmp_path / "gate").touch()
    ended = process.wait()
    assert ended.code == 4, ended.stderr
    assert f"its folder {folder} was removed while it was running" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    resumed = seqsup("start", path, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert "1 of them completed before" in resumed.stderr


def test_unreaped_zombie_does_not_delay_a_sweep(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    """An init that does not reap is usual in containers: what it adopted stays in the table of processes for ever."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as zombie:
        start = start_time(zombie.pid)
        wait_for(lambda: not alive(zombie.pid))
        dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), f"{zombie.pid} {start}\n", boot_id())
        swept = seqsup_started("sweep").wait(40)
        assert (swept.code, swept.stdout) == (0, "r1 nightly, lost while a ran: no processes were left\n")


def test_report_that_node_wrote_of_a_lost_attempt_is_kept_without_its_environment(seqsup: Seqsup) -> None:
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    dead_run(state_dir, "", boot_id())
    reports = private(run_folder(state_dir, 1) / "a" / "1" / "reports")
    script = "process.report.excludeEnv = false; process.report.writeReport('report.1.json')"
    env = {**os.environ, "MY_API_KEY": "secret-to-keep"}
    subprocess.run(["node", "-e", script], cwd=reports, env=env, check=True, stderr=subprocess.DEVNULL)
    assert "secret-to-keep" in (reports / "report.1.json").read_text()
    (reports / "report.2.json").write_text('{"environmentVariables": {"MY_API_KEY": "secret-to-keep"')  # cut off
    (reports / "heap-7.heapsnapshot.part").write_text("{")
    assert seqsup("sweep").code == 0
    assert [file.name for file in reports.iterdir()] == ["report.1.json"]
    assert "secret-to-keep" not in (reports / "report.1.json").read_text()
    assert json.loads((reports / "report.1.json").read_bytes())["header"]["trigger"] == "API"


# -- groups of the kernel's


def groups_of(cookie: str) -> list[Path]:
    return find_stale(cookie.startswith)


def swept(seqsup: Seqsup, *options: str) -> list[dict[str, Any]]:
    told = seqsup("sweep", "--json", *options)
    assert told.code == 0, told
    runs: list[dict[str, Any]] = json.loads(told.stdout)["runs"]
    return runs


# It makes cgroups, starts a process without a mark in one of them, and holds until it is killed or told to end.
OWNER = """
import os, subprocess, sys
from seqsup.containment.cgroup import tiers
from seqsup.containment.launcher import wrap
from seqsup.model.enums import Enforce

chosen = tiers.choose(Enforce.AUTO, sys.argv[1])
if chosen.groups is None:
    sys.exit(77)
pid = 0
if sys.argv[2] == "populated":
    group = chosen.groups.make("a", None, None)
    words = [*sys.argv[3:], "--seqsup-test=" + os.environ["SEQSUP_TEST"]]
    child = subprocess.Popen(wrap(words, group.entry), env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE)
    pid = int(child.stdout.readline())
print("ready", pid, flush=True)
sys.stdin.readline()
chosen.close()
"""
HOLDS = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]


@contextmanager
def owner(cookie: str, how: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start a process that makes cgroups; yield it and the pid that it starts in them."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, cookie, how, *HOLDS], env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = process.stdout.readline().split()
        if not said and process.wait() == 77:  # its output ends before the process does
            pytest.skip("no groups here")
        assert said[0] == "ready"
        yield process, int(said[1])
        process.kill()


def test_groups_that_are_in_no_journal_are_found_once_their_owner_is_dead(seqsup: Seqsup) -> None:
    """As a plan or a doctor that was killed in its rehearsal leaves them."""
    with owner(cookie := secrets.token_hex(16), "empty") as (process, _):
        assert groups_of(cookie)
        assert swept(seqsup) == []
        assert groups_of(cookie), "it lives"
        process.kill()
        process.wait()
        left = [str(group) for group in groups_of(cookie)]
        assert [run["groups"] for run in swept(seqsup, "--dry-run")] == [left]
        assert all(f"left cgroup {group}" in " ".join(seqsup("sweep", "--dry-run").stdout.split()) for group in left)
        assert groups_of(cookie), "it only looked"
        assert [(run["groups"], run["groups_remaining"]) for run in swept(seqsup)] == [(left, [])]
    assert groups_of(cookie) == []
    assert seqsup("sweep").stdout == "Nothing to clean up.\n"


def test_process_in_a_cgroup_of_a_dead_owner_is_stopped_without_a_journal(seqsup: Seqsup) -> None:
    with owner(cookie := secrets.token_hex(16), "populated") as (process, pid):
        process.kill()
        process.wait()
        assert alive(pid)
        (run,) = swept(seqsup)
        assert [each["pid"] for each in run["processes"]] == [pid]
        assert not alive(pid)
    assert groups_of(cookie) == []


def test_process_that_an_owner_released_is_left_alone_and_its_cgroup_removed_after_its_exit(seqsup: Seqsup) -> None:
    with owner(cookie := secrets.token_hex(16), "populated") as (process, pid):
        process.communicate("well, end\n")
        assert swept(seqsup) == []
        assert alive(pid)
        assert groups_of(cookie)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))
        wait_for(lambda: seqsup("sweep").code == 0 and groups_of(cookie) == [])


def test_cgroups_of_plan_and_doctor_are_gone_with_them(seqsup: Seqsup, tmp_path: Path) -> None:
    state = Path(os.environ["SEQSUP_STATE_DIR"])
    state.rmdir()
    assert seqsup("plan", write(tmp_path, shell("a", "true"))).code == 0
    seqsup("doctor")
    assert not state.exists()


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_groups_of_a_run_with_a_state_folder_of_its_own_are_found_in_the_queue_where_it_stood(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path, gone: bool
) -> None:
    own = tmp_path / "own"
    profile = write(tmp_path, shell("a", "echo $$ > pid; exec sleep 60"), run={"state_dir": str(own)})
    process = seqsup_started("start", profile)
    wait_for(lambda: lines(tmp_path / "pid"))
    (row,) = Journal.open(own).runs()
    if not groups_of(row.cookie):
        pytest.skip("no groups here")
    process.send(signal.SIGKILL)
    process.process.wait()
    if gone:
        wait_for(lambda: removed(own))  # its sentinel may be writing
    seqsup("sweep")
    assert groups_of(row.cookie) == []
    assert not alive(int(lines(tmp_path / "pid")[0]))


@pytest.mark.parametrize("how", ["pipe", "noise"])
def test_folder_that_only_looks_like_a_run_does_not_block_a_start(seqsup: Seqsup, tmp_path: Path, how: str) -> None:
    if how == "pipe":
        os.mkfifo(tmp_path / QUEUE)
        os.mkfifo(tmp_path / LOCK)
    else:
        (tmp_path / QUEUE).write_bytes(b"\xff" * 100)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "SEQSUP_FOLDER": str(tmp_path)}) as stranger:
        swept = seqsup("sweep")
        assert (swept.code, swept.stdout) == (0, "Nothing to clean up.\n")
        stranger.kill()


def test_kill_by_a_sentinel_is_reported(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    process = seqsup_started("start", write(tmp_path, shell("a", "echo $$ > pid; exec sleep 60")))
    (pid,) = wait_for(lambda: lines(tmp_path / "pid"))
    folder = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / "r1"
    (row,) = Journal.open(folder.parent.parent).runs()
    if not any((group / "cgroup.kill").exists() for group in groups_of(row.cookie)):
        pytest.skip("no sentinel without cgroup.kill")
    process.send(signal.SIGKILL)
    process.process.wait()
    wait_for((folder / KILLED).exists)
    wait_for(lambda: not alive(int(pid)))
    said = seqsup("sweep").stdout
    assert "r1 nightly, lost while a ran: its processes were killed when the supervisor died" in said
    assert not (folder / KILLED).exists()


def test_two_sweeps_at_once_do_not_meet_in_one_run(seqsup: Seqsup, seqsup_started: Start) -> None:
    """One is busy with the first dead run, while another puts the second in order."""
    deaf = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"], stdout=subprocess.PIPE)
    try:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        for members in (f"{deaf.pid} {start_time(deaf.pid)}\n", ""):
            dead_run(Path(os.environ["SEQSUP_STATE_DIR"]), members, boot_id())
        first = seqsup_started("sweep")
        lock = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / "r1" / LOCK
        wait_for(lock.exists)
        second = seqsup("sweep")
        assert ("r2" in second.stdout, "r1" in second.stdout) == (True, False)
        assert deaf.poll() is None
        swept = first.wait()
        assert (swept.code, "r1" in swept.stdout, "r2" in swept.stdout) == (0, True, False), swept
    finally:
        deaf.kill()
        deaf.communicate()


def test_only_members_that_may_be_alive_are_looked_at(stub: Stub) -> None:
    """A sweep looks ten times and more; a week of builds leaves a million lines, and each look took 4 s."""
    state_dir = Path(os.environ["SEQSUP_STATE_DIR"])
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as member:
        try:
            many = "".join(f"{10**7 + n} {n}\n" for n in range(300_000))
            dead_run(state_dir, f"{many}{member.pid} {start_time(member.pid)}\n", boot_id())
            journal = Journal.open(state_dir)
            (row,) = journal.runs()
            left = _Left(journal, state_dir, row)
            began = time.monotonic()
            assert list(left.pids()) == [member.pid]
            assert time.monotonic() - began < 0.5
            journal.close()
        finally:
            member.kill()


def removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
