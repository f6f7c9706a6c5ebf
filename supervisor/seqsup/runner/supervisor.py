"""The wiring of `start` and `run`: the machine's turn, what the dead left, the run and its readers."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct

# isort: off
from seqsup.host.slim_asyncio import asyncio  # the first of us, see there

# isort: on
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.containment.cgroup.tiers import choose
from seqsup.containment.mark import COOKIE, FOLDER
from seqsup.containment.reaper import Reaper
from seqsup.containment.sentinel import Sentinel
from seqsup.errors import Refused, SeqsupError
from seqsup.host.machine import PORTABLE, Host, give_back, too_few_files
from seqsup.host.users import leave_keyring
from seqsup.host.wake import Wake
from seqsup.model.enums import HALTS, Halt
from seqsup.model.events import HaltRequested, Warned
from seqsup.model.plan import Plan
from seqsup.model.process_names import processes
from seqsup.model.run_view import RunState, fold
from seqsup.plan.make import enforcement, enforcing_key
from seqsup.plan.resume import resumption
from seqsup.runner.detached import Detached
from seqsup.runner.emitter import Audience
from seqsup.runner.recover import Recovered, recover, recover_elsewhere
from seqsup.runner.run import Identity, Run
from seqsup.runner.stop_request import CTRL_C, Operator
from seqsup.state.journal import Journal, RunRow
from seqsup.state.run_folder import KILLED, QUEUE, hold, label, private, run_folder, state_dir, write_private
from seqsup.state.samples import Timeline
from seqsup.state.turn import Turn, introduced
from seqsup.text import narrowed, wrap
from seqsup.units import format_duration
from seqsup.view.live import Live, Pulses, scene_of
from seqsup.view.log import Log, spoken
from seqsup.view.ndjson import Stream
from seqsup.view.relay import Passage
from seqsup.view.screen import Screen
from seqsup.view.summary import summary
from seqsup.view.terminal import colourful, here, redrawable, symbols, width

if TYPE_CHECKING:
    from seqsup.metrics.exporter import Exporter

_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP,
)  # fmt: skip
_LONG = 1.0  # seconds: a wait that is worth a word
_LOOK_AGAIN = 0.05  # seconds
_PATIENCE = 5.0  # seconds
_FURTHER = {Halt.AFTER_AGENT: "; Ctrl-C again stops it now", Halt.NOW: "; Ctrl-C again kills it"}


class Manner(Struct, frozen=True, kw_only=True):
    """How a run is carried out and shown."""

    resume: int | None = None  # the run that goes on
    note: str = ""  # to be said first
    wait: bool = True
    json: bool = False
    quiet: bool = False
    passage: bool = False  # the agent's output goes on to our own
    detached: Detached | None = None  # in the background
    follow: bool = False  # so does the agents' output, each line with its agent's name
    plain: bool = False  # nothing is redrawn
    log_level: str | None = None  # the least that is shown on stderr
    log_json: bool = False  # log lines are objects


def supervise(plan: Plan, manner: Manner) -> int:
    """Carry out a plan and return the exit code."""
    if inside := os.environ.get(COOKIE):
        agent, run = os.environ.get("SEQSUP_AGENT", "?"), Path(os.environ.get(FOLDER, inside)).name
        raise Refused(
            f"this is already inside agent {agent} of {run}: a run in a run would wait for itself;"
            " call the command directly"
        )
    if said := too_few_files():
        raise SeqsupError(f"{said}: raise it")
    folder = Path(plan.state_dir)
    journal = Journal.open(folder, write=True)
    # Until we listen: by a Ctrl-C before that asyncio would cancel the run, in the midst of its agent
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return asyncio.run(_Supervision(plan, manner, journal, folder).main())
    finally:
        journal.close()


class _Supervision:
    def __init__(self, plan: Plan, manner: Manner, journal: Journal, folder: Path) -> None:
        self._plan, self._manner, self._journal, self._folder = plan, manner, journal, folder
        self._here = here()  # whoever may not enter it cannot go back there either
        self._wake = Wake()
        self._operator = Operator(self._told)
        self._audience: Audience | None = None  # of the run, while it has one
        self._readers: list[Log | Stream | Timeline | Live | Pulses] = []
        self._passage: Passage | None = None
        self._exporter: Exporter | None = None
        self._screen: Screen | None = None
        self._code: int | None = None
        self._ticket = ""
        self._number = ""  # the run's, once it has one

    async def main(self) -> int:
        if self._listen():
            await self._wake.wait(0.001)  # that is heard before an agent starts
        began = time.monotonic()
        try:
            turn = Turn.queue_up(state_dir(), introduced(self._plan.name))
        except OSError as error:
            why = f"the queue in {state_dir()} cannot be used: {error.strerror}"
            raise Refused(f"{why}; free space there, make it writable, or set SEQSUP_STATE_DIR to another") from error
        self._ticket = turn.label
        try:
            if not self._manner.wait and (ahead := turn.ahead()):
                raise Refused(f"another run has the machine: {', '.join(ahead)}; without --no-wait this one waits")
            if not await turn.wait(self._wake, self._say_ahead, lambda: self._operator.halt > Halt.NONE):
                self._say("stopped while it waited; nothing was started")
                return 128 + (self._operator.signal or signal.SIGINT)
            await self._put_in_order()
            code = await self._carry_out(time.monotonic() - began)
        finally:
            turn.leave()
            await self._farewell()
        if code == 0 and (lost := self._lost()) is not None:
            raise lost
        return code

    def _lost(self) -> OSError | None:
        """Why the output that was asked for did not reach its place; a log of ours may fail, what it says is kept."""
        outputs = (self._passage, *(reader for reader in self._readers if isinstance(reader, Stream)))
        return next((output.lost for output in outputs if output is not None and output.lost is not None), None)

    def _listen(self) -> bool:
        """Hear signals from here on. True: some came before, while it began."""
        loop, operator = asyncio.get_running_loop(), self._operator
        if not _ignored(signal.SIGINT):
            loop.add_signal_handler(signal.SIGINT, operator.interrupt, signal.SIGINT)
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if not _ignored(signum):
                loop.add_signal_handler(signum, operator.wish, Halt.NOW, signum, signum.name)
        loop.add_signal_handler(signal.SIGUSR1, operator.wish, Halt.AFTER_AGENT, signal.SIGINT, "seqsup stop")
        loop.add_signal_handler(signal.SIGUSR2, self._wake.poke)  # `seqsup resume`
        # Stopped, it would no longer see the tree grow, while the agent ran on in its own session
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # in the background, after `stty tostop`
        loop.add_signal_handler(
            signal.SIGTSTP, self._say, "Ctrl-Z has no effect: a suspended seqsup cannot watch memory"
        )
        early = bool(signal.sigpending())
        # Who starts us may have blocked some, which agents would inherit
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return early

    def _say(self, message: str, event: str = "notice") -> None:
        """Tell people. Where there is no room for it, or nobody to hear it, the run goes on all the same."""
        with suppress(OSError):
            self._say_it(message, event)

    def _say_it(self, message: str, event: str) -> None:
        if self._manner.log_json:
            click.echo(spoken(message, event, run=self._number).encode(), err=True)
            return
        lines = "\n".join(wrap(f"seqsup: {message}", width(sys.stderr)))
        if self._screen is not None:
            self._screen.write(f"{lines}\n".encode())
        else:
            click.echo(lines, err=True)

    def _told(self, event: HaltRequested) -> None:
        self._wake.poke()
        if self._audience is None:
            return
        self._audience.note(event)
        manner = self._manner  # where the log tells nothing of it
        if event.by == CTRL_C and not manner.json and not manner.log_level and (manner.passage or manner.quiet):
            self._say(f"stops {HALTS[event.halt]}{_FURTHER.get(event.halt, '')}")

    def _say_ahead(self, ahead: list[str]) -> None:
        first, others = ahead[0], len(ahead) - 1
        self._say(f"waiting for {first}" + (f" and {others} more in the queue" if others else ""))
        if self._manner.detached is not None:
            self._manner.detached.announce(self._ticket, self._plan.name)

    async def _put_in_order(self) -> None:
        unknown = []
        for found in await recover(self._journal, self._folder, self._wake):
            if found.unknown:
                unknown.append(f"{found.run} {found.name} may have left processes behind; {found.unknown}")
                continue
            left = "ended, but for what survived SIGKILL" if found.over else "was left by a supervisor that died"
            lost = f" while {found.lost} ran" if found.lost else ""
            self._say(f"{found.run} {found.name} {left}{lost}{_recovered(found)}")
        others = await recover_elsewhere(self._journal, self._folder, state_dir(), self._wake)
        if others is not None and (others.processes or others.remains):  # an empty group is not worth a word
            self._say(f"a dead supervisor of another state folder left something{_recovered(others)}")
        if unknown:
            raise Refused("\n".join(unknown))

    async def _carry_out(self, waited: float) -> int:
        plan, manner = self._plan, self._manner
        if manner.note:
            self._say(manner.note)
        row = self._resumed()
        if row is not None and self._complete(row):
            begun = narrowed(plan.only, plan.start_from)
            part = f"what it was begun with ({begun}); --only or --from take others"
            those = part if begun else "every agent of the profile" + " but those skipped" * bool(plan.skips)
            self._say(f"nothing to resume: {label(row.run)} {plan.name} has completed {those}")
            return 0
        exporter = self._exporter = await self._exporting()
        cookie = row.cookie if row is not None else os.urandom(16).hex()
        # This may refuse, so the journal hears of the run only after it
        containment = choose(enforcement(plan), cookie, enforcing_key(plan))
        identity, lock = self._begun(row, cookie)
        self._number = label(identity.run)
        folder = run_folder(self._folder, identity.run)
        write_private(folder / QUEUE, str(state_dir()))
        if any(step.account for step in plan.steps) or any(each.account for each in plan.companions):
            leave_keyring()
        reaper = Reaper(self._wake.poke)
        audience = self._audience = Audience(identity.run, self._journal)
        run = Run(
            plan, identity, folder, self._journal, audience, self._wake, self._operator, reaper, containment
        )  # fmt: skip
        quiet = manner.json or manner.quiet or manner.passage
        if not (quiet or manner.plain or manner.log_json) and redrawable((sys.stdout, sys.stderr)):
            self._screen = Screen(sys.stderr.fileno(), symbols(sys.stderr))
        log = Log(
            folder, terminal=None if manner.json else sys.stderr, quiet=quiet, screen=self._screen,
            level=manner.log_level, as_json=manner.log_json,
        )  # fmt: skip
        self._readers.append(log)
        timeline = Timeline(folder)
        self._readers.append(timeline)
        audience.add_observer(timeline.observe)
        audience.add_scale(timeline.weigh)
        if exporter is not None:
            audience.add_reader(exporter)
            audience.add_observer(exporter.observe)
            audience.add_scale(exporter.weigh)
        if manner.json:
            self._readers.append(Stream())
        if not quiet:
            self._readers.append(self._onlooker(audience, log, identity.run))
        if manner.passage or manner.follow:
            self._passage = Passage(folder, onto=self._screen, named=manner.follow)
            audience.add_reader(self._passage)
        for reader in self._readers:
            audience.add_reader(reader)
        kill_file = containment.groups.kill_file if containment.groups is not None else None
        sentinel = reaper.sentinel = Sentinel(kill_file, folder / KILLED) if kill_file is not None else None
        if (detached := manner.detached) is not None:
            audience.add_reader(lambda _: detached.announce(label(identity.run), plan.name))
        give_back()
        with reaper:
            self._code = await run.carry_out(lock, waited)
        if sentinel is not None:
            sentinel.dismiss()
        return self._code

    def _onlooker(self, audience: Audience, log: Log, number: int) -> Live | Pulses:
        if self._screen is None:
            pulses = Pulses(lambda: audience.view, log.pulse)
            audience.add_observer(pulses.observe)
            return pulses
        address = self._exporter.address if self._exporter is not None else None
        served = (f"metrics {address}",) if address else ()
        scene = scene_of(self._plan, audience.view, (*served, f"seqsup logs {label(number)}"))
        live = Live(self._screen, scene, encoding=symbols(sys.stderr), colour=colourful(sys.stderr))
        audience.add_observer(live.observe)
        audience.add_scale(live.weigh)
        return live

    async def _farewell(self) -> None:
        """End the readers, which may wait for whoever reads us; the next run has its turn by now."""
        audience, self._audience = self._audience, None
        self._operator.done()  # from here on a wish is to wait no longer
        await self._end_readers(lambda: self._operator.halt > Halt.NONE)
        manner = self._manner
        shown = not (manner.json or manner.log_json or (manner.passage and self._code == 0))
        if audience is not None and self._code is not None and shown:
            elsewhere = self._folder != state_dir()
            told = summary(audience.view, width=width(sys.stderr), here=self._here, elsewhere=elsewhere)
            click.echo(told, err=True)
        if self._exporter is not None:
            await self._linger(self._exporter)

    async def _end_readers(self, give_up: Callable[[], bool]) -> None:
        if self._passage is not None:
            await self._passage.close(give_up)
        for reader in self._readers:
            reader.close()
        self._screen = None  # the log has closed it

    async def _exporting(self) -> "Exporter | None":
        """Begin to serve figures, where the plan wants them."""
        wanted = self._plan.metrics
        if not (wanted.listen or wanted.textfile or wanted.pushgateway):
            return None
        from seqsup.metrics.exporter import Exporter  # 1 MiB that a run without metrics has no use for

        loop, host = asyncio.get_running_loop(), Host()
        baseline = host.own()
        host.close()

        def warn(message: str) -> None:
            loop.call_soon_threadsafe(self._warn, message)

        above = [] if PORTABLE else ceilings()

        def bounds() -> list[tuple[int, int]]:
            return [each for ceiling in above if (each := ceiling.bounds()) is not None]

        exporter = Exporter(self._plan, self._folder, state_dir(), baseline, warn, bounds)
        while not exporter.open():
            await self._wake.wait(_LOOK_AGAIN)
        return exporter

    def _warn(self, message: str) -> None:
        if self._audience is not None and self._audience.view.state is RunState.RUNNING:
            self._audience.note(Warned(message=message))
        elif not self._manner.quiet:
            self._say(message)

    async def _linger(self, exporter: "Exporter") -> None:
        """Let the last figures be read. Everything is told by now, and the next run has its turn."""
        told, stopped = False, (self._code or 0) > 128  # who stopped the run wants it to be over
        while not stopped and (left := exporter.linger()) > 0 and self._operator.halt is Halt.NONE:
            if not told and left > _LONG and not self._manner.quiet:
                told = True
                self._say(
                    f"waiting at most {format_duration(left)} for a last scrape (Ctrl-C: do not wait)", "lingering"
                )
            await self._wake.wait(min(left, _LOOK_AGAIN))
        exporter.close()

    def _begun(self, row: RunRow | None, cookie: str) -> tuple[Identity, int]:
        """The run, and its lock: who hears of a run whose lock is free takes its supervisor for dead."""
        plan, locks = self._plan, list[int]()

        def claim(run: int) -> None:
            locks.append(hold(private(run_folder(self._folder, run))))

        if row is None:
            run = self._journal.begin(plan.name, plan.profile, cookie, claim)
            return Identity(run, cookie), locks[0]
        claim(row.run)
        self._journal.adopt(row, plan.name, plan.profile)
        return Identity(row.run, cookie, goes_on=self._journal.last_heard(row.run) is not None), locks[0]

    def _resumed(self) -> RunRow | None:
        wanted = self._manner.resume
        if wanted is None:
            return None
        row = next((row for row in self._journal.runs() if row.run == wanted), None)
        if row is None:
            raise Refused(f"{label(wanted)} was removed while this waited for its turn")
        return row

    def _complete(self, row: RunRow) -> bool:
        view = fold(self._journal.events(row.run))
        if view.ended is None:
            return False  # its supervisor died after its last agent: its end is still to be told
        return len(resumption(self._plan.steps, view.completed).done) == len(self._plan.steps)


def _recovered(found: Recovered) -> str:
    return (
        (f"; stopped {processes(found.processes)}" if found.processes else "")
        + (f"; still there after KILL: {processes(found.remaining)}" if found.remaining else "")
        + (f"; groups that could not be removed: {', '.join(found.groups_remaining)}" if found.groups_remaining else "")
    )


def _ignored(signum: signal.Signals) -> bool:
    """Under nohup, or behind a script's `&`, whoever started us wants these to have no effect."""
    return signal.getsignal(signum) is signal.SIG_IGN
