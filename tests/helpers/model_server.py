"""A model on this machine's loopback, as far as agent CLIs need one: it answers, hangs, or says that a limit is met."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "the answer of a model that is none"
LIMIT = "You have exhausted your capacity on this model. Your quota will reset after 1h0m0s."


class Model(ThreadingHTTPServer):
    """A model's server. `mode` is what it does: answer, hang or limit. `asked` are the paths of all its requests."""

    daemon_threads = True

    def __init__(self, mode: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode, self.asked = mode, list[str]()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def model(mode: str = "answer") -> Iterator[Model]:
    server = Model(mode)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Model

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self._send(200, "application/json", b"{}")

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.mode == "hang":
            self.server.over.wait()
            return
        if self.server.mode == "limit":
            error = {"error": {"code": 429, "message": LIMIT, "status": "RESOURCE_EXHAUSTED", "type": "rate_limit"}}
            self._send(429, "application/json", json.dumps(error).encode())
            return
        gemini = "enerateContent" in self.path
        chunks = [_GEMINI] if gemini else [_openai({"role": "assistant", "content": ANSWER}, None), _openai({}, "stop")]
        if gemini and "stream" not in self.path:
            self._send(200, "application/json", json.dumps(_GEMINI).encode())
            return
        lines = [*(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks), *([] if gemini else ["data: [DONE]\n\n"])]
        self._send(200, "text/event-stream", "".join(lines).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": ANSWER}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}


def _openai(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [choice]}
