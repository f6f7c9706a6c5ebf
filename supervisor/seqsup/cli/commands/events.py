"""`seqsup events`: a run's events, as lines of JSON."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from heapq import merge
from typing import BinaryIO

import click

from seqsup.cli import complete
from seqsup.cli.find_run import Found, find, follow
from seqsup.cli.output import put_bytes
from seqsup.model.events import AgentProgress, Recorded
from seqsup.state.samples import FILE, lines
from seqsup.view.ndjson import encode, encode_progress


@click.command()
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("-f", "--follow", "following", is_flag=True, help="Follow until the run ends.")
@click.option("--json", is_flag=True, hidden=True, help="They always are.")
def events(run: str | None, following: bool, json: bool) -> None:
    """A run's events, as lines of JSON: the same that `start --json` prints."""
    found = find(run)
    batches: Iterable[list[Recorded]] = follow(found) if following else [list(found.journal.events(found.row.run))]
    for batch in _with_progress(found, batches):
        for line in batch:
            put_bytes(line + b"\n")
        sys.stdout.buffer.flush()


def _with_progress(found: Found, batches: Iterable[list[Recorded]]) -> Iterator[list[bytes]]:
    """Yield the lines of each batch of events, with the progress of that time from the timeline."""
    with ExitStack() as closing:
        timeline: BinaryIO | None = None
        for batch in batches:
            if timeline is None and not found.closed() and (found.folder / FILE).exists():
                timeline = closing.enter_context((found.folder / FILE).open("rb"))
            told = ((each.at, encode(each)) for each in batch)
            between = _progress(found.label, timeline) if timeline is not None else ()
            yield [line for _, line in merge(told, between, key=lambda each: each[0])]


def _progress(run: str, timeline: BinaryIO) -> Iterator[tuple[float, bytes]]:
    for each in lines(timeline):
        if each.conversation is not None:
            progress = AgentProgress(agent=each.agent, attempt=each.attempt, conversation=each.conversation)
            yield each.at, encode_progress(run, each.at, progress)
