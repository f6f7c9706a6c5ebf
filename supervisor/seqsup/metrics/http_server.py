"""The HTTP server: the standard library's, on a socket that listens already. Imported with the first request."""

import socket
from contextlib import suppress
from io import StringIO
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

OPEN = 64  # connections, each with a thread: the one that is silent for longest makes room


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # a stuck reader does not delay the end

    def __init__(self, listening: socket.socket, application: "WSGIApplication") -> None:
        host, port, *_ = listening.getsockname()
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.set_app(application)
        self._connections: dict[Any, None] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections[request] = None
        for oldest in list(self._connections)[:-OPEN]:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that is slow, or gone, is no news either."""


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds a reader may take to say what it wants

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""

    def get_stderr(self) -> TextIO:
        return StringIO()
