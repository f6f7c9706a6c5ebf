"""One process of this machine, known by pid and start time, never by a bare pid. Linux: /proc and pidfds.

A pid came back after 2.6 s in a measurement; a pidfd, or a descriptor inside /proc/PID, never names another process.
"""

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from seqsup.containment.cgroup.files import frozen_by
from seqsup.containment.fast_kill import kill_and_free
from seqsup.containment.process.stat import COMMAND, Share, Stat
from seqsup.host.machine import PAGE
from seqsup.model.enums import Measure, ProcessKind
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import classify

_LINE = 32768  # bytes of a command line that are read
_SPARE = 16  # descriptors: without any, no process's parent can be read
_NEWBORN = 0.5  # seconds that a fork may take to exec
_KCMP, _KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1
_FORKED = 0x40  # the kernel's PF_FORKNOEXEC
_HAS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()


class LinuxMember:
    """A process that belongs to a tree; its descriptors stay with that very process."""

    __slots__ = (
        "_born_with", "_called", "_command", "_kind", "_newborn", "bytes", "copied", "denied", "forked", "looked",
        "name", "off", "pid", "pidfd", "shared", "start", "statm", "told",
    )  # fmt: skip

    def __init__(self, pid: int, pidfd: int, statm: int, stat: Stat) -> None:
        self.pid, self.start, self.name = pid, stat.start, stat.name
        self.pidfd, self.statm = pidfd, statm
        self.bytes, self.shared = 0, 0
        self.copied = 0  # bytes of these that may be its parent's: right after its fork it has all of them
        self.off = 0  # bytes that were taken off for that
        self._newborn, self._born_with = time.monotonic() + _NEWBORN if stat.forked else 0.0, 0
        self.told = b""  # the file that they were read from
        self._called: tuple[str, bytes, bool] | None = None  # the values from which the name was made
        self._command, self._kind = "", ProcessKind.OTHER
        self.forked = False  # for long, and runs its parent's program: both may have the same pages
        self.looked = 0  # shared bytes at the last look of Shared
        self.denied = ""  # figures that may not be read, and the consequence

    @staticmethod
    def open(pid: int) -> "LinuxMember | None":
        """Hold a process; None when it is gone. A process that we may not read is held all the same."""
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, OverflowError):  # no pid is that large
            return None
        if pidfd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE:
            os.close(pidfd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        statm, why = -1, ""
        try:
            statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
        except FileNotFoundError:
            why = "/proc does not show it"  # hidepid=2
        except PermissionError:
            why = "/proc does not let us read it"  # hidepid=1
        except OSError:
            os.close(pidfd)
            raise
        stat = read_stat(pid)
        member = LinuxMember(pid, pidfd, statm, stat or Stat("?", "X", 0, 0))
        if member.gone():  # a stranger with its pid may have been read
            member.close()
            return None
        if why:
            member.denied = f"{why}: neither its memory nor its children are seen"
        elif stat is None:
            member.close()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return member

    def measure(self, what: Measure) -> int:
        """Read its memory in bytes; 0 for what may not be read. ProcessLookupError: it has ended, if as a zombie."""
        if self.statm < 0:
            if self.gone():
                raise ProcessLookupError(self.pid)
            return 0
        if self._newborn:
            return self._measure_newborn(what)
        return self._measure(what)

    def _measure(self, what: Measure) -> int:
        if what is Measure.PSS and (pss := self._pss()) is not None:
            self.bytes = pss
            return pss
        told = os.pread(self.statm, 128, 0)
        if told == self.told:
            return self.bytes
        fields = told.split(b" ", 3)
        if fields[1] == b"0":
            if self.gone():
                raise ProcessLookupError(self.pid)
            told, fields = b"", _of_another_thread(self.pid) or fields
        self.told = told
        self.shared = int(fields[2]) * PAGE
        left_out = 0 if what is Measure.RSS else self.shared
        self.bytes = max(int(fields[1]) * PAGE - left_out, 0)  # per-CPU counters may run behind each other
        return self.bytes

    def _measure_newborn(self, what: Measure) -> int:
        """Measure it, and how much of that it may only share. PSS divides that, but not what a spawn has in common."""
        stat, self.told = read_stat(self.pid), b""  # first: to exec frees what was copied
        size = self._measure(what)
        self._born_with = self._born_with or size
        self.copied = 0
        late = time.monotonic() >= self._newborn
        if stat is None or not stat.forked or (late and not _shares_all(self.pid, stat.parent)):
            self._newborn, self.forked = 0.0, stat is not None and stat.forked
        elif what is not Measure.PSS or size >= self._measure(Measure.PRIVATE):
            self.copied = size if late else max(min(self._born_with, size - stat.faults * PAGE), 0)
        self.bytes = size
        return size

    @property
    def whole(self) -> int:
        """Its bytes with those that may be its parent's."""
        return self.bytes + (self.off if self.copied else 0)

    def share(self) -> Share | None:
        """Return its share of the tree's memory; None if there is none, or it may not be read. Takes 20 ms a GiB."""
        try:
            sums = _rollup(self.pid)
        except OSError:
            return None
        if b"Pss:" not in sums:
            return None
        parts = sums.get(b"Pss_Anon:"), sums.get(b"Pss_Shmem:")  # since Linux 5.9
        whole = sums[b"Pss:"] if parts[0] is None or parts[1] is None else parts[0] + parts[1]
        back = _given_back(sums)
        return Share(max(whole - back, 0), back)

    def _pss(self) -> int | None:
        """Return its proportional share in bytes; None if there is none, or it may not be read, which is noted."""
        if self.denied:
            return None
        try:
            sums = _rollup(self.pid)
            return sums.get(b"Pss:", 0) - _given_back(sums)
        except (PermissionError, FileNotFoundError) as error:  # of another user, or made undumpable
            os.pread(self.statm, 1, 0)  # raises when it is only gone
            self.denied = f"smaps_rollup cannot be read ({error.strerror}): its private memory counts instead of PSS"
        except ProcessLookupError:
            pass  # on its way out
        return None

    def send(self, signum: int) -> bool:
        """Signal it; False when it is gone or not ours to signal."""
        try:
            signal.pidfd_send_signal(self.pidfd, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def kill_and_free(self, others: "Iterable[LinuxMember]") -> None:
        """Kill it with these and free its memory, which is faster than by its own threads. All of them may survive
        this.
        """
        if not self.gone():
            kill_and_free(self.pid, self.pidfd, [member.pidfd for member in others])

    def offer(self, oom_score_adj: int) -> None:
        """Let the kernel prefer it, and the children that it will have, when memory is short."""
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/{self.pid}/oom_score_adj", os.O_WRONLY)
            try:
                if not self.reaped():  # else the pid may be another's
                    os.write(fd, str(oom_score_adj).encode())
            finally:
                os.close(fd)

    def gone(self) -> bool:
        """Return whether every thread has exited. Only then is its memory back: RSS reads 0 up to 0.5 s earlier."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def reaped(self) -> bool:
        """Return whether its exit was collected, so that its pid may be reused."""
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it became another user
            pass
        return False

    def holdup(self) -> str:
        """Say why it may outlive SIGKILL."""
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except PermissionError:
            return "not ours to kill: it became another user"
        except ProcessLookupError:
            return "ending"
        stat = read_stat(self.pid)
        if stat is None or stat.state != "D":
            return "ending"
        if frozen := frozen_by(self.pid):
            return f"frozen, until `echo THAWED >{frozen}`"
        where = ""
        with contextlib.suppress(OSError):
            where = Path(f"/proc/{self.pid}/wchan").read_text().strip("0")
        return "in uninterruptible sleep" + (f" ({where})" if where else "")

    def describe(self, *, leader: bool = False) -> ProcessMemory:
        line = _read(f"/proc/{self.pid}/cmdline", _LINE).rstrip(b"\0")
        stat = read_stat(self.pid)
        if stat and stat.start == self.start:
            self.name = stat.name  # before its exec it had the supervisor's
        if not line and self._called is not None:
            line = self._called[1]  # an exiting process has none
        if self._called != (called := (self.name, line, leader)):
            words = line.decode(errors="replace").split("\0") if line else []
            self._called = called
            self._command = " ".join(words)[:COMMAND] or self.name
            self._kind = classify(self.name, words, leader=leader)
        return ProcessMemory(pid=self.pid, name=self.name, command=self._command, bytes=self.bytes, kind=self._kind)

    def close(self) -> None:
        os.close(self.pidfd)
        if self.statm >= 0:
            os.close(self.statm)


def glance(pid: int, what: Measure) -> int:
    """Measure a process that cannot be held, in bytes; of a fork only the memory given since. 0 when it is gone."""
    stat, fields = read_stat(pid), _read(f"/proc/{pid}/statm", 128).split(b" ", 3)
    if stat is None or len(fields) < 3:
        return 0
    pages = int(fields[1]) - (0 if what is Measure.RSS else int(fields[2]))
    return max(min(pages, stat.faults) if stat.forked else pages, 0) * PAGE


def signal_unheld(pid: int, start: int, signum: int) -> None:
    """Signal a process without a kept descriptor, unless its pid was reused. `start` 0 means unknown."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if (stat := read_stat(pid)) is not None and start in (0, stat.start):
                signal.pidfd_send_signal(pidfd, signum)
        finally:
            os.close(pidfd)


def read_stat(pid: int) -> Stat | None:
    """Read /proc/PID/stat; None when there is no such process. The name may hold spaces and brackets."""
    if not (text := _read(f"/proc/{pid}/stat", 1024)):
        return None
    head, _, tail = text.rpartition(b") ")
    fields = tail.split()
    name = head.partition(b"(")[2].decode(errors="replace")
    forked, faults, cpu = bool(int(fields[6]) & _FORKED), int(fields[7]), int(fields[11]) + int(fields[12])
    threads, of_ended = int(fields[17]), int(fields[13]) + int(fields[14])
    return Stat(name, fields[0].decode(), int(fields[1]), int(fields[19]), forked, faults, threads, cpu, of_ended)


def zombie_since(pid: int) -> int | None:
    """Return the start time of a zombie in clock ticks; None if it is none, or its first thread alone has ended."""
    if (stat := read_stat(pid)) is None or stat.state != "Z":
        return None
    return stat.start if stat.threads <= 1 else None


def _read(path: str, most: int) -> bytes:
    """Read a file in one go; empty when it is not there. (Hot: a Path costs as much as all of this.)"""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def children(pid: int) -> list[int]:
    """List the children of every thread: a child of a Node worker is listed under the worker's thread only."""
    found: list[int] = []
    tasks = f"/proc/{pid}/task"
    try:
        threads = os.listdir(tasks)  # noqa: PTH208 (hot: a Path costs four times as much)
    except OSError:
        return found
    for thread in threads:
        with contextlib.suppress(OSError):
            fd = os.open(f"{tasks}/{thread}/children", os.O_RDONLY)
            try:
                while chunk := os.read(fd, 65536):
                    found += map(int, chunk.split())
            finally:
                os.close(fd)
    return found


def kinship() -> Callable[[int], list[int]]:
    """Give a function pid -> children for one walk; kernels without CONFIG_PROC_CHILDREN are scanned once."""
    if _HAS_CHILDREN:
        return children
    by_parent: dict[int, list[int]] = {}
    for pid in all_pids():
        if stat := read_stat(pid):
            by_parent.setdefault(stat.parent, []).append(pid)
    return lambda pid: by_parent.get(pid, [])


def kin(leader: int, known: Iterable[int]) -> Iterator[int]:
    """Find members that do not descend from us. On Linux there are none."""
    return iter(())


def all_pids() -> Iterator[int]:
    return map(int, filter(str.isdigit, os.listdir("/proc")))  # noqa: PTH208


def environment(pid: int, having: bytes) -> dict[bytes, bytes]:
    """Read the environment a process was started with; empty if it lacks a variable, is gone or not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (hot)
            raw = file.read()
    except OSError:
        return {}
    if having + b"=" not in raw:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
    return {key: value for key, _, value in pairs}


def _of_another_thread(pid: int) -> list[bytes]:
    """Read statm of a process whose first thread has exited: its memory is shown under the remaining threads.

    The pid cannot be reused here: statm of a reaped process cannot be read at all.
    """
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/task/{thread}/statm").read_bytes().split(b" ", 3)
                if fields[1] != b"0":
                    return fields
    return []


def _shares_all(pid: int, parent: int) -> bool:
    """Say whether both have one memory, as after a vfork: where the disk is slow, its exec may take seconds."""
    number = _KCMP.get(os.uname().machine)
    return number is not None and ctypes.CDLL(None).syscall(number, pid, parent, _KCMP_VM, 0, 0) == 0


def _rollup(pid: int) -> dict[bytes, int]:
    """Read the sums over all that a process maps, in bytes; nothing of a zombie."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()[1:])
    return {fields[0]: int(fields[1]) * 1024 for fields in lines}


def _given_back(sums: dict[bytes, int]) -> int:
    """Return the bytes that it freed with MADV_FREE, without shared ones, which would count once for each process."""
    return min(sums.get(b"LazyFree:", 0), sums.get(b"Private_Clean:", 0))
