"""`seqsup report`: a run on one page, or as data."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from seqsup.cli import complete
from seqsup.cli.arguments import file
from seqsup.cli.commands.status import DIED, state_of
from seqsup.cli.find_run import find
from seqsup.cli.output import put_bytes, put_file
from seqsup.state.samples import read
from seqsup.view.run_fields import date, of_run

if TYPE_CHECKING:  # only a report pays for it
    from seqsup.view.report.story import Story

_STDOUT = ("-", "/dev/stdout", "/dev/fd/1")


@click.command(short_help="Write an HTML page of a run: memory over time, and what was stopped and why.")
@click.argument("run", required=False, shell_complete=complete.run)
@click.option(
    "-o", "--output", metavar="FILE", type=file,
    help='File to write, or "-" for stdout. Default: NAME-rN.html in this folder.',
)  # fmt: skip
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object instead: sizes in bytes, times in seconds, moments as in ISO 8601.",
)
@click.option(
    "--openmetrics", is_flag=True, help="Print the metrics over time instead, for `promtool tsdb create-blocks-from`."
)
def report(run: str | None, output: str | None, as_json: bool, openmetrics: bool) -> None:
    """Write an HTML page of a run: memory over time, and what was stopped and why.

    The page needs nothing else: it can be sent, printed and read without a network. RUN is a number (r42 or 42), a
    profile's name or its file; without it the run that runs, else the last. Data go to stdout.
    """
    if as_json and openmetrics:
        raise click.UsageError("give --json or --openmetrics, not both")
    found = find(run)
    state, _ = state_of(found)
    events, samples = tuple(found.journal.events(found.row.run)), tuple(read(found.folder))
    if openmetrics:
        from seqsup.metrics import backfill

        _put(backfill.text(events, samples), output or "-")
        return
    from seqsup.view.report.story import tell

    story = tell(events, samples)
    found.named(story.view)
    if state == DIED:
        story.view.lose()
    if as_json:
        _put(_object(story, state), output or "-")
        return
    from seqsup.view.report.page import page as made_of

    files = {attempt.forensics: found.folder / attempt.forensics for attempt in story.attempts if attempt.forensics}
    forensics = {name: path.read_text(errors="replace") for name, path in files.items() if path.exists()}
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    made = made_of(story, forensics=forensics, zone=zone, state=state)
    _put(made.encode(errors="replace"), output or f"{story.view.name}-{story.view.run}.html")


def _object(story: "Story", state: str) -> bytes:
    told = msgspec.to_builtins(story)
    date(told["parts"], "began", "ended")
    date(told["marks"], "at")
    date(told["attempts"], "started", "ended", "drained")
    for attempt in told["attempts"]:
        date((*attempt["stops"], *attempt["samples"]), "at")
    told = {"schema": "seqsup.report/1", "state": state, **told, "view": of_run(story.view)}
    return msgspec.json.encode(told) + b"\n"


def _put(content: bytes, output: str) -> None:
    if output in _STDOUT:
        put_bytes(content)
        return
    put_file(Path(output), content)
    click.echo(output)
