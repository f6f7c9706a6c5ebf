"""The journal's file: its content, how it is opened and created, and its room on the disk."""

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote_from_bytes

from seqsup.errors import NO_ROOM, SeqsupError
from seqsup.host.trust import exposure, user_name
from seqsup.state.run_folder import RUNS, fallocate, private

FILE = "journal.db"
FORMAT = 3
PATIENCE = 10.0  # seconds for which another program may keep it locked

_TABLES = (
    """
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, profile TEXT,
        cookie TEXT NOT NULL UNIQUE, pid INTEGER NOT NULL, started REAL NOT NULL, sum INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE events (
        run INTEGER NOT NULL REFERENCES runs, seq INTEGER NOT NULL, at REAL NOT NULL, mono REAL NOT NULL,
        body TEXT NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (run, seq)
    ) WITHOUT ROWID
    """,
    # Results of attempts, by agent: they outlive the run's events, so that an expectation needs one query
    """
    CREATE TABLE attempts (
        profile TEXT NOT NULL, agent TEXT NOT NULL, run INTEGER NOT NULL, attempt INTEGER NOT NULL,
        content TEXT NOT NULL, reason TEXT NOT NULL, ok INTEGER NOT NULL, seconds REAL NOT NULL, peak INTEGER NOT NULL,
        PRIMARY KEY (profile, agent, run, attempt)
    ) WITHOUT ROWID
    """,
)
_WHOLE = 32 * 1024**2  # bytes up to which a start looks at every page: 50 ms. Damage beyond is found when it is read
_KEEP_SIZE = 0x1  # FALLOC_FL_KEEP_SIZE
_ROOM = 256 * 1024  # bytes: thirty writes or more, and an attempt's end with all that follows takes five
_AHEAD = 1024 * 1024  # bytes reserved at a time: the WAL mostly restarts before it needs more
_WRITTEN_ANEW = 200  # pages after which the WAL restarts: overwritten in place it is on the disk a third sooner
_reach_disk = getattr(os, "fdatasync", os.fsync)  # macOS has it not


class JournalError(SeqsupError):
    """The journal cannot be read or written: nothing starts, or the running agent is stopped."""

    exit_code = 3


class JournalLost(JournalError):
    """The journal could not be written in the midst of a run."""

    exit_code = 4


class NoJournal(JournalError):
    """Nothing ever ran here."""


def kept(state_dir: Path) -> bool:
    """Return whether a state folder has a journal; JournalError if that cannot be known."""
    found = [state_dir / name for name in (FILE, f"{FILE}-wal", f"{FILE}-shm") if must_be_regular(state_dir / name)]
    return state_dir / FILE in found


def must_be_regular(path: Path) -> bool:
    """Say whether a file is there. JournalError if it is none: a pipe would wait for ever, a link leads elsewhere."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(trouble(path, error)) from error
    if not stat.S_ISREG(mode):
        raise JournalError(f"{path} is not a regular file: move it away, or set SEQSUP_STATE_DIR to another folder")
    return True


def must_be_own(folder: Path) -> None:
    """Raise JournalError if another user can change or replace files of a state folder."""
    for each in (folder, folder / RUNS):
        if (found := exposure(each)) is not None:
            raise JournalError(
                f"the state folder {folder} is not safe: {found}, or set SEQSUP_STATE_DIR or run.state_dir to another"
            )


def make_private(path: Path) -> None:
    """Make an empty database that only its owner can read, unless it is there.

    One that is there is not opened: to close it would release the locks that SQLite has of it in this process, and then
    another process removes the log of changes as if none used it.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connect(state_dir: Path, *, write: bool) -> sqlite3.Connection:
    """Open the journal of a state folder; with `write` it is made where there is none."""
    path = state_dir / FILE
    if write:
        must_be_own(state_dir)
    there = kept(state_dir)
    if not write and not there:
        raise NoJournal(f"no runs yet: {path} does not exist; start one: seqsup start PROFILE")
    try:
        if write:
            private(state_dir)
            make_private(path)
        if not write:
            _roll_back(path)
        db = _connected(path, "rw" if write else "ro&immutable=1" if _sealed(path) else "ro")
    except (OSError, sqlite3.Error) as error:
        raise JournalError(trouble(path, error)) from error
    try:
        wait_for_lock(db, PATIENCE)
        found = _format(path, db)
        if there and not found and any(path.parent.glob("runs/r*")):
            raise sqlite3.DatabaseError("it is empty, although runs are stored beside it")
        if not found and not write:  # its creation was interrupted, or is under way
            raise NoJournal(f"no runs yet: {path} is empty")
        if write:
            _prepare(path, db, found)
    except sqlite3.Error as error:
        db.close()
        raise JournalError(trouble(path, error)) from error
    except JournalError:
        db.close()
        raise
    return db


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    name = quote_from_bytes(bytes(path.absolute()))  # as_uri() of Python 3.14 loads urllib.request, and TLS
    return sqlite3.connect(f"file://{name}?mode={mode}", uri=True, isolation_level=None)


def _roll_back(path: Path) -> None:
    """Undo an interrupted creation of the journal: SQLite does so for a writer only."""
    if os.path.exists(f"{path}-journal"):  # noqa: PTH110 (hot)
        with suppress(sqlite3.Error), closing(_connected(path, "rw")) as db:
            db.execute("PRAGMA user_version").fetchone()


def wait_for_lock(db: sqlite3.Connection, seconds: float) -> None:
    """Wait up to this many seconds, from now on, for another program that keeps it locked."""
    db.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")


def use_wal(db: sqlite3.Connection) -> None:
    """Have changes written ahead. Several programs may create a file at once, and SQLite waits for no lock here."""
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
        db.execute("BEGIN EXCLUSIVE")  # this waits
        db.execute("ROLLBACK")


def _format(path: Path, db: sqlite3.Connection) -> int:
    """Return its format, 0 where it is empty. One of another format is refused, and stays as it is."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise JournalError(f"{path} was written by a newer seqsup (format {found}, this one knows {FORMAT}): upgrade")
    if found not in (0, FORMAT):
        raise JournalError(
            f"{path} has the unknown format {found} (this seqsup knows {FORMAT}):"
            f" move it away (`mv {path} {path}.{found}`); seqsup creates a new journal"
        )
    return int(found)


def _prepare(path: Path, db: sqlite3.Connection, found: int) -> None:
    use_wal(db)
    db.execute("PRAGMA synchronous = NORMAL")  # else see Wal
    db.execute(f"PRAGMA wal_autocheckpoint = {_WRITTEN_ANEW}")
    if found:
        _look_for_damage(path, db)
        return
    # BEGIN EXCLUSIVE: two seqsups may meet here, and the other was faster
    db.execute("BEGIN EXCLUSIVE")
    if not _format(path, db):
        for table in _TABLES:
            db.execute(table)
        _begin_above(path, db)
        db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def _begin_above(path: Path, db: sqlite3.Connection) -> None:
    """Number runs from where the folders end: a journal that was set aside had them, and they are not to be mixed."""
    numbers = [int(entry.name[1:]) for entry in path.parent.glob("runs/r*") if entry.name[1:].isdigit()]
    if numbers:
        db.execute("INSERT INTO sqlite_sequence VALUES ('runs', ?)", (max(numbers),))


def _sealed(path: Path) -> bool:
    """Whether we cannot write here and no write was interrupted. SQLite needs to be told so to read such a file."""
    rest = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and not (rest.exists() and rest.stat().st_size)


def _look_for_damage(path: Path, db: sqlite3.Connection) -> None:
    tables = [""] if path.stat().st_size <= _WHOLE else ["(runs)", "(sqlite_schema)"]
    for table in tables:
        (verdict,) = db.execute(f"PRAGMA quick_check{table}").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)


class Wal:
    """SQLite's write-ahead log of the journal: its room on the disk, and when it is there.

    SQLite would do the latter with `synchronous = FULL`, but to switch that on and off takes longer than half of these
    commits.
    """

    def __init__(self, journal: Path) -> None:
        self._path = f"{journal}-wal"
        self._fd: int | None = None
        self._reserved = 0  # bytes that have their room on the disk

    def reserve(self) -> None:
        """Reserve room for an attempt's end before it starts, so that it can be written to a full disk.

        OSError if there is none. The room is part of the WAL, beyond its end: no other program can take it, and no
        reader sees it. A filesystem without such a call promises nothing, nor does one that copies on write, except for
        files marked with chattr +C.
        """
        try:
            written = os.stat(self._path).st_size  # noqa: PTH116 (hot)
            if written + _ROOM <= self._reserved:
                return
            fd = os.open(self._path, os.O_WRONLY)
            try:
                fallocate(fd, _KEEP_SIZE, 0, written + _AHEAD)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
        else:
            self._reserved = written + _AHEAD

    def reach_disk(self) -> None:
        """Have all that was written reach the disk; OSError where it cannot."""
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR)
        _reach_disk(self._fd)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


# -- faults and their remedies


def trouble(path: Path, error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"the journal {path} cannot be used: {why}; {_remedy(path, error)}"


def is_locked(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _other_owner(path: Path) -> str:
    """Say which part of the path, up to the first folder that is there, another user keeps to itself; else empty."""
    for each in (path, *path.parents):
        with suppress(OSError):
            uid = each.stat().st_uid
            closed = not os.access(each, os.R_OK | os.W_OK | (os.X_OK if each.is_dir() else 0))
            return f"{each} belongs to {user_name(uid)}" if closed and uid != os.geteuid() else ""
    return ""


def _remedy(path: Path, error: Exception) -> str:
    folder = path.parent
    blocking = next(each for each in path.parents if os.path.exists(each))  # noqa: PTH110 (Path's raises at EACCES)
    name = getattr(error, "sqlite_errorname", "")
    denied = isinstance(error, PermissionError) or name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))
    if denied and (owner := _other_owner(path)):
        return f"{owner}: run seqsup as that user, or set SEQSUP_STATE_DIR or run.state_dir to a folder of your own"
    if not blocking.is_dir():
        return f"{blocking} is not a folder: set SEQSUP_STATE_DIR or run.state_dir to a folder"
    if isinstance(error, OSError):
        return f"free space or make {folder} writable, or set SEQSUP_STATE_DIR to another"
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"free space or make {folder} writable; then continue a started run with --resume"
    if is_locked(error):
        return f"another program holds a lock on it (`fuser {path}` shows which): stop that program, then use --resume"
    if name.startswith("SQLITE_IOERR"):
        why = f"{folder} could not be read or written"  # also where a full disk has no room for what is beside the file
        return f"{why}: free space there, look at `ulimit -f` and at the kernel's log, then use --resume"
    return (
        f"if the file is damaged, move it away (`mv {path} {path}.damaged`) and report this;"
        " seqsup creates a new journal"
    )
