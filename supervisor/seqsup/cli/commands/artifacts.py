"""`seqsup artifacts`: summaries and files of agents, put from inside one and read from anywhere."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfileobj

import click
from msgspec.structs import asdict

from seqsup.artifacts import attempt_of, put
from seqsup.cli import complete
from seqsup.cli.app import Group
from seqsup.cli.arguments import days, size
from seqsup.cli.output import Outlet, put_bytes, put_object
from seqsup.state.artifacts import SUMMARY, files, has_summary, opened, summary
from seqsup.state.run_folder import ARTIFACTS, closed, label, run_folder, state_dir
from seqsup.text import counted, printable, styled
from seqsup.units import format_age, format_size
from seqsup.view.table import NONE, Column, render
from seqsup.view.terminal import width

_COLUMNS = (
    Column("agent", right=False),
    Column("attempt"),
    Column("summary", right=False),
    Column("files"),
    Column("size"),
    Column("folder", right=False, optional=1),
)


@click.group(cls=Group, short_help="Files and summaries that agents pass to later agents.")
def artifacts() -> None:
    """Summaries and files that agents pass to later agents, for each attempt.

    An agent puts them; those after it get the summary by {summary:NAME}, the folder by {artifacts:NAME}, and the
    summaries of all before it in the file $SEQSUP_PREVIOUS_SUMMARIES. Without a summary they get the end of
    its output.
    """


@artifacts.command("put", short_help="Store a summary and files. Call it inside an agent.")
@click.option("--summary", "text", metavar="TEXT|-", help="Short text for later agents. - reads it from stdin.")
@click.option(
    "--details",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the details. May be repeated.",
)
@click.argument("more", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
def put_command(text: str | None, details: tuple[Path, ...], more: tuple[Path, ...]) -> None:
    """Store a summary and files for the agent that calls this, each there whole or not at all.

    A second put replaces the summary, and files of the same names.
    """
    if text is None and not details and "SEQSUP_AGENT" in os.environ:
        raise click.UsageError("nothing to store: give --summary TEXT, --details FILE, or both")
    if text == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    stored = put(summary=text, details=(*details, *more))
    said = ", ".join(f"{each.name} {format_size(each.size)}" for each in stored)
    click.echo(f"seqsup: stored {said} for {os.environ['SEQSUP_AGENT']}", err=True)


@artifacts.command("list", short_help="List what the agents of a run have stored.")
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes.")
def list_command(run: str | None, as_json: bool) -> None:
    """List the summaries and files of each agent's last attempt in RUN."""
    from seqsup.cli.find_run import find

    found = find(run)
    tried = [(agent, found.folder / agent.folder) for agent in found.view().agents.values() if agent.folder]
    entries = [(agent.name, agent.attempt, folder, files(folder)) for agent, folder in tried]
    if as_json:
        told = [
            {
                "agent": name, "attempt": attempt, "folder": str(folder / ARTIFACTS),
                "summary": has_summary(folder), "files": [asdict(each) for each in stored],
            }
            for name, attempt, folder, stored in entries
        ]  # fmt: skip
        put_object("seqsup.artifacts/1", {"run": found.label, "agents": told})
        return
    if not entries:
        click.echo(f"seqsup: no agent of {found.label} has started yet", err=True)
        return
    rows = [
        (
            name, styled("dim", str(attempt or NONE)), _whence(folder),
            str(len([each for each in stored if each.name != SUMMARY]) or NONE),
            format_size(total) if (total := sum(each.size for each in stored)) else NONE,
            styled("dim", str(folder / ARTIFACTS)),
        )
        for name, attempt, folder, stored in entries
    ]  # fmt: skip
    click.echo("\n".join(render(_COLUMNS, rows, width())))


@artifacts.command("summary", short_help="Print the summaries of a run's agents, or of one.")
@click.argument("run", required=False, shell_complete=complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=complete.agent_of_run)
def summary_command(run: str | None, agent: str | None) -> None:
    """The summary of AGENT; without AGENT, of all of RUN's, each under its name.

    A single word is taken as RUN, or else as an agent of the run that runs or ran last.
    """
    attempts = list(_attempts(run, agent))
    for name, folder in attempts:
        text = summary(folder)
        if len(attempts) == 1:
            put_bytes(f"{text}\n".encode())
        elif text:
            click.echo(styled("bold", f"## {name}"))
            put_bytes(f"\n{text}\n\n".encode())


@artifacts.command("show", short_help="Print all that an agent has stored.")
@click.argument("run", required=False, shell_complete=complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=complete.agent_of_run)
@click.option("--file", "wanted", metavar="NAME", help="Print only the content of this file.")
def show_command(run: str | None, agent: str | None, wanted: str | None) -> None:
    """AGENT's summary and the files beside it, or the content of one of them. Without AGENT, of each of RUN's."""
    attempts = list(_attempts(run, agent))
    if wanted is not None and len(attempts) != 1:
        raise click.UsageError("which agent? (seqsup artifacts show AGENT --file NAME)")
    for name, folder in attempts:
        if wanted is not None:
            with opened(folder, wanted) as file:
                copyfileobj(file, Outlet(sys.stdout))
            return
        stored = [each for each in files(folder) if each.name != SUMMARY]
        click.echo(styled("bold", f"## {name}"))
        put_bytes(f"\n{summary(folder) or 'It stored no summary, and printed nothing.'}\n\n".encode())
        if stored:
            click.echo(f"{counted(len(stored), 'file')} in {folder / ARTIFACTS}")
        for each in stored:
            click.echo(f"  {printable(each.name)}  {format_size(each.size)}")
        if stored and len(attempts) > 1:
            click.echo()


@artifacts.command("clean", short_help="Remove old runs with their logs and artifacts.")
@click.option("--days", type=days, metavar="N", help="Runs older than this many days.")
@click.option("--max-size", metavar="SIZE", type=size, help="The oldest runs, until the rest is at most this large.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def clean_command(days: float | None, max_size: int | None, dry_run: bool) -> int:
    """Remove whole runs, the oldest first: output, artifacts, events, workspaces. A run that lives always stays, and so
    does one whose workspace holds work that is on no branch.

    `start` does so by itself for its profile's runs older than run.keep.
    """
    from seqsup.state.journal import Journal
    from seqsup.state.journal_schema import NoJournal
    from seqsup.state.retention import kept, may_go, remove, too_much
    from seqsup.state.workspaces import release

    if days is None and max_size is None:
        raise click.UsageError("which runs? Give --days N, --max-size SIZE, or both")
    folder = state_dir()
    try:
        journal = Journal.open(folder, write=not dry_run)
    except NoJournal:
        click.echo("seqsup: no runs yet", err=True)
        return 0
    dead, stay = [], {}
    for row in journal.runs():
        if why := closed(run_folder(folder, row.run)):
            stay[label(row.run)] = why
        elif may_go(run_folder(folder, row.run)):
            dead.append(kept(journal, folder, row))
    going = too_much(dead, days=days, size=max_size)
    code = freed = 0
    for each in going:
        line = f"{each.label} {each.name}, {format_age(each.age)} old, {format_size(each.size)}"
        try:
            release(journal, folder, each.run, os.environ, dry=dry_run)
            gone = dry_run or remove(journal, folder, each.run)
        except OSError as error:
            stay[each.label], code = str(error), 1
            continue
        if gone:
            freed += each.size
            click.echo(line)
        else:
            stay[each.label] = "it was just resumed"
    for name, why in stay.items():
        click.echo(f"seqsup: {name} stays: {why}", err=True)
    told = f"{'would free' if dry_run else 'freed'} {format_size(freed)}"
    click.echo(f"seqsup: {told if going else 'nothing to remove'}", err=True)
    return code


def _whence(attempt: Path) -> str:
    return "given" if has_summary(attempt) else "from its output" if summary(attempt) else NONE


def _attempts(run: str | None, agent: str | None) -> Iterator[tuple[str, Path]]:
    """Of the agent that is meant, or of each of the run's: its name, and the folder of its last attempt."""
    from seqsup.cli.find_run import find_with_agent

    found, agent = find_with_agent(run, agent)
    run_view = found.view()
    if agent is not None:
        yield agent, attempt_of(run_view, found.folder, agent)
        return
    for view in run_view.agents.values():
        if view.folder is not None:
            yield view.name, found.folder / view.folder
