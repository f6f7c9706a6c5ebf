"""Connections to a PostgreSQL server that answers within three seconds, or counts as unreachable."""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from select import select
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from seqsup.queue.store import QueueError

LIMIT = 3.0  # seconds for a connection, and for a query
Row = dict[str, Any]
_REMEDIES = (  # part of what the server or libpq says -> what to do
    ("password authentication failed", "correct its password, or put it into ~/.pgpass"),
    ("no password supplied", "put the password into ~/.pgpass, PGPASSWORD or the address"),
    ("no encryption", "the server wants TLS: add ?sslmode=verify-full to the address"),
    ("SSL off", "the server wants TLS: add ?sslmode=verify-full to the address"),
    ("does not support SSL", "the server has no TLS: set it up there (ssl = on)"),
    ("certificate", "check sslrootcert, and that the address has the name of the certificate"),
    ("no pg_hba.conf entry", "allow this machine and role in the server's pg_hba.conf"),
    ("does not exist", "create it, or correct the address"),
    ("not permitted to log in", "give the role LOGIN"),
    ("too many", "raise max_connections of the server: each worker needs one"),
    ("remaining connection slots", "raise max_connections of the server: each worker needs one"),
    ("resolve", "correct the host of the address"),
    ("Name or service not known", "correct the host of the address"),
)
_REACH = "check that the server runs, and that its address and port are right"


class Unreachable(QueueError):
    """The server did not answer. Whether it carried out the last request is unknown."""


class Address:
    """Where a queue is: the address as the user wrote it, and what may be shown of it."""

    def __init__(self, text: str) -> None:
        try:
            found = conninfo_to_dict(text)
        except psycopg.Error:
            raise QueueError(
                "the address of the queue cannot be read: expected postgresql://USER@HOST[:PORT]/DATABASE[?sslmode=…]"
            ) from None
        self._options: dict[str, Any] = {
            "connect_timeout": int(LIMIT), "application_name": "seqsup", "keepalives_idle": 30, **found,
        }  # fmt: skip
        for word in ("statement_timeout", "idle_in_transaction_session_timeout"):
            self._options["options"] = f"{self._options.get('options') or ''} -c {word}={LIMIT * 1000:.0f}".strip()
        user = f"{found['user']}@" if found.get("user") else ""
        port = f":{found['port']}" if found.get("port") else ""
        self.shown = f"postgresql://{user}{found.get('host') or ''}{port}/{found.get('dbname') or ''}"
        self.role = str(found.get("user") or os.environ.get("PGUSER") or "")

    def connect(self) -> "psycopg.Connection[Row]":
        with self.telling():
            return psycopg.connect(**self._options, autocommit=True, row_factory=dict_row)

    async def connect_async(self) -> "psycopg.AsyncConnection[Row]":
        with self.telling():
            return await psycopg.AsyncConnection.connect(**self._options, autocommit=True, row_factory=dict_row)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn errors of the server into errors with a remedy."""
        try:
            yield
        except psycopg.Error as error:
            raise self.explained(error) from error

    def explained(self, error: BaseException) -> QueueError:
        first, _, _ = str(error).strip().partition("\n")
        match error:
            case errors.UndefinedTable() | errors.UndefinedFunction() | errors.UndefinedColumn():
                return QueueError(f"{self.shown} has no queue of this version ({first}): run seqsup queue init")
            case errors.InsufficientPrivilege():
                return QueueError(
                    f"the role {self.role or 'of this user'} may not use the queue {self.shown} ({first}):"
                    " grant it what seqsup queue init prints"
                )
            case errors.ReadOnlySqlTransaction():
                return QueueError(f"{self.shown} is a read-only copy: use the address of the primary server")
            case errors.DiskFull():
                return QueueError(f"the disk of {self.shown} is full: free space there")
        for part, remedy in _REMEDIES:
            if part in str(error):
                return Unreachable(f"{self.shown} refuses the connection ({_last(str(error))}): {remedy}")
        if isinstance(error, (psycopg.OperationalError, errors.QueryCanceled, OSError)):
            return Unreachable(f"the queue {self.shown} cannot be reached ({_last(str(error))}): {_REACH}")
        return QueueError(f"the queue {self.shown} cannot be used: {first}; seqsup queue init repairs its functions")


class Link:
    """A connection for the command line. Each call is one transaction."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection = address.connect()

    def rows(self, query: str, values: Mapping[str, object] | None = None) -> list[Row]:
        """Carry a query out, and return its rows. Unreachable: it may or may not have been carried out."""
        with self.transaction() as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self, limit: float = LIMIT) -> Iterator["psycopg.Connection[Row]"]:
        if self._connection.closed or select([self._connection], [], [], 0)[0]:  # the server has said good-bye
            self._connection.close()
            self._connection = self.address.connect()
        timer = threading.Timer(limit + 1, cut, (self._connection,))
        timer.start()
        try:
            with self.address.telling(), self._connection.transaction():
                yield self._connection
        finally:
            timer.cancel()

    def close(self) -> None:
        self._connection.close()


class AsyncLink:
    """The one connection of a worker. Between queries it listens to what others tell."""

    def __init__(self, address: Address, channels: Sequence[str]) -> None:
        self.address, self.limit = address, LIMIT
        self.hear: Callable[[str, str], None] = lambda *_: None  # called with a channel and its message
        self._channels = channels
        self._lock = asyncio.Lock()
        self._open: psycopg.AsyncConnection[Row] | None = None
        self._listening = -1
        self._tasks = set[asyncio.Task[None]]()

    async def one(self, query: str, **values: object) -> Any:
        """Carry out a query, which is one transaction, and return its first value. Values may be functions."""
        with self.address.telling():
            async with self.connection() as connection:
                given = {name: value() if callable(value) else value for name, value in values.items()}
                cursor = await connection.execute(query, given)
                row = await cursor.fetchone() if cursor.description else None
        return next(iter(row.values())) if row else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["psycopg.AsyncConnection[Row]"]:
        """Lend the connection to one user at a time. Procrastinate takes this object for a pool."""
        async with self._lock:
            self._rest()
            connection = await self._opened()
            timer = asyncio.get_running_loop().call_later(self.limit, cut, connection)
            try:
                yield connection
            finally:
                timer.cancel()
                if connection.closed:
                    self._open = None
                else:
                    self._listen(connection)

    async def _opened(self) -> "psycopg.AsyncConnection[Row]":
        if self._open is None or self._open.closed:
            opened = await self.address.connect_async()
            opened.add_notify_handler(lambda notify: self.hear(notify.channel, notify.payload))
            timer = asyncio.get_running_loop().call_later(self.limit, cut, opened)
            try:
                with self.address.telling():
                    await opened.execute("; ".join(f"LISTEN {channel}" for channel in self._channels))
            finally:
                timer.cancel()
            self._open = opened
            self.hear(self._channels[0], "job")  # messages meanwhile are lost
        return self._open

    def _listen(self, connection: "psycopg.AsyncConnection[Row]") -> None:
        self._listening = connection.fileno()
        asyncio.get_running_loop().add_reader(self._listening, self._readable)

    def _rest(self) -> None:
        if self._listening >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening = -1

    def _readable(self) -> None:
        """Read what the server has told: a query's answer brings it along."""
        self._rest()
        task = asyncio.get_running_loop().create_task(self._read())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self) -> None:
        with suppress(QueueError):
            await self.one("SELECT 1")

    async def close(self) -> None:
        async with self._lock:
            self._rest()
            if self._open is not None:
                await self._open.close()
                self._open = None


def cut(connection: "psycopg.Connection[Row] | psycopg.AsyncConnection[Row]") -> None:
    """End a connection whose server does not answer: what waits for it fails at once."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as held:
        held.shutdown(socket.SHUT_RDWR)


def _last(text: str) -> str:
    """Return the last line that says something; libpq tells of each address that it tried."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in reversed(lines) if "failed: " in line or "FATAL" in line), lines[0] if lines else "")
    _, separator, reason = found.rpartition("FATAL: ")
    return reason.strip() if separator else found.rpartition("failed: ")[2].strip()
