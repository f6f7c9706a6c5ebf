"""The run of a job: however many supervisors carry it out, one after another, it is one run with one end."""

from collections.abc import Callable

from msgspec import Struct

from seqsup.model.events import RunEnded, RunStarted
from seqsup.state.journal import JournalReader, RunRow


class JobRun(Struct, frozen=True, kw_only=True):
    cookie: str  # of the run, also of one that a dead supervisor began
    since: float | None  # seconds of the epoch: an earlier end of the run does not count. None: any end counts
    wanted: Callable[[], bool]  # False: its worker has ended, so nothing may start
    lent: bool = False  # its place in the queue belongs to the worker, which gives it to several runs

    def row(self, journal: JournalReader) -> RunRow | None:
        return next((row for row in reversed(journal.runs()) if row.cookie == self.cookie), None)

    def ended(self, journal: JournalReader, row: RunRow) -> int | None:
        """Return the exit code of the run; None if it runs, or its supervisor died."""
        code: int | None = None
        for recorded in journal.events(row.run):
            if isinstance(recorded.body, RunEnded) and (self.since is None or recorded.at >= self.since):
                code = recorded.body.exit_code
            elif isinstance(recorded.body, RunStarted):
                code = None
        return code

    def over(self, journal: JournalReader, row: RunRow) -> int | None:
        """Return the exit code of a run that is not to be resumed.

        A run that was stopped is resumed: the queue still knows whether its job is to end.
        """
        code = self.ended(journal, row)
        return code if code is None or code <= 128 else None
