"""From a profile's path, or a command line, to the plan: one way for `plan`, `start` and `run`."""

import os
from collections.abc import Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seqsup.state.run_folder import at_home, straight
from seqsup.state.run_folder import state_dir as usual_state_dir

if TYPE_CHECKING:  # `status` and `runs` ask only for the state folder, and must not pay for the rest
    from seqsup.model.plan import Plan
    from seqsup.model.profile import Profile
    from seqsup.plan.select import Choice
    from seqsup.plan.survey import Survey
    from seqsup.policy.learning import Expected

# What stands in a profile under this key, `run` is told by that
_OPTIONS = {
    "memory.soft": "--soft", "memory.hard": "--hard", "timeouts.wall": "--timeout", "retry.attempts": "--retries",
    "name": "--name", "agents[0].name": "--name", "agents[0].command": "the command",
}  # fmt: skip
_LARGEST = 16 * 1024 * 1024  # bytes of a profile


def load(profile_path: str, choice: "Choice | None" = None) -> "Plan":
    """ProfileError says all that is wrong with the profile, and all that this machine lacks for it."""
    from seqsup.plan.objections import with_objections
    from seqsup.plan.select import Choice
    from seqsup.profile.complaint import ProfileError

    choice = choice or Choice()
    folder = straight(Path(profile_path)).parent
    try:
        profile = read(profile_path)
    except ProfileError as error:
        if error.rest is None:
            raise
        survey = _survey(error.rest.profile, folder, choice.task, but=error.rest.unknown_agents)
        raise with_objections(error, error.rest, survey, choice.task) from None
    return _plan(profile, folder, choice)


def for_command(
    command: Iterable[str], *, name: str | None = None, soft: str | None = None, hard: str | None = None,
    retries: int = 0, timeout: str | None = None,
) -> "Plan":  # fmt: skip
    """The plan of one command, run where we are."""
    from seqsup.plan.select import Choice
    from seqsup.profile.complaint import ProfileError
    from seqsup.profile.parse import from_command

    given: dict[str, dict[str, str | int | None]] = {
        "memory": {"soft": soft, "hard": hard},
        "timeouts": {"wall": timeout},
        "retry": {"attempts": retries + 1},
    }
    tables = {table: {key: value for key, value in keys.items() if value is not None} for table, keys in given.items()}
    folder = straight(Path())
    try:
        return _plan(from_command(command, name, tables), folder, Choice())
    except ProfileError as error:
        typed = (replace(each, key=_OPTIONS.get(each.key, each.key)) for each in error.complaints)
        raise ProfileError(dict.fromkeys(typed)) from None


def read(profile_path: str) -> "Profile":
    from seqsup.profile.complaint import Complaint, ProfileError
    from seqsup.profile.parse import parse

    try:
        with Path(profile_path).open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST // 1024**2} MiB")
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ProfileError([Complaint(file=profile_path, line=line, message="not UTF-8: save it as that")]) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        if os.path.isfile(f"{profile_path}.toml"):  # noqa: PTH113 (Path's raises where the name is too long)
            why += f" (did you mean {profile_path}.toml?)"
        raise ProfileError([Complaint(file=profile_path, message=f"cannot be read: {why}")]) from None
    return parse(text, profile_path)


def expectations(plan: "Plan") -> "dict[str, Expected]":
    """What the plan's agents usually take, of those that ran before. It only looks."""
    from seqsup.policy.learning import expect
    from seqsup.state.journal import Journal
    from seqsup.state.journal_schema import JournalError

    try:
        journal = Journal.open(Path(plan.state_dir))
    except JournalError:
        return {}
    known = ((step.name, expect(journal.past(plan.profile, step.name), step.content)) for step in plan.steps)
    return {name: each for name, each in known if each is not None}


def state_dir(profile: "Profile | None" = None) -> Path:
    """Where journal and runs are kept: the profile's own folder, SEQSUP_STATE_DIR, or the user's."""
    if profile is not None and profile.run.state_dir:
        base = Path(profile.file).parent if profile.file else Path()
        return straight(base / at_home(profile.run.state_dir))
    return usual_state_dir()


def _plan(profile: "Profile", folder: Path, choice: "Choice") -> "Plan":
    from seqsup.plan.make import make

    survey = _survey(profile, folder, choice.task)
    state = "" if survey.problems else str(state_dir(profile))
    return make(profile, survey, choice=choice, state_dir=state)


def _survey(profile: "Profile", folder: Path, task: str, *, but: Set[int] = frozenset()) -> "Survey":
    from seqsup.errors import SeqsupError
    from seqsup.node.packaged import with_node
    from seqsup.plan.survey import gather

    os.environ["PATH"] = with_node(os.environ.get("PATH", os.defpath))
    state, homeless = None, ""
    try:
        state = str(state_dir(profile))
    except SeqsupError as error:
        if not profile.run.state_dir:
            raise
        homeless = str(error)
    survey = gather(profile, folder=str(folder), task=task, environ=os.environ, state_dir=state, but=but)
    if homeless:
        survey.problems["run", "state_dir"] = homeless
    return survey
