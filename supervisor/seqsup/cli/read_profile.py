"""From a profile's path to the profile, and to the folder where its runs are kept."""

import os
from pathlib import Path

from seqsup.model.profile import Profile
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.profile.parse import parse
from seqsup.state.run_folder import at_home, state_dir, straight

_LARGEST = 16 * 1024 * 1024  # bytes of a profile


def read(profile_path: str) -> Profile:
    try:
        with Path(profile_path).open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ValueError(f"larger than {_LARGEST // 1024**2} MiB")
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ProfileError([Complaint(file=profile_path, line=line, message="not UTF-8: save it as UTF-8")]) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        if os.path.isfile(f"{profile_path}.toml"):  # noqa: PTH113 (Path's raises where the name is too long)
            why += f" (did you mean {profile_path}.toml?)"
        raise ProfileError([Complaint(file=profile_path, message=f"cannot be read: {why}")]) from None
    return parse(text, profile_path)


def state_dir_of(profile: Profile) -> Path:
    """Where journal and runs are kept: the profile's own folder, SEQSUP_STATE_DIR, or the user's."""
    if not profile.run.state_dir:
        return state_dir()
    base = Path(profile.file).parent if profile.file else Path()
    return straight(base / at_home(profile.run.state_dir))
