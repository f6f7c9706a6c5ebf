"""The metrics as one frozen value: an event or a sample in, the next value out. Pure.

The server uses the value of the moment: no reader sees half a change, and none waits for a lock. A field with a
metric's name is that metric. If it is a Mapping, its keys are the values of the metric's last label.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from seqsup.metrics.catalogue import (
    BUCKETS,
    DRAINED,
    DRAINS,
    LEFTOVER,
    TIMED_OUT,
    TOKENS,
    TOLD_AS,
    Collected,
    RunPhase,
    Swept,
)
from seqsup.model import events
from seqsup.model.conversation import Conversation
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import AnyEvent, Recorded
from seqsup.model.plan import Plan
from seqsup.model.process import Collection, Heap, Observation, ProcessMemory
from seqsup.model.process_names import OTHER, by_program, how_many
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, AgentView, RunState, RunView
from seqsup.units import MIB

RECENT = 60  # seconds
NAMED = 5  # programs of a tree
NAMES = 32  # programs of a run


class Histogram(Struct, frozen=True):
    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)  # one for each bucket, the last for what is over all of them
    sum: float = 0.0

    def add(self, value: float) -> "Histogram":
        place = bisect_left(BUCKETS, value)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        return Histogram(counts, self.sum + value)


class AgentFigures(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds, timestamps since the epoch."""

    limit: int | None = field(default=None, name="agent_memory_limit_bytes")
    gc_threshold: int | None = field(default=None, name="agent_memory_gc_threshold_bytes")
    state: AgentState = field(default=AgentState.PENDING, name="agent_status")
    peak: int = field(default=0, name="agent_tree_rss_peak_bytes")
    starts: int = field(default=0, name="agent_starts_total")
    exits: Mapping[str, int] = field(default_factory=dict, name="agent_exits_total")
    kills: Mapping[str, int] = field(default_factory=dict, name="agent_kills_total")
    tools_killed: int = field(default=0, name="agent_tools_killed_total")
    escalations: int = field(default=0, name="agent_kill_escalations_total")
    retries: int = field(default=0, name="agent_retries_total")
    seconds: float = field(default=0.0, name="agent_run_seconds_total")
    last_duration: float | None = field(default=None, name="agent_last_run_duration_seconds")
    last_exit_code: int | None = field(default=None, name="agent_last_run_exit_code")
    last_start: float | None = field(default=None, name="agent_last_start_timestamp_seconds")
    last_end: float | None = field(default=None, name="agent_last_end_timestamp_seconds")
    last_success: float | None = field(default=None, name="agent_last_success_timestamp_seconds")
    last_kills: Mapping[str, float] = field(default_factory=dict, name="agent_last_kill_timestamp_seconds")
    collections: Mapping[str, int] = field(default_factory=dict, name="gc_requests_total")
    freed: int = field(default=0, name="gc_freed_bytes_total")
    last_collection: float | None = field(default=None, name="agent_last_gc_timestamp_seconds")
    turns: int | None = field(default=None, name="agent_turns_total")  # None, as the next: no CLI reported it
    tokens: Mapping[str, int] | None = field(default=None, name="agent_tokens_total")
    usd: float | None = field(default=None, name="agent_cost_usd_total")
    limit_used: float | None = field(default=None, name="usage_limit_ratio")
    swept: Mapping[str, int] = field(default_factory=dict, name="leftover_processes_reaped_total")


class CompanionFigures(Struct, frozen=True, kw_only=True):
    up: bool = field(default=False, name="companion_up")
    used: int = field(default=0, name="companion_tree_rss_bytes")
    agents: int = field(default=0, name="companion_agents_since_restart")  # that ended since it was last started
    restarts: Mapping[str, int] = field(default_factory=dict, name="companion_restarts_total")
    last_restart: float | None = field(default=None, name="companion_last_restart_timestamp_seconds")
    collections: Mapping[str, int] = field(default_factory=dict, name="companion_gc_requests_total")  # by Collected
    asked: bool = False  # for one, since it was last started
    awaited: bool = False  # one that was requested is not over


_NO_AGENT, _NO_COMPANION = AgentFigures(), CompanionFigures()


class LiveAgent(Struct, frozen=True, kw_only=True):
    """An attempt that runs: one, unless the profile allows several at a time."""

    agent: str
    used: int = field(default=0, name="agent_tree_rss_bytes")
    processes: int = field(default=0, name="agent_processes")
    parts: Mapping[str, int] = field(default_factory=lambda: {OTHER: 0}, name="agent_process_rss_bytes")  # sum: `used`
    recent: tuple[tuple[int, int], ...] = ()  # second, highest sample in it
    named: bool = False  # the processes of the tree are known
    pids: tuple[int, ...] = ()  # of all of them
    heap: Heap | None = None
    conversation: Conversation = Conversation()
    told: str = ""  # the last signal that it was stopped with
    collected: bool = False  # a collection was requested
    awaited: bool = False  # it is not over
    left: int = 0  # processes that outlived their leader and were sent TERM
    left_killed: int = 0  # of these, sent KILL


class Figures(Struct, frozen=True, kw_only=True):
    """All that the run and its agents have come to."""

    profile: str
    agents: Mapping[str, AgentFigures] = field(default_factory=dict)
    companions: Mapping[str, CompanionFigures] = field(default_factory=dict)
    baseline: int = field(default=0, name="drain_baseline_bytes")  # of the supervisor, before the first agent
    tier: str = field(default="", name="containment_info")
    concurrency: int = field(default=1, name="run_concurrency")
    phase: RunPhase = field(default=RunPhase.STARTING, name="phase")
    live: Mapping[str, LiveAgent] = field(default_factory=dict)  # by agent
    names: frozenset[str] = frozenset()  # programs that have a series of their own
    drains: Mapping[str, Histogram] = field(
        default_factory=lambda: dict.fromkeys(DRAINS, Histogram()), name="drain_duration_seconds"
    )
    residual: int | None = field(default=None, name="drain_residual_bytes")
    survivors: int = field(default=0, name="leftover_processes")
    violations: int = field(default=0, name="sequence_violations_total")
    runs: Mapping[str, int] = field(default_factory=dict, name="runs_total")
    started: Mapping[str, float] = field(default_factory=dict, name="run_start_timestamp_seconds")  # by label
    ended: float | None = field(default=None, name="run_end_timestamp_seconds")
    seconds: float | None = field(default=None, name="run_duration_seconds")
    last_success: float | None = field(default=None, name="run_last_success_timestamp_seconds")
    samples: int = field(default=0, name="samples_total")
    took: float | None = field(default=None, name="sample_duration_seconds")
    sampled: float | None = field(default=None, name="last_sample_timestamp_seconds")


def begin(plan: Plan, baseline: int) -> Figures:
    agents = {step.name: AgentFigures(limit=step.limits.hard, gc_threshold=step.limits.soft) for step in plan.steps} | {
        skip.name: AgentFigures(state=AgentState.SKIPPED) for skip in plan.skips
    }
    companions = {start.name: CompanionFigures() for start in plan.companions}
    return Figures(profile=plan.name, agents=agents, companions=companions, baseline=baseline)


# -- samples


def observe(now: Figures, seen: Observation, at: float) -> Figures:
    """Take in a sample; `at` is its time since the epoch."""
    live, used = now.live.get(seen.agent), seen.sample.used
    if live is None:
        return now
    second = int(seen.sample.at)
    recent = live.recent
    if not recent or recent[-1][0] != second:
        recent = (*(pair for pair in recent if pair[0] > second - RECENT), (second, used))
    elif used > recent[-1][1]:
        recent = (*recent[:-1], (second, used))
    names, heap = now.names, seen.heap or live.heap
    if seen.processes is not None:
        parts, names = divide(seen.processes, used, names)
        live = replace(
            live, used=used, parts=parts, pids=seen.pids, processes=max(seen.sample.processes, len(seen.pids)),
            recent=recent, heap=heap, named=True,
        )  # fmt: skip
    elif not live.named:
        live = replace(live, used=used, parts={OTHER: used}, processes=seen.sample.processes, recent=recent, heap=heap)
    elif recent is not live.recent or heap is not live.heap:
        live = replace(live, recent=recent, heap=heap)
    agents = now.agents
    if used > agents[seen.agent].peak:
        agents = {**agents, seen.agent: replace(agents[seen.agent], peak=used)}
    if (heard := seen.conversation) is not None and heard is not live.conversation:
        agents = {**agents, seen.agent: _spend(agents[seen.agent], live.conversation, heard)}
        live = replace(live, conversation=heard)
    lives = now.live if live is now.live[seen.agent] else {**now.live, seen.agent: live}
    return replace(now, live=lives, names=names, agents=agents, samples=now.samples + 1, took=seen.took, sampled=at)


def _spend(agent: AgentFigures, before: Conversation, heard: Conversation) -> AgentFigures:
    """Add what an attempt has spent since `before`. A CLI that corrects itself downwards lowers no counter."""
    usd = agent.usd
    if heard.usd is not None:
        usd = (usd or 0.0) + max(0.0, heard.usd - (before.usd or 0.0))
    tokens = agent.tokens or {}
    spent = {kind: getattr(heard.tokens, kind) - getattr(before.tokens, kind) for kind in TOKENS}
    used = heard.limit.used if heard.limit is not None else None
    return replace(
        agent, turns=(agent.turns or 0) + max(0, heard.turns - before.turns), usd=usd,
        tokens={kind: tokens.get(kind, 0) + max(0, count) for kind, count in spent.items()},
        limit_used=agent.limit_used if used is None else used,
    )  # fmt: skip


def weigh(now: Figures, companion: str, used: int) -> Figures:
    """Take in what a companion holds."""
    return _companion(now, companion, used=used)


def divide(
    processes: Iterable[ProcessMemory], used: int, names: frozenset[str]
) -> tuple[dict[str, int], frozenset[str]]:
    """Divide a tree's memory among its largest programs and `other`, so that they add up to it.

    The processes' own sum is not the tree's: pages that forks share count in each, shared memory in none.
    """
    named: dict[str, int] = {}
    for name, size in by_program(processes).items():
        if len(named) < NAMED and (name in names or len(names) < NAMES) and name != OTHER:
            named[name], names = size, names | {name}
    if (total := sum(named.values())) > used:
        named = {name: size * used // total for name, size in named.items()}
    return {**named, OTHER: used - sum(named.values())}, names


# -- events


def apply(now: Figures, recorded: Recorded, view: RunView) -> Figures:
    """Take in an event. `view` is the run after it, or after later events where a locked journal held this one up."""
    at = recorded.at
    match recorded.body:
        case events.AttemptStarted() as event:
            return _attempt_started(now, view, event, at)
        case events.AttemptEnded() as event:
            return _attempt_ended(now, view, event, at)
        case events.Drained() as event:
            return _drained(now, view, event)
        case events.AgentEnded(agent=agent):
            for companion, figures in now.companions.items():
                now = _companion(now, companion, agents=figures.agents + 1)
            return _agent(_at_rest(now, RunPhase.STARTING), view, agent)
        case events.GcRequested(owner=owner) if not owner.companion:
            now = _live(replace(now, phase=RunPhase.GC), owner.name, collected=True, awaited=True)
            return _agent(now, view, owner.name, last_collection=at)
        case events.GcDone(owner=owner, collection=collection) if not owner.companion:
            return _gc_done(now, view, owner.name, collection)
        case events.ToolKilled(agent=agent):
            return _agent(now, view, agent, tools_killed=now.agents[agent].tools_killed + 1)
        case events.StopSent() as event:
            return _stop_sent(now, view, event, at)
        case events.RetryScheduled(agent=agent):
            now = _at_rest(now, RunPhase.BACKOFF)
            return _agent(now, view, agent, retries=now.agents[agent].retries + 1)
        case events.LimitPaused(agent=agent):
            return _agent(_at_rest(now, RunPhase.BACKOFF), view, agent)
        case events.AgentSkipped(agent=agent) | events.BriefWritten(agent=agent) | events.AttemptLost(agent=agent):
            return _agent(now, view, agent)
        case events.Unkillable(processes=processes):
            return replace(now, survivors=len(processes))
        case events.RunPaused() | events.StartDelayed():
            return _at_rest(now, RunPhase.BACKOFF)
        case events.RunContinued():
            return replace(now, phase=RunPhase.STARTING)
        case events.HaltRequested(halt=halt) if halt >= Halt.NOW:
            return replace(now, phase=RunPhase.STOPPING)
        case events.RunStarted():
            return _run_started(now, view)
        case events.RunEnded():
            return _run_ended(now, view)
    return _companion_event(now, recorded.body, at)


def _companion_event(now: Figures, event: AnyEvent, at: float) -> Figures:
    match event:
        case events.CompanionStarted(companion=name):
            now = _companion(now, name, agents=0, asked=False, awaited=False)
            return _at_rest(now, RunPhase.COMPANIONS)
        case events.CompanionReady(companion=name):
            return _companion(_at_rest(now, RunPhase.STARTING), name, up=True)
        case events.CompanionExited(companion=name) | events.CompanionStopped(companion=name):
            before = now.companions.get(name, _NO_COMPANION)
            collections = before.collections
            if before.awaited:
                collections = _more(collections, Collected.INTERRUPTED)
            elif getattr(event, "reason", None) is Restart.MEMORY and not before.asked:
                collections = _more(collections, Collected.UNSUPPORTED)
            return _companion(now, name, up=False, used=0, collections=collections, awaited=False)
        case events.CompanionRestarted(companion=name, reason=reason):
            restarts = _more(now.companions.get(name, _NO_COMPANION).restarts, reason)
            return _companion(now, name, restarts=restarts, last_restart=at)
        case events.GcRequested(owner=owner):
            return _companion(now, owner.name, asked=True, awaited=True)
        case events.GcDone(owner=owner, collection=collection):
            before = now.companions.get(owner.name, _NO_COMPANION)
            collections = _more(before.collections, _result(collection))
            return _companion(now, owner.name, collections=collections, awaited=False)
    return now


def _at_rest(now: Figures, phase: RunPhase) -> Figures:
    """Enter a phase, unless an agent is active in another lane, or while a companion restarts."""
    return replace(now, phase=RunPhase.RUNNING if now.live else phase)


def _agent(now: Figures, view: RunView, name: str, **changes: object) -> Figures:
    agent = replace(now.agents[name], state=_state(view.agents[name]), **changes)
    return replace(now, agents={**now.agents, name: agent})


def _state(agent: AgentView) -> AgentState:
    return TOLD_AS.get(agent.state, agent.state)


def _live(now: Figures, agent: str, **changes: object) -> Figures:
    if agent not in now.live:
        return now
    return replace(now, live={**now.live, agent: replace(now.live[agent], **changes)})


def _companion(now: Figures, name: str, **changes: object) -> Figures:
    companion = replace(now.companions.get(name, _NO_COMPANION), **changes)
    return replace(now, companions={**now.companions, name: companion})


def _more(counts: Mapping[str, int], key: str, by: int = 1) -> dict[str, int]:
    return {**counts, key: counts.get(key, 0) + by}


def _run_started(now: Figures, view: RunView) -> Figures:
    agents = {
        name: replace(now.agents.get(name, _NO_AGENT), state=_state(agent)) for name, agent in view.agents.items()
    }
    return replace(
        now, agents=agents, phase=RunPhase.STARTING, live={}, tier=view.containment, concurrency=view.concurrency,
        started={view.run: view.resumed or 0.0},
    )  # fmt: skip


def _attempt_started(now: Figures, view: RunView, event: events.AttemptStarted, at: float) -> Figures:
    if event.dialect is not None:  # its counters begin at 0
        agent = _spend(now.agents[event.agent], Conversation(), Conversation(usd=_price(event.dialect)))
        now = replace(now, agents={**now.agents, event.agent: agent})
    live = {**now.live, event.agent: LiveAgent(agent=event.agent)}
    return _agent(
        replace(now, phase=RunPhase.RUNNING, live=live, violations=view.sequence_violations), view, event.agent,
        limit=event.hard, gc_threshold=event.soft, starts=now.agents[event.agent].starts + 1, last_start=at,
    )  # fmt: skip


def _price(dialect: str) -> float | None:
    """Return the cost of nothing; None where the CLI may never report a cost."""
    from seqsup.dialects.stream import reader  # which only runs with such agents need

    return 0.0 if reader(dialect).prices else None


def _gc_done(now: Figures, view: RunView, name: str, done: Collection) -> Figures:
    agent, phase = now.agents[name], RunPhase.RUNNING if now.phase is RunPhase.GC else now.phase
    collections, freed = _more(agent.collections, _result(done)), agent.freed + max(done.freed, 0)
    now = _live(replace(now, phase=phase), name, awaited=False)
    return _agent(now, view, name, collections=collections, freed=freed)


def _result(done: Collection) -> Collected:
    if not done.answered:
        return Collected.FAILED
    return Collected.FREED if done.freed >= MIB else Collected.NO_EFFECT


def _stop_sent(now: Figures, view: RunView, event: events.StopSent, at: float) -> Figures:
    agent, live = now.agents[event.agent], now.live.get(event.agent)
    reason = event.reason or LEFTOVER
    if live is None:
        return now
    changes: dict[str, object] = {}
    if not live.told:
        changes = {"kills": _more(agent.kills, reason), "last_kills": {**agent.last_kills, reason: at}}
        if reason is Reason.SOFT and not live.collected:
            changes["collections"] = _more(agent.collections, Collected.UNSUPPORTED)
    elif event.signal == "SIGKILL" != live.told:
        changes = {"escalations": agent.escalations + 1}
    if event.reason is None and event.signal == "SIGKILL":
        live = replace(live, left_killed=live.left_killed + how_many(event.processes))
    elif event.reason is None:
        live = replace(live, left=live.left + how_many(event.processes))
    live = replace(live, told=event.signal)
    now = replace(now, phase=RunPhase.KILLING, live={**now.live, event.agent: live})
    return _agent(now, view, event.agent, **changes)


def _attempt_ended(now: Figures, view: RunView, event: events.AttemptEnded, at: float) -> Figures:
    agent, outcome = now.agents[event.agent], event.outcome
    code = outcome.exit_code if outcome.signal is None else 128 + outcome.signal
    others = {name: live for name, live in now.live.items() if name != event.agent}
    swept, collections, live = agent.swept, agent.collections, now.live.get(event.agent)
    if live is not None and live.awaited:
        collections = _more(collections, Collected.INTERRUPTED)
    if live is not None and outcome.conversation is not None:
        agent = _spend(agent, live.conversation, outcome.conversation)
        now = replace(now, agents={**now.agents, event.agent: agent})
    if live is not None and live.told:
        swept = _more(_more(swept, Swept.KILL, live.left_killed), Swept.TERM, max(live.left - live.left_killed, 0))
    return _agent(
        _at_rest(replace(now, live=others), RunPhase.DRAINING), view, event.agent,
        peak=max(agent.peak, outcome.peak), exits=_more(agent.exits, outcome.reason),
        seconds=agent.seconds + outcome.seconds, last_duration=outcome.seconds, last_end=at,
        last_exit_code=agent.last_exit_code if code is None else code,
        last_success=at if event.ok else agent.last_success, swept=swept, collections=collections,
    )  # fmt: skip


def _drained(now: Figures, view: RunView, event: events.Drained) -> Figures:
    result = DRAINED if event.reached else TIMED_OUT
    now = replace(
        now, drains={**now.drains, result: now.drains[result].add(event.seconds)},
        survivors=0 if event.reached else now.survivors, residual=max(event.owned - now.baseline, 0),
    )  # fmt: skip
    if event.strays:
        now = _agent(
            now, view, event.agent, swept=_more(now.agents[event.agent].swept, Swept.APART, how_many(event.strays))
        )
    return _at_rest(now, RunPhase.STARTING)


def _run_ended(now: Figures, view: RunView) -> Figures:
    return replace(
        now, phase=RunPhase.IDLE, live={}, ended=view.ended, seconds=view.seconds, violations=view.sequence_violations,
        runs=_more(now.runs, view.state),
        last_success=view.ended if view.state is RunState.COMPLETED else now.last_success,
    )  # fmt: skip
