"""A terminal whose last lines are redrawn in place, below what scrolls by. Own code, not rich: that costs 7 MiB and
half a percent of a core, and takes FORCE_COLOR for a terminal."""

import os
import re
import termios
import time
from contextlib import suppress
from math import inf
from typing import Any, TextIO

from seqsup.text import columns
from seqsup.view.canvas import Canvas, Part
from seqsup.view.nonblocking import NonblockingWriter
from seqsup.view.terminal import colourful, symbols

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
REDRAWN_EVERY = 0.5  # seconds
_MUCH = 65536  # bytes that wait
_HIDE, _SHOW, _EMPTY_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K\n"


class Screen:
    """Lines that scroll go above; `draw` replaces the ones below. The cursor waits under them, where a line begins.

    It is painted at most twice a second: what comes sooner waits for the next `draw` that is due, unless it is much.
    """

    def __init__(self, stream: TextIO) -> None:
        self._fd, self._encoding, self._colour = stream.fileno(), symbols(stream), colourful(stream)
        self._outlet = NonblockingWriter(self._fd)
        self._drawn: list[str] = []
        self._size = (0, 0)
        self._above = bytearray()  # that waits
        self._painted = -inf
        self._echoed = self._silence()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:  # it went away
            return 80, 24
        return size.columns or 80, size.lines or 24

    @property
    def canvas(self) -> Canvas:
        """Return the canvas for the present size."""
        return Canvas(self.size[0], self._encoding, self._colour)

    def write(self, lines: bytes) -> None:
        """Print whole lines, which scroll."""
        self._above += lines
        if self.due or len(self._above) > _MUCH:
            self._paint(self._drawn)

    @property
    def due(self) -> bool:
        """Whether enough time is over since it was painted last."""
        return time.monotonic() - self._painted >= REDRAWN_EVERY

    @property
    def broken(self) -> bool:
        return self._outlet.broken

    def pump(self) -> bool:
        """Write what the terminal takes; True when nothing is left."""
        return self._outlet.pump()

    def draw(self, frame: list[list[Part]]) -> None:
        """Show these below; in the background, where others have the terminal, none.

        Nothing is sent when nothing changed, or while the terminal is stuck.
        """
        size, paint = self.size, self.canvas.paint
        lines = [paint(line) for line in frame[: max(1, size[1] - 1)]] if self._in_front() else []
        if not self._above and (lines, size) == (self._drawn, self._size):
            return
        if self._outlet.pump():
            self._paint(lines)
            self._size = size

    def close(self) -> None:
        """Take away what was drawn: only what scrolled stays."""
        self._outlet.write(self._erasing().encode() + self._above)
        self._drawn = []
        self._outlet.close()
        if self._echoed is not None and self._in_front():
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, self._echoed)

    def _silence(self) -> list[Any] | None:
        """Let no key move the cursor, which would leave drawn lines behind. Return the terminal's modes before.

        Only the terminal's foreground processes may do so: others would be stopped.
        """
        if not self._in_front():
            return None
        with suppress(termios.error):
            before, silent = termios.tcgetattr(self._fd), termios.tcgetattr(self._fd)
            silent[3] &= ~termios.ECHO
            termios.tcsetattr(self._fd, termios.TCSANOW, silent)
            return before
        return None

    def _in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # no shell's job
            return True

    def _paint(self, lines: list[str]) -> None:
        frame = self._erasing().encode() + self._above + self._lines(lines)
        self._drawn, self._painted = lines, time.monotonic()
        self._above.clear()
        self._outlet.write(_HIDE.encode() + frame + _SHOW.encode())

    def _erasing(self) -> str:
        """Back to where the drawn lines begin. A terminal that became narrower has broken them in the meantime."""
        width = self.size[0]
        rows = sum(max(1, -(-columns(_STYLE.sub("", line)) // width)) for line in self._drawn)
        # Line by line: tmux takes a cleared screen for one to be kept, and scrolls it away
        return f"\r\x1b[2K\x1b[{rows}A{_EMPTY_LINE * rows}\x1b[{rows}A" if rows else ""

    def _lines(self, lines: list[str]) -> bytes:
        return "".join(f"{line}\n" for line in lines).encode(self._encoding, errors="replace")
