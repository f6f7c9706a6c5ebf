"""A container's cgroup namespace, writable and not, as engines mount it; run inside, by test_guest.py."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.profiles import agent, write

TOP = Path("/sys/fs/cgroup")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return write(tmp_path, agent("a", ["true"]), memory={"enforce": "cgroup"})


@pytest.fixture
def container() -> Iterator[Path]:
    folder = TOP / "container"
    folder.mkdir()
    yield folder
    folder.rmdir()


def inside(container: Path, profile: Path, options: str) -> "subprocess.CompletedProcess[str]":
    seqsup = shlex.join([sys.executable, "-m", "seqsup", "start", str(profile)])
    script = f"umount {TOP}; mount -t cgroup2 {options} none {TOP}; exec {seqsup}"
    enter = 'echo 0 > "$1"; shift; exec "$@"'
    return subprocess.run(
        ["sh", "-c", enter, "sh", container / "cgroup.procs", "unshare", "--cgroup", "--mount", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_first_process_of_a_container_keeps_limits_by_the_kernel(container: Path, profile: Path) -> None:
    ended = inside(container, profile, "")
    assert ended.returncode == 0, ended.stderr
    assert "in cgroup2\n" in ended.stderr


def test_refusal_says_how_to_start_a_container_whose_cgroups_are_read_only(container: Path, profile: Path) -> None:
    ended = inside(container, profile, "-o ro")
    assert ended.returncode == 3
    assert "Read-only file system" in ended.stderr
    assert "docker run --security-opt writable-cgroups=true" in ended.stderr
