"""The machine: its memory, its boot, its processors."""

import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from seqsup.model.process import Surroundings

LINUX = sys.platform == "linux"  # else psutil has to do
PAGE = os.sysconf("SC_PAGE_SIZE")
_TASKS = 512, 16384  # of a tree, at least and at most
_TASKS_SHARE = 8  # of what the machine can have: a fork bomb must leave room for other trees, and what kills it
_FILES = 64  # open ones: with half as many a run begins, and fails in its midst
_OPEN_MAX = 10240  # macOS: its kernel refuses more than kern.maxfilesperproc, which is never less than that


class Room(Protocol):
    """A limit above this process."""

    def room(self, most: int) -> int:
        """Return how much it leaves in bytes, `most` at most."""

    def close(self) -> None: ...


class Host:
    """Reads what changes through descriptors kept open: the watcher asks up to a thousand times a second."""

    def __init__(self, limits: Sequence[Room] = ()) -> None:
        """`limits` are those above this process, which bound room()."""
        self._limits = limits
        self._meminfo, self._own, self._psi = -1, -1, -1
        self.cpus = os.cpu_count() or 1
        if LINUX:
            self._meminfo = os.open("/proc/meminfo", os.O_RDONLY)
            self._own = os.open("/proc/self/statm", os.O_RDONLY)
            with suppress(OSError):
                self._psi = os.open("/proc/pressure/memory", os.O_RDONLY)
            self.cpus = len(os.sched_getaffinity(0))  # that are ours
        self.huge_pages = False  # for growing processes, requested or not
        with suppress(OSError):
            self.huge_pages = "[always]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()

    def available(self) -> int:
        """MemAvailable in bytes."""
        if not LINUX:
            import psutil

            return int(psutil.virtual_memory().available)
        return _figure(b"MemAvailable:", os.pread(self._meminfo, 256, 0))

    def room(self, available: int | None = None) -> int:
        """Return what may still be taken in bytes: of the machine, which has `available`, and of each limit above us.

        So memory.host_floor is the same before a start and while agents run.
        """
        least = self.available() if available is None else available
        for limit in self._limits:
            least = limit.room(least)
        return least

    def own(self) -> int:
        """The supervisor's own memory in bytes, shared pages left out."""
        if not LINUX:
            import psutil

            return int(psutil.Process().memory_info().rss)
        fields = os.pread(self._own, 128, 0).split()
        return (int(fields[1]) - int(fields[2])) * PAGE

    def surroundings(self) -> Surroundings:
        if not LINUX:
            return Surroundings(host_total=total(), own=self.own(), cpu=time.process_time())
        resident = int(os.pread(self._own, 128, 0).split()[1]) * PAGE
        waiting, stalled = self._pressure()
        return Surroundings(host_total=total(), own=resident, cpu=time.process_time(), waiting=waiting, stalled=stalled)

    def _pressure(self) -> tuple[float | None, float | None]:
        with suppress(OSError):  # no PSI in this kernel, or switched off
            some, full = os.pread(self._psi, 256, 0).splitlines()
            waiting, stalled = (int(line.rpartition(b"total=")[2]) / 1e6 for line in (some, full))
            return waiting, stalled
        return None, None

    def oom_kills(self) -> int:
        """Kills by the kernel because memory was short, since boot."""
        if not LINUX:
            return 0
        _, _, rest = Path("/proc/vmstat").read_bytes().partition(b"\noom_kill ")  # there since Linux 4.13
        return int(rest.split(None, 1)[0]) if rest else 0

    def close(self) -> None:
        for fd in (self._meminfo, self._own, self._psi):
            if fd >= 0:
                os.close(fd)
        for limit in self._limits:
            limit.close()


def room(folder: Path) -> tuple[int, int]:
    """Return the free bytes of a folder's disk that we may use, and its size in bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def boot_id() -> str:
    if not LINUX:
        import psutil

        return str(int(psutil.boot_time()))
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def machine_id() -> str:
    """Return an id of this machine, which tells it from others. Containers of one image differ by their host names."""
    import hashlib  # few commands need it

    own = b""
    for file in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        with suppress(OSError):
            own = own or file.read_bytes().strip()
    return hashlib.sha256(b"seqsup %b %b" % (own, os.uname().nodename.encode())).hexdigest()[:32]


def in_wsl() -> bool:
    """Say whether this Linux runs under Windows: the kernel is Microsoft's."""
    return "microsoft" in os.uname().release.lower()


def total() -> int:
    """The machine's memory in bytes, or a container's, where lxcfs mounts a /proc/meminfo that says so."""
    if not LINUX:
        import psutil

        return int(psutil.virtual_memory().total)
    return _figure(b"MemTotal:", Path("/proc/meminfo").read_bytes())


def _figure(name: bytes, meminfo: bytes) -> int:
    start = meminfo.index(name) + len(name)
    return int(meminfo[start : meminfo.index(b"kB", start)]) * 1024


def give_back() -> None:
    """Return to the system what reading and planning took and no longer need: 0.7 MiB, for as long as the run lasts.

    What stays is left out of all later collections of garbage.
    """
    gc.collect()
    gc.freeze()
    with suppress(AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def too_few_files() -> str:
    """Say that no run can begin here with as few open files as are allowed, if that is so."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"a run needs {_FILES} open files at least, and `ulimit -n` allows {allowed}" if allowed < _FILES else ""


def raise_open_files() -> None:
    """Allow this process as many open files as the hard limit lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if LINUX:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif 0 <= soft < _OPEN_MAX:  # the hard limit is none unless the user lowered it
        most = _OPEN_MAX if hard == resource.RLIM_INFINITY else min(hard, _OPEN_MAX)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_processes(wanted: int | str | None = "auto") -> int | None:
    """Return how many processes a tree may have, its threads included where they are counted; None: any number.

    Where the machine does not say how many it can have, "auto" is 4096.
    """
    if not isinstance(wanted, str):
        return wanted
    least, most = _TASKS
    return max(least, min(most, _all_tasks() // _TASKS_SHARE))


@cache
def _all_tasks() -> int:
    try:
        return min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))
    except (OSError, ValueError):
        return 32768
