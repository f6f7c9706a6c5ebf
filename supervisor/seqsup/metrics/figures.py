"""What the metrics say, as one frozen value: an event or a sample in, the next value out. Pure.

Whoever serves the figures takes the value that is there: no reader sees half a change, and nobody waits for a lock.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from seqsup.metrics.catalogue import BUCKETS, LEFTOVER, Collected, Phase, Status, Swept
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import (
    AgentEnded,
    AgentSkipped,
    AttemptEnded,
    AttemptStarted,
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    Drained,
    GcDone,
    GcRequested,
    HaltRequested,
    LimitPaused,
    Recorded,
    RetryScheduled,
    RunContinued,
    RunEnded,
    RunPaused,
    RunStarted,
    StopSent,
    Unkillable,
)
from seqsup.model.plan import Plan
from seqsup.model.process import Heap, Observation, ProcessMemory
from seqsup.model.process_names import OTHER, by_program, how_many
from seqsup.model.reason import Reason
from seqsup.model.run_view import run_state
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

    limit: int | None = None
    gc_threshold: int | None = None
    status: Status = Status.PENDING
    peak: int = 0
    starts: int = 0
    exits: Mapping[str, int] = field(default_factory=dict)
    kills: Mapping[str, int] = field(default_factory=dict)
    escalations: int = 0
    retries: int = 0
    seconds: float = 0.0
    last_duration: float | None = None
    last_exit_code: int | None = None
    last_start: float | None = None
    last_end: float | None = None
    last_success: float | None = None
    last_kills: Mapping[str, float] = field(default_factory=dict)
    collections: Mapping[str, int] = field(default_factory=dict)
    freed: int = 0
    last_collection: float | None = None
    swept: Mapping[str, int] = field(default_factory=dict)


class CompanionFigures(Struct, frozen=True, kw_only=True):
    up: bool = False
    used: int = 0
    agents: int = 0  # that ended since it was last started
    restarts: Mapping[str, int] = field(default_factory=dict)
    last_restart: float | None = None
    collections: Mapping[str, int] = field(default_factory=dict)  # by Collected
    asked: bool = False  # for one, since it was last started


class Live(Struct, frozen=True, kw_only=True):
    """An attempt that runs: one, unless the profile allows several at a time."""

    agent: str
    lane: int = 1
    used: int = 0
    processes: int = 0
    parts: Mapping[str, int] = field(default_factory=lambda: {OTHER: 0})  # by program; they add up to `used`
    recent: tuple[tuple[int, int], ...] = ()  # second, highest sample in it
    named: bool = False  # it is known who is in the tree
    pids: tuple[int, ...] = ()  # of all of them
    heap: Heap | None = None
    told: str = ""  # the last signal that it was stopped with
    collected: bool = False  # a collection was asked for
    left: int = 0  # processes that outlived their leader and were sent TERM
    left_killed: int = 0  # of these, sent KILL


class Figures(Struct, frozen=True, kw_only=True):
    """All that the run and its agents have come to."""

    profile: str
    agents: Mapping[str, AgentFigures]
    companions: Mapping[str, CompanionFigures] = field(default_factory=dict)
    baseline: int  # bytes that the supervisor held before the first agent
    tier: str = ""
    concurrency: int = 1
    phase: Phase = Phase.STARTING
    live: Mapping[str, Live] = field(default_factory=dict)  # by agent
    names: frozenset[str] = frozenset()  # programs that have a series of their own
    drained: Histogram = Histogram()
    timed_out: Histogram = Histogram()
    residual: int | None = None
    survivors: int = 0
    violations: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    last_success: float | None = None
    samples: int = 0
    took: float | None = None
    sampled: float | None = None


def begin(plan: Plan, baseline: int) -> Figures:
    agents = {step.name: AgentFigures(limit=step.limits.hard, gc_threshold=step.limits.soft) for step in plan.steps} | {
        skip.name: AgentFigures(status=Status.SKIPPED) for skip in plan.skips
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
    lives = now.live if live is now.live[seen.agent] else {**now.live, seen.agent: live}
    return replace(now, live=lives, names=names, agents=agents, samples=now.samples + 1, took=seen.took, sampled=at)


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


def apply(now: Figures, recorded: Recorded) -> Figures:
    """Take in an event."""
    at = recorded.at
    match recorded.body:
        case RunStarted() as event:
            return _run_started(now, event, at)
        case HaltRequested(halt=halt) if halt >= Halt.NOW:
            return replace(now, phase=Phase.STOPPING)
        case AttemptStarted(agent=agent, lane=lane):
            overlaps = sum(other.lane == lane for other in now.live.values() if other.agent != agent)
            now = replace(now, violations=now.violations + overlaps)
            now = replace(now, phase=Phase.RUNNING, live={**now.live, agent: Live(agent=agent, lane=lane)})
            before = now.agents[agent]
            return _agent(now, agent, status=Status.RUNNING, peak=0, starts=before.starts + 1, last_start=at)
        case GcRequested(owner=owner) if owner.companion:
            return _companion(now, owner.name, asked=True)
        case GcRequested(owner=owner):
            now = _live(replace(now, phase=Phase.GC), owner.name, collected=True)
            return _agent(now, owner.name, last_collection=at)
        case GcDone() as event:
            return _gc_done(now, event)
        case StopSent() as event:
            return _stop_sent(now, event, at)
        case AttemptEnded() as event:
            return _attempt_ended(now, event, at)
        case Unkillable(processes=processes):
            return replace(now, survivors=len(processes))
        case Drained() as event:
            return _drained(now, event)
        case RetryScheduled(agent=agent):
            now = _at_rest(now, Phase.BACKOFF)
            return _agent(now, agent, retries=now.agents[agent].retries + 1)
        case CompanionStarted(companion=companion):
            return _companion(_at_rest(now, Phase.COMPANIONS), companion, agents=0, asked=False)
        case CompanionStopped(companion=companion, reason=Restart.MEMORY) if not now.companions[companion].asked:
            collections = _more(now.companions[companion].collections, Collected.UNSUPPORTED)
            return _companion(now, companion, up=False, used=0, collections=collections)
        case CompanionReady(companion=companion):
            return _companion(_at_rest(now, Phase.STARTING), companion, up=True)
        case CompanionExited(companion=companion) | CompanionStopped(companion=companion):
            return _companion(now, companion, up=False, used=0)
        case CompanionRestarted(companion=companion, reason=reason):
            restarts = _more(now.companions[companion].restarts, reason)
            return _companion(now, companion, restarts=restarts, last_restart=at)
        case LimitPaused() | RunPaused():
            return _at_rest(now, Phase.BACKOFF)
        case RunContinued():
            return replace(now, phase=Phase.STARTING)
        case AgentEnded(agent=agent) as event:
            for companion, figures in now.companions.items():
                now = _companion(now, companion, agents=figures.agents + 1)
            return _agent(_at_rest(now, Phase.STARTING), agent, status=_status(event))
        case AgentSkipped(agent=agent):
            return _agent(now, agent, status=Status.SKIPPED)
        case RunEnded() as event:
            return _run_ended(now, event, at)
    return now


def _at_rest(now: Figures, phase: Phase) -> Figures:
    """Go over to a phase, unless an agent runs on: in another lane, or while a companion starts anew."""
    return replace(now, phase=Phase.RUNNING if now.live else phase)


def _agent(now: Figures, name: str, **changes: object) -> Figures:
    return replace(now, agents={**now.agents, name: replace(now.agents[name], **changes)})


def _live(now: Figures, agent: str, **changes: object) -> Figures:
    if agent not in now.live:
        return now
    return replace(now, live={**now.live, agent: replace(now.live[agent], **changes)})


def _companion(now: Figures, name: str, **changes: object) -> Figures:
    return replace(now, companions={**now.companions, name: replace(now.companions[name], **changes)})


def _more(counts: Mapping[str, int], key: str, by: int = 1) -> dict[str, int]:
    return {**counts, key: counts.get(key, 0) + by}


def _run_started(now: Figures, event: RunStarted, at: float) -> Figures:
    now = replace(now, tier=event.containment, concurrency=event.concurrency, started=at, live={})
    for name in now.agents.keys() & set(event.completed_before):
        now = _agent(now, name, status=Status.COMPLETED)
    return now


def _gc_done(now: Figures, event: GcDone) -> Figures:
    name, done = event.owner.name, event.collection
    result = Collected.FREED if done.freed >= MIB else Collected.NO_EFFECT
    result = result if done.answered else Collected.FAILED
    if event.owner.companion:
        return _companion(now, name, collections=_more(now.companions[name].collections, result))
    agent, phase = now.agents[name], Phase.RUNNING if now.phase is Phase.GC else now.phase
    collections, freed = _more(agent.collections, result), agent.freed + max(done.freed, 0)
    return _agent(replace(now, phase=phase), name, collections=collections, freed=freed)


def _stop_sent(now: Figures, event: StopSent, at: float) -> Figures:
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
    now = replace(now, phase=Phase.KILLING, live={**now.live, event.agent: live})
    return _agent(now, event.agent, **changes)


def _attempt_ended(now: Figures, event: AttemptEnded, at: float) -> Figures:
    agent, outcome = now.agents[event.agent], event.outcome
    code = outcome.exit_code if outcome.signal is None else 128 + outcome.signal
    others = {name: live for name, live in now.live.items() if name != event.agent}
    swept = agent.swept
    if (live := now.live.get(event.agent)) is not None and live.told:
        swept = _more(_more(swept, Swept.KILL, live.left_killed), Swept.TERM, max(live.left - live.left_killed, 0))
    return _agent(
        _at_rest(replace(now, live=others), Phase.DRAINING), event.agent,
        peak=outcome.peak, exits=_more(agent.exits, outcome.reason), seconds=agent.seconds + outcome.seconds,
        last_duration=outcome.seconds, last_end=at, last_exit_code=agent.last_exit_code if code is None else code,
        last_success=at if event.ok else agent.last_success, swept=swept,
    )  # fmt: skip


def _drained(now: Figures, event: Drained) -> Figures:
    if event.reached:
        now = replace(now, drained=now.drained.add(event.seconds), survivors=0)
    else:
        now = replace(now, timed_out=now.timed_out.add(event.seconds))
    if event.strays:
        now = _agent(now, event.agent, swept=_more(now.agents[event.agent].swept, Swept.APART, how_many(event.strays)))
    return _at_rest(replace(now, residual=max(event.owned - now.baseline, 0)), Phase.STARTING)


def _run_ended(now: Figures, event: RunEnded, at: float) -> Figures:
    return replace(
        now, phase=Phase.IDLE, live={}, ended=at, seconds=event.seconds,
        violations=max(now.violations, event.sequence_violations),
        runs=_more(now.runs, run_state(event.exit_code)), last_success=at if event.exit_code == 0 else now.last_success,
    )  # fmt: skip


def _status(event: AgentEnded) -> Status:
    if event.ok:
        return Status.COMPLETED
    return {Reason.HALTED: Status.HALTED, Reason.SKIPPED: Status.SKIPPED}.get(event.reason, Status.GAVE_UP)
