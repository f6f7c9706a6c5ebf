"""What a worker of the embedded queue takes from it, and brings back."""

import os
import time
from collections.abc import Container
from pathlib import Path
from sqlite3 import Connection

import msgspec

from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue import worker_folder
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import SCHEMA, JobResult, JobState, Order, Taken
from seqsup.queue.order import poisonous
from seqsup.queue.store import Unfinished
from seqsup.state.run_folder import RUNS, surely_alive

TURN = "priority DESC, rank, number"
# SQLite's planner would read all waiting, or all ready jobs
TIMED, LINE = "jobs INDEXED BY due", "jobs INDEXED BY waits"
PROMOTE = (
    f"UPDATE {TIMED} SET state = 'ready', ready = max(added, coalesce(retried, 0), coalesce(not_before, 0))"
    " WHERE state = 'waiting' AND unmet = 0 AND not_before <= ?"
)


def head(db: Connection, number: int) -> int:
    """Return the rank before all other jobs of a job's priority that have not started."""
    least: list[int | None] = [
        db.execute(
            "SELECT min(rank) FROM jobs WHERE state = ? AND priority = (SELECT priority FROM jobs WHERE number = ?)",
            (state, number),
        ).fetchone()[0]
        for state in (JobState.READY, JobState.WAITING)
    ]
    return min([0, *(rank for rank in least if rank is not None)]) - 1


class Desk:
    """A worker's side of the queue. Only the process that has the lock of the worker's name may have one."""

    def __init__(
        self, state_dir: Path, file: QueueFile, worker: str, figures: WorkerFigures | None = None
    ) -> None:  # fmt: skip
        self._folder, self._file, self._worker = state_dir, file, worker
        self._figures = figures or WorkerFigures()

    def take(self) -> Taken | None:
        """Take the next job; None if none is ready, or the queue is paused."""
        with self._file.changing() as db:
            if self._file.rows("SELECT paused FROM door")[0][0]:
                return None
            db.execute(PROMOTE, (time.time(),))
            row = db.execute(
                f"SELECT number FROM jobs WHERE state = 'ready' AND schema <= ? ORDER BY {TURN} LIMIT 1", (SCHEMA,)
            ).fetchone()
            return None if row is None else self._hand(db, row[0], resumed=False)

    def settle(self, held: Container[int]) -> Taken | None:
        """Take over a job that a worker had when it was killed; None if there is none. This worker has those in `held`.

        It counts as lost, unless its supervisor lives. A job that was lost too often has failed.
        """
        for number, worker in self._running():
            if self._lives(number, worker, held):
                continue
            with self._file.changing() as db:
                if (number, worker) not in self._running():  # another worker was faster
                    continue
                if self._supervised(number) or not self._lose(db, number):
                    self._figures.rescue()
                    return self._hand(db, number, resumed=True)
            worker_folder.wake_all(self._folder)
        self._figures.beat()
        return None

    def _running(self) -> list[tuple[int, str]]:
        return [(number, worker) for number, worker in self._file.rows(
            "SELECT number, worker FROM jobs WHERE state = 'running' ORDER BY started, number"
        )]  # fmt: skip

    def _lives(self, number: int, worker: str, held: Container[int]) -> bool:
        return number in held if worker == self._worker else worker_folder.lives(self._folder, worker)

    def _supervised(self, number: int) -> bool:
        """Say whether the supervisor of the job's run lives."""
        ((run, folder),) = self._file.rows("SELECT run, state_dir FROM jobs WHERE number = ?", number)
        return bool(run and folder) and surely_alive(Path(folder) / RUNS / run)

    def _lose(self, db: Connection, number: int) -> bool:
        """Count a lost supervisor, and say whether the job has failed by it."""
        db.execute("UPDATE jobs SET lost = lost + 1 WHERE number = ?", (number,))
        (lost,) = db.execute("SELECT lost FROM jobs WHERE number = ?", (number,)).fetchone()
        if why := poisonous(lost):
            self._figures.give_up()
            db.execute(
                "UPDATE jobs SET state = 'failed', stop = 0, token = NULL, note = '', ended = ?, why = ?"
                " WHERE number = ?",
                (time.time(), why, number),
            )
        return bool(why)

    def _hand(self, db: Connection, number: int, *, resumed: bool) -> Taken:
        """Give a job to this worker. A job that ran before keeps the cookie of its run."""
        token = os.urandom(16).hex()
        db.execute(
            "UPDATE jobs SET state = 'running', worker = ?, token = ?, cookie = coalesce(cookie, ?), started = ?,"
            " note = '' WHERE number = ?",
            (self._worker, token, os.urandom(16).hex(), time.time(), number),
        )
        name, cookie, lost, run, retried, body = db.execute(
            "SELECT name, cookie, lost, run, retried, body FROM jobs JOIN orders USING (number) WHERE number = ?",
            (number,),
        ).fetchone()
        return Taken(
            number=number, name=name, order=msgspec.json.decode(body, type=Order), token=token, cookie=cookie,
            lost=lost, resumed=resumed or run is not None, retried=retried,
        )  # fmt: skip

    def begin(self, taken: Taken, run: str, state_dir: str) -> None:
        with self._file.changing() as db:
            self._change(db, taken, "run = ?, state_dir = ?", run, state_dir)

    def note(self, taken: Taken, text: str) -> None:
        with self._file.changing() as db:
            self._change(db, taken, "note = ?", text)

    def finish(self, taken: Taken, result: JobResult) -> bool:
        """Accept a result, and release the jobs that need this one. False: this worker does not have the job."""
        now = time.time()
        with self._file.changing() as db:
            why = "\n".join((result.why, *result.branches)).strip()
            accepted = self._change(
                db, taken, "state = ?, ended = ?, exit_code = ?, why = ?, run = coalesce(?, run), note = '', stop = 0",
                result.state, now, result.exit_code, why, result.run,
            )  # fmt: skip
            if accepted and result.state is JobState.DONE:
                _release_successors(db, taken.number, now)
                db.execute("DELETE FROM orders WHERE number = ?", (taken.number,))  # it cannot be retried
        if accepted:
            worker_folder.wake_all(self._folder)
        return accepted

    def give_back(self, taken: Taken, unfinished: Unfinished) -> None:
        """Give back a job that is not over: it is the next of its priority. One that was to end is cancelled."""
        now = time.time()
        with self._file.changing() as db:
            if not (unfinished.lost and self._has(db, taken) and self._lose(db, taken.number)):
                self._change(
                    db, taken, "state = CASE stop WHEN 0 THEN 'ready' ELSE 'cancelled' END, stop = 0, token = NULL,"
                    " ended = CASE stop WHEN 0 THEN NULL ELSE ? END, ready = ?, rank = ?, why = ?, note = ''",
                    now, now, head(db, taken.number), str(unfinished),
                )  # fmt: skip
        worker_folder.wake_all(self._folder)

    def wanted(self, taken: Taken) -> Halt:
        """Return how soon a job must end. This worker must end a job at once that it does not have."""
        found = self._file.rows(
            "SELECT stop FROM jobs WHERE number = ? AND token = ? AND state = 'running'", taken.number, taken.token
        )
        self._figures.beat()
        return Halt(found[0][0]) if found else Halt.NOW

    def _has(self, db: Connection, taken: Taken) -> bool:
        return self._change(db, taken, "token = token")

    def _change(self, db: Connection, taken: Taken, change: str, *values: object) -> bool:
        """Change a job that this worker has. False: it does not have it."""
        query = f"UPDATE jobs SET {change} WHERE number = ? AND token = ? AND state = 'running'"
        return db.execute(query, (*values, taken.number, taken.token)).rowcount > 0

    def next_time(self) -> float | None:
        """Return when the next job is due that waits for nothing but its time."""
        ((at,),) = self._file.rows(f"SELECT min(not_before) FROM {TIMED} WHERE state = 'waiting' AND unmet = 0")
        return None if at is None else float(at)

    def has_more(self) -> bool:
        """Say whether a job is running or ready, or becomes ready by itself."""
        return bool(
            self._file.rows(
                "SELECT 1 FROM jobs WHERE state IN ('running', 'ready') AND schema <= ?"
                f" UNION ALL SELECT 1 FROM {TIMED} WHERE state = 'waiting' AND unmet = 0 AND schema <= ? LIMIT 1",
                SCHEMA, SCHEMA,
            )
        )  # fmt: skip


def _release_successors(db: Connection, number: int, now: float) -> None:
    after = "SELECT job FROM needs WHERE needed = ?"
    db.execute(f"UPDATE jobs SET unmet = unmet - 1 WHERE number IN ({after})", (number,))
    db.execute(
        f"UPDATE jobs SET state = 'ready', ready = ? WHERE number IN ({after}) AND state = 'waiting' AND unmet = 0"
        " AND (not_before IS NULL OR not_before <= ?)",
        (now, number, now),
    )
