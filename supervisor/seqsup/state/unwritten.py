"""Events that the journal could not take: a file beside it keeps them, and the next to open it reads them back.

The room for them is reserved before an attempt starts. The file is held by a lock as long as its supervisor lives,
which then writes them to the journal by itself. It only grows, and its name is never used again.
"""

import fcntl
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from seqsup.errors import NO_ROOM
from seqsup.model.events import AnyEvent, AttemptEnded
from seqsup.state.journal_schema import Wal
from seqsup.state.run_folder import fallocate

Row = tuple[int, int, float, float, str, int]  # run, seq, at, mono, body, sum

_ROOM = 64 * 1024  # bytes: an attempt's end is 2 KiB
_INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_ATTEMPT = """
INSERT OR REPLACE INTO attempts SELECT ifnull(profile, ''), ?, run, ?, ?, ?, ?, ?, ? FROM runs WHERE run = ?
"""
_LATEST = "SELECT ifnull(max(seq), 0) FROM runs LEFT JOIN events USING (run) WHERE run = ? GROUP BY run"
_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(Row).decode
decode = msgspec.json.Decoder(AnyEvent).decode


class Noted(Struct, frozen=True):
    """One event, as the journal keeps it and as it is."""

    row: Row
    event: AnyEvent


def sum_of(*values: object) -> int:
    """Return the checksum of a row and its place."""
    return zlib.crc32("/".join(map(str, values)).encode())


def insert(db: sqlite3.Connection, entries: Sequence[Noted]) -> None:
    """Insert events, with the results of attempts among them, in one transaction. sqlite3.Error: none is inserted."""
    ended = [_attempt(entry.row[0], entry.event) for entry in entries if isinstance(entry.event, AttemptEnded)]
    if len(entries) + len(ended) > 1 and not db.in_transaction:
        db.execute("BEGIN")
    db.executemany(_INSERT_EVENT, [entry.row for entry in entries])
    if ended:
        db.executemany(_INSERT_ATTEMPT, ended)


def _attempt(run: int, event: AttemptEnded) -> tuple[object, ...]:
    return (
        event.agent, event.attempt, event.content, event.outcome.reason, event.ok, event.outcome.seconds,
        event.outcome.peak, run,
    )  # fmt: skip


class Unwritten:
    """The file beside a journal to which its writer turns when the journal takes nothing."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.path = journal
        self._fd: int | None = None
        self._end = 0  # bytes
        self.count = 0  # events in it

    def reserve(self) -> None:
        """Reserve its room. OSError where the disk has none; a filesystem that cannot reserve promises nothing."""
        if self._fd is not None:
            return
        try:
            self._create()
            assert self._fd is not None
            fallocate(self._fd, 0, 0, _ROOM)
        except OSError as error:
            self.discard()
            if error.errno in NO_ROOM:
                raise

    def keep(self, entries: Sequence[Noted]) -> None:
        """Have those entries on the disk of which the first `count` are there. OSError where that cannot be."""
        first = self.count == 0
        if self._fd is None:
            self._create()
        assert self._fd is not None
        lines = b"".join(_encode(entry.row) + b"\n" for entry in entries[self.count :])
        try:
            written = 0
            while written < len(lines):
                written += os.pwrite(self._fd, lines[written:], self._end + written)
            os.fsync(self._fd)
            if first:
                _sync_folder(self._journal.parent)
        except OSError:
            if first:
                self.discard()
            raise
        self._end += len(lines)
        self.count = len(entries)

    def discard(self) -> None:
        """Remove it: the journal has its events."""
        if self._fd is not None:
            with suppress(OSError):  # reading it back finds that the journal has it all
                os.unlink(self.path)  # noqa: PTH108 (hot)
        self._let_go()

    def close(self) -> None:
        """Remove it, unless the next that opens the journal is to read it."""
        if self.count:
            self._let_go()
        else:
            self.discard()

    def _create(self) -> None:
        """Create it and hold it. One that was taken for a dead supervisor's meanwhile is gone: then another."""
        while self._fd is None:
            path = self._journal.with_name(f"{_prefix(self._journal)}{os.urandom(8).hex()}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                if not os.geteuid():  # root in the folder of the journal's owner
                    owner = self._journal.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                if _hold(fd) and os.fstat(fd).st_nlink:
                    self._fd, self.path = fd, path
            finally:
                if self._fd is None:
                    os.close(fd)

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._end, self.count = None, 0, 0


def waits(journal: Path) -> bool:
    """Return whether events may wait to be read back. A file that is only reserved begins with a zero byte."""
    for path in _files(journal):
        with suppress(OSError), open(path, "rb", buffering=0, opener=_opener) as file:
            if file.read(1).strip(b"\0"):
                return True
    return False


def read_back(journal: Path, db: sqlite3.Connection) -> None:
    """Insert events of dead supervisors, then remove their files. The journal's own events do not change.

    sqlite3.Error or OSError if that fails.
    """
    if not any(_files(journal)):
        return
    with ExitStack() as opened:
        db.execute("BEGIN IMMEDIATE")  # of two programs that read back, the second waits for the first
        try:
            found: list[Path] = []
            for path in _files(journal):
                if (fd := _take(path, journal)) is not None:
                    opened.callback(os.close, fd)
                    found.append(path)
                    insert(db, list(_missing(db, fd)))
            db.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise
        if found:
            wal = Wal(journal)
            wal.reach_disk()
            wal.close()
        for path in found:
            path.unlink()


def _files(journal: Path) -> Iterator[Path]:
    prefix = _prefix(journal)
    with os.scandir(journal.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                yield Path(entry.path)


def _prefix(journal: Path) -> str:
    return f"{journal.name}-unwritten-"


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _take(path: Path, journal: Path) -> int | None:
    """Open such a file and hold it. None: its supervisor lives, or it is not of the journal's owner."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (journal.stat().st_uid, 0):
            return None
        fd = _opener(str(path), os.O_RDONLY)
    except FileNotFoundError:
        return None
    if os.path.samestat(os.fstat(fd), status) and _hold(fd):
        return fd
    os.close(fd)
    return None


def _hold(fd: int) -> bool:
    """Lock a file for as long as it is open. The kernel frees it with the process, however that ends."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _missing(db: sqlite3.Connection, fd: int) -> Iterator[Noted]:
    """Yield the events of a file that the journal lacks, as far as they continue those of the journal."""
    latest: dict[int, int] = {}
    with os.fdopen(os.dup(fd), "rb") as file:
        for line in file:
            try:
                row = _decode_row(line)
                run, seq, _, _, body, told = row
                if told != sum_of(run, seq, body):
                    return
                event = decode(body)
            except msgspec.DecodeError:  # reserved room, or an unfinished write
                return
            if run not in latest:
                (last,) = db.execute(_LATEST, (run,)).fetchone() or (None,)
                latest[run] = seq if last is None else last  # of a journal that was set aside
            if seq == latest[run] + 1:
                latest[run] = seq
                yield Noted(row, event)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
