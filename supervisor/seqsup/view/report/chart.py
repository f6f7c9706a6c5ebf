"""The timeline as SVG: the memory of each attempt between its limits, with a mark for whatever happened. Pure.

Of each column of pixels the lowest and the highest sample are drawn, so that no spike is lost however long the run was.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, tzinfo
from html import escape
from itertools import groupby
from math import inf

from seqsup.model.run_view import AttemptView
from seqsup.units import MIB, format_size
from seqsup.view.report.story import Mark, MarkKind, Story

WIDTH, HEIGHT = 1000, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 10, 36, 46
HOST = 70  # height of the picture below, of the machine
_GAP = 14  # pixels between two parts of a run that was resumed
_FAR = 3.0  # a limit this many times above all that was used is not worth the room: it is told in words
_LABEL = 62  # pixels of a time
_NAME, _LINE = 6.8, 12.0  # pixels of a letter, and of a line of them
_SHORTEST = 3  # letters of a name
_SAID = 100  # letters that a mark says
_NARROW, _TOGETHER = 4.0, 12.0  # pixels of an attempt, and of those that are drawn as one
SYMBOLS = {
    MarkKind.KILL: "☠",
    MarkKind.COLLECTION: "♻",
    MarkKind.RETRY: "↻",
    MarkKind.DRAIN: "▾",
    MarkKind.TROUBLE: "!",
    MarkKind.HALT: "■",
    MarkKind.RESTART: "⇄",
}

Scale = Callable[[float], float]


def timeline(story: Story, zone: tzinfo) -> str:
    """Memory over time."""
    x = _across(story)
    top = _top(story)
    floor = HEIGHT - BOTTOM

    def y(size: float) -> float:
        return floor - (floor - TOP) * min(size / top, 1.0)

    return "\n".join([
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t1 d1">',
        '<title id="t1">Memory of the agents over time</title>',
        f'<desc id="d1">{escape(_described(story))}</desc>',
        *_sizes(top, y), *_times(story, x, zone, floor),
        *(line for n, some in enumerate(_groups(story.attempts, x)) for line in _group(some, n, x, y, floor)),
        *_names(story, x, y, floor), *_limits(story, x, y), *_marks(story, x), "</svg>",
    ])  # fmt: skip


def host(story: Story) -> str:
    """Chart the machine's available memory over time; empty without samples."""
    samples = list(story.samples)
    if not samples:
        return ""
    x, top = _across(story), max(sample.host_available for sample in samples) * 1.1 or 1
    lowest = min(sample.host_available for sample in samples)
    columns = _columns([(sample.at, sample.host_available, sample.host_available) for sample in samples], x)
    points = " ".join(f"{px},{HOST - 4 - (HOST - 16) * low / top:.1f}" for px, low, _ in columns)
    return "\n".join([
        f'<svg class="host" viewBox="0 0 {WIDTH} {HOST}" role="img" aria-labelledby="t2 d2">',
        '<title id="t2">Memory available on the machine</title>',
        f'<desc id="d2">{format_size(lowest)} at the least</desc>',
        f'<text class="size" x="{LEFT - 6}" y="14" text-anchor="end">{format_size(int(top / 1.1))}</text>',
        f'<text class="size" x="{LEFT - 6}" y="{HOST - 4}" text-anchor="end">0</text>',
        f'<polyline class="available" points="{points}"/>', "</svg>",
    ])  # fmt: skip


# -- where things stand


def _across(story: Story) -> Scale:
    """Seconds to pixels. Time in which no supervisor lived takes a gap, whatever its length."""
    parts = story.parts
    whole = sum(part.ended - part.began for part in parts) or 1.0
    room = WIDTH - LEFT - RIGHT - _GAP * (len(parts) - 1)

    def place(at: float) -> float:
        left = float(LEFT)
        for part in parts:
            wide = room * (part.ended - part.began) / whole
            if at <= part.ended or part is parts[-1]:
                return left + room * min(max(at - part.began, 0.0), part.ended - part.began) / whole
            left += wide + _GAP
        return left

    return place


def _top(story: Story) -> float:
    used = max((attempt.peak for attempt in story.attempts), default=0) or MIB
    limits = [size for attempt in story.attempts for size in (attempt.soft, attempt.hard) if size]
    near = [size for size in limits if size <= _FAR * used]
    return max([used, *near]) * 1.08


def _sizes(top: float, y: Scale) -> Iterator[str]:
    step = 2.0 ** int(top / 4).bit_length() / 2
    size = 0.0
    while size <= top:
        at = y(size)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="size" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{format_size(int(size))}</text>'
        size += step


def _times(story: Story, x: Scale, zone: tzinfo, floor: int) -> Iterator[str]:
    free, before = 0.0, ""  # where the next label may begin, and what the last one says
    for part in story.parts:
        left, right = x(part.began), x(part.ended)
        clock = "%H:%M:%S" if part.ended - part.began < 600 else "%H:%M"
        number = max(1, min(8, int((right - left) / 110)))
        for n in range(number + 1):
            at = part.began + (part.ended - part.began) * n / number
            anchor = "end" if n == number and right > WIDTH - 60 else "middle" if n else "start"
            said = datetime.fromtimestamp(at, zone).strftime(clock)
            if x(at) < free or said == before:
                continue
            free, before = x(at) + _LABEL, said
            yield f'<text class="time" x="{x(at):.1f}" y="{floor + 30}" text-anchor="{anchor}">{said}</text>'
        yield f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{floor}" y2="{floor}"/>'


# -- what is drawn


def _columns(samples: list[tuple[float, int, int]], x: Scale) -> list[tuple[int, int, int]]:
    """Return the lowest and highest sample of each column of pixels that has any."""
    found: dict[int, tuple[int, int]] = {}
    for at, low, high in samples:
        column = round(x(at))
        before = found.get(column, (low, high))
        found[column] = (min(before[0], low), max(before[1], high))
    return [(column, *found[column]) for column in sorted(found)]


def _groups(attempts: Iterable[AttemptView], x: Scale) -> list[list[AttemptView]]:
    """Attempts that are drawn as one: a few pixels of such as went well, each too narrow to be told from the next."""
    groups: list[list[AttemptView]] = []
    open_to_more = False
    for attempt in attempts:
        narrow = attempt.over and attempt.ok and x(attempt.ended) - x(attempt.started) < _NARROW
        if open_to_more and narrow and x(attempt.ended) - x(groups[-1][0].started) < _TOGETHER:
            groups[-1].append(attempt)
        else:
            groups.append([attempt])
        open_to_more = narrow
    return groups


def _points(attempt: AttemptView) -> list[tuple[float, int, int]]:
    """Time, lowest and highest."""
    # A tree that is gone holds nothing, which is no spike downwards
    points = [(sample.at, sample.used or sample.peak, sample.peak) for sample in attempt.samples]
    if not points:  # over within a second: all that is known is its peak
        return [(attempt.started, attempt.peak, attempt.peak), (attempt.ended, attempt.peak, attempt.peak)]
    stopped = attempt.stopped
    if stopped is not None:  # the line that is written after a stop tells of the peak that led to it
        after = next((n for n, (at, _, _) in enumerate(points) if at > stopped), len(points))
        if after < len(points):
            at, low, high = points[after]
            points[after : after + 1] = [(stopped, high, high), (at, low, low)]
        elif attempt.peak > max(high for _, _, high in points):
            points.append((stopped, attempt.peak, attempt.peak))
    elif attempt.over and attempt.peak > max(high for _, _, high in points):
        points.append((attempt.ended, attempt.peak, attempt.peak))
    return points


def _group(group: list[AttemptView], number: int, x: Scale, y: Scale, floor: int) -> Iterator[str]:
    first = group[0]
    points = [point for attempt in group for point in _points(attempt)]
    if first.over and first.samples:
        points.insert(0, (first.started, 0, 0))
    columns = _columns(points, x)
    yield f'<g class="attempt c{number % 6}{"" if first.ok or not first.over else " bad"}">'
    yield f"<title>{escape(_titled(group))}</title>"
    outline = " ".join(f"{px},{y(high):.0f}" for px, _, high in columns)
    yield f'<polyline class="line" points="{columns[0][0]},{floor} {outline} {columns[-1][0]},{floor}"/>'
    if any(high > low for _, low, high in columns):
        back = " ".join(f"{px},{y(low):.0f}" for px, low, _ in reversed(columns))
        yield f'<polygon class="band" points="{outline} {back}"/>'
    yield "</g>"
    for attempt in group:
        if attempt.drained is not None and x(attempt.drained) - x(attempt.ended) > 1:
            yield (
                f'<rect class="drain" x="{x(attempt.ended):.1f}" y="{floor}" height="4"'
                f' width="{x(attempt.drained) - x(attempt.ended):.1f}"/>'
            )


def _names(story: Story, x: Scale, y: Scale, floor: int) -> Iterator[str]:
    """Below its attempts, where they stand side by side: once. Of several at a time each at its peak."""
    if story.concurrency > 1:
        yield from _names_at_peaks(story.attempts, x, y)
        return
    for agent, some in groupby(story.attempts, key=lambda attempt: attempt.label):
        tried = list(some)
        left, right = x(tried[0].started), x(tried[-1].ended)
        room = int((right - left) / _NAME)
        if room >= _SHORTEST:
            name = agent if len(agent) <= room else agent[: room - 1] + "…"
            yield _name(name, (left + right) / 2, floor + 15)


def _names_at_peaks(attempts: Iterable[AttemptView], x: Scale, y: Scale) -> Iterator[str]:
    taken: list[tuple[float, float, float]] = []
    for attempt in attempts:
        if x(attempt.ended) - x(attempt.started) < _SHORTEST * _NAME:
            continue
        at, _, high = max(_points(attempt), key=lambda point: point[2])
        half = len(attempt.label) * _NAME / 2
        middle = min(max(x(at), LEFT + half), WIDTH - RIGHT - half)
        left, right, height = middle - half, middle + half, y(high) - 5
        while any(left < end and start < right and abs(height - other) < _LINE for start, end, other in taken):
            height -= _LINE
        if height > TOP:  # else the tooltip has it
            taken.append((left, right, height))
            yield _name(attempt.label, middle, height)


def _name(name: str, x: float, y: float) -> str:
    return f'<text class="name" x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>'


def _titled(group: list[AttemptView]) -> str:
    highest = max(group, key=lambda attempt: attempt.peak)
    if len(group) > 1:
        peak = f"peak {format_size(highest.peak)} ({highest.label})"
        return f"{len(group)} attempts, from {group[0].label} to {group[-1].label}: completed, {peak}"
    return f"{highest.label}, attempt {highest.number}: {highest.reason or 'running'}, peak {format_size(highest.peak)}"


def _limits(story: Story, x: Scale, y: Scale) -> Iterator[str]:
    """One line as long as a limit stays the same."""
    for name in ("soft", "hard"):
        lines: list[tuple[float, float, int]] = []
        for attempt in story.attempts:
            size: int | None = getattr(attempt, name)
            if not size or y(size) <= TOP:
                continue
            left, right = x(attempt.started), max(x(attempt.ended), x(attempt.started) + 1.5)
            if lines and lines[-1][2] == size and left - lines[-1][1] < _TOGETHER:
                left = lines.pop()[0]
            lines.append((left, right, size))
        for left, right, size in lines:
            yield f'<line class="{name}" x1="{left:.1f}" x2="{right:.1f}" y1="{y(size):.1f}" y2="{y(size):.1f}"/>'


def _marks(story: Story, x: Scale) -> Iterator[str]:
    last: dict[MarkKind, float] = {}
    before, high = -inf, False
    for mark in story.marks:
        at = x(mark.at)
        if mark.kind in last and at - last[mark.kind] < 5:
            continue  # one upon the other says no more: the list has them all
        last[mark.kind] = at
        before, high = at, not high and at - before < 14  # a neighbour stands above, not upon it
        yield f'<g class="mark {mark.kind}"><title>{escape(_said(mark))}</title>'
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{TOP - (21 if high else 7)}" text-anchor="middle">{SYMBOLS[mark.kind]}</text></g>'


def _said(mark: Mark) -> str:
    said = f"{mark.agent}: {mark.text}" if mark.agent else mark.text
    return said if len(said) <= _SAID else said[: _SAID - 1] + "…"  # the list has all of it


def in_turn(story: Story) -> str:
    return "one after another" if story.concurrency == 1 else f"up to {story.concurrency} at a time"


def _described(story: Story) -> str:
    highest = max(story.attempts, key=lambda attempt: attempt.peak, default=None)
    if highest is None:
        return "Nothing ran."
    number = len(story.attempts)
    return (
        f"{number} {'attempt' if number == 1 else 'attempts'}, {in_turn(story)}; the highest peak is"
        f" {format_size(highest.peak)}, of {highest.label}. The tables below have the same data."
    )
