"""Events as lines of JSON, flat: what `--json` streams and `seqsup events` replays."""

import time
from functools import lru_cache

import msgspec

from seqsup.model.events import Recorded
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
    return _encode(head)[:-1] + b"," + _encode(recorded.body)[1:]


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
