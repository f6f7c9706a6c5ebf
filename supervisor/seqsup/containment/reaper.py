"""The one owner of waitpid: orphans of the agents fall to this process, and every end is collected here.

A second waiter anywhere would steal statuses (a foreign waitpid(-1) made Popen report 0 for an exit of 7).
"""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from seqsup.containment.members import Members, descend, own_children
from seqsup.containment.needs import adopt_orphans
from seqsup.containment.owner import Leader, Streams
from seqsup.containment.process import read_stat
from seqsup.containment.sentinel import Sentinel
from seqsup.host.machine import LINUX, raise_open_files
from seqsup.model.outcome import Exit

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU)  # by Python, and by us
_WALL = 0x40000000 if LINUX else 0  # children of every kind, clone()'s too
_CHASES = 100
_AT_ONCE = 100  # exits: 2 to 10 ms
_FEW = 64  # numbers: trying each costs less than listing all processes
_MEANWHILE = 1000  # processes that others start while we start one
_ENOUGH = 16384  # pids: fewer come round within a look


class KeptTree(Protocol):
    """A tree that is none of the agent's, below a process of its own."""

    @property
    def process(self) -> Leader:
        """That process."""

    def tops(self) -> Set[int]: ...

    def release(self) -> bool: ...


class Reaper:
    """Makes this process a subreaper and collects every child that ends. `woken` is called when one did."""

    def __init__(self, woken: Callable[[], None]) -> None:
        self.woken = woken
        self.sentinel: Sentinel | None = None  # kills the processes of a cgroup if we die
        self._running: dict[int, Leader] = {}  # by pid, which is its own until we collect its exit
        self._leaders: set[Leader] = set()  # of trees that are still watched
        self.counted = False  # last_pid() uses our pids: some containers show those of another namespace
        self.childless = False  # as the last reap() found it
        self.foreign: dict[int, int] = {}  # pid -> start, of processes that may outlive their agent
        self.keepers: list[KeptTree] = []
        self.abandoned: dict[int, int] = {}  # survivors of SIGKILL
        self._before: dict[int, int] = {}  # children from before us: `server & exec seqsup start`
        self.soft_nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # of the user: ours is raised
        self._many_pids = LINUX and int(Path("/proc/sys/kernel/pid_max").read_text()) >= _ENOUGH
        self._gate = self._home = -1  # descriptors, while it is entered

    def __enter__(self) -> "Reaper":
        adopt_orphans()
        raise_open_files()  # two descriptors a member, and trees can be wide
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._on_child)
        # The exits of a fork bomb fill the loop's pipe. A full pipe wakes the loop as well, so no warning is needed
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        self._gate = os.open("/proc/loadavg", os.O_RDONLY) if LINUX else -1
        here = "." if os.access(".", os.X_OK) else "/"  # `sudo -u agent` in a folder of root's: nothing leads out of it
        self._home = os.open(here, getattr(os, "O_PATH", os.O_RDONLY))
        for fd in map(int, os.listdir("/proc/self/fd" if LINUX else "/dev/fd")):  # noqa: PTH208
            if fd > 2:  # our parent may have left us some
                with suppress(OSError):  # the one that listed them is closed
                    os.set_inheritable(fd, False)
        self._before = born(descend(own_children()))
        return self

    @property
    def parent_pid(self) -> int:
        return os.getpid()

    def kills_leader(self, *, grouped: bool, becomes: bool) -> bool:
        """The sentinel kills all processes in a cgroup, whatever their user."""
        return grouped and self.sentinel is not None and self.sentinel.stands

    @property
    def proven_empty(self) -> bool:
        """Whether we have no descendant: a subreaper without a child has none."""
        return LINUX and self.childless

    @property
    def top(self) -> int | None:
        """The process whose children are the agent's, except outsiders."""
        return os.getpid() if LINUX else None

    def last_pid(self) -> int:
        """Return the last pid of this pid namespace: if it has not changed, no process forked."""
        if self._gate < 0:
            return time.monotonic_ns()
        return int(os.pread(self._gate, 128, 0).rpartition(b" ")[2])

    def born_since(self, pid: int) -> range | None:
        """Return the pids assigned after this one; None if there are many, or the kernel does not say."""
        last = self.last_pid()
        return range(pid + 1, last + 1) if self.counted and pid <= last <= pid + _FEW else None

    def __exit__(self, *_: object) -> None:
        os.close(self._home)
        if self._gate >= 0:
            os.close(self._gate)
        # A signal that comes while Python removes its handler is raised as an error wherever we are
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _on_child(self) -> None:
        if not self.reap():
            asyncio.get_running_loop().call_soon(self._on_child)
        self.woken()

    def reap(self) -> bool:
        """Collect exits. False: there may be more; a fork bomb may exit faster than we collect, and the watch waits."""
        for _ in range(_AT_ONCE):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | _WALL)
            except ChildProcessError:
                self.childless = True
                return True
            if not pid:
                self.childless = False
                return True
            if os.WIFSTOPPED(status):
                if pid in self._keeping():  # by its own tree: it would miss our orders and exits
                    os.kill(pid, signal.SIGCONT)
            elif (leader := self._running.pop(pid, None)) is not None:
                code = os.waitstatus_to_exitcode(status)
                leader.exit = Exit(code=code if code >= 0 else None, signal=-code if code < 0 else None)
        self.childless = False
        return False

    def ending(self, leader: Leader) -> Exit | None:
        if leader.exit is None:
            self.reap()
        return leader.exit

    def spawn(self, command: Sequence[str], *, cwd: str | int, env: Mapping[str, str], streams: Streams) -> Leader:
        """Start a leader in a session of its own, with what is inheritable. OSError says why it could not be.

        Only from the main thread. posix_spawn takes half of Popen's time, but knows no `cwd`: we are there meanwhile.
        """
        os.chdir(cwd)
        try:
            pid = os.posix_spawnp(
                command[0], [*command], env, setsid=True, setsigdef=_IGNORED,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            )  # fmt: skip
        finally:
            try:
                os.fchdir(self._home)
            except OSError:  # by now we may not
                os.chdir("/")
        self.counted = self._many_pids and 0 <= self.last_pid() - pid < _MEANWHILE
        self.childless = False
        leader = self._running[pid] = Leader(pid)
        self._leaders.add(leader)
        return leader

    def children(self) -> list[int]:
        return own_children()

    def saw(self, pid: int, start: int) -> None:
        """Note a process found in the agent's tree. Nothing to do: all our descendants are the agent's, except
        outsiders.
        """

    def kill_children(self) -> None:
        """Kill our own children as they are listed: looking at each would be slower than a fork bomb.

        A child keeps its pid until we reap it, so for once a bare pid is as good as a pidfd.
        """
        killed: set[int] = set()
        for _ in range(_CHASES):
            listed, outsiders = own_children(), self.outsiders()
            if self.keepers:  # to ask them is to reap
                ours = set(own_children())
                listed = [pid for pid in listed if pid in ours]
            fresh = [pid for pid in listed if pid not in killed and pid not in outsiders]
            for pid in fresh:
                with suppress(PermissionError):  # it became another user, by a setuid program: only a group can kill it
                    os.kill(pid, signal.SIGKILL)
            killed.update(fresh)
            if not fresh:
                return

    def let_go(self) -> Set[int]:
        """Return the live processes that were allowed to outlive their agent, with all their descendants."""
        self.foreign = with_descent(self.foreign)
        return self.foreign.keys()

    def still_abandoned(self) -> dict[int, int]:
        """Return the live processes that survived SIGKILL: bytes by pid."""
        if not self.abandoned:
            return {}
        with closing(Members()) as members:
            for pid, start in self.abandoned.items():
                if (member := members.add(pid)) is not None and member.start != start:
                    members.drop(member)
            members.used()
            return {member.pid: member.bytes for member in members.living()}

    def outsiders(self) -> Set[int]:
        """Return our descendants that are not the agent's: released ones, those from before us, and tops of other
        trees.

        Call it after our children were listed: a keeper that was killed meanwhile leaves its orphans to us.
        """
        self._before = with_descent(self._before)
        return self.let_go() | self._before.keys() | {pid for keeper in self.keepers for pid in keeper.tops()}

    def unclaimed(self) -> list[int]:
        """List our children without an owner: of a killed keeper, or the agent's if it has no keeper."""
        if not self._leaders <= {keeper.process for keeper in self.keepers}:
            return []
        known = self.let_go() | self._before.keys() | self._keeping()
        return [pid for pid in own_children() if pid not in known]

    def _keeping(self) -> set[int]:
        return {keeper.process.pid for keeper in self.keepers if keeper.process.exit is None}

    def tidy(self) -> None:
        """Drop keepers whose tree is gone and no longer needed."""
        self.keepers = [keeper for keeper in self.keepers if not keeper.release()]

    def let_go_bytes(self) -> int:
        """Return the memory in bytes of processes that were allowed to outlive their agent."""
        if not self.foreign:
            return 0
        with closing(Members()) as members:
            for pid in self.let_go():
                members.add(pid)
            return members.used()

    def forget(self, leader: Leader) -> None:
        self._leaders.remove(leader)


def with_descent(known: dict[int, int]) -> dict[int, int]:
    """Return those that still live, with all their present descendants."""
    return born(descend(pid for pid, start in known.items() if born([pid]).get(pid) == start)) if known else known


def born(pids: Iterable[int]) -> dict[int, int]:
    return {pid: stat.start for pid in pids if (stat := read_stat(pid)) is not None}
