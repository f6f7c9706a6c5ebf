"""Placeholders of commands, stdin, environment: {task} {item} {summary:AGENT} {artifacts:AGENT} {artifacts}.

`{{` is a brace. A brace that begins no name is itself, so JSON and find's `{}` need no doubling.
The plan fills in what it knows (`fill`) and the result is still such a text, for what only the run knows
(`finish`, which also ends the `{{`).
"""

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\{\{|\{([A-Za-z_][A-Za-z0-9_-]*)(?::([^{}]*))?\}")
PLAIN = ("task", "item", "artifacts")
OF_AGENT = ("summary", "artifacts")
FORMS = "{task}, {item}, {summary:AGENT}, {artifacts:AGENT} and {artifacts}"

Values = dict[tuple[str, str | None], str]


def found(text: str) -> list[tuple[str, str | None]]:
    """Each (name, argument), unknown ones included."""
    return [(match[1], match[2]) for match in _PLACEHOLDER.finditer(text) if match[1]]


def known(name: str, argument: str | None) -> bool:
    return name in (PLAIN if argument is None else OF_AGENT)


def escape(text: str) -> str:
    """So that `finish` gives the text back."""
    return text.replace("{", "{{")


def fill(text: str, values: Values) -> str:
    """Put in place of a placeholder its text, which may hold placeholders itself."""
    return _PLACEHOLDER.sub(lambda match: values.get((match[1], match[2]), match[0]), text)


def finish(text: str, value: Callable[[str, str | None], str] | None = None) -> str:
    """What the agent gets: `value(name, argument)` for each placeholder, a brace for each `{{`.

    Without `value` placeholders stay as they are, for people to read.
    """

    def final(match: re.Match[str]) -> str:
        if match[0] == "{{":
            return "{"
        return match[0] if value is None else value(match[1], match[2])

    return _PLACEHOLDER.sub(final, text)
