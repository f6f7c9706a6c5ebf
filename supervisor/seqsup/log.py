"""The log: an event, a line; short on the terminal, whole in the run's folder. Nothing else knows loguru."""

import os
import sys
import time
from contextlib import suppress
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec
from loguru import logger
from msgspec import Struct

from .events import (
    AdmissionDelayed,
    AgentDue,
    AgentEnded,
    AgentSkipped,
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    BriefWritten,
    ChainEnded,
    CompanionExited,
    CompanionGcDone,
    CompanionGcRequested,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    Drained,
    Event,
    GcDone,
    GcRequested,
    HaltRequested,
    HookEnded,
    LimitPaused,
    MemoryHigh,
    MemoryWarned,
    OutputCut,
    PeakRose,
    Recorded,
    RetryScheduled,
    RunContinued,
    RunEnded,
    RunPaused,
    RunsRemoved,
    RunStarted,
    Spawned,
    StopSent,
    SupervisorRenewed,
    Unkillable,
    Warned,
)
from .model import Reason
from .ndjson import timestamp
from .outlet import Outlet
from .screen import Screen
from .terminal import colourful, symbols
from .units import format_age, format_duration, format_size
from .wording import (
    HALTS,
    KILLED,
    STOPPED_BY_US,
    at_a_time,
    columns,
    counted,
    ending,
    mark,
    named,
    narrowed,
    printable,
    processes,
    wrap,
)

if TYPE_CHECKING:
    from loguru import Message

FILE = "seqsup.log"
DEBUG, INFO, SUCCESS, WARNING, ERROR = "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR"
LEVELS = (DEBUG, INFO, WARNING, ERROR)
_ROTATION, _RETENTION = "16 MB", 4  # of a run's file: 80 MB at most
_JSON = "{extra[json]}"
_SHORT = "{extra[clock]} <level>{extra[mark]}</level> {extra[who]}  {message}"
_WHOLE = "{extra[time]} {level: <7} {extra[run]} {extra[place]} {message}"
_COMMAND = 300  # characters: a prompt may be pages long
_ROOM = 40  # columns: text is not squeezed into less for the sake of a deeper indent
_SLOW = 1.0  # seconds: a drain that takes longer is worth a line on the terminal


class Line(Struct, frozen=True):
    level: str
    mark: str
    word: str
    text: str = ""
    table: bool = False  # the final table says it too: not for the terminal


class Log:
    """A reader of events. One at a time in a process: loguru has one list of sinks."""

    def __init__(
        self, folder: Path | None, *, terminal: TextIO | None = sys.stderr, quiet: bool = False,
        screen: Screen | None = None, level: str | None = None, as_json: bool = False,
    ) -> None:  # fmt: skip
        """`screen` is the terminal's, where its last lines are redrawn. `level` is the least that the terminal shows,
        one of LEVELS; with `as_json` each line is an object, on the terminal and in the file."""
        logger.remove()
        self._as_json = as_json
        self._outlet: Outlet | Screen | None = None
        self._terminal = terminal if terminal is not None and terminal.isatty() and not as_json else None
        self._encoding = "utf-8"
        self._width = 10
        self._run = ""
        if terminal is not None:
            self._encoding = symbols(terminal)
            self._outlet = screen or Outlet(terminal.fileno())
            logger.add(
                self._to_terminal,
                format=_JSON if as_json else _SHORT,
                level=level or (ERROR if quiet else INFO),
                colorize=not as_json and colourful(terminal),
                filter=lambda record: as_json or not record["extra"]["table"],
                catch=False,
            )
        if folder is not None:
            logger.add(
                folder / FILE, format=_JSON if as_json else _WHOLE, level=DEBUG, colorize=False, encoding="utf-8",
                catch=False, rotation=_ROTATION, retention=_RETENTION,
                filter=lambda record: not record["extra"].get("passing"),
                opener=lambda path, flags: os.open(path, flags, 0o600),
            )  # fmt: skip

    def __call__(self, recorded: Recorded) -> None:
        event, self._run = recorded.body, recorded.run
        if isinstance(event, RunStarted):
            self._width = min(24, max(10, *(len(agent) for agent in event.agents), 0))
        line = say(event)
        agent, attempt = getattr(event, "agent", ""), getattr(event, "attempt", None)
        text = f"{line.word: <9}  {line.text}" if line.text else line.word
        logger.bind(
            run=recorded.run,
            place=f"{agent}/{attempt}" if attempt else agent or "-",
            time=timestamp(recorded.at),
            clock=time.strftime("%H:%M:%S", time.localtime(recorded.at)),
            mark=self._mark(line.mark),
            who=f"{agent: <{self._width}}" if agent else "seqsup".ljust(self._width),
            hang=len(text) - len(line.text),
            table=line.table,
            json=self._object(recorded, line, agent, attempt, text) if self._as_json else "",
        ).log(line.level, printable(text))

    def _object(self, recorded: Recorded, line: Line, agent: str, attempt: int | None, text: str) -> str:
        level = INFO if line.level == SUCCESS else line.level  # which --log-level does not know
        event = str(type(recorded.body).__struct_config__.tag)
        return _as_object(recorded.at, level, recorded.run, agent, attempt, event, " ".join(text.split()))

    def pulse(self, agent: str, attempt: int | None, text: str) -> None:
        """Say on the terminal alone that an agent still runs."""
        logger.bind(
            clock=time.strftime("%H:%M:%S"), mark=self._mark("▶"), who=f"{agent: <{self._width}}",
            hang=11, table=False, passing=True, run="", place=agent, time="", json=self._pulse(agent, attempt, text),
        ).info(printable(f"{'running': <9}  {text}"))  # fmt: skip

    def _mark(self, symbol: str) -> str:
        """Where words stand for symbols, they are of one width."""
        told = mark(symbol, self._encoding)
        return told if mark("▶", self._encoding) == "▶" else told.ljust(len("FAIL"))

    def _pulse(self, agent: str, attempt: int | None, text: str) -> str:
        return spoken(text, "running", run=self._run, agent=agent, attempt=attempt) if self._as_json else ""

    def _to_terminal(self, message: "Message") -> None:
        assert self._outlet is not None
        self._outlet.write(self._wrapped(message).encode(self._encoding, errors="replace"))

    def _wrapped(self, message: "Message") -> str:
        """Broken at words where the terminal would break within them, what follows below the line's own text."""
        width = 0
        if self._terminal is not None:
            with suppress(OSError):  # it went away
                width = os.get_terminal_size(self._terminal.fileno()).columns
        if not width:
            return message
        said, extra = message.record["message"], message.record["extra"]
        begins = columns(f"{extra['clock']} {extra['mark']} {extra['who']}  ")
        hangs = begins + extra["hang"]
        indent = hangs if width - hangs >= _ROOM else columns(f"{extra['clock']} {extra['mark']} ")
        lines = wrap(" " * begins + said, width, " " * indent)
        return f"{message[: -len(said) - 1]}{lines[0][begins:]}\n" + "".join(f"{line}\n" for line in lines[1:])

    def close(self) -> None:
        logger.remove()
        if self._outlet:
            self._outlet.close()


def spoken(message: str, event: str, *, run: str = "", agent: str = "", attempt: int | None = None) -> str:
    """What no event of the run says, as an object like theirs."""
    return _as_object(time.time(), INFO, run, agent, attempt, event, message)


def _as_object(at: float, level: str, run: str, agent: str, attempt: int | None, event: str, message: str) -> str:
    told = {
        "time": timestamp(at), "level": level.lower(), "run": run or None, "agent": agent or None, "attempt": attempt,
        "event": event, "message": message,
    }  # fmt: skip
    return msgspec.json.encode(told).decode()


@singledispatch
def say(event: Event) -> Line:
    """Put an event into words. Whoever stops, kills, waits or retries says why, with its numbers."""
    raise TypeError(f"no words for {event!r}")


@say.register
def _(event: RunStarted) -> Line:
    agents = f"{counted(len(event.agents), 'agent')}, {at_a_time(event.concurrency)}"
    text = f"{event.name}: {agents}, in {event.containment}"
    if event.waited >= _SLOW:
        text += f"; waited {format_duration(event.waited)} for the machine's turn"
    if those := narrowed(event.only, event.start_from):
        text += f"; {those}"
    if event.resumed:
        before = len(set(event.agents) & set(event.completed_before))  # who is not taken now may have, too
        text += f"; {before or 'none'} of them completed before"
    if event.again:
        text += f"; again: {named(f'{agent} ({why})' for agent, why in event.again.items())}"
    if event.gone:
        text += f"; no longer in the profile: {named(event.gone)}"
    return Line(INFO, "▶", "resumed" if event.resumed else "started", text)


@say.register
def _(event: HaltRequested) -> Line:
    return Line(WARNING, "■", "stop", f"asked by {event.by}: {HALTS[event.halt]}")


@say.register
def _(event: AttemptStarted) -> Line:
    limits = [f"{name} {format_size(size)}" for name, size in (("hard", event.hard), ("heap", event.heap)) if size]
    how = [event.runtime, *limits, " ".join(event.options), f"log {event.folder}", " ".join(event.command)[:_COMMAND]]
    return Line(DEBUG, "▶", "starts", "  ".join(filter(None, how)))


@say.register
def _(event: Spawned) -> Line:
    again = f"  attempt {event.attempt}" if event.attempt > 1 else ""
    return Line(INFO, "▶", "started", f"pid {event.pid}{again}")


@say.register
def _(event: MemoryWarned) -> Line:
    return Line(WARNING, "!", "memory", f"{format_size(event.used)} is over warn = {format_size(event.warn)}")


@say.register
def _(event: OutputCut) -> Line:
    text = f"{event.stream} is {format_size(event.size)}, over output.max = {format_size(event.most)}: its middle goes"
    return Line(WARNING, "!", "output", text)


@say.register
def _(event: BriefWritten) -> Line:
    stands = f"for it stands {event.stands}" if event.stands else "it has left no summary yet"
    return Line(INFO, "✔", "brief", f"{event.folder}/artifacts/brief.md; {stands}")


@say.register
def _(event: PeakRose) -> Line:
    factor = f"{event.peak / event.usual:.1f} × " if event.usual else ""
    usual = f"{format_size(event.usual)} of {event.attempts} attempts"
    text = f"peak {format_size(event.peak)} is {factor}its median {usual}"
    return Line(WARNING, "!", "more", text)


@say.register
def _(event: RunPaused) -> Line:
    return Line(WARNING, "■", "paused", event.why)


@say.register
def _(event: RunContinued) -> Line:
    return Line(INFO, "▶", "goes on", f"after {format_duration(event.seconds)}")


@say.register
def _(event: MemoryHigh) -> Line:
    return Line(WARNING, "!", "memory", f"{format_size(event.used)} is over soft = {format_size(event.soft)}")


@say.register
def _(event: GcRequested) -> Line:
    asked = counted(event.processes, "Node process", "Node processes")
    text = f"{format_size(event.used)} is over soft = {format_size(event.soft)}: a collection is asked of {asked}"
    return Line(INFO, "↻", "memory", text)


@say.register
def _(event: GcDone) -> Line:
    return Line(INFO, "↻", "collected", _collected(event))


def _collected(event: GcDone | CompanionGcDone) -> str:
    before, after = event.before, event.after
    text = (
        f"freed {format_size(event.freed)} in {format_duration(event.seconds)}, the tree has {format_size(event.used)}:"
        f" heap {format_size(before.used)} → {format_size(after.used)},"
        f" external {format_size(before.external)} → {format_size(after.external)}; {event.verdict}"
    )
    if event.answered < event.asked:
        text += f"; {event.asked - event.answered} of {event.asked} Node processes did not answer"
    return text


@say.register
def _(event: StopSent) -> Line:
    held = processes(event.processes)
    text = f"{event.signal}: {event.why}"
    if event.reason is None:
        return Line(INFO, "↻", "leftovers", text + (f": {held}" if held else ""))
    text += f"; {held}" if held else ""
    return Line(WARNING, "☠", event.reason, text)


@say.register
def _(event: AttemptEnded) -> Line:
    parts = [ending(event.exit_code, event.signal), format_duration(event.seconds)]
    if event.peak:
        parts.append(f"peak {format_size(event.peak)}" + (f" of {format_size(event.hard)}" if event.hard else ""))
    if event.left_over:
        parts.append(f"left behind {processes(event.left_over)}")
    text = "  ".join(part for part in parts if part)
    if event.reason is Reason.COMPLETED:
        return Line(SUCCESS, "✔", event.reason, text)
    told = event.reason in STOPPED_BY_US or (event.reason is Reason.KERNEL_OOM and event.processes)
    if not told and event.why != parts[0]:  # else StopSent, or its exit code, has said why
        text += f"  {event.why}"
    return Line(WARNING, "☠" if event.reason in KILLED else "✖", event.reason, text)


@say.register
def _(event: AdmissionDelayed) -> Line:
    return Line(WARNING, "…", "waits", f"for memory: {event.why}")


@say.register
def _(event: RetryScheduled) -> Line:
    grown = f", with a heap of {format_size(event.heap)}" if event.heap and event.after is Reason.HEAP_OOM else ""
    grown += ", without seqsup's Node options" if event.bare else ""
    text = f"attempt {event.attempt} in {format_duration(event.wait)}, after {event.after}{grown}"
    return Line(INFO, "↻", "retry", text)


@say.register
def _(event: LimitPaused) -> Line:
    return Line(WARNING, "…", "paused", event.why)


@say.register
def _(event: AgentEnded) -> Line:
    if event.reason is Reason.COMPLETED:
        return Line(DEBUG, "✔", "done", f"after {counted(event.attempts, 'attempt')}")
    if event.ok:
        return Line(SUCCESS, "✔", event.reason, "as the profile expects")
    if event.reason is Reason.HALTED:
        return Line(WARNING, "■", event.reason, event.why)
    return Line(ERROR, "✖", "gave up", f"{event.reason} after {counted(event.attempts, 'attempt')}")


@say.register
def _(event: AgentSkipped) -> Line:
    return Line(INFO, "–", "skipped", event.why)


@say.register
def _(event: Drained) -> Line:
    text = (
        f"the host had {format_size(event.before)}, has {format_size(event.after)}: freed"
        f" {format_size(event.freed)}; the run holds {format_size(event.owned)}"
    )
    if event.strays:
        text += f"; found apart from its tree: {processes(event.strays)}"
    if event.reached:
        seconds = format_duration(event.seconds)
        level = INFO if event.strays or event.seconds >= _SLOW else DEBUG
        return Line(level, "✔", "drained", f"in {seconds}: {text}")
    then = f"; {event.on_timeout} follows" if event.on_timeout else ""
    return Line(ERROR, "!", "undrained", f"after {format_duration(event.seconds)}: {event.why} ({text}){then}")


@say.register
def _(event: AgentDue) -> Line:
    return Line(DEBUG, "▶", "its turn")


@say.register
def _(event: CompanionStarted) -> Line:
    return Line(DEBUG, "▶", "companion", f"{event.companion}: pid {event.pid}  {' '.join(event.command)[:_COMMAND]}")


@say.register
def _(event: CompanionReady) -> Line:
    return Line(INFO, "✔", "companion", f"{event.companion} is ready after {format_duration(event.seconds)}")


@say.register
def _(event: CompanionExited) -> Line:
    text = f"{event.companion}, {format_duration(event.seconds)} after its start: {event.why}"
    text += f"; its output is in {event.folder}"
    return Line(WARNING, "✖", "companion", text + (f": {event.output}" if event.output else ""))


@say.register
def _(event: CompanionStopped) -> Line:
    held = f": {processes(event.processes)}" if event.processes else ""
    text = f"{event.companion} stopped in {format_duration(event.seconds)} ({event.reason}){held}"
    return Line(DEBUG, "■", "companion", text)


@say.register
def _(event: CompanionGcRequested) -> Line:
    asked = counted(event.processes, "Node process", "Node processes")
    over = f"{format_size(event.used)} is over hard = {format_size(event.hard)}"
    return Line(INFO, "↻", "companion", f"{event.companion}: {over}: a collection is asked of {asked}")


@say.register
def _(event: CompanionGcDone) -> Line:
    return Line(INFO, "↻", "companion", f"{event.companion}: {_collected(event)}")


@say.register
def _(event: CompanionRestarted) -> Line:
    return Line(INFO, "↻", "companion", f"{event.companion} restarted ({event.reason}): {event.why}")


@say.register
def _(event: ChainEnded) -> Line:
    over = f"{event.chain} is over after {counted(event.agents, 'agent')}"
    had, holds = format_size(event.baseline), f"the run holds {format_size(event.owned)}"
    if event.reached:
        has = format_size(event.available)
        return Line(INFO, "✔", "chain", f"{over}: the host has {has} available, before the first it had {had}; {holds}")
    text = f"{over}, but memory is not back: {event.why}; before the first the host had {had}; {holds}"
    return Line(ERROR, "!", "chain", text)


@say.register
def _(event: SupervisorRenewed) -> Line:
    text = f"the supervisor held {format_size(event.before)} and began anew with {format_size(event.after)}"
    return Line(INFO, "↻", "renewed", text)


@say.register
def _(event: HookEnded) -> Line:
    text = f"{event.point}: {event.command}  {format_duration(event.seconds)}"
    if event.left_over:
        text += f"; left behind {processes(event.left_over)}"
    if event.ok:
        return Line(DEBUG, "✔", "hook", text)
    said = f"; its output is in {event.folder}: {event.output}" if event.output else ""
    return Line(WARNING, "✖", "hook", f"{text}  {event.why}{said}")


@say.register
def _(event: Unkillable) -> Line:
    who = event.why or ", ".join(f"pid {each.pid}" for each in event.processes)
    text = f"still there {format_duration(event.seconds)} after SIGKILL: {who}"
    return Line(ERROR, "!", "unkillable", text)


@say.register
def _(event: AttemptLost) -> Line:
    stopped = f"; stopped {processes(event.stopped)}" if event.stopped else "; nothing of it was left"
    return Line(ERROR, "✖", "lost", f"its supervisor died{stopped}")


@say.register
def _(event: Warned) -> Line:
    return Line(WARNING, "!", event.message)


@say.register
def _(event: RunsRemoved) -> Line:
    text = f"{', '.join(event.runs)}: older than run.keep {format_age(event.keep)}; {format_size(event.bytes)} freed"
    return Line(INFO, "–", "removed", text)


@say.register
def _(event: RunEnded) -> Line:
    text = (
        f"exit {event.exit_code}  {format_duration(event.seconds)}  {event.completed} completed,"
        f" {event.gave_up} gave up, {event.skipped} skipped, {event.not_run} not run"
    )
    if event.sequence_violations:
        pairs = counted(event.sequence_violations, "pair")
        text += f"; {pairs} of attempts ran at the same time: a fault of seqsup"
        return Line(ERROR, "✖", "ended", text)
    text += f"  {event.why}" if event.why else ""
    return Line(ERROR if event.exit_code else SUCCESS, "■", "ended", text, table=True)
