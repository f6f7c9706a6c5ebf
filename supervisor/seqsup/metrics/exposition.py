"""Rows as prometheus-client wants them. Imported only when somebody reads: the library takes 0.1 s and 3 MiB."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, make_wsgi_app, push_to_gateway
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from .catalogue import BUCKETS, BY_NAME, METRICS, PROCESS, full_name
from .catalogue import Metric as Entry
from .figures import Histogram
from .rows import Row

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_ORDER = {name: n for n, name in enumerate(BY_NAME)}


class Collector:
    """Groups the rows of one moment by metric."""

    def __init__(self, profile: str, rows: Callable[[], Iterable[Row]]) -> None:
        self._profile, self._rows = profile, rows

    def collect(self) -> Iterator[Family]:
        by_name: dict[str, list[tuple[tuple[str, ...], float | Histogram]]] = {}
        for name, labels, value in self._rows():
            by_name.setdefault(name, []).append((labels, value))
        for metric in METRICS:
            if metric.name in by_name:
                yield _family(metric, {"profile": self._profile}, by_name[metric.name])


def application(collector: Collector) -> "WSGIApplication":
    """What answers a scrape; with the supervisor's own process_*."""
    registry = _registry(collector)
    ProcessCollector(registry=registry)
    return make_wsgi_app(registry)


def text(collector: Collector) -> bytes:
    """The text format. Without process_*: a node_exporter beside it has its own."""
    return generate_latest(_registry(collector))


def push(collector: Collector, gateway: str, profile: str, timeout: float) -> None:
    """Replace what a Pushgateway has of this profile; OSError when it cannot be reached within `timeout` seconds."""
    push_to_gateway(gateway, "seqsup", _registry(collector), grouping_key={"profile": profile}, timeout=timeout)


def _registry(collector: Collector) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(collector)
    return made


def _family(
    entry: Entry, of: Mapping[str, str], rows: Iterable[tuple[tuple[str, ...], float | Histogram]]
) -> Family:  # fmt: skip
    """`of` are the labels that all of them have."""
    name = full_name(entry)
    family = Family(name.removesuffix("_total") if entry.kind == "counter" else name, entry.help, entry.kind)
    for values, value in rows:
        _add(family, name, {**of, **dict(zip(entry.labels, values, strict=True))}, value)
    return family


def _add(family: Family, name: str, labels: dict[str, str], value: float | Histogram, at: float | None = None) -> None:
    if not isinstance(value, Histogram):
        family.add_sample(name, labels, float(value), timestamp=at)
        return
    total = 0
    for edge, count in zip((*BUCKETS, float("inf")), value.counts, strict=True):
        total += count
        family.add_sample(f"{name}_bucket", {**labels, "le": _edge(edge)}, total, timestamp=at)
    family.add_sample(f"{name}_count", labels, total, timestamp=at)
    family.add_sample(f"{name}_sum", labels, value.sum, timestamp=at)


def _edge(edge: float) -> str:
    return "+Inf" if edge == float("inf") else str(edge)


def timed(
    profile: str, target: Mapping[str, str],
    series: Mapping[tuple[str, tuple[str, ...]], Iterable[tuple[float, float | Histogram]]],
) -> list[Family]:  # fmt: skip
    """Families whose samples have times, in seconds since the epoch, and the labels that a scrape of `target` adds."""
    made: dict[str, Family] = {}
    for (name, values), told in sorted(series.items(), key=lambda one: _ORDER[one[0][0]]):
        entry = BY_NAME[name]
        labels = {**target, **dict(zip(entry.labels, values, strict=True))}
        if entry not in PROCESS:
            labels["profile"] = profile
        family = made.setdefault(name, _family(entry, {}, ()))
        for at, value in told:
            _add(family, full_name(entry), labels, value, at)
    for family in made.values():
        family.samples.sort(key=lambda sample: (sample.name, sorted(sample.labels.items())))  # stable: by time
    return list(made.values())


def openmetrics(families: Iterable[Family]) -> bytes:
    """The text of OpenMetrics 1.0."""
    registry = CollectorRegistry()
    registry.register(_Given(list(families)))
    told: bytes = openmetrics_text(registry)  # type: ignore[no-untyped-call]
    return told


class _Given(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        yield from self._families
