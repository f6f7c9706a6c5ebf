"""From what a user names, or the folder, to a profile's path; from that to the profile and the folder of its runs."""

import os
import re
import shlex
import tomllib
from pathlib import Path

import click

from seqsup.errors import SeqsupError
from seqsup.model.profile import Profile
from seqsup.plan.preset_files import presets_for
from seqsup.profile.file_text import read_text
from seqsup.profile.parse import parse
from seqsup.state.run_folder import at_home, state_dir, straight
from seqsup.text import printable
from seqsup.units import MIB

USUAL = "agents.toml"
_LARGEST = 16 * MIB  # bytes of a profile
_AGENTS = re.compile(r"^\s*\[\[\s*agents\s*\]\]", re.MULTILINE)  # in a file that is not TOML yet


def profile_path(given: str | None) -> str:
    """Return the path of the profile: `given`, or the profile in that folder; without it, in the current folder.

    A profile that was found is named on stderr. SeqsupError if the folder has none or several.
    """
    if given is not None and not os.path.isdir(given):  # noqa: PTH112 (Path's raises where the name is too long)
        if not given:  # a variable of a script's that was not set
            raise click.UsageError(f"which profile? ({click.get_current_context().command_path} PROFILE)")
        return given
    folder = Path(given or "")
    found = profiles_in(folder)
    if len(found) > 1:
        raise SeqsupError(f"which profile? {straight(folder)} has {len(found)}: {', '.join(map(str, found))}")
    if not found:
        new = "seqsup init" if given is None else f"seqsup init {shlex.quote(str(folder / USUAL))}"
        raise SeqsupError(f"no profile in {straight(folder)}: `{new}` writes one, or name one")
    if not found[0].is_file():
        raise SeqsupError(f"{found[0]} is not a regular file")
    if click.get_current_context().params.get("log_format") != "json":
        click.echo(f"seqsup: using {printable(str(found[0]))}", err=True)
    return str(found[0])


def profiles_in(folder: Path) -> list[Path]:
    """Return agents.toml, or else every *.toml with agents, by name."""
    if os.path.lexists(folder / USUAL):
        return [folder / USUAL]
    return [path for path in sorted(folder.glob("*.toml")) if _has_agents(path)]


def _has_agents(path: Path) -> bool:
    """Say whether a file is a profile, also one with a mistake in it."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return False
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        return isinstance(tomllib.loads(text).get("agents"), list)
    except tomllib.TOMLDecodeError:
        return _AGENTS.search(text) is not None
    except (OSError, RecursionError):
        return False


def read(path: str) -> Profile:
    text = read_text(path, _LARGEST, lambda error: _hint(path, error), may_be_pipe=True)
    return parse(text, path, presets_for(straight(Path(path)).parent))


def _hint(path: str, error: Exception) -> str:
    if os.path.isfile(f"{path}.toml"):  # noqa: PTH113 (Path's raises where the name is too long)
        return f"did you mean {path}.toml?"
    return "`seqsup init` writes a first profile" if isinstance(error, FileNotFoundError) else ""


def state_dir_of(profile: Profile) -> Path:
    """Where journal and runs are kept: the profile's own folder, SEQSUP_STATE_DIR, or the user's."""
    if not profile.run.state_dir:
        return state_dir()
    base = Path(profile.file).parent if profile.file else Path()
    return straight(base / at_home(profile.run.state_dir))
