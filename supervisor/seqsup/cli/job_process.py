"""The process that carries out one job, as one run of the code behind `start`; it tells its worker of it in lines.

A worker may be killed: the run continues under this process. The next worker starts another one for the job, which
waits for the end of that run, or resumes it if its supervisor has died.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from seqsup.cli.find_run import Found, follow
from seqsup.cli.load_plan import for_command, plan_of
from seqsup.cli.read_profile import state_dir_of
from seqsup.cli.signals import send
from seqsup.errors import SeqsupError
from seqsup.host.machine import machine_id
from seqsup.model.enums import Halt
from seqsup.model.events import AdmissionDelayed, AttemptStarted, Recorded, RunStarted
from seqsup.model.plan import Plan
from seqsup.model.process import Observation
from seqsup.model.profile import Profile
from seqsup.model.run_view import AgentState, RunView
from seqsup.plan.preset_files import presets_for
from seqsup.plan.repositories import with_order
from seqsup.policy.passed_on import seen
from seqsup.profile.parse import parse
from seqsup.queue.jobs import JobResult, Order, Taken
from seqsup.queue.lease_file import demanded
from seqsup.queue.parcel import choice_of, unpack
from seqsup.runner.begun import BegunRun
from seqsup.runner.emitter import Emitter
from seqsup.runner.job_run import JobRun
from seqsup.runner.readers import Readers
from seqsup.runner.supervisor import SIGNALS, supervise
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import NoJournal
from seqsup.state.run_folder import label, state_dir, straight
from seqsup.text import named
from seqsup.units import format_size
from seqsup.view.log import Log
from seqsup.view.nonblocking import NonblockingWriter
from seqsup.view.summary import branches

JOBS = "jobs"  # in the state folder: folders of jobs that were added on another machine
_NOTES = 2.0  # seconds between two notes
_LOOK_AGAIN = 0.5  # seconds between two looks at a run of another supervisor
_FAULT = 70


class JobStart(Struct, frozen=True, kw_only=True):
    """All that the process of a job gets from its worker."""

    taken: Taken
    place: tuple[int, int] | None = None  # in the machine's queue, lent by the worker; None: it takes one of its own
    lease_file: Path | None = None  # says until when this machine may run the job; None: for ever
    log_level: str | None = None  # the least that is shown on the worker's stderr; None: no log
    log_json: bool = False


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line to the worker."""

    said: str = ""  # for people, such as what the run waits for
    note: str = ""  # what the job does now
    run: str | None = None  # the run that carries the job out
    state_dir: str | None = None
    began: str = ""  # how: started as, resumed as, still runs as
    result: JobResult | None = None  # the last line
    stopped: bool = False  # its run was stopped by a signal, so that it can be resumed


class Lines:
    """Writes lines to the worker. A worker that is gone or slow delays nothing."""

    def __init__(self) -> None:
        self._outlet = NonblockingWriter(1)
        self.last = ""  # line that was told

    def tell(self, line: Line) -> None:
        self.last = line.said or self.last
        self._outlet.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        self._outlet.close()


class JobReaders(Readers):
    """Tells the worker of a run: its label, what it waits for, and how near an agent is to its limit."""

    def __init__(self, plan: Plan, lines: Lines, log: Callable[[Path], Log]) -> None:
        super().__init__(plan)
        self._lines, self._make_log = lines, log
        self._limits = {step.name: step.limits.soft or step.limits.hard for step in plan.steps}
        self._noted = 0.0  # monotonic seconds

    def say(self, message: str, event: str = "notice", *, minor: bool = False) -> None:
        if not minor:
            self._lines.tell(Line(said=message))

    def begin(self, begun: BegunRun, emitter: Emitter) -> None:
        super().begin(begun, emitter)
        began = "resumed as" if begun.continues else "started as"
        self._lines.tell(Line(run=label(begun.number), state_dir=self._plan.state_dir, began=began))
        emitter.add_reader(lambda recorded: note_event(recorded, self._lines))
        emitter.add_observer(self._weigh)

    def _log(self, begun: BegunRun) -> Log:
        return self._make_log(begun.folder)

    def _weigh(self, observed: Observation) -> None:
        now = time.monotonic()
        if now - self._noted < _NOTES or not observed.sample.used:
            return
        self._noted = now
        used, limit = observed.sample.used, self._limits.get(observed.agent)
        of = f" of {format_size(limit)} ({100 * used // limit} %)" if limit else ""
        self._lines.tell(Line(note=f"{observed.agent}: {format_size(used)}{of}"))


def note_event(recorded: Recorded, lines: Lines) -> None:
    match recorded.body:
        case AttemptStarted(agent=agent, attempt=attempt):
            lines.tell(Line(note=agent if attempt == 1 else f"{agent}, attempt {attempt}"))
        case AdmissionDelayed(agent=agent, why=why):
            lines.tell(Line(note=f"{agent} waits for memory: {why}"))


def serve(start: JobStart, stderr: TextIO) -> int:
    """Carry a job out. Its worker blocks SIGNALS before. `stderr` is the worker's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # only the worker sends it, also if that ignores its own
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    lines, over = Lines(), threading.Event()
    if start.lease_file is not None:
        threading.Thread(target=_end_with, args=(start.lease_file, over), daemon=True).start()
    try:
        last = _JobProcess(start, lines, stderr).carry_out()
    except SeqsupError as error:
        result = JobResult(exit_code=error.exit_code, run=None, why="\n".join(error.lines(None)))
        last = Line(result=result)
    except Exception as error:
        traceback.print_exc()
        why = f"internal error: {type(error).__name__}: {error}"
        last = Line(result=JobResult(exit_code=_FAULT, run=None, why=why))
    over.set()
    lines.tell(last)
    lines.close()
    return 0


def _end_with(lease: Path, over: threading.Event) -> None:
    """Stop this process's run once another machine may get the job, and kill it if that takes long."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
    for halt, signum in ((Halt.NOW, signal.SIGTERM), (Halt.KILL, signal.SIGINT)):
        while demanded(lease) < halt:
            if over.wait(_LOOK_AGAIN):
                return
        os.kill(os.getpid(), signum)


class _JobProcess:
    def __init__(self, start: JobStart, lines: Lines, stderr: TextIO) -> None:
        self._start, self._lines, self._stderr = start, lines, stderr
        self._parent = os.getppid()
        self._readers: JobReaders | None = None
        taken = start.taken
        self._job = JobRun(
            cookie=taken.cookie, since=taken.retried, wanted=lambda: os.getppid() == self._parent,
            lent=start.place is not None,
        )  # fmt: skip

    def carry_out(self) -> Line:
        """Return the last line."""
        order = _at_home(self._start.taken)
        profile = _profile(order)
        folder = state_dir_of(profile) if profile is not None else state_dir()
        found = self._found(folder)
        if found is not None:
            if found.lives() and (last := self._adopt(found)) is not None:
                return last
            if (code := self._job.over(found.journal, found.row)) is not None:
                return self._ended(folder, code)
        plan = self._plan(order, profile, found)
        self._readers = JobReaders(plan, self._lines, self._log)
        code = supervise(plan, self._readers, place=self._start.place, job=self._job)
        return self._ended(Path(plan.state_dir), code)

    def _log(self, folder: Path) -> Log:
        start = self._start
        terminal = self._stderr if start.log_level is not None else None
        return Log(folder, terminal=terminal, level=start.log_level, as_json=start.log_json)

    def _found(self, folder: Path) -> Found | None:
        """Return the run of the job, if it began."""
        try:
            journal = Journal.open(folder)
        except NoJournal:
            return None
        row = self._job.row(journal)
        return Found(folder, journal, row) if row is not None else None

    def _plan(self, order: Order, profile: Profile | None, found: Found | None) -> Plan:
        if profile is None:
            return for_command(order.command, workspace=order.workspace, **asdict(order.options))
        choice = choice_of(order)
        if found is not None:
            view = found.view()
            choice = replace(choice, any_items=True, earlier=view.items, task=choice.task or view.task)
        return plan_of(profile, Path(order.folder), choice)

    def _adopt(self, found: Found) -> Line | None:
        """Wait for the end of a run whose supervisor lives, and return the last line; None: that one was killed."""
        asked: list[int] = []

        def pass_on(signum: int, _: object) -> None:
            asked.append(signum)
            send(found.row.pid, found.lives, signal.Signals(signum))

        for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._lines.tell(Line(run=found.label, state_dir=str(found.state_dir), began="still runs as"))
        for batch in follow(found, _LOOK_AGAIN):
            for recorded in batch[-1:] if batch and isinstance(batch[0].body, RunStarted) else batch:
                note_event(recorded, self._lines)
        while found.lives():  # it has told its end, and cleans up
            time.sleep(_LOOK_AGAIN / 10)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if (code := self._job.ended(found.journal, found.row)) is not None:
            return self._ended(found.state_dir, code)
        if asked:
            return self._ended(found.state_dir, 128 + max(asked))
        return None

    def _ended(self, folder: Path, code: int) -> Line:
        """Return the last line for a run that ended with `code`, or did not begin."""
        why, found = self._lines.last, self._found(folder)
        if found is None:
            return Line(result=JobResult(exit_code=code, run=None, why=why if code else ""), stopped=code > 128)
        view = found.view()
        view.exit_code = code
        own = seen(view)
        assert own is not None
        result = JobResult(
            exit_code=own, run=found.label, why=_why(view) if own else "", seconds=view.seconds,
            branches=tuple(branches(view)),
        )  # fmt: skip
        return Line(result=result, stopped=code > 128)


def _at_home(taken: Taken) -> Order:
    """Enter the folder of a job, which of one from another machine is made here, and return the order for it."""
    order = taken.order
    folder = Path(order.folder)
    if order.origin and order.origin != machine_id():
        folder = straight(state_dir() / JOBS / str(taken.number))
        if order.profile is not None:
            order = replace(order, path=str(unpack(order, folder)))
        else:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        order = replace(order, folder=str(folder))
    try:
        os.chdir(folder)
    except OSError as error:
        raise SeqsupError(f"the folder of the job, {folder}, cannot be entered: {error.strerror}") from error
    return order


def _profile(order: Order) -> Profile | None:
    if order.profile is None:
        return None
    path = order.path or str(Path(order.folder) / "profile.toml")
    profile = parse(order.profile, path, presets_for(straight(Path(path)).parent))
    return with_order(profile, order.workspace)


def _why(view: RunView) -> str:
    if view.why:
        return view.why
    failed = [agent for agent in view.agents.values() if agent.state is AgentState.GAVE_UP]
    if not failed:
        return "its run was stopped" if (view.exit_code or 0) > 128 else ""
    more = f"; also failed: {named([agent.name for agent in failed[1:]])}" if failed[1:] else ""
    return f"{failed[0].label}: {failed[0].why}{more}"
