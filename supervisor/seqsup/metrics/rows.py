"""Figures as rows: metric, label values, value. Every counter has its row from the start: one born at 1 never rose."""

from collections.abc import Iterator

from seqsup.metrics.catalogue import (
    DRAINS,
    EXITS,
    KILLS,
    RESTARTS,
    RUNS,
    STATES,
    TOLD_AS,
    Collected,
    RunPhase,
    Swept,
)
from seqsup.metrics.figures import AgentFigures, CompanionFigures, Figures, Histogram, LiveAgent
from seqsup.metrics.host_figures import HostFigures

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
            yield from _agent(name, agent)
    for name, companion in now.companions.items():
        yield from _companion(name, companion)
    yield from _run(now)
    yield from ((name, (), value) for name, value in host.totals.items())
    yield "build_info", versions, 1


def _live(live: LiveAgent, host: HostFigures) -> Iterator[Row]:
    agent = (live.agent,)
    yield "agent_tree_rss_bytes", agent, live.used
    yield "agent_tree_rss_recent_max_bytes", agent, max((most for _, most in live.recent), default=0)
    yield "agent_processes", agent, live.processes
    for program, size in live.parts.items():
        yield "agent_process_rss_bytes", (live.agent, program), size
    if (share := host.shares.get(live.agent)) is not None:
        yield "agent_tree_pss_bytes", agent, share[0]
        yield "agent_tree_swap_bytes", agent, share[1]
    if (heap := live.heap) is not None:
        yield "nodejs_heap_size_used_bytes", agent, heap.used
        yield "nodejs_heap_size_total_bytes", agent, heap.total
        yield "nodejs_heap_size_limit_bytes", agent, heap.limit
        yield "nodejs_external_memory_bytes", agent, heap.external
        yield "nodejs_array_buffers_bytes", agent, heap.array_buffers


def _agent(name: str, agent: AgentFigures) -> Iterator[Row]:
    yield "agent_tree_rss_peak_bytes", (name,), agent.peak
    state = TOLD_AS.get(agent.state, agent.state)
    yield from (("agent_status", (name, each), state is each) for each in STATES)
    yield "agent_starts_total", (name,), agent.starts
    yield from (("agent_exits_total", (name, reason), agent.exits.get(reason, 0)) for reason in EXITS)
    yield from (("agent_kills_total", (name, reason), agent.kills.get(reason, 0)) for reason in KILLS)
    yield "agent_kill_escalations_total", (name,), agent.escalations
    yield "agent_retries_total", (name,), agent.retries
    yield "agent_run_seconds_total", (name,), agent.seconds
    yield from (("gc_requests_total", (name, result), agent.collections.get(result, 0)) for result in Collected)
    yield "gc_freed_bytes_total", (name,), agent.freed
    yield from (("leftover_processes_reaped_total", (name, how), agent.swept.get(how, 0)) for how in Swept)
    for metric, value in (
        ("agent_memory_limit_bytes", agent.limit),
        ("agent_memory_gc_threshold_bytes", agent.gc_threshold),
        ("agent_last_run_duration_seconds", agent.last_duration),
        ("agent_last_run_exit_code", agent.last_exit_code),
        ("agent_last_start_timestamp_seconds", agent.last_start),
        ("agent_last_end_timestamp_seconds", agent.last_end),
        ("agent_last_success_timestamp_seconds", agent.last_success),
        ("agent_last_gc_timestamp_seconds", agent.last_collection),
    ):
        if value is not None:
            yield metric, (name,), value
    for reason, at in agent.last_kills.items():
        yield "agent_last_kill_timestamp_seconds", (name, reason), at


def _companion(name: str, companion: CompanionFigures) -> Iterator[Row]:
    yield "companion_up", (name,), companion.up
    yield "companion_tree_rss_bytes", (name,), companion.used
    yield "companion_agents_since_restart", (name,), companion.agents
    yield from (("companion_restarts_total", (name, reason), companion.restarts.get(reason, 0)) for reason in RESTARTS)
    for result in Collected:
        yield "companion_gc_requests_total", (name, result), companion.collections.get(result, 0)
    if companion.last_restart is not None:
        yield "companion_last_restart_timestamp_seconds", (name,), companion.last_restart


def _run(now: Figures) -> Iterator[Row]:
    for result, duration in zip(DRAINS, (now.drained, now.timed_out), strict=True):
        yield "drain_duration_seconds", (result,), duration
    yield "drain_baseline_bytes", (), now.baseline
    yield "leftover_processes", (), now.survivors
    yield "sequence_violations_total", (), now.violations
    yield from (("phase", (phase,), now.phase is phase) for phase in RunPhase)
    states = [TOLD_AS.get(agent.state, agent.state) for agent in now.agents.values()]
    yield from (("queue_agents", (state,), states.count(state)) for state in STATES)
    yield from (("runs_total", (outcome,), now.runs.get(outcome, 0)) for outcome in RUNS)
    yield "run_concurrency", (), now.concurrency
    yield "samples_total", (), now.samples
    if now.tier:
        yield "containment_info", (now.tier,), 1
    for metric, value in (
        ("drain_residual_bytes", now.residual),
        ("run_start_timestamp_seconds", now.started),
        ("run_end_timestamp_seconds", now.ended),
        ("run_duration_seconds", now.seconds),
        ("run_last_success_timestamp_seconds", now.last_success),
        ("sample_duration_seconds", now.took),
        ("last_sample_timestamp_seconds", now.sampled),
    ):
        if value is not None:
            yield metric, (), value
