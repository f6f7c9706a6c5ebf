"""Rows as prometheus-client needs them. Imported at the first scrape: the library takes 0.1 s and 3 MiB."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, make_wsgi_app, push_to_gateway
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.utils import floatToGoString

from seqsup.metrics.catalogue import BUCKETS, BY_NAME, METRICS, OF_QUEUE, PROCESS, full_name
from seqsup.metrics.catalogue import Metric as Entry
from seqsup.metrics.figures import Histogram
from seqsup.metrics.rows import Row

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
_BLOCK = re.compile(rb"(# (?:HELP .*\n# TYPE .*|EOF)\n)((?:[^#].*\n)*)")  # a metric's comments, and its samples
_END = b"# EOF\n"  # of OpenMetrics
_FORMATS = 4  # values of the header Accept, of which the text is kept
_PROCESS = ProcessCollector(registry=None)  # the supervisor's own process_*

Encode = Callable[["Collector | ProcessCollector"], bytes]


class Collector:
    """Groups the rows of one moment by metric."""

    def __init__(self, name: str, rows: Callable[[], Iterable[Row]]) -> None:
        """`name` is that of the profile, or of the queue."""
        self.name, self.rows = name, rows

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for name, labels, value in self.rows():
            if (family := families.get(name)) is None:
                family = families[name] = _family(BY_NAME[name], (BY_NAME[name].of,))
            _add(family, (self.name, *labels), value)
        yield from (families[name] for name in BY_NAME if name in families)


class Page:
    """A scrape's text in one format. Of an agent that is as it was it is kept: 40 of them have 1,900 lines, which the
    library writes in 12 ms, and while trees are killed that is waited for."""

    def __init__(self, collector: Collector, encode: Encode) -> None:
        self._collector, self._encode = collector, encode
        self._kept: dict[str, tuple[int, dict[bytes, bytes]]] = {}  # by agent: of which rows, and their text
        self._heads: dict[bytes, bytes] = {}  # in their order; each to itself, so that all agents' are the same object
        families = [*(_family(each, ()) for each in (*METRICS, *OF_QUEUE)), *_PROCESS.collect()]
        self._heads = {head: head for head in self._blocks(_Given(families))}

    def text(self) -> bytes:
        by_agent: dict[str, list[Row]] = {}
        for row in self._collector.rows():
            by_agent.setdefault(row[1][0] if BY_NAME[row[0]].labels[:1] == ("agent",) else "", []).append(row)
        parts = [self._agent(agent, rows) for agent, rows in by_agent.items()]
        parts.append(self._blocks(_PROCESS))
        told = ((head, b"".join(part.get(head, b"") for part in parts)) for head in self._heads)
        return b"".join(head + samples for head, samples in told if samples or head == _END)

    def _agent(self, name: str, rows: list[Row]) -> dict[bytes, bytes]:
        digest = hash(tuple(rows))
        kept = self._kept.get(name)
        if kept is None or kept[0] != digest:
            kept = self._kept[name] = (digest, self._blocks(Collector(self._collector.name, lambda: rows)))
        return kept[1]

    def _blocks(self, collector: "Collector | ProcessCollector") -> dict[bytes, bytes]:
        found = _BLOCK.findall(self._encode(collector))
        return {self._heads.get(head, head): samples for head, samples in found}


def application(collector: Collector) -> "WSGIApplication":
    """Return the WSGI application for scrapes."""
    registry = CollectorRegistry()
    registry.register(collector)
    registry.register(_PROCESS)
    whole: WSGIApplication = make_wsgi_app(registry)

    @lru_cache(_FORMATS)
    def page(accept: str) -> tuple[Page, str]:
        encode, form = choose_encoder(accept)
        return Page(collector, encode), form

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or environ.get("QUERY_STRING"):
            return whole(environ, start)
        wanted, form = page(environ.get("HTTP_ACCEPT", ""))
        told = wanted.text()
        start("200 OK", [("Content-Type", form)])
        return [told]

    return answer


def text(collector: Collector) -> bytes:
    """The text format. Without process_*: a node_exporter beside it has its own."""
    return generate_latest(collector)


def push(collector: Collector, gateway: str, profile: str, timeout: float) -> None:
    """Replace what a Pushgateway has of this profile; OSError when it cannot be reached within `timeout` seconds."""
    push_to_gateway(gateway, "seqsup", collector, grouping_key={"profile": profile}, timeout=timeout)


def _family(entry: Entry, labels: Iterable[str]) -> Family:
    family: Family = _FAMILIES[entry.kind](full_name(entry), entry.help, labels=(*labels, *entry.labels))
    return family


def _add(family: Any, labels: tuple[str, ...], value: float | Histogram, at: float | None = None) -> None:
    if isinstance(value, Histogram):
        edges = map(floatToGoString, (*BUCKETS, inf))
        buckets = list(zip(edges, accumulate(value.counts), strict=True))
        family.add_metric(labels, buckets, value.sum, timestamp=at)
    else:
        family.add_metric(labels, float(value), timestamp=at)


def openmetrics(
    profile: str, target: Mapping[str, str],
    series: Mapping[tuple[str, tuple[str, ...]], Iterable[tuple[float, float | Histogram]]],
) -> bytes:  # fmt: skip
    """The text of OpenMetrics 1.0, of samples with times in seconds since the epoch, and the labels that a scrape of
    `target` adds."""
    made: dict[str, Family] = {}
    for (name, values), told in series.items():
        entry = BY_NAME[name]
        common = dict(target) if entry in PROCESS else {**target, "profile": profile}
        family = made.setdefault(name, _family(entry, common))
        for at, value in told:
            _add(family, (*common.values(), *values), value, at)
    for family in made.values():
        family.samples.sort(key=lambda sample: (sample.name, sorted(sample.labels.items())))  # stable: by time
    text: bytes = openmetrics_text(_Given(made[name] for name in BY_NAME if name in made))  # type: ignore[no-untyped-call]
    return text


class _Given(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        yield from self._families
