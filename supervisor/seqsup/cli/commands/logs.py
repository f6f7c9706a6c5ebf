"""`seqsup logs`: what an agent, or a companion, printed."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click

from seqsup.cli import complete
from seqsup.cli.arguments import whole
from seqsup.cli.find_run import find_with_agent, follow
from seqsup.cli.output import Outlet
from seqsup.model.events import AttemptEnded, AttemptLost, AttemptStarted, CompanionStarted, Recorded
from seqsup.state.output import OutputReader
from seqsup.state.run_folder import FORENSICS, STDERR, STDOUT
from seqsup.text import styled

_PIECE = 64 * 1024


class _Start(NamedTuple):
    """An attempt of an agent, or a start of a companion."""

    name: str
    number: int
    folder: str


@click.command()
@click.argument("run", required=False, shell_complete=complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=complete.agent_of_run)
@click.argument("item", required=False, shell_complete=complete.item_of_agent)
@click.option("-f", "--follow", "following", is_flag=True, help="Follow all attempts until the run ends.")
@click.option("--attempt", metavar="N", type=whole(1), help="Attempt to show. Default: the last.")
@click.option("--raw", is_flag=True, help="Keep colours and control characters on a terminal.")
def logs(run: str | None, agent: str | None, item: str | None, following: bool, attempt: int | None, raw: bool) -> None:
    """What an agent printed: its stdout on stdout, its stderr on stderr. Companions are named like agents.

    A terminal gets it without colours and control characters; a pipe or a file gets all bytes.

    Of one that was stopped for its memory, what is known of that follows on stderr.

    Without AGENT, each agent in turn. Without RUN, the run that is active or ran last. A copy of for_each is found by
    its name (file.17) or its ITEM: `seqsup logs file items/f24.md`.
    """
    found, agent = find_with_agent(run, agent, item)
    view = found.view()
    beside = agent is not None and agent not in view.agents
    stands = {each.folder: each.name for each in view.agents.values() if each.before and each.folder}
    labels = {each.name: each.label for each in view.agents.values()}
    reader = _Reader(found.folder, labels, several=agent is None, raw=raw)
    batches: Iterable[list[Recorded]] = follow(found) if following else [list(found.journal.events(found.row.run))]
    for number, batch in enumerate(batches):
        attempts = _wanted(batch, agent, attempt, {} if beside else stands, beside=beside)
        over = _over(batch)
        # What is past needs only its last attempt; from here on every new one is shown
        for event in attempts if number else {event.name: event for event in attempts}.values():
            reader.turn_to(event)
            if event.folder in over:
                reader.finish(event.folder)
        reader.read_on()
        for folder in over:
            reader.finish(folder)
    reader.end()
    if reader.attempt is None:
        what, one = agent or found.label, "start" if beside else "attempt"
        click.echo(f"seqsup: {what} has no {one}{f' {attempt}' if attempt else ''} yet", err=True)


def _wanted(
    batch: Iterable[Recorded], name: str | None, number: int | None, stands: Mapping[str, str], *, beside: bool
) -> list[_Start]:
    """`stands` maps an agent that completed before to its attempt's folder: it may have had another name then."""
    bodies = [recorded.body for recorded in batch]
    if beside:
        starts = [
            _Start(each.companion, each.number, each.folder) for each in bodies if isinstance(each, CompanionStarted)
        ]
    else:
        starts = [
            _Start(stands.get(each.folder, each.agent), each.attempt, each.folder)
            for each in bodies
            if isinstance(each, AttemptStarted)
        ]
    found = [each for each in starts if name in (None, each.name) and number in (None, each.number)]
    if number is not None:
        return found
    return [each for each in found if each.folder in stands or each.name not in stands.values()]


def _over(batch: Iterable[Recorded]) -> dict[str, None]:
    """The folders of the attempts that have ended."""
    return {
        f"{event.agent}/{event.attempt}": None
        for recorded in batch
        if isinstance(event := recorded.body, AttemptEnded | AttemptLost)
    }


class _Reader:
    """Reads the output of attempts as it grows: in lanes more than one runs at a time."""

    def __init__(self, run_folder: Path, labels: Mapping[str, str], several: bool, raw: bool) -> None:
        self._run_folder = run_folder
        self._labels = labels
        self._headed = several or sys.stdout.isatty()
        self._outlets = Outlet(sys.stdout, raw=raw), Outlet(sys.stderr, raw=raw)
        self._tails: dict[_Start, tuple[OutputReader, OutputReader]] = {}  # of those that may still print
        self._at_line_start = True
        self.attempt: _Start | None = None  # with the last shown output

    def turn_to(self, event: _Start) -> None:
        self.read_on()
        for before in [each.folder for each in self._tails if each.name == event.name]:
            self.finish(before)
        self._head(event)
        folder = self._run_folder / event.folder
        if not folder.is_dir():
            click.echo(f"seqsup: {folder} no longer exists: its logs were removed", err=True)
        self._tails[event] = OutputReader(folder / STDOUT), OutputReader(folder / STDERR)

    def _head(self, event: _Start) -> None:
        self.attempt = event
        if self._headed:
            again = f" (attempt {event.number})" if event.number > 1 else ""
            head = styled("bold", f"==> {self._labels.get(event.name, event.name)}{again} <==")
            click.echo(head if self._at_line_start else f"\n{head}")
            self._at_line_start = True

    def read_on(self) -> None:
        """Read what is there; of several that print at once a piece of each in turn."""
        while [event for event in self._tails if self._read(event)]:
            pass

    def _read(self, event: _Start) -> bool:
        """Read a piece of each stream. False: there was none."""
        moved = False
        for tail, stream, out in zip(self._tails[event], (sys.stdout, sys.stderr), self._outlets, strict=True):
            if piece := tail.read(_PIECE):
                if event != self.attempt:
                    self._head(event)
                out.write(piece)
                if stream is sys.stdout:
                    self._at_line_start = piece.endswith(b"\n")
                moved = True
            stream.flush()
        return moved

    def finish(self, folder: str) -> None:
        """Read the rest of one that has ended, and say what is known of it if it grew too large."""
        for event in [event for event in self._tails if event.folder == folder]:
            while self._read(event):
                pass
            for tail in self._tails.pop(event):
                tail.close()
            with suppress(OSError):
                known = (self._run_folder / folder / FORENSICS).read_text()
                click.echo(f"{'' if self._at_line_start else chr(10)}{styled('bold', 'seqsup:')} {known}", err=True)

    def end(self) -> None:
        for event in tuple(self._tails):
            self.finish(event.folder)
