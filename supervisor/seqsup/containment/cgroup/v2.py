"""Cgroup v2: with its memory and pids controllers where we may use them, else for membership and kill."""

import contextlib
import os
import re
import select
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from seqsup.containment.cgroup.files import (
    KeptFile,
    StrPath,
    attempt_folder,
    kill,
    listed,
    make_run,
    nested,
    number,
    own_directory,
    read,
    remove,
    spell,
    write,
)
from seqsup.containment.cgroup.group import Unavailable, backstop

_WANTED = ("memory", "pids")
_COUNTED = re.compile(rb"^(?:anon|shmem) (\d+)$", re.MULTILINE)
_ROOM = "supervisor"
_UNITS = (".scope", ".service")


class CgroupV2:
    def __init__(self, folder: StrPath, *, limits: bool = True) -> None:
        """Without `limits` it is for membership alone."""
        self._folder = folder
        procs = f"{folder}/cgroup.procs"
        self.entry: tuple[str, ...] = (procs,)
        self._procs = KeptFile(procs)
        self._stat, self._oom, self._tasks = (
            KeptFile(f"{folder}/{name}" if limits else None)
            for name in ("memory.stat", "memory.events", "pids.current")
        )
        self._epoll: select.epoll | None = None

    @property
    def oom_event(self) -> int | None:
        """Nested, as an event loop asks for POLLIN only, and that a cgroup file always has."""
        if self._epoll is None and self._oom.fd >= 0:
            self._epoll = select.epoll()
            self._epoll.register(self._oom.fd, select.EPOLLPRI)
            self._oom.read()
        return self._epoll.fileno() if self._epoll else None

    def limit(self, hard: int | None, pids_max: int | None, *, as_one: bool) -> None:
        if hard is not None:
            write(f"{self._folder}/memory.max", str(backstop(hard)))
            write(f"{self._folder}/memory.oom.group", str(int(as_one)))
        if pids_max is not None:
            write(f"{self._folder}/pids.max", str(pids_max))

    def pids(self) -> list[int]:
        return listed(self._folder) if nested(self._folder) else self._procs.pids()

    def tasks(self) -> int | None:
        return number(self._tasks.read().decode())

    def weighed(self) -> list[int]:
        return self.pids()

    def used(self) -> int | None:
        stat = self._stat.read()
        return sum(map(int, _COUNTED.findall(stat))) if stat else None

    def peak(self) -> int | None:
        return number(read(f"{self._folder}/memory.peak"))

    def charged(self) -> int | None:
        return number(read(f"{self._folder}/memory.current"))

    def oom_kills(self) -> int:
        return self._oom.numbers().get("oom_kill", 0)  # reading it is what makes oom_event quiet

    def figures(self) -> str:
        counts = {name: count for name, count in self._oom.numbers().items() if name not in ("low", "high")}
        return spell("memory.events", counts, self.peak(), read(f"{self._folder}/memory.max"))

    def kill(self) -> None:
        kill(self._folder)

    def close(self) -> bool:
        for kept in (self._procs, self._stat, self._oom, self._tasks):
            kept.close()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        return remove(self._folder)


class CgroupsV2:
    def __init__(self, run: Path, *, limits: bool, undo: Callable[[], None] = lambda: None) -> None:
        self._run, self.limits, self._undo = run, limits, undo
        self.kill_file = str(run / "cgroup.kill") if (run / "cgroup.kill").exists() else None  # since Linux 5.14
        self.detail = f"{'memory, pids' if limits else 'membership'} and kill below {run.parent}"

    def make(self, name: str, hard: int | None, pids_max: int | None, *, as_one: bool = True) -> CgroupV2:
        folder = attempt_folder(self._run, name)
        os.mkdir(folder)  # noqa: PTH102
        group = CgroupV2(folder, limits=self.limits)
        if self.limits:
            try:
                group.limit(hard, pids_max, as_one=as_one)
            except OSError:
                group.close()
                raise
        return group

    def close(self) -> bool:
        gone = remove(self._run)
        self._undo()
        return gone


def without_controllers(cookie: str) -> CgroupsV2:
    return CgroupsV2(make_run(own_directory(""), cookie), limits=False)


def with_controllers(cookie: str) -> CgroupsV2:
    """Make groups with limits where this process is, if that may hand out controllers."""
    base = _base()
    missing = set(_WANTED) - set(read(base / "cgroup.controllers").split())
    if missing:
        raise Unavailable(f"{base} has no controller {' and '.join(sorted(missing))}")
    with contextlib.ExitStack() as undoing:
        undo = _enable(base)
        undoing.callback(undo)
        run = make_run(base, cookie)
        undoing.callback(remove, run)
        write(run / "cgroup.subtree_control", _signed("+", _WANTED))
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap
            write(run / "memory.swap.max", "0")
        undoing.pop_all()
    return CgroupsV2(run, limits=True, undo=undo)


def _base() -> Path:
    """Choose below which group: our own, or the delegated one of which ours is the supervisor's room."""
    own = own_directory("")
    return own.parent if _delegated(own.parent) and not _delegated(own) else own


def _delegated(folder: Path) -> bool:
    """Say whether systemd left this group to us. Being writable says less: all of a user's slices are."""
    for mark in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    if os.geteuid() == 0 or folder.suffix not in _UNITS or not os.access(folder, os.W_OK):
        return False
    return _user_manager_says(folder.name)


def _user_manager_says(unit: str) -> bool:
    """Ask the user's manager, which unlike the system's puts no mark on what it delegates."""
    if (systemctl := shutil.which("systemctl")) is None:
        return False
    command = [systemctl, "--user", "show", "--property=Delegate", "--value", "--", unit]
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return asked.stdout == b"yes\n"


def _enable(base: Path) -> Callable[[], None]:
    """Have a group hand out controllers, and give what takes that back.

    No group may do so while processes are in it, so this process moves into a room of its own. Others are moved
    along only in a group that was delegated, which is for us to arrange.
    """
    enabled = read(base / "cgroup.subtree_control").split()
    missing = [controller for controller in _WANTED if controller not in enabled]
    if not missing:
        return lambda: None
    with contextlib.closing(KeptFile(base / "cgroup.procs")) as within:
        pids = within.pids()
    if not _delegated(base):
        if base.suffix in _UNITS:  # systemd would stop the whole unit once the kernel killed an agent in it
            raise Unavailable(f"{base} is not delegated to seqsup")
        if pids and pids != [os.getpid()]:
            raise Unavailable(f"{base} is not delegated to seqsup, and {len(pids)} processes are in it")
    room = base / _ROOM
    made = not room.exists()

    def undo() -> None:
        if not made:
            return
        with contextlib.suppress(OSError):  # EBUSY: another run depends on it
            write(base / "cgroup.subtree_control", _signed("-", [*missing, *({"cpu"} - {*enabled})]))
            _move_all(room, base)
            room.rmdir()

    try:
        room.mkdir(exist_ok=True)
        _move_all(base, room)
        write(base / "cgroup.subtree_control", _signed("+", missing))
    except OSError:
        undo()
        raise
    with contextlib.suppress(OSError):  # the room's share is then a half, not one of as many as an agent has processes
        write(base / "cgroup.subtree_control", "+cpu")
    return undo


def _move_all(source: Path, target: Path) -> None:
    with contextlib.closing(KeptFile(source / "cgroup.procs")) as procs:
        for _ in range(10):  # a process that forks meanwhile is found in the next round
            for pid in procs.pids():
                with contextlib.suppress(ProcessLookupError):
                    write(target / "cgroup.procs", str(pid))


def _signed(sign: str, controllers: tuple[str, ...] | list[str]) -> str:
    return " ".join(sign + controller for controller in controllers)
