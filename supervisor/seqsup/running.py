"""A run from a Python program: `seqsup.run`.

    import seqsup

    with seqsup.run("agents.toml") as run:
        for event in run:
            print(event)
    print(run.result().exit_code)

The supervisor is a process of its own, since it owns signals and children of its process. So a run may be started in
any thread, in asyncio (`await asyncio.to_thread(run.result)`) and in a notebook. If the caller dies, the run continues
under supervision: `seqsup status` shows it, `seqsup stop` stops it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
from msgspec import Struct

from seqsup.arguments import must_be
from seqsup.cli.choose import take
from seqsup.cli.load_plan import plan_of
from seqsup.cli.read_profile import USUAL
from seqsup.errors import Refused, SeqsupError
from seqsup.model.events import AnyEvent, Recorded
from seqsup.model.history import fold
from seqsup.model.plan import Plan
from seqsup.model.profile import Profile
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, AgentView, RunState
from seqsup.plan.environment import search_path
from seqsup.plan.preset_files import presets_for
from seqsup.plan.select import Choice
from seqsup.profile.parse import from_tables
from seqsup.runner.readers import Display
from seqsup.runner.run_plan import queue_up
from seqsup.runner.supervisor import SIGNALS, supervise
from seqsup.state.artifacts import SUMMARY
from seqsup.state.journal import Journal
from seqsup.state.run_folder import ARTIFACTS, label, run_folder, straight

__all__ = ["ActiveRun", "AgentResult", "RunResult", "run"]

_BOOT = "import sys; sys.path.append(sys.argv[1]); from seqsup.running import serve; sys.exit(serve())"
_ROOT = Path(__file__).parent.parent


class AgentResult(Struct, frozen=True, kw_only=True):
    """Result of one agent; sizes in bytes, times in seconds."""

    name: str  # of a copy of for_each with its number: file.17
    item: str | None  # of for_each
    state: AgentState
    reason: Reason | None  # of its last attempt; None: it did not run
    why: str  # the reason in words
    exit_code: int | None  # of its last attempt; None: it did not run, or a signal ended it
    attempts: int
    seconds: float  # of all attempts, without waits
    peak: int  # bytes of its whole process tree, over all attempts
    freed: int | None  # bytes, by its GCs; None: there was none
    folder: Path | None  # of its last attempt: stdout.log, stderr.log, artifacts
    summary: Path | None  # the file, if it stored one


class RunResult(Struct, frozen=True, kw_only=True):
    """Result of a run. `exit_code` is that of `seqsup start`; 0: every agent ended as the profile expects."""

    run: str | None  # its label, such as r42; None: it was stopped in the queue
    state: RunState
    exit_code: int
    why: str  # empty if all is well
    seconds: float | None  # of this start, without the wait in the queue
    folder: Path | None
    agents: tuple[AgentResult, ...]  # in the plan's order

    def agent(self, name: str) -> AgentResult:
        """Return the result of an agent. KeyError: there is none of this name."""
        return {agent.name: agent for agent in self.agents}[name]


class _Order(Struct, frozen=True, kw_only=True):
    """All that the process of a run gets from its caller."""

    plan: Plan
    resume: int | None
    wait: bool
    place: tuple[int, int]  # in the queue


class ActiveRun:
    """A run in a process of its own, and an iterator over its events while it runs.

    Ctrl-C while it waits for an event stops the run with its grace period, and a second one kills its agents. Any
    exception in the `with` block stops it too. The end of the block waits for the run.
    """

    def __init__(self, order: _Order, env: Mapping[str, str]) -> None:
        _, place = order.place
        self._state_dir = Path(order.plan.state_dir)
        self._label = label(order.resume) if order.resume is not None else None
        self._result: RunResult | SeqsupError | None = None
        text = msgspec.json.encode(order)
        self._errors = TemporaryFile()  # noqa: SIM115
        was = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # so that it hears an early stop once it can
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _ROOT, order.plan.name], env=env, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[place],
                start_new_session=True,  # a Ctrl-C comes from us alone
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, was)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as line:
            line.write(text)

    @property
    def label(self) -> str | None:
        """Its label, such as r42; None while it waits in the queue, or before its first event was read."""
        return self._label

    @property
    def pid(self) -> int:
        """The pid of its supervisor."""
        return self._process.pid

    def __iter__(self) -> Iterator[AnyEvent]:
        return self

    def __next__(self) -> AnyEvent:
        assert self._process.stdout is not None
        if self._result is None:
            try:
                if text := self._process.stdout.readline():
                    recorded = msgspec.json.decode(text, type=Recorded)
                    self._label = recorded.run
                    return recorded.body
                self._end()
            except KeyboardInterrupt:
                self._abort()
                raise
        if isinstance(self._result, SeqsupError):
            raise self._result
        raise StopIteration

    def __enter__(self) -> "ActiveRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.result()
        else:
            self._abort()

    def result(self) -> RunResult:
        """Wait for the end and return the result. Events that were not read are lost.

        SeqsupError: the run did not start. Refused, a kind of it: another run is active, with `wait=False`, or this is
        inside an agent.
        """
        for _ in self:
            pass
        assert isinstance(self._result, RunResult)
        return self._result

    def stop(self, *, now: bool = False) -> None:
        """Ask the run to stop after its active agent, or now with the grace period. Returns at once."""
        self._signal(signal.SIGTERM if now else signal.SIGUSR1)

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signum)

    def _abort(self) -> None:
        if self._result is not None:
            return
        self.stop(now=True)
        try:
            self._end()
        except KeyboardInterrupt:
            self._signal(signal.SIGINT)  # after SIGTERM it kills
            self._end()

    def _end(self) -> None:
        assert self._process.stdout is not None
        while self._process.stdout.read(65536):
            pass
        code = self._process.wait()
        self._process.stdout.close()
        with self._errors:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
        if self._label is not None or code == 0 or code > 128:
            self._result = self._fold(code, said)
        else:
            self._result = (Refused if code == Refused.exit_code else SeqsupError)(said or f"exit code {code}")

    def _fold(self, code: int, said: str) -> RunResult:
        if self._label is None:
            return RunResult(
                run=None, state=RunState.STOPPED, exit_code=code, why=said, seconds=None, folder=None, agents=()
            )
        number = int(self._label.removeprefix("r"))
        with closing(Journal.open(self._state_dir)) as journal:
            view = fold(journal.events(number))
        folder = run_folder(self._state_dir, number)
        if view.exit_code is None:
            view.lose()
            view.state, view.why = RunState.STOPPED, said or "its supervisor was killed"
        return RunResult(
            run=self._label, state=view.state, exit_code=code if code >= 0 else 128 - code, why=view.why or said,
            seconds=view.seconds, folder=folder, agents=tuple(_agent(each, folder) for each in view.agents.values()),
        )  # fmt: skip


def run(
    profile: str | os.PathLike[str] | Mapping[str, Any] | Profile | Plan, *, task: str = "", only: Iterable[str] = (),
    resume: bool = False, wait: bool = True,
) -> ActiveRun:  # fmt: skip
    """Start a run and return it at once: an iterator of its events, with `result()` at the end.

    `profile` is the path of a profile or its folder, the same tables as a dict, or a plan. Paths in a dict begin at the
    current folder. `task`, `only` and `resume` are the options of `seqsup start`; `resume` needs a path.

    Runs have their turns in the order of the calls. Without `wait` the run is refused if another one is active or
    waits.
    ProfileError: the profile has mistakes; `complaints` has file, line, key and remedy of each. Nothing is started.
    """
    must_be("profile", "a path, the tables as a dict, or a plan", profile, str, os.PathLike, Mapping, Profile, Plan)
    must_be("task", "text", task, str)
    names = _names(only)
    must_be("resume", "True or False", resume, bool)
    must_be("wait", "True or False", wait, bool)
    if resume and not isinstance(profile, (str, os.PathLike)):
        raise ValueError("resume needs the path of a profile")
    choice = Choice(task=task, only=names)
    with _own_path():
        plan, earlier = _planned(profile, choice, resume=resume)
        env = dict(os.environ)
    turn = queue_up(f"{plan.name} (starting)")  # here, so that runs have their turns in the order of the calls
    try:
        return ActiveRun(_Order(plan=plan, resume=earlier, wait=wait, place=turn.pass_on()), env)
    finally:
        turn.close()


def _names(only: Iterable[str]) -> tuple[str, ...]:
    wanted = 'a list of names, such as ["review"]'
    must_be("only", wanted, only, *(() if isinstance(only, str) else (Iterable,)))  # its letters are no names
    names = tuple(only)
    for name in names:
        must_be("only", wanted, name, str)
    return names


def serve() -> int:
    """Carry out the order on stdin, with events on stdout. Return the exit code."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        display = Display(json=True, typed=True, quiet=True)
        return supervise(order.plan, display, resume=order.resume, wait=order.wait, place=order.place)
    except SeqsupError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


@contextmanager
def _own_path() -> Iterator[None]:
    """Plan with the PATH of the run, which ends with our own folders; the caller's stays as it is."""
    was = os.environ.get("PATH")
    os.environ["PATH"] = search_path(os.environ.get("PATH", os.defpath))
    try:
        yield
    finally:
        if was is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = was


def _planned(
    profile: str | os.PathLike[str] | Mapping[str, Any] | Profile | Plan, choice: Choice, *, resume: bool
) -> tuple[Plan, int | None]:
    """Return the plan, and the number of the run that it resumes."""
    if isinstance(profile, Plan):
        return profile, None
    if isinstance(profile, (str, os.PathLike)):
        path = Path(profile) / USUAL if Path(profile).is_dir() else profile
        taken = take(
            os.fspath(path), resume="" if resume else None, retry_failed=False, task=choice.task, only=choice.only
        )
        return taken.plan, taken.earlier.run if taken.earlier is not None else None
    if not isinstance(profile, Profile):
        profile = from_tables(dict(profile), presets=presets_for(straight(Path())))
    return plan_of(profile, straight(Path(profile.file or "profile")).parent, choice), None


def _agent(view: AgentView, run: Path) -> AgentResult:
    folder = run / view.folder if view.folder is not None else None
    summary = folder / ARTIFACTS / SUMMARY if folder is not None else None
    return AgentResult(
        name=view.name, item=view.item, state=view.state, reason=view.reason, why=view.why, exit_code=view.exit_code,
        attempts=view.attempts, seconds=view.seconds, peak=view.peak, freed=view.gc_freed, folder=folder,
        summary=summary if summary is not None and summary.is_file() else None,
    )  # fmt: skip
