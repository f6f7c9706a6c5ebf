"""What is read of any process, whoever reads it."""

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


class Share(Struct, frozen=True):
    """What a process has of its tree's memory, in bytes; what several have is divided among them (PSS)."""

    bytes: int  # without pages of files, where the kernel tells them apart, and without what was given back
    given_back: int  # by MADV_FREE: the kernel takes it when it needs it
