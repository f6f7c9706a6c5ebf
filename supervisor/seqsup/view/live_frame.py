"""The live view: what a run does now, as lines for a terminal. Pure: a scene, a time and a width in, lines out."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from seqsup.model.enums import HALTS, Halt
from seqsup.model.process import Heap
from seqsup.model.run_view import AgentState, AgentView, HookView, Now, RunView, remaining
from seqsup.text import columns, counted, mark, printable
from seqsup.units import format_duration, format_share, format_size

_POINTS = 240  # of a curve; when it is full, each two become one
_KEPT = 64  # pulses: one may be 10 KiB
_WINDOW = 10  # seconds of growth
_SLIGHT = 64 * 1024  # bytes/s: less is no growth
_FAR = 3600.0  # seconds to a limit: farther says nothing

Part = tuple[str, str]  # style, text
_STYLES = {"": "", "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_EIGHTHS, _EIGHTHS_ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"


class Pulse:
    """What the samples of an attempt amount to. Its size is bounded, however long the attempt."""

    def __init__(self) -> None:
        self.used = self.peak = self.processes = 0
        self.host_available: int | None = None
        self.programs: dict[str, int] = {}
        self.heap: Heap | None = None
        self._points: list[int] = []
        self._span, self._ends = 1.0, 0.0  # seconds that a point covers, and when the last one is full
        self._recent: deque[tuple[float, int]] = deque(maxlen=_WINDOW + 1)

    def add(self, at: float, used: int, peak: int, processes: int, host_available: int) -> None:
        """One more sample, `at` seconds of any clock; `peak` since the one before. Called up to a thousand times a
        second."""
        self.used, self.processes, self.host_available = used, processes, host_available
        self.peak = max(self.peak, peak)
        if self._points and at < self._ends:
            self._points[-1] = max(self._points[-1], peak)
        else:
            self._points.append(peak)
            self._ends = at + self._span
            if len(self._points) > _POINTS:
                self._points = [max(self._points[n : n + 2]) for n in range(0, len(self._points), 2)]
                self._span *= 2
        if not self._recent or at - self._recent[-1][0] >= 1:
            self._recent.append((at, used))

    @property
    def growth(self) -> float:
        """Bytes/s over the last ten seconds; 0 where it says little."""
        if len(self._recent) < 3:
            return 0.0
        (began, before), (now, used) = self._recent[0], self._recent[-1]
        rate = (used - before) / (now - began)
        return rate if abs(rate) >= _SLIGHT else 0.0

    def curve(self, cells: int) -> list[int]:
        """The whole attempt in at most this many cells, each with its highest sample."""
        points = self._points
        each = max(1, -(-len(points) // max(cells, 1)))
        return [max(points[n : n + each]) for n in range(0, len(points), each)]


_NONE = Pulse()


class Scene(Struct, kw_only=True):
    """All that is to be seen."""

    view: RunView
    pulses: dict[str, Pulse] = field(default_factory=dict)  # by agent: a profile may let several run at a time
    warn: dict[str, int | None] = field(default_factory=dict)  # bytes, by agent, where it is known
    tries: dict[str, int] = field(default_factory=dict)
    beside: dict[str, int] = field(default_factory=dict)  # bytes, by companion, where they are known
    host: int = 0  # bytes of the machine
    places: tuple[str, ...] = ()  # where else to look: the metrics' address, the run's folder
    keys: dict[Halt, str] = field(default_factory=dict)  # what the keyboard does, by the wish to stop so far

    def begin(self, agent: str) -> None:
        """An attempt of this agent begins. Of those whose turn is over few are kept: nothing is shown of them."""
        if len(self.pulses) >= _KEPT:
            turn = {each.name for each in self.view.at_turn}
            self.pulses = {name: pulse for name, pulse in self.pulses.items() if name in turn}
        self.pulses[agent] = Pulse()

    @property
    def agent(self) -> AgentView | None:
        """Who is shown: in lanes rather one that runs than one that waits for its next try."""
        return min(self.view.at_turn, key=lambda each: each.state is AgentState.BACKOFF, default=None)

    @property
    def pulse(self) -> Pulse:
        """That of the agent that is shown."""
        agent = self.agent
        return self.pulses.get(agent.name, _NONE) if agent is not None else _NONE


def frame(scene: Scene, now: Now, width: int, encoding: str | None = "utf-8") -> list[list[Part]]:
    """The lines of the view, each at most `width` wide."""
    view, agent, awaited = scene.view, scene.agent, scene.view.awaited
    lines = [_rule(width, encoding), _headline(view, now.mono, width, encoding)]
    if view.paused:
        symbol = mark("■", encoding)
        lines.append(_fit([("yellow", f"{symbol} paused  ")], [("", printable(view.paused))], width, encoding))
    elif not awaited:
        lines.append(_fit([("bold", mark("–", encoding)), ("", f" {view.between}")], [], width, encoding))
    if agent is not None:
        lines.append(_turn(agent, scene, now, width, encoding))
        if agent.state is AgentState.RUNNING and scene.pulse.host_available is not None:
            lines += _memory(agent, scene, width, encoding)
    others = [each.name for each in view.at_turn if each is not agent and each.state is not AgentState.DRAINING]
    lines += [_listed([("dim", " also ")], others, width, encoding)] if others else []
    if not view.paused:
        waiting = [each for each in awaited if each.delayed and each is not agent]
        lines += [_delayed(each, "…", width, encoding) for each in waiting]
    lines += [_hook(each, now.mono, width, encoding) for each in view.hooks.values()]
    lines += _around(scene, width, encoding)
    return lines


def paint(line: Iterable[Part], colour: bool) -> str:
    """One line as a terminal takes it."""
    if not colour:
        return "".join(text for _, text in line)
    return "".join(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text for style, text in line)


# -- the lines


def _rule(width: int, encoding: str | None) -> list[Part]:
    return [("dim", mark("─", encoding) * width)]


def _headline(view: RunView, now: float, width: int, encoding: str | None) -> list[Part]:
    done = view.count(AgentState.COMPLETED)
    parts: list[Part] = [("", f"{done} of {len(view.agents)} done")]
    parts += [("yellow", f"{view.concurrency} at a time AT YOUR OWN RISK")] if view.concurrency > 1 else []
    parts += [("red", f"{gave_up} gave up")] if (gave_up := view.count(AgentState.GAVE_UP)) else []
    parts += [("", f"{skipped} skipped")] if (skipped := view.count(AgentState.SKIPPED)) else []
    parts += [("yellow", f"stops {HALTS[view.halt]}")] if view.halt > Halt.NONE else []
    parts += [("", format_duration(max(0.0, now - view.began)))] if view.began is not None else []
    seconds, unknown = remaining(view, now)
    if seconds and not unknown:
        parts.append(("dim", f"about {format_duration(seconds)} left"))
    return _fit([("bold", view.name), ("", "  ")], parts, width, encoding)


def _turn(agent: AgentView, scene: Scene, now: Now, width: int, encoding: str | None) -> list[Part]:
    tries = scene.tries.get(agent.name)
    again = f"  attempt {agent.attempt}" + (f" of {tries}" if tries else "") if (agent.attempt or 1) > 1 else ""
    symbol = {AgentState.BACKOFF: "↻", AgentState.DRAINING: "…"}.get(agent.state, "▶")
    if agent.delayed:
        return _delayed(agent, symbol, width, encoding)
    head: list[Part] = [("bold", f"{mark(symbol, encoding)} {agent.name}"), ("", f"{again}  ")]
    if agent.state is AgentState.BACKOFF:
        wait = format_duration(agent.waits(now))
        return _fit(head, [("", f"next attempt in {wait}"), ("yellow", f"after {agent.reason}")], width, encoding)
    if agent.state is AgentState.DRAINING:
        return _fit(head, [("", f"{agent.reason}"), ("", "its memory drains")], width, encoding)
    parts: list[Part] = [("", format_duration(max(0.0, now.mono - agent.began)))] if agent.began is not None else []
    parts += [("", f"pid {agent.pid}")] if agent.pid else []
    if scene.pulse.processes:
        parts.append(("", "1 process" if scene.pulse.processes == 1 else f"{scene.pulse.processes} processes"))
    return _fit(head, parts, width, encoding)


def _delayed(agent: AgentView, symbol: str, width: int, encoding: str | None) -> list[Part]:
    head: list[Part] = [("bold", f"{mark(symbol, encoding)} {agent.name}"), ("", "  ")]
    return _fit(head, [("", f"waits for memory: {agent.delayed}")], width, encoding)


def _hook(hook: HookView, now: float, width: int, encoding: str | None) -> list[Part]:
    of = f" of {hook.agent}" if hook.agent else ""
    parts = [
        ("", f"{hook.point}{of}"),
        ("", format_duration(max(0.0, now - hook.began))),
        ("", printable(hook.command)),
    ]
    return _fit([("dim", " hook ")], parts, width, encoding)


def _memory(agent: AgentView, scene: Scene, width: int, encoding: str | None) -> list[list[Part]]:
    pulse = scene.pulse
    hard, soft, warn = agent.hard, agent.soft, scene.warn.get(agent.name)
    room = max(10, min(24, width // 3))
    style = "red" if soft and pulse.used >= soft else "yellow" if warn and pulse.used >= warn else "green"
    told = f"{format_size(pulse.used)} of {format_size(hard)}" if hard else format_size(pulse.used)
    parts: list[Part] = [("bold", told)]
    parts += [("", format_share(pulse.used / hard))] if hard else []
    parts += [("dim", f"peak {format_size(pulse.peak)}")]
    parts += [("dim", f"soft {format_size(soft)}")] if soft else []
    first = _fit([("dim", " mem  "), *_bar(pulse.used, hard or scene.host, room, style, encoding), ("", "  ")],
                 parts, width, encoding)  # fmt: skip
    cells = max(10, min(48, width - 30))
    curve = _spark(pulse.curve(cells), hard or pulse.peak, encoding)
    second = _fit([("dim", "      "), (style, curve), ("", "  ")], _growth(pulse, soft, hard), width, encoding)
    third: list[Part] = []
    if pulse.heap is not None:
        heap = pulse.heap
        third.append(("", f"used {format_size(heap.used)} of {format_size(heap.limit)}"))
        third.append(("", f"external {format_size(heap.external)}"))
    times = mark("×", encoding)
    held = [
        ("", f"{printable(name).replace('×', times)} {format_size(size)}")
        for name, size in list(pulse.programs.items())[:4]
    ]
    lines = [first, second]
    lines += [_fit([("dim", " heap ")], third, width, encoding)] if third else []
    lines += [_fit([("dim", " held ")], held, width, encoding)] if held else []
    return lines


def _growth(pulse: Pulse, soft: int | None, hard: int | None) -> list[Part]:
    rate = pulse.growth
    if not rate:
        return [("dim", "steady")]
    told: list[Part] = [("", f"{'+' if rate > 0 else '-'}{format_size(round(abs(rate)))}/s")]
    name, limit = ("soft", soft) if soft and pulse.used < soft else ("hard", hard)
    if limit and rate > 0 and (left := (limit - pulse.used) / rate) < _FAR:
        told.append(("yellow" if left > 60 else "red", f"{name} in {format_duration(max(0.0, left))}"))
    return told


def _around(scene: Scene, width: int, encoding: str | None) -> list[list[Part]]:
    waiting = [agent.name for agent in scene.view.agents.values() if agent.state is AgentState.PENDING]
    lines = []
    if companions := [_companion(each.name, each.state, scene.beside) for each in scene.view.companions.values()]:
        lines.append(_listed([("dim", " with ")], companions, width, encoding))
    if waiting:
        lines.append(_listed([("dim", " next ")], waiting, width, encoding))
    around: list[Part] = []
    available = scene.pulse.host_available
    if available is not None:
        free = format_size(available)
        around.append(("", f"{free} of {format_size(scene.host)} available" if scene.host else f"{free} available"))
    around += [("dim", place) for place in scene.places]
    if around:
        head = " see  " if available is None else " host "
        lines.append(_fit([("dim", head)], around, width, encoding))
    if keys := scene.keys.get(scene.view.halt):
        lines.append(_fit([("", " ")], [("dim", part) for part in keys.split(" · ")], width, encoding))
    return lines


def _companion(name: str, state: str, beside: Mapping[str, int]) -> str:
    return f"{name} {format_size(beside[name]) if state == 'ready' and name in beside else state}"


# -- their pieces


def _bar(used: int, whole: int, room: int, style: str, encoding: str | None) -> list[Part]:
    filled = min(room, round(room * used / whole)) if whole else 0
    full, empty = mark("█", encoding), mark("░", encoding)
    return [(style, full * filled), ("dim", empty * (room - filled))]


def _spark(curve: Sequence[int], whole: int, encoding: str | None) -> str:
    levels = _EIGHTHS if mark("█", encoding) == "█" else _EIGHTHS_ASCII
    return "".join(levels[min(7, 8 * point // whole)] if whole else levels[0] for point in curve)


def _fit(head: list[Part], parts: Iterable[Part], width: int, encoding: str | None) -> list[Part]:
    """The head, and behind it as many parts as there is room for, the first ones first."""
    between = f" {mark('·', encoding)} "
    line, room, first = list(head), width - sum(columns(text) for _, text in head), True
    for style, text in parts:
        need = columns(text) + (0 if first else len(between))
        if need > room:
            if first:
                line.append((style, _cropped(text, room, encoding)))
            break
        line += [(style, text)] if first else [("dim", between), (style, text)]
        room, first = room - need, False
    return _within(line, width, encoding)


def _listed(head: list[Part], names: list[str], width: int, encoding: str | None) -> list[Part]:
    """Names as far as there is room, and how many more there are."""
    room = width - sum(columns(text) for _, text in head)
    for shown in range(min(len(names), max(room, 0) // 3 + 1), 0, -1):  # each takes that at least, with its comma
        rest = f" and {counted(len(names) - shown, 'other')}" if shown < len(names) else ""
        text = ", ".join(names[:shown]) + rest
        if columns(text) <= room or shown == 1:
            return _within([*head, ("", text)], width, encoding)
    return head


def _within(line: list[Part], width: int, encoding: str | None) -> list[Part]:
    fitted, room = [], width
    for style, text in line:
        text = _cropped(text, room, encoding)
        fitted.append((style, text))
        room -= columns(text)
    return fitted


def _cropped(text: str, room: int, encoding: str | None) -> str:
    if columns(text) <= room:
        return text
    more = mark("…", encoding)
    while text and columns(text) + len(more) > room:
        text = text[:-1]
    return (text + more)[: max(room, 0)]
