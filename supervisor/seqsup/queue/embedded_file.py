"""The file of the embedded queue: its tables, how it is opened and created, and errors with their remedies."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from seqsup.queue.jobs import JobState
from seqsup.queue.store import QueueError
from seqsup.state.journal_schema import (
    PATIENCE,
    JournalError,
    is_locked,
    make_private,
    must_be_own,
    must_be_regular,
    use_wal,
)
from seqsup.state.run_folder import private

FILE, FORMAT = "queue.db", 1
# Orders have a table of their own: SQLite reads all of a large value to find the columns behind it
_TABLES = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, schema INTEGER NOT NULL,
        state TEXT NOT NULL, priority INTEGER NOT NULL, rank INTEGER NOT NULL DEFAULT 0, unmet INTEGER NOT NULL,
        not_before REAL, ready REAL, added REAL NOT NULL, by TEXT NOT NULL, lost INTEGER NOT NULL DEFAULT 0,
        stop INTEGER NOT NULL DEFAULT 0, worker TEXT, token TEXT, cookie TEXT, run TEXT, state_dir TEXT, started REAL,
        ended REAL, retried REAL, exit_code INTEGER, why TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE TABLE orders (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE needs (job INTEGER NOT NULL, needed INTEGER NOT NULL, PRIMARY KEY (job, needed)) WITHOUT ROWID",
    "CREATE INDEX successors ON needs (needed, job)",
    "CREATE INDEX turn ON jobs (state, priority DESC, rank, number)",
    "CREATE INDEX due ON jobs (not_before) WHERE state = 'waiting' AND unmet = 0",
    "CREATE INDEX waits ON jobs (ready) WHERE state = 'ready'",
    "CREATE INDEX ends ON jobs (ended, number) WHERE ended IS NOT NULL",
    "CREATE TABLE door (id INTEGER PRIMARY KEY CHECK (id = 1), paused INTEGER NOT NULL)",
    "INSERT INTO door VALUES (1, 0)",
    # So that a list of a long queue need not count it
    "CREATE TABLE counts (state TEXT PRIMARY KEY, jobs INTEGER NOT NULL) WITHOUT ROWID",
    *(f"INSERT INTO counts VALUES ('{state}', 0)" for state in JobState),
    "CREATE TRIGGER added AFTER INSERT ON jobs BEGIN UPDATE counts SET jobs = jobs + 1 WHERE state = NEW.state; END",
    """
    CREATE TRIGGER changed AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state BEGIN
        UPDATE counts SET jobs = jobs - 1 WHERE state = OLD.state;
        UPDATE counts SET jobs = jobs + 1 WHERE state = NEW.state;
    END
    """,
)


class QueueFile:
    """An open `queue.db`."""

    def __init__(self, state_dir: Path) -> None:
        """Open the queue of a state folder, and create it if there is none."""
        self._path = state_dir / FILE
        with self.reading():
            must_be_own(state_dir)
            private(state_dir)
            for beside in ("", "-wal", "-shm", "-journal"):
                must_be_regular(state_dir / f"{FILE}{beside}")
            make_private(self._path)
            name = quote_from_bytes(bytes(self._path.absolute()))
            self._db = sqlite3.connect(f"file://{name}?mode=rw", uri=True, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
        self._db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk
        if self._format():
            return
        use_wal(self._db)
        with self.changing() as db:
            if not self._format():  # another seqsup may have been faster
                for each in _TABLES:
                    db.execute(each)
                db.execute(f"PRAGMA user_version = {FORMAT}")

    def _format(self) -> int:
        """Return its format, 0 if it is empty. QueueError: one that this seqsup does not know."""
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise QueueError(
                f"{self._path} was written by a newer seqsup (format {found}, this one knows {FORMAT}): upgrade"
            )
        if found not in (0, FORMAT):
            raise QueueError(
                f"{self._path} has the unknown format {found} (this seqsup knows {FORMAT}):"
                f" move it away (`mv {self._path} {self._path}.{found}`); seqsup creates a new queue"
            )
        return int(found)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of SQLite and of the disk into errors with a remedy."""
        try:
            yield
        except JournalError as error:
            raise QueueError(str(error)) from error
        except (sqlite3.Error, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise QueueError(f"the queue {self._path} cannot be used: {why}; {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        if is_locked(error):
            return f"another program holds a lock on it (`fuser {self._path}` shows which): stop that program"
        if isinstance(error, OSError | sqlite3.OperationalError):
            return f"free space or make {self._path.parent} writable, or set SEQSUP_STATE_DIR to another folder"
        return (
            f"if the file is damaged, move it away (`mv {self._path} {self._path}.damaged`) and report this;"
            " seqsup creates a new queue"
        )

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Make several changes at once, or none. They are on the disk when the block is left."""
        with self.reading():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.reading(), closing(self._db.execute(query, values)) as found:
            return found.fetchall()

    def close(self) -> None:
        self._db.close()
