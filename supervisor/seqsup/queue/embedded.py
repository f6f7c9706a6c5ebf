"""The queue of one machine: jobs in a SQLite file of the state folder, without a server."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection

from msgspec.structs import replace

from seqsup.errors import SeqsupError
from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue import worker_folder
from seqsup.queue.address import HERE
from seqsup.queue.desk import LINE, PROMOTE, TIMED, TURN, Desk, head
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import Job, JobState, NewJob, encode, job_label
from seqsup.queue.order import needed_here, refuse_needed, why_waiting
from seqsup.queue.store import CarryOut, NoSuchJob, QueueError, WorkerStop

_SHOWN = (
    "number", "name", "state", "priority", "added", "by", "not_before", "lost", "stop", "worker", "run", "state_dir",
    "started", "ended", "exit_code", "why", "note", "cookie",
)  # fmt: skip
_LAST = 2**63 - 1  # the highest number that SQLite has


class EmbeddedQueue:
    """The jobs of one state folder. See `queue.store.Queue` for what the calls mean."""

    address = HERE

    def __init__(self, state_dir: Path) -> None:
        """Open the queue of a state folder, and create it if there is none."""
        self._folder, self._file = state_dir, QueueFile(state_dir)
        self.figures = WorkerFigures()
        self.say: Callable[[str], None] = lambda _: None

    def close(self) -> None:
        self._file.close()

    def add(self, jobs: Sequence[NewJob]) -> list[int]:
        numbers: list[int] = []
        with self._file.changing() as db:
            for job in jobs:
                numbers.append(self._add(db, job, needed_here(job.after, numbers)))
        self._wake()
        return numbers

    def _add(self, db: Connection, job: NewJob, after: Sequence[int]) -> int:
        states = {each: self._state(each) for each in after}
        refuse_needed(states)
        unmet, now = sum(state is not JobState.DONE for state in states.values()), time.time()
        waits = unmet or (job.not_before is not None and job.not_before > now)
        number = db.execute(
            "INSERT INTO jobs (name, schema, state, priority, unmet, not_before, ready, added, by)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job.name, job.order.schema, JobState.WAITING if waits else JobState.READY, job.priority, unmet,
                job.not_before, None if waits else now, now, job.by,
            ),
        ).lastrowid  # fmt: skip
        assert number is not None
        db.execute("INSERT INTO orders VALUES (?, ?)", (number, encode(job.order)))
        db.executemany("INSERT INTO needs VALUES (?, ?)", [(number, each) for each in after])
        return number

    def _state(self, number: int) -> JobState | None:
        rows = self._file.rows("SELECT state FROM jobs WHERE number = ?", number) if number <= _LAST else []
        return JobState(rows[0][0]) if rows else None

    def _must_be(self, number: int, states: Sequence[JobState], else_why: str) -> JobState:
        state = self._state(number)
        if state is None:
            last = self._file.rows("SELECT max(number) FROM jobs")[0][0]
            known = f"its last one is {job_label(last)}" if last else "it is empty"
            raise NoSuchJob(f"the queue has no job {job_label(number)}: {known}; `seqsup queue` lists all jobs")
        if state not in states:
            raise SeqsupError(f"job {job_label(number)} is {state}: {else_why}")
        return state

    # -- what it has

    def job(self, number: int) -> Job:
        self._promote()
        self._must_be(number, tuple(JobState), "")
        return self._read("WHERE number = ?", number)[0]

    def jobs(self, *, over: int = 20, waiting: int = 50) -> list[Job]:
        self._promote()
        found = self._read("WHERE state = 'running' ORDER BY started, number")
        ready = self._read(f"WHERE state = 'ready' ORDER BY {TURN} LIMIT ?", waiting)
        later = self._read(f"WHERE state = 'waiting' ORDER BY {TURN} LIMIT ?", waiting - len(ready))
        ended = self._read("INDEXED BY ends WHERE ended IS NOT NULL ORDER BY ended DESC, number DESC LIMIT ?", over)
        return [*found, *ready, *later, *ended]

    def _read(self, which: str, *values: object) -> list[Job]:
        return [self._shown(row) for row in self._file.rows(f"SELECT {', '.join(_SHOWN)} FROM jobs {which}", *values)]

    def _shown(self, row: Sequence[object]) -> Job:
        fields = dict(zip(_SHOWN, row, strict=True))
        needed = self._file.rows("SELECT needed FROM needs WHERE job = ? ORDER BY needed", fields["number"])
        wanted, state = fields.pop("stop"), JobState(str(fields.pop("state")))
        job = Job(**fields, state=state, after=tuple(each for (each,) in needed), stop_wanted=bool(wanted))  # type: ignore[arg-type]
        if state is JobState.WAITING and job.after:
            states = {each: found for each in job.after if (found := self._state(each)) is not None}
            return replace(job, why=why_waiting(job, states))
        return job

    def counts(self) -> dict[JobState, int]:
        self._promote()
        found = dict(self._file.rows("SELECT state, jobs FROM counts"))
        return {state: found[state] for state in JobState}

    def oldest_wait(self) -> float:
        self._promote()
        ((since,),) = self._file.rows(f"SELECT min(ready) FROM {LINE} WHERE state = 'ready'")
        return max(time.time() - since, 0.0) if since is not None else 0.0

    def workers(self) -> list[str]:
        return worker_folder.living(self._folder)

    def paused(self) -> bool:
        ((paused,),) = self._file.rows("SELECT paused FROM door")
        return bool(paused)

    def _promote(self) -> None:
        """Make jobs ready whose time has come, so that a list shows them so. A disk that is full prevents no list."""
        now = time.time()
        if self._file.rows(
            f"SELECT 1 FROM {TIMED} WHERE state = 'waiting' AND unmet = 0 AND not_before <= ? LIMIT 1", now
        ):
            with suppress(QueueError), self._file.changing() as db:
                db.execute(PROMOTE, (now,))

    # -- changes of a user

    def drop(self, number: int, *, now: bool = False) -> Job:
        with self._file.changing() as db:
            live = (JobState.WAITING, JobState.READY, JobState.RUNNING)
            if self._must_be(number, live, "it is over, and cannot be cancelled") is JobState.RUNNING:
                halt = Halt.NOW if now else Halt.AFTER_AGENT
                db.execute("UPDATE jobs SET stop = max(stop, ?) WHERE number = ?", (halt, number))
            else:
                db.execute(
                    "UPDATE jobs SET state = 'cancelled', ended = ?, why = 'dropped' WHERE number = ?",
                    (time.time(), number),
                )
        self._wake()
        return self.job(number)

    def first(self, number: int) -> Job:
        with self._file.changing() as db:
            self._must_be(number, (JobState.WAITING, JobState.READY), "only a job that has not started can be moved")
            db.execute("UPDATE jobs SET rank = ? WHERE number = ?", (head(db, number), number))
        return self.job(number)

    def retry(self, number: int) -> Job:
        with self._file.changing() as db:
            ended = (JobState.FAILED, JobState.CANCELLED)
            self._must_be(number, ended, "only a failed or cancelled one can be retried")
            now = time.time()
            db.execute(
                "UPDATE jobs SET ended = NULL, exit_code = NULL, why = 'retried', lost = 0, stop = 0, started = NULL,"
                " token = NULL, ready = ?, retried = ?,"
                " state = CASE WHEN unmet = 0 AND coalesce(not_before, 0) <= ? THEN 'ready' ELSE 'waiting' END"
                " WHERE number = ?",
                (now, now, now, number),
            )
        self._wake()
        return self.job(number)

    def pause(self, paused: bool) -> None:
        with self._file.changing() as db:
            db.execute("UPDATE door SET paused = ?", (paused,))
        self._wake()

    def _wake(self) -> None:
        worker_folder.wake_all(self._folder)

    # -- its worker

    async def serve(
        self, worker: str, carry_out: CarryOut, *, slots: int, until_empty: bool, open_now: Callable[[], bool],
        stop: WorkerStop,
    ) -> None:  # fmt: skip
        from seqsup.queue.serving import Worker  # `add` need not pay for asyncio

        with self._file.reading():
            lock = worker_folder.enter(self._folder, worker)
        try:
            with self._file.reading():
                pipe = worker_folder.listen(self._folder, worker)
            try:
                desk = Desk(self._folder, self._file, worker, self.figures)
                await Worker(desk, carry_out, slots, open_now, stop).serve(pipe, until_empty=until_empty)
            finally:
                os.close(pipe)
        finally:
            os.close(lock)
