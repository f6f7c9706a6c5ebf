"""From a profile's path, or a command line, to the plan: one way for `plan`, `start` and `run`."""

import os
import shlex
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from seqsup.cli.read_profile import read, state_dir_of
from seqsup.errors import SeqsupError
from seqsup.model.plan import Plan
from seqsup.model.profile import Profile
from seqsup.plan.environment import search_path
from seqsup.plan.homes import with_homes
from seqsup.plan.make import make
from seqsup.plan.objections import with_objections
from seqsup.plan.preset_files import presets_for
from seqsup.plan.repositories import with_order
from seqsup.plan.select import Choice
from seqsup.plan.survey import Survey, gather
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.profile.parse import from_command, from_prompt
from seqsup.profile.words import meant
from seqsup.state.run_folder import straight

COMMAND = "the command"
PRESET = "--preset"
# Keys of a profile, and the options of `run` that set them
_OPTIONS = {
    "memory.soft": "--soft", "memory.hard": "--hard", "timeouts.wall": "--timeout", "retry.attempts": "--retries",
    "name": "--name", "agents[0].name": "--name", "agents[0].command": COMMAND,
    "agents[0].command[0]": COMMAND, "agents[0].prompt": "the prompt", "agents[0].preset": PRESET,
    "agents[0].model": "--model", "workspace.git": "--workspace", "workspace.ref": "--workspace",
}  # fmt: skip


def load(path: str, choice: Choice | None = None) -> Plan:
    """Make the plan; without a choice, of the whole profile and for whatever task, to look at.

    ProfileError says all that is wrong with the profile, and all that this machine lacks for it.
    """
    choice = choice or Choice(any_task=True)
    folder = straight(Path(path)).parent
    try:
        profile = read(path)
    except ProfileError as error:
        if error.rest is None:
            raise
        rest = replace(error.rest, profile=with_homes(error.rest.profile))
        survey = _survey(rest.profile, folder, choice, but=rest.unknown_agents)
        raise with_objections(error, rest, survey, choice.task) from None
    return plan_of(profile, folder, choice)


def plan_of(profile: Profile, folder: Path, choice: Choice) -> Plan:
    """Make the plan of a profile that was read. `folder` is that of the profile. ProfileError: as for `load`."""
    return _plan(with_homes(profile), folder, choice)


def for_command(command: Iterable[str], *, workspace: str | None = None, **options: Any) -> Plan:
    """Return the plan of one command, or with a preset of one prompt in several words, run where we are, or in a
    workspace of the repository GIT[@REF].

    `options` are those of `command_profile`.
    """
    typed = list(command)
    with _as_typed(typed):
        profile = with_order(command_profile(typed, **options), workspace)
        return _plan(profile, straight(Path()), Choice(any_task=True))


def command_profile(
    command: Iterable[str],
    *,
    preset: str | None = None,
    model: str | None = None,
    name: str | None = None,
    soft: str | None = None,
    hard: str | None = None,
    retries: int = 0,
    timeout: str | None = None,
) -> Profile:
    """Return the profile of one command, or with a preset of one prompt in several words."""
    given: dict[str, dict[str, str | int | None]] = {
        "memory": {"soft": soft, "hard": hard},
        "timeouts": {"wall": timeout},
        "retry": {"attempts": retries + 1},
    }
    tables = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in given.items()}
    presets, typed = presets_for(straight(Path())), list(command)
    with _as_typed(typed):
        if preset is not None:
            return from_prompt(" ".join(typed), preset, model, name, tables, presets)
        return from_command(typed, name, tables, presets)


@contextmanager
def _as_typed(command: list[str]) -> Iterator[None]:
    """Complain in the words of the command line."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(dict.fromkeys(_told(each, command) for each in error.complaints)) from None


def _told(complaint: Complaint, command: list[str]) -> Complaint:
    key, hint = _OPTIONS.get(complaint.key, complaint.key), complaint.hint
    if key == COMMAND and hint:
        why, words = meant(command)
        context = click.get_current_context(silent=True)
        typed = context.command_path if context is not None else "seqsup run"
        hint = f"{why or 'write it without the quotes'}: {typed} -- {shlex.join(words)}"
    return replace(complaint, key=key, hint=hint)


def _plan(profile: Profile, folder: Path, choice: Choice) -> Plan:
    survey = _survey(profile, folder, choice)
    state = "" if survey.problems else str(state_dir_of(profile))
    return make(profile, survey, choice=choice, state_dir=state)


def _survey(profile: Profile, folder: Path, choice: Choice, *, but: Set[int] = frozenset()) -> Survey:
    os.environ["PATH"] = search_path(os.environ.get("PATH", os.defpath))
    state, homeless = None, ""
    try:
        state = str(state_dir_of(profile))
    except SeqsupError as error:
        if not profile.run.state_dir:
            raise
        homeless = str(error)
    survey = gather(
        profile, folder=str(folder), task=choice.task, environ=os.environ, state_dir=state, but=but,
        earlier=choice.earlier, copies=choice.items,
    )  # fmt: skip
    if homeless:
        survey.problems["run", "state_dir"] = homeless
    return survey
