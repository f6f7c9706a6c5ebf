"""`seqsup logs`: what an agent printed."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from ..events import AttemptStarted, Recorded
from ..folder import FORENSICS, STDERR, STDOUT
from ..model import SeqsupError
from ..streams import Reading
from ..wording import nearest
from . import _complete
from ._find import find_with_agent
from ._follow import follow
from ._values import whole

_PIECE = 64 * 1024


@click.command()
@click.argument("run", required=False, shell_complete=_complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=_complete.agent_of_run)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the run ends, through all attempts.")
@click.option("--attempt", metavar="N", callback=whole(1), help="Which one; the last without it.")
def logs(run: str | None, agent: str | None, following: bool, attempt: int | None) -> None:
    """What an agent printed: its stdout on stdout, its stderr on stderr.

    Of one that was stopped for its memory, what is known of that follows on stderr.

    Without AGENT, each agent in turn. A single word is taken as RUN, or else as an agent of the run
    that runs or ran last.
    """
    found, agent = find_with_agent(run, agent)
    if agent is not None and agent not in (agents := found.view().agents):
        raise SeqsupError(f'{found.label} has no agent "{agent}"{nearest(agent, agents)}')
    reader = _Reader(found.folder, several=agent is None)
    batches: Iterable[list[Recorded]] = follow(found) if following else [list(found.journal.events(found.row.run))]
    for number, batch in enumerate(batches):
        attempts = _wanted(batch, agent, attempt)
        # What is past needs only its last attempt; from here on every new one is shown
        for event in attempts if number else {event.agent: event for event in attempts}.values():
            reader.turn_to(event)
        reader.read_on()
    reader.end()
    if reader.attempt is None:
        what = agent or found.label
        click.echo(f"seqsup: {what} has no {f'attempt {attempt}' if attempt else 'attempt'} yet", err=True)


def _wanted(batch: Iterable[Recorded], agent: str | None, attempt: int | None) -> list[AttemptStarted]:
    return [
        recorded.body
        for recorded in batch
        if isinstance(recorded.body, AttemptStarted)
        and agent in (None, recorded.body.agent)
        and attempt in (None, recorded.body.attempt)
    ]


class _Reader:
    """Reads the output of one attempt after the other, as it grows."""

    def __init__(self, run_folder: Path, several: bool) -> None:
        self._run_folder = run_folder
        self._headed = several or sys.stdout.isatty()
        self._tails: list[Reading] = []
        self._at_line_start = True
        self.attempt: AttemptStarted | None = None

    def turn_to(self, event: AttemptStarted) -> None:
        self.read_on()
        self.end()
        for tail in self._tails:
            tail.close()
        self.attempt = event
        if self._headed:
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            self._write(b"" if self._at_line_start else b"\n")
            self._write(f"==> {event.agent}{again} <==\n".encode())
        folder = self._run_folder / event.folder
        if not folder.is_dir():
            click.echo(f"seqsup: {folder} is gone: its logs were cleaned", err=True)
        self._tails = [Reading(folder / STDOUT), Reading(folder / STDERR)]

    def read_on(self) -> None:
        for tail, out in zip(self._tails, (sys.stdout.buffer, sys.stderr.buffer), strict=False):
            while piece := tail.read(_PIECE):
                out.write(piece)
                if out is sys.stdout.buffer:
                    self._at_line_start = piece.endswith(b"\n")
            out.flush()

    def end(self) -> None:
        """Say what is known of an attempt that grew too large."""
        if self.attempt is not None:
            with suppress(OSError):
                known = (self._run_folder / self.attempt.folder / FORENSICS).read_text()
                click.echo(f"{'' if self._at_line_start else chr(10)}seqsup: {known}", err=True)

    def _write(self, text: bytes) -> None:
        sys.stdout.buffer.write(text)
        self._at_line_start = True
