"""`seqsup logs`: what an agent, or a companion, printed."""

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from seqsup.cli import complete
from seqsup.cli.arguments import moment, whole
from seqsup.cli.find_run import Found, find_with_agent, follow, job_number
from seqsup.cli.output import Outlet
from seqsup.model.events import AttemptEnded, AttemptLost, AttemptStarted, CompanionStarted, Recorded
from seqsup.model.history import History
from seqsup.state.output import OutputReader, last_lines
from seqsup.state.run_folder import FORENSICS, STDERR, STDOUT
from seqsup.state.samples import read
from seqsup.text import styled
from seqsup.view.readable import ReadableOutput, moved

_PIECE = 64 * 1024
_END = 20  # lines of an agent that failed
_Wanted = Callable[[list[Recorded]], list["_Start"]]


class _Start(NamedTuple):
    """An attempt of an agent, or a start of a companion."""

    name: str
    number: int
    folder: str
    dialect: str | None = None  # of the JSON stream on its stdout


@click.command()
@click.argument("run", required=False, shell_complete=complete.run_or_agent)
@click.argument("agent", required=False, shell_complete=complete.agent_of_run)
@click.argument("item", required=False, shell_complete=complete.item_of_agent)
@click.option("-f", "--follow", "following", is_flag=True, help="Follow all attempts until the run ends.")
@click.option(
    "-n", "--tail", "lines", metavar="N", type=whole(0), help="Only the last N lines of stdout, and as many of stderr."
)
@click.option(
    "--since", metavar="TIME", type=moment, help='Only what was printed since then: 10m, 02:30 or "2026-12-02 02:30".'
)
@click.option("--failed", is_flag=True, help=f"Only agents that failed: the last {_END} lines, or --tail, of each.")
@click.option("--attempt", metavar="N", type=whole(1), help="Attempt to show. Default: the last.")
@click.option(
    "--raw",
    is_flag=True,
    help="Show the JSON stream of an agent's CLI, and keep colours and control characters on a terminal.",
)
def logs(
    run: str | None, agent: str | None, item: str | None, following: bool, lines: int | None, since: float | None,
    failed: bool, attempt: int | None, raw: bool,
) -> None:  # fmt: skip
    """What an agent printed: its stdout on stdout, its stderr on stderr. Companions are named like agents.

    A terminal gets it without colours and control characters; a pipe or a file gets all bytes.

    Of the JSON stream of an agent's CLI it shows what a person reads: answers, tools and errors. --raw shows the JSON.

    Of one that was stopped for its memory, what is known of that follows on stderr.

    Without AGENT, each agent in turn. Without RUN, the run that is active or ran last. A copy of for_each is found by
    its name (file.17) or its ITEM: `seqsup logs file items/f24.md`.

    --since is exact to a second, and shows all attempts. With -f, --failed shows each agent when it has failed.
    """
    if (job := job_number(run)) is not None:
        from seqsup.cli.jobs import output_of_job  # most logs are of no job

        if output_of_job(job, following=following):
            return
    found, agent = find_with_agent(run, agent, item)
    view = found.view()
    beside = agent is not None and agent not in view.agents
    stands = {each.folder: each.name for each in view.agents.values() if each.before and each.folder}
    labels = {each.name: each.label for each in view.agents.values()}
    window = _Window(found.folder, _END if failed and lines is None else lines, since)
    reader = _Reader(found.folder, labels, window, several=agent is None, raw=raw)
    batches: Iterable[list[Recorded]] = follow(found) if following else [list(found.journal.events(found.row.run))]
    wanted = partial(_wanted, name=agent, number=attempt, stands={} if beside else stands, beside=beside)
    if failed:
        _show_failed(found, batches, wanted, reader)
    else:
        _show(batches, wanted, reader, every=since is not None)
    reader.end()
    if reader.attempt is None:
        what, one = agent or found.label, "start" if beside else "attempt"
        none = f"{what} has no {one}{f' {attempt}' if attempt else ''} yet"
        none = f"{what} has printed nothing since then" if since is not None else none
        click.echo(f"seqsup: {f'nothing of {what} has failed' if failed else none}", err=True)


def _show(batches: Iterable[list[Recorded]], wanted: _Wanted, reader: "_Reader", *, every: bool) -> None:
    """Show what is past, and then what comes. Of what is past only the last attempt counts, unless `every` does."""
    for number, batch in enumerate(batches):
        attempts = wanted(batch)
        over = _over(batch)
        for event in attempts if number or every else {event.name: event for event in attempts}.values():
            reader.turn_to(event, over=event.folder in over, whole=number > 0)
            if event.folder in over:
                reader.finish(event.folder)
        reader.read_on()
        for folder in over:
            reader.finish(folder)


def _show_failed(found: Found, batches: Iterable[list[Recorded]], wanted: _Wanted, reader: "_Reader") -> None:
    """Show the last attempt of each agent that failed, when it has."""
    history = History()
    tried: dict[str, _Start] = {}
    shown: set[str] = set()

    def show() -> None:
        shown.intersection_update(history.view.failed)  # one that completes after all may fail again
        for name in [name for name in history.view.failed if name not in shown]:
            shown.add(name)
            if (event := tried.get(name)) is not None:
                reader.turn_to(event, over=True, whole=False)
                reader.finish(event.folder)

    for batch in batches:
        tried |= {event.name: event for event in wanted(batch)}
        for recorded in batch:
            history.apply(recorded)
        show()
    if not found.lives():
        history.view.lose()
        show()


def _wanted(
    batch: Iterable[Recorded], *, name: str | None, number: int | None, stands: Mapping[str, str], beside: bool
) -> list[_Start]:
    """`stands` maps an agent that completed before to its attempt's folder: it may have had another name then."""
    bodies = [recorded.body for recorded in batch]
    if beside:
        starts = [
            _Start(each.companion, each.number, each.folder) for each in bodies if isinstance(each, CompanionStarted)
        ]
    else:
        starts = [
            _Start(stands.get(each.folder, each.agent), each.attempt, each.folder, each.dialect)
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


class _Window:
    """The part of an output that is asked for."""

    def __init__(self, run_folder: Path, lines: int | None, since: float | None) -> None:
        self._run_folder, self.lines, self._since = run_folder, lines, since
        self._sizes: dict[str, tuple[int, int]] = {}  # of both streams at that time, by the attempt's folder
        for sample in read(run_folder) if since is not None else ():
            if sample.printed is not None and sample.at <= (since or 0):
                self._sizes[f"{sample.agent}/{sample.attempt}"] = sample.printed

    def begins(self, folder: str, *, over: bool, readable: bool) -> tuple[int, int] | None:
        """Return the byte of each stream at which it begins; None for an attempt that had printed all before.

        Of a `readable` stdout the lines are those of its text, which are counted later.
        """
        files = [self._run_folder / folder / name for name in (STDOUT, STDERR)]
        out, err = 0, 0
        if self._since is not None:
            if over and not any(file.exists() and file.stat().st_mtime >= self._since for file in files):
                return None
            out, err = self._sizes.get(folder, (0, 0))
        if self.lines is not None:
            out = out if readable else max(out, last_lines(files[0], self.lines))
            err = max(err, last_lines(files[1], self.lines))
        return out, err


class _Reader:
    """Reads the output of attempts as it grows: in lanes more than one runs at a time."""

    def __init__(self, run_folder: Path, labels: Mapping[str, str], window: _Window, several: bool, raw: bool) -> None:
        self._run_folder = run_folder
        self._window = window
        self._labels = labels
        self._headed = several or sys.stdout.isatty()
        self._raw = raw
        self._outlets = Outlet(sys.stdout, raw=raw), Outlet(sys.stderr, raw=raw)
        self._tails: dict[
            _Start, tuple[OutputReader | ReadableOutput, OutputReader]
        ] = {}  # of those that may still print
        self._at_line_start = True
        self.attempt: _Start | None = None  # with the last shown output

    def turn_to(self, event: _Start, *, over: bool, whole: bool) -> None:
        """Show an attempt, from its begin if `whole`, and otherwise the part that is asked for."""
        dialect = None if self._raw else event.dialect
        begins = (0, 0) if whole else self._window.begins(event.folder, over=over, readable=dialect is not None)
        if begins is None:
            return
        self.read_on()
        for before in [each.folder for each in self._tails if each.name == event.name]:
            self.finish(before)
        self._head(event)
        folder = self._run_folder / event.folder
        if not folder.is_dir():
            click.echo(f"seqsup: {folder} no longer exists: its logs were removed", err=True)
        last = None if whole else self._window.lines
        self._tails[event] = (
            ReadableOutput(folder / STDOUT, dialect, begins[0], last)
            if dialect
            else OutputReader(folder / STDOUT, begins[0]),
            OutputReader(folder / STDERR, begins[1]),
        )

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
        any_moved = False
        for tail, stream, out in zip(self._tails[event], (sys.stdout, sys.stderr), self._outlets, strict=True):
            if piece := tail.read(_PIECE):
                if event != self.attempt:
                    self._head(event)
                out.write(piece)
                if stream is sys.stdout:
                    self._at_line_start = piece.endswith(b"\n")
            any_moved |= moved(tail, piece)
            stream.flush()
        return any_moved

    def finish(self, folder: str) -> None:
        """Read the rest of one that has ended, and say what is known of it if it grew too large."""
        for event in [event for event in self._tails if event.folder == folder]:
            while self._read(event):
                pass
            out, err = self._tails.pop(event)
            if isinstance(out, ReadableOutput):
                self._outlets[0].write(out.rest())
            out.close()
            err.close()
            with suppress(OSError):
                known = (self._run_folder / folder / FORENSICS).read_text()
                click.echo(f"{'' if self._at_line_start else chr(10)}{styled('bold', 'seqsup:')} {known}", err=True)

    def end(self) -> None:
        for event in tuple(self._tails):
            self.finish(event.folder)
