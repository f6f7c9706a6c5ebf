"""What it costs to read the JSON streams of agent CLIs: those that the tests have, line by line."""

import statistics
import time
from pathlib import Path

from lab import MIB, Lab, Row

from seqsup.dialects.stream import EventStream
from seqsup.dialects.transcript import Transcript

STREAMS = Path(__file__).resolve().parent.parent / "tests" / "data" / "streams"
ROUNDS = 5
LINES = 5000  # in a round
PACE = 100  # lines a second: far more than a CLI writes
LONG = 7 * MIB  # bytes of a line


def measure(lab: Lab) -> list[Row]:
    streams = {folder.name: lines_of(folder) for folder in sorted(STREAMS.iterdir())}
    figures = {cli: [read(cli, lines) for _ in range(ROUNDS)] for cli, lines in streams.items()}
    rows = [
        Row(
            f"a line of {cli}'s stream",
            figures[cli],
            "µs",
            f"{sum(map(len, lines)) / len(lines):.0f} bytes",
            target=200.0,
        )
        for cli, lines in streams.items()
    ]
    slowest = max(figures, key=lambda cli: statistics.median(figures[cli]))
    shares = [each * PACE / 10_000 for each in figures[slowest]]
    claude = b"".join(streams["claude"])
    return [
        *rows,
        Row(f"share of a core at {PACE} lines a second", shares, "%", slowest, target=2.0),
        Row(f"one line of {LONG // MIB} MiB", [long_line() for _ in range(ROUNDS)], "ms"),
        Row("1 MiB of claude's stream as text for people", [shown(claude) for _ in range(ROUNDS)], "ms"),
    ]


def lines_of(folder: Path) -> list[bytes]:
    return [line for file in sorted(folder.glob("*.ndjson")) for line in file.read_bytes().splitlines(True)[1:]]


def read(cli: str, lines: list[bytes]) -> float:
    """Return microseconds of CPU time a line, when the conversation is looked at after each."""
    stream = EventStream(cli)
    rounds = LINES // len(lines) + 1
    began = time.process_time()
    for now in range(rounds):
        for line in lines:
            stream.feed(line, float(now))
            stream.conversation  # noqa: B018
    return (time.process_time() - began) / (rounds * len(lines)) * 1e6


def long_line() -> float:
    """Return milliseconds of CPU time, when it comes in pieces of 64 KiB."""
    line = b'{"type":"result","is_error":false,"result":"' + b"0123456789abcde " * (LONG // 16) + b'"}\n'
    stream = EventStream("claude")
    began = time.process_time()
    for start in range(0, len(line), 64 * 1024):
        stream.feed(line[start : start + 64 * 1024], 0.0)
    return (time.process_time() - began) * 1000


def shown(text: bytes) -> float:
    text = text * (MIB // len(text) + 1)
    began = time.process_time()
    Transcript("claude").feed(text[:MIB])
    return (time.process_time() - began) * 1000
