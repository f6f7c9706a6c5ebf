"""Streams that the real agent CLIs wrote: tests/system/clis/record.py makes them."""

from helpers.paths import ROOT

STREAMS = ROOT / "tests" / "data" / "streams"
RECORDINGS = sorted(path.relative_to(STREAMS).with_suffix("").as_posix() for path in STREAMS.glob("*/*.ndjson"))


def recorded(name: str) -> bytes:
    """Return the stream of a recording, such as claude/turn, without the line that says what it is of."""
    return (STREAMS / f"{name}.ndjson").read_bytes().partition(b"\n")[2]
