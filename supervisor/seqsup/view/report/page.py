"""The report as one HTML page that needs nothing else: no script, no address, readable on paper and aloud.

Here is what it shows; page.html.j2 says how.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seqsup.model.process_names import title
from seqsup.model.run_view import AgentState, AttemptView, RunState, RunView, Stop
from seqsup.policy.passed_on import seen
from seqsup.text import at_a_time, cut, printable
from seqsup.units import format_count, format_duration, format_size, format_usd
from seqsup.view.report.chart import SYMBOLS, host, in_turn, timeline
from seqsup.view.report.story import MarkKind, Story
from seqsup.view.summary import advice, branches, drained, figures, headline, reasons, row, share, shown
from seqsup.view.table import NONE, Column

MOST = 120  # rows of a table
FIRST = 8  # reasons that stand above all else
FULL = 15_000  # characters for what was stopped: then only how each ended
_WORDS = {
    MarkKind.KILL: "stopped",
    MarkKind.COLLECTION: "GC",
    MarkKind.RETRY: "retried",
    MarkKind.DRAIN: "leftover processes stopped",
    MarkKind.TROUBLE: "trouble",
    MarkKind.HALT: "stop requested",
    MarkKind.RESTART: "companion restarted",
}
_COMMAND = 160  # characters
_RESULT = 600  # characters
_text = partial(Column, right=False)
_COMPANIONS = (
    _text("companion"), Column("starts"), Column("exited by itself"), Column("peak"), Column("ready in"),
    _text("restarts"), _text("the last time"),
)  # fmt: skip
_PROCESSES = (Column("pid"), Column("memory"), *map(_text, ("process", "what for", "command")))
_ATTEMPTS = (
    _text("started"), _text("agent"), Column("attempt"), _text("reason"), Column("time"), Column("of limit"),
    Column("drained"), Column("host before"), Column("companions"), Column("peak"), Column("end"), Column("gave back"),
    Column("host after"),
)  # fmt: skip
_CONVERSATIONS = (
    _text("agent"), _text("model"), Column("turns"), Column("tokens"), Column("cost"), _text("result"),
)  # fmt: skip
_MARKS = tuple(map(_text, ("at", "what", "of", "how")))

T = TypeVar("T")


class _Table(NamedTuple):
    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, ...]]
    bad: frozenset[int] = frozenset()  # places of the rows that went wrong
    left_out: str = ""  # how many rows, and of what

    @property
    def numbers(self) -> str:
        """The classes that align columns of numbers."""
        return " ".join(f"r{n}" for n, column in enumerate(self.columns, 1) if column.right)


class _Stopped(NamedTuple):
    """What is known of an attempt that was stopped."""

    anchor: str
    title: str
    why: str
    command: str
    lines: list[str]
    processes: _Table | None
    known: list[str]

    def length(self) -> int:
        """Its characters, about."""
        cells = [cell for row in self.processes.rows for cell in row] if self.processes is not None else []
        return sum(map(len, [self.why, self.command, *self.lines, *self.known, *cells]))


def page(story: Story, *, forensics: Mapping[str, str], zone: tzinfo, state: str | None = None) -> str:
    """The whole page. `forensics` are the texts of files that attempts left; `state` is the run's, where its events
    cannot tell it."""
    view, said = story.view, state or str(story.view.state)
    stopped = list(_full(_stopped(attempt, forensics.get(attempt.forensics, ""), zone) for attempt in story.kills))
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, finalize=_shown, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return templates.get_template("page.html.j2").render(
        view=view, state=said, lead=headline(view).partition("  ")[2].split(" · "), first=FIRST, most=MOST,
        reasons=list(_reasons(story)), facts=_facts(story, said, zone),
        memory=_memory(story, zone) if story.attempts else None,
        agents=_agents(view), branches=list(branches(view)), conversations=_conversations(story),
        companions=_companions(story), stopped=stopped,
        in_short=[(_anchor(attempt), _in_short(attempt)) for attempt in story.kills[len(stopped) :]],
        attempts=_attempts(story, zone), marks=_marks(story, zone),
    )  # fmt: skip


def _shown(value: object) -> object:
    return printable(value) if type(value) is str else value


def _clock(at: float | None, zone: tzinfo) -> str:
    return "" if at is None else datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


def _reasons(story: Story) -> Iterator[tuple[str, str, str]]:
    """What did not complete, why, and where what is known of it stands."""
    last = {attempt.agent: attempt for attempt in story.kills}
    for what, why, held in reasons(story.view):
        name = what.partition(" ")[0]
        attempt, agent = last.get(name), story.view.agents.get(name)
        then = advice(agent) if agent is not None else ""
        yield what, "; ".join(filter(None, (why, held, then))), _anchor(attempt) if attempt is not None else ""


def _anchor(attempt: AttemptView) -> str:
    return f"{attempt.agent}-{attempt.number}"


def _facts(story: Story, state: str, zone: tzinfo) -> list[tuple[str, str]]:
    view = story.view
    facts = {
        "state": state + (f", exit {seen(view)}" if view.exit_code is not None else "")
        + (f": {view.why}" if view.why else ""),
        "started": _clock(view.started, zone),
        "ended": _clock(view.ended, zone),
        "resumed": f"{view.resumes} ×" if view.resumes else "",
        "profile": view.profile or "",
        "agents": at_a_time(story.concurrency) if story.concurrency > 1 else "",
        "contained by": view.containment,
        "seqsup": view.version,
    }  # fmt: skip
    return [(name, value) for name, value in facts.items() if value]


def _memory(story: Story, zone: tzinfo) -> dict[str, object]:
    marked = {mark.kind for mark in story.marks}
    given = [(name, {getattr(attempt, name) for attempt in story.attempts} - {None}) for name in ("soft", "hard")]
    return {
        "timeline": Markup(timeline(story, zone)),
        "host": Markup(host(story)),
        "drained": any(attempt.drained is not None for attempt in story.attempts),
        "marks": [f"{SYMBOLS[kind]} {_WORDS[kind]}" for kind in MarkKind if kind in marked],
        "limits": "; ".join(f"{name} {', '.join(map(format_size, sorted(sizes)))}" for name, sizes in given if sizes),
    }


def _agents(view: RunView) -> _Table:
    columns = shown(list(view.agents.values()))
    over = view.state not in (RunState.STARTING, RunState.RUNNING)
    kept = _kept(view.agents.values(), lambda agent: agent.state is AgentState.COMPLETED)
    bad = frozenset(n for n, agent in enumerate(kept) if agent.state in (AgentState.GAVE_UP, AgentState.LOST))
    left_out = _left_out(len(view.agents), "agents")
    return _Table("In the plan's order.", columns, [row(columns, agent, over) for agent in kept], bad, left_out)


def _conversations(story: Story) -> _Table:
    """What the CLIs reported of each agent: the result is that of its last attempt."""
    last = {attempt.agent: attempt.conversation for attempt in story.attempts if attempt.conversation is not None}
    told = [(agent, last[name]) for name, agent in story.view.agents.items() if name in last and last[name].begun]
    rows = [
        (
            agent.label, agent.model or NONE, str(agent.turns or NONE),
            format_count(agent.tokens.total) if agent.tokens.total else NONE,
            NONE if agent.usd is None else format_usd(agent.usd, partial=agent.usd_is_partial),
            cut(heard.result.text, _RESULT) if heard.result is not None and heard.result.text else NONE,
        )
        for agent, heard in _kept(told, lambda each: each[0].state is AgentState.COMPLETED)
    ]  # fmt: skip
    return _Table(
        "All attempts together, as their CLIs reported them.", _CONVERSATIONS, rows,
        left_out=_left_out(len(told), "conversations"),
    )  # fmt: skip


def _kept(some: Iterable[T], dull: Callable[[T], bool]) -> list[T]:
    """As many as a table may have, in their order: what is dull is left out first."""
    listed = list(some)
    chosen = sorted(range(len(listed)), key=lambda n: dull(listed[n]))[:MOST]
    return [listed[n] for n in sorted(chosen)]


def _companions(story: Story) -> _Table:
    rows = [
        (
            each.name, str(each.starts), str(each.exits or NONE), format_size(each.peak) if each.peak else NONE,
            NONE if each.ready is None else format_duration(each.ready),
            ", ".join(f"{number} × {reason}" for reason, number in each.restarts.items()) or NONE, each.why or NONE,
        )
        for each in story.companions
    ]  # fmt: skip
    return _Table("Processes that ran beside the agents.", _COMPANIONS, rows)


def _full(stopped: Iterable[_Stopped]) -> Iterator[_Stopped]:
    """As many as there is room for, and at least one."""
    room = FULL
    for n, each in enumerate(stopped):
        if n and (room := room - each.length()) < 0:
            return
        yield each


def _in_short(attempt: AttemptView) -> str:
    return _shortened(f"{attempt.label}, attempt {attempt.number}: {attempt.reason or 'running'}, {attempt.why}")


def _stopped(attempt: AttemptView, known: str, zone: tzinfo) -> _Stopped:
    which = f"{attempt.label}, attempt {attempt.number}"
    stops = [stop for stop in attempt.stops if stop.reason is not None]
    held = next((stop for stop in stops if stop.processes), None)
    return _Stopped(
        anchor=_anchor(attempt), title=f"{which}: {attempt.reason or 'running'}", why=attempt.why,
        command=_shortened(" ".join(attempt.command)), lines=[*_grown(attempt), *_signals(stops, attempt.why, zone)],
        processes=_processes(held, which) if held is not None else None, known=known.splitlines(),
    )  # fmt: skip


def _signals(stops: list[Stop], why: str, zone: tzinfo) -> Iterator[str]:
    for n, stop in enumerate(stops):
        later = f", {format_duration(stop.at - stops[0].at)} later" if n else ""
        yield f"{stop.signal} at {_clock(stop.at, zone)}{later}" + ("" if stop.why in why else f": {stop.why}")


def _grown(attempt: AttemptView) -> Iterator[str]:
    """How it came to that, in the last half minute."""
    if len(attempt.samples) < 2:
        return
    last = attempt.samples[-1]
    end = last.at if attempt.stopped is None else attempt.stopped  # after it the tree only shrinks
    first = next((sample for sample in attempt.samples if sample.at >= end - 30), last)
    seconds = end - first.at
    if seconds > 0:
        rate = (attempt.peak - first.used) / seconds
        yield (
            f"From {format_size(first.used)} to {format_size(attempt.peak)} in its last {format_duration(seconds)}:"
            f" {format_size(int(rate))}/s."
        )
    if (heap := last.heap) is not None:
        yield (
            f"V8 used {format_size(heap.used)} of {format_size(heap.limit)} on its heap, and"
            f" {format_size(heap.external)} outside it."
        )


def _processes(stop: Stop, of: str) -> _Table:
    rows = [
        (str(each.pid), format_size(each.bytes), title(each), str(each.kind), _shortened(each.command))
        for each in stop.processes
    ]
    return _Table(f"Processes of {of}, the largest first.", _PROCESSES, rows)


def _attempts(story: Story, zone: tzinfo) -> _Table:
    kept = _kept(story.attempts, lambda attempt: attempt.ok)
    rows = [
        (
            _clock(attempt.started, zone), attempt.label, f"{attempt.number}{' (resumed)' * attempt.resumed}",
            str(attempt.reason or "running"),
            format_duration(attempt.took), share(attempt.peak, attempt.hard),
            drained(attempt.draining, attempt.drain_reached), *figures(attempt, attempt.peak),
        )
        for attempt in kept
    ]  # fmt: skip
    bad = frozenset(n for n, attempt in enumerate(kept) if attempt.over and not attempt.ok)
    left_out = _left_out(len(story.attempts), "attempts")
    return _Table(f"{in_turn(story).capitalize()}.", _ATTEMPTS, rows, bad, left_out)


def _marks(story: Story, zone: tzinfo) -> _Table:
    rows = [
        (_clock(mark.at, zone), f"{SYMBOLS[mark.kind]} {_WORDS[mark.kind]}", mark.agent, mark.text)
        for mark in story.marks[:MOST]
    ]
    return _Table("The marks in the chart.", _MARKS, rows, left_out=_left_out(len(story.marks), "marks"))


def _left_out(number: int, what: str) -> str:
    return f"{number - MOST} more {what}" if number > MOST else ""


def _shortened(command: str) -> str:
    return command if len(command) <= _COMMAND else command[: _COMMAND - 1] + "…"
