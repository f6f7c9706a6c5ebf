"""TOML text, tables or a command line into a Profile, or all that is wrong with it at once. Pure."""

import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from seqsup.model.kinds import KeyPath
from seqsup.model.preset import Preset, built_in, presets_by_program
from seqsup.model.profile import AUTO, SHARED, AgentTable, MemoryTable, Profile
from seqsup.profile import fields
from seqsup.profile.checks import check, secrets
from seqsup.profile.complaint import Complaint, ProfileError, Rest, complaints, mark, spell
from seqsup.profile.limits import disorder, resolve
from seqsup.profile.lines import Span
from seqsup.profile.placeholders import quote
from seqsup.profile.wrappers import program
from seqsup.text import nearest
from seqsup.units import show

_SLIPS = (  # how tomllib's message begins, and the usual remedy
    ("Illegal character '\\n'", "close the quotes on the line where they open"),
    ("Unterminated string", "close the quotes"),
    ("Expected '\"'", "close the quotes"),
    ('Expected "\'"', "close the quotes"),
    ("Unclosed array", "close the bracket: ]"),
    ("Invalid value", 'write text in quotes, as name = "value"'),
    ("Cannot overwrite a value", "the key is there twice: remove one"),
)
Presets = Mapping[str, Preset]
_DIGITS = 4300  # of a number, which is as many as Python reads


def parse(text: str, file: str, presets: Presets | None = None) -> Profile:
    """Read a profile. `presets` are those that it may name; default: the presets of seqsup."""
    return from_tables(tables(text, file), file, text, presets)


def tables(text: str, file: str) -> dict[str, Any]:
    """Read TOML. Raise ProfileError with line and remedy if it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError([_syntax(error, text, file)]) from None


def from_tables(
    raw: dict[str, Any], file: str | None = None, text: str = "", presets: Presets | None = None
) -> Profile:  # fmt: skip
    presets = built_in() if presets is None else presets
    wrong: dict[KeyPath, str] = {}  # the first complaint of a key is its cause
    given = fields.read(Profile, raw, (), wrong.setdefault)
    for at, message in secrets(raw):
        wrong.setdefault(at, message)
    agents = given.setdefault("agents", ())
    source = {"file": file, "text": text}
    for n, agent in enumerate(agents):
        if (named := agent.get("preset", AUTO)) not in (AUTO, None, *presets):
            known = ("auto", "none", *sorted(presets))
            told = f"no preset {show(named)}{nearest(named, known)}"
            wrong["agents", n, "preset"] = f"{told}\nset one of {', '.join(known)}"
            agent["preset"] = None
    built = [_inherit(given, agent, presets) for agent in agents]
    name = given.get("name") or _stem(file)
    profile: Profile = fields.build(Profile, given | source | {"agents": tuple(built), "name": name})
    for at, message in check(profile, tuple(wrong)):
        # Nor what follows from the table's not being one, or from a list's having lost what is wrong in it
        within = (at[:n] for n in range(1, len(at) + 1))
        if not any(each in wrong for each in within) and not any(each[: len(at)] == at for each in wrong):
            wrong[at] = message
    if wrong:
        raise ProfileError(complaints(profile, wrong.items()), Rest(profile, tuple(wrong)))
    return profile


def _inherit(given: dict[str, Any], agent: dict[str, Any], presets: Presets) -> dict[str, Any]:
    """The agent with its tables over the top level's over its preset's, key by key."""
    name = agent.get("preset", AUTO)
    if name == AUTO:
        name = presets_by_program(presets).get(program(agent.get("command", ())))
    settings = presets[name] if name is not None else None

    def refuse(at: KeyPath, message: str) -> NoReturn:
        raise ValueError(f"preset {name}: {spell(at)}: {message}")  # ours: the user's were checked before

    preset = keys_of_preset(settings, refuse) if settings is not None else {}
    tables = {name: (preset.get(name, {}), given.get(name, {}), agent.get(name, {})) for name in SHARED}
    merged = {name: _merge(name, *layers) for name, layers in tables.items()}
    return agent | {"preset": name, "settings": settings} | merged


def _merge(table: str, preset: dict[str, Any], top: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = preset | top | own
    if table == "memory" and ("hard" in own or "soft" in own):
        # A lower limit of its own is a narrower frame: what lies outside follows it, as if it were not set.
        for key in ("soft", "warn"):
            if key not in own and key in dict(disorder(resolve(fields.build(MemoryTable, merged)))):
                del merged[key]
    return merged


def keys_of_preset(preset: Preset, complain: fields.Complain) -> dict[str, dict[str, Any]]:
    """Return the tables of the profile that a preset sets."""
    given, known = {}, fields.keys(AgentTable)
    for table, raw in preset.keys.items():
        if table not in SHARED or (of := known[table].table) is None:
            complain(("keys", table), f"no table that a preset sets{nearest(table, SHARED)}")
        else:
            given[table] = fields.read(of, raw, ("keys", table), complain)
    return given


def from_command(
    command: Iterable[str], name: str | None, tables: dict[str, dict[str, Any]], presets: Presets | None = None
) -> Profile:
    """Return the profile of one command, with these tables at the top level."""
    words = list(command)
    name = name or _safe(posixpath.basename(words[0] if words else "")) or "command"
    return _of_one({"name": name, "command": [quote(word) for word in words]}, tables, presets)


def from_prompt(
    prompt: str, preset: str, model: str | None, name: str | None, tables: dict[str, dict[str, Any]],
    presets: Presets | None = None,
) -> Profile:  # fmt: skip
    """Return the profile of one prompt, with these tables at the top level."""
    agent = {"name": name or _safe(preset) or "prompt", "preset": preset, "prompt": quote(prompt)}
    return _of_one(agent | ({"model": quote(model)} if model is not None else {}), tables, presets)


def _of_one(agent: dict[str, Any], tables: dict[str, dict[str, Any]], presets: Presets | None) -> Profile:
    return from_tables({"name": agent["name"], "agents": [agent], **tables}, presets=presets)


def _stem(file: str | None) -> str:
    name = posixpath.basename(file or "").removesuffix(".toml")
    return _safe(name) or "profile"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-.")[:64]


def _syntax(error: Exception, text: str, file: str) -> Complaint:
    if isinstance(error, RecursionError):
        return Complaint(file=file, line=1, message="nested too deeply")
    if not isinstance(error, tomllib.TOMLDecodeError):  # Python's own, which names no line
        digits = re.search(rf"[0-9_]{{{_DIGITS + 1},}}", text)
        line = text.count("\n", 0, digits.start() if digits else 0) + 1
        return Complaint(file=file, line=line, message=f"a number of more than {_DIGITS} digits: write a smaller one")
    said = re.fullmatch(r"(.*?)(?: \(at (?:line (\d+), column (\d+)|end of document)\))?", str(error), re.DOTALL)
    assert said is not None
    text = text.replace("\r\n", "\n")  # tomllib counts so
    if said[2]:
        before = text.split("\n")[: int(said[2]) - 1]
        start = sum(len(line) + 1 for line in before) + int(said[3]) - 1
    else:
        start = len(text.rstrip())
    hint = next((hint for sign, hint in _SLIPS if said[1].startswith(sign)), "")
    begin = text.rfind("\n", 0, start) + 1 if said[1].startswith("Cannot") else start  # it is found behind the value
    place = mark(text, Span(begin, max(start, begin + 1)))
    return Complaint(file=file, message=f"not TOML: {said[1][:1].lower()}{said[1][1:]}", hint=hint, **place)
