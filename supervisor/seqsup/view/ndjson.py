"""Events as lines of JSON, flat: what `--json` streams and `seqsup events` replays."""

import os
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from seqsup.model.conversation import Conversation
from seqsup.model.events import AgentProgress, AnyEvent, AttemptEnded, GcDone, GcRequested, LeaderEnded, Owner, Recorded
from seqsup.model.outcome import Outcome
from seqsup.model.process import Collection, Observation
from seqsup.view.nonblocking import NonblockingWriter
from seqsup.view.terminal import Shown

SCHEMA = "seqsup.events/1"
_OUTCOME = ("reason", "why", "exit_code", "signal", "seconds", "peak", "end")
_TREE = ("processes", "left_over", "forensics", "leak", "conversation")
_COLLECTION = ("seconds", "asked", "answered", "before", "after", "freed", "verdict")
_PROGRESS = 1.0  # seconds
_encode = msgspec.json.Encoder().encode


def timestamp(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, in milliseconds."""
    return f"{datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def encode(recorded: Recorded) -> bytes:
    """One event as one line, without its newline; sizes in bytes and times in seconds."""
    head = {"schema": SCHEMA, "ts": timestamp(recorded.at), "seq": recorded.seq, "run": recorded.run}
    return _encode(head | flat(recorded.body))


def encode_progress(run: str, at: float, progress: AgentProgress) -> bytes:
    """One line of the timeline as a line. It has no `seq`: the journal does not have it."""
    return _encode({"schema": SCHEMA, "ts": timestamp(at), "run": run} | flat(progress))


def flat(event: AnyEvent) -> dict[str, Any]:
    """Return an event's facts without nesting, as programs read them."""
    facts = {"event": kind(event), **structs.asdict(event)}
    match event:
        case AttemptEnded(outcome=outcome) | LeaderEnded(outcome=outcome):
            del facts["outcome"]
            facts |= _facts(outcome, *_OUTCOME)
            if isinstance(event, AttemptEnded):
                facts |= _facts(outcome, *_TREE)
        case GcRequested():
            facts |= _owner(facts.pop("owner")) | {facts.pop("key"): facts.pop("limit")}
        case GcDone(collection=collection):
            del facts["collection"]
            facts |= _owner(facts.pop("owner"))
            facts |= _facts(collection, *_COLLECTION)
    return facts


def keys(event: type[AnyEvent]) -> list[str]:
    """Return the keys of an event's line besides schema, ts, seq, run and event. Documents are made from this."""
    parts = {
        "owner": ("agent", "attempt"),
        "outcome": (*_OUTCOME, *(_TREE if event is AttemptEnded else ())),
        "collection": _COLLECTION,
    }
    return [key for name in event.__struct_fields__ for key in parts.get(name, (name,))]


def kind(event: AnyEvent) -> str:
    """Return the name that programs know an event by: a companion's collection has one of its own."""
    tag = str(event.__struct_config__.tag)
    return f"companion_{tag}" if isinstance(event, GcRequested | GcDone) and event.owner.companion else tag


def _facts(part: Outcome | Collection, *names: str) -> dict[str, Any]:
    return {name: getattr(part, name) for name in names}


def _owner(owner: Owner) -> dict[str, Any]:
    names = ("companion", "number") if owner.companion else ("agent", "attempt")
    return dict(zip(names, (owner.name, owner.number), strict=True))


class Stream:
    """A reader of events, each written as a line. A slow or closed output does not delay the run."""

    def __init__(self, fd: int = 1, *, typed: bool = False) -> None:
        self._outlet = NonblockingWriter(fd)
        self._typed, self._encode = typed, _encode if typed else encode
        self._run = ""
        self._progress: dict[str, tuple[float, Conversation]] = {}  # by agent: when it was written last, and what
        self._shown = Shown() if os.isatty(fd) else bytes

    def __call__(self, recorded: Recorded) -> None:
        self._run = recorded.run
        self._outlet.write(self._shown(self._encode(recorded) + b"\n"))

    def observe(self, seen: Observation) -> None:
        """Write the progress of a conversation, once a second if it has changed."""
        heard = seen.conversation
        at, before = self._progress.get(seen.agent, (0.0, None))
        if heard is None or heard == before or not heard.begun or seen.sample.at - at < _PROGRESS or self._typed:
            return
        self._progress[seen.agent] = seen.sample.at, heard
        progress = AgentProgress(agent=seen.agent, attempt=seen.attempt, conversation=heard)
        self._outlet.write(self._shown(encode_progress(self._run, time.time(), progress) + b"\n"))

    @property
    def lost(self) -> OSError | None:
        return self._outlet.lost

    def close(self) -> None:
        self._outlet.close()
