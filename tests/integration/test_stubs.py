"""The stubs do what their names say: every other test on real processes rests on that."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.waiting import alive, wait_for

MIB = 1024 * 1024
Stub = Callable[..., list[str]]


@contextmanager
def ready(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The program once it has said ready, and the pids it named; killed in the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            word, *pids = process.stdout.readline().split()
            assert word == "ready"
            yield process, [int(pid) for pid in pids]
        finally:
            process.kill()


def end(pid: int) -> None:
    """Kill an orphan and see it gone."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))


@pytest.mark.parametrize("code", [0, 3])
def test_exits_with_the_code(stub: Stub, code: int) -> None:
    with ready(stub("exits", code)) as (process, _):
        assert process.wait(40) == code


@pytest.mark.parametrize(("name", "signum"), [("SEGV", signal.SIGSEGV), ("9", signal.SIGKILL)])
def test_crashes_by_the_signal(stub: Stub, name: str, signum: int) -> None:
    with ready(stub("crashes", name)) as (process, _):
        assert process.wait(40) == -signum


@pytest.mark.memory
def test_grows_to_the_size_and_holds_it(stub: Stub) -> None:
    with ready(stub("grows", 64)) as (process, _):
        assert 64 * MIB < psutil.Process(process.pid).memory_info().rss < 96 * MIB


def test_grows_at_the_rate(stub: Stub) -> None:
    began = time.monotonic()
    with ready(stub("grows", 10, "--rate", 20)):
        assert time.monotonic() - began >= 0.5


def test_deaf_ignores_term(stub: Stub) -> None:
    with ready(stub("deaf")) as (process, _):
        status = Path(f"/proc/{process.pid}/status").read_text()
        ignored = int(status.split("SigIgn:")[1].split()[0], 16)
        assert ignored & 1 << (signal.SIGTERM - 1)


def test_silent_says_one_word_and_lives(stub: Stub) -> None:
    with ready(stub("silent")) as (process, _):
        assert process.poll() is None


def test_forks_a_tree(stub: Stub) -> None:
    with ready(stub("forks", 2, 2)) as (process, pids):
        assert len(pids) == 6
        assert {child.pid for child in psutil.Process(process.pid).children(recursive=True)} == set(pids)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("name", "args"), [("orphans", [2]), ("detaches", []), ("env_cleared", [])])
def test_orphans_outlive_their_leader_in_another_session(stub: Stub, name: str, args: list[int]) -> None:
    with ready(stub(name, *args)) as (process, pids):
        assert len(pids) == (args or [1])[0]
        assert process.wait(40) == 0
        for pid in pids:
            assert os.getsid(pid) != process.pid
            end(pid)


def test_env_cleared_has_no_cookie_but_a_recognisable_argument(stub: Stub, test_id: str) -> None:
    with ready(stub("env_cleared", "--stay")) as (_, [pid]):
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        assert f"--seqsup-test={test_id}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        end(pid)


def test_fork_bomb_refills_what_is_killed_and_stays_bounded(stub: Stub) -> None:
    command = stub("fork_bomb", "tree", 5)

    def burning() -> set[int]:
        return {p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == command and alive(p.pid)}

    with ready(command) as (process, _):
        process.terminate()  # which all its processes ignore
        wait_for(lambda: len(burning()) == 5)
        victim = next(pid for pid in burning() if pid != process.pid)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in burning() and len(burning()) == 5)
        while members := burning():
            for signum in (signal.SIGSTOP, signal.SIGKILL):  # a stopped process does not fork
                for pid in members:
                    with suppress(ProcessLookupError):  # killed by the round before, and gone since
                        os.kill(pid, signum)


# -- the check that no test leaves a process behind

LEAVES_ONE = """
import subprocess
from pathlib import Path

def test_leaves_one(stub):
    Path("said").write_bytes(subprocess.check_output(stub({name!r})))
"""


@pytest.mark.parametrize("name", ["orphans", "env_cleared"])
def test_a_test_that_leaves_a_process_fails_and_the_process_is_stopped(tmp_path: Path, name: str) -> None:
    (tmp_path / "conftest.py").symlink_to(ROOT / "tests" / "conftest.py")
    (tmp_path / "helpers").symlink_to(ROOT / "tests" / "helpers")
    (tmp_path / "test_it.py").write_text(LEAVES_ONE.format(name=name))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    _, pid = (tmp_path / "said").read_text().split()
    assert f"the test left processes behind:\n  {pid} " in ended.stdout.replace("\nE ", "\n")
    wait_for(lambda: not alive(int(pid)))


# -- the command line in tests


def test_seqsup_runs_to_its_end(seqsup: Callable[..., Result]) -> None:
    code, stdout, stderr = seqsup("--version")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("seqsup ")


def test_seqsup_started_is_ended_after_the_test(seqsup_started: Callable[..., Started], stub: Stub) -> None:
    started = seqsup_started("run", "--", *stub("silent"))
    wait_for(lambda: "ready" in started.stdout)
