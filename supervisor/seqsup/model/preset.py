"""Facts about agent CLIs and similar tools, as data: one TOML file for each in presets/."""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).parent / "presets"


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about an agent CLI: a file of presets/."""

    name: str
    title: str
    programs: tuple[str, ...] = ()  # names of the executable and of its package
    # Starts it once, without a person; a prompt follows. Actions that ask are refused, so its options allow changing
    # files
    start: tuple[str, ...] = ()
    env: dict[str, str] = {}  # the user's own variables win
    keys: dict[str, dict[str, Any]] = {}  # of the profile, by table, as one spells them; the user's own win
    failure: tuple[str, ...] = ()  # patterns of a failure that may exit 0, looked for in the last lines
    usage_limit: tuple[str, ...] = ()  # patterns of a provider's limit; see `usage_limit.find`
    leaks: tuple[str, ...] = ()  # known ones, for the reader of a plan


@cache
def preset_names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@cache
def read_preset(name: str) -> Preset:
    """Read a preset's file. Raise ValueError with its path if it has an unknown key or a value of a wrong type."""
    import tomllib  # most commands read no preset

    file = FOLDER / f"{name}.toml"
    try:
        return msgspec.convert({"name": name, **tomllib.loads(file.read_text())}, Preset)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


@cache
def start_commands() -> dict[str, tuple[str, ...]]:
    """Return by preset the command that a prompt follows, of those that have one."""
    return {name: start for name in preset_names() if (start := read_preset(name).start)}


@cache
def presets_by_program() -> dict[str, str]:
    """Return the name of the preset by each program's name."""
    return {program: name for name in preset_names() for program in read_preset(name).programs}


@cache
def agent_programs() -> frozenset[str]:
    """Return the names of all presets' programs."""
    return frozenset(presets_by_program())
