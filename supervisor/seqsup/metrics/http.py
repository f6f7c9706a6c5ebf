"""The HTTP server: the standard library's, on a socket that listens already. Imported with the first request."""

import socket
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # a reader that is stuck does not hold up the end


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds a reader may take to say what it wants

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


def server(listening: socket.socket, application: "WSGIApplication") -> WSGIServer:
    host, port, *_ = listening.getsockname()
    made = _Server((host, port), _Handler, bind_and_activate=False)
    made.socket.close()
    made.socket = listening
    made.server_name, made.server_port = host, port
    made.setup_environ()
    made.set_app(application)
    return made
