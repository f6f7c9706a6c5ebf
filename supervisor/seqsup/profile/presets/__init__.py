"""What is known of agent CLIs, as data: one TOML file each beside this one. A user's own keys always win over it."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from seqsup.model.plan import Preset

_FOLDER = Path(__file__).parent
_OWN = Preset.__struct_fields__  # the rest of a file are tables of an agent


@cache
def names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


def preset(name: str) -> Preset:
    """What holds beside the profile's keys; KeyError for a name that is not in `names`."""
    own = {key: value for key, value in _read(name).items() if key in _OWN}
    return msgspec.convert({"name": name, **own}, Preset)


def tables(name: str) -> dict[str, Any]:
    """Keys of the profile that it sets, as a profile spells them."""
    return {key: value for key, value in _read(name).items() if key not in _OWN}


@cache
def _read(name: str) -> dict[str, Any]:
    if name not in names():
        raise KeyError(name)
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text())
