"""The live view: what a run does now, as lines for a terminal. Pure: a scene, a time and a canvas in, lines out."""

from collections import deque
from collections.abc import Mapping

from msgspec import Struct, field

from seqsup.model.conversation import Conversation
from seqsup.model.enums import HALTS, Halt
from seqsup.model.process import Heap
from seqsup.model.run_view import AgentState, AgentView, HookView, Now, RunView, remaining
from seqsup.text import columns, printable
from seqsup.units import format_duration, format_share, format_size
from seqsup.view.canvas import Canvas, Part
from seqsup.view.last_line import LastLines, Said
from seqsup.view.progress import progress

_POINTS = 240  # of a curve; when it is full, each two become one
_KEPT = 64  # pulses: one may be 10 KiB
_WINDOW = 10  # seconds of growth
_SLIGHT = 64 * 1024  # bytes/s: less is no growth
_FAR = 3600.0  # seconds to a limit: farther says nothing
_NEAR = 0.25  # of a limit: below it, the time until it is a guess
_SHORTEST = 12  # columns that stay of a line of output
_LANES = 8  # agents that have a line each, beside the one that is shown whole


class Pulse:
    """Summary of an attempt's samples. Its size is bounded, however long the attempt."""

    def __init__(self) -> None:
        self.used = self.peak = self.processes = 0
        self.host_available: int | None = None
        self.programs: dict[str, int] = {}
        self.heap: Heap | None = None
        self.conversation: Conversation | None = None
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
    said: dict[str, Said] = field(default_factory=dict)  # by agent: the last line of those that run
    beside: dict[str, int] = field(default_factory=dict)  # bytes, by companion, where they are known
    host: int = 0  # bytes of the machine
    places: tuple[str, ...] = ()  # where else to look: the metrics' address, the run's folder
    keys: dict[Halt, str] = field(default_factory=dict)  # what the keyboard does, by the wish to stop so far

    def begin(self, agent: str) -> None:
        """Start a new attempt of this agent. Few finished agents are kept: the view shows none of them."""
        if len(self.pulses) >= _KEPT:
            turn = {each.name for each in self.view.at_turn}
            self.pulses = {name: pulse for name, pulse in self.pulses.items() if name in turn}
        self.pulses[agent] = Pulse()

    def listen(self, lines: LastLines) -> None:
        """Take in what the agents that run have printed last."""
        running = [agent for agent in self.view.at_turn if agent.state is AgentState.RUNNING and agent.folder]
        self.said = {agent.name: said for agent in running if (said := lines.of(agent.folder or "")) is not None}

    @property
    def agent(self) -> AgentView | None:
        """Return the agent to show: in lanes rather one that runs than one that waits for a retry."""
        return min(self.view.at_turn, key=lambda each: each.state is AgentState.BACKOFF, default=None)

    @property
    def pulse(self) -> Pulse:
        """That of the agent that is shown."""
        agent = self.agent
        return self.pulses.get(agent.name, _NONE) if agent is not None else _NONE


def frame(scene: Scene, now: Now, canvas: Canvas) -> list[list[Part]]:
    """The lines of the view."""
    view, agent, awaited = scene.view, scene.agent, scene.view.awaited
    lines = [canvas.rule(), _headline(view, now.mono, canvas)]
    if view.paused:
        symbol = canvas.mark("■")
        lines.append(canvas.fit([("yellow", f"{symbol} paused  ")], [("", printable(view.paused))]))
    elif not awaited:
        lines.append(canvas.fit([("bold", canvas.mark("–")), ("", f" {view.between}")]))
    if agent is not None:
        lines.append(_turn(agent, scene, now, canvas))
        if agent.state is AgentState.RUNNING and scene.pulse.host_available is not None:
            lines += _memory(agent, scene, canvas)
        if agent.state is AgentState.RUNNING and (told := _told(scene.pulse, now, canvas)):
            lines.append(canvas.fit([("dim", " work ")], [("", part) for part in told]))
        if (said := scene.said.get(agent.name)) is not None and agent.state is AgentState.RUNNING:
            lines.append(_said(said, now, canvas))
    others = [each for each in view.at_turn if each is not agent and each.state is not AgentState.DRAINING]
    lines += [_lane(each, scene, now, canvas) for each in others[:_LANES]]
    if more := [each.label for each in others[_LANES:]]:
        lines.append(canvas.listed([("dim", " also ")], more))
    if not view.paused:
        waiting = [each for each in awaited if each.delayed and each is not agent]
        lines += [_delayed(each, "…", canvas) for each in waiting]
    lines += [_hook(each, now.mono, canvas) for each in view.hooks.values()]
    lines += _around(scene, canvas)
    return lines


# -- the lines


def _headline(view: RunView, now: float, canvas: Canvas) -> list[Part]:
    done = view.count(AgentState.COMPLETED)
    parts: list[Part] = [("", f"{done} of {len(view.agents)} done")]
    parts += [("yellow", f"{view.concurrency} at a time, at your own risk")] if view.concurrency > 1 else []
    parts += [("red", f"{gave_up} failed")] if (gave_up := view.count(AgentState.GAVE_UP)) else []
    parts += [("", f"{skipped} skipped")] if (skipped := view.count(AgentState.SKIPPED)) else []
    parts += [("yellow", f"stops {HALTS[view.halt]}")] if view.halt > Halt.NONE else []
    parts += [("", format_duration(max(0.0, now - view.began)))] if view.began is not None else []
    seconds, unknown = remaining(view, now)
    if seconds and not unknown:
        parts.append(("dim", f"about {format_duration(seconds)} left"))
    return canvas.fit([("bold", view.name), ("", "  ")], parts)


def _turn(agent: AgentView, scene: Scene, now: Now, canvas: Canvas) -> list[Part]:
    tries = scene.tries.get(agent.name)
    again = f"  attempt {agent.attempt}" + (f" of {tries}" if tries else "") if (agent.attempt or 1) > 1 else ""
    symbol = {AgentState.BACKOFF: "↻", AgentState.DRAINING: "…"}.get(agent.state, "▶")
    if agent.delayed:
        return _delayed(agent, symbol, canvas)
    head: list[Part] = [("bold", f"{canvas.mark(symbol)} {agent.label}"), ("", f"{again}  ")]
    if agent.state is AgentState.BACKOFF:
        wait = format_duration(agent.waits(now))
        return canvas.fit(head, [("", f"retry in {wait}"), ("yellow", f"after {agent.reason}")])
    if agent.state is AgentState.DRAINING:
        return canvas.fit(head, [("", f"{agent.reason}"), ("", "memory drains")])
    parts: list[Part] = [("", format_duration(max(0.0, now.mono - agent.began)))] if agent.began is not None else []
    attempt = next((each for each in reversed(scene.view.attempts) if each.agent == agent.name), None)
    if attempt is not None and (reasons := [stop.reason for stop in attempt.stops if stop.reason is not None]):
        parts.insert(0, ("yellow", f"stopping: {reasons[0]}"))
    parts += [("", f"pid {agent.pid}")] if agent.pid else []
    if scene.pulse.processes:
        parts.append(("", "1 process" if scene.pulse.processes == 1 else f"{scene.pulse.processes} processes"))
    return canvas.fit(head, parts)


def _lane(agent: AgentView, scene: Scene, now: Now, canvas: Canvas) -> list[Part]:
    """One line of an agent that runs beside the one that is shown whole."""
    line = _turn(agent, scene, now, canvas)
    if agent.state is not AgentState.RUNNING:
        return line
    head: list[Part] = [("bold", f"{canvas.mark('▶')} {agent.label}"), ("", "  ")]
    parts: list[Part] = [("", format_duration(max(0.0, now.mono - agent.began)))] if agent.began is not None else []
    if (pulse := scene.pulses.get(agent.name)) is not None:
        of = f" of {format_size(agent.hard)} · {format_share(pulse.used / agent.hard)}" if agent.hard else ""
        parts.append((_style(pulse, agent, scene), f"{format_size(pulse.used)}{of.replace('·', canvas.mark('·'))}"))
    if pulse is not None and (told := _told(pulse, now, canvas)):
        parts += [("dim", part) for part in told]
    elif (said := scene.said.get(agent.name)) is not None:
        room = canvas.width - sum(columns(text) + 3 for _, text in [head[0], *parts])
        parts.append(("dim", canvas.cropped(printable(said.text), max(room, 0))))
    return canvas.fit(head, parts)


def _told(pulse: Pulse, now: Now, canvas: Canvas) -> list[str]:
    """Return what its CLI reported. A long command leaves room for the rest."""
    if pulse.conversation is None:
        return []
    return [canvas.cropped(printable(part), canvas.width // 2) for part in progress(pulse.conversation, now.mono)]


def _said(said: Said, now: Now, canvas: Canvas) -> list[Part]:
    ago = said.age(now.at)
    text = canvas.cropped(printable(said.text), max(canvas.width - columns(f" said  · {ago}"), _SHORTEST))
    return canvas.fit([("dim", " said ")], [("", text), ("dim", ago)])


def _delayed(agent: AgentView, symbol: str, canvas: Canvas) -> list[Part]:
    head: list[Part] = [("bold", f"{canvas.mark(symbol)} {agent.label}"), ("", "  ")]
    return canvas.fit(head, [("", f"waits {agent.delayed}")])


def _hook(hook: HookView, now: float, canvas: Canvas) -> list[Part]:
    of = f" of {hook.agent}" if hook.agent else ""
    parts = [
        ("", f"{hook.point}{of}"),
        ("", format_duration(max(0.0, now - hook.began))),
        ("", printable(hook.command)),
    ]
    return canvas.fit([("dim", " hook ")], parts)


def _memory(agent: AgentView, scene: Scene, canvas: Canvas) -> list[list[Part]]:
    pulse = scene.pulse
    hard, soft = agent.hard, agent.soft
    room = max(10, min(24, canvas.width // 3))
    style = _style(pulse, agent, scene)
    told = f"{format_size(pulse.used)} of {format_size(hard)}" if hard else format_size(pulse.used)
    parts: list[Part] = [("bold", told)]
    parts += [("", format_share(pulse.used / hard))] if hard else []
    parts += [("dim", f"peak {format_size(pulse.peak)}")]
    parts += [("dim", f"soft {format_size(soft)}")] if soft else []
    bar = canvas.bar(pulse.used, hard or scene.host, room, style)
    first = canvas.fit([("dim", " mem  "), *bar, ("", "  ")], parts)
    cells = max(10, min(48, canvas.width - 30))
    curve = canvas.curve(pulse.curve(cells), hard or pulse.peak, style)
    second = canvas.fit([("dim", "      "), curve, ("", "  ")], _growth(pulse, soft, hard))
    third: list[Part] = []
    if pulse.heap is not None:
        heap = pulse.heap
        third.append(("", f"used {format_size(heap.used)} of {format_size(heap.limit)}"))
        third.append(("", f"external {format_size(heap.external)}"))
    times = canvas.mark("×")
    held = [
        ("", f"{printable(name).replace('×', times)} {format_size(size)}")
        for name, size in list(pulse.programs.items())[:4]
    ]
    lines = [first, second]
    lines += [canvas.fit([("dim", " heap ")], third)] if third else []
    lines += [canvas.fit([("dim", " held ")], held)] if held else []
    return lines


def _style(pulse: Pulse, agent: AgentView, scene: Scene) -> str:
    soft, warn = agent.soft, scene.warn.get(agent.name)
    return "red" if soft and pulse.used >= soft else "yellow" if warn and pulse.used >= warn else "green"


def _growth(pulse: Pulse, soft: int | None, hard: int | None) -> list[Part]:
    rate = pulse.growth
    if not rate:
        return [("dim", "steady")]
    told: list[Part] = [("", f"{'+' if rate > 0 else '-'}{format_size(round(abs(rate)))}/s")]
    name, limit = ("soft", soft) if soft and pulse.used < soft else ("hard", hard)
    if limit and rate > 0 and pulse.used >= limit * _NEAR and (left := (limit - pulse.used) / rate) < _FAR:
        told.append(("yellow" if left > 60 else "red", f"{name} in {format_duration(max(0.0, left))}"))
    return told


def _around(scene: Scene, canvas: Canvas) -> list[list[Part]]:
    waiting = [agent.label for agent in scene.view.agents.values() if agent.state is AgentState.PENDING]
    lines = []
    if companions := [_companion(each.name, each.state, scene.beside) for each in scene.view.companions.values()]:
        lines.append(canvas.listed([("dim", " with ")], companions))
    if waiting:
        lines.append(canvas.listed([("dim", " next ")], waiting))
    around: list[Part] = []
    available = scene.pulse.host_available
    if available is not None:
        free = format_size(available)
        around.append(("", f"{free} of {format_size(scene.host)} available" if scene.host else f"{free} available"))
    around += [("dim", place) for place in scene.places]
    if around:
        head = " see  " if available is None else " host "
        lines.append(canvas.fit([("dim", head)], around))
    if keys := scene.keys.get(scene.view.halt):
        lines.append(canvas.fit([("", " ")], [("dim", part) for part in keys.split(" · ")]))
    return lines


def _companion(name: str, state: str, beside: Mapping[str, int]) -> str:
    return f"{name} {format_size(beside[name]) if state == 'ready' and name in beside else state}"
