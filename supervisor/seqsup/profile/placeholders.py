"""Placeholders of commands, stdin, environment: {task} {item} {summary:AGENT} {artifacts:AGENT} {artifacts}.

`{{` is a brace. Any other brace is itself, so JSON, find's `{}` and the shell's `${HOME}` need no doubling, unless its
name is near one of ours: that is a slip. `escape_foreign` tells them apart, once, in what the user wrote.
The plan fills in what it knows (`fill`) and the result is still such a text, for what only the run knows
(`finish`, which also ends the `{{`).
"""

import re
from collections.abc import Callable
from functools import cache

_WRITTEN = re.compile(r"\{\{|\$\{(?!\{)|\{([A-Za-z_][A-Za-z0-9_-]*)(?:(?::([^{}]*))?(\}))?")
_PLACEHOLDER = re.compile(r"\{\{|\{([A-Za-z_][A-Za-z0-9_-]*)(?::([^{}]*))?\}")
_NAMED = r"(?:(?:task|item|artifacts)|(?:summary|artifacts):[^{}\s]+)"
_SLIP = re.compile(rf"(?<![{{$])(?:\{{\{{\s*({_NAMED})\s*\}}\}}|\{{(?:\s+({_NAMED})\s*|({_NAMED})\s+)\}})")
PLAIN = ("task", "item", "artifacts")
OF_AGENT = ("summary", "artifacts")
_NEAR = 0.75  # likeness of `taks` to `task`; `system` and `item` have 0.6
FORMS = "{task}, {item}, {summary:AGENT}, {artifacts:AGENT} and {artifacts}"

Values = dict[tuple[str, str | None], str]


def found(text: str) -> list[tuple[str, str | None]]:
    """Return each (name, argument) of a text of the plan."""
    return [(match[1], match[2]) for match in _PLACEHOLDER.finditer(text) if match[1]]


def written(text: str) -> list[tuple[str, str | None]]:
    """Return each (name, argument) of what the user wrote; with slips such as {taks}, without ${HOME} and {word}."""
    return [(match[1], match[2]) for match in _WRITTEN.finditer(text) if _ours(match)]


def slips(text: str) -> list[tuple[str, str]]:
    """Return what looks like a placeholder and is none, each with what was meant: {{task}} and { task }."""
    return [(match[0], f"{{{match[match.lastindex or 0]}}}") for match in _SLIP.finditer(text)]


def escape_foreign(text: str) -> str:
    """Double the braces that are meant for another program, such as those of `${HOME}` and `{word}`."""
    return _WRITTEN.sub(lambda m: m[0] if m[0] == "{{" or _ours(m) else m[0].replace("{", "{{"), text)


def _ours(match: re.Match[str]) -> bool:
    return bool(match[1] and match[3]) and meant(match[1]) is not None


@cache
def meant(name: str) -> str | None:
    """Return the placeholder's name that this one is, or is near."""
    if name in (*PLAIN, *OF_AGENT):
        return name
    from difflib import get_close_matches  # few texts need it

    return next(iter(get_close_matches(name.lower(), (*PLAIN, *OF_AGENT), 1, _NEAR)), None)


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
