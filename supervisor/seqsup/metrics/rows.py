"""Figures as rows: metric, label values, value. Every counter has its row from the start: one born at 1 never rose."""

from collections.abc import Iterator, Mapping
from functools import cache

from msgspec import Struct
from msgspec.structs import fields

from seqsup.metrics.catalogue import BY_NAME, STATES, Metric
from seqsup.metrics.figures import Figures, Histogram, LiveAgent
from seqsup.metrics.host_figures import HostFigures
from seqsup.metrics.queue_figures import QueueFigures, WorkerFigures

Row = tuple[str, tuple[str, ...], float | Histogram]  # the labels after profile


def rows(
    now: Figures, host: HostFigures, versions: tuple[str, str], before: Figures | None = None
) -> Iterator[Row]:  # fmt: skip
    """All rows of this moment, but those of agents that are as they were `before`; `versions` are seqsup's and
    Python's."""
    for live in now.live.values():
        yield from _live(live, host)
    for name, agent in now.agents.items():
        if before is None or agent is not before.agents.get(name):
            yield from _fields(agent, name)
    for name, companion in now.companions.items():
        yield from _fields(companion, name)
    yield from _fields(now)
    states = [agent.state for agent in now.agents.values()]
    yield from (("queue_agents", (state,), states.count(state)) for state in STATES)
    yield from ((name, (), value) for name, value in host.totals.items())
    yield "build_info", versions, 1


def worker_rows(
    worker: str, version: str, figures: WorkerFigures, queue: QueueFigures | None
) -> Iterator[Row]:  # fmt: skip
    """Yield the rows of a worker and its queue; None: the queue does not answer."""
    if queue is not None:
        yield from _fields(queue)
    yield from _fields(figures, worker)
    yield "worker_info", (worker, version), 1


def _live(live: LiveAgent, host: HostFigures) -> Iterator[Row]:
    yield from _fields(live, live.agent)
    agent = (live.agent,)
    yield "agent_tree_rss_recent_max_bytes", agent, max((most for _, most in live.recent), default=0)
    if (share := host.shares.get(live.agent)) is not None:
        yield "agent_tree_pss_bytes", agent, share[0]
        yield "agent_tree_swap_bytes", agent, share[1]
    if (heap := live.heap) is not None:
        yield "nodejs_heap_size_used_bytes", agent, heap.used
        yield "nodejs_heap_size_total_bytes", agent, heap.total
        yield "nodejs_heap_size_limit_bytes", agent, heap.limit
        yield "nodejs_external_memory_bytes", agent, heap.external
        yield "nodejs_array_buffers_bytes", agent, heap.array_buffers


def _fields(figures: Struct, *labels: str) -> Iterator[Row]:
    """Yield the fields with a metric's name; of a set of words, the present one is 1."""
    for field, metric in _metrics(type(figures)):
        value = getattr(figures, field)
        if isinstance(value, Mapping):
            yield from ((metric.name, (*labels, each), value.get(each, 0)) for each in metric.values or value)
        elif isinstance(value, str):
            yield from ((metric.name, (*labels, each), each == value) for each in metric.values or (value,) if value)
        elif value is not None:
            yield metric.name, labels, value


@cache
def _metrics(figures: type[Struct]) -> list[tuple[str, Metric]]:
    return [(each.name, BY_NAME[each.encode_name]) for each in fields(figures) if each.encode_name in BY_NAME]
