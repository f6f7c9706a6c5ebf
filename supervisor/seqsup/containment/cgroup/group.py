"""What a tier of cgroups must implement: a cgroup for each tree, and the maker of a run's cgroups.

A process cannot leave its cgroup by forking. A cgroup is killed and measured as one. Its limit is a little above
`hard`, for trees that grow faster than the watcher looks.
"""

from typing import Protocol

from seqsup.units import MIB

_ABOVE, _AT_LEAST = 2, 16 * MIB  # per cent of hard, and bytes


class Unavailable(Exception):
    """This machine does not give such cgroups; the message says why."""


class Membership(Protocol):
    """The processes that belong together."""

    entry: tuple[str, ...]  # the files by which a process enters: see launcher

    def pids(self) -> list[int]:
        """List the processes in it and below it."""

    def kill(self) -> None:
        """Kill every process in it, once."""

    def close(self) -> bool:
        """Remove it if it is empty, and return whether it is gone. Does not wait; may be called again."""


class Cgroup(Membership, Protocol):
    """The cgroup of one tree."""

    @property
    def oom_event(self) -> int | None:
        """A descriptor that is readable once the kernel met the limit; oom_kills() resets it.

        It is made on first use: a job that does not wait for it saves a hundredth of its cost.
        """

    def used(self) -> int | None:
        """Return its anonymous and shared memory in bytes, without page cache and kernel memory.

        The kernel may be behind by 128 pages a CPU, for two seconds at most. It covers only what weighed() lists.
        """

    def tasks(self) -> int | None:
        """Return the number of threads in it and below it, or None if the kernel does not report it. It changes when a
        process enters or leaves.
        """

    def weighed(self) -> list[int]:
        """List the processes whose memory is charged here; a process of the tree may be in another cgroup."""

    def peak(self) -> int | None:
        """Return the most that was ever charged, in bytes. It includes page cache: an upper bound of used()."""

    def charged(self) -> int | None:
        """Return what is charged now, in bytes, with page cache and the kernel's own memory."""

    def oom_kills(self) -> int:
        """Return how often the kernel killed here for memory. A group kill counts a process twice."""

    def figures(self) -> str:
        """Return the kernel's own figures, for a reader of the reason kernel-oom."""


class Cgroups(Protocol):
    """Makes the cgroups of one run."""

    detail: str
    limits: bool  # whether the kernel keeps `hard`
    kill_file: str | None  # a write to it kills all of the run

    def make(self, name: str, hard: int | None, pids_max: int | None, *, as_one: bool = True) -> Cgroup:
        """Make the cgroup of one tree, without swap; OSError says what the kernel refused.

        `as_one`: if the kernel kills in it, it kills all of it where it can.
        """

    def close(self) -> bool:
        """Remove the run's empty cgroups, and return whether all are gone."""


def backstop(hard: int) -> int:
    """Return the kernel's limit in bytes: so far above hard that the watcher, which can name causes, comes first."""
    return hard + max(hard * _ABOVE // 100, _AT_LEAST)


def hard_for(limit: int) -> int:
    """Return the largest hard in bytes of which the kernel's limit is not above `limit` bytes."""
    return min(limit - _AT_LEAST, limit * 100 // (100 + _ABOVE))
