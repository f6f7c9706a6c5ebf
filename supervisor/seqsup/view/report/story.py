"""A run as its report tells it: attempts, marks and memory over time, from its events and its timeline. Pure."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from seqsup.model import events
from seqsup.model.enums import HALTS, Verdict
from seqsup.model.events import AnyEvent, MemorySampled, Recorded
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
        """Attempts that were stopped for a reason, or exited because memory was short."""
        return [
            attempt for attempt in self.attempts
            if attempt.forensics or any(stop.reason is not None for stop in attempt.stops)
        ]  # fmt: skip


def tell(history: Iterable[Recorded], samples: Iterable[MemorySampled]) -> Story:
    recorded, samples = steady(history, samples)
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
    began = [each.body for each in recorded if isinstance(each.body, events.RunStarted)]
    return Story(
        view=view, parts=_parts(recorded, latest), attempts=tuple(view.attempts),
        marks=tuple(
            Mark(at=each.at, kind=kind, agent=agent, text=text)
            for each in recorded for kind, agent, text in _marked(each.body)
        ),
        companions=tuple(view.lives.values()), concurrency=max((event.concurrency for event in began), default=1),
    )  # fmt: skip


def _parts(recorded: tuple[Recorded, ...], latest: float) -> tuple[Part, ...]:
    parts: list[Part] = []
    for n, each in enumerate(recorded):
        if isinstance(each.body, events.RunStarted):
            parts.append(Part(each.at, each.at))
        elif parts and not isinstance(each.body, events.AttemptLost):  # that one is told by the next supervisor
            parts[-1] = Part(parts[-1].began, max(parts[-1].ended, each.at))
        if parts and n == len(recorded) - 1 and not isinstance(each.body, events.RunEnded):
            parts[-1] = Part(parts[-1].began, max(parts[-1].ended, latest))
    return tuple(parts)


def _marked(event: AnyEvent) -> Iterator[tuple[MarkKind, str, str]]:
    """Yield the mark of an event that has one: its kind, its agent, and its text."""
    match event:
        case events.StopSent(agent=agent, signal=signal, reason=reason, why=why):
            to = f", {reason}" if reason is not None else " to leftovers"
            held = processes(event.processes)
            text = f"{signal}{to}: {why}" + (f" ({held})" if held else "")
            yield MarkKind.DRAIN if reason is None else MarkKind.KILL, agent, text
        case events.GcRequested(owner=owner, used=used, limit=int(limit), key=key) if not owner.companion:
            text = f"GC requested: {format_size(used)}, above {key} {format_size(limit)}"
            yield MarkKind.COLLECTION, owner.name, text
        case events.GcDone(owner=owner, collection=done) if not owner.companion:
            text = f"GC freed {format_size(done.freed)} in {format_duration(done.seconds)}"
            text += f": {done.verdict}" if done.verdict is not Verdict.NONE else ""
            yield MarkKind.COLLECTION, owner.name, text
        case events.RetryScheduled(agent=agent, attempt=attempt, wait=wait, after=after):
            resumed = ", resumes its conversation" if event.resumes else ""
            yield MarkKind.RETRY, agent, f"attempt {attempt} in {format_duration(wait)}, after {after}{resumed}"
        case events.Drained(agent=agent, reached=False, seconds=seconds, why=why):
            yield MarkKind.TROUBLE, agent, f"memory not back after {format_duration(seconds)}: {why}"
        case events.Unkillable(agent=agent, seconds=seconds):
            text = f"still running {format_duration(seconds)} after SIGKILL: {processes(event.processes)}"
            yield MarkKind.TROUBLE, agent, text
        case events.CompanionExited(companion=companion, why=why):
            yield MarkKind.TROUBLE, companion, f"companion exited: {why}"
        case events.CompanionRestarted(companion=companion, reason=restart, why=why):
            yield MarkKind.RESTART, companion, f"restarted, {restart}: {why}"
        case events.AttemptLost(agent=agent):
            yield MarkKind.TROUBLE, agent, "lost: its supervisor died"
        case events.Warned(message=message):
            yield MarkKind.TROUBLE, "", message
        case events.HaltRequested(halt=halt, by=by):
            yield MarkKind.HALT, "", f"stop {by}: {HALTS[halt]}"
