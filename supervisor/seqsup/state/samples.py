"""The memory of a run over time: a line a second in a file of its own.

It is not part of the journal: eight hours are 29,000 lines, which `status`, `runs` and `resume` need not read, and a
lost line does no harm. An attempt of less than a second has no line.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from seqsup.model import events
from seqsup.model.conversation import Conversation
from seqsup.model.events import MemorySampled, Recorded
from seqsup.model.process import Observation
from seqsup.model.process_names import by_program
from seqsup.state.run_folder import STDERR, STDOUT

FILE = "memory.ndjson"
_NAMED = 8  # programs in a line
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(MemorySampled).decode


class _Line(Struct):
    """Content of the next line of an attempt."""

    attempt: int
    peak: int = 0
    last: Observation | None = None  # not written yet
    programs: dict[str, int] = {}  # as of the line before
    conversation: Conversation | None = None  # as of the last line that had it


class SamplesFile:
    """Keeps one line a second for each agent that runs, with its peak since the one before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._fd: int | None = None
        self._next: dict[str, _Line] = {}  # by agent
        self._companions: dict[str, int] = {}
        self._folders: dict[str, Path] = {}  # of the attempts

    def observe(self, seen: Observation) -> None:
        line = self._next.get(seen.agent)
        if line is None or line.attempt != seen.attempt:
            line = self._next[seen.agent] = _Line(seen.attempt)
        line.peak = max(line.peak, seen.sample.used)
        line.last = seen
        if seen.processes is not None:
            line.programs = dict(islice(by_program(seen.processes).items(), _NAMED))
            self._write(line, seen)

    def weigh(self, companion: tuple[str, int]) -> None:
        name, used = companion
        self._companions[name] = used

    def __call__(self, recorded: Recorded) -> None:
        match recorded.body:
            case events.AttemptStarted(agent=agent, folder=folder):
                self._folders[agent] = self._path.parent / folder
            case events.AttemptEnded(agent=agent):
                line = self._next.pop(agent, None)
                if line is not None and line.last is not None and line.programs:  # samples after its last line
                    self._write(line, line.last)
            case events.CompanionExited(companion=companion) | events.CompanionStopped(companion=companion):
                self._companions.pop(companion, None)

    def _write(self, line: _Line, seen: Observation) -> None:
        sample, peak = seen.sample, line.peak
        news = seen.conversation if seen.conversation != line.conversation else None
        line.conversation = seen.conversation
        line.peak, line.last = 0, None
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        told = MemorySampled(
            at=time.time() - (time.monotonic() - sample.at), agent=seen.agent, attempt=seen.attempt, used=sample.used,
            peak=peak, processes=sample.processes, host_available=sample.host_available,
            programs=line.programs, heap=seen.heap, around=seen.around, companions=self._companions,
            mono=sample.at, printed=self._printed(seen.agent), conversation=news,
        )  # fmt: skip
        os.write(self._fd, _encode(told) + b"\n")

    def _printed(self, agent: str) -> tuple[int, int] | None:
        """Return how long its attempt's stdout and stderr are, for `logs --since`."""
        folder = self._folders.get(agent)
        if folder is None:
            return None
        try:
            return os.stat(f"{folder}/{STDOUT}").st_size, os.stat(f"{folder}/{STDERR}").st_size  # noqa: PTH116 (hot)
        except OSError:
            return None

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def read(folder: Path) -> Iterator[MemorySampled]:
    """Read the samples of a run in order; an unfinished last line is left out."""
    with suppress(FileNotFoundError), (folder / FILE).open("rb") as file:
        yield from lines(file)


def lines(file: BinaryIO) -> Iterator[MemorySampled]:
    """Read on in an open timeline; a line that is not whole yet is left for the next time."""
    while (line := file.readline()).endswith(b"\n"):
        with suppress(msgspec.DecodeError):
            yield _decode(line)
    file.seek(-len(line), os.SEEK_CUR)


def steady(
    history: Iterable[Recorded], samples: Iterable[MemorySampled]
) -> tuple[tuple[Recorded, ...], tuple[MemorySampled, ...]]:
    """Compute times from the calendar at the supervisor's start, and from there on by the monotonic clock."""
    recorded = tuple(_counted_on(history))
    zeros = {
        (each.body.agent, each.body.attempt): each.at - each.mono
        for each in recorded if isinstance(each.body, events.AttemptStarted)
    }  # fmt: skip
    return recorded, tuple(
        replace(each, at=zero + each.mono) if (zero := zeros.get((each.agent, each.attempt))) is not None else each
        for each in samples
    )


def _counted_on(history: Iterable[Recorded]) -> Iterator[Recorded]:
    zero, latest = None, 0.0
    for each in history:
        if isinstance(each.body, events.RunStarted):
            zero = max(each.at, latest) - each.mono
        if zero is not None and not isinstance(each.body, events.AttemptLost):  # recorded by the next supervisor
            each = replace(each, at=zero + each.mono)
            latest = each.at
        yield each
