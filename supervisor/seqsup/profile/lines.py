"""Where each key and value of a TOML text stands; tomllib keeps no places.

tomlkit does not help: it gathers `[[agents]]` that stand apart, so its rendering is not the user's text.
"""

import re
import tomllib
from contextlib import suppress
from typing import NamedTuple

from seqsup.model.kinds import KeyPath

# Strings and comments first, so that a bracket inside them counts for nothing.
_TOKEN = re.compile(
    r'(?P<text>"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*')"
    r"|(?P<skip>\#[^\n]*|[ \t\r]+)"
    r"|(?P<bare>[^\s\"'\#\[\]{}=,.]+)"
    r"|(?P<mark>.)",
    re.DOTALL,
)
_ENDS = ("", "\n", ",", "]", "}")  # what stands behind a value


class Span(NamedTuple):
    """A piece of the text, in characters from its beginning."""

    start: int
    end: int


class Place(NamedTuple):
    """Where a key stands, and its value. A table that has only a header has no value."""

    key: Span
    value: Span | None = None


def locate(text: str) -> dict[KeyPath, Place]:
    """Every key's path -> its place. The text is TOML: tomllib has read it."""
    scan = _Scan(text)
    with suppress(ValueError, RecursionError):  # nested beyond reason: the rest stands where the table around it does
        scan.document()
    return scan.found


def nearest_place(found: dict[KeyPath, Place], at: KeyPath) -> Place:
    """The place of a key, or of the table around it; the beginning if the text has neither."""
    while at and at not in found:
        at = at[:-1]
    return found.get(at, Place(Span(0, 0)))


class _Scan:
    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, Place] = {}
        self._tokens = [token for token in _TOKEN.finditer(text) if token.lastgroup != "skip"]
        self._next = 0
        self._newest: dict[KeyPath, int] = {}  # index of the last element of an array of tables

    def document(self) -> None:
        table: KeyPath = ()
        while self._next < len(self._tokens):
            if self._is("\n"):
                self._next += 1
            elif self._is("["):
                table = self._header()
            else:
                self._pair(table)

    def _is(self, *marks: str) -> bool:
        return (self._tokens[self._next][0] if self._next < len(self._tokens) else "") in marks

    def _take(self) -> Span:
        if self._next >= len(self._tokens):
            raise ValueError("the text is over")
        self._next += 1
        return Span(*self._tokens[self._next - 1].span())

    def _names(self) -> list[tuple[str, Span]]:
        """The parts of a dotted key."""
        names = []
        while True:
            span = self._take()
            token = self._tokens[self._next - 1]
            name = token[0] if token.lastgroup == "bare" else str(tomllib.loads(f"a = {token[0]}")["a"])
            names.append((name, span))
            if not self._is("."):
                return names
            self._next += 1

    def _header(self) -> KeyPath:
        path: KeyPath = ()
        start = self._take().start
        of_array = self._is("[") and bool(self._take())
        names = self._names()
        for n, (name, span) in enumerate(names):
            path = (*path, name)
            self.found.setdefault(path, Place(span))
            if of_array and n == len(names) - 1:
                self._newest[path] = self._newest.get(path, -1) + 1
            if path in self._newest:
                path = (*path, self._newest[path])
        self._take()
        if of_array:
            self.found[path] = Place(Span(start, self._take().end))
        return path

    def _pair(self, path: KeyPath) -> None:
        names = self._names()
        for name, span in names:
            path = (*path, name)
            self.found.setdefault(path, Place(span))
        self._take()  # =
        value = self._value(path)
        self.found[path] = Place(names[-1][1], value)

    def _value(self, path: KeyPath) -> Span:
        first = self._take()
        if self._tokens[self._next - 1][0] == "[":
            return Span(first.start, self._inside("]", path))
        if self._tokens[self._next - 1][0] == "{":
            return Span(first.start, self._inside("}", path))
        last = first
        while self._next < len(self._tokens) and not self._is(*_ENDS):  # 1.5, or a date and its time
            last = self._take()
        return Span(first.start, last.end)

    def _inside(self, closing: str, path: KeyPath) -> int:
        """Read what is in brackets or braces, and return its end."""
        number = 0
        while not self._is(closing):
            if self._is("\n", ","):
                self._next += 1
            elif closing == "}":
                self._pair(path)
            else:
                at = (*path, number)
                value = self._value(at)
                self.found[at] = Place(value, value)
                number += 1
        return self._take().end
