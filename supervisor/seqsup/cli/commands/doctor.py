"""`seqsup doctor`: what works here."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seqsup.cli import complete
from seqsup.cli.output import put_object
from seqsup.state.run_folder import state_dir
from seqsup.view.terminal import width

if TYPE_CHECKING:  # `seqsup --help` and the other commands must not pay for what is examined with
    from seqsup.doctor.finding import Finding

_WIDTH = 100  # columns where they are not known


@click.command(short_help="Check this machine and suggest fixes.")
@click.argument("profile", required=False, shell_complete=complete.profile)
@click.option(
    "--run",
    metavar="RUN",
    help="Prove that a past run was one agent at a time, and memory back after each.",
    shell_complete=complete.run,
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(profile: str | None, run: str | None, as_json: bool) -> int:
    """Check what seqsup needs from this machine, what PROFILE needs, and Claude Code's hooks. Suggest fixes.

    Each line is ok, warn (it works, but not all of it) or FAIL (a run would fail). An arrow marks the fix. Default for
    PROFILE: agents.toml or the only profile of this folder, if there is one.

    It starts no agent and changes nothing. With --run it checks a past run instead: two agents at one time, or memory
    that did not come back, is a failure.

    Exit codes: 0 nothing failed, 1 something did.
    """
    from seqsup.doctor.finding import Level

    if run is not None and profile is not None:
        raise click.UsageError("--run checks a past run, PROFILE a profile: give only one of them")
    found = list(_examine(profile) if run is None else _prove(run))
    failed = sum(finding.level is Level.FAIL for finding in found)
    if as_json:
        put_object("seqsup.doctor/1", {"ok": not failed, "checks": found})
    else:
        click.echo("\n".join(_table(found, failed, sum(finding.level is Level.WARN for finding in found))))
    return 1 if failed else 0


def _examine(profile: str | None) -> Iterator["Finding"]:
    from seqsup.cli.load_plan import load
    from seqsup.cli.read_profile import profile_path, profiles_in, read, state_dir_of
    from seqsup.containment.needs import lacking
    from seqsup.doctor.checks import examine
    from seqsup.doctor.finding import Finding, Level
    from seqsup.profile.complaint import ProfileError
    from seqsup.text import counted

    path, plan, folder = os.environ.get("PATH", os.defpath), None, state_dir()  # `load` puts packaged Nodes on PATH
    if (profile is not None or len(profiles_in(Path())) == 1) and lacking() is None:
        profile = profile_path(profile)
        try:
            folder = state_dir_of(read(profile))
            plan = load(profile)
        except ProfileError as error:
            for complaint in error.complaints:
                yield Finding(Level.FAIL, "profile", complaint.said, complaint.hint)
        else:
            yield Finding(Level.OK, "profile", f"{plan.name}: {counted(len(plan.steps), 'agent')}")
            for note in plan.notes:
                yield Finding(Level.WARN, "profile", note)
    yield from examine(folder, path, plan)


def _prove(run: str) -> Iterator["Finding"]:
    from seqsup.cli.find_run import find
    from seqsup.doctor.tools import proof

    found = find(run)
    yield from proof(f"{found.label} {found.row.name}", found.journal.events(found.row.run))


def _table(found: Iterable["Finding"], failed: int, warned: int) -> Iterator[str]:
    """What is well first, then the problems: they stand next to the prompt."""
    from seqsup.doctor.finding import Level
    from seqsup.text import counted, styled

    order = list(Level)
    found, columns = sorted(found, key=lambda finding: order.index(finding.level)), width()
    room = max(len(finding.what) for finding in found)
    narrow = columns is not None and columns - room < 48  # then what was found stands below the name of the check
    before = Level.OK
    for finding in found:
        if before is Level.OK and finding.level is not Level.OK and finding is not found[0]:
            yield ""
        before = finding.level
        yield from _lines(finding, room, narrow, columns)
    counts = [styled("red", f"{failed} failed")] if failed else []
    counts += [styled("yellow", counted(warned, "warning"))] if warned else []
    yield ""
    yield ", ".join(counts) or styled("green", "No problems found.")


def _lines(finding: "Finding", room: int, narrow: bool, columns: int | None) -> Iterator[str]:
    from seqsup.doctor.finding import Level
    from seqsup.text import printable, styled, wrap

    colour = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}[finding.level]
    name, quiet = ("dim", "dim") if finding.level is Level.OK else ("bold", "")
    margin = " " * (6 if narrow else room + 8)
    first, *more = finding.finding.splitlines()
    level = styled(colour, finding.level) + " " * (4 - len(finding.level))
    remedy = styled("bold", "→ ") + printable(finding.remedy) if finding.remedy else ""
    beside = len(margin) + len(first) + len(finding.remedy) + 4 <= (columns or _WIDTH)
    line = f"{level}  {styled(name, finding.what)}{' ' * (room - len(finding.what))}  {styled(quiet, printable(first))}"
    if remedy and beside and not narrow and not more and not finding.notes:
        line, remedy = f"{line}  {remedy}", ""
    if narrow:
        yield f"{level}  {styled(name, finding.what)}"
        line = margin + styled(quiet, printable(first))
    yield from wrap(line, columns, margin)
    for text in (*more, *finding.notes):
        yield from wrap(margin + styled(quiet, printable(text.strip())), columns, margin + "  ")
    if remedy:
        yield from wrap(margin + remedy, columns, margin + "  ")
