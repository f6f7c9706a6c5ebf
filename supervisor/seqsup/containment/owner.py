"""The owner of a process tree starts the leader, collects its exit, and lists the processes of the tree."""

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from seqsup.model.outcome import Exit


class Leader:
    """The first process of a tree, as its owner knows it. Its pid may be reused once its exit is collected."""

    __slots__ = ("exit", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit: Exit | None = None  # once it is collected


Streams = tuple[int, int, int]  # descriptors that become a leader's stdin, stdout and stderr


class TreeOwner(Protocol):
    """The Reaper for a tree that runs alone, a Keeper for one that runs next to others."""

    soft_nofile: int  # the user's soft limit of open files, before the supervisor raised its own
    foreign: dict[int, int]  # pid -> start, of processes that may outlive their agent
    abandoned: dict[int, int]  # pid -> start, of processes that survived SIGKILL

    # -- starting

    def spawn(self, command: Sequence[str], *, cwd: str | int, env: Mapping[str, str], streams: Streams) -> Leader:
        """Start the tree's leader; OSError says why it could not be started."""

    @property
    def parent_pid(self) -> int | None:
        """This process's pid, where it is the leader's parent: the leader's pid stays its own until reap().

        None: the leader has another parent, and its pid may be reused.
        """

    def kills_leader(self, *, grouped: bool, becomes: bool) -> bool:
        """Return whether the leader is killed when this process dies, without PDEATHSIG in its own words.

        `grouped`: it is in a cgroup. `becomes`: it changes its user.
        """

    # -- the leader's exit

    def reap(self) -> bool:
        """Collect exits of this process's children. False: there may be more."""

    def ending(self, leader: Leader) -> Exit | None:
        """Return the leader's exit; None while it lives."""

    def forget(self, leader: Leader) -> None:
        """Stop caring for a tree whose watch is over."""

    # -- the tree

    @property
    def top(self) -> int | None:
        """The pid to which the tree's orphans fall; None where that is unknown."""

    @property
    def childless(self) -> bool:
        """Whether the last reap() found no child."""

    @property
    def proven_empty(self) -> bool:
        """Whether the kernel proves that the tree is empty."""

    @property
    def counted(self) -> bool:
        """Whether last_pid() uses the pids of the tree's processes: some containers show those of another namespace."""

    def last_pid(self) -> int:
        """Return the pid that was given out last: while it is the same, nothing forked."""

    def children(self) -> list[int]:
        """List the processes at which a walk of the tree begins."""

    def outsiders(self) -> Set[int]:
        """Return the processes below `top` that are not the tree's."""

    def saw(self, pid: int, start: int) -> None:
        """Note a process that was found in the tree."""

    def kill_children(self) -> None:
        """Kill the tree's processes as they are listed, faster than one that forks and exits can be looked at."""
