"""Events as lines of JSON, flat: what `--json` streams and `seqsup events` replays."""

import time
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import structs

from seqsup.model.events import AnyEvent, AttemptEnded, GcDone, GcRequested, LeaderEnded, Owner, Recorded
from seqsup.model.outcome import Outcome
from seqsup.view.nonblocking import Outlet

SCHEMA = "seqsup.events/1"
_encode = msgspec.json.Encoder().encode


def timestamp(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, in milliseconds."""
    seconds, microseconds = divmod(round(at * 1e6), 10**6)
    return f"{_to_the_second(seconds)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=8)  # events come in bursts
def _to_the_second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def encode(recorded: Recorded) -> bytes:
    """One event as one line, without its newline; sizes in bytes and times in seconds."""
    head = {"schema": SCHEMA, "ts": timestamp(recorded.at), "seq": recorded.seq, "run": recorded.run}
    return _encode(head | flat(recorded.body))


def flat(event: AnyEvent) -> dict[str, Any]:
    """Return an event's facts without nesting, as programs read them."""
    match event:
        case AttemptEnded(outcome=outcome):
            ended = {"processes": outcome.processes, "left_over": outcome.left_over, "forensics": outcome.forensics}
            facts = {**_attempt(event), "ok": event.ok, **_ended(outcome, event.hard), **ended}
        case LeaderEnded(outcome=outcome):
            facts = {**_attempt(event), **_ended(outcome, event.hard)}
        case GcRequested(owner=owner):
            limit = "hard" if owner.companion else "soft"
            facts = {**_owner(owner), "used": event.used, limit: event.limit, "processes": event.processes}
        case GcDone(owner=owner, collection=done):
            facts = {
                **_owner(owner), "seconds": done.seconds, "asked": done.asked, "answered": done.answered,
                "before": done.before, "after": done.after, "freed": done.freed, "used": event.used,
                "verdict": done.verdict,
            }  # fmt: skip
        case _:
            facts = structs.asdict(event)
    return {"event": kind(event), **facts}


def kind(event: AnyEvent) -> str:
    """Return the name that programs know an event by: a companion's collection has one of its own."""
    tag = str(event.__struct_config__.tag)
    return f"companion_{tag}" if isinstance(event, GcRequested | GcDone) and event.owner.companion else tag


def _attempt(event: AttemptEnded | LeaderEnded) -> dict[str, object]:
    return {"agent": event.agent, "attempt": event.attempt, "content": event.content}


def _ended(outcome: Outcome, hard: int | None) -> dict[str, object]:
    return {
        "reason": outcome.reason, "why": outcome.why, "exit_code": outcome.exit_code, "signal": outcome.signal,
        "seconds": outcome.seconds, "peak": outcome.peak, "hard": hard,
    }  # fmt: skip


def _owner(owner: Owner) -> dict[str, object]:
    if owner.companion:
        return {"companion": owner.name, "number": owner.number}
    return {"agent": owner.name, "attempt": owner.number}


class Stream:
    """A reader of events, each written as a line. Who takes the lines may be slow or go: the run goes on."""

    def __init__(self, fd: int = 1) -> None:
        self._outlet = Outlet(fd)

    def __call__(self, recorded: Recorded) -> None:
        self._outlet.write(encode(recorded) + b"\n")

    @property
    def lost(self) -> OSError | None:
        return self._outlet.lost

    def close(self) -> None:
        self._outlet.close()
