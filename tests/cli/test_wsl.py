"""seqsup in WSL 2, simulated: the kernel's name, and a mountinfo that says that a folder is a drive of Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT, STUBS
from helpers.profiles import agent, write

SHIM = """#!/bin/sh
NODE_EXE="$(dirname "$0")/node.exe"
exec "$NODE_EXE" "$@"
"""


def in_wsl(folder: Path, *args: object, kind: str = "9p", env: dict[str, str] | None = None) -> Result:
    """Run the command line where the folder `drive` is of this kind."""
    told = folder / "mountinfo"
    told.write_text(f"21 1 8:32 / / rw - ext4 /dev/sdc rw\n22 21 0:30 / {folder / 'drive'} rw - {kind} C: rw\n")
    script = f'mount --bind "{told}" /proc/$$/mountinfo || exit 99; exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "seqsup", *map(str, args)]
    path = f"{folder / 'drive'}:{os.environ['PATH']}"
    given = {"PYTHONPATH": f"{STUBS / 'wsl'}:{ROOT / 'supervisor'}", "PATH": path, **(env or {})}
    ended = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **given}, cwd=folder, timeout=60
    )
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip(f"mounts cannot be changed here: {ended.stderr.strip()}")
    return Result(ended.returncode, ended.stdout, ended.stderr)


def program(file: Path, content: bytes) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (SHIM.encode(), ["claude"]),
        (SHIM.encode(), ["env", "A=1", "claude", "-p"]),
        (SHIM.encode(), ["sh", "-c", "exec claude -p"]),
        (b"MZ\x90\0", ["claude"]),
        (b"MZ\x90\0", ["nice", "claude"]),
    ],
)
def test_plan_warns_of_agent_that_is_windows_program(tmp_path: Path, content: bytes, command: list[str]) -> None:
    program(tmp_path / "drive/claude", content)
    planned = in_wsl(tmp_path, "plan", write(tmp_path, agent("a", command)))
    assert planned.code == 0
    assert "a: a Windows program" in " ".join(planned.stdout.split())


@pytest.mark.parametrize("content", [b"#!/bin/sh\nexec sleep 1\n", b"#!/usr/bin/env python3\n'node.exe'\n"])
def test_script_on_drive_of_windows_that_starts_none_of_its_programs_is_no_warning(
    tmp_path: Path, content: bytes
) -> None:
    program(tmp_path / "drive/claude", content)
    planned = in_wsl(tmp_path, "plan", write(tmp_path, agent("a", ["claude"])))
    assert (planned.code, "Windows program" in planned.stdout) == (0, False)


def test_doctor_warns_of_windows_programs_on_path(tmp_path: Path) -> None:
    program(tmp_path / "drive/codex", SHIM.encode())
    program(tmp_path / "drive/npm", b"MZ\x90\0")
    told = " ".join(in_wsl(tmp_path, "doctor").stdout.split())
    assert "warn Windows" in told
    assert "nor kills them: codex, npm →" in told
    assert "install them inside WSL" in told
    assert "ok codex" not in told


@pytest.mark.parametrize("kind", ["9p", "drvfs", "nfs4", "fuse.sshfs"])
def test_doctor_warns_of_state_folder_on_foreign_file_system(tmp_path: Path, kind: str) -> None:
    state = tmp_path / "drive" / "not" / "yet"
    state.parent.parent.mkdir()
    told = " ".join(in_wsl(tmp_path, "doctor", kind=kind, env={"SEQSUP_STATE_DIR": str(state)}).stdout.split())
    assert f"warn file system {state} is on {kind}" in told
    assert not state.parent.exists()


def test_doctor_is_silent_about_windows_and_file_systems_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    told = in_wsl(tmp_path, "doctor", env={"PYTHONPATH": str(ROOT / "supervisor")}).stdout
    assert "Windows" not in told
    assert "is on 9p" not in told


def test_remedy_without_systemd_names_its_line_in_wsl_conf() -> None:
    program = (
        "from pathlib import Path; from seqsup.containment.cgroup import tiers\n"
        "tiers._systemd_runs, tiers.os.geteuid = lambda: False, lambda: 0\n"
        "print(tiers.remedy())"
    )
    env = {**os.environ, "PYTHONPATH": f"{STUBS / 'wsl'}:{ROOT / 'supervisor'}"}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert "[boot] systemd=true" in ended.stdout
