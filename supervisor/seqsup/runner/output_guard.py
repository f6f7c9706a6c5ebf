"""Keeps output within output.max between two looks at its tree, which may be a second apart.

The kernel wakes it at the first write to output that was quiet. Output that grows is looked at every 20 ms, and
more often the faster it grows. Quiet output costs nothing. Where there is no inotify the looks at the tree must do.

It begins after 20 ms, and what shows writes is closed in a thread: the kernel takes 8 to 16 ms for that, five times as
long as a short agent lives.
"""

import _thread
import asyncio
import ctypes
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from seqsup.policy import pacing
from seqsup.state.output import Output

_ONCE = 0x2 | 0x80000000  # IN_MODIFY, IN_ONESHOT
_FIRST = 0.02  # seconds until the first look


class OutputGuard:
    def __init__(self, outputs: Sequence[Output], most: int) -> None:
        """Guard streams of which `most` bytes each are kept. It must be closed before they are."""
        self._outputs, self._most = outputs, most
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_FIRST, self._begin)
        self._at, self._size = time.monotonic(), 0
        self._add = getattr(ctypes.CDLL(None), "inotify_add_watch", None)
        self._fd = -1

    @property
    def works(self) -> bool:
        """Whether the kernel reports writes: it may have no inotify, or none left (fs.inotify.max_user_instances)."""
        return self._fd >= 0

    def _begin(self) -> None:
        self._timer = None
        if self._add is not None:
            self._fd = ctypes.CDLL(None).inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.works:
            self._loop.add_reader(self._fd, self._written)
            self._look()

    def _arm(self) -> None:
        for output in self._outputs:
            self._add(self._fd, b"/proc/self/fd/%d" % output.fd, _ONCE)  # type: ignore[misc]

    def _written(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 4096)
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        """Trim output that has grown, and look again soon. The kernel reports the next write to the rest."""
        now, size = time.monotonic(), sum(output.size() for output in self._outputs)
        grown, self._timer = size - self._size, None
        if grown:
            for output in self._outputs:
                output.trim(self._most)
            pause = pacing.until_trim_while_growing(max(grown, 0) / max(now - self._at, 1e-4), self._most)
            self._timer = self._loop.call_later(pause, self._look)
        else:
            self._arm()
        self._at, self._size = now, size

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.works:
            self._loop.remove_reader(self._fd)
            try:
                _thread.start_new_thread(os.close, (self._fd,))
            except RuntimeError:  # no more threads can be started
                os.close(self._fd)
            self._fd = -1
