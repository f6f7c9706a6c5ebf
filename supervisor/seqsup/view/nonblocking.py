"""An output that never blocks its writer: stuck behind `| less`, a supervisor would not watch memory."""

import os
import select
from collections import deque

_ROOM = 4096  # PIPE_BUF: a pipe or terminal that polls as writable takes this much at once
BACKLOG = 8 * 1024 * 1024
_PATIENCE = 5.0  # seconds


class NonblockingWriter:
    """Writes to a descriptor as far as its reader keeps up, and keeps what does not fit for the next time.

    O_NONBLOCK would do it too, but it belongs to the open file, which the user's shell and agents share.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self.lost: OSError | None = None  # why something could not be written, if not for a reader that went away
        self.broken = False  # the reader went away, or the disk is full: nothing more is written
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Take a line, unless its reader is too far behind."""
        if self.broken or self._size + len(line) > BACKLOG:
            return
        self._waiting.append(line)
        self._size += len(line)
        self.pump()

    def pump(self, timeout: float = 0) -> bool:
        """Write what the reader takes within `timeout` seconds at each piece; True when nothing is left."""
        try:
            while self._waiting and self._poll.poll(timeout * 1000):
                line = self._waiting[0]
                done = os.write(self._fd, line[:_ROOM])
                self._size -= done
                if done < len(line):
                    self._waiting[0] = line[done:]
                else:
                    self._waiting.popleft()
        except BlockingIOError:
            return False  # another program made the open file non-blocking
        except OSError as error:
            self.broken = True
            self.lost = None if isinstance(error, BrokenPipeError) else error
            self._waiting.clear()
        return not self._waiting

    def close(self) -> None:
        """Wait for the reader to take the rest, as long as it takes some of it. The descriptor is not ours to close."""
        self.pump(timeout=_PATIENCE)
