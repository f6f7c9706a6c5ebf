"""Files of presets: those of seqsup, the user's own, and those next to a profile. Read-only."""

import os
from pathlib import Path

from seqsup.model.preset import FOLDER, Preset, built_in
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.profile.file_text import read_text
from seqsup.profile.preset_text import parse_preset
from seqsup.state.run_folder import config_dir
from seqsup.units import MIB

_LARGEST = MIB  # bytes


def preset_files(folder: Path) -> dict[str, Path]:
    """Return the file of each preset by its name, for a profile in this folder. The nearest to the profile wins."""
    own = (file for place in (user_folder(), folder / "presets") for file in _files(place))
    return {file.stem: file for file in (*_files(FOLDER), *own)}


def _files(folder: Path) -> list[Path]:
    """Return the presets in a folder; none if it is absent, or if this user may not read it."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(".toml"))  # noqa: PTH208
    except OSError:
        return []


def presets_for(folder: Path) -> dict[str, Preset]:
    """Read the presets for a profile in this folder. Raise ProfileError with all mistakes in them."""
    found, wrong = dict(built_in()), list[Complaint]()
    for name, file in preset_files(folder).items():
        if file.parent != FOLDER:
            try:
                found[name] = read_file(file)
            except ProfileError as error:
                wrong += error.complaints
    if wrong:
        raise ProfileError(wrong)
    return found


def read_file(file: Path) -> Preset:
    """Raise ProfileError with all mistakes in a preset's file."""
    text = read_text(str(file), _LARGEST)
    return parse_preset(text, str(file), file.name.removesuffix(".toml"))


def user_folder() -> Path:
    """Return the folder of the user's presets."""
    return config_dir() / "presets"
