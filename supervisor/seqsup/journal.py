"""The truth on disk: every event of every run of one state folder, in one SQLite file.

Written before any other reader hears of an event. A power cut loses nothing that started or ended an attempt
(those commits reach the disk); a killed supervisor loses nothing but what it told since it last waited.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from .events import AnyEvent, AttemptEnded, AttemptLost, AttemptStarted, Recorded, RunEnded, RunStarted
from .folder import label, private
from .model import SeqsupError

FILE = "journal.db"
FORMAT = 1
# An AgentEnded reaches the disk with the next of them: until then nothing is done, and AttemptEnded has said it all
DURABLE = (RunStarted, AttemptStarted, AttemptEnded, AttemptLost, RunEnded)

_TABLES = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, profile TEXT,
    cookie TEXT NOT NULL UNIQUE, pid INTEGER NOT NULL, started REAL NOT NULL
);
CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs, seq INTEGER NOT NULL, at REAL NOT NULL, mono REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (run, seq)
) WITHOUT ROWID;
"""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyEvent).decode


class JournalError(SeqsupError):
    """The journal cannot be read or written: nothing is started, or what runs is stopped."""

    exit_code = 3


class JournalLost(JournalError):
    """The journal could not be written in the midst of a run."""

    exit_code = 4


class NoJournal(JournalError):
    """Nothing ever ran here."""


class RunRow(Struct, frozen=True):
    run: int
    name: str
    profile: str | None
    cookie: str
    pid: int
    started: float


class Journal:
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection
        self._last: dict[int, int] = {}
        self._unwritten: list[tuple[int, int, float, float, str]] = []
        self._inode = path.stat().st_ino

    @staticmethod
    def open(state_dir: Path, *, write: bool = False) -> "Journal":
        """Open the journal of a state folder; with `write` it is made where there is none."""
        path = state_dir / FILE
        if not write and not path.exists():
            raise NoJournal(f"nothing ever ran here: {path} does not exist")
        try:
            if write:
                private(state_dir)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            mode = "rw" if write else "ro"
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(_trouble(path, error)) from error
        try:
            db.execute("PRAGMA busy_timeout = 10000")
            found = _format(path, db)
            if write:
                _prepare(db, found)
        except sqlite3.Error as error:
            db.close()
            raise JournalError(_trouble(path, error)) from error
        except JournalError:
            db.close()
            raise
        return Journal(path, db)

    def begin(self, name: str, profile: str | None, cookie: str) -> int:
        """Give a new run its number."""
        row = (name, profile, cookie, os.getpid(), time.time())
        try:
            cursor = self._db.execute(
                "INSERT INTO runs (name, profile, cookie, pid, started) VALUES (?, ?, ?, ?, ?)", row
            )
        except sqlite3.Error as error:
            raise JournalError(_trouble(self._path, error)) from error
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def adopt(self, run: int) -> None:
        """Note that this process goes on with a run that another began."""
        try:
            self._db.execute("UPDATE runs SET pid = ? WHERE run = ?", (os.getpid(), run))
        except sqlite3.Error as error:
            raise JournalError(_trouble(self._path, error)) from error

    def append(self, run: int, event: AnyEvent) -> Recorded:
        """Note one event; what must reach the disk is there on return, with all that was noted before it.

        The rest is written by the next `flush`, which comes before the supervisor waits for anything.
        JournalLost when it could not be, and then nobody may act on it.
        """
        at, mono = time.time(), time.monotonic()
        try:
            seq = self._last[run] = self._next(run)
        except sqlite3.Error as error:
            raise JournalLost(_trouble(self._path, error)) from error
        self._unwritten.append((run, seq, at, mono, _encode(event).decode()))
        if isinstance(event, DURABLE):
            self._write(durably=True)
        return Recorded(run=label(run), seq=seq, at=at, mono=mono, body=event)

    def flush(self) -> None:
        """Write what was noted; it may reach the disk later. JournalLost when it could not be."""
        if self._unwritten:
            self._write(durably=False)

    def _write(self, *, durably: bool) -> None:
        rows, self._unwritten = self._unwritten, []
        if not self._in_place():
            raise JournalLost(f"the journal {self._path} was removed or replaced while the run went on")
        try:
            if not durably:
                self._db.execute("PRAGMA synchronous = NORMAL")
            with self._db:
                if len(rows) > 1:
                    self._db.execute("BEGIN")
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
            if not durably:
                self._db.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            self._last.clear()  # those numbers are free again
            raise JournalLost(_trouble(self._path, error)) from error

    def _in_place(self) -> bool:
        """Say whether the file that is open is still the one that others will read."""
        try:
            return os.stat(self._path).st_ino == self._inode  # noqa: PTH116 (hot)
        except FileNotFoundError:
            return False

    def _next(self, run: int) -> int:
        if run not in self._last:
            (last,) = self._db.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
            self._last[run] = last or 0
        return self._last[run] + 1

    def check(self) -> None:
        """Read it all; JournalError says what is damaged."""
        try:
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            for row in self.runs():
                for _ in self.events(row.run):
                    pass
        except sqlite3.Error as error:
            raise JournalError(_trouble(self._path, error)) from error

    def runs(self) -> list[RunRow]:
        """Every run, oldest first."""
        try:
            rows = self._db.execute("SELECT run, name, profile, cookie, pid, started FROM runs ORDER BY run")
            return [RunRow(*row) for row in rows]
        except sqlite3.Error as error:
            raise JournalError(_trouble(self._path, error)) from error

    def events(self, run: int, after: int = 0) -> Iterator[Recorded]:
        """Read a run's events with seq > after, in order."""
        self.flush()
        try:
            rows = self._db.execute(
                "SELECT seq, at, mono, body FROM events WHERE run = ? AND seq > ? ORDER BY seq", (run, after)
            )
            for seq, at, mono, body in rows:
                yield Recorded(run=label(run), seq=seq, at=at, mono=mono, body=_decode(body))
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise JournalError(_trouble(self._path, error)) from error

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._db.close()


def _format(path: Path, db: sqlite3.Connection) -> int:
    """Ask for it before anything is written: what a newer seqsup wrote stays as it is."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise JournalError(f"{path} was written by a newer seqsup (format {found}, this one knows {FORMAT}): upgrade")
    return int(found)


def _prepare(db: sqlite3.Connection, found: int) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if not found:
        # BEGIN EXCLUSIVE: two seqsups may meet here on the very first start
        db.executescript(
            "BEGIN EXCLUSIVE;" + _TABLES.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
            + f"PRAGMA user_version = {FORMAT}; COMMIT;"
        )  # fmt: skip
        return
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _trouble(path: Path, error: Exception) -> str:
    full = "disk is full" in str(error) or isinstance(error, OSError)
    remedy = (
        f"free space or make {path.parent} writable, then go on with --resume"
        if full or "readonly" in str(error)
        else f"if the file is damaged, set it aside (mv {path} {path}.damaged; a new one is made) and tell us"
    )
    return f"the journal {path} cannot be used: {error}; {remedy}"
