"""A complaint about a profile: which key is wrong, where it stands, why, and what to write instead."""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from seqsup.errors import SeqsupError
from seqsup.model.kinds import KeyPath
from seqsup.model.profile import SHARED, Profile
from seqsup.profile.fields import UNKNOWN_KEY
from seqsup.profile.lines import Place, Span, locate, nearest_place
from seqsup.text import columns, fit, printable, wrap

_HINT = re.compile(r"(.*?)(?:\n(.*)| \((did you mean .*\?)\))?", re.DOTALL)
_TAB = 4  # columns
# A line with one of these is not quoted: messages end up in the logs of CI and systemd
_SECRET = re.compile(r"(?i)key|token|secret|passw|credential|://|\benv\b|\bstdin\b")
_TABLE = re.compile(r"^[ \t]*\[+([^\]\n]*)\]", re.MULTILINE)
_SECRET_TABLE = re.compile(r"\b(env|notify)\b")
_LEAST = 24  # columns of an excerpt


class Complaint(Struct, frozen=True, kw_only=True):
    file: str | None = None
    line: int | None = None
    column: int | None = None  # from 1, in characters
    key: str = ""
    message: str
    hint: str = ""  # what to write instead
    name: str = ""  # whose key it is, as `agent embed`
    source: str = ""  # the line
    length: int = 1  # characters of it that are wrong

    def __str__(self) -> str:
        return self.said + (f" ({self.hint})" if self.hint else "")

    def lines(self, width: int | None) -> list[str]:
        """Return what a person reads: the complaint, the line with the place marked, the hint."""
        hint = [f"  hint: {self.hint}"] if self.hint else []
        if "[" not in self.hint:  # a command stays whole, to be copied
            hint = [line for each in hint for line in wrap(each, width, "        ")]
        return [*wrap(self.said, width), *(self._excerpt(width or 100) if self.source.strip() else ()), *hint]

    @property
    def said(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        key = re.sub(r"^\w+\[\d+\]\.?", "", self.key) if self.name else self.key
        return " ".join([*(f"{part}:" for part in (place, self.name, key) if part), self.message])

    def _excerpt(self, width: int) -> list[str]:
        gutter = f"  {self.line} | "
        room = max(width - len(gutter) - 1, _LEAST)
        start = (self.column or 1) - 1
        before = printable(self.source[:start].expandtabs(_TAB))
        marked, after = (
            printable(self.source[start : start + self.length]),
            printable(self.source[start + self.length :]),
        )
        if columns(before + marked + after) > room:
            before = fit(before, max(room // 3, room - columns(marked + after)), keep_end=True)
        marked = fit(marked, room - columns(before))
        after = fit(after, room - columns(before + marked))
        caret = " " * columns(before) + "^" * max(columns(marked), 1)
        return [f"{gutter}{before}{marked}{after}".rstrip(), f"{'|':>{len(gutter) - 1}} {caret}"]


class ProfileError(SeqsupError):
    """All complaints at once, one a line."""

    def __init__(self, found: Iterable[Complaint], rest: "Rest | None" = None) -> None:
        self.complaints = tuple(found)
        self.rest = rest
        super().__init__("\n".join(map(str, self.complaints)))

    def lines(self, width: int | None) -> list[str]:
        return [line for complaint in self.complaints for line in complaint.lines(width)]


# Whatever is wrong with these keys of an agent, its program and folders can be looked for
_BESIDE_THE_POINT = tuple(
    (key,) for key in (*SHARED, "runtime", "needs", "when", "expect", "success", "preset", "stdin", "stdin_file")
)


class Rest(Struct, frozen=True):
    """What can be read of a profile with mistakes, so that the machine's complaints can be told with them."""

    profile: Profile  # defaults stand where it is wrong
    wrong: tuple[KeyPath, ...]

    @property
    def unknown_agents(self) -> frozenset[int]:
        """The places of agents of which the machine cannot be asked."""
        of_agents = (at for at in self.wrong if at[0] == "agents" and len(at) > 1)
        wrong = {at[1] for at in of_agents if isinstance(at[1], int) and at[2:3] not in _BESIDE_THE_POINT}
        agents = enumerate(self.profile.agents)
        return frozenset(wrong | {n for n, agent in agents if not agent.command and agent.form is None})


def complaints(profile: Profile, wrong: Iterable[tuple[KeyPath, str]]) -> list[Complaint]:
    """With their places, in the order of the text; each once. What follows a line break in a message is its hint."""
    found = locate(profile.text)
    placed = [
        _placed(profile, found, at, message)
        for at, message in dict.fromkeys((_home(at, found), message) for at, message in wrong)
    ]
    return sorted(placed, key=lambda complaint: complaint.line or 0)


def _placed(profile: Profile, found: dict[KeyPath, Place], at: KeyPath, text: str) -> Complaint:
    match = _HINT.fullmatch(text)
    assert match is not None
    complaint = Complaint(key=spell(at), message=match[1], hint=match[2] or match[3] or "", name=_owner(profile, at))
    if not profile.file:
        return replace(complaint, name="")
    place = nearest_place(found, at)
    start, end = place.key if at not in found or text.startswith(UNKNOWN_KEY) else place.value or place.key
    if (quoted := re.search(r"\{+[^{}]+\}+", text)) and (inner := profile.text.find(quoted[0], start, end)) >= 0:
        start, end = inner, inner + len(quoted[0])
    fields = mark(profile.text, Span(start, end))
    return replace(
        complaint, file=profile.file, **fields | {"source": ""} if {"env", "stdin", "notify"} & {*at} else fields
    )


def mark(text: str, span: Span) -> dict[str, Any]:
    """Return the place of a piece of text as fields of a Complaint."""
    begin = text.rfind("\n", 0, span.start) + 1
    source = text[begin:].partition("\n")[0].rstrip("\r")
    return {
        "line": text.count("\n", 0, span.start) + 1,
        "column": span.start - begin + 1,
        "source": "" if _SECRET.search(source) or _SECRET_TABLE.search(_table(text[:begin])) else source,
        "length": max(min(span.end - begin, len(source)) - (span.start - begin), 1),
    }


def _table(text: str) -> str:
    """Return the heading of the last table that the text begins."""
    return next(reversed(_TABLE.findall(text)), "")


def _owner(profile: Profile, at: KeyPath) -> str:
    """The agent or companion whose key it is, by its name."""
    kinds = {"agents": ("agent", profile.agents), "companions": ("companion", profile.companions)}
    if len(at) < 2 or at[0] not in kinds:
        return ""
    kind, some = kinds[at[0]]
    name = next((getattr(each, "name", "") for n, each in enumerate(some) if n == at[1]), "")
    return f"{kind} {name}" if name else ""


def _home(at: KeyPath, found: dict[KeyPath, Place]) -> KeyPath:
    """Where the user wrote what an agent inherits: at the top level, unless the agent's own table has it."""
    if at[2:4] == ("for_each", "items") and at not in found:  # written as a list
        at = (*at[:3], *at[4:])
    inherited = at[:1] == ("agents",) and at[2:3] and at[2] in SHARED and at not in found
    return at[2:] if inherited and (at[2:] in found or not found) else at


def spell(at: KeyPath) -> str:
    """agents[0].memory.hard"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_bare(key)}" for key in at).removeprefix(".")


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
