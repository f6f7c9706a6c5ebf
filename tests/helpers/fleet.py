"""Workers of a fleet as real processes, and a network between them and the server that can be cut."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.paths import ROOT, STUBS
from helpers.postgres import free_port
from helpers.waiting import wait_for
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.jobs import Job, JobState, NewJob, Order


class Workers:
    """Starts workers, each in a process group and with a state folder of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *options: str, url: str | None = None) -> "subprocess.Popen[bytes]":
        state = self._folder / f"state-{name}"
        state.mkdir(exist_ok=True)
        environment = {**os.environ, "SEQSUP_STATE_DIR": str(state), "PYTHONPATH": str(ROOT / "supervisor")}
        with self.log(name).open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, STUBS / "carries.py", url or self.url, name, *options],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._started.append(worker)
        return worker

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def signal(self, worker: "subprocess.Popen[bytes]", signum: signal.Signals) -> None:
        """Send a signal to a worker and to all that it runs."""
        os.killpg(worker.pid, signum)

    def kill(self, worker: "subprocess.Popen[bytes]") -> None:
        self.signal(worker, signal.SIGKILL)
        worker.wait()

    def close(self) -> None:
        for worker in self._started:
            with suppress(ProcessLookupError):
                self.kill(worker)


def job(folder: Path, script: str, *, name: str = "job", after: Sequence[int] = (), priority: int = 0) -> NewJob:
    """A job that runs a shell script. `$WORKER`, `$NUMBER` and `$LOST` tell of it."""
    order = Order(folder=str(folder), command=("sh", "-c", script))
    return NewJob(name=name, order=order, after=tuple(after), priority=priority)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def is_in(queue: FleetQueue, number: int, state: JobState) -> Job:
    """Wait until a job is in a state, and return it."""

    def look() -> Job | None:
        found = queue.job(number)
        return found if found.state is state else None

    return wait_for(look)


class Network:
    """A TCP proxy before a server. `cut` forwards nothing more, without closing a connection."""

    def __init__(self, port: int) -> None:
        self._server, self.port = port, free_port()
        self._open = threading.Event()
        self._open.set()
        self._ended = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        self._open.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        with client, server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._ended:
                for key, _ in selector.select(0.2):
                    self._open.wait()
                    try:
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
                    except OSError:
                        return

    def close(self) -> None:
        self._ended = True
        self._open.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def network(port: int) -> Iterator[Network]:
    proxy = Network(port)
    try:
        yield proxy
    finally:
        proxy.close()
