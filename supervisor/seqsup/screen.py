"""A terminal whose last lines are redrawn in place, below what scrolls by. Own code, not rich: that costs 7 MiB and
half a percent of a core, and takes FORCE_COLOR for a terminal."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from .outlet import Outlet
from .wording import columns

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_HIDE, _SHOW, _EMPTY_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K\n"


def colourful(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour what goes there. It says nothing about redrawing: FORCE_COLOR must not animate a CI log."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def redrawable(streams: Sequence[TextIO], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a terminal with a person before it: not a pipe, not CI, not one that only prints."""
    return (
        all(stream.isatty() for stream in streams)
        and environ.get("TERM", "dumb") != "dumb"
        and not environ.get("CI")
    )  # fmt: skip


def symbols(stream: TextIO, environ: Mapping[str, str] = os.environ) -> str:
    """The encoding whose symbols the terminal can show. Python speaks UTF-8 also where the locale is C."""
    locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    return "ascii" if locale in ("C", "POSIX") else stream.encoding


class Screen:
    """Lines that scroll go above; `draw` replaces the ones below. The cursor waits under them, where a line begins."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd, self._encoding = fd, encoding
        self._outlet = Outlet(fd)
        self._drawn: list[str] = []
        self._size = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:  # it went away
            return 80, 24
        return size.columns or 80, size.lines or 24

    def write(self, lines: bytes) -> None:
        """Print whole lines, which scroll."""
        self._outlet.write(self._erasing().encode() + lines + self._lines(self._drawn))

    @property
    def broken(self) -> bool:
        return self._outlet.broken

    def pump(self) -> bool:
        """Write what the terminal takes; True when nothing is left."""
        return self._outlet.pump()

    def draw(self, lines: list[str]) -> None:
        """Show these below. Nothing is sent when nothing changed, or while the terminal is stuck."""
        size = self.size
        lines = lines[: max(1, size[1] - 1)]
        if (lines, size) == (self._drawn, self._size) or not self._outlet.pump():
            return
        frame = self._erasing().encode() + self._lines(lines)
        self._drawn, self._size = lines, size
        self._outlet.write(_HIDE.encode() + frame + _SHOW.encode())

    def close(self) -> None:
        """Take away what was drawn: only what scrolled stays."""
        self._outlet.write(self._erasing().encode())
        self._drawn = []
        self._outlet.close()

    def _erasing(self) -> str:
        """Back to where the drawn lines begin. A terminal that became narrower has broken them in the meantime."""
        width = self.size[0]
        rows = sum(max(1, -(-columns(_STYLE.sub("", line)) // width)) for line in self._drawn)
        # Line by line: tmux takes a cleared screen for one to be kept, and scrolls it away
        return f"\r\x1b[{rows}A{_EMPTY_LINE * rows}\x1b[{rows}A" if rows else ""

    def _lines(self, lines: list[str]) -> bytes:
        return "".join(f"{line}\n" for line in lines).encode(self._encoding, errors="replace")
