"""TOML text into frozen values, or all that is wrong with it at once. Touches no file and no machine."""

import posixpath
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from seqsup.errors import SeqsupError
from seqsup.model.preset import read_preset
from seqsup.profile import fields
from seqsup.profile.checks import check
from seqsup.profile.keys import SHARED, Agent, Companion, MemoryTable, Profile
from seqsup.profile.limits import disorder, resolve
from seqsup.profile.lines import KeyPath, locate, nearest
from seqsup.text import nearest as similar

__all__ = [
    "Agent",
    "Companion",
    "Complaint",
    "Profile",
    "ProfileError",
    "complaints",
    "for_command",
    "parse",
    "schema",
]


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

    profile: "Profile"  # defaults stand where it is wrong
    wrong: tuple[KeyPath, ...]

    @property
    def unknown_agents(self) -> frozenset[int]:
        """The places of agents of which the machine cannot be asked."""
        of_agents = (at for at in self.wrong if at[0] == "agents" and len(at) > 1)
        return frozenset(at[1] for at in of_agents if isinstance(at[1], int) and at[2:3] not in _BESIDE_THE_POINT)


def parse(text: str, file: str) -> Profile:
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError([_syntax(error, text, file)]) from None
    return from_tables(raw, file, text)


def from_tables(raw: dict[str, Any], file: str | None = None, text: str = "") -> Profile:
    wrong: dict[KeyPath, str] = {}  # the first complaint of a key is its cause
    given = fields.read(Profile, raw, (), wrong.setdefault)
    agents = given.setdefault("agents", ())
    source = {"file": file, "text": text}
    built = [_inherit(given, agent) for agent in agents]
    name = given.get("name") or _stem(file)
    profile: Profile = fields.build(Profile, given | source | {"agents": tuple(built), "name": name})
    for at, message in check(profile, tuple(wrong)):
        if not any(at[:n] in wrong for n in range(1, len(at) + 1)):  # nor what follows from the table's not being one
            wrong[at] = message
    if wrong:
        raise ProfileError(complaints(profile, wrong.items()), Rest(profile, tuple(wrong)))
    return profile


def _inherit(given: dict[str, Any], agent: dict[str, Any]) -> dict[str, Any]:
    """The agent with its tables over the top level's over its preset's, key by key."""
    preset = _of_preset(agent.get("preset"))
    tables = {name: (preset.get(name, {}), given.get(name, {}), agent.get(name, {})) for name in SHARED}
    return agent | {name: _merge(name, *layers) for name, layers in tables.items()}


def _merge(table: str, preset: dict[str, Any], top: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = preset | top | own
    if table == "memory" and ("hard" in own or "soft" in own):
        # A lower limit of its own is a narrower frame: what lies outside follows it, as if it were not set.
        for key in ("soft", "warn"):
            if key not in own and key in dict(disorder(resolve(fields.build(MemoryTable, merged)))):
                del merged[key]
    return merged


def _of_preset(name: str | None) -> dict[str, dict[str, Any]]:
    """Return the tables that a preset sets. A mistake in its file is ours: ValueError."""
    if name is None:
        return {}

    def refuse(at: KeyPath, message: str) -> None:
        raise ValueError(f"preset {name}: {spell(at)}: {message}")

    given, known = {}, fields.keys(Agent)
    for table, raw in read_preset(name).keys.items():
        if table not in SHARED:
            refuse(("keys", table), f"no table that a preset sets{similar(table, SHARED)}")
        given[table] = fields.read(known[table].type, raw, ("keys", table), refuse)
    return given


def complaints(profile: Profile, wrong: Iterable[tuple[KeyPath, str]]) -> list[Complaint]:
    """With their lines, in the order of the text; each once."""
    found = locate(profile.text)
    placed = [
        Complaint(
            file=profile.file,
            line=nearest(found, at) if profile.file else None,
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


def schema() -> dict[str, Any]:
    """JSON Schema of profiles, from the same types that read them."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "seqsup profile",
        "description": (Profile.__doc__ or "").strip(),
        **fields.schema(Profile),
    }


def for_command(
    command: Iterable[str],
    *,
    name: str | None = None,
    soft: str | None = None,
    hard: str | None = None,
    retries: int | None = None,
    timeout: str | None = None,
) -> Profile:
    """The profile of one command; what is None has the default of any profile."""
    from seqsup.profile.placeholders import escape

    words = list(command)
    memory = {key: size for key, size in (("soft", soft), ("hard", hard)) if size is not None}
    name = name or _safe(posixpath.basename(words[0] if words else "")) or "command"
    raw: dict[str, Any] = {
        "name": name,
        "memory": memory,
        "agents": [{"name": name, "command": [escape(word) for word in words]}],
    }
    if retries is not None:
        raw["retry"] = {"attempts": retries + 1}
    if timeout is not None:
        raw["timeouts"] = {"wall": timeout}
    return from_tables(raw)


def _syntax(error: Exception, text: str, file: str) -> Complaint:
    if isinstance(error, RecursionError):
        return Complaint(file=file, line=1, message="nested too deeply")
    message = str(error)
    place = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)$", message)
    line = int(place[1]) if place and place[1] else text.count("\n") + (not text.endswith("\n"))
    return Complaint(file=file, line=max(line, 1), message=f"not TOML: {message}")


def _stem(file: str | None) -> str:
    name = posixpath.basename(file or "").removesuffix(".toml")
    return _safe(name) or "profile"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-.")[:64]


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'
