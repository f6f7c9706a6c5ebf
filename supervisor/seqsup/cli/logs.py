"""`seqsup logs`: what an agent, or a companion, printed."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click

from ..events import AttemptStarted, CompanionStarted, Recorded
from ..folder import FORENSICS, STDERR, STDOUT
from ..model import SeqsupError
from ..streams import Reading
from ..wording import nearest
from . import _complete
from ._find import find_with_agent
from ._follow import follow
from ._values import whole

_PIECE = 64 * 1024


class _Start(NamedTuple):
    """An attempt of an agent, or a start of a companion."""

    name: str
    number: int
    folder: str


@click.command()
@click.argument("run", required=False, shell_complete=_complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=_complete.agent_of_run)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the run ends, through all attempts.")
@click.option("--attempt", metavar="N", callback=whole(1), help="Which one; the last without it.")
def logs(run: str | None, agent: str | None, following: bool, attempt: int | None) -> None:
    """What an agent printed: its stdout on stdout, its stderr on stderr. Companions are named like agents.

    Of one that was stopped for its memory, what is known of that follows on stderr.

    Without AGENT, each agent in turn. A single word is taken as RUN, or else as an agent of the run
    that runs or ran last.
    """
    found, agent = find_with_agent(run, agent)
    view = found.view()
    if agent is not None and agent not in (known := [*view.agents, *view.companions]):
        raise SeqsupError(f'{found.label} has no agent "{agent}"{nearest(agent, known)}')
    beside = agent is not None and agent not in view.agents
    stands = {each.folder: each.name for each in view.agents.values() if each.before and each.folder}
    reader = _Reader(found.folder, several=agent is None)
    batches: Iterable[list[Recorded]] = follow(found) if following else [list(found.journal.events(found.row.run))]
    for number, batch in enumerate(batches):
        attempts = _wanted(batch, agent, attempt, {} if beside else stands, beside=beside)
        # What is past needs only its last attempt; from here on every new one is shown
        for event in attempts if number else {event.name: event for event in attempts}.values():
            reader.turn_to(event)
        reader.read_on()
    reader.end()
    if reader.attempt is None:
        what, one = agent or found.label, "start" if beside else "attempt"
        click.echo(f"seqsup: {what} has no {one}{f' {attempt}' if attempt else ''} yet", err=True)


def _wanted(
    batch: Iterable[Recorded], name: str | None, number: int | None, stands: Mapping[str, str], *, beside: bool
) -> list[_Start]:
    """`stands` names by its folder whose attempt it is that completed before: it may have had another name then."""
    starts = (_companion(each) if beside else _attempt(each, stands) for each in batch)
    found = [each for each in starts if each and name in (None, each.name) and number in (None, each.number)]
    if number is not None:
        return found
    return [each for each in found if each.folder in stands or each.name not in stands.values()]


def _attempt(recorded: Recorded, stands: Mapping[str, str]) -> _Start | None:
    event = recorded.body
    if not isinstance(event, AttemptStarted):
        return None
    return _Start(stands.get(event.folder, event.agent), event.attempt, event.folder)


def _companion(recorded: Recorded) -> _Start | None:
    event = recorded.body
    return _Start(event.companion, event.number, event.folder) if isinstance(event, CompanionStarted) else None


class _Reader:
    """Reads the output of one attempt after the other, as it grows."""

    def __init__(self, run_folder: Path, several: bool) -> None:
        self._run_folder = run_folder
        self._headed = several or sys.stdout.isatty()
        self._tails: list[Reading] = []
        self._at_line_start = True
        self.attempt: _Start | None = None

    def turn_to(self, event: _Start) -> None:
        self.read_on()
        self.end()
        for tail in self._tails:
            tail.close()
        self.attempt = event
        if self._headed:
            again = f" (attempt {event.number})" if event.number > 1 else ""
            self._write(b"" if self._at_line_start else b"\n")
            self._write(f"==> {event.name}{again} <==\n".encode())
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
