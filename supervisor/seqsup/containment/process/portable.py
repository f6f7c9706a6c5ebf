"""One process of a machine that is not Linux, by psutil: the same names as linux.py, with weaker promises.

A process is known by pid and start time, which are compared right before a signal, not with it. Orphans are not
adopted: one that left its parents is found by the leader's session, or because it was seen before. The mark in its
environment helps only where that may be read, on macOS seldom. Memory is the part that is unique to a process if the
system reports it, else all resident memory.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import psutil

from seqsup.containment.process.stat import COMMAND, Share, Stat
from seqsup.model.enums import Measure
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import classify


class PortableMember:
    copied, forked = 0, False  # as far as one can know

    __slots__ = ("_process", "bytes", "denied", "looked", "name", "off", "pid", "shared", "start")

    def __init__(self, process: psutil.Process, stat: Stat) -> None:
        self._process = process
        self.pid, self.start, self.name = process.pid, stat.start, stat.name
        self.bytes, self.off, self.shared, self.looked, self.denied = 0, 0, 0, 0, ""

    @staticmethod
    def open(pid: int) -> "PortableMember | None":
        stat = read_stat(pid)
        with suppress(psutil.NoSuchProcess):
            member = PortableMember(psutil.Process(pid), stat) if stat is not None else None
            return None if member is None or member.gone() else member
        return None

    def measure(self, what: Measure) -> int:
        try:
            self.bytes = self._read(what)
        except psutil.ZombieProcess:
            self.bytes = 0
        except psutil.NoSuchProcess:
            raise ProcessLookupError(self.pid) from None
        except psutil.AccessDenied:
            self.bytes, self.denied = 0, "it may not be read: its memory is not seen"
        return self.bytes

    def _read(self, what: Measure) -> int:
        plain = self._process.memory_info()
        if what is Measure.RSS:
            return int(plain.rss)
        if (shared := getattr(plain, "shared", None)) is not None:
            return max(int(plain.rss) - int(shared), 0)
        with suppress(psutil.AccessDenied):
            return int(self._process.memory_full_info().uss)
        return int(plain.rss)

    @property
    def whole(self) -> int:
        return self.bytes

    def share(self) -> Share | None:
        """Only Linux reports it."""
        return None

    def send(self, signum: int) -> bool:
        try:
            self._process.send_signal(signum)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return True

    def kill_and_free(self, others: "Iterable[PortableMember]") -> None:
        """There is nothing by which its memory could be freed faster."""

    def offer(self, oom_score_adj: int) -> None:
        """Only Linux has such a preference."""

    def gone(self) -> bool:
        with suppress(psutil.NoSuchProcess):
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        return True

    def reaped(self) -> bool:
        return not self._process.is_running()

    def holdup(self) -> str:
        with suppress(psutil.Error):
            return f"state {self._process.status()}"
        return "ending"

    def describe(self, *, leader: bool = False) -> ProcessMemory:
        words: list[str] = []
        with suppress(psutil.Error):
            words, self.name = self._process.cmdline(), self._process.name()
        return ProcessMemory(
            pid=self.pid, name=self.name, command=" ".join(words)[:COMMAND] or self.name, bytes=self.bytes,
            kind=classify(self.name, words, leader=leader),
        )  # fmt: skip

    def close(self) -> None:
        """There is nothing to let go of."""


def glance(pid: int, what: Measure) -> int:
    """Measure in bytes a process that could not be held a moment ago; 0 when it is gone."""
    with suppress(OSError):
        member = PortableMember.open(pid)
        return member.measure(what) if member is not None else 0
    return 0


def signal_unheld(pid: int, start: int, signum: int) -> None:
    if (stat := read_stat(pid)) is not None and start in (0, stat.start):
        with suppress(OSError):
            os.kill(pid, signum)


def read_stat(pid: int) -> Stat | None:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        with process.oneshot():
            start = round(process.create_time() * 100)
            used = round(sum(process.cpu_times()[:2]) * os.sysconf("SC_CLK_TCK"))
            return Stat(process.name(), process.status(), process.ppid(), start, cpu=used)
    return None


def zombie_since(pid: int) -> int | None:
    return stat.start if (stat := read_stat(pid)) is not None and stat.state == psutil.STATUS_ZOMBIE else None


def children(pid: int) -> list[int]:
    return kinship()(pid)


def kinship() -> Callable[[int], list[int]]:
    """Give a function pid -> children, from one look at all processes."""
    by_parent: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        by_parent.setdefault(process.info["ppid"], []).append(process.pid)
    return lambda pid: by_parent.get(pid, [])


def kin(leader: int, known: Iterable[int]) -> Iterator[int]:
    """Find members that do not descend from us: processes seen before, and those in the leader's session."""
    yield from known
    for pid in all_pids():
        with suppress(OSError):
            if os.getsid(pid) == leader:
                yield pid


def all_pids() -> Iterator[int]:
    return iter(psutil.pids())


def environment(pid: int, having: bytes) -> dict[bytes, bytes]:
    with suppress(psutil.Error, OSError):
        env = {os.fsencode(key): os.fsencode(value) for key, value in psutil.Process(pid).environ().items()}
        return env if having in env else {}
    return {}
