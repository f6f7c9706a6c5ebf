"""Shared fixtures: a home for each test, real stubs, waiting for facts, and a check that no process is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import settings

from helpers.command_line import MARK, Result, Started, as_in_a_terminal, environment
from helpers.paths import STUBS
from helpers.waiting import DEADLINE
from seqsup.containment.cgroup.files import remove
from seqsup.containment.cgroup.stale import find_stale
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import FILE, JournalError

os.environ.pop("PYTHONUNBUFFERED", None)  # a stub's line is one write, and read whole or not at all
os.umask(0o022)  # seqsup as root believes no file that a group can write


settings.register_profile("untimed", settings.default, deadline=None)


settings.load_profile("untimed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A guest takes minutes, and would delay all others if it came last. So guests come first in a worker's share."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = len(items) // workers
    guests = [item for item in items if item.get_closest_marker("guest")]
    items[:] = [item for item in items if item not in guests]
    for number, guest in enumerate(guests):
        items.insert(number % workers * share, guest)


# -- a home of its own, and nothing left behind


@pytest.fixture(autouse=True)
def test_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the test folders and a cookie of its own; a process that it leaves is stopped, and a failure."""
    name = uuid.uuid4().hex[:12]
    monkeypatch.setenv(MARK, name)
    monkeypatch.setenv("HOME", _folder(tmp_path / "home"))
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SEQSUP_STATE_DIR"):
        monkeypatch.setenv(variable, _folder(tmp_path / "home" / variable.lower()))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("SEQSUP_METRICS_LISTEN", "none")  # two tests at a time, and one default port
    before = _descendants()
    with TemporaryDirectory(prefix="seqsup-") as runtime:  # short: a socket's path must stay below 108 bytes
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield name
        left = _stop_all(name, before)
    _remove_groups(tmp_path)
    if left:
        pytest.fail("\n  ".join(["the test left processes behind:", *left]), pytrace=False)


def _remove_groups(folder: Path) -> None:
    """Remove what supervisors that the test killed have left below the cgroups: it is empty by now."""
    for path in folder.rglob(FILE):
        with contextlib.suppress(JournalError):
            cookies = [row.cookie for row in Journal.open(path.parent).runs()]
            for group in find_stale(lambda prefix: any(cookie.startswith(prefix) for cookie in cookies)):
                remove(group)


def _folder(path: Path) -> str:
    path.mkdir(mode=0o700, parents=True)
    return str(path)


def _stop_all(name: str, before: set[int]) -> list[str]:
    """Stop what is left until a look finds nothing; say what it was."""
    ends = time.monotonic() + 5  # for what is on its way out: a kill takes effect when its victim is next scheduled
    while (left := _left(name, before)) and time.monotonic() < ends:
        time.sleep(0.01)
    seen: dict[int, str] = {}
    ends = time.monotonic() + 30
    while left:
        seen |= {process.pid: line for process, line in left.items()}
        for signum in (signal.SIGSTOP, signal.SIGKILL):  # first none of them may fork
            for process in left:
                _signal(process, signum)
        if time.monotonic() > ends:
            return [*seen.values(), "and they do not die"]
        left = _left(name, before)
    return list(seen.values())


def _left(name: str, before: set[int]) -> dict[psutil.Process, str]:
    """Processes of this test by three signs: the cookie, the argument (where the environment is cleared),
    and descent from this process."""
    found: dict[psutil.Process, str] = {}
    cookie, argument = f"{MARK}={name}\0".encode(), f"--seqsup-test={name}\0".encode()
    ours = _descendants() - before

    def is_ours(pid: int) -> bool:
        return pid in ours or argument in _of(pid, "cmdline") or cookie in _of(pid, "environ")

    for pid in psutil.pids():  # a hundred strangers after each of thousands of tests: for them two reads must do
        if pid == os.getpid() or not is_ours(pid):
            continue
        try:
            process = psutil.Process(pid)  # with its start time: this process, not the next one with its pid
            if process.status() == psutil.STATUS_ZOMBIE:
                _reap(pid)
            elif is_ours(pid):
                found[process] = f"{pid} {_of(pid, 'cmdline').replace(bytes(1), b' ').decode(errors='replace').strip()}"
        except psutil.NoSuchProcess:
            continue
    return found


def _descendants() -> set[int]:
    """Return all descendants of this process: mostly none, which most kernels report without a walk over /proc."""
    try:
        if not any((thread / "children").read_bytes() for thread in Path("/proc/self/task").iterdir()):
            return set()
    except OSError:  # this one does not, or a thread has ended
        pass
    return {child.pid for child in psutil.Process().children(recursive=True)}


def _of(pid: int, file: str) -> bytes:
    """Read a file of a process; nothing where it is gone, or not ours to read."""
    try:
        with open(f"/proc/{pid}/{file}", "rb", buffering=0) as told:  # noqa: PTH123 (a Path costs as much as all of this)
            return told.read()
    except OSError:
        return b""


def _reap(pid: int) -> None:
    """Reap an adopted orphan: if a test has made this process a subreaper, no other process waits for it."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _signal(process: psutil.Process, signum: signal.Signals) -> None:
    try:
        process.send_signal(signum)  # compares the start time first
    except psutil.NoSuchProcess:
        return


# -- stubs


@pytest.fixture
def stub(test_id: str) -> Callable[..., list[str]]:
    """The command line of a small honest program of tests/stubs, for instance `stub("grows", 100)`."""

    def command(name: str, *args: object) -> list[str]:
        python = STUBS / f"{name}.py"
        program = [sys.executable, str(python)] if python.exists() else ["node", str(STUBS / f"{name}.mjs")]
        return [*program, *map(str, args)]

    return command


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Path:
    """A Node binary: the one on PATH, or those of `@npm.each_node`."""
    from helpers import npm

    return npm.node_binary(getattr(request, "param", npm.ON_PATH))


@pytest.fixture
def seqsup(test_id: str, tmp_path: Path) -> Callable[..., Result]:
    """Run the real command line to its end: `seqsup("plan", profile).stdout`."""

    def run(
        *args: object,
        stdin: str = "",
        cwd: Path = tmp_path,
        env: Mapping[str, str] | None = None,
        deadline: float = DEADLINE,
    ) -> Result:
        ended = subprocess.run(
            [sys.executable, "-m", "seqsup", *map(str, args)],
            input=stdin,
            cwd=cwd,
            env=environment(env or {}),
            timeout=deadline,
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def seqsup_started(test_id: str, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start the real command line in the background; whatever becomes of the test, it is ended after it."""
    all_started: list[Started] = []

    def start(
        *args: object, cwd: Path = tmp_path, env: Mapping[str, str] | None = None, through: Sequence[str] = ()
    ) -> Started:
        folder = tmp_path / f"started-{len(all_started)}"
        folder.mkdir()
        with (
            (folder / "stdout").open("wb") as stdout,
            (folder / "stderr").open("wb") as stderr,
            as_in_a_terminal(),
        ):
            process = subprocess.Popen(
                [*through, sys.executable, "-m", "seqsup", *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=environment(env or {}),
                start_new_session=True,  # a Ctrl-C typed at pytest is not meant for it
            )
        all_started.append(Started(process, folder))
        return all_started[-1]

    yield start
    for started in all_started:
        started.end()
