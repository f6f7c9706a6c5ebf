"""The queue of one machine: jobs in a SQLite file of the state folder, without a server.

Each change is on the disk before its call returns. A worker holds the lock of a file with its name, so that others see
whether it lives. A pipe beside that file wakes it when a job is added.
"""

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote_from_bytes

import msgspec
from msgspec.structs import replace

from seqsup.errors import Refused, SeqsupError
from seqsup.model.enums import Halt
from seqsup.queue.address import HERE
from seqsup.queue.jobs import SCHEMA, Job, JobResult, JobState, NewJob, Order, Taken, job_label
from seqsup.queue.order import needed_here, refuse_needed, why_waiting
from seqsup.queue.store import CarryOut, NoSuchJob, QueueError, Unfinished, WorkerStop
from seqsup.state.journal_schema import PATIENCE, must_be_own, must_be_regular
from seqsup.state.run_folder import private

FILE, FORMAT = "queue.db", 1
_WORKERS, _PIPE = "workers", ".wake"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TABLES = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, body BLOB NOT NULL, schema INTEGER NOT NULL,
        state TEXT NOT NULL, priority INTEGER NOT NULL, rank INTEGER NOT NULL DEFAULT 0, unmet INTEGER NOT NULL,
        not_before REAL, added REAL NOT NULL, by TEXT NOT NULL, lost INTEGER NOT NULL DEFAULT 0,
        stop INTEGER NOT NULL DEFAULT 0, worker TEXT, token TEXT, cookie TEXT, run TEXT, state_dir TEXT, started REAL,
        ended REAL, retried REAL, exit_code INTEGER, why TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE TABLE needs (job INTEGER NOT NULL, needed INTEGER NOT NULL, PRIMARY KEY (job, needed)) WITHOUT ROWID",
    "CREATE INDEX successors ON needs (needed, job)",
    "CREATE INDEX turn ON jobs (state, priority DESC, rank, number)",
    "CREATE INDEX due ON jobs (not_before) WHERE state = 'waiting' AND unmet = 0",
    "CREATE INDEX ends ON jobs (ended) WHERE ended IS NOT NULL",
    "CREATE TABLE door (id INTEGER PRIMARY KEY CHECK (id = 1), paused INTEGER NOT NULL)",
    "INSERT INTO door VALUES (1, 0)",
)
_SHOWN = (
    "number, name, state, priority, added, by, not_before, lost, stop, worker, run, state_dir, started, ended,"
    " exit_code, why, note"
)
_IN_TURN = "priority DESC, rank, number"
_OVER = "('done', 'failed', 'cancelled')"


class EmbeddedQueue:
    """The jobs of one state folder. See `queue.store.Queue` for what the calls mean."""

    address = HERE

    def __init__(self, state_dir: Path) -> None:
        """Open the queue of a state folder, and create it if there is none."""
        must_be_own(state_dir)
        self._folder, self._path = private(state_dir), state_dir / FILE
        must_be_regular(self._path)
        with self._telling():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            name = quote_from_bytes(bytes(self._path.absolute()))
            self._db = sqlite3.connect(f"file://{name}?mode=rw", uri=True, isolation_level=None)
            self._db.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
            self._prepare()

    def _prepare(self) -> None:
        found = self._format()
        self._db.execute("PRAGMA synchronous = FULL")
        if found:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._change():
            if not self._format():  # another seqsup may have been faster
                for table in _TABLES:
                    self._db.execute(table)
                self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def _format(self) -> int:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise QueueError(f"{self._path} was written by a newer seqsup (format {found}): upgrade")
        return int(found)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn errors of SQLite and of the disk into errors with a remedy."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = getattr(error, "strerror", None) or error
            remedy = f"free space or make {self._folder} writable, or set SEQSUP_STATE_DIR to another folder"
            if isinstance(error, sqlite3.Error) and "lock" in str(error):
                remedy = f"another program holds a lock on it (`fuser {self._path}` shows which): stop it"
            elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                remedy = f"it is damaged: move it away (`mv {self._path} {self._path}.damaged`) and add the jobs again"
            raise QueueError(f"the queue {self._path} cannot be used: {why}; {remedy}") from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Make several changes at once, or none."""
        with self._telling():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    # -- what anyone may ask for

    def add(self, jobs: Sequence[NewJob]) -> list[int]:
        numbers: list[int] = []
        now = time.time()
        with self._change() as db:
            for job in jobs:
                after = needed_here(job.after, numbers)
                states = {each: self._state(each) for each in after}
                refuse_needed(states)
                unmet = sum(state is not JobState.DONE for state in states.values())
                waits = unmet or (job.not_before is not None and job.not_before > now)
                cursor = db.execute(
                    "INSERT INTO jobs (name, body, schema, state, priority, unmet, not_before, added, by)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        job.name, msgspec.json.encode(job.order), job.order.schema,
                        JobState.WAITING if waits else JobState.READY, job.priority, unmet, job.not_before, now, job.by,
                    ),
                )  # fmt: skip
                assert cursor.lastrowid is not None
                numbers.append(cursor.lastrowid)
                db.executemany("INSERT INTO needs VALUES (?, ?)", [(numbers[-1], each) for each in after])
        self._wake()
        return numbers

    def _state(self, number: int) -> JobState | None:
        row = self._db.execute("SELECT state FROM jobs WHERE number = ?", (number,)).fetchone()
        return row and JobState(row[0])

    def job(self, number: int) -> Job:
        with self._telling():
            found = self._read("WHERE number = ?", (number,))
            if not found:
                (last,) = self._db.execute("SELECT max(number) FROM jobs").fetchone()
                known = f"its last one is {job_label(last)}" if last else "it is empty"
                raise NoSuchJob(f"the queue has no job {job_label(number)}: {known}; `seqsup queue` lists all jobs")
            return found[0]

    def jobs(self, *, over: int = 20, waiting: int = 50) -> list[Job]:
        with self._telling():
            running = self._read("WHERE state = 'running' ORDER BY started")
            ready = self._read(f"WHERE state = 'ready' ORDER BY {_IN_TURN} LIMIT ?", (waiting,))
            later = self._read(
                "WHERE state = 'waiting' ORDER BY priority DESC, rank, number LIMIT ?", (waiting - len(ready),)
            )
            ended = self._read(f"WHERE ended IS NOT NULL AND state IN {_OVER} ORDER BY ended DESC LIMIT ?", (over,))
            return [*running, *ready, *later, *ended]

    def counts(self) -> dict[JobState, int]:
        with self._telling():
            found = dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in JobState}

    def oldest_wait(self) -> float:
        with self._telling():
            (added,) = self._db.execute(
                "SELECT min(max(added, coalesce(not_before, 0))) FROM jobs WHERE state = 'ready'"
            ).fetchone()
        return max(time.time() - added, 0.0) if added else 0.0

    def _read(self, which: str, values: tuple[object, ...] = ()) -> list[Job]:
        found = []
        for row in self._db.execute(f"SELECT {_SHOWN} FROM jobs {which}", values).fetchall():
            told = dict(zip(_SHOWN.split(", "), row, strict=True))
            stop = told.pop("stop")
            after = self._db.execute("SELECT needed FROM needs WHERE job = ? ORDER BY needed", (row[0],)).fetchall()
            job = Job(
                **told | {"state": JobState(told["state"])}, after=tuple(n for (n,) in after), stop_wanted=stop > 0
            )
            if job.state is JobState.WAITING and job.after:
                states = {each: state for each in job.after if (state := self._state(each)) is not None}
                job = replace(job, why=why_waiting(job, states))
            found.append(job)
        return found

    def drop(self, number: int, *, now: bool = False) -> Job:
        job = self.job(number)
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET state = 'cancelled', ended = ?, why = 'dropped' WHERE number = ?"
                " AND state IN ('waiting', 'ready')",
                (time.time(), number),
            )
            db.execute(
                "UPDATE jobs SET stop = max(stop, ?) WHERE number = ? AND state = 'running'",
                (Halt.NOW if now else Halt.AFTER_AGENT, number),
            )
        if job.state.over:
            raise SeqsupError(f"job {job.label} is over: it is {job.state}")
        self._wake()
        return self.job(number)

    def first(self, number: int) -> Job:
        job = self.job(number)
        if job.state not in (JobState.WAITING, JobState.READY):
            raise SeqsupError(f"job {job.label} is {job.state}: only a job that has not started can be moved")
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET rank = (SELECT min(rank) FROM jobs WHERE state IN ('waiting', 'ready')) - 1"
                " WHERE number = ?",
                (number,),
            )
        return self.job(number)

    def retry(self, number: int) -> Job:
        job = self.job(number)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise SeqsupError(f"job {job.label} is {job.state}: only a failed or cancelled one can be retried")
        with self._change() as db:
            db.execute(
                "UPDATE jobs SET state = CASE WHEN unmet > 0 THEN 'waiting' ELSE 'ready' END, ended = NULL, stop = 0,"
                " exit_code = NULL, why = 'retried', lost = 0, token = NULL, started = NULL, not_before = NULL,"
                f" retried = ? WHERE number = ? AND state IN {_OVER}",
                (time.time(), number),
            )
        self._wake()
        return self.job(number)

    def pause(self, paused: bool) -> None:
        with self._change() as db:
            db.execute("UPDATE door SET paused = ?", (paused,))
        self._wake()

    def paused(self) -> bool:
        with self._telling():
            (paused,) = self._db.execute("SELECT paused FROM door").fetchone()
        return bool(paused)

    def workers(self) -> list[str]:
        """Return the names of the workers that live."""
        folder = self._folder / _WORKERS
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(each.name for each in files if each.suffix != _PIPE and _held(each))

    # -- what a worker does

    def take(self, worker: str) -> Taken | None:
        """Take the next job; None if none is ready, or the queue is paused."""
        with self._change() as db:
            if self.paused():
                return None
            db.execute(
                "UPDATE jobs SET state = 'ready' WHERE state = 'waiting' AND unmet = 0 AND not_before <= ?",
                (time.time(),),
            )
            row = db.execute(
                f"SELECT number FROM jobs WHERE state = 'ready' AND schema <= ? ORDER BY {_IN_TURN} LIMIT 1", (SCHEMA,)
            ).fetchone()
            return None if row is None else self._hand(row[0], worker, resumed=False)

    def _hand(self, number: int, worker: str, *, resumed: bool) -> Taken:
        """Give a job to a worker. A job that ran before keeps the cookie of its run."""
        token, cookie = os.urandom(16).hex(), os.urandom(16).hex()
        self._db.execute(
            "UPDATE jobs SET state = 'running', worker = ?, token = ?, cookie = coalesce(cookie, ?), started = ?,"
            " lost = lost + ?, note = '' WHERE number = ?",
            (worker, token, cookie, time.time(), resumed, number),
        )
        name, body, cookie, lost, run, retried = self._db.execute(
            "SELECT name, body, cookie, lost, run, retried FROM jobs WHERE number = ?", (number,)
        ).fetchone()
        return Taken(
            number=number, name=name, order=msgspec.json.decode(body, type=Order), token=token, cookie=cookie,
            lost=lost, resumed=resumed or run is not None, retried=retried,
        )  # fmt: skip

    def settle(self, worker: str, held: Container[int]) -> Taken | None:
        """Take over a job that a worker had when it died; None if there is none. This worker has the jobs in `held`."""
        with self._change() as db:
            for number, name in db.execute("SELECT number, worker FROM jobs WHERE state = 'running'").fetchall():
                lives = number in held if name == worker else _held(self._folder / _WORKERS / name)
                if not lives:
                    return self._hand(number, worker, resumed=True)
        return None

    def begin(self, taken: Taken, run: str, state_dir: str) -> None:
        self._of_mine(taken, "run = ?, state_dir = ?", run, state_dir)

    def note(self, taken: Taken, text: str) -> None:
        self._of_mine(taken, "note = ?", text)

    def finish(self, taken: Taken, result: JobResult) -> bool:
        """Accept a result, and release the jobs that need this one. False: the job is no longer this worker's."""
        with self._change() as db:
            accepted = db.execute(
                "UPDATE jobs SET state = ?, ended = ?, exit_code = ?, why = ?, run = coalesce(?, run), note = '',"
                " stop = 0 WHERE number = ? AND token = ? AND state = 'running'",
                (
                    result.state, time.time(), result.exit_code, "\n".join((result.why, *result.branches)).strip(),
                    result.run, taken.number, taken.token,
                ),
            ).rowcount  # fmt: skip
            if accepted and result.state is JobState.DONE:
                after = "SELECT job FROM needs WHERE needed = ?"
                db.execute(f"UPDATE jobs SET unmet = unmet - 1 WHERE number IN ({after})", (taken.number,))
                db.execute(
                    f"UPDATE jobs SET state = 'ready' WHERE number IN ({after}) AND state = 'waiting' AND unmet = 0"
                    " AND (not_before IS NULL OR not_before <= ?)",
                    (taken.number, time.time()),
                )
        return bool(accepted)

    def release(self, taken: Taken, unfinished: Unfinished) -> None:
        """Give a job back that is not over: it is the next of its priority, and its run is resumed."""
        first = "(SELECT min(rank) FROM jobs WHERE state IN ('waiting', 'ready', 'running')) - 1"
        change = f"state = 'ready', token = NULL, note = '', why = ?, lost = lost + ?, rank = {first}"
        self._of_mine(taken, change, str(unfinished), unfinished.lost)

    def wanted(self, taken: Taken) -> Halt:
        """Return how soon a job must end, as its owner or another worker wants it."""
        with self._telling():
            row = self._db.execute(
                "SELECT stop FROM jobs WHERE number = ? AND token = ? AND state = 'running'",
                (taken.number, taken.token),
            ).fetchone()
        return Halt(row[0]) if row is not None else Halt.NOW

    def _of_mine(self, taken: Taken, change: str, *values: object) -> None:
        with self._change() as db:
            db.execute(
                f"UPDATE jobs SET {change} WHERE number = ? AND token = ? AND state = 'running'",
                (*values, taken.number, taken.token),
            )

    def next_time(self) -> float | None:
        """Return when the next job is due that waits for nothing but its time."""
        with self._telling():
            (at,) = self._db.execute(
                "SELECT min(not_before) FROM jobs WHERE state = 'waiting' AND unmet = 0"
            ).fetchone()
        return at and float(at)

    def can_go_on(self) -> bool:
        """Say whether a job is ready or running, or becomes ready by itself."""
        with self._telling():
            return (
                self._db.execute(
                    "SELECT 1 FROM jobs WHERE state IN ('ready', 'running') AND schema <= ?"
                    " UNION ALL SELECT 1 FROM jobs WHERE state = 'waiting' AND unmet = 0 LIMIT 1", (SCHEMA,),
                ).fetchone()
                is not None
            )  # fmt: skip

    async def serve(
        self, worker: str, carry_out: CarryOut, *, slots: int, until_empty: bool, open_now: Callable[[], bool],
        stop: WorkerStop,
    ) -> None:  # fmt: skip
        from seqsup.queue.serving import serve  # only a worker pays for asyncio

        lock = self._enter(worker)
        pipe = self._listen(worker)
        try:
            await serve(self, worker, carry_out, slots, until_empty, open_now, stop, pipe)
        finally:
            os.close(pipe)
            os.close(lock)

    def _enter(self, worker: str) -> int:
        """Take the lock of a worker's name."""
        if not _NAME.fullmatch(worker) or worker.endswith(_PIPE):
            raise SeqsupError(f'"{worker}" is no name of a worker: use letters, digits, ".", "_" and "-"')
        with self._telling():
            fd = os.open(private(self._folder / _WORKERS) / worker, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Refused(
                f"a worker named {worker} is running already; choose another name: seqsup work --name NAME"
            ) from None
        return fd

    def _listen(self, worker: str) -> int:
        path = self._folder / _WORKERS / f"{worker}{_PIPE}"
        with self._telling():
            with suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)

    def _wake(self) -> None:
        """Wake all workers that listen."""
        for path in (self._folder / _WORKERS).glob(f"*{_PIPE}"):
            with suppress(OSError):
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                try:
                    os.write(fd, b".")
                finally:
                    os.close(fd)


def _held(file: Path) -> bool:
    """Say whether a process holds the lock of a file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
