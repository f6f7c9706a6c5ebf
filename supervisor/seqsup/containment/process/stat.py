"""Facts of a process that are read the same way for every purpose."""

from msgspec import Struct

COMMAND = 300  # characters of a command line that are kept: a prompt may be pages long


class Stat(Struct, frozen=True):
    name: str
    state: str
    parent: int
    start: int  # Linux: clock ticks since boot; with the pid the identity of a process
    forked: bool = False  # and runs nothing of its own yet
    faults: int = 0  # pages that it was given, new ones or of its own instead of its parent's
    threads: int = 1
    cpu: int = 0  # clock ticks of processor time
    of_ended: int = 0  # the same, of its children that ended


class Share(Struct, frozen=True):
    """A process's part of its tree's memory, in bytes; shared memory is divided among its users (PSS)."""

    bytes: int  # without file pages, if the kernel distinguishes them, and without freed memory
    given_back: int  # by MADV_FREE: the kernel takes it when it needs memory
