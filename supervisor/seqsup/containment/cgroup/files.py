"""Files of cgroups: where they are, how they are read and written, and how a cgroup is killed and removed."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from seqsup.containment import proc_text
from seqsup.containment.cgroup.group import Unavailable
from seqsup.units import format_size

NO_LIMIT = 2**60  # bytes, from which on it is none: v1 spells that as a number
_RUN = re.compile(r"seqsup-([0-9a-f]{16})")
StrPath = Path | str  # to make a Path takes its time
_GONE = (FileNotFoundError, ProcessLookupError)


class KeptFile:
    """A cgroup file kept open after its first use. None, a missing file and a removed cgroup read as empty."""

    __slots__ = ("_fd", "_numbers", "_path", "_told")

    def __init__(self, path: StrPath | None) -> None:
        self._path, self._fd = path, -1
        self._told, self._numbers = b"", dict[str, int]()

    @property
    def fd(self) -> int:
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._fd = os.open(self._path, os.O_RDONLY)
            self._path = None
        return self._fd

    def read(self, offset: int = 0) -> bytes:
        try:
            return os.pread(self.fd, 32768, offset)
        except OSError:  # ENODEV: removed meanwhile
            return b""

    def numbers(self) -> dict[str, int]:
        """Read a file of lines such as `oom_kill 3`."""
        if (told := self.read()) != self._told:
            pairs = (line.split() for line in told.decode().splitlines())
            self._told, self._numbers = told, {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
        return self._numbers

    def pids(self) -> list[int]:
        """Read a cgroup.procs. 0 is a process of another pid namespace."""
        found: list[int] = []
        offset = 0
        while chunk := self.read(offset):
            offset += len(chunk)
            found += map(int, chunk.split())
        return [pid for pid in found if pid]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = None, -1


def write(path: StrPath, text: str) -> None:
    """Write to a cgroup file with write(2), whose error a buffered file would swallow."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


def read(path: StrPath) -> str:
    """Read a file whole; empty when it is not there."""
    try:
        return proc_text.decoded(Path(path).read_bytes())
    except OSError:
        return ""


def number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None


def spell(file: str, counts: dict[str, int], peak: int | None, limit: str) -> str:
    """Format the kernel's figures of a cgroup's memory; empty if it has none."""
    if not counts:
        return ""
    numbers = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    most = "unknown" if peak is None else format_size(peak)
    limited = limit.strip().isdigit() and int(limit) < NO_LIMIT
    return f"{file}: {numbers}; peak {most} of {format_size(int(limit)) if limited else 'no limit'}"


def listed(folder: StrPath) -> list[int]:
    """List the processes of a cgroup and of those below it, by files opened for this call."""
    found: list[int] = []
    for each in with_nested(folder):
        with contextlib.closing(KeptFile(f"{each}/cgroup.procs")) as procs:
            found += procs.pids()
    return found


def with_nested(folder: StrPath) -> Iterator[StrPath]:
    """Give a group, and those below it."""
    return (below for below, _, _ in os.walk(folder)) if nested(folder) else iter((folder,))


def nested(folder: StrPath) -> bool:
    """Say whether there are groups below: an agent may be root, and make some."""
    try:
        return os.stat(folder).st_nlink > 2  # noqa: PTH116 (hot)
    except OSError:
        return False


def kill_listed(pids: Callable[[], list[int]]) -> None:
    """Kill each listed process once.

    If the second list has a pid whose descriptor was opened before, it is the same process, or it is gone.
    """
    held: dict[int, int] = {}
    try:
        for pid in pids():
            with contextlib.suppress(OSError):
                held[pid] = os.pidfd_open(pid)
        for pid in held.keys() & set(pids()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
    finally:
        for pidfd in held.values():
            os.close(pidfd)


def kill(folder: StrPath) -> None:
    """Kill all that live in a group and below it, once, by the best means that it has."""
    with contextlib.suppress(*_GONE):
        if os.path.exists(f"{folder}/cgroup.kill"):  # noqa: PTH110
            write(f"{folder}/cgroup.kill", "1")
        elif os.path.exists(f"{folder}/freezer.state"):  # noqa: PTH110
            _kill_frozen(folder)
        else:
            kill_listed(lambda: listed(folder))


def _kill_frozen(folder: StrPath) -> None:
    """Kill while frozen: a frozen process cannot fork. In v1 none dies before the thaw, and nested cgroups may be
    frozen too.
    """
    write(f"{folder}/freezer.state", "FROZEN")
    try:
        kill_listed(lambda: listed(folder))
    finally:
        for each in with_nested(folder):
            write(f"{each}/freezer.state", "THAWED")


def frozen_by(pid: int) -> Path | None:
    """Find by which file of cgroup v1 a process is frozen: SIGKILL waits for the thaw. Our own groups are thawed."""
    with contextlib.suppress(Unavailable):
        state = locate("freezer", read(f"/proc/{pid}/cgroup"), read("/proc/self/mountinfo")) / "freezer.state"
        return state if read(state).strip() in ("FROZEN", "FREEZING") else None
    return None


def remove(folder: StrPath) -> bool:
    """Remove a cgroup with those below it, if it has no process. Return whether it is gone."""
    with contextlib.suppress(OSError):  # refused while a process or a cgroup is in it
        os.rmdir(folder)  # noqa: PTH106
        return True
    if listed(folder):
        return False
    for below, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(below)  # noqa: PTH106
    return not os.path.exists(folder)  # noqa: PTH110


def run_prefix(cookie: str) -> str:
    """Return the part of a run's cookie that is in the names of its cgroups."""
    return cookie[:16]


def run_name(cookie: str) -> str:
    return f"seqsup-{run_prefix(cookie)}"


def named_prefix(name: str) -> str | None:
    """Return the start of the run's cookie from the name of its folder; None if the folder is not ours."""
    match = _RUN.fullmatch(name)
    return match[1] if match else None


def make_run(base: Path, cookie: str) -> Path:
    """Make a run's directory. One of this name that is there already is of the same run, before it was resumed."""
    folder = base / run_name(cookie)
    if folder.exists():
        remove(folder)
    folder.mkdir()
    return folder


def attempt_folder(run: StrPath, name: str) -> str:
    """Name an attempt's directory; the prefix keeps an agent called memory.max from being taken for a file."""
    if "/" in name or "\n" in name:
        raise ValueError(f"no name for a group: {name!r}")
    return f"{run}/agent-{name}"


def mounts(controller: str, mountinfo: str | None = None) -> Iterator[tuple[str, Path]]:
    """Find where a hierarchy is mounted, "" being cgroup v2: the root within it that is shown, and the directory."""
    for mount in proc_text.mounts(mountinfo):
        v1 = mount.filesystem == "cgroup" and controller in mount.options
        if v1 if controller else mount.filesystem == "cgroup2":
            yield mount.shown, Path(mount.where)


def own_directory(controller: str) -> Path:
    """Find the group this process is in, "" being cgroup v2."""
    return locate(controller, read(Path("/proc/self/cgroup")), read(Path("/proc/self/mountinfo")))


def locate(controller: str, cgroup: str, mountinfo: str) -> Path:
    """Find a group by what /proc/PID/cgroup and mountinfo say."""
    lines = (line.split(":", 2) for line in proc_text.split(cgroup))
    path = next((path for _, controllers, path in lines if controller in controllers.split(",")), None)
    if path is None:
        raise Unavailable(f"there is no cgroup {f'v1 with {controller}' if controller else 'v2'}")
    for shown, where in mounts(controller, mountinfo):
        shown = shown.rstrip("/")
        if path.startswith("/..") or not f"{path}/".startswith(f"{shown}/"):
            continue  # a container that shows another part of the tree
        return where / path.removeprefix(shown).lstrip("/")
    raise Unavailable(f"the cgroup of this process, {path}, is not mounted here")
