"""The user's `config.toml`: settings of a person, not of a profile. Read-only."""

import os
from pathlib import Path
from typing import Annotated

from seqsup.errors import Refused
from seqsup.host.trust import exposure
from seqsup.model.kinds import TEXT, KeyPath, Table, ValueKind
from seqsup.model.profile import Profile
from seqsup.profile import fields
from seqsup.profile.complaint import ProfileError, complaints
from seqsup.profile.file_text import read_text
from seqsup.profile.parse import tables
from seqsup.queue.address import parse
from seqsup.state.run_folder import config_dir
from seqsup.units import MIB

FILE = "config.toml"
_ADDRESS = ValueKind(lambda value: parse(TEXT.read(value)), {"type": "string"}, secret=True)


class Config(Table, frozen=True):
    queue: Annotated[str | None, "Address of the queue. Default: that of this machine.", _ADDRESS] = None


def configured() -> str | None:
    """Return the address of the queue in the user's config.toml; None: it has none, or there is no such file.

    ProfileError says what is wrong in the file. Refused: root does not believe what another user can change.
    """
    file = config_dir() / FILE
    if not os.path.lexists(file):
        return None
    if os.geteuid() == 0 and (found := exposure(file)) is not None:
        raise Refused(f"{file} is not read as root: {found}")
    return _read(file).queue


def _read(file: Path) -> Config:
    text, wrong = read_text(str(file), MIB), dict[KeyPath, str]()
    given = fields.read(Config, tables(text, str(file)), (), wrong.setdefault)
    if wrong:
        raise ProfileError(complaints(Profile(file=str(file), text=text), wrong.items()))
    config: Config = fields.build(Config, given)
    return config
