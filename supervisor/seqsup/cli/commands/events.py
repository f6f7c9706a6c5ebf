"""`seqsup events`: a run's events, as lines of JSON."""

import sys

import click

from seqsup.cli import complete
from seqsup.cli.find_run import find, follow
from seqsup.cli.output import put_bytes
from seqsup.view.ndjson import encode


@click.command()
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("-f", "--follow", "following", is_flag=True, help="Follow until the run ends.")
@click.option("--json", is_flag=True, hidden=True, help="They always are.")
def events(run: str | None, following: bool, json: bool) -> None:
    """A run's events, as lines of JSON: the same that `start --json` prints."""
    found = find(run)
    batches = follow(found) if following else [found.journal.events(found.row.run)]
    for batch in batches:
        for recorded in batch:
            put_bytes(encode(recorded) + b"\n")
        sys.stdout.buffer.flush()
