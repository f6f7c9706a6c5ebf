"""The report as one HTML page that needs nothing else: no script, no address, readable on paper and aloud. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from html import escape
from pathlib import Path

from ..history import RunState
from ..summary import COLUMNS, headline, reasons, row
from ..table import NONE
from ..units import format_duration, format_size
from ..wording import printable, title
from .picture import SYMBOLS, host, timeline
from .story import Attempt, Kind, Stop, Story

MOST = 400  # marks told in words
_WORDS = {
    Kind.KILL: "stopped", Kind.COLLECTION: "collection", Kind.RETRY: "tried again", Kind.DRAIN: "leftovers stopped",
    Kind.TROUBLE: "trouble", Kind.HALT: "stop asked",
}  # fmt: skip
_COMMAND = 160  # characters
_TABLE = tuple[str, bool]  # heading, and whether it is a number

_STYLE = Path(__file__).with_name("style.css")


def page(story: Story, *, forensics: Mapping[str, str], zone: tzinfo, state: str | None = None) -> str:
    """The whole page. `forensics` are the texts of files that attempts left; `state` is the run's, where its events
    cannot tell it."""
    view = story.view
    said = state or str(view.state)
    body = [
        "<header>", f"<h1>{_text(view.name)} <span class=soft>{_text(view.run)}</span></h1>",
        f"<p class=lead>{_text(headline(view).partition('  ')[2])}</p>", *_facts(story, said, zone), "</header>",
        "<main>", *_memory(story, zone), *_agents(story), *_kills(story, forensics, zone), *_attempts(story, zone),
        *_happened(story, zone), "</main>",
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
    yield timeline(story, zone)
    marked = {mark.kind for mark in story.marks}
    yield '<ul class="legend">'
    yield "<li>– – red: memory.hard, orange: memory.soft</li>"
    yield from (f"<li>{SYMBOLS[kind]} {_WORDS[kind]}</li>" for kind in Kind if kind in marked)
    yield "</ul>"
    far = {attempt.hard for attempt in story.attempts if attempt.hard}
    limits = ", ".join(f"hard {format_size(size)}" for size in sorted(far)) or "none"
    yield f'<p class="more">Limits: {limits}; those far above all that was used are not drawn. Of each column of pixels'
    yield "the lowest and the highest sample are shown.</p>"
    if picture := host(story):
        yield f"<h3>Available on the machine</h3>{picture}"
    yield "</section>"


def _agents(story: Story) -> Iterator[str]:
    view = story.view
    over = view.state not in (RunState.STARTING, RunState.RUNNING)
    columns = [(column.title, column.right) for column in COLUMNS]
    yield "<section><h2>Agents</h2>"
    yield from _table(columns, (row(agent, over) for agent in view.agents.values()), "In the order of the plan.")
    said = list(reasons(view, 10_000))
    yield from (f"<p>{_text(line)}</p>" for line in said)
    yield "</section>"


def _kills(story: Story, forensics: Mapping[str, str], zone: tzinfo) -> Iterator[str]:
    if not story.kills:
        return
    yield "<section><h2>What was stopped</h2>"
    for attempt in story.kills:
        yield from _kill(attempt, forensics.get(attempt.forensics, ""), zone)
    yield "</section>"


def _kill(attempt: Attempt, known: str, zone: tzinfo) -> Iterator[str]:
    yield f"<article><h3>{_text(attempt.agent)}, attempt {attempt.number}: {attempt.reason or 'running'}</h3>"
    yield f"<p>{_text(attempt.why)}</p>"
    yield f"<p><code>{_text(_shortened(' '.join(attempt.command)))}</code></p>"
    yield from (f"<p>{line}</p>" for line in _grown(attempt))
    stops = [stop for stop in attempt.stops if stop.reason is not None]
    for n, stop in enumerate(stops):
        again = f", {format_duration(stop.at - stops[0].at)} later" if n else ""
        yield f"<p>{stop.signal} at {_clock(stop.at, zone)}{again}: {_text(stop.why)}</p>"
    if held := next((stop for stop in stops if stop.processes), None):
        yield from _processes(held, f"{attempt.agent}, attempt {attempt.number}")
    if known:
        yield "<details open><summary>What is known of its memory</summary>"
        yield f"<pre>{escape(_lines(known))}</pre></details>"
    yield "</article>"


def _grown(attempt: Attempt) -> Iterator[str]:
    """How it came to that, in the last half minute."""
    if len(attempt.samples) < 2:
        return
    last = attempt.samples[-1]
    first = next(sample for sample in attempt.samples if sample.at >= last.at - 30)
    seconds = last.at - first.at
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


def _attempts(story: Story, zone: tzinfo) -> Iterator[str]:
    columns = [
        ("began", False), ("agent", False), ("attempt", True), ("reason", False), ("time", True), ("peak", True),
        ("of limit", True), ("drained", True),
    ]  # fmt: skip
    rows = [
        (
            _clock(attempt.started, zone), attempt.agent, str(attempt.number), str(attempt.reason or "running"),
            format_duration(attempt.ended - attempt.started), format_size(attempt.peak) if attempt.peak else NONE,
            f"{attempt.peak / attempt.hard:.0%}".replace("%", " %") if attempt.hard and attempt.peak else NONE,
            NONE if attempt.drained is None else format_duration(attempt.drained - attempt.ended),
        )
        for attempt in story.attempts[:MOST]
    ]  # fmt: skip
    yield "<section><h2>Attempts</h2>"
    yield from _table(columns, rows, "One after another.")
    yield from _rest(len(story.attempts))
    yield "</section>"


def _happened(story: Story, zone: tzinfo) -> Iterator[str]:
    if not story.marks:
        return
    columns = [("at", False), ("what", False), ("agent", False), ("", False)]
    rows = [
        (_clock(mark.at, zone), f"{SYMBOLS[mark.kind]} {_WORDS[mark.kind]}", mark.agent, mark.text)
        for mark in story.marks[:MOST]
    ]
    columns[3] = ("how", False)
    yield "<section><h2>What happened</h2>"
    yield from _table(columns, rows, "The marks of the picture, in words.")
    yield from _rest(len(story.marks))
    yield "</section>"


def _rest(number: int) -> Iterator[str]:
    if number > MOST:
        yield f'<p class="more">{number - MOST} more: `seqsup events` has them all.</p>'


def _table(columns: list[_TABLE], rows: Iterable[tuple[str, ...]], caption: str) -> Iterator[str]:
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
    yield f"<caption>{escape(caption)}</caption><thead><tr>"
    yield "".join(f'<th scope="col"{_number(right)}>{escape(name)}</th>' for name, right in columns)
    yield "</tr></thead><tbody>"
    for cells in rows:
        told = (f"<td{_number(right)}>{_text(cell)}</td>" for cell, (_, right) in zip(cells, columns, strict=True))
        yield f"<tr>{''.join(told)}</tr>"
    yield "</tbody></table></div>"


def _number(right: bool) -> str:
    return ' class="n"' if right else ""


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _shortened(command: str) -> str:
    return command if len(command) <= _COMMAND else command[: _COMMAND - 1] + "…"
