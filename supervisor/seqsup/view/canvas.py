"""Lines of styled text for a terminal of some width, encoding and colour. Pure."""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from seqsup.text import columns, counted, mark, printable

Part = tuple[str, str]  # style, text
_STYLES = {"": "", "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_NAMES = {code: style for style, code in _STYLES.items() if code}
_PAINT = re.compile(r"\x1b\[(\d+)m")
_EIGHTHS, _EIGHTHS_ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"


def parts(text: str) -> list[Part]:
    """Return a line that `styled` has painted in parts."""
    told, style = list[Part](), ""
    for at, piece in enumerate(_PAINT.split(text)):
        if at % 2:
            style = _NAMES.get(piece, "")
        elif piece:
            told.append((style, piece))
    return told


class Canvas(Struct, frozen=True):
    """A surface to draw lines on. All that it returns fits its width."""

    width: int
    encoding: str | None = "utf-8"
    colour: bool = False

    def paint(self, line: Iterable[Part]) -> str:
        """Return one line as a terminal takes it."""
        if not self.colour:
            return "".join(printable(text) for _, text in line)
        plain = ((style, printable(text)) for style, text in line)
        return "".join(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text for style, text in plain)

    def mark(self, symbol: str) -> str:
        """Return the symbol, or its word where the encoding has no such symbol."""
        return mark(symbol, self.encoding)

    def rule(self) -> list[Part]:
        """Return a line from edge to edge."""
        return [("dim", self.mark("─") * self.width)]

    def fit(self, head: list[Part], parts: Iterable[Part] = ()) -> list[Part]:
        """Return the head, and behind it as many parts as there is room for, the first ones first."""
        line, between = list(head), list[Part]()  # no mark stands before the first, which is cropped if need be
        for part in parts:
            longer = [*line, *between, part]
            if between and sum(columns(text) for _, text in longer) > self.width:
                break
            line, between = longer, [("dim", f" {self.mark('·')} ")]
        return self._within(line)

    def listed(self, head: list[Part], names: list[str]) -> list[Part]:
        """Return the head, as many names as there is room for, and how many more there are."""
        room = self.width - sum(columns(text) for _, text in head)
        for shown in range(min(len(names), max(room, 0) // 3 + 1), 0, -1):  # each takes that at least, with its comma
            rest = f" and {counted(len(names) - shown, 'other')}" if shown < len(names) else ""
            text = ", ".join(names[:shown]) + rest
            if columns(text) <= room or shown == 1:
                return self._within([*head, ("", text)])
        return head

    def bar(self, used: int, whole: int, cells: int, style: str) -> list[Part]:
        """Return a bar of so many cells, filled as far as `used` is of `whole`."""
        filled = min(cells, round(cells * used / whole)) if whole else 0
        return [(style, self.mark("█") * filled), ("dim", self.mark("░") * (cells - filled))]

    def curve(self, points: Sequence[int], whole: int, style: str) -> Part:
        """Return a curve of one cell for each point."""
        levels = _EIGHTHS if self.mark("█") == "█" else _EIGHTHS_ASCII
        return style, "".join(levels[min(7, 8 * point // whole)] if whole else levels[0] for point in points)

    def _within(self, line: list[Part]) -> list[Part]:
        fitted, room = [], self.width
        for style, text in line:
            text = self.cropped(text, room)
            fitted.append((style, text))
            room -= columns(text)
        return fitted

    def cropped(self, text: str, room: int | None = None) -> str:
        """Return the text, cut at its end if it takes more columns than `room`: those of the canvas without it."""
        room = self.width if room is None else room
        if columns(text) <= room:
            return text
        more = self.mark("…")
        while text and columns(text) + len(more) > room:
            text = text[:-1]
        return (text + more)[: max(room, 0)]
