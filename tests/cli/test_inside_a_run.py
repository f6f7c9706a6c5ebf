"""`seqsup` inside a run: agents, hooks and agents of another user find it on their PATH."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from seqsup.host import installation, users
from seqsup.plan.environment import inherited

Seqsup = Callable[..., Result]
BARE = "/usr/bin:/bin"
COMMAND = ROOT / "supervisor/seqsup/host/bin/seqsup"
PUTS = "seqsup artifacts put --summary 'from $SEQSUP_AGENT'"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that another user can enter."""
    folder = tmp_path
    for each in (folder, *folder.parents[:-1]):
        if each.stat().st_uid == os.geteuid():
            each.chmod(each.stat().st_mode | 0o011)
    return folder


def test_agents_and_hooks_find_the_seqsup_that_runs_them(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("a", PUTS), shell("b", "test '{summary:a}' = 'from $SEQSUP_AGENT'"),
        agent("c", ["seqsup", "--version"]), hooks={"after_agent": ["seqsup mem"]},
    )  # fmt: skip
    result = seqsup("start", profile, env={"PATH": BARE})
    assert result.code == 0, result.stderr
    assert "seqsup " in seqsup("logs", "c").stdout


def test_module_of_another_folder_is_not_taken_for_a_part_of_seqsup(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/click.py").write_text("raise SystemExit('the click of the agent')")
    profile = write(tmp_path, agent("a", ["seqsup", "--version"], cwd="work"))
    assert seqsup("start", profile, env={"PATH": BARE}).code == 0


def test_installed_command_wins(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "seqsup").write_text("#!/bin/sh\necho the installed one\n")
    (tmp_path / "seqsup").chmod(0o755)
    profile = write(tmp_path, agent("a", ["seqsup"], success={"output": "the installed one"}))
    assert seqsup("start", profile, env={"PATH": f"{tmp_path}:{BARE}"}).code == 0


def test_command_says_what_is_missing_outside_of_a_run() -> None:
    result = subprocess.run([COMMAND], env={}, capture_output=True, text=True, check=False)
    assert result.returncode == 127
    assert "SEQSUP_PYTHON is not set" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_agent_of_another_user_finds_it(seqsup: Seqsup, outside: Path) -> None:
    def closed(path: Path) -> bool:
        return any(not each.stat().st_mode & 0o001 for each in path.parents)

    script = f"command -v seqsup >&2; {PUTS}"
    profile = write(outside, shell("a", script), run={"user": "nobody", "state_dir": str(outside / "state")})
    result = seqsup("start", profile)
    said = (outside / "state/runs/r1/a/1/stderr.log").read_text()
    if closed(COMMAND):  # this checkout is in root's home
        assert (result.code, "seqsup: not found" in said) == (1, True), said
        return
    assert said.startswith(f"{COMMAND}\n")
    if closed(Path(sys.executable)) or closed(Path(sys.executable).resolve()):  # and so is Python
        assert result.code == 1
        assert f"this user cannot start {sys.executable}" in said
    else:
        assert result.code == 0, said


def test_process_with_a_path_of_its_own_finds_it(seqsup: Seqsup, tmp_path: Path) -> None:
    script = "echo ready $(command -v seqsup); exec sleep 100"
    companion = {**shell("server", script), "env": {"PATH": BARE}, "ready": {"log": f"ready {COMMAND}"}}
    shown = agent("a", ["seqsup", "--version"], env={"PATH": BARE})
    bare = agent("b", ["/bin/sh", "-c", "seqsup --version"], env={"PATH": ""})
    profile = write(tmp_path, shown, bare, companions=[companion])
    result = seqsup("start", profile)
    assert result.code == 0, result.stderr
    assert "seqsup " in seqsup("logs", "a").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
@pytest.mark.parametrize(("inherit", "env"), [([], {"PATH": BARE}), (["PATH"], {})])
def test_agent_of_another_user_with_a_path_of_its_own_finds_it(
    seqsup: Seqsup, outside: Path, inherit: list[str], env: dict[str, str]
) -> None:
    run = {"user": "nobody", "inherit": inherit, "state_dir": str(outside / "state")}
    result = seqsup("start", write(outside, shell("a", "command -v seqsup", env=env), run=run), env={"PATH": BARE})
    assert result.code == 0, result.stderr
    assert (outside / "state/runs/r1/a/1/stdout.log").read_text() == f"{COMMAND}\n"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_folder_that_another_user_can_write_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    command = tmp_path / "bin/seqsup"
    command.parent.mkdir()
    command.touch()
    monkeypatch.setattr(installation, "_COMMAND", command)
    installation._is_ours.cache_clear()
    assert installation.with_seqsup(BARE) == f"{BARE}:{command.parent}"
    command.parent.chmod(mode)
    if os.geteuid() == 0:
        os.chown(command.parent, 0, 1)
    installation._is_ours.cache_clear()
    assert installation.with_seqsup(BARE) == BARE
    installation._is_ours.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_folder_that_another_user_cannot_enter_is_left_out(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it on PATH a missing command is "permission denied", which programs that try several do not expect."""
    command = outside / "closed/bin/seqsup"
    command.parent.mkdir(parents=True)
    monkeypatch.setattr(installation, "_COMMAND", command)
    monkeypatch.setattr(installation, "_is_ours", lambda: True)
    account = users.look_up("nobody", ("PATH",))
    theirs = f"{outside}/closed:{BARE}"
    for mode, found in ((0o711, True), (0o700, False)):
        command.parent.parent.chmod(mode)
        parts = inherited(account, {"PATH": theirs})["PATH"].split(":")
        assert (":".join(parts[:3]), str(command.parent) in parts) == (theirs, found)


def test_python_that_runs_it_is_that_of_the_supervisor(seqsup: Seqsup, tmp_path: Path) -> None:
    assert seqsup("start", write(tmp_path, shell("a", f"test $SEQSUP_PYTHON = {sys.executable}"))).code == 0
