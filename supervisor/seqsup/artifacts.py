"""Artifacts: summaries and files that agents pass on, for programs of your own.

    from seqsup import artifacts

    artifacts.put("review", summary="Two bugs in auth.py", details=whole_answer)  # inside the agent review
    artifacts.summary("review")                                                   # in a later agent, or anywhere

`run` is a run's label, such as "r42", or its folder. Its default is the run of the agent or hook that this program
belongs to, or else the last run of the user's state folder. A copy of `for_each` is named as in `seqsup status`:
file.17. ArtifactError says what is missing or too long, NoSuchRun that there is no such run.
"""

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from seqsup.arguments import Folder, chosen_run, must_be
from seqsup.errors import NoSuchRun
from seqsup.model.history import fold
from seqsup.model.run_view import RunView
from seqsup.state import artifacts as stored
from seqsup.state.artifacts import ArtifactError, Stored
from seqsup.state.journal import Journal
from seqsup.state.run_folder import run_folder, state_dir
from seqsup.text import nearest

__all__ = ["ArtifactError", "Stored", "put", "read", "summary"]


def put(
    agent: str | None = None, *, summary: str | None = None, details: str | Path | Iterable[Path] = ()
) -> list[Stored]:
    """Store a summary and details for the agent that calls this, each there whole or not at all.

    `agent` is its name; None: whichever it is. A summary has at most 16 KiB. `details` are text, which becomes the file
    details.md, or files, which keep their names. A second put replaces files of the same names.
    ArtifactError: this is not inside that agent, there is nothing to store, or a file cannot be stored. TypeError: a
    value is of another type.
    """
    for key, value in (("agent", agent), ("summary", summary)):
        if value is not None:
            must_be(key, "text", value, str)
    text, files = _given(details)
    folder, name = os.environ.get("SEQSUP_ARTIFACTS"), os.environ.get("SEQSUP_AGENT")
    if not folder or name is None:
        raise ArtifactError("not inside an agent: call this as the last step of an agent's command or script")
    if agent not in (None, name):
        raise ArtifactError(f"this is the agent {name}, and only {agent} itself can store something for {agent}")
    if not Path(folder).is_dir():
        raise ArtifactError(f"{folder} does not exist: was the run removed, or is this another machine or container?")
    if summary is None and text is None and not files:
        raise ArtifactError("nothing to store: give a summary, details, or both")
    return stored.put(Path(folder), summary, files, text)


def summary(agent: str, run: Folder | None = None) -> str:
    """Return the summary of an agent's last attempt, or else the end of its output. ArtifactError: it did not run."""
    return stored.summary(_attempt(agent, run))


def read(agent: str, name: str = stored.DETAILS, run: Folder | None = None) -> bytes:
    """Return the content of a file that an agent's last attempt stored. ArtifactError: there is none of this name."""
    must_be("name", "text", name, str)
    with stored.opened(_attempt(agent, run), name) as file:
        return file.read()


def attempt_of(view: RunView, folder: Path, agent: str) -> Path:
    """Return the folder of an agent's last attempt; `folder` is the run's. ArtifactError: there is none."""
    if agent in view.companions:
        raise ArtifactError(f"{agent} of {view.run} is a companion, and stores no artifacts")
    if agent not in view.agents:
        raise ArtifactError(f'{view.run} has no agent "{agent}"{nearest(agent, view.agents)}')
    if (last := view.agents[agent].folder) is None:
        raise ArtifactError(f"{agent} did not run in {view.run}")
    return folder / last


def _given(details: str | Path | Iterable[Path]) -> tuple[str | None, tuple[Path, ...]]:
    """Return the text or the files among details."""
    if isinstance(details, str):
        return details, ()
    if isinstance(details, Path):
        return None, (details,)
    several = isinstance(details, Iterable) and not isinstance(details, bytes)
    files: tuple[Any, ...] = tuple(details) if several else (details,)
    for file in files:
        if not isinstance(file, Path):
            what = type(file).__name__ + (f" in {type(details).__name__}" if several else "")
            raise TypeError(f"details are text, a Path, or several Paths, not {what}")
    return None, files


def _attempt(agent: str, run: Folder | None) -> Path:
    must_be("agent", "text", agent, str)
    folder = chosen_run(run)
    state = folder.parent.parent if folder is not None else state_dir()
    with closing(Journal.open(state)) as journal:
        known = {run_folder(state, row.run): row.run for row in journal.runs()}
        folder = folder or next(reversed(known), None)
        if folder not in known:
            lists = "; `seqsup runs` lists all runs"
            raise NoSuchRun(f"no run {folder.name} in {state}{lists}" if folder else f"no runs yet in {state}")
        return attempt_of(fold(journal.events(known[folder])), folder, agent)
