"""A model's server on this machine's loopback, as far as agent CLIs need one: it plays a script and notes each request.

It speaks Anthropic Messages, OpenAI Responses, OpenAI Chat Completions and Gemini, streamed and at once.

    with model([{"when": "count", "shell": "seq 3", "times": 1}, {"say": "done"}]) as asks:
        ...  # start a CLI that is pointed to asks.url
    assert "1\\n2\\n3" in asks.asked[-1].last  # what the tool gave back

A script is a list of steps. The first step that fits a request, and has uses left, answers it; else ANSWER does.

    when        regex in what came after the model's last turn: the prompt, or the results of tools
    anywhere    regex in any turn
    main        true: only requests that declare tools; those for titles and the like declare none
    times       how often the step may be used; default: without end
    say         text of the answer; default: ANSWER, or none beside calls
    shell       a command, or a list of them: a call each of the shell tool that the CLI declares
    agents      a list of prompts: a call each of the tool that starts subagents
    tools       a list of [name, input]: calls as they are
    in, out     token counts to report; default: a quarter of the bytes
    headers     headers of the answer
    after       seconds before anything is sent
    pace        seconds between two events of a stream
    silence     before: no answer at all; midway: none after half of the events
    cut         true: the connection breaks amid a line, after half of the events
    error       a key of `helpers.model_answers.ERRORS`, such as usage-limit, which ends in `resets_in` seconds
"""

import json
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.model_answers import ANSWERS, Call, refusal

ANSWER = "the answer of a model that is none"
HANGS: list["Step"] = [{"silence": "before"}]
LIMIT: list["Step"] = [{"error": "usage-limit"}]

Step = dict[str, Any]
_APIS = {
    "/messages": "anthropic",
    "/responses": "responses",
    "/chat/completions": "chat",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
}
_SHELLS = ("Bash", "bash", "run_shell_command", "exec_command", "shell_command", "shell", "local_shell")
_STARTERS = ("Agent", "Task", "task", "agent", "spawn_agent")
_FOREVER = 1e9  # seconds


@dataclass
class Asked:
    """One request. `text` is the whole conversation, `last` what came after the model's last turn, `step` the index of
    the step that answered it (-1: none), `beside` how many other requests were in flight."""

    path: str
    text: str
    last: str
    tools: list[str]
    body: dict[str, Any]
    beside: int
    step: int = -1


class Model(ThreadingHTTPServer):
    """A model's server. `asked` are its requests in order, `peak` is how many were in flight at once."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Sequence[Step]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[Asked] = []
        self.peak = 0
        self.midway = threading.Event()  # an answer is silent after its first half
        self.over = threading.Event()
        self._left = [step.get("times", _FOREVER) for step in script]
        self._in_flight = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, path: str, body: dict[str, Any]) -> Step:
        """Note a request and choose the step that answers it."""
        turns = list(_turns(body))
        since = max((n + 1 for n, (own, _) in enumerate(turns) if own), default=0)
        text, last = ("\n".join(text for _, text in some) for some in (turns, turns[since:]))
        with self._lock:
            asked = Asked(path, text, last, list(_declared(body)), body, self._in_flight)
            self.asked.append(asked)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
            for n, step in enumerate(self.script):
                if self._left[n] > 0 and _fits(step, asked):
                    self._left[n] -= 1
                    asked.step = n
                    return step
        return {}

    def finish(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is none
            super().handle_error(request, client_address)


@contextmanager
def model(script: Sequence[Step] = ()) -> Iterator[Model]:
    server = Model(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


# -- what was asked


def _turns(body: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Each turn of a conversation: whether it is the model's own, and its text."""
    items = body.get("messages") or body.get("contents") or body.get("input") or []
    for item in [{"content": items}] if isinstance(items, str) else items:
        own = item.get("role") in ("assistant", "model") or item.get("type") == "function_call"
        yield own, _text(item)


def _text(part: Any) -> str:
    """All that a model would read in a part of a message: text, calls and their results."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "\n".join(filter(None, map(_text, part)))
    if not isinstance(part, dict):
        return ""
    if "functionResponse" in part:
        return "\n".join(str(value) for value in part["functionResponse"]["response"].values())
    if part.get("type") in ("tool_use", "function_call", "function") or "functionCall" in part:
        return json.dumps(part)
    return _text([part.get(key) for key in ("text", "content", "output", "parts", "tool_calls")])


def _declared(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tools of a request by name, each with the parameters that it takes."""
    found: dict[str, dict[str, Any]] = {}
    for tool in body.get("tools") or []:
        for one in tool.get("functionDeclarations") or tool.get("tools") or [tool.get("function") or tool]:
            schema = one.get("input_schema") or one.get("parameters") or one.get("parametersJsonSchema") or {}
            found[one.get("name") or one.get("type")] = schema.get("properties") or {}
    return found


def _fits(step: Step, asked: Asked) -> bool:
    return (
        (not step.get("main") or bool(asked.tools))
        and re.search(step.get("anywhere", ""), asked.text, re.DOTALL) is not None
        and re.search(step.get("when", ""), asked.last, re.DOTALL) is not None
    )


# -- what is answered


def _calls(step: Step, body: dict[str, Any]) -> Iterator[Call]:
    """The tool calls of a step, with the names and parameters that the CLI declares."""
    declared = _declared(body)
    shell = next((name for name in _SHELLS if name in declared), "Bash")
    starter = next((name for name in _STARTERS if name in declared), "Task")
    for command in [step["shell"]] if isinstance(step.get("shell"), str) else step.get("shell", ()):
        as_list = declared.get(shell, {}).get("command", {}).get("type") == "array"
        given = ["bash", "-c", command] if as_list else command
        yield _call(shell, declared, command=given, cmd=given, description="a command", is_background=False)
    for prompt in step.get("agents", ()):
        name = re.sub(r"\W+", "_", prompt.lower())[:20]
        what = {"description": prompt[:20], "subagent_type": "general-purpose", "task_name": name}
        yield _call(starter, declared, prompt=prompt, message=prompt, task=prompt, **what)
    yield from step.get("tools", ())


def _call(tool: str, declared: dict[str, dict[str, Any]], **arguments: Any) -> Call:
    return tool, {key: value for key, value in arguments.items() if key in declared.get(tool, arguments)}


class _Gone(OSError):
    """The client has closed its side, or the server is over."""


class _Handler(BaseHTTPRequestHandler):
    server: Model
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        self._say(200, {"object": "list", "data": [{"id": "fake", "object": "model", "type": "model"}], "models": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        api = next((api for end, api in _APIS.items() if path.endswith(end)), None)
        if api is None:
            tokens = len(raw) // 4
            self._say(200, {"input_tokens": tokens, "totalTokens": tokens})  # for a call that counts them
            return
        body = json.loads(raw)
        step = self.server.begin(path, body)
        try:
            self._play(api, step, body, len(raw))
        except OSError:
            self.close_connection = True
        finally:
            self.server.finish()

    def _play(self, api: str, step: Step, body: dict[str, Any], size: int) -> None:
        self._wait(_FOREVER if step.get("silence") == "before" else step.get("after", 0))
        if "error" in step:
            status, headers, error = refusal(api, step["error"], step.get("resets_in", 3600))
            self._say(status, error, headers | step.get("headers", {}))
            return
        calls = list(_calls(step, body))
        text = step.get("say", "" if calls else ANSWER)
        usage = (step.get("in", size // 4), step.get("out", len(text) // 4))
        name = body.get("model") or re.findall(r"models/([^:]+)", self.path)[0]
        answer = ANSWERS[api](name, text, calls, usage)
        if body.get("stream") or "streamGenerate" in self.path:
            self._stream(step, list(answer.events()))
        else:
            self._say(200, answer.whole(), step.get("headers", {}))

    def _stream(self, step: Step, events: list[str]) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"} | step.get("headers", {}))
        for n, event in enumerate(events):
            midway = n == len(events) // 2
            if midway and step.get("silence") == "midway":
                self.server.midway.set()
                self._wait(_FOREVER)
            self._wait(step.get("pace", 0))
            chunk = event.encode()
            if midway and step.get("cut"):
                self.wfile.write(b"%x\r\n%b" % (len(chunk), chunk[: len(chunk) // 2]))
                raise _Gone
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self, seconds: float) -> None:
        """Wait, at most until the client has gone or the server is over."""
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            if self.server.over.wait(min(rest, 0.05)):
                raise _Gone
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                raise _Gone

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {}))
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
