"""Placeholders of commands, stdin, environment: {task} {item} {summary:AGENT} {artifacts:AGENT} {artifacts}.
Of the environment alone: {secret:NAME}.

All other braces are themselves: JSON, templates, object literals, find's `{}`, the shell's `${HOME}`. Before a
placeholder, `{{` is one brace: `{{task}` is the text `{task}`. What is nearly a placeholder is a slip.
`escape_foreign` tells them apart, once, in what the user wrote. In its result `{{` is a brace everywhere.
The plan fills in what it knows (`fill`) and the result is still such a text, for what only the run knows
(`finish`, which also ends the `{{`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache

_NAME = "[A-Za-z_][A-Za-z0-9_-]*"
_PLACEHOLDER = re.compile(rf"\{{\{{|\{{({_NAME})(?::([^{{}}]*))?\}}")
_BRACES = re.compile(rf"(\$?)(\{{+)(\s*({_NAME})(?:\s*:\s*([\w.-]*))?\s*)?(\}}*)")
PLAIN = ("task", "item", "artifacts")
OF_AGENT = ("summary", "artifacts")
SECRET = "secret"
_WITH_ARGUMENT = (*OF_AGENT, SECRET)
_NEAR = 0.75  # likeness of `taks` to `task`; `system` and `item` have 0.6

Values = dict[tuple[str, str | None], str]


def found(text: str) -> list[tuple[str, str | None]]:
    """Return each (name, argument) of a text of the plan."""
    return [(match[1], match[2]) for match in _PLACEHOLDER.finditer(text) if match[1]]


def written(text: str) -> list[tuple[str, str | None]]:
    """Return each (name, argument) of what the user wrote; with slips such as {taks}, without ${HOME} and {word}."""
    return [(match[4], match[5]) for match in _ours(text) if len(match[2]) % 2 and not _slipped(match)]


def slips(text: str) -> list[tuple[str, str]]:
    """Return what looks like a placeholder and is none, each with what was meant: {{task}} and { task }."""
    return [
        (match[2] + match[3] + match[6][: len(match[2])], spell_meant(match[4], match[5]))
        for match in _ours(text) if _slipped(match)
    ]  # fmt: skip


def escape_foreign(text: str) -> str:
    """Double the braces that are meant for another program, such as those of `${HOME}` and `{word}`."""
    return _BRACES.sub(lambda match: match[0] if _is_ours(match) else match[0].replace("{", "{{"), text)


def escape_but_secrets(text: str) -> str:
    """Double all braces but those of {secret:NAME}, in what the user wrote where there are no other placeholders."""

    def kept(match: re.Match[str]) -> bool:
        return _is_ours(match) and match[4] == SECRET

    return _BRACES.sub(lambda match: match[0] if kept(match) else match[0].replace("{", "{{"), text)


def secrets(texts: Iterable[str]) -> list[str]:
    """Return the names of the secrets in texts of the plan, each once."""
    named = (argument for text in texts for name, argument in found(text) if name == SECRET)
    return list(dict.fromkeys(filter(None, named)))


def quote(text: str) -> str:
    """Return a text as a profile writes it, without placeholders: `escape_foreign` and `finish` give it back."""
    return _BRACES.sub(lambda match: match[0].replace("{", "{{") if _is_ours(match) else match[0], text)


def _ours(text: str) -> Iterator[re.Match[str]]:
    return filter(_is_ours, _BRACES.finditer(text))


def _is_ours(match: re.Match[str]) -> bool:
    """Say whether the braces hold a placeholder, escaped or not, or a slip."""
    dollar, _, inside, name, argument, closing = match.groups()
    if dollar or not inside or not closing:
        return False
    if _has_blanks(match):
        return argument != "" and known(name, argument)
    near = meant(name)
    return near is not None if argument is None else near in _WITH_ARGUMENT


def _slipped(match: re.Match[str]) -> bool:
    opening, closing = len(match[2]), len(match[6])
    return (opening in (2, 3) and closing >= opening) or (opening % 2 == 1 and _has_blanks(match))


def _has_blanks(match: re.Match[str]) -> bool:
    return any(map(str.isspace, match[3]))


@cache
def meant(name: str) -> str | None:
    """Return the placeholder's name that this one is, or is near."""
    if name in (*PLAIN, *_WITH_ARGUMENT):
        return name
    from difflib import get_close_matches  # few texts need it

    return next(iter(get_close_matches(name.lower(), (*PLAIN, *_WITH_ARGUMENT), 1, _NEAR)), None)


def spell(name: str, argument: str | None) -> str:
    return f"{{{name}}}" if argument is None else f"{{{name}:{argument}}}"


def spell_meant(name: str, argument: str | None) -> str:
    """Return the placeholder that this one is near."""
    near = meant(name) or ""
    wants = near not in PLAIN or (argument is not None and near in OF_AGENT)
    return spell(near, (argument or ("NAME" if near == SECRET else "AGENT")) if wants else None)


def known(name: str, argument: str | None) -> bool:
    return name in (PLAIN if argument is None else _WITH_ARGUMENT)


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
