"""Claims on cgroups: one file for each owner, in the queue's folder, locked while the owner lives.

So a sweep finds cgroups that no journal names: of a killed plan or doctor, or of a run whose state folder is gone. A
name alone proves nothing, because a container's cgroups are visible outside, but its queue is not ours.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from seqsup.containment.cgroup.files import run_prefix
from seqsup.state.run_folder import private

CLAIMS = "groups"
_LET_GO = b"let go\n"


class Claim:
    def __init__(self, file: Path, fd: int, made: tuple[Path, ...] = ()) -> None:
        self._file, self._fd, self._made = file, fd, made
        self.prefix = file.name  # of the cookie
        self.let_go = os.fstat(fd).st_size > 0  # its processes may outlive the owner

    @staticmethod
    def stake(queue: Path, cookie: str) -> "Claim":
        """Claim the cgroups for this process's life. If a sweep holds the file, wait for it."""
        file = queue / CLAIMS / run_prefix(cookie)
        made = tuple(each for each in (file.parent, *file.parent.parents) if not each.exists())
        while True:
            private(file.parent)
            with suppress(FileNotFoundError):
                fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.ftruncate(fd, 0)
                if os.fstat(fd).st_nlink:
                    return Claim(file, fd, made)
                os.close(fd)  # a sweep removed it meanwhile

    def give_up(self, *, gone: bool) -> None:
        """Release the claim. Released processes may still live in the cgroups, which are removed after those exit."""
        if gone:
            with suppress(OSError):  # the next sweep finds an empty claim
                self._file.unlink()
            for folder in self._made:
                with suppress(OSError):
                    folder.rmdir()
        else:
            os.write(self._fd, _LET_GO)
        self.release()

    def release(self) -> None:
        os.close(self._fd)


def abandoned(queue: Path) -> list[Claim]:
    """Take each claim whose owner is dead, until it is released. Claims that another sweep holds are left to it."""
    found: list[Claim] = []
    for file in sorted((queue / CLAIMS).glob("*")):
        with suppress(OSError):
            fd = os.open(file, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                found.append(Claim(file, fd))
    return found
