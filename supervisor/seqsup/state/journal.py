"""The truth on disk: every event of every run of one state folder, in one SQLite file.

Written before any other reader hears of an event. A power cut loses no start and no end of an attempt: those commits
reach the disk. What the file does not take is kept beside it, see `unwritten`. A killed supervisor loses at most what
happened in the ten seconds for which it waited for another program that kept the file locked.
"""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from math import inf
from pathlib import Path

import msgspec
from msgspec import Struct

from seqsup.errors import SeqsupError, Stopped
from seqsup.model.events import (
    AnyEvent,
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    Recorded,
    RunEnded,
    RunStarted,
    SessionReported,
    WorkspaceDue,
    WorkspaceOpened,
)
from seqsup.policy.learning import Past
from seqsup.state import journal_schema
from seqsup.state.journal_schema import FILE, PATIENCE, JournalError, JournalLost, Wal
from seqsup.state.run_folder import label
from seqsup.state.unwritten import Noted, Unwritten, decode, insert, read_back, sum_of, waits

# These are on the disk when append() returns. An AgentEnded adds nothing to the end of its last attempt.
DURABLE = (
    RunStarted, AttemptStarted, SessionReported, WorkspaceDue, WorkspaceOpened, AttemptEnded, AttemptLost, RunEnded,
)  # fmt: skip
_LAST_EVENTS = """
SELECT at, body FROM runs JOIN events USING (run)
WHERE name = ? AND seq = (SELECT max(seq) FROM events AS other WHERE other.run = runs.run) ORDER BY run DESC
"""
_REMEMBERED = 50  # attempts of an agent
_AT_ONCE = 500  # events
_encode = msgspec.json.Encoder().encode


class RunRow(Struct, frozen=True):
    run: int
    name: str
    profile: str | None
    cookie: str
    pid: int
    started: float


class JournalReader:
    """Runs, events and past attempts in the journal."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._db = path, connection
        weakref.finalize(self, connection.close)  # a reader just lets it go, which Python warns of from 3.13 on

    @contextmanager
    def _telling(self, kind: type[JournalError] = JournalError) -> Iterator[None]:
        """Turn errors of SQLite into errors with a remedy."""
        try:
            yield
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise kind(journal_schema.trouble(self._path, error)) from error

    def flush(self) -> None:
        """A reader has nothing to write."""

    def check(self) -> None:
        """Read all of it; JournalError names the damage."""
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
                "SELECT run, name, profile, cookie, pid, started, sum FROM runs ORDER BY run"
            ).fetchall()
            for run, name, profile, cookie, *_, said in rows:
                if said != sum_of(name, profile, cookie):
                    raise sqlite3.DatabaseError(f"the entry of {label(run)} is damaged")
            return [RunRow(*row[:-1]) for row in rows]

    def events(self, run: int, after: int = 0) -> Iterator[Recorded]:
        """Read a run's events with seq > after, in order, as many as there are now.

        A few at a time: the WAL cannot restart during a read, and the caller may stop in the middle of one.
        """
        self.flush()
        last = self._latest(run)
        while rows := self._some(run, after, last):
            for seq, at, mono, body, said in rows:
                after += 1
                with self._telling():
                    if seq != after or said != sum_of(run, seq, body):
                        raise sqlite3.DatabaseError(f"event {after} of {label(run)} is damaged")
                    event = decode(body)
                yield Recorded(run=label(run), seq=seq, at=at, mono=mono, body=event)
        with self._telling():
            if after < last <= self._latest(run):  # else the run was removed meanwhile
                raise sqlite3.DatabaseError(f"event {after + 1} of {label(run)} is missing")

    def _some(self, run: int, after: int, last: int) -> list[tuple[int, float, float, str, int]]:
        with self._telling():
            return self._db.execute(
                "SELECT seq, at, mono, body, sum FROM events WHERE run = ? AND seq > ? AND seq <= ?"
                f" ORDER BY seq LIMIT {_AT_ONCE}",
                (run, after, last),
            ).fetchall()

    def _latest(self, run: int, kind: type[JournalError] = JournalError) -> int:
        """The number of a run's last event; 0 where there is none."""
        with self._telling(kind):
            (last,) = self._db.execute("SELECT max(seq) FROM events WHERE run = ?", (run,)).fetchone()
        return last or 0

    def past(self, profile: str | None, agent: str) -> list[Past]:
        """Return the results of an agent's last attempts, in this run and earlier ones, the latest first."""
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

    def last_success(self, name: str) -> float | None:
        """Return when the last successful run of this name ended, in seconds since the epoch; None without one."""
        with self._telling():
            ends = ((at, decode(body)) for at, body in self._db.execute(_LAST_EVENTS, (name,)))
            return next((at for at, event in ends if isinstance(event, RunEnded) and event.exit_code == 0), None)

    def last_heard(self, run: int) -> float | None:
        """Return the time of a run's last event, in seconds since the epoch; None without events."""
        with self._telling():
            row = self._db.execute("SELECT at FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)).fetchone()
        return row and float(row[0])


class Journal(JournalReader):
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._wal, self._kept = Wal(path), Unwritten(path)
        self._last: dict[int, int] = {}
        self._unwritten: list[Noted] = []
        self._locked = inf  # monotonic seconds, since when another program keeps it locked
        self._patience = PATIENCE  # seconds that a write waits for such a lock
        self._inode = path.stat().st_ino

    @staticmethod
    def open(state_dir: Path, *, write: bool = False) -> "Journal":
        """Open the journal of a state folder; with `write` it is made where there is none.

        What a dead supervisor could not write to it is read back first. One that only reads goes without where it
        cannot write, or another program keeps the journal locked.
        """
        if not write and journal_schema.kept(state_dir):
            with suppress(SeqsupError, sqlite3.Error, OSError):
                _read_back_at_once(state_dir)
        journal = Journal(state_dir / FILE, journal_schema.connect(state_dir, write=write))
        if write:
            try:
                read_back(journal._path, journal._db)
            except (OSError, sqlite3.Error) as error:
                raise JournalError(journal_schema.trouble(journal._path, error)) from error
        return journal

    def begin(
        self, name: str, profile: str | None, cookie: str, claim: Callable[[int], object] = lambda _: None
    ) -> int:  # fmt: skip
        """Create a run and return its number. No other process sees it before `claim` has returned."""
        row = (name, profile, cookie, os.getpid(), time.time(), sum_of(name, profile, cookie))
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
        """Record that this process resumes a run of another one, perhaps under a new name and path."""
        now = (name, profile, os.getpid(), sum_of(name, profile, row.cookie), row.run)
        self._be_patient(PATIENCE)
        with self._telling(), self._db:
            self._db.execute("BEGIN")
            self._db.execute("UPDATE runs SET name = ?, profile = ?, pid = ?, sum = ? WHERE run = ?", now)
            if profile != row.profile:  # it was moved, and what is known of its agents goes with it
                moved = (profile or "", row.profile or "")
                self._db.execute("UPDATE OR REPLACE attempts SET profile = ? WHERE profile = ?", moved)

    def append(self, run: int, event: AnyEvent) -> Recorded:
        """Record one event. An event that must reach the disk is there on return, with all earlier ones. The rest is
        written by the next flush.

        If the journal refuses an event, it is kept beside the journal, and nothing starts until the journal has it.
        JournalLost if it could not be kept either: then nothing may act on it. Stopped if an attempt must not start:
        there is no room for its end, or the journal refused its start.
        """
        if isinstance(event, AttemptStarted):
            self._reserve()
        at, mono, seq = time.time(), time.monotonic(), self._next(run)
        self._last[run] = seq
        text = _encode(event).decode()
        self._unwritten.append(Noted((run, seq, at, mono, text, sum_of(run, seq, text)), event))
        if isinstance(event, DURABLE):
            self._write_or_keep(event)
            self._sync()
        return Recorded(run=label(run), seq=seq, at=at, mono=mono, body=event)

    def _reserve(self) -> None:
        """Have room for an attempt's end before it starts, in the journal and beside it; Stopped if there is none."""
        try:
            self._wal.reserve()
            self._kept.reserve()
        except OSError as error:
            why = f"the journal {self._path} cannot reserve room for an agent's end: {error.strerror}"
            raise Stopped(f"{why}; free space in {self._path.parent}") from error

    def flush(self) -> None:
        """Write recorded events, which may reach the disk later. JournalLost if they were neither written nor kept."""
        if self._unwritten:
            self._write_or_keep()

    def flush_unless_locked(self) -> bool:
        """The same, but False at once while another program keeps the journal locked, which no watch may wait for.

        Then a later one writes it all, or keeps it where it is locked for ten seconds.
        """
        if not self._unwritten:
            return True
        try:
            self._write(patience=0)
        except JournalLost as lost:
            now = time.monotonic()
            self._locked = min(self._locked, now)
            if journal_schema.is_locked(lost.__cause__) and now - self._locked <= PATIENCE:
                return False
            self._keep(lost)
            return True
        self._locked = inf
        return True

    def _be_patient(self, seconds: float) -> None:
        if seconds != self._patience:
            journal_schema.wait_for_lock(self._db, seconds)
            self._patience = seconds

    def _write_or_keep(self, last: AnyEvent | None = None) -> None:
        """Write recorded events, or keep them. A start is not kept: then nothing may start."""
        starts = isinstance(last, RunStarted | AttemptStarted)
        try:
            self._write(PATIENCE if starts or not self._kept.count else 0)
        except JournalLost as lost:
            if starts:
                self._take_back(len(self._unwritten) - 1)
            self._keep(lost)
            if isinstance(last, AttemptStarted):
                raise Stopped(str(lost)) from lost
            if starts:
                raise

    def _write(self, patience: float) -> None:
        self._be_patient(patience)
        if not self._in_place():
            raise JournalLost(f"the journal {self._path} was removed or replaced while the run was running")
        try:
            with self._db:
                insert(self._db, self._unwritten)
        except sqlite3.Error as error:
            raise JournalLost(journal_schema.trouble(self._path, error)) from error
        self._unwritten = []
        if self._kept.count:
            self._sync()
            self._kept.discard()

    def _keep(self, lost: JournalLost) -> None:
        """Keep refused events beside the journal. If that fails too they are lost, and their numbers are free."""
        try:
            if lost.__cause__ is None:  # another file has its path
                raise lost
            if self._unwritten:
                self._kept.keep(self._unwritten)
        except (OSError, JournalLost):
            self._take_back(self._kept.count)
            raise lost from lost.__cause__

    def _take_back(self, count: int) -> None:
        """Forget recorded events except the first `count`."""
        del self._unwritten[count:]
        self._last = {entry.row[0]: entry.row[1] for entry in self._unwritten}

    def _sync(self, kind: type[JournalError] = JournalLost) -> None:
        """Have all that was written reach the disk."""
        try:
            self._wal.reach_disk()
        except OSError as error:
            raise kind(journal_schema.trouble(self._path, error)) from error

    def _in_place(self) -> bool:
        """Return whether the open file is still the one that others will read."""
        try:
            return os.stat(self._path).st_ino == self._inode  # noqa: PTH116 (hot)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JournalLost(f"the journal {self._path} can no longer be reached: {error.strerror}") from error

    def _next(self, run: int) -> int:
        if run not in self._last:
            self._last[run] = self._latest(run, JournalLost)
        return self._last[run] + 1

    def forget(self, run: int) -> None:
        """Remove a run with its events. Results of its attempts are kept as long as they are still needed."""
        self.flush()
        self._be_patient(PATIENCE)
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

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._db.close()
            self._wal.close()
            self._kept.close()


def _read_back_at_once(state_dir: Path) -> None:
    """Read back events of dead supervisors, unless another program keeps the journal locked."""
    if waits(state_dir / FILE):
        with closing(journal_schema.connect(state_dir, write=True)) as db:
            journal_schema.wait_for_lock(db, 0)
            read_back(state_dir / FILE, db)
