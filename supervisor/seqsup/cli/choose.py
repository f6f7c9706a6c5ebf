"""What of a profile is taken: what the command line asks for, and what an earlier run of it leaves to be done."""

import re
import sys
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from seqsup.cli import complete
from seqsup.cli.arguments import text, together
from seqsup.cli.find_run import Found, find
from seqsup.cli.load_plan import load
from seqsup.cli.read_profile import profile_path, read, state_dir_of
from seqsup.errors import Refused, SeqsupError
from seqsup.model.plan import Plan
from seqsup.plan.objections import NoTask
from seqsup.plan.resume import Earlier, PlannedRun, resumption
from seqsup.plan.select import Choice
from seqsup.state.journal import Journal, RunRow
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import label, straight


class NothingToDo(SeqsupError):
    """All that was asked for is done already."""

    exit_code = 0


taking_options = together(
    click.argument("profile", required=False, shell_complete=complete.profile),
    click.option(
        "--task",
        default="",
        type=text,
        metavar="TEXT",
        help="Value of {task}. Agents with `when` run only if it contains one of their words.",
    ),
    click.option(
        "--only",
        multiple=True,
        metavar="NAME",
        help="Run only this agent. May be repeated.",
        shell_complete=complete.agent_of_profile,
    ),
    click.option(
        "--from",
        "start_from",
        metavar="NAME",
        help="Start from this agent.",
        shell_complete=complete.agent_of_profile,
    ),
    click.option(
        "--resume",
        is_flag=False,
        flag_value="",
        metavar="[RUN]",
        help="Resume the profile's last run (or RUN). Completed agents are skipped.",
        shell_complete=complete.run,
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Resume the last run, running only agents that failed and agents that need them.",
    ),
)


def take(profile: str | None, *, resume: str | None, may_ask: bool = False, **asked: Any) -> PlannedRun:
    """Make the plan, see `_take`. If agents use {task} and there is none, ask for it on a terminal."""
    if profile is None and resume:
        profile, resume = _apart(resume)
    path = profile_path(profile)
    try:
        return _take(path, resume=resume, **asked)
    except NoTask as error:
        if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        click.echo(f"seqsup: {error.complaints[0].message}", err=True)
        task = click.prompt("task", default="", show_default=False, err=True)
        if not task.strip():
            raise
        return _take(path, resume=resume, **asked | {"task": task})


def _take(profile: str, *, resume: str | None, retry_failed: bool, **wanted: Any) -> PlannedRun:
    """Make the plan; `wanted` are fields of Choice. A run that is resumed keeps the choice that it began with, unless
    the user gives another.
    """
    choice = Choice(**wanted)
    if resume is None and not retry_failed:
        return PlannedRun(load(profile, choice), None)
    earlier = _earlier(profile, resume or "", to_retry=retry_failed)
    if earlier is None:
        if retry_failed:
            raise NothingToDo("nothing to retry: no earlier run")
        plan = load(profile, choice)
        if (was := _renamed(plan)) is not None:
            raise _never_ran(plan.profile or "", was)
        return PlannedRun(plan, None, f"{plan.name} has no earlier run: starting from the first agent")
    view = earlier.view
    choice = replace(choice, task=choice.task or view.task, any_items=True, earlier=view.items)
    if retry_failed:
        if not view.failed:
            raise NothingToDo("nothing to retry: no agent failed")
        choice = replace(choice, failed=tuple(view.failed))
    elif not (choice.only or choice.start_from):
        choice = replace(choice, only=view.only, start_from=view.start_from, of=label(earlier.run))
    return PlannedRun(load(profile, choice), earlier)


def _apart(given: str) -> tuple[str, str]:
    """Profile and run of the one word behind --resume: `start --resume nightly.toml`, or `start --resume r42`."""
    if Path(given).exists() or not re.fullmatch(r"r?\d{1,15}", given):
        return given, ""
    found = find(given)
    if found.row.profile is None:
        raise Refused(f"{found.label} is a run of one command and has no profile; `seqsup runs` lists all runs")
    return found.row.profile, found.label


def _earlier(given: str, wanted: str, *, to_retry: bool) -> Earlier | None:
    """The run that is meant, the profile's last one if `wanted` is empty; None where it never ran."""
    profile, path = read(given), str(straight(Path(given)))
    folder = state_dir_of(profile)
    try:
        journal = Journal.open(folder)
    except NoJournal:
        if wanted:
            raise Refused(f"no run {wanted}: there are no runs in {folder}") from None
        return None
    rows = journal.runs()
    row = _named(wanted, rows, path) if wanted else _last(rows, path, profile.name)
    if row is None:
        return None
    found = Found(folder, journal, row)
    lives = found.lives()
    if lives and to_retry:
        raise Refused(f"{found.label} is still running: wait until it has finished")
    view = found.view()
    if not lives:
        view.lose()
    return Earlier(row.run, view)


def _named(wanted: str, rows: list[RunRow], path: str) -> RunRow:
    """Return a run by its label; a run of a moved or renamed profile counts as one of this profile."""
    row = next((row for row in rows if wanted in (label(row.run), str(row.run))), None)
    if row is None:
        raise Refused(f"no run {wanted}; `seqsup runs` lists all runs")
    if row.profile != path and not _moved(row):
        of = f"of {row.profile}, not of {path}" if row.profile else "of one command, which has no profile"
        raise Refused(f"{label(row.run)} is a run {of}; `seqsup runs` lists all runs")
    return row


def _last(rows: list[RunRow], path: str, name: str) -> RunRow | None:
    own = [row for row in rows if row.profile == path]
    moved = [row for row in rows if row.name == name and _moved(row)]
    if moved and not own:
        raise _never_ran(path, moved[-1])
    return own[-1] if own else None


def _renamed(plan: Plan) -> RunRow | None:
    """The run that this plan's profile left unfinished under another name: it is gone from here, its agents are not."""
    folder, here = Path(plan.state_dir), Path(plan.profile or "").parent
    try:
        journal = Journal.open(folder)
    except NoJournal:
        return None
    rows = [row for row in journal.runs() if row.profile and Path(row.profile).parent == here and _moved(row)]
    if not rows:
        return None
    done = resumption(plan.steps, Found(folder, journal, rows[-1]).view().completed).done
    return rows[-1] if 0 < len(done) < len(plan.steps) else None


def _never_ran(path: str, was: RunRow) -> Refused:
    return Refused(
        f"{path} never ran. If {was.profile}, which is gone, was moved here, `--resume {label(was.run)}` resumes it"
        " with it; without --resume it starts from its first agent"
    )


def _moved(row: RunRow) -> bool:
    return row.profile is not None and not Path(row.profile).exists()
