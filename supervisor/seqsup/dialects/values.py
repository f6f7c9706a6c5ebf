"""Values of a decoded line. A value of a wrong type counts as a missing one."""

import math
from typing import Any

from seqsup.model.conversation import Tokens

_ABOUT = 200  # characters
_MOST = 1e15  # a larger count is nonsense
# what describes the use of a tool best, over all CLIs
_TELLING = ("command", "cmd", "file_path", "path", "description", "pattern", "query", "url", "prompt")


def table(value: Any, *path: str) -> dict[str, Any]:
    """Return the table at this path, or an empty one."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    """Return the tables of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """Return a number that is not negative."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST
    return float(value) if fits and math.isfinite(value) else None


def count(value: Any) -> int:
    return int(number(value) or 0)


def about(value: Any) -> str:
    """Return the first line of a tool's input, cut to 200 characters."""
    if isinstance(value, dict):
        named = (value.get(key) for key in _TELLING)
        value = next((each for each in (*named, *value.values()) if each and isinstance(each, str | list)), "")
    if isinstance(value, list):
        value = " ".join(each for each in value if isinstance(each, str))
    return text(value).strip().split("\n", 1)[0][:_ABOUT].rstrip()


def tokens(usage: dict[str, Any], read: str, write: str = "", *, apart: bool = False) -> Tokens:
    """Return the tokens of a table with `input_tokens` and `output_tokens`, and the names of its cached ones.

    `apart`: the cached ones are not part of `input_tokens`.
    """
    cached, written, all_input = count(usage.get(read)), count(usage.get(write)), count(usage.get("input_tokens"))
    return Tokens(
        input=all_input if apart else max(0, all_input - cached - written),
        output=count(usage.get("output_tokens")),
        cache_read=cached,
        cache_write=written,
    )


def over(tokens: Tokens, before: Tokens) -> Tokens:
    """Return the tokens that are more than `before`, at least 0 of each kind."""
    return Tokens(
        input=max(0, tokens.input - before.input), output=max(0, tokens.output - before.output),
        cache_read=max(0, tokens.cache_read - before.cache_read),
        cache_write=max(0, tokens.cache_write - before.cache_write),
    )  # fmt: skip
