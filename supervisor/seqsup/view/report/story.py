"""A run as its report tells it: attempts, marks and memory over time, from its events and its timeline. Pure."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from seqsup.model.enums import HALTS
from seqsup.model.events import (
    AttemptLost,
    CompanionExited,
    CompanionRestarted,
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
from seqsup.model.history import fold
from seqsup.model.process_names import processes
from seqsup.model.run_view import AttemptView, CompanionLives, RunView
from seqsup.state.samples import steady
from seqsup.units import format_duration, format_size


class MarkKind(StrEnum):
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
    kind: MarkKind
    agent: str
    text: str


class Part(Struct, frozen=True):
    """A stretch of time in which a supervisor lived: a run that was resumed has several."""

    began: float
    ended: float


class Story(Struct, frozen=True, kw_only=True):
    """What `seqsup report` shows, and what `seqsup report --json` prints."""

    view: RunView
    parts: tuple[Part, ...]
    attempts: tuple[AttemptView, ...]
    marks: tuple[Mark, ...]
    companions: tuple[CompanionLives, ...] = ()
    concurrency: int = 1  # agents at a time

    @property
    def samples(self) -> Iterator[MemorySampled]:
        for attempt in self.attempts:
            yield from attempt.samples

    @property
    def kills(self) -> list[AttemptView]:
        """Attempts that were stopped for a reason, or ended for want of memory."""
        return [
            attempt for attempt in self.attempts
            if attempt.forensics or any(stop.reason is not None for stop in attempt.stops)
        ]  # fmt: skip


def tell(events: Iterable[Recorded], samples: Iterable[MemorySampled]) -> Story:
    recorded, samples = steady(events, samples)
    view = fold(recorded)
    kept: dict[tuple[str, int], list[MemorySampled]] = {}
    for sample in samples:
        kept.setdefault((sample.agent, sample.attempt), []).append(sample)
        for name, used in sample.companions.items():
            if name in view.lives:
                view.lives[name].peak = max(view.lives[name].peak, used)
    for attempt in view.attempts:
        attempt.samples = tuple(kept.get((attempt.agent, attempt.number), ()))
        if not attempt.over and attempt.samples:
            attempt.ended = max(attempt.ended, attempt.samples[-1].at)
        attempt.peak = max([attempt.peak, *(sample.peak for sample in attempt.samples)])
    latest = max((attempt.ended for attempt in view.attempts), default=0.0)
    began = [each.body for each in recorded if isinstance(each.body, RunStarted)]
    return Story(
        view=view, parts=_parts(recorded, latest), attempts=tuple(view.attempts),
        marks=tuple(mark for each in recorded if (mark := _mark(each)) is not None),
        companions=tuple(view.lives.values()), concurrency=max((event.concurrency for event in began), default=1),
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


def _mark(each: Recorded) -> Mark | None:
    at = each.at
    match each.body:
        case StopSent(agent=agent, reason=reason) as event:
            to = f", {reason}" if reason is not None else " to leftovers"
            held = processes(event.processes)
            text = f"{event.signal}{to}: {event.why}" + (f" ({held})" if held else "")
            return Mark(at=at, kind=MarkKind.DRAIN if reason is None else MarkKind.KILL, agent=agent, text=text)
        case GcRequested(owner=owner) as event if not owner.companion:
            text = f"collection asked for: {format_size(event.used)} over soft {format_size(event.limit)}"
            return Mark(at=at, kind=MarkKind.COLLECTION, agent=owner.name, text=text)
        case GcDone(owner=owner, collection=done) if not owner.companion:
            text = f"collection freed {format_size(done.freed)} in {format_duration(done.seconds)}: {done.verdict}"
            return Mark(at=at, kind=MarkKind.COLLECTION, agent=owner.name, text=text)
        case RetryScheduled(agent=agent) as event:
            text = f"attempt {event.attempt} in {format_duration(event.wait)}, after {event.after}"
            return Mark(at=at, kind=MarkKind.RETRY, agent=agent, text=text)
        case Drained(agent=agent, reached=False) as event:
            text = f"memory not back after {format_duration(event.seconds)}: {event.why}"
            return Mark(at=at, kind=MarkKind.TROUBLE, agent=agent, text=text)
        case Unkillable(agent=agent) as event:
            text = f"still there {format_duration(event.seconds)} after SIGKILL: {processes(event.processes)}"
            return Mark(at=at, kind=MarkKind.TROUBLE, agent=agent, text=text)
        case CompanionExited(companion=companion, why=why):
            return Mark(at=at, kind=MarkKind.TROUBLE, agent=companion, text=f"the companion ended: {why}")
        case CompanionRestarted(companion=companion, reason=restart, why=why):
            return Mark(at=at, kind=MarkKind.RESTART, agent=companion, text=f"restarted, {restart}: {why}")
        case AttemptLost(agent=agent):
            return Mark(at=at, kind=MarkKind.TROUBLE, agent=agent, text="lost: its supervisor died")
        case Warned(message=message):
            return Mark(at=at, kind=MarkKind.TROUBLE, agent="", text=message)
        case HaltRequested() as event:
            return Mark(at=at, kind=MarkKind.HALT, agent="", text=f"stop asked by {event.by}: {HALTS[event.halt]}")
    return None
