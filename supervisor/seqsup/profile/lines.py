"""The line on which each key of a TOML text stands; tomllib keeps none.

tomlkit does not help: it gathers `[[agents]]` that stand apart, so its rendering is not the user's text.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from seqsup.model.kinds import KeyPath

# Strings and comments first, so that a bracket inside them counts for nothing.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[^\"'\#\[\]{}\n]+"
    r"|.",
    re.DOTALL,
)


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header or `key = value`, whole, with the number of its first line."""
    depth = start = 0
    line = first = 1
    for match in _TOKEN.finditer(text + "\n"):
        token = match[0]
        line += token.count("\n")
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if token == "\n" and depth <= 0:
            yield first, text[start : match.end()]
            start, first, depth = match.end(), line, 0


def locate(text: str) -> dict[KeyPath, int]:
    """Every key's path -> its line; a value written over several lines stands where it begins."""
    found: dict[KeyPath, int] = {}
    newest: dict[KeyPath, int] = {}  # index of the last element of an array of tables
    table: KeyPath = ()
    for line, statement in statements(text):
        if statement.lstrip()[:1] in ("", "#"):  # nothing, or a comment
            continue
        try:
            tree = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                table = _header(tree, line, found, newest)
            else:
                _note(tree, table, line, found)
        except (ValueError, RecursionError):
            pass  # no TOML, or nested beyond reason: its keys stand where the table does
    return found


def line_of(found: dict[KeyPath, int], at: KeyPath) -> int:
    """The line of a key, or of the table around it; 1 when the text has neither."""
    while at and at not in found:
        at = at[:-1]
    return found.get(at, 1)


def _header(tree: Any, line: int, found: dict[KeyPath, int], newest: dict[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    while isinstance(tree, dict) and tree:
        if path in newest:
            path = (*path, newest[path])
        [(key, tree)] = tree.items()
        path = (*path, key)
        found.setdefault(path, line)
    if isinstance(tree, list):
        newest[path] = newest.get(path, -1) + 1
        path = (*path, newest[path])
        found[path] = line
    elif path in newest:
        path = (*path, newest[path])
    return path


def _note(tree: Any, path: KeyPath, line: int, found: dict[KeyPath, int]) -> None:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        found.setdefault((*path, key), line)
        _note(value, (*path, key), line, found)
