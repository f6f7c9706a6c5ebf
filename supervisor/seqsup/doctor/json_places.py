"""Where each value of a JSON text is, which the json module does not report."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from seqsup.text import cut

_DEEPEST = 6  # keys and indexes in a path; values below have no place
_KEY = 80  # characters of a key in a path
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')


class JsonPlace(NamedTuple):
    """Path of a key or an element, such as hooks.Stop[0], and its line. `before`: line of the same key before, or 0."""

    path: str
    line: int
    before: int


class _Open:
    """An object or a list that is not closed yet."""

    def __init__(self, path: str, bracket: str) -> None:
        self._path, self.is_list = path, bracket == "["
        self._keys: dict[str, int] = {}  # and their lines
        self._count = 0

    def step(self, word: str, line: int) -> JsonPlace:
        """Return the place of the next key or element."""
        if self.is_list:
            self._count += 1
            return JsonPlace(f"{self._path}[{self._count - 1}]", line, 0)
        key = json.loads(word)
        before = self._keys.get(key, 0)
        self._keys[key] = line
        return JsonPlace(f"{self._path}.{shortened(key)}".lstrip("."), line, before)


def shortened(key: str) -> str:
    """Return a key as it is in a path."""
    return cut(key, _KEY)


def places(text: str) -> Iterator[JsonPlace]:
    """Yield the place of each key and each element, in the order of the text, which must be valid JSON."""
    line, seen, before, path = 1, 0, "", ""
    stack: list[_Open] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        line += text.count("\n", seen, token.start())
        seen = token.start()
        if word in ("}", "]"):
            stack.pop()
        elif word not in (",", ":"):
            if stack and (stack[-1].is_list or before in ("{", ",")):
                place = stack[-1].step(word, line)
                path = place.path
                if len(stack) <= _DEEPEST:
                    yield place
            if word in ("{", "["):
                stack.append(_Open(path if len(stack) < _DEEPEST else "", word))
        before = word
