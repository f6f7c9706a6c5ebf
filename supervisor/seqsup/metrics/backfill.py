"""A run's figures over time, as OpenMetrics with timestamps: for `promtool tsdb create-blocks-from openmetrics`."""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ..events import AttemptStarted, MemorySampled, Recorded, RunStarted
from ..model import Observation, ProcessMemory, Sample
from . import figures
from .catalogue import Phase
from .exposition import openmetrics, timed
from .figures import AgentFigures, CompanionFigures, Figures, Histogram
from .rows import Around, Row, rows

EVERY = 60.0  # seconds: what does not change is told this often, or Prometheus forgets it
_HOST = "host_memory_available_bytes"

_Series = dict[tuple[str, tuple[str, ...]], list[tuple[float, float | Histogram]]]


def text(events: Iterable[Recorded], samples: Iterable[MemorySampled]) -> bytes:
    """All figures of a run, each when it changed and once a minute."""
    kept: _Series = {}
    profile = ""
    for at, now, available in _moments(events, samples):
        profile = now.profile
        around = Around(totals={_HOST: available} if available is not None else {})
        for row in rows(now, around, ("", "")):
            _keep(kept, row, at)
    return openmetrics(timed(profile, kept))


def _keep(kept: _Series, row: Row, at: float) -> None:
    name, labels, value = row
    if name == "build_info":
        return
    told = kept.setdefault((name, labels), [])
    if not told or told[-1][1] != value or at - told[-1][0] >= EVERY:
        if told and told[-1][0] >= at:
            told[-1] = (told[-1][0], value)
        else:
            told.append((at, value))


def _moments(
    events: Iterable[Recorded], samples: Iterable[MemorySampled]
) -> Iterator[tuple[float, Figures, int | None]]:
    """The figures after each event and sample, and at least once in EVERY seconds while a supervisor lived."""
    news: list[tuple[float, int, Recorded | MemorySampled]] = [(each.at, 0, each) for each in events]
    news += [(each.at, 1, each) for each in samples]
    now: Figures | None = None
    last, available = 0.0, None
    for at, _, each in sorted(news, key=lambda one: one[:2]):
        if isinstance(each, MemorySampled):
            available = each.host_available
            now = now and figures.observe(now, _observation(each), at)
        elif isinstance(each.body, RunStarted):
            now = figures.apply(_begin(each.body, now), each)
        elif now is not None:
            if (companion := getattr(each.body, "companion", "")) and companion not in now.companions:
                now = replace(now, companions={**now.companions, companion: CompanionFigures()})
            if at - last < EVERY * 60:
                while at - last > EVERY:
                    last += EVERY
                    yield last, now, available
            if isinstance(each.body, AttemptStarted):
                now = _limited(now, each.body)
            now = figures.apply(now, each)
        if now is not None:
            yield at, now, available
            last = at


def _begin(event: RunStarted, before: Figures | None) -> Figures:
    agents = {name: AgentFigures() for name in (*event.agents, *event.skips)}
    if before is not None:
        agents |= {name: each for name, each in before.agents.items() if name in agents}
        return replace(before, agents=agents, phase=Phase.STARTING, live={})
    return Figures(profile=event.name, agents=agents, baseline=0)


def _limited(now: Figures, event: AttemptStarted) -> Figures:
    agent = replace(now.agents.get(event.agent, AgentFigures()), limit=event.hard, gc_threshold=event.soft)
    return replace(now, agents={**now.agents, event.agent: agent})


def _observation(sample: MemorySampled) -> Observation:
    parts = tuple(
        ProcessMemory(pid=n, name=name, command="", bytes=size)
        for n, (name, size) in enumerate(sample.programs.items(), 1)
    )
    seen = Sample(
        at=sample.at, used=sample.used, processes=sample.processes, host_available=sample.host_available
    )  # fmt: skip
    return Observation(
        agent=sample.agent, attempt=sample.attempt, sample=seen, took=0.0, processes=parts, heap=sample.heap
    )
