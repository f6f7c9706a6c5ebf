"""Cgroup v1: memory and pids enforce the limits; the freezer, or cgroup v2 beside them, keeps the members."""

import contextlib
import os
import re
from pathlib import Path

from seqsup.containment.cgroup.files import (
    KeptFile,
    StrPath,
    attempt_folder,
    kill,
    listed,
    make_run,
    number,
    own_directory,
    read,
    remove,
    spell,
    write,
)
from seqsup.containment.cgroup.group import Membership, Unavailable, backstop
from seqsup.containment.cgroup.v2 import CgroupsV2

_COUNTED = re.compile(rb"^total_(?:rss|shmem) (\d+)$", re.MULTILINE)


class MembershipV1:
    def __init__(self, folder: StrPath) -> None:
        self._folder = folder
        self.entry: tuple[str, ...] = (f"{folder}/cgroup.procs",)
        os.mkdir(folder)  # noqa: PTH102

    def pids(self) -> list[int]:
        return listed(self._folder)  # opened for each call: v1 answers an open file from a list up to a second old

    def kill(self) -> None:
        kill(self._folder)

    def close(self) -> bool:
        return remove(self._folder)


class CgroupV1:
    def __init__(self, memory: StrPath, pids: StrPath | None, members: Membership) -> None:
        self._memory, self._pids, self._members = memory, pids, members
        own = [folder for folder in (memory, pids) if folder is not None]
        self.entry = tuple(dict.fromkeys([*members.entry, *(f"{folder}/cgroup.procs" for folder in own)]))
        for folder in own:
            with contextlib.suppress(FileExistsError):  # without a freezer the members are kept here
                os.mkdir(folder)  # noqa: PTH102
        self._stat, self._oom = KeptFile(f"{memory}/memory.stat"), KeptFile(f"{memory}/memory.oom_control")
        self._event: int | None = None

    @property
    def oom_event(self) -> int | None:
        """The kernel signals before it kills, so oom_kills() may not have changed yet."""
        if self._event is None:
            event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            try:
                write(f"{self._memory}/cgroup.event_control", f"{event} {self._oom.fd}")
            except OSError:  # kernels for real time have it not
                os.close(event)
                return None
            self._event = event
        return self._event

    def limit(self, hard: int | None, pids_max: int | None) -> None:
        if hard is not None:
            write(f"{self._memory}/memory.limit_in_bytes", str(backstop(hard)))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
                write(f"{self._memory}/memory.memsw.limit_in_bytes", str(backstop(hard)))
        if pids_max is not None and self._pids is not None:
            write(f"{self._pids}/pids.max", str(pids_max))

    def pids(self) -> list[int]:
        return self._members.pids()

    def tasks(self) -> int | None:
        return None  # not counted by memory's hierarchy; a process may leave one hierarchy and stay in the other

    def weighed(self) -> list[int]:
        return listed(self._memory)

    def used(self) -> int | None:
        stat = self._stat.read()
        return sum(map(int, _COUNTED.findall(stat))) if stat else None

    def peak(self) -> int | None:
        return number(read(f"{self._memory}/memory.max_usage_in_bytes"))

    def charged(self) -> int | None:
        return number(read(f"{self._memory}/memory.usage_in_bytes"))

    def oom_kills(self) -> int:
        if self._event is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
        return self._oom.numbers().get("oom_kill", 0)

    def figures(self) -> str:
        counts = {
            "oom_kill": self._oom.numbers().get("oom_kill"),
            "failcnt": number(read(f"{self._memory}/memory.failcnt")),
        }
        known = {name: count for name, count in counts.items() if count is not None}
        return spell("memory.oom_control", known, self.peak(), read(f"{self._memory}/memory.limit_in_bytes"))

    def kill(self) -> None:
        self._members.kill()

    def close(self) -> bool:
        self._stat.close()
        self._oom.close()
        if self._event is not None:
            os.close(self._event)
            self._event = None
        gone = [self._members.close()]
        gone += [remove(folder) for folder in (self._memory, self._pids) if folder is not None]
        return all(gone)


class CgroupsV1:
    """`beside` is cgroup v2 for membership and kill, which closes with them."""

    limits = True

    def __init__(self, cookie: str, beside: CgroupsV2 | None = None) -> None:
        self._beside = beside
        self._runs: dict[str, Path] = {}
        self.kill_file = beside.kill_file if beside else None
        try:
            self._runs["memory"] = make_run(own_directory("memory"), cookie)
            for controller in ("pids",) if beside else ("pids", "freezer"):
                with contextlib.suppress(Unavailable):
                    self._runs[controller] = make_run(own_directory(controller), cookie)
            with contextlib.suppress(FileNotFoundError):
                write(self._runs["memory"] / "memory.swappiness", "0")  # as are then those that are made below it
        except (OSError, Unavailable):
            self.close()
            raise
        self.detail = f"{', '.join(self._runs)} of cgroup v1 below {self._runs['memory'].parent}"
        if beside is not None:
            self.detail += f"; {beside.detail}"

    def make(self, name: str, hard: int | None, pids_max: int | None, *, as_one: bool = True) -> CgroupV1:
        """The kernel kills a process at a time, whatever `as_one` says."""
        memory = attempt_folder(self._runs["memory"], name)
        pids = attempt_folder(self._runs["pids"], name) if "pids" in self._runs else None
        members: Membership
        if self._beside is not None:
            members = self._beside.make(name, None, None)
        else:
            members = MembershipV1(attempt_folder(self._runs.get("freezer", self._runs["memory"]), name))
        with contextlib.ExitStack() as undoing:
            undoing.callback(members.close)
            group = CgroupV1(memory, pids, members)
            undoing.callback(group.close)
            group.limit(hard, pids_max)
            undoing.pop_all()
        return group

    def close(self) -> bool:
        gone = [remove(run) for run in self._runs.values()]
        if self._beside is not None:
            gone.append(self._beside.close())
        return all(gone)
