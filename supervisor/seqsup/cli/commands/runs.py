"""`seqsup runs`: the list of runs."""

import time

import click
from msgspec.structs import asdict

from seqsup.cli.arguments import whole
from seqsup.cli.commands.status import DIED, state_of, tell_closed
from seqsup.cli.find_run import Found
from seqsup.cli.output import notice, put_object
from seqsup.model.run_view import AgentState, RunView
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import state_dir
from seqsup.state.turn import queued
from seqsup.text import counted, styled
from seqsup.units import format_duration, format_size
from seqsup.view.ndjson import timestamp
from seqsup.view.summary import RUN_STYLES
from seqsup.view.table import NONE, Column, render
from seqsup.view.terminal import width

_COLUMNS = (
    Column("run", right=False),
    Column("name", right=False),
    Column("state", right=False),
    Column("started", right=False, optional=3),
    Column("time", optional=1),
    Column("completed"),
    Column("failed", optional=2),
    Column("highest peak", optional=4),
)


@click.command()
@click.option(
    "-n", "--last", metavar="N", default="20", show_default=True, type=whole(1), help="Number of runs to show."
)
@click.option("--all", "every", is_flag=True, help="Show all runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
def runs(last: int, every: bool, as_json: bool) -> None:
    """The list of runs, the latest last."""
    folder = state_dir()
    try:
        journal = Journal.open(folder)
        rows = journal.runs()
    except NoJournal:
        rows = []
    shown = rows if every else rows[-last:]
    entries = [(found, *state_of(found)) for found in (Found(folder, journal, row) for row in shown)]
    for found, state, view in entries:
        if state == DIED:
            view.lose()
        tell_closed(found)
    waiting = queued(folder)
    if as_json:
        told = [_fields(*entry) for entry in entries]
        put_object("seqsup.runs/1", {"runs": told, "waiting": list(map(asdict, waiting))})
        return
    listed = [_row(*entry) for entry in entries]
    listed += [
        (each.label, each.name, styled("yellow", "waiting"), f"since {each.since}", *[NONE] * 4) for each in waiting
    ]
    if not listed:
        notice("no runs yet")
        return
    click.echo("\n".join(render(_COLUMNS, listed, width())))
    if len(shown) < len(rows):
        notice(f"{len(rows) - len(shown)} earlier ones: --all shows them")


def _row(found: Found, state: str, view: RunView) -> tuple[str, ...]:
    briefs = sum(agent.briefed for agent in view.agents.values())
    return (
        found.label,
        view.name,
        styled(RUN_STYLES.get(state, ""), state),
        styled("dim", time.strftime("%Y-%m-%d %H:%M", time.localtime(found.row.started))),
        NONE if view.seconds is None else format_duration(view.seconds),
        counted(briefs, "brief") if briefs else f"{view.count(AgentState.COMPLETED)} of {len(view.agents)}",
        styled("red", str(gave_up)) if (gave_up := view.count(AgentState.GAVE_UP)) else NONE,
        format_size(view.highest.peak) if view.highest else NONE,
    )


def _fields(found: Found, state: str, view: RunView) -> dict[str, object]:
    return {
        "run": found.label,
        "name": view.name,
        "profile": view.profile,
        "state": state,
        "started": timestamp(found.row.started),
        "ended": None if view.ended is None else timestamp(view.ended),
        "seconds": view.seconds,
        "exit_code": view.exit_code,
        "agents": len(view.agents),
        "completed": view.count(AgentState.COMPLETED),
        "gave_up": view.count(AgentState.GAVE_UP),
        "peak": view.highest.peak if view.highest else None,
        "folder": str(found.folder),
    }
