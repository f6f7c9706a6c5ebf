"""Readers of a running plan: log and samples on disk, metrics, and the output on a terminal."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from seqsup import text
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.host.machine import Host
from seqsup.host.wake import Wake
from seqsup.model.enums import HALTS, Halt
from seqsup.model.events import HaltRequested, Warned
from seqsup.model.plan import Plan
from seqsup.model.run_view import RunState, RunView
from seqsup.runner.begun import BegunRun
from seqsup.runner.detached import Detached
from seqsup.runner.emitter import Emitter
from seqsup.runner.stop_request import CTRL_C
from seqsup.state.journal import Journal
from seqsup.state.run_folder import label, state_dir
from seqsup.state.samples import SamplesFile
from seqsup.state.turn import queued, waiting
from seqsup.text import wrap
from seqsup.units import format_duration
from seqsup.view.last_line import LastLines, results
from seqsup.view.live import Live, Pulses, scene_of
from seqsup.view.log import Log, spoken
from seqsup.view.ndjson import Stream
from seqsup.view.relay import OutputRelay
from seqsup.view.screen import Screen
from seqsup.view.summary import summary
from seqsup.view.terminal import here, redrawable, width

if TYPE_CHECKING:
    from seqsup.metrics.exporter import Exporter

_LONG = 1.0  # seconds: a wait that is worth a word
_RINGS = 60.0  # seconds: a run that rings the terminal's bell when it ends
_LOOK_AGAIN = 0.05  # seconds
_PATIENCE = 2.0  # seconds that the run before may take to close the port
_FURTHER = {Halt.AFTER_AGENT: "; Ctrl-C again stops now", Halt.NOW: "; Ctrl-C again kills"}


class Readers:
    """Readers of every run: a log and samples in its folder, and metrics if the plan wants them. Nothing is shown."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._emitter: Emitter | None = None  # of the run, once it has started
        self._run = ""  # its label
        self._folder: Path | None = None
        self._wake: Wake | None = None
        self._exporter: Exporter | None = None
        self._on_disk: list[Log | SamplesFile] = []

    def say(self, message: str, event: str = "notice", *, minor: bool = False) -> None:
        """Report a fact that is not an event of a run, such as waiting for the machine's turn."""

    def wait(self, ticket: str, ahead: list[str]) -> None:
        """Report that other runs are ahead in the queue. `ticket` names this one's place."""
        others = len(ahead) - 1
        self.say(f"waiting for {ahead[0]}" + (f" and {others} more in the queue" if others else ""))

    def stops(self, request: HaltRequested) -> None:
        """Answer a request to stop."""

    def lost(self) -> OSError | None:
        """Return why requested output did not reach its place."""
        return None

    async def prepare(self, wake: Wake, journal: Journal) -> None:
        """Open resources that may be refused, before the journal has the run: the port for metrics."""
        self._wake = wake
        wanted = self._plan.metrics
        if not (wanted.listen or wanted.textfile or wanted.pushgateway):
            return
        from seqsup.metrics.endpoint import PortTaken
        from seqsup.metrics.exporter import Exporter  # 1 MiB that a run without metrics has no use for

        loop, host = asyncio.get_running_loop(), Host()
        baseline = host.own()
        host.close()
        above = ceilings()

        def warn(message: str) -> None:
            loop.call_soon_threadsafe(self._warn, message)

        # A textfile and a Pushgateway forget it, a Prometheus does not
        keeps = wanted.textfile or wanted.pushgateway
        last_success = journal.last_success(self._plan.name) if keeps else None
        exporter = Exporter(
            self._plan, baseline, last_success,
            warn, lambda: [each for ceiling in above if (each := ceiling.bounds()) is not None],
        )  # fmt: skip
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                exporter.open()
                break
            except PortTaken:
                if time.monotonic() > give_up:
                    raise
                await wake.wait(_LOOK_AGAIN)  # the run before may be about to close it
        self._exporter = exporter

    @property
    def view(self) -> RunView | None:
        """The run so far; None before it has started."""
        return self._emitter.view if self._emitter is not None else None

    def begin(self, begun: BegunRun, emitter: Emitter) -> None:
        """Read along from the run's first event on."""
        self._emitter, self._run, self._folder = emitter, label(begun.number), begun.folder
        samples = SamplesFile(begun.folder)
        emitter.add_observer(samples.observe)
        emitter.add_scale(samples.weigh)
        self._on_disk = [self._log(begun), samples]
        if (exporter := self._exporter) is not None:
            exporter.follow(emitter.view)
            emitter.add_reader(exporter)
            emitter.add_observer(exporter.observe)
            emitter.add_scale(exporter.weigh)
        for reader in self._on_disk:
            emitter.add_reader(reader)

    def release(self, code: int | None) -> None:
        """Close the port before the next run has its turn, unless the last metrics are to be read."""
        if self._exporter is not None and (not self._lingers(code) or queued(state_dir())):
            self._exporter.stop_serving()

    async def end(self, code: int | None, give_up: Callable[[], bool]) -> None:
        """Write the rest, and wait for a last scrape. `code` is None if the run did not reach its end.

        `give_up` returns True when waiting must end.
        """
        for reader in self._on_disk:
            reader.close()
        if self._exporter is not None:
            if self._lingers(code) and self._exporter.address is not None:
                await self._linger(give_up)
            self._exporter.close()

    def _log(self, begun: BegunRun) -> Log:
        return Log(begun.folder, terminal=None)

    def _warn(self, message: str) -> None:
        if self._emitter is not None and self._emitter.view.state is RunState.RUNNING:
            self._emitter.note(Warned(message=message))
        else:
            self.say(message, minor=True)

    def _lingers(self, code: int | None) -> bool:
        """Return whether a last scrape is awaited; not after a run that the user stopped."""
        return self._plan.metrics.linger > 0 and code is not None and code <= 128

    async def _linger(self, give_up: Callable[[], bool]) -> None:
        """Let the last metrics be read until another run begins. Everything else is written by now."""
        assert self._wake is not None
        linger = self._plan.metrics.linger
        end = time.monotonic() + linger
        if linger > _LONG:
            message = f"waiting at most {format_duration(linger)} for a last scrape (Ctrl-C: do not wait)"
            self.say(message, "lingering", minor=True)
        while (left := end - time.monotonic()) > 0 and not give_up() and not waiting(state_dir()):
            await self._wake.wait(min(left, _LOOK_AGAIN))


class Display(Struct, frozen=True, kw_only=True):
    """Display of a run on the terminal."""

    note: str = ""  # shown first
    json: bool = False
    typed: bool = False  # these lines are events as the journal has them
    quiet: bool = False
    verbose: bool = False  # the final table has the agents' memory
    relay: bool = False  # copy the agent's output to our own
    detached: Detached | None = None  # in the background
    follow: bool = False  # so does the agents' output, each line with its agent's name
    plain: bool = False  # nothing is redrawn
    log_level: str | None = None  # the least that is shown on stderr
    log_json: bool = False  # log lines are objects


class TerminalReaders(Readers):
    """Shows a run to people on stderr, or to programs on stdout."""

    def __init__(self, plan: Plan, display: Display) -> None:
        super().__init__(plan)
        self._display = display
        self._here = here()  # a folder that may not be entered cannot be entered later either
        self._screen: Screen | None = None
        self._stream: Stream | None = None
        self._relay: OutputRelay | None = None
        self._onlooker: Live | Pulses | None = None

    @property
    def _quiet(self) -> bool:
        return self._display.json or self._display.quiet or self._display.relay

    def say(self, message: str, event: str = "notice", *, minor: bool = False) -> None:
        if minor and self._display.quiet:
            return
        with suppress(OSError):  # if stderr fails, the run continues
            self._say(message, event)

    def _say(self, message: str, event: str) -> None:
        if self._display.log_json:
            click.echo(spoken(message, event, run=self._run).encode(), err=True)
            return
        lines = "\n".join(wrap(text.message(f"seqsup: {message}"), width(sys.stderr)))
        if self._screen is not None:
            self._screen.write(f"{lines}\n".encode())
        else:
            click.echo(lines, err=True)

    def stops(self, request: HaltRequested) -> None:
        """Answer a Ctrl-C, where the log does not show it."""
        display = self._display
        if request.by == CTRL_C and not display.json and not display.log_level and (display.relay or display.quiet):
            self.say(f"stops {HALTS[request.halt]}{_FURTHER.get(request.halt, '')}")

    def wait(self, ticket: str, ahead: list[str]) -> None:
        super().wait(ticket, ahead)
        if self._display.detached is not None:
            self._display.detached.announce(ticket, self._plan.name)

    async def prepare(self, wake: Wake, journal: Journal) -> None:
        if self._display.note:
            self.say(self._display.note)
        await super().prepare(wake, journal)

    def begin(self, begun: BegunRun, emitter: Emitter) -> None:
        display = self._display
        if not (self._quiet or display.plain or display.log_json) and redrawable():
            self._screen = Screen(sys.stderr)
        super().begin(begun, emitter)
        if display.json:
            self._stream = Stream(typed=display.typed)
            emitter.add_reader(self._stream)
            emitter.add_observer(self._stream.observe)
        if not self._quiet:
            self._onlooker = self._look_on(emitter, begun)
            emitter.add_reader(self._onlooker)
        if display.relay or display.follow:
            readable = display.follow or any(step.prompt is not None for step in self._plan.steps)
            self._relay = OutputRelay(
                begun.folder, onto=self._screen, named=display.follow, readable=readable
            )  # fmt: skip
            emitter.add_reader(self._relay)
        if (detached := display.detached) is not None:
            emitter.add_reader(lambda _: detached.announce(label(begun.number), self._plan.name))

    def _log(self, begun: BegunRun) -> Log:
        display = self._display
        return Log(
            begun.folder, terminal=None if display.json else sys.stderr, quiet=self._quiet, screen=self._screen,
            level=display.log_level, as_json=display.log_json,
        )  # fmt: skip

    def _look_on(self, emitter: Emitter, begun: BegunRun) -> Live | Pulses:
        if self._screen is None:
            log = next(reader for reader in self._on_disk if isinstance(reader, Log))
            pulses = Pulses(lambda: emitter.view, log.pulse)
            emitter.add_observer(pulses.observe)
            return pulses
        address = self._exporter.address if self._exporter is not None else None
        served = (f"metrics {address}",) if address else ()
        scene = scene_of(self._plan, emitter.view, (*served, f"seqsup logs {self._run}"))
        live = Live(self._screen, scene, LastLines(begun.folder))
        emitter.add_observer(live.observe)
        emitter.add_scale(live.weigh)
        return live

    async def end(self, code: int | None, give_up: Callable[[], bool]) -> None:
        if self._relay is not None:
            await self._relay.close(give_up)
        for reader in (self._stream, self._onlooker):
            if reader is not None:
                reader.close()
        for written in self._on_disk:
            written.close()
        redrawn = self._screen is not None
        self._on_disk, self._screen = [], None  # the log has closed it
        display = self._display
        shown = not (display.json or display.log_json or (display.relay and code == 0))
        if self._emitter is not None and code is not None and shown:
            elsewhere = self._plan.state_dir != str(state_dir())
            view = self._emitter.view
            said = results(view, self._folder) if self._folder is not None else None
            table = summary(
                view, width=width(sys.stderr), here=self._here, elsewhere=elsewhere, said=said, memory=display.verbose
            )  # fmt: skip
            click.echo(table, err=True)
            if redrawn and (self._emitter.view.seconds or 0.0) >= _RINGS:
                click.echo(b"\a", err=True, nl=False)
        await super().end(code, give_up)

    def lost(self) -> OSError | None:
        """Return why requested output did not reach its place. A log may fail: its content is kept elsewhere."""
        outputs = (self._relay, self._stream)
        return next((output.lost for output in outputs if output is not None and output.lost is not None), None)
