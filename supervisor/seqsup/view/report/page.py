"""The report as one HTML page that needs nothing else: no script, no address, readable on paper and aloud. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from html import escape
from itertools import repeat
from pathlib import Path
from typing import TypeVar

from seqsup.model.process_names import title
from seqsup.model.run_view import AgentState, AttemptView, RunState, RunView, Stop
from seqsup.text import printable
from seqsup.units import format_duration, format_share, format_size
from seqsup.view.report.chart import SYMBOLS, host, in_turn, timeline
from seqsup.view.report.story import MarkKind, Story
from seqsup.view.summary import COLUMNS, headline, reasons, row
from seqsup.view.table import NONE

MOST = 120  # rows of a table
FIRST = 8  # reasons that stand above all else
FULL = 30_000  # characters for what was stopped: then only how each ended
_WORDS = {
    MarkKind.KILL: "stopped",
    MarkKind.COLLECTION: "collection",
    MarkKind.RETRY: "tried again",
    MarkKind.DRAIN: "leftovers stopped",
    MarkKind.TROUBLE: "trouble",
    MarkKind.HALT: "stop asked",
    MarkKind.RESTART: "companion restarted",
}
_COMMAND = 160  # characters
_Column = tuple[str, bool]  # heading, and whether it is a number

T = TypeVar("T")

_STYLE = Path(__file__).with_name("style.css")


def page(story: Story, *, forensics: Mapping[str, str], zone: tzinfo, state: str | None = None) -> str:
    """The whole page. `forensics` are the texts of files that attempts left; `state` is the run's, where its events
    cannot tell it."""
    view = story.view
    said = state or str(view.state)
    body = [
        "<header>", f"<h1>{_text(view.name)} <span class=soft>{_text(view.run)}</span></h1>",
        f"<p class=lead>{_lead(view)}</p>", *_why(story), *_facts(story, said, zone), "</header>",
        "<main>", *_memory(story, zone), *_agents(story), *_companions(story), *_kills(story, forensics, zone),
        *_attempts(story, zone), *_happened(story, zone), "</main>",
    ]  # fmt: skip
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_text(view.name)} {_text(view.run)}: {said}</title>",
        f"<style>\n{_STYLE.read_text()}</style>", "</head>", "<body>", *body, "</body>", "</html>", "",
    ])  # fmt: skip


def _text(text: str) -> str:
    return escape(printable(text))


def _clock(at: float | None, zone: tzinfo) -> str:
    return "" if at is None else datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


def _lead(view: RunView) -> str:
    parts = _text(headline(view).partition("  ")[2]).split(" · ")
    return " · ".join(f"<strong>{part}</strong>" if part.endswith(("gave up", "lost")) else part for part in parts)


def _why(story: Story) -> Iterator[str]:
    """What did not complete, each with a link to what is known of it."""
    said = _reasons(story.view)
    if not said:
        return
    last = {kill.agent: kill for kill in story.kills}
    yield '<ul class="why">'
    for line in said[:FIRST]:
        what, _, why = line.removeprefix("why ").partition(": ")
        kill = last.get(what.partition(" ")[0])
        link = f' <a href="#{_anchor(kill)}">who held what</a>' if kill is not None else ""
        yield f"<li><strong>✖ {_text(what)}</strong>: {_text(why)}{link}</li>"
    yield "</ul>"
    if len(said) > FIRST:
        yield f'<p class="more">{len(said) - FIRST} more below the table of agents.</p>'


def _reasons(view: RunView) -> list[str]:
    """Each on one line."""
    said: list[str] = []
    for line in reasons(view, 10_000):
        if line.startswith(" "):
            said[-1] += line[1:]
        else:
            said.append(line)
    return said


def _anchor(attempt: AttemptView) -> str:
    return escape(f"{attempt.agent}-{attempt.number}")


def _facts(story: Story, state: str, zone: tzinfo) -> Iterator[str]:
    view = story.view
    facts = {
        "state": state + (f", exit {view.exit_code}" if view.exit_code is not None else "")
        + (f": {view.why}" if view.why else ""),
        "began": _clock(view.started, zone),
        "ended": _clock(view.ended, zone),
        "resumed": f"{view.resumes} ×" if view.resumes else "",
        "profile": view.profile or "",
        "contained by": view.containment,
        "seqsup": view.version,
    }  # fmt: skip
    yield "<dl>"
    yield from (f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items() if value)
    yield "</dl>"


def _memory(story: Story, zone: tzinfo) -> Iterator[str]:
    yield "<section><h2>Memory</h2>"
    if not story.attempts:
        yield "<p>Nothing ran.</p></section>"
        return
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Memory of the agents over time">'
    yield f"{timeline(story, zone)}</div>"
    marked = {mark.kind for mark in story.marks}
    yield '<ul class="legend">'
    yield "<li>— — red: memory.hard</li><li>· · · orange: memory.soft</li>"
    if any(attempt.drained is not None for attempt in story.attempts):
        yield "<li>▬ on the axis: until memory was back</li>"
    yield from (f"<li>{SYMBOLS[kind]} {_WORDS[kind]}</li>" for kind in MarkKind if kind in marked)
    yield "</ul>"
    told = [(name, {getattr(attempt, name) for attempt in story.attempts} - {None}) for name in ("soft", "hard")]
    limits = "; ".join(f"{name} {', '.join(map(format_size, sorted(sizes)))}" for name, sizes in told if sizes)
    yield f'<p class="more">Limits: {limits or "none"}; those far above all that was used are not drawn.'
    yield "Of each column of pixels the lowest and the highest sample are shown.</p>"
    if picture := host(story):
        yield "<h3>Available on the machine</h3>"
        yield f'<div class="scroll" tabindex="0" role="region" aria-label="Available on the machine">{picture}</div>'
    yield "</section>"


def _agents(story: Story) -> Iterator[str]:
    view = story.view
    over = view.state not in (RunState.STARTING, RunState.RUNNING)
    columns = [(column.title, column.right) for column in COLUMNS]
    yield "<section><h2>Agents</h2>"
    kept = _kept(view.agents.values(), lambda agent: agent.state is AgentState.COMPLETED)
    bad = [agent.state in (AgentState.GAVE_UP, AgentState.LOST) for agent in kept]
    yield from _table(columns, (row(agent, over) for agent in kept), "In the order of the plan.", bad)
    yield from _rest(len(view.agents), "agents")
    yield from (f"<p>{_text(line)}</p>" for line in _reasons(view)[FIRST:MOST])
    yield "</section>"


def _kept(some: Iterable[T], dull: Callable[[T], bool]) -> list[T]:
    """As many as a table may have, in their order: what is dull is left out first."""
    listed = list(some)
    chosen = sorted(range(len(listed)), key=lambda n: dull(listed[n]))[:MOST]
    return [listed[n] for n in sorted(chosen)]


def _companions(story: Story) -> Iterator[str]:
    if not story.companions:
        return
    columns = [
        ("companion", False), ("starts", True), ("ended itself", True), ("peak", True), ("ready in", True),
        ("restarts", False), ("the last time", False),
    ]  # fmt: skip
    rows = [
        (
            each.name, str(each.starts), str(each.exits or NONE), format_size(each.peak) if each.peak else NONE,
            NONE if each.ready is None else format_duration(each.ready),
            ", ".join(f"{number} × {reason}" for reason, number in each.restarts.items()) or NONE, each.why or NONE,
        )
        for each in story.companions
    ]  # fmt: skip
    yield "<section><h2>Companions</h2>"
    yield from _table(columns, rows, "What lived beside the agents.")
    yield "</section>"


def _kills(story: Story, forensics: Mapping[str, str], zone: tzinfo) -> Iterator[str]:
    if not story.kills:
        return
    yield "<section><h2>What was stopped</h2>"
    told, room = 0, FULL
    for attempt in story.kills:
        lines = list(_kill(attempt, forensics.get(attempt.forensics, ""), zone))
        if told and (room := room - sum(map(len, lines))) < 0:
            break
        told += 1
        yield from lines
    if rest := story.kills[told:]:
        yield f"<details><summary>{len(rest)} more, in short: `seqsup logs` has what is known of each</summary><ul>"
        for attempt in rest[:MOST]:
            which = f"{attempt.agent}, attempt {attempt.number}: {attempt.reason or 'running'}, {attempt.why}"
            yield f'<li id="{_anchor(attempt)}">{_text(_shortened(which))}</li>'
        yield "</ul></details>"
        yield from _rest(len(rest), "that were stopped")
    yield "</section>"


def _kill(attempt: AttemptView, known: str, zone: tzinfo) -> Iterator[str]:
    yield f'<article id="{_anchor(attempt)}">'
    yield f"<h3>{_text(attempt.agent)}, attempt {attempt.number}: {attempt.reason or 'running'}</h3>"
    yield f"<p>{_text(attempt.why)}</p>"
    yield f"<p><code>{_text(_shortened(' '.join(attempt.command)))}</code></p>"
    yield from (f"<p>{line}</p>" for line in _grown(attempt))
    stops = [stop for stop in attempt.stops if stop.reason is not None]
    for n, stop in enumerate(stops):
        again = f", {format_duration(stop.at - stops[0].at)} later" if n else ""
        why = "" if stop.why in attempt.why else f": {_text(stop.why)}"
        yield f"<p>{stop.signal} at {_clock(stop.at, zone)}{again}{why}</p>"
    if held := next((stop for stop in stops if stop.processes), None):
        yield from _processes(held, f"{attempt.agent}, attempt {attempt.number}")
    if known:
        yield "<details open><summary>What is known of its memory</summary>"
        yield f"<pre>{escape(_lines(known))}</pre></details>"
    yield "</article>"


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
            f"V8 held {format_size(heap.used)} of {format_size(heap.limit)} on its heap, and"
            f" {format_size(heap.external)} outside it."
        )


def _processes(stop: Stop, of: str) -> Iterator[str]:
    columns = [("pid", True), ("memory", True), ("process", False), ("what for", False), ("command", False)]
    rows = [
        (str(each.pid), format_size(each.bytes), title(each), str(each.kind), _shortened(each.command))
        for each in stop.processes
    ]
    yield from _table(columns, rows, f"Who was in the tree of {of}, the largest first.")


def _drained(attempt: AttemptView) -> str:
    if attempt.draining is None:
        return NONE
    return ("" if attempt.drain_reached else "> ") + format_duration(attempt.draining)


def _attempts(story: Story, zone: tzinfo) -> Iterator[str]:
    columns = [
        ("began", False), ("agent", False), ("attempt", True), ("reason", False), ("time", True), ("peak", True),
        ("of limit", True), ("drained", True),
    ]  # fmt: skip
    kept = _kept(story.attempts, lambda attempt: attempt.ok)
    rows = [
        (
            _clock(attempt.started, zone), attempt.agent, str(attempt.number), str(attempt.reason or "running"),
            format_duration(attempt.took), format_size(attempt.peak) if attempt.peak else NONE,
            format_share(attempt.peak / attempt.hard) if attempt.hard and attempt.peak else NONE,
            _drained(attempt),
        )
        for attempt in kept
    ]  # fmt: skip
    bad = [attempt.over and not attempt.ok for attempt in kept]
    yield "<section><h2>Attempts</h2>"
    yield from _table(columns, rows, f"{in_turn(story).capitalize()}.", bad)
    yield from _rest(len(story.attempts), "attempts")
    yield "</section>"


def _happened(story: Story, zone: tzinfo) -> Iterator[str]:
    if not story.marks:
        return
    columns = [("at", False), ("what", False), ("of", False), ("how", False)]
    rows = [
        (_clock(mark.at, zone), f"{SYMBOLS[mark.kind]} {_WORDS[mark.kind]}", mark.agent, mark.text)
        for mark in story.marks[:MOST]
    ]
    yield "<section><h2>What happened</h2>"
    yield from _table(columns, rows, "The marks of the picture, in words.")
    yield from _rest(len(story.marks), "marks")
    yield "</section>"


def _rest(number: int, what: str) -> Iterator[str]:
    if number > MOST:
        yield f'<p class="more">{number - MOST} more {what}: `seqsup report --json` has them all.</p>'


def _table(
    columns: list[_Column], rows: Iterable[tuple[str, ...]], caption: str, bad: Sequence[bool] = ()
) -> Iterator[str]:  # fmt: skip
    """`bad` are the rows, in their order, that went wrong."""
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    yield f'<table class="{" ".join(f"r{n}" for n, (_, right) in enumerate(columns, 1) if right)}">'
    yield f"<caption>{escape(caption)}</caption><thead><tr>"
    yield "".join(f'<th scope="col">{escape(name)}</th>' for name, _ in columns)
    yield "</tr></thead><tbody>"
    for cells, went_wrong in zip(rows, bad or repeat(False), strict=False):
        of = ' class="bad"' if went_wrong else ""
        yield f"<tr{of}>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></div>"


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _shortened(command: str) -> str:
    return command if len(command) <= _COMMAND else command[: _COMMAND - 1] + "…"
