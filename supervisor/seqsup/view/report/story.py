"""A run as its report tells it: attempts, marks and memory over time, from its events and its timeline. Pure."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from seqsup.model.enums import HALTS, Restart
from seqsup.model.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    Drained,
    GcDone,
    GcRequested,
    HaltRequested,
    MemorySampled,
    Recorded,
    RetryScheduled,
    RunEnded,
    RunStarted,
    StopSent,
    Unkillable,
    Warned,
)
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import processes
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, RunView, fold
from seqsup.state.samples import steady
from seqsup.units import format_duration, format_size


class Kind(StrEnum):
    """What a mark on the timeline is."""

    KILL = "kill"
    COLLECTION = "collection"
    RETRY = "retry"
    DRAIN = "drain"
    TROUBLE = "trouble"
    HALT = "halt"
    RESTART = "restart"


class Mark(Struct, frozen=True, kw_only=True):
    at: float  # seconds since the epoch, as all times here
    kind: Kind
    agent: str
    text: str


class Stop(Struct, frozen=True, kw_only=True):
    """What was sent to a tree, and who was in it."""

    at: float
    signal: str
    reason: Reason | None
    why: str
    processes: tuple[ProcessMemory, ...]


class Attempt(Struct, kw_only=True):
    agent: str
    number: int
    command: tuple[str, ...]
    folder: str
    started: float
    ended: float
    seconds: float | None = None  # by a clock that nobody sets, once it is over
    over: bool = False
    soft: int | None = None
    hard: int | None = None
    peak: int = 0
    reason: Reason | None = None
    why: str = ""
    ok: bool = False
    stops: tuple[Stop, ...] = ()
    drained: float | None = None  # when memory was back, or was given up
    draining: float | None = None  # seconds until then
    drain_reached: bool = True  # it was back
    forensics: str = ""  # the file that says more, in the run's folder
    samples: tuple[MemorySampled, ...] = ()

    @property
    def took(self) -> float:
        return self.ended - self.started if self.seconds is None else self.seconds

    @property
    def stopped(self) -> float | None:
        """When it was first told to stop, for a reason."""
        return next((stop.at for stop in self.stops if stop.reason is not None), None)


class Companion(Struct, kw_only=True):
    """What lived beside the agents."""

    name: str
    starts: int = 0
    restarts: dict[Restart, int] = {}
    exits: int = 0  # by itself
    peak: int = 0
    ready: float | None = None  # seconds until it was ready, the last time
    why: str = ""  # of its last exit or restart


class Part(Struct, frozen=True):
    """A stretch of time in which a supervisor lived: a run that was resumed has several."""

    began: float
    ended: float


class Story(Struct, frozen=True, kw_only=True):
    view: RunView
    parts: tuple[Part, ...]
    attempts: tuple[Attempt, ...]
    marks: tuple[Mark, ...]
    companions: tuple[Companion, ...] = ()
    concurrency: int = 1  # agents at a time

    @property
    def samples(self) -> Iterator[MemorySampled]:
        for attempt in self.attempts:
            yield from attempt.samples

    @property
    def kills(self) -> list[Attempt]:
        """Attempts that were stopped for a reason, or ended for want of memory."""
        return [
            attempt for attempt in self.attempts
            if attempt.forensics or any(stop.reason is not None for stop in attempt.stops)
        ]  # fmt: skip

    def lose(self) -> None:
        """Take for lost what went on when the supervisor died, where no sweep has told so yet."""
        self.view.lose()
        for attempt in self.attempts:
            if attempt.reason is None:
                agent = self.view.agents[attempt.agent]
                attempt.reason, attempt.ok = agent.reason, agent.state is AgentState.COMPLETED


def tell(events: Iterable[Recorded], samples: Iterable[MemorySampled]) -> Story:
    recorded, samples = steady(events, samples)
    attempts = _attempts(recorded)
    companions = _companions(recorded)
    kept: dict[tuple[str, int], list[MemorySampled]] = {}
    for sample in samples:
        kept.setdefault((sample.agent, sample.attempt), []).append(sample)
        for name, used in sample.companions.items():
            if name in companions:
                companions[name].peak = max(companions[name].peak, used)
    for attempt in attempts:
        attempt.samples = tuple(kept.get((attempt.agent, attempt.number), ()))
        if not attempt.over and attempt.samples:
            attempt.ended = max(attempt.ended, attempt.samples[-1].at)
        attempt.peak = max([attempt.peak, *(sample.peak for sample in attempt.samples)])
    latest = max((attempt.ended for attempt in attempts), default=0.0)
    began = [each.body for each in recorded if isinstance(each.body, RunStarted)]
    return Story(
        view=fold(recorded), parts=_parts(recorded, latest), attempts=tuple(attempts), marks=tuple(_marks(recorded)),
        companions=tuple(companions.values()), concurrency=max((event.concurrency for event in began), default=1),
    )  # fmt: skip


def _parts(recorded: tuple[Recorded, ...], latest: float) -> tuple[Part, ...]:
    parts: list[Part] = []
    for n, each in enumerate(recorded):
        if isinstance(each.body, RunStarted):
            parts.append(Part(each.at, each.at))
        elif parts and not isinstance(each.body, AttemptLost):  # that one is told by the next supervisor
            parts[-1] = Part(parts[-1].began, max(parts[-1].ended, each.at))
        if parts and n == len(recorded) - 1 and not isinstance(each.body, RunEnded):
            parts[-1] = Part(parts[-1].began, max(parts[-1].ended, latest))
    return tuple(parts)


def _attempts(recorded: tuple[Recorded, ...]) -> list[Attempt]:
    made: list[Attempt] = []
    last: dict[str, Attempt] = {}
    for each in recorded:
        match each.body:
            case AttemptStarted() as event:
                attempt = Attempt(
                    agent=event.agent, number=event.attempt, command=event.command, folder=event.folder,
                    started=each.at, ended=each.at, soft=event.soft, hard=event.hard,
                )  # fmt: skip
                last[event.agent] = attempt
                made.append(attempt)
            case StopSent(agent=agent) as event if agent in last:
                stop = Stop(
                    at=each.at, signal=event.signal, reason=event.reason, why=event.why, processes=event.processes
                )
                last[agent].stops += (stop,)
            case AttemptEnded(agent=agent) as event if agent in last:
                attempt, outcome = last[agent], event.outcome
                attempt.ended, attempt.over, attempt.peak = each.at, True, outcome.peak
                attempt.seconds = outcome.seconds
                attempt.reason, attempt.why, attempt.ok = outcome.reason, outcome.why, event.ok
                attempt.forensics = f"{attempt.folder}/{outcome.forensics}" if outcome.forensics else ""
            case AttemptLost(agent=agent) if agent in last:
                last[agent].reason, last[agent].why = Reason.LOST, "its supervisor died"
            case Drained(agent=agent, seconds=seconds, reached=reached) if agent in last:
                last[agent].drained, last[agent].draining, last[agent].drain_reached = each.at, seconds, reached
    return made


def _companions(recorded: tuple[Recorded, ...]) -> dict[str, Companion]:
    made: dict[str, Companion] = {}
    for each in recorded:
        match each.body:
            case CompanionStarted(companion=name):
                made.setdefault(name, Companion(name=name)).starts += 1
            case CompanionReady(companion=name, seconds=seconds) if name in made:
                made[name].ready = seconds
            case CompanionExited(companion=name, why=why) if name in made:
                made[name].exits += 1
                made[name].why = why
            case CompanionRestarted(companion=name, reason=reason, why=why) if name in made:
                of = made[name]
                of.restarts = {**of.restarts, reason: of.restarts.get(reason, 0) + 1}
                of.why = why
    return made


def _marks(recorded: tuple[Recorded, ...]) -> Iterator[Mark]:
    for each in recorded:
        if (found := _mark(each)) is not None:
            yield found


def _mark(each: Recorded) -> Mark | None:
    at = each.at
    match each.body:
        case StopSent(agent=agent, reason=reason) as event:
            to = f", {reason}" if reason is not None else " to leftovers"
            held = processes(event.processes)
            text = f"{event.signal}{to}: {event.why}" + (f" ({held})" if held else "")
            return Mark(at=at, kind=Kind.DRAIN if reason is None else Kind.KILL, agent=agent, text=text)
        case GcRequested(owner=owner) as event if not owner.companion:
            text = f"collection asked for: {format_size(event.used)} over soft {format_size(event.limit)}"
            return Mark(at=at, kind=Kind.COLLECTION, agent=owner.name, text=text)
        case GcDone(owner=owner, collection=done) if not owner.companion:
            text = f"collection freed {format_size(done.freed)} in {format_duration(done.seconds)}: {done.verdict}"
            return Mark(at=at, kind=Kind.COLLECTION, agent=owner.name, text=text)
        case RetryScheduled(agent=agent) as event:
            text = f"attempt {event.attempt} in {format_duration(event.wait)}, after {event.after}"
            return Mark(at=at, kind=Kind.RETRY, agent=agent, text=text)
        case Drained(agent=agent, reached=False) as event:
            text = f"memory not back after {format_duration(event.seconds)}: {event.why}"
            return Mark(at=at, kind=Kind.TROUBLE, agent=agent, text=text)
        case Unkillable(agent=agent) as event:
            text = f"still there {format_duration(event.seconds)} after SIGKILL: {processes(event.processes)}"
            return Mark(at=at, kind=Kind.TROUBLE, agent=agent, text=text)
        case CompanionExited(companion=companion, why=why):
            return Mark(at=at, kind=Kind.TROUBLE, agent=companion, text=f"the companion ended: {why}")
        case CompanionRestarted(companion=companion, reason=restart, why=why):
            return Mark(at=at, kind=Kind.RESTART, agent=companion, text=f"restarted, {restart}: {why}")
        case AttemptLost(agent=agent):
            return Mark(at=at, kind=Kind.TROUBLE, agent=agent, text="lost: its supervisor died")
        case Warned(message=message):
            return Mark(at=at, kind=Kind.TROUBLE, agent="", text=message)
        case HaltRequested() as event:
            return Mark(at=at, kind=Kind.HALT, agent="", text=f"stop asked by {event.by}: {HALTS[event.halt]}")
    return None
