"""A run's figures over time, as OpenMetrics with timestamps: for `promtool tsdb create-blocks-from openmetrics`.

They have the labels that a scrape would have given them, so that the dashboard shows them as it shows a scraped run.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from seqsup.metrics import figures
from seqsup.metrics.catalogue import BY_NAME
from seqsup.metrics.exposition import openmetrics
from seqsup.metrics.figures import Figures, Histogram
from seqsup.metrics.host_figures import HostFigures
from seqsup.metrics.rows import Row, rows
from seqsup.model.events import MemorySampled, Recorded, RunStarted
from seqsup.model.history import History
from seqsup.model.process import Observation, ProcessMemory, Sample
from seqsup.state.samples import steady

EVERY = 60.0  # seconds: an unchanged value is written this often, or Prometheus forgets it
STEP = 5.0  # seconds: around a counter's step it is written this often, or rate() over a short time would see one value
AROUND = 4 * STEP
JOB = "seqsup"  # as in grafana/prometheus
LISTEN = "127.0.0.1:9472"  # of a run that was not served

_Key = tuple[str, tuple[str, ...]]


class _Line(Struct):
    """One series so far."""

    told: list[tuple[float, float | Histogram]]
    changed: float


def text(events: Iterable[Recorded], samples: Iterable[MemorySampled]) -> bytes:
    """All figures of a run, each when it changed and once a minute."""
    recorded, samples = steady(events, samples)
    kept: dict[_Key, _Line] = {}
    versions, listen, profile = ("", ""), LISTEN, ""
    for each in recorded:
        if isinstance(each.body, RunStarted):
            versions, listen = (each.body.version, each.body.python), each.body.listen or LISTEN
    before: Figures | None = None
    whole = 0.0  # when all of them were gone through
    for at, now, seen in _moments(recorded, samples):
        profile = now.profile
        if at - whole >= STEP:
            before, whole = None, at
        for row in (*rows(now, HostFigures(totals=_machine(seen)), versions, before), *_supervisor(seen)):
            _keep(kept, row, at)
        before = now
    return openmetrics(profile, {"job": JOB, "instance": listen}, {key: each.told for key, each in kept.items()})


def _machine(seen: MemorySampled | None) -> dict[str, float]:
    if seen is None:
        return {}
    around = seen.around
    told: dict[str, float | None] = {"host_memory_available_bytes": seen.host_available}
    if around is not None:
        told["host_memory_total_bytes"] = around.host_total
        told["host_pressure_memory_waiting_seconds_total"] = around.waiting
        told["host_pressure_memory_stalled_seconds_total"] = around.stalled
    return {name: value for name, value in told.items() if value is not None}


def _supervisor(seen: MemorySampled | None) -> Iterator[Row]:
    if seen is not None and (around := seen.around) is not None:
        yield "process_resident_memory_bytes", (), around.own
        yield "process_cpu_seconds_total", (), around.cpu


def _keep(kept: dict[_Key, _Line], row: Row, at: float) -> None:
    name, labels, value = row
    if (line := kept.get((name, labels))) is None:
        kept[name, labels] = _Line([(at, value)], at)
        return
    told, is_count = line.told, BY_NAME[name].kind != "gauge"
    last, before = told[-1]
    if value != before:
        if is_count and at - last < 3 * EVERY:  # longer than that no supervisor lived
            told += [(at - n * STEP, before) for n in range(4, 0, -1) if at - n * STEP > last]
        line.changed = at
    elif at - last < (STEP if is_count and at - line.changed <= AROUND else EVERY):
        return
    if told[-1][0] >= at:
        told.pop()
    told.append((at, value))


def _moments(
    events: Iterable[Recorded], samples: Iterable[MemorySampled]
) -> Iterator[tuple[float, Figures, MemorySampled | None]]:
    """The figures after each event and sample, and at least once in STEP seconds while a supervisor lived."""
    news: list[tuple[float, int, Recorded | MemorySampled]] = [(each.at, 0, each) for each in events]
    news += [(each.at, 1, each) for each in samples]
    history, now = History(), None
    last, seen = 0.0, None
    for at, _, each in sorted(news, key=lambda one: one[:2]):
        if isinstance(each, MemorySampled):
            seen, now = each, now and _observe(now, each)
        else:
            if isinstance(each.body, RunStarted):
                now = now or Figures(profile=each.body.name)
            elif now is not None and at - last < EVERY * 60:
                while at - last > STEP:
                    last += STEP
                    yield last, now, seen
            history.apply(each)
            now = now and figures.apply(now, each, history.view)
        if now is not None:
            yield at, now, seen
            last = at


def _observe(now: Figures, sample: MemorySampled) -> Figures:
    for companion, used in sample.companions.items():
        now = figures.weigh(now, companion, used)
    return figures.observe(now, _observation(sample), sample.at)


def _observation(sample: MemorySampled) -> Observation:
    parts = tuple(
        ProcessMemory(pid=n, name=name, command="", bytes=size)
        for n, (name, size) in enumerate(sample.programs.items(), 1)
    )
    seen = Sample(
        at=sample.at, used=sample.used, processes=sample.processes, host_available=sample.host_available
    )  # fmt: skip
    return Observation(
        agent=sample.agent,
        attempt=sample.attempt,
        sample=seen,
        took=0.0,
        processes=parts,
        heap=sample.heap,
        conversation=sample.conversation,
    )
