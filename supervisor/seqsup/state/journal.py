"""The truth on disk: every event of every run of one state folder, in one SQLite file.

Written before any other reader hears of an event. A power cut loses nothing that started an attempt, or ended one
before the supervisor waited again (those commits reach the disk); a killed supervisor loses nothing but what it told
since it last waited, and no start or end of an attempt.
"""

import os
import sqlite3
import stat
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from urllib.parse import quote_from_bytes

import msgspec
from msgspec import Struct

from seqsup.errors import NO_ROOM, SeqsupError, Stopped
from seqsup.model.events import AnyEvent, AttemptEnded, AttemptLost, AttemptStarted, Recorded, RunEnded, RunStarted
from seqsup.policy.learning import Past
from seqsup.state.run_folder import fallocate, label, private

FILE = "journal.db"
FORMAT = 2
DURABLE = (RunStarted, AttemptStarted, AttemptEnded, AttemptLost, RunEnded)
# An AttemptStarted sets out for the disk at once, and is there with the next flush: its process is started after that.
# An AttemptEnded, written at once, reaches the disk with the next of them, or before the next wait: a power cut in
# those milliseconds is one in which the agent had not ended yet. An AgentEnded adds nothing to it.

_TABLES = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, profile TEXT,
    cookie TEXT NOT NULL UNIQUE, pid INTEGER NOT NULL, started REAL NOT NULL, sum INTEGER
);
CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs, seq INTEGER NOT NULL, at REAL NOT NULL, mono REAL NOT NULL,
    body TEXT NOT NULL, sum INTEGER, PRIMARY KEY (run, seq)
) WITHOUT ROWID;
"""
# What attempts came to, by agent: it outlives its run's events, and an expectation is one look
_ATTEMPTS = """
CREATE TABLE attempts (
    profile TEXT NOT NULL, agent TEXT NOT NULL, run INTEGER NOT NULL, attempt INTEGER NOT NULL, content TEXT NOT NULL,
    reason TEXT NOT NULL, ok INTEGER NOT NULL, seconds REAL NOT NULL, peak INTEGER NOT NULL,
    PRIMARY KEY (profile, agent, run, attempt)
) WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE events ADD COLUMN sum INTEGER;
ALTER TABLE runs ADD COLUMN sum INTEGER;
INSERT OR IGNORE INTO attempts
SELECT coalesce(profile, ''), json_extract(body, '$.agent'), run, json_extract(body, '$.attempt'),
    json_extract(body, '$.content'), json_extract(body, '$.reason'), json_extract(body, '$.ok'),
    json_extract(body, '$.seconds'), json_extract(body, '$.peak')
FROM events JOIN runs USING (run) WHERE json_extract(body, '$.event') = 'attempt_ended';
"""
_WHOLE = 32 * 1024**2  # bytes up to which a start looks at every page: 50 ms. Damage beyond is found when it is read
_REMEMBERED = 50  # attempts of an agent
_AT_ONCE = 500  # events
_KEEP_SIZE = 0x1  # FALLOC_FL_KEEP_SIZE
_ROOM = 256 * 1024  # bytes: thirty writes or more, and an attempt's end with what follows is five
_AHEAD = 1024 * 1024  # bytes reserved at a time: the WAL mostly begins anew before it needs more
_PATIENCE = 10.0  # seconds for which another program may keep it locked
_PATIENT, _IMPATIENT = f"PRAGMA busy_timeout = {_PATIENCE * 1000:.0f}", "PRAGMA busy_timeout = 0"
_WRITTEN_ANEW = 200  # pages after which the WAL begins anew: written in place it is on the disk a third sooner
_reach_disk = getattr(os, "fdatasync", os.fsync)  # macOS has it not
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


def kept(state_dir: Path) -> bool:
    """Say whether a state folder has a journal; JournalError where that cannot be known."""
    path = state_dir / FILE
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(_trouble(path, error)) from error
    if not stat.S_ISREG(mode):  # a pipe would wait for ever
        raise JournalError(f"the journal {path} is no regular file: set it aside, or set SEQSUP_STATE_DIR to another")
    return True


class RunRow(Struct, frozen=True):
    run: int
    name: str
    profile: str | None
    cookie: str
    pid: int
    started: float


class Journal:
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._wal = path, f"{path}-wal"
        self._wal_fd: int | None = None
        self._reserved = 0  # bytes of the WAL that have their room on the disk
        self._db = connection
        self._last: dict[int, int] = {}
        self._unwritten: list[tuple[int, int, float, float, str, int]] = []
        self._ended: list[tuple[object, ...]] = []  # for `attempts`, to be written with them
        self._locked = inf  # monotonic seconds, since when another program keeps it locked
        self._profiles: dict[int, str] = {}  # by run
        (self._format,) = connection.execute("PRAGMA user_version").fetchone()
        self._summed = "sum" if self._format > 1 else "NULL"
        self._inode = path.stat().st_ino
        weakref.finalize(self, connection.close)  # a reader just lets it go, which Python warns of from 3.13 on

    @staticmethod
    def open(state_dir: Path, *, write: bool = False) -> "Journal":
        """Open the journal of a state folder; with `write` it is made where there is none."""
        path = state_dir / FILE
        there = kept(state_dir)
        if not write and not there:
            raise NoJournal(f"nothing ever ran here, there is no {path}; `seqsup start PROFILE` makes one")
        try:
            if write:
                private(state_dir)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            mode = "rw" if write else "ro&immutable=1" if _sealed(path) else "ro"
            name = quote_from_bytes(bytes(path.absolute()))  # as_uri() of Python 3.14 loads urllib.request, and TLS
            db = sqlite3.connect(f"file://{name}?mode={mode}", uri=True, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(_trouble(path, error)) from error
        try:
            db.execute(_PATIENT)
            found = _format(path, db)
            if there and not found and any(path.parent.glob("runs/r*")):
                raise sqlite3.DatabaseError("it is empty, though runs were kept here")
            if not found and not write:  # its making was cut short, or goes on
                raise NoJournal(f"nothing ever ran here: {path} is empty")
            if write:
                _prepare(path, db, found)
        except sqlite3.Error as error:
            db.close()
            raise JournalError(_trouble(path, error)) from error
        except JournalError:
            db.close()
            raise
        return Journal(path, db)

    @contextmanager
    def _telling(self, kind: type[JournalError] = JournalError) -> Iterator[None]:
        """Tell what SQLite refuses."""
        try:
            yield
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise kind(_trouble(self._path, error)) from error

    def begin(
        self, name: str, profile: str | None, cookie: str, claim: Callable[[int], object] = lambda _: None
    ) -> int:  # fmt: skip
        """Give a new run its number. Nobody else hears of it before `claim` has."""
        row = (name, profile, cookie, os.getpid(), time.time(), _sum_of(name, profile, cookie))
        with self._telling(), self._db:
            self._db.execute("BEGIN")
            cursor = self._db.execute(
                "INSERT INTO runs (name, profile, cookie, pid, started, sum) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            assert cursor.lastrowid is not None
            claim(cursor.lastrowid)
        self._sync(JournalError)
        return cursor.lastrowid

    def adopt(self, row: RunRow, name: str, profile: str | None) -> None:
        """Note that this process goes on with a run that another began, perhaps under another name and path."""
        now = (name, profile, os.getpid(), _sum_of(name, profile, row.cookie), row.run)
        with self._telling(), self._db:
            self._db.execute("BEGIN")
            self._db.execute("UPDATE runs SET name = ?, profile = ?, pid = ?, sum = ? WHERE run = ?", now)
            if profile != row.profile:  # it was moved, and what is known of its agents goes with it
                moved = (profile or "", row.profile or "")
                self._db.execute("UPDATE OR REPLACE attempts SET profile = ? WHERE profile = ?", moved)

    def append(self, run: int, event: AnyEvent) -> Recorded:
        """Note one event; what must reach the disk is there on return, with all that was noted before it.
        The rest is written by the next flush.

        JournalLost when it could not be, and then nobody may act on it. Stopped when an attempt's end would find no
        room, and then it must not start.
        """
        if isinstance(event, AttemptStarted):
            self._reserve()
        at, mono, seq = time.time(), time.monotonic(), self._next(run)
        self._last[run] = seq
        text = _encode(event).decode()
        self._unwritten.append((run, seq, at, mono, text, _sum_of(run, seq, text)))
        if isinstance(event, AttemptEnded):
            self._ended.append(
                (self._profile(run), event.agent, run, event.attempt, event.content, event.outcome.reason, event.ok,
                 event.outcome.seconds, event.outcome.peak)
            )  # fmt: skip
        if isinstance(event, DURABLE):
            self._write()
            self._sync()
        return Recorded(run=label(run), seq=seq, at=at, mono=mono, body=event)

    def flush(self) -> None:
        """Write what was noted, which may reach the disk later.

        JournalLost when it could not be.
        """
        if self._unwritten:
            self._write()

    def flush_unless_locked(self) -> bool:
        """The same, but False at once while another program keeps the journal locked, which no watch may wait for.

        Then a later one writes it all. JournalLost where it is locked for ten seconds.
        """
        if not (rows := self._unwritten):
            self.flush()
            return True
        numbers = dict(self._last)
        self._db.execute(_IMPATIENT)
        try:
            self.flush()
        except JournalLost as error:
            now = time.monotonic()
            self._locked = min(self._locked, now)
            if not _is_locked(error.__cause__) or now - self._locked > _PATIENCE:
                raise
            self._unwritten, self._last = rows, numbers
            return False
        finally:
            self._db.execute(_PATIENT)
        self._locked = inf
        return True

    def _write(self) -> None:
        rows, self._unwritten = self._unwritten, []
        ended, self._ended = self._ended, []
        if not self._in_place():
            raise JournalLost(f"the journal {self._path} was removed or replaced while the run went on")
        try:
            with self._db:
                if len(rows) + len(ended) > 1:
                    self._db.execute("BEGIN")
                self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
                if ended:
                    self._db.executemany("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", ended)
        except sqlite3.Error as error:
            self._last.clear()  # those numbers are free again
            raise JournalLost(_trouble(self._path, error)) from error

    def _sync(self, kind: type[JournalError] = JournalLost) -> None:
        """Have all that was written reach the disk. SQLite would do so with `synchronous = FULL`, but to switch that
        on and off takes longer than half of these commits."""
        try:
            if self._wal_fd is None:
                self._wal_fd = os.open(self._wal, os.O_RDWR)
            _reach_disk(self._wal_fd)
        except OSError as error:
            raise kind(_trouble(self._path, error)) from error

    def _reserve(self) -> None:
        """Have room for an attempt's end before it starts: whoever fills the disk meanwhile, that can be written.

        It is the WAL's own, beyond its end: nobody can take it, and no reader sees it. A filesystem that knows no such
        thing promises nothing, nor does one that copies on write, but for files that it was told not to (chattr +C).
        """
        try:
            written = os.stat(self._wal).st_size  # noqa: PTH116 (hot)
            if written + _ROOM <= self._reserved:
                return
            fd = os.open(self._wal, os.O_WRONLY)
            try:
                fallocate(fd, _KEEP_SIZE, 0, written + _AHEAD)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in NO_ROOM:
                why = f"the journal {self._path} has no room for another agent's end: {error.strerror}"
                raise Stopped(f"{why}; free space in {self._path.parent}") from error
        else:
            self._reserved = written + _AHEAD

    def _in_place(self) -> bool:
        """Say whether the file that is open is still the one that others will read."""
        try:
            return os.stat(self._path).st_ino == self._inode  # noqa: PTH116 (hot)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JournalLost(f"the journal {self._path} cannot be reached any more: {error.strerror}") from error

    def _next(self, run: int) -> int:
        if run not in self._last:
            self._last[run] = self._latest(run, JournalLost)
        return self._last[run] + 1

    def check(self) -> None:
        """Read it all; JournalError says what is damaged."""
        with self._telling():
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            for row in self.runs():
                for _ in self.events(row.run):
                    pass

    def runs(self) -> list[RunRow]:
        """Every run, oldest first."""
        with self._telling():
            rows = self._db.execute(
                f"SELECT run, name, profile, cookie, pid, started, {self._summed} FROM runs ORDER BY run"
            ).fetchall()
            for run, name, profile, cookie, *_, said in rows:
                if said not in (None, _sum_of(name, profile, cookie)):
                    raise sqlite3.DatabaseError(f"the entry of {label(run)} is not as it was written")
            return [RunRow(*row[:-1]) for row in rows]

    def events(self, run: int, after: int = 0) -> Iterator[Recorded]:
        """Read a run's events with seq > after, in order, as many as there are now.

        A few at a time: as long as a read goes on, and whoever asks may stop in its midst, the WAL cannot begin anew.
        """
        self.flush()
        last = self._latest(run)
        while rows := self._some(run, after, last):
            for seq, at, mono, body, said in rows:
                after += 1
                with self._telling():
                    if seq != after or said not in (None, _sum_of(run, seq, body)):
                        raise sqlite3.DatabaseError(f"event {after} of {label(run)} is not as it was written")
                    event = _decode(body)
                yield Recorded(run=label(run), seq=seq, at=at, mono=mono, body=event)

    def _some(self, run: int, after: int, last: int) -> list[tuple[int, float, float, str, int | None]]:
        with self._telling():
            return self._db.execute(
                f"SELECT seq, at, mono, body, {self._summed} FROM events WHERE run = ? AND seq > ? AND seq <= ?"
                f" ORDER BY seq LIMIT {_AT_ONCE}",
                (run, after, last),
            ).fetchall()

    def _latest(self, run: int, kind: type[JournalError] = JournalError) -> int:
        """The number of a run's last event; 0 where there is none."""
        with self._telling(kind):
            (last,) = self._db.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
        return last or 0

    def past(self, profile: str | None, agent: str) -> list[Past]:
        """What an agent's last attempts came to, in this run and those before, the latest first."""
        if self._format < 2:
            return []
        self.flush()
        with self._telling():
            rows = self._db.execute(
                "SELECT run, attempt, content, reason, ok, seconds, peak FROM attempts"
                f" WHERE profile = ? AND agent = ? ORDER BY run DESC, attempt DESC LIMIT {_REMEMBERED}",
                (profile or "", agent),
            )
            return [
                Past(run, attempt, content, reason, bool(ok), *rest)
                for run, attempt, content, reason, ok, *rest in rows
            ]

    def last_heard(self, run: int) -> float | None:
        """When a run's last event was told, in seconds since the epoch; None where nothing was."""
        with self._telling():
            row = self._db.execute("SELECT at FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)).fetchone()
        return row and float(row[0])

    def forget(self, run: int) -> None:
        """Take a run out, events and all; what its attempts came to is kept, as far as it is still looked at."""
        self.flush()
        with self._telling(), self._db:
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM events WHERE run = ?", (run,))
            agents = self._db.execute("SELECT DISTINCT profile, agent FROM attempts WHERE run = ?", (run,))
            for profile, agent in agents.fetchall():
                last = self.past(profile, agent)[-1:]
                if last and last[0].run > run:  # pushed out by later ones
                    self._db.execute(
                        "DELETE FROM attempts WHERE profile = ? AND agent = ? AND run <= ?", (profile, agent, run)
                    )
            self._db.execute("DELETE FROM runs WHERE run = ?", (run,))
        self._sync(JournalError)

    def _profile(self, run: int) -> str:
        if run not in self._profiles:
            with self._telling(JournalLost):
                row = self._db.execute("SELECT profile FROM runs WHERE run = ?", (run,)).fetchone()
            self._profiles[run] = (row and row[0]) or ""
        return self._profiles[run]

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._db.close()
            if self._wal_fd is not None:
                os.close(self._wal_fd)
                self._wal_fd = None


def _format(path: Path, db: sqlite3.Connection) -> int:
    """Ask for it before anything is written: what a newer seqsup wrote stays as it is."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise JournalError(f"{path} was written by a newer seqsup (format {found}, this one knows {FORMAT}): upgrade")
    return int(found)


def _prepare(path: Path, db: sqlite3.Connection, found: int) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")  # else see _sync
    db.execute(f"PRAGMA wal_autocheckpoint = {_WRITTEN_ANEW}")
    if found == FORMAT:
        _look_for_damage(path, db)
        return
    # BEGIN EXCLUSIVE: two seqsups may meet here, and the other was faster
    db.execute("BEGIN EXCLUSIVE")
    (found,) = db.execute("PRAGMA user_version").fetchone()
    steps = {0: _TABLES + _ATTEMPTS, 1: _ATTEMPTS + _FROM_1}.get(found, "")
    for step in filter(str.strip, steps.split(";")):
        db.execute(step)
    if not found:
        _begin_above(path, db)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def _begin_above(path: Path, db: sqlite3.Connection) -> None:
    """Number runs from where the folders end: a journal that was set aside had them, and they are not to be mixed."""
    numbers = [int(entry.name[1:]) for entry in path.parent.glob("runs/r*") if entry.name[1:].isdigit()]
    if numbers:
        db.execute("INSERT INTO sqlite_sequence VALUES ('runs', ?)", (max(numbers),))


def _sealed(path: Path) -> bool:
    """Whether nobody can write here, and nobody left off in the midst of it. SQLite reads that only when told so."""
    rest = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and not (rest.exists() and rest.stat().st_size)


def _look_for_damage(path: Path, db: sqlite3.Connection) -> None:
    tables = [""] if path.stat().st_size <= _WHOLE else ["(runs)", "(sqlite_schema)"]
    for table in tables:
        (verdict,) = db.execute(f"PRAGMA quick_check{table}").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)


def _sum_of(*values: object) -> int:
    """What shows that a row is as it was written, and in its place."""
    return zlib.crc32("/".join(map(str, values)).encode())


def _trouble(path: Path, error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"the journal {path} cannot be used: {why}; {_remedy(path, error)}"


def _is_locked(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _remedy(path: Path, error: Exception) -> str:
    folder = path.parent
    blocking = next(each for each in path.parents if os.path.exists(each))  # noqa: PTH110 (Path's raises at EACCES)
    if not blocking.is_dir():
        return f"{blocking} is no folder: set SEQSUP_STATE_DIR, or run.state_dir, to one"
    if isinstance(error, OSError):
        return f"free space or make {folder} writable, or set SEQSUP_STATE_DIR to another"
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"free space or make {folder} writable; a run that had begun then goes on with --resume"
    if _is_locked(error):
        return f"another program keeps it locked (`fuser {path}` says which): end that, then use --resume"
    if name.startswith("SQLITE_IOERR"):
        why = f"{folder} could not be read or written"  # also where a full disk has no room for what is beside the file
        return f"{why}: free space there, look at `ulimit -f` and at the kernel's log, then use --resume"
    return f"if the file is damaged, set it aside (mv {path} {path}.damaged; a new one is made) and tell us"
