"""The jobs in the hands of a fleet's worker, and whether it may keep them."""

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from seqsup.model.enums import Halt
from seqsup.queue.jobs import Taken
from seqsup.queue.run_output import RunOutput
from seqsup.state.run_folder import RUNS

_CUT_OFF = 0.6  # of a lease without an answer: the server may give the jobs to others once it is over
MOST_OUTPUT = 1024 * 1024  # bytes of a job that the server keeps
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Return the seconds since the machine's boot, also those that it has slept."""
    return time.clock_gettime(_CLOCK)


class Contact:
    """When the server last answered this worker, and what its lease is."""

    def __init__(self, clock: Callable[[], float] = boot_seconds) -> None:
        self.lease, self.ride_out = 120.0, False
        self._clock, self._answered = clock, clock()
        self._gap: float | None = None  # when the last gap ended

    def answered(self, asked: float) -> None:
        """Record an answer to what was asked at a time of `clock`."""
        if self.silence() > self.patience():
            self._gap = self._clock()
        self._answered = max(self._answered, asked)

    def now(self) -> float:
        return self._clock()

    def silence(self) -> float:
        """Return for how many seconds the server has not answered."""
        return self._clock() - self._answered

    def patience(self) -> float:
        """Return for how many seconds this worker keeps its agents without an answer."""
        return self.lease * _CUT_OFF

    def cut_off(self) -> bool:
        """Say whether this worker must end its agents: another machine may soon have their jobs."""
        return not self.ride_out and self.silence() > self.patience()

    def may_rescue(self) -> bool:
        """Say whether it can judge others: after a gap they have a lease to be heard of."""
        return self.silence() < self.patience() and (
            self._gap is None or self._clock() - self._gap >= self.lease
        )  # fmt: skip


class News(Struct):
    """What the server is yet to hear of a job."""

    run: str | None = None
    state_dir: str | None = None
    note: str | None = None
    output: bytes = b""

    def __bool__(self) -> bool:
        return self.run is not None or self.note is not None or bool(self.output)

    def followed_by(self, later: "News") -> "News":
        """Return all of it, the later where both tell."""
        return News(
            run=later.run or self.run, state_dir=later.state_dir or self.state_dir,
            note=self.note if later.note is None else later.note, output=(self.output + later.output)[-MOST_OUTPUT:],
        )  # fmt: skip


class Held:
    """A job in a worker's hands: the Lease of its CarryOut."""

    def __init__(
        self, token: int, contact: Contact, poke: Callable[[], None], lease_file: Path | None = None
    ) -> None:  # fmt: skip
        self.token, self.lease_file = token, lease_file
        self.taken: Taken  # set by the claim
        self.news = News()
        self.stop = Halt.NONE
        self.void = False  # another worker has the job, or may have it
        self.given_up = False  # this worker ends it, since it heard nothing of the server
        self._contact, self._poke = contact, poke
        self._output: RunOutput | None = None

    def begin(self, run: str, state_dir: str) -> None:
        self.news.run, self.news.state_dir = run, state_dir
        self._output = RunOutput(Path(state_dir) / RUNS / run)
        self._poke()

    def note(self, text: str) -> None:
        self.news.note = text

    def read_output(self) -> None:
        """Make news of what the job has printed, for readers on other machines."""
        while self._output is not None and (printed := self._output.read(MOST_OUTPUT)):
            self.news = self.news.followed_by(News(output=printed))

    @property
    def claimed(self) -> bool:
        return hasattr(self, "taken")

    def hear(self, stop: int | None) -> None:
        """Take what the queue wants of the job. None: it is not this worker's."""
        if stop is not None:
            self.stop = Halt(max(self.stop, stop))
        elif self.claimed:
            self.void = True

    def wanted(self) -> Halt:
        self.given_up = self.given_up or (not self.void and self._contact.cut_off())
        return Halt.NOW if self.void or self.given_up else self.stop
