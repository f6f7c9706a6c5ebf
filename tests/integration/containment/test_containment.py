"""Real process trees: an escaped process is found, measured and stopped, and no other process is touched."""

import _thread
import ctypes
import errno
import mmap
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.supervised import supervised, until
from helpers.waiting import DEADLINE, alive, wait_for
from seqsup.containment.cgroup.files import own_directory, remove
from seqsup.containment.cgroup.group import Cgroup, Unavailable
from seqsup.containment.mark import bearers, folders, marks
from seqsup.containment.members import Members, descend
from seqsup.containment.owner import Leader
from seqsup.containment.process import Member, children, environment, linux, read_stat
from seqsup.containment.reaper import Reaper
from seqsup.containment.shared_memory import Holding, look, most, once
from seqsup.containment.stop import stop, stop_leftovers
from seqsup.containment.tree import Tree
from seqsup.host.wake import Wake
from seqsup.model.enums import Measure
from seqsup.model.outcome import Exit
from seqsup.model.process import ProcessMemory
from seqsup.units import MIB

Stub = Callable[..., list[str]]
COOKIE = f"test-containment-{uuid.uuid4().hex}"


@pytest.fixture
def within(tmp_path: Path) -> Callable[..., None]:
    """Run a story with the tree of a command that has said ready, and the pids it named. Nothing may survive it."""

    def run(
        command: list[str],
        story: Callable[[Tree, Wake, list[int]], Awaitable[None]],
        *,
        measure: Measure = Measure.PRIVATE,
    ) -> None:
        said = tmp_path / "said"

        async def whole(reaper: Reaper, wake: Wake) -> None:
            root = spawned(reaper, command, said)
            tree = Tree(reaper, root, measure, ledger, None)
            try:
                words = await until(lambda: said.read_text().rpartition("\n")[0].split(), wake)
                assert words[0] == "ready"
                await story(tree, wake, [int(word) for word in words[1:]])
            finally:
                await stop(tree, wake, grace=0, deadline=10)
                assert tree.living() == 0
                tree.close()

        ledger = os.open(tmp_path / "members", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            supervised(whole)
        finally:
            os.close(ledger)

    return run


def spawned(reaper: Reaper, command: list[str], said: Path) -> Leader:
    with said.open("wb") as output:
        return reaper.spawn(
            command, cwd="/", env={**os.environ, **marks(COOKIE, said.parent, "agent/1")},
            streams=(0, output.fileno(), sys.stderr.fileno()),
        )  # fmt: skip


def pids(tree: Tree) -> set[int]:
    tree.living()
    return {process.pid for process in tree.describe()}


def test_a_member_that_cannot_be_held_is_counted_weighed_and_killed(
    within: Callable[..., None], stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(pid: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        await until(lambda: tree.used() > 2 * MIB, wake)
        assert tree.count() == 1

    monkeypatch.setattr(Member, "open", staticmethod(refused))
    within(stub("hoards", "pages", 8), story)


# -- escaped processes are found

ESCAPES: list[tuple[str, list[object]]] = [
    *[
        ("escapes", list[object]((kind, *leave)))
        for kind in ("child", "setsid", "double-fork", "double-fork-setsid", "own-subreaper")
        for leave in ((), ("--leave",))
    ],
    ("env_cleared", []),
    ("env_cleared", ["--stay"]),
    ("orphans", [3]),
    ("forks", [2, 2]),
    ("detaches", []),
    ("detaches", ["--stay"]),
    ("works_in_thread", []),
]


@pytest.mark.parametrize(("name", "args"), ESCAPES, ids=[" ".join(map(str, [n, *a])) for n, a in ESCAPES])
def test_escaped_process_is_found_and_killed(
    within: Callable[..., None], stub: Stub, name: str, args: list[object]
) -> None:
    escaped: list[int] = []

    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        escaped.extend(named)
        assert named
        await until(lambda: set(named) <= pids(tree), wake)
        if "--leave" in args or name in ("orphans",):
            ending = await until(lambda: tree.ending(), wake)
            assert ending == Exit(code=0, signal=None)
            await until(lambda: set(named) == pids(tree), wake)

    within(stub(name, *args), story)
    assert not any(map(alive, escaped))


def test_a_process_that_was_there_before_is_no_member(within: Callable[..., None], stub: Stub) -> None:
    """`server & exec seqsup start`: the process that the shell started is our child, but not part of the agent."""
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as before:

        async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
            assert pids(tree) == {tree.leader}

        within(stub("silent"), story)
        survived = before.poll() is None
        before.kill()
    assert survived


def test_the_ledger_names_each_member_with_its_start(within: Callable[..., None], stub: Stub, tmp_path: Path) -> None:
    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        tree.living()
        lines = {tuple(map(int, line.split())) for line in (tmp_path / "members").read_text().splitlines()}
        for pid in (tree.leader, *named):
            stat = read_stat(pid)
            assert stat is not None
            assert (pid, stat.start) in lines

    within(stub("forks", 2, 1), story)


def test_a_child_born_between_two_looks_is_measured_with_the_next(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        tree.used()
        (member,) = tree._members.living()
        member.send(signal.SIGUSR1)
        await until(lambda: tree.used() > 0 and tree.count() == 2, wake)

    births = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os.fork())\n"
        "print('ready', flush=True)\n"
        f"{HEARS}"
    )
    within([sys.executable, "-c", births], story)


# A signal just before a sleep does not end it
HEARS = "while True: time.sleep(0.1)\n"

BIRTHS = {
    "child": "os.fork()",
    "orphan": "os.fork() or os.fork() and os._exit(0)",
    "grandchild": "os.fork() or os.fork()",
    "child of a thread, after other threads": (
        "[threading.Thread(target=time.sleep, args=[60], daemon=True).start() for _ in range(3)],"
        "threading.Thread(target=lambda: os.fork() or time.sleep(60), daemon=True).start()"
    ),
}


SIBLINGS = 8  # enough that a look at new pids is cheaper than a walk


def descendants() -> set[int]:
    found = psutil.Process().children(recursive=True)
    return {process.pid for process in found if process.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("how", BIRTHS)
def test_new_process_is_found_without_a_walk(within: Callable[..., None], how: str) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        assert tree.living() == 1 + SIBLINGS
        tree.search._walk_cost = inf
        os.kill(tree.leader, signal.SIGUSR1)
        await until(lambda: tree.used() > 0 and tree.count() > 1 + SIBLINGS, wake)
        await until(lambda: tree.used() > 0 and set(tree.pids()) >= descendants(), wake)

    births = (
        "import os, signal, threading, time\n"
        f"any(os.fork() == 0 for _ in range({SIBLINGS})) and signal.pause()\n"
        f"signal.signal(signal.SIGUSR1, lambda *_: ({BIRTHS[how]}))\n"
        "print('ready', flush=True)\n"
        f"{HEARS}"
    )
    within([sys.executable, "-c", births], story)


# -- measuring


@pytest.mark.memory
@pytest.mark.parametrize("measure", [Measure.PRIVATE, Measure.RSS, Measure.PSS])
def test_the_sum_agrees_with_psutil(
    within: Callable[..., None], monkeypatch: pytest.MonkeyPatch, measure: Measure
) -> None:
    monkeypatch.setattr(linux, "_NEWBORN", 0.0)

    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        tree.living()
        used = tree.used()
        expected = 0
        for pid in pids(tree):
            info = psutil.Process(pid).memory_full_info()
            expected += {
                Measure.PRIVATE: info.rss - info.shared, Measure.RSS: info.rss, Measure.PSS: info.pss
            }[measure]  # fmt: skip
        assert used == pytest.approx(expected, abs=2 * MIB)
        assert used > 3 * 40 * MIB

    program = (
        "import os, signal\n"
        "reading, writing = os.pipe()\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0: break\n"
        "held = b'x' * (40 << 20)\n"
        "os.write(writing, b'x')\n"
        "if os.getpid() == os.getpgid(0):\n"
        "    for _ in range(3): os.read(reading, 1)\n"
        "    print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    within([sys.executable, "-c", program], story, measure=measure)


def test_processes_with_a_name_and_those_that_run_the_same_program_add_up(within: Callable[..., None]) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.living() == 31, wake)
        await until(lambda: sum(each.count for each in tree.describe() if each.name == "sleep") == 30, wake)
        used, named = tree.used(), tree.describe()
        assert sum(process.bytes for process in named) == pytest.approx(used, abs=MIB)
        assert len(named) < 12

    within(["sh", "-c", "for i in $(seq 30); do sleep 60 & done; echo ready; wait"], story)


@pytest.mark.memory
def test_shared_memory_is_named(within: Callable[..., None]) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.used() > 40 * MIB, wake)
        (shared,) = (process for process in tree.describe() if not process.pid)
        assert shared.name == "shared memory and tmpfs"
        assert shared.bytes == pytest.approx(40 * MIB, abs=2 * MIB)

    takes = "import mmap; held = mmap.mmap(-1, 40 << 20); held.write(b'x' * (40 << 20)); print('ready', flush=True)"
    within([sys.executable, "-c", f"{takes}; import signal; signal.alarm(60); signal.pause()"], story)


class Overfull:
    """A cgroup in which the kernel has started to kill, or not yet."""

    kills = 0

    def pids(self) -> list[int]:
        return []

    tasks = figures = kill = pids
    weighed = staticmethod(psutil.pids)

    def used(self) -> int:
        return 0

    def oom_kills(self) -> int:
        return self.kills


def test_memory_is_reported_as_it_was_before_the_kernel_killed(within: Callable[..., None], stub: Stub) -> None:
    """The report of a kill may come second, when the remaining memory explains nothing."""

    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        tree._group = group = cast("Cgroup", Overfull())
        whole = tree.held()
        assert [process.pid for process in whole] == [tree.leader]
        assert whole[0].bytes
        tree.send(signal.SIGKILL)
        await until(lambda: not tree._members.holds(tree.leader), wake)
        cast("Overfull", group).kills = 1
        assert tree.held() == whole

    within(stub("silent"), story)


class Listed(Overfull):
    """A group of the kernel's that has these."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = lambda: pids  # type: ignore[method-assign]


@pytest.mark.memory
def test_process_in_the_cgroup_is_named_before_a_walk_finds_it(within: Callable[..., None]) -> None:
    """Where a walk takes long the next is not due yet: what he held was called shared memory."""

    async def story(tree: Tree, wake: Wake, born: list[int]) -> None:
        tree._group = tree.search._group = cast("Cgroup", Listed([tree.leader, *born]))
        named = tree.describe(40 * MIB)
        tree._group = tree.search._group = None
        assert [process.pid for process in named if process.bytes > 30 * MIB] == born
        assert all(process.pid for process in named)

    program = (
        "import os, signal\n"
        "if child := os.fork(): signal.pause()\n"
        "held = b'x' * (40 << 20)\n"
        "print('ready', os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    within([sys.executable, "-c", program], story)


FORKS = """
import mmap, os, signal, sys
how, held = sys.argv[1], mmap.mmap(-1, 60 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held.madvise(mmap.MADV_NOHUGEPAGE)
def write():
    for at in range(0, len(held), 4096): held[at] = 1
write()
signal.alarm(60)
if how == "spawns":
    os.mkfifo("pipe")
    print('ready', flush=True)
    os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 9, "pipe", os.O_RDONLY, 0)])
elif not os.fork():
    if how == "writes": write()
    again = "held = b'x' * (60 << 20); print('ready', flush=True); import signal; signal.pause()"
    if how == "execs": os.execv(sys.executable, [sys.executable, "-c", again])
    print('ready', flush=True)
signal.pause()
"""


@pytest.mark.memory
@pytest.mark.parametrize(
    ("how", "measure", "counted"),
    [
        *(("spawns", measure, 1) for measure in list(Measure)[:3]),
        ("forks", Measure.PRIVATE, 1), ("forks", Measure.PSS, 1),
        *((how, measure, 2) for how in ("writes", "execs") for measure in list(Measure)[:3]),
    ],
)  # fmt: skip
def test_process_between_fork_and_exec_is_not_charged_the_memory_of_its_parent(
    within: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, measure: Measure,
    counted: int,
) -> None:  # fmt: skip
    """Between fork and exec a child shows its parent's memory, so an agent that starts `true` would count twice."""

    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.living() == 2, wake)
        assert counted * 60 * MIB <= await until(tree.used, wake) <= (counted * 60 + 50) * MIB
        used = tree.used()
        assert sum(process.bytes for process in tree.describe()) == pytest.approx(used, abs=MIB)

    monkeypatch.setattr(linux, "_NEWBORN", inf)
    within([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{FORKS}", how], story, measure=measure)


def test_child_that_never_execs_is_charged_in_the_end(
    within: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.living() == 2, wake)
        await until(lambda: tree.used() >= 2 * 60 * MIB, wake)

    monkeypatch.setattr(linux, "_NEWBORN", 0.1)
    within([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{FORKS}", "forks"], story)


@pytest.mark.memory
@pytest.mark.parametrize("measure", list(Measure)[:3])
def test_child_that_execs_late_is_not_charged_the_memory_of_its_parent(
    within: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measure: Measure
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.living() == 2, wake)
        for _look in range(3):
            assert 60 * MIB <= tree.used() < 1.5 * 60 * MIB

    monkeypatch.setattr(linux, "_NEWBORN", -1.0)
    within([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{FORKS}", "spawns"], story, measure=measure)


@pytest.mark.memory
@pytest.mark.parametrize(("how", "counted"), [("execs", 2), ("writes", 2), ("forks", 1)])
def test_process_that_cannot_be_held_without_descriptors_is_measured_and_named_as_others(
    within: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, counted: int
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.living() == 2, wake)
        await until(lambda: tree.used() >= counted * 60 * MIB, wake)
        assert tree.used() < (counted + 0.5) * 60 * MIB
        assert [process.name for process in tree.describe()] == ["other"]

    monkeypatch.setattr(linux, "_SPARE", inf)
    within([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{FORKS}", how], story)


MAPS = """
import mmap, os, signal, sys
how, size, mib = sys.argv[1], int(sys.argv[2]) << 20, 1 << 20
if how == "file":
    fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
else:
    fd = -1 if how == "anonymous" else os.memfd_create("x")
    how == "anonymous" or os.ftruncate(fd, size * (4 if how == "sparse" else 1))
common = mmap.mmap(fd, size * (4 if how == "sparse" else 1))
reading, writing = os.pipe()
for _ in range(2):
    if not os.fork():
        break
for at in range(0, size, mib):
    common[at : at + mib] = bytes(mib)
os.write(writing, b"x")
if os.getpid() == os.getpgid(0):
    for _ in range(3):
        os.read(reading, 1)
    print("ready", flush=True)
signal.alarm(60)
signal.pause()
"""


@pytest.mark.memory
@pytest.mark.parametrize(("how", "counted"), [("anonymous", 150), ("memfd", 150), ("sparse", 150), ("file", 0)])
def test_memory_that_three_processes_map_counts_once_and_a_file_does_not_count(
    within: Callable[..., None], how: str, counted: int
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        assert tree.living() == 3
        private = sum(member.measure(Measure.PRIVATE) for member in tree._members.living())
        used = await until(lambda: (used := tree.used()) >= counted * MIB * 0.97 and used, wake)
        assert used <= private + (counted + 4) * MIB

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # on a disk, where /tmp may be memory
        within([sys.executable, "-c", f"import os; os.chdir({folder!r})\n{MAPS}", how, "150"], story)


def test_mapping_may_have_any_name() -> None:
    """Python's lines end at more than the kernel's: by a name an agent could end its supervisor."""
    fd = os.memfd_create("a\r\f\x1e\u2028b")
    os.ftruncate(fd, MIB)
    with mmap.mmap(fd, MIB) as mapped:
        os.close(fd)
        mapped[:] = bytes(MIB)
        holding = look(os.getpid())
    assert holding.mapped is not None
    assert holding.resident >= MIB
    assert sum(holding.mapped.values()) >= MIB


# which pages of which segments each process has; all segments are of ten pages
processes = st.lists(
    st.dictionaries(st.integers(0, 4), st.sets(st.integers(0, 9)), max_size=4), min_size=1, max_size=5
)  # fmt: skip


def held(process: dict[int, set[int]], *, known: bool = True) -> Holding:
    mapped = {("00:01", str(segment)): 10 for segment in process}
    return Holding(sum(map(len, process.values())), mapped if known else None)


@given(processes, st.booleans())
def test_shared_memory_is_never_weighed_above_what_it_is(tree: list[dict[int, set[int]]], known: bool) -> None:
    truth = len({(segment, page) for process in tree for segment, pages in process.items() for page in pages})
    weighed = once([held(process, known=known or at > 0) for at, process in enumerate(tree)])
    assert max(sum(map(len, process.values())) for process in tree) <= weighed <= truth


@given(processes)
def test_shared_memory_counts_at_least_what_is_resident(tree: list[dict[int, set[int]]]) -> None:
    truth = len({(segment, page) for process in tree for segment, pages in process.items() for page in pages})
    counted = most([held(process) for process in tree])
    assert truth <= counted <= min(sum(len(pages) for process in tree for pages in process.values()), 50)


@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=5))
def test_segments_in_use_as_a_whole_by_all_or_by_one_are_weighed_as_they_are(own: list[set[int]]) -> None:
    whole = set(range(10))
    tree = [{0: whole} | {10 * n + segment: whole for segment in some} for n, some in enumerate(own, 1)]
    assert once([held(process) for process in tree]) == most([held(process) for process in tree])
    assert once([held(process) for process in tree]) == 10 * (1 + sum(map(len, own)))


@pytest.mark.memory
def test_memory_of_a_process_that_is_gone_is_zero(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        assert tree.used() > 30 * MIB
        tree.send(signal.SIGKILL)
        await until(lambda: tree.ending(), wake)
        assert tree.used() == 0
        assert tree.count() == 0

    within(stub("grows", 32), story)


@pytest.mark.memory
def test_process_whose_first_thread_has_exited_is_measured_by_the_others(
    within: Callable[..., None], stub: Stub
) -> None:
    """The kernel shows no figures under its pid then, and calls it a zombie."""

    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: psutil.Process(tree.leader).status() == psutil.STATUS_ZOMBIE, wake)
        assert tree.living() == 1
        assert 40 * MIB < tree.used() < 60 * MIB

    program = (
        "import ctypes, threading, time\n"
        "def hold():\n"
        "    held = b'x' * (40 << 20)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "threading.Thread(target=hold).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    within([sys.executable, "-c", program], story)


# -- one process


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def opened(pid: int) -> Member:
    member = Member.open(pid)
    assert member is not None
    return member


def test_member_is_its_process_and_not_the_next_one_with_its_pid(stub: Stub) -> None:
    with running(stub("silent")) as process:
        member = opened(process.pid)
        stat = read_stat(process.pid)
        assert stat is not None
        assert member.start == stat.start
        assert member.measure(Measure.PRIVATE) > 0
        assert not member.gone()
        process.kill()
        wait_for(member.gone)
        with pytest.raises(ProcessLookupError):  # a zombie
            member.measure(Measure.RSS)
        assert Member.open(process.pid) is None
        process.wait()
        with pytest.raises(ProcessLookupError):
            member.measure(Measure.RSS)
        with pytest.raises(ProcessLookupError):
            member.measure(Measure.PSS)
        assert not member.send(signal.SIGKILL)
        assert member.describe().pid == process.pid  # another process may have the pid now: nothing is raised
        member.close()


def test_frozen_process_is_reported_with_what_thaws_it() -> None:
    """SIGKILL waits until it is thawed. Reported as uninterruptible sleep, it would seem beyond help."""
    try:
        folder = own_directory("freezer") / f"test-{os.getpid()}"
        folder.mkdir()
    except (OSError, Unavailable) as error:
        pytest.skip(f"no freezer of cgroup v1 here: {error}")
    state = folder / "freezer.state"
    with subprocess.Popen(["sleep", "60"]) as process:
        member = Member.open(process.pid)
        assert member is not None
        try:
            (folder / "cgroup.procs").write_text(str(process.pid))
            state.write_text("FROZEN")
            wait_for(lambda: state.read_text() == "FROZEN\n")
            member.send(signal.SIGKILL)
            assert member.holdup() == f"frozen, until `echo THAWED >{state}`"
        finally:
            state.write_text("THAWED")
            process.kill()
            member.close()
    wait_for(lambda: remove(folder))


HOLDS = """
import sys, time
held = bytearray(b"x") * int(sys.argv[1])
print("ready", flush=True)
time.sleep(100)
"""


@contextmanager
def holding(size: int) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(size)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def members_of(*processes: "subprocess.Popen[bytes]") -> Members:
    members = Members()
    for process in processes:
        members.add(process.pid)
    members.used()
    return members


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208


@contextmanager
def kept_from_its_end(pid: int) -> Iterator[None]:
    """Stop a process, by ptrace(2), where it was killed and has its memory still."""
    libc = ctypes.CDLL(None, use_errno=True)
    seize, trace_exit, detach = 0x4206, 0x40, 17
    if libc.ptrace(seize, pid, None, ctypes.c_void_p(trace_exit)):
        pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.ptrace(detach, pid, None, None)


@pytest.mark.skipif(tuple(map(int, platform.release().split(".")[:2])) < (5, 15), reason="no process_mrelease")
def test_largest_process_is_killed_last_and_its_memory_freed_before_it_exits() -> None:
    with holding(128 * MIB) as large, holding(16 * MIB) as small:
        members, process = members_of(large, small), psutil.Process(large.pid)
        with kept_from_its_end(large.pid):
            members.kill_and_free()
            assert small.wait(DEADLINE) == -signal.SIGKILL  # it could see the other's exit, and still run
            wait_for(lambda: process.memory_info().rss < 64 * MIB)
            assert alive(large.pid)
        assert large.wait(DEADLINE) == -signal.SIGKILL
        members.close()


def test_kernel_alone_frees_a_killed_process_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with holding(64 * MIB) as one:
        members, before = members_of(one), open_files()
        members.kill_and_free()
        assert alive(one.pid)
        assert open_files() == before
        members.send(signal.SIGKILL)
        assert one.wait(DEADLINE) == -signal.SIGKILL
        members.close()


def test_member_set_drops_a_process_that_is_gone(stub: Stub) -> None:
    members = Members()
    with running(stub("silent")) as one, running(stub("silent")) as other:
        assert members.add(one.pid)
        assert members.add(one.pid) is None
        members.add(other.pid)
        one.kill()
        one.wait()
        assert members.used() > 0
        assert len(members) == 1
        other.kill()
        wait_for(lambda: not members.living())
    members.close()


CHANGES = """
import mmap, os, sys
held = []
for line in map(str.strip, sys.stdin):
    if line == "private": held.append(b"x" * (4 << 20))
    if line == "shared":
        held.append(mmap.mmap(-1, 8 << 20)); held[-1].write(b"x" * (8 << 20))
    if line == "zombie": pid = os.fork() or os._exit(0); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print("ready", pid if line == "zombie" else "", flush=True)
"""


@pytest.mark.parametrize(
    ("told", "all_get_them"), [("[always] madvise never", True), ("always [madvise] never", False)]
)
def test_the_host_says_whether_all_get_huge_pages(tmp_path: Path, told: str, all_get_them: bool) -> None:
    (tmp_path / "enabled").write_text(told)
    asks = f"from seqsup.host.machine import Host; assert Host().huge_pages is {all_get_them}"
    mounted_over("/sys/kernel/mm/transparent_hugepage/enabled", tmp_path / "enabled", asks)


def mounted_over(file: str, other: Path, asks: str, *words: str) -> None:
    """Run a program that gets this file's name and these words, where the file is another."""
    over = 'mount --bind "$0" "$1" || exit 99; shift; exec "$@"'
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", over, str(other), file]
    ended = subprocess.run(
        [*namespaces, sys.executable, "-c", asks, file, *words], capture_output=True, text=True, check=False
    )  # fmt: skip
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr


def test_process_is_named_by_the_program_that_it_became() -> None:
    members = Members()
    words = ["sh", "-c", "echo ready; read line; exec sleep 1000"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()

        def named() -> str:
            members.used()
            return members.describe()[0].command

        members.add(process.pid)
        assert named() == named() == " ".join(words)
        process.stdin.write("\n")
        process.stdin.close()
        wait_for(lambda: named() == "sleep 1000")
        process.kill()
    members.close()


def test_exiting_process_is_named_by_the_program_that_it_ran() -> None:
    """It has lost its command line."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        member = Member.open(process.pid)
        assert member is not None
        wait_for(lambda: member.describe().command == "sleep 1000")
        process.kill()
        wait_for(lambda: not Path(f"/proc/{process.pid}/cmdline").read_bytes())
        assert member.describe().command == "sleep 1000"
        member.close()


@pytest.mark.parametrize("name", ["a) Z 1 (b", "with space", ")", "(("])
def test_a_name_of_brackets_and_spaces_is_read(tmp_path: Path, name: str) -> None:
    program = f"import ctypes; ctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stat = read_stat(process.pid)
        process.kill()
    assert stat is not None
    assert (stat.name, stat.parent) == (name, os.getpid())


def test_process_that_does_not_exist_has_no_stat_no_children_and_no_environment() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert read_stat(process.pid) is None
    assert children(process.pid) == []
    assert environment(process.pid, b"PATH") == {}
    assert Member.open(process.pid) is None
    assert list(descend([process.pid])) == [process.pid]


# -- killing

# Each comet is 1,000 new processes a second: of more, on two busy cores, only a group is the master
BOMB = {"tree": 40, "setsid": 40, "comet": 8}


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("kind", ["tree", "setsid", "comet"])
def test_a_fork_bomb_is_killed_to_the_last(within: Callable[..., None], stub: Stub, kind: str, attempt: int) -> None:
    command = stub("fork_bomb", kind, BOMB[kind])

    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        assert tree.living()
        await stop(tree, wake, grace=0, deadline=10)
        assert tree.living() == 0

    within(command, story)


@pytest.mark.parametrize("kind", ["tree", "setsid", "comet"])
def test_a_fork_bomb_that_bears_the_mark_is_stopped_from_outside(stub: Stub, tmp_path: Path, kind: str) -> None:
    """As `sweep` does it: no descent from us, only the mark in the environment."""
    said = tmp_path / "said"

    async def story(reaper: Reaper, wake: Wake) -> None:
        spawned(reaper, stub("fork_bomb", kind, BOMB[kind]), said)
        await until(said.read_text, wake)
        stopped, remaining = await stop_leftovers(lambda: bearers(COOKIE), wake, grace=0.1, deadline=DEADLINE)
        assert stopped
        assert not remaining
        assert not list(bearers(COOKIE))

    supervised(story)


def test_the_stopped_and_the_deaf_die_too(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        tree.send(signal.SIGSTOP)
        await until(lambda: psutil.Process(tree.leader).status() == psutil.STATUS_STOPPED, wake)
        await stop(tree, wake, grace=0, deadline=10)
        assert tree.ending() == Exit(code=None, signal=signal.SIGKILL)

    within(stub("deaf"), story)


def test_released_process_survives_is_not_a_member_again_and_its_memory_is_known(
    within: Callable[..., None], stub: Stub
) -> None:
    let_go: list[int] = []

    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        let_go.extend(named)
        reaper = tree._owner
        assert isinstance(reaper, Reaper)
        await until(lambda: tree.ending(), wake)
        tree.release(("orphans.py",))
        assert tree.living() == 0
        assert reaper.let_go_bytes() > 0
        await stop(tree, wake, grace=0, deadline=10)
        assert all(map(alive, named))
        os.kill(named[0], signal.SIGKILL)
        await until(lambda: not alive(named[0]), wake)
        reaper.reap()
        assert reaper.let_go() == {named[1]}

    within(stub("orphans", 2), story)
    os.kill(let_go[1], signal.SIGKILL)
    wait_for(lambda: not alive(let_go[1]))


def test_process_that_a_released_one_starts_later_is_released_too(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        reaper = tree._owner
        assert isinstance(reaper, Reaper)
        await until(lambda: tree.ending(), wake)
        tree.release(("",))
        (server,) = named
        os.kill(server, signal.SIGUSR1)
        (late,) = await until(lambda: children(server), wake)
        assert tree.living() == 0
        for pid in (server, late):
            os.kill(pid, signal.SIGKILL)

    program = (
        "import os, signal, time\n"
        "signal.signal(10, lambda *_: os.fork())\n"
        "pid = os.fork()\n"
        "if pid: print('ready', pid, flush=True)\n"
        "else:\n  os.setsid()\n"
        f"  {HEARS}"
    )
    within([sys.executable, "-c", program], story)


# -- the mark


def test_the_mark_finds_its_bearers_and_their_folder(stub: Stub, tmp_path: Path) -> None:
    said = tmp_path / "said"

    async def story(reaper: Reaper, wake: Wake) -> None:
        root = spawned(reaper, stub("orphans", 2), said)
        named = {int(pid) for pid in (await until(said.read_text, wake)).split()[1:]}
        await until(lambda: reaper.ending(root), wake)
        assert set(bearers(COOKIE)) == named
        assert set(bearers(COOKIE, except_pids=frozenset(list(named)[:1]))) == set(list(named)[1:])
        assert not list(bearers(COOKIE[:-1]))
        assert {pid for pid, folder in folders() if folder == tmp_path} == named
        stopped, remaining = await stop_leftovers(lambda: bearers(COOKIE), wake, grace=5, deadline=DEADLINE)
        assert {process.pid for process in stopped} == named
        assert not remaining

    supervised(story)


@pytest.mark.parametrize(("name", "grace"), [("silent", 30.0), ("deaf", 0.2)])
def test_stop_is_polite_first_and_then_not(stub: Stub, tmp_path: Path, name: str, grace: float) -> None:
    said = tmp_path / "said"

    async def story(reaper: Reaper, wake: Wake) -> None:
        root = spawned(reaper, stub(name), said)
        await until(said.read_text, wake)
        (stopped,), remaining = await stop_leftovers(lambda: bearers(COOKIE), wake, grace=grace, deadline=DEADLINE)
        assert stopped.pid == root.pid
        assert not remaining
        expected = signal.SIGTERM if name == "silent" else signal.SIGKILL
        assert reaper.ending(root) == Exit(code=None, signal=expected)

    supervised(story)


def test_stop_without_a_process() -> None:
    async def story(reaper: Reaper, wake: Wake) -> None:
        assert await stop_leftovers(list, wake, grace=1, deadline=2) == ((), ())

    supervised(story)


# -- the reaper


@pytest.mark.parametrize(
    ("name", "args", "ending"),
    [
        ("exits", [7], Exit(code=7, signal=None)),
        ("exits", [0], Exit(code=0, signal=None)),
        ("crashes", ["SEGV"], Exit(code=None, signal=signal.SIGSEGV)),
    ],
)
def test_exit_status_of_each_process_is_reported(
    within: Callable[..., None], stub: Stub, name: str, args: list[object], ending: Exit
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        assert await until(lambda: tree.ending(), wake) == ending

    within(stub(name, *args), story)


def test_process_that_got_the_pid_of_a_leader_does_not_change_how_that_exited(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its leftover process runs, pids may be reused."""

    async def story(reaper: Reaper, wake: Wake) -> None:
        root = spawned(reaper, stub("exits", 0), tmp_path / "said")
        await until(lambda: reaper.ending(root), wake)
        ends = iter([(root.pid, 7 << 8), (0, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(os, "waitpid", lambda *_: next(ends))
            reaper.reap()
        assert reaper.ending(root) == Exit(code=0, signal=None)

    supervised(story)


def test_however_many_end_the_watch_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six programs that fork all the time held it up for half a second on two processors."""

    async def story(reaper: Reaper, wake: Wake) -> None:
        ends, woken = iter([*[(2**22, 0)] * 5000, (0, 0)]), []
        with monkeypatch.context() as patched:
            patched.setattr(os, "waitpid", lambda *_: next(ends, (0, 0)))
            reaper.woken = lambda: woken.append(reaper.reap())
            os.kill(os.getpid(), signal.SIGCHLD)
            await until(lambda: woken, wake)
            assert not woken[0]
            await until(lambda: woken[-1], wake)  # the rest is collected without another signal
        assert len(woken) > 10

    supervised(story)


def test_orphans_of_an_agent_are_reaped_so_that_no_zombie_stays(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
        for pid in named:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(map(psutil.pid_exists, named)), wake)

    within(stub("orphans", 2), story)


def test_zombies_of_a_living_parent_are_neither_counted_nor_found_twice(
    within: Callable[..., None], stub: Stub
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: len(children(tree.leader)) == 300 and tree.search.walk() == 0, wake)
        await until(lambda: tree.used() > 0 and tree.living() == tree.count() == 1, wake)  # the last may live yet

    within(stub("swarm", "zombies", 300), story)


def test_a_member_that_became_a_zombie_is_dropped_when_it_is_measured(within: Callable[..., None], stub: Stub) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        def found() -> set[int]:
            tree.search.walk()
            return set(tree.pids()) - {tree.leader}

        await until(lambda: len(found()) == 20, wake)
        slept = found()
        for pid in slept:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(map(alive, slept)), wake)
        tree.used()
        assert tree.pids() == (tree.leader,)

    within(stub("swarm", "sleepers", 20), story)


_TRACES = """
import ctypes, os, sys
pid = int(sys.stdin.readline())
print(ctypes.CDLL(None, use_errno=True).ptrace(0x4206, pid, None, None), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="calls ptrace(2) by its number there")
def test_a_zombie_that_another_program_keeps_is_no_survivor(within: Callable[..., None], stub: Stub) -> None:
    """A debugger outside of the tree has the first word about its end."""
    command = [sys.executable, "-c", _TRACES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdin
        assert tracer.stdout

        async def story(tree: Tree, wake: Wake, named: list[int]) -> None:
            assert tracer.stdin
            assert tracer.stdout
            tracer.stdin.write(f"{named[0]}\n")
            tracer.stdin.flush()
            if tracer.stdout.readline() != "0\n":
                pytest.skip("no process may be traced here")
            assert await stop(tree, wake, grace=0, deadline=DEADLINE) is None
            assert not alive(named[0])
            tracer.stdin.close()
            tracer.wait()

        within(stub("orphans", 1), story)


def test_a_walk_that_takes_long_is_interrupted_and_proves_nothing(
    within: Callable[..., None], stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(tree: Tree, wake: Wake, _: list[int]) -> None:
        await until(lambda: tree.search.walk() == 0 and tree.count() == 31, wake)
        monkeypatch.setattr("seqsup.containment.search._LONGEST", 0)
        assert all(tree.search.walk() for _ in range(32))  # each gets one further
        monkeypatch.undo()
        assert tree.search.walk() == 0

    within(stub("swarm", "sleepers", 30), story)


def test_the_watch_waits_for_no_command_line(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets no process read the command line of one that forks all the time."""
    readable, describe = threading.Event(), Member.describe

    def late(member: Member, *, leader: bool = False) -> ProcessMemory:
        readable.wait(DEADLINE)
        return describe(member, leader=leader)

    members = Members()
    with subprocess.Popen(stub("silent"), stdout=subprocess.DEVNULL) as process, closing(members):
        members.add(process.pid)
        wait_for(members.used)
        monkeypatch.setattr(Member, "describe", late)
        for _ in range(2):
            (named,) = members.describe()
            assert not readable.is_set()
            assert (named.pid, named.bytes > 0) == (process.pid, True)
            assert named.command == named.name
        readable.set()
        wait_for(lambda: "silent" in members.describe()[0].command)
        process.kill()


def test_exit_wakes_the_waiting_loop(stub: Stub, tmp_path: Path) -> None:
    async def story(reaper: Reaper, wake: Wake) -> None:
        root = spawned(reaper, stub("exits", 0), tmp_path / "said")
        while reaper.ending(root) is None:
            await wake.wait(3600)  # longer than the test's own limit allows

    supervised(story)


def test_program_that_cannot_be_started_is_an_error_with_its_reason(tmp_path: Path) -> None:
    async def story(reaper: Reaper, wake: Wake) -> None:
        with pytest.raises(FileNotFoundError):
            spawned(reaper, [str(tmp_path / "nothing")], tmp_path / "said")
        reaper.reap()

    supervised(story)
