"""Requirements of a guest before it can judge seqsup; run inside, by test_guest.py (hence not called test_*)."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.waiting import wait_for

MIB = 1024 * 1024
LIMIT = 32 * MIB


def write(path: Path, text: str) -> None:
    """With write(2) and its errors: a buffered file's close can swallow them."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def value(path: Path, key: str) -> int:
    return int(dict(line.split() for line in path.read_text().splitlines())[key])


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    """The root of the hierarchy, or our own scope, from which we first have to move ourselves."""
    top = Path("/sys/fs/cgroup" + Path("/proc/self/cgroup").read_text().strip().removeprefix("0::"))
    if os.getuid() == 0:
        yield top
        return
    own = top / "tests"
    own.mkdir()
    for pid in (top / "cgroup.procs").read_text().split():
        write(own / "cgroup.procs", pid)
    write(top / "cgroup.subtree_control", "+memory +pids")
    yield top
    write(top / "cgroup.subtree_control", "-memory -pids")
    for pid in (own / "cgroup.procs").read_text().split():
        write(top / "cgroup.procs", pid)
    own.rmdir()


@pytest.fixture
def group(top: Path) -> Iterator[Path]:
    group = top / "smoke"
    group.mkdir()
    yield group
    write(group / "cgroup.kill", "1")
    wait_for(lambda: value(group / "cgroup.events", "populated") == 0)
    group.rmdir()


def start(group: Path, code: str) -> subprocess.Popen[bytes]:
    enter = f"import os, subprocess, sys; open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
    return subprocess.Popen([sys.executable, "-c", enter + textwrap.dedent(code)])


def test_the_guest_is_what_was_asked_for() -> None:
    assert os.environ["SEQSUP_GUEST"] == {0: "root"}.get(os.getuid(), "user")
    assert (Path("/proc/1/comm").read_text().strip() == "systemd") == (os.getuid() != 0)
    with pytest.raises(OSError, match="Read-only"):
        Path(__file__).touch()


def test_a_limit_ends_the_whole_tree_without_overshoot(group: Path) -> None:
    for name, limit in (("memory.max", LIMIT), ("memory.swap.max", 0), ("memory.oom.group", 1)):
        write(group / name, str(limit))
    grows = f"bytearray(b'x') * {4 * LIMIT}"
    leader = start(group, f"sys.exit(subprocess.call([sys.executable, '-c', {grows!r}]))")
    assert leader.wait(60) == -9
    wait_for(lambda: value(group / "cgroup.events", "populated") == 0)
    assert value(group / "memory.events", "oom_group_kill") == 1
    assert int((group / "memory.peak").read_text()) <= LIMIT


def test_a_tree_is_killed_by_one_write(group: Path) -> None:
    sleeps = "['sleep', '100']"
    leader = start(group, f"subprocess.Popen({sleeps}, start_new_session=True); subprocess.call({sleeps})")
    wait_for(lambda: len((group / "cgroup.procs").read_text().split()) == 3, 30)
    write(group / "cgroup.kill", "1")
    assert leader.wait(10) == -9


def test_the_user_manager_answers() -> None:
    if os.getuid() == 0:
        pytest.skip("root's guest has no systemd")
    runtime = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}  # which conftest.py has replaced
    show = ["systemctl", "--user", "show", "--value", "--property=Version"]
    assert subprocess.check_output(show, env={**os.environ, **runtime}, text=True).strip()
