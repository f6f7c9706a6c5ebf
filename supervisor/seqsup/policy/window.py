"""A part of each day, such as the night."""

import re

from msgspec import Struct

DAY = 24 * 60  # minutes
_TIMES = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*(?:([01]?\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)


class Window(Struct, frozen=True):
    """From `begin` until before `end`, in minutes of the day. It may contain midnight."""

    begin: int
    end: int

    @staticmethod
    def parse(text: str) -> "Window":
        """Read 22:00-07:00. ValueError: it is no such text, or the window is empty."""
        if (match := _TIMES.fullmatch(text.strip())) is None:
            raise ValueError(text)
        hour, minute, until_hour, until_minute = match.groups()
        window = Window(int(hour) * 60 + int(minute), int(until_hour or 24) * 60 + int(until_minute or 0))
        if window.begin == window.end:
            raise ValueError(text)
        return window

    def holds(self, minute: int) -> bool:
        """Return whether it contains a minute of the day."""
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def __str__(self) -> str:
        return f"{self.begin // 60:02}:{self.begin % 60:02} and {self.end // 60:02}:{self.end % 60:02}"
