"""A complaint about a profile: which key is wrong, on which line, and why."""

import re
from collections.abc import Iterable

from msgspec import Struct

from seqsup.errors import SeqsupError
from seqsup.model.kinds import KeyPath
from seqsup.model.profile import SHARED, Profile
from seqsup.profile.lines import line_of, locate


class Complaint(Struct, frozen=True, kw_only=True):
    file: str | None = None
    line: int | None = None
    key: str = ""
    message: str

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:" if self.line is None else f"{self.file}:{self.line}:"
        return " ".join(part for part in (place, self.key and f"{self.key}:", self.message) if part)


class ProfileError(SeqsupError):
    """All complaints at once, one a line."""

    def __init__(self, found: Iterable[Complaint], rest: "Rest | None" = None) -> None:
        self.complaints = tuple(found)
        self.rest = rest
        super().__init__("\n".join(map(str, self.complaints)))


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
        return frozenset(at[1] for at in of_agents if isinstance(at[1], int) and at[2:3] not in _BESIDE_THE_POINT)


def complaints(profile: Profile, wrong: Iterable[tuple[KeyPath, str]]) -> list[Complaint]:
    """With their lines, in the order of the text; each once."""
    found = locate(profile.text)
    placed = [
        Complaint(
            file=profile.file,
            line=line_of(found, at) if profile.file else None,
            key=spell(at),
            message=message,
        )
        for at, message in dict.fromkeys((_home(at, found), message) for at, message in wrong)
    ]
    return sorted(placed, key=lambda complaint: complaint.line or 0)


def _home(at: KeyPath, found: dict[KeyPath, int]) -> KeyPath:
    """Where the user wrote what an agent inherits: at the top level, unless the agent's own table has it."""
    inherited = at[:1] == ("agents",) and at[2:3] and at[2] in SHARED and at not in found
    return at[2:] if inherited and (at[2:] in found or not found) else at


def spell(at: KeyPath) -> str:
    """agents[0].memory.hard"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_bare(key)}" for key in at).removeprefix(".")


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
