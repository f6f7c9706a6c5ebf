"""Totals carried from run to run.

A textfile, or a Pushgateway, shows the last run only: its counters would begin at 0 with each, and three kills in each
of two runs would be no increase at all.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from seqsup.metrics.catalogue import BY_NAME
from seqsup.metrics.figures import Histogram
from seqsup.metrics.rows import Row
from seqsup.state.run_folder import private, write_private

# These stay although this run has none
_LASTING = ("run_last_success_timestamp_seconds", "agent_last_success_timestamp_seconds")
_NOT_OURS = "host_"


class Total(Struct, frozen=True, array_like=True):
    name: str
    labels: tuple[str, ...]
    value: float | Histogram


class Totals:
    """What earlier runs of one profile have come to, in a file of the state folder."""

    def __init__(self, state_dir: Path, profile: str) -> None:
        self._path = state_dir / "metrics" / f"{profile}.json"
        self._before: dict[tuple[str, tuple[str, ...]], float | Histogram] = {}
        with suppress(OSError, msgspec.DecodeError):  # none yet, or torn by a power cut: they begin anew
            totals = msgspec.json.decode(self._path.read_bytes(), type=list[Total])
            self._before = {(total.name, total.labels): total.value for total in totals}

    def added(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows of this run with what was before."""
        lasting = {key: value for key, value in self._before.items() if key[0] in _LASTING}
        for name, labels, value in rows:
            lasting.pop((name, labels), None)
            before = self._before.get((name, labels), 0) if _is_total(name) else 0
            yield name, labels, _sum(value, before)
        yield from ((name, labels, value) for (name, labels), value in lasting.items())

    def keep(self, rows: Iterable[Row]) -> None:
        """Write down what `added` has given, before anyone is shown it."""
        kept = {key: value for key, value in self._before.items() if _is_total(key[0])}  # agents of an earlier profile
        kept |= {(name, labels): value for name, labels, value in rows if _is_total(name) or name in _LASTING}
        private(self._path.parent)
        new = self._path.with_suffix(".new")
        told = [(name, labels, value) for (name, labels), value in kept.items()]
        write_private(new, msgspec.json.encode(told).decode())
        new.replace(self._path)


def _is_total(name: str) -> bool:
    return BY_NAME[name].kind != "gauge" and not name.startswith(_NOT_OURS)


def _sum(value: float | Histogram, before: float | Histogram) -> float | Histogram:
    if isinstance(value, Histogram):
        if not isinstance(before, Histogram) or len(before.counts) != len(value.counts):
            return value
        counts = tuple(one + other for one, other in zip(value.counts, before.counts, strict=True))
        return Histogram(counts, value.sum + before.sum)
    return value + before if not isinstance(before, Histogram) else value
