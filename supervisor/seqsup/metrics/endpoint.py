"""The HTTP endpoint for Prometheus, in a thread of its own, so that no scrape delays the watch.

The port is opened at once; the library that answers is imported at the first request, in that thread. So a run without
a scrape pays a fraction of a millisecond, and no memory.
"""

import errno
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from seqsup.errors import SeqsupError
from seqsup.host.forks import STEADY

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATH = "/metrics"
NO_HOST = "not a host name"
_RETRY = 1.0  # seconds between looks whether a taken port is free
_SWITCH = 0.0005  # seconds that the thread may keep the interpreter from the watch; Python's default is 0.005
_PAGE = b'<!DOCTYPE html><title>seqsup</title><p><a href="/metrics">Metrics</a> of seqsup.\n'


class PortTaken(SeqsupError):
    """The address is not available: its port is in use, or this machine does not have it."""

    exit_code = 3

    def __init__(self, message: str, until: str = "the port is free") -> None:
        super().__init__(message)
        self.until = until


class Endpoint:
    def __init__(
        self, listen: str, application: Callable[[], "WSGIApplication"], key: str = "metrics.listen"
    ) -> None:  # fmt: skip
        """`application` imports the library and makes what answers. `key` is what asked for it."""
        self.listen, self._key = listen, key
        self._application = application
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._closed = threading.Event()
        self._ending = threading.Lock()  # from then on no server is made; one that is made serves, and hears of it

    def serve(self) -> None:
        """Serve, as soon as the port can be had."""
        threading.Thread(target=self._serve, name="metrics", daemon=True).start()

    def bind(self) -> None:
        """Open the port; PortTaken if it is in use."""
        host, _, port = self.listen.rpartition(":")
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, proto)
        except UnicodeError:
            raise PortTaken(f"{self._key} {self.listen}: {NO_HOST}", "the address is available") from None
        except OSError as error:
            raise self._taken(error) from None
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(128)
        except OSError as error:
            bound.close()
            raise self._taken(error) from None
        self._socket = bound

    def _taken(self, error: OSError) -> PortTaken:
        until = "the port is free" if error.errno == errno.EADDRINUSE else "the address is available"
        return PortTaken(f"{self._key} {self.listen}: {error.strerror or error}", until)

    @property
    def address(self) -> str | None:
        """The address in use; None while the port is not available."""
        if self._socket is None or self._closed.is_set():
            return None
        host, port, *_ = self._socket.getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _serve(self) -> None:
        # Signals are the main thread's
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._socket is None:
            if self._closed.wait(_RETRY):
                return
            try:
                self.bind()
            except PortTaken:
                continue
        if not self._asked():
            return
        sys.setswitchinterval(_SWITCH)
        with STEADY:
            from seqsup.metrics.http_server import Server

            application = _only_at(PATH, self._application())
        with self._ending:
            if self._closed.is_set():
                return
            self._server = Server(self._socket, application)
        self._server.serve_forever()

    def _asked(self) -> bool:
        """Wait for the first request; False when it is over without one."""
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.poll()
        return not self._closed.is_set()

    def close(self) -> None:
        with self._ending:
            self._closed.set()
        if self._socket is None:
            return
        with suppress(OSError):  # macOS: it has no peer
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which waits for a request
        if self._server is not None:
            self._server.shutdown()
        self._socket.close()


def _only_at(path: str, application: "WSGIApplication") -> "WSGIApplication":
    """Have the application answer at one path, and lead browsers there."""

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] == path:
            return application(environ, start)
        if environ["PATH_INFO"] == "/":
            start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [_PAGE]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [f"not here: {path}\n".encode()]

    return answer
