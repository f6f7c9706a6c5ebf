"""The machine's turn: one run of this user at a time, first come, first served, however the one before exits.

Each process in the queue holds the lock of a numbered ticket, and the lowest held ticket has the turn. The kernel
releases the lock of a dead process, so a kill needs no cleanup.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from seqsup.host.machine import boot_id
from seqsup.state.run_folder import private

if TYPE_CHECKING:  # a reader must not pay for asyncio
    from seqsup.host.wake import Wake

_LOOK_AGAIN = 0.2  # seconds; the one ahead may be in another pid namespace, so there is no pidfd to wait on


_HOLDER = re.compile(r"(.+) \(pid ([0-9]+), since ([0-9:]+)\)")


class Waiting(Struct, frozen=True):
    """A run in the queue."""

    label: str
    name: str
    pid: int
    since: str  # time of day


def introduced(name: str) -> str:
    """Return this process's name in the queue, for people and for `queued`."""
    return f"{name} (pid {os.getpid()}, since {time.strftime('%H:%M:%S')})"


class Ticket:
    """A ticket in the queue of one state folder. Of every boot there is a new queue."""

    def __init__(self, queue: Path, number: int, fd: int, *, own: bool = True) -> None:
        self._queue, self._number, self._fd, self._own = queue, number, fd, own

    @staticmethod
    def queue_up(folder: Path, holder: str) -> "Ticket":
        """Take the next ticket; others read the name and time in `holder` while they wait."""
        queue = private(_queue(folder))
        with _door(queue):
            number = max(_numbers(queue), default=0) + 1
            fd = os.open(queue / str(number), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, holder.encode())
        return Ticket(queue, number, fd)

    @staticmethod
    def taken_over(folder: Path, place: tuple[int, int], holder: str) -> "Ticket":
        """Take the ticket that this process inherited from its parent; `place` is the parent's `pass_on()`."""
        number, fd = place
        os.set_inheritable(fd, False)
        os.pwrite(fd, holder.encode(), 0)
        return Ticket(_queue(folder), number, fd)

    @staticmethod
    def lent(folder: Path, place: tuple[int, int]) -> "Ticket":
        """Share the ticket of a parent, which has others share it too. It is left when all of them have left it."""
        number, fd = place
        os.set_inheritable(fd, False)
        return Ticket(_queue(folder), number, fd, own=False)

    def pass_on(self) -> tuple[int, int]:
        """Return its number and its file descriptor, for a child that inherits the latter."""
        return self._number, self._fd

    @property
    def label(self) -> str:
        return f"q{self._number}"

    def awaited(self) -> bool:
        """Return whether another process waits behind this ticket."""
        return any(number > self._number for number, _ in _numbered(self._queue))

    def ahead(self) -> list[str]:
        """List the processes ahead, the one with the turn first. Tickets of dead processes are removed on the way."""
        with _door(self._queue):
            before = sorted(number for number in _numbers(self._queue) if number < self._number)
            return [holder for number in before for holder in _held(self._queue / str(number))]

    async def wait(self, wake: "Wake", tell: Callable[[list[str]], None], stop: Callable[[], bool]) -> bool:
        """Wait until none is ahead; False when `stop` returned true first. `tell` gets each change of the queue."""
        told: list[str] = []
        while ahead := self.ahead():
            if stop():
                return False
            if ahead != told:
                told = ahead
                tell(ahead)
            await wake.wait(_LOOK_AGAIN)
        return True

    def leave(self) -> None:
        if self._own:
            with suppress(OSError):  # a ticket without a lock counts for nothing
                (self._queue / str(self._number)).unlink()
        self.close()

    def close(self) -> None:
        """Close this process's descriptor. A child that inherited it keeps the place."""
        os.close(self._fd)


def waiting(folder: Path) -> list[str]:
    """List the processes in a folder's queue, the one with the turn first. Read-only."""
    return [holder for _, holder in _holders(folder)]


def ahead(folder: Path, of: Waiting) -> list[str]:
    """List the processes ahead of a waiting one. Read-only."""
    return [holder for number, holder in _holders(folder) if number < int(of.label[1:])]


def _holders(folder: Path) -> list[tuple[int, str]]:
    return _numbered(_queue(folder))


def _numbered(queue: Path) -> list[tuple[int, str]]:
    numbers = sorted(_numbers(queue)) if queue.exists() else []
    return [(number, holder) for number in numbers for holder in _held(queue / str(number), tidy=False)]


def queued(folder: Path) -> list[Waiting]:
    """List the processes behind the one with the turn, the next one first. Read-only."""
    read = [(number, _HOLDER.fullmatch(holder)) for number, holder in _holders(folder)[1:]]
    return [Waiting(f"q{number}", holder[1], int(holder[2]), holder[3]) for number, holder in read if holder]


def _queue(folder: Path) -> Path:
    return folder / f"turn-{boot_id()[:8]}"


@contextmanager
def _door(queue: Path) -> Iterator[None]:
    """Only one looks or takes at a time: a ticket is never seen between its making and its locking."""
    fd = os.open(queue / "door", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _numbers(queue: Path) -> Iterator[int]:
    return (int(entry.name) for entry in queue.iterdir() if entry.name.isdigit())


def _held(ticket: Path, *, tidy: bool = True) -> Iterator[str]:
    try:
        fd = os.open(ticket, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if tidy:
            ticket.unlink(missing_ok=True)
    except BlockingIOError:
        yield os.read(fd, 4096).decode(errors="replace")
    finally:
        os.close(fd)
