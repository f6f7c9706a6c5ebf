"""Which of a user's runs has a port. One that lingers, for a last scrape, gives it up when the next one wants it.

Whoever serves on a port holds the lock of a file that is named after it; whoever wants it leaves a word in the file.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from seqsup.state.run_folder import private

PATIENCE = 5.0  # seconds that a run waits for the one before it, which looks 20 times a second


class Port:
    def __init__(self, state_dir: Path, number: int) -> None:
        self._path = state_dir / "metrics" / f"port-{number}"
        self._fd = -1
        self._since: float | None = None  # monotonic: when it was first asked for

    def claim(self) -> bool:
        """Say whether it can be tried now; False: the run before still has it, so ask again soon."""
        try:
            if self._fd < 0:
                private(self._path.parent)
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
        except BlockingIOError:
            self._since = self._since or time.monotonic()
            if time.monotonic() - self._since < PATIENCE:
                with suppress(OSError):
                    os.pwrite(self._fd, b"wanted\n", 0)
                return False
            self.give_up()  # no more than others have
        except OSError:
            self.give_up()  # a folder that cannot be written: the port can be had all the same
        return True

    @property
    def wanted(self) -> bool:
        """Say whether the next run waits for it."""
        return self._fd >= 0 and os.fstat(self._fd).st_size > 0

    def give_up(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
