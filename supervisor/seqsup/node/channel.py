"""The line to the Node processes of one attempt: a unix socket on which each names itself and then answers.

    node/preload.cjs, in the main thread:  {"hello":"node","pid":…}      then answers
    node/watch.cjs, in a worker:           {"hello":"watch"}            answers while the loop is blocked
    another seqsup, such as `seqsup mem`:  {"hello":"operator","ask":…} is answered, once
    a program of the agent:                {"hello":"client","ask":…}   is answered, once

A line of JSON each way, as docs/reference/channel.md says.
A client that sends more than was requested, or no JSON, is dropped. Nothing here blocks.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct

from seqsup.model.plan import Account
from seqsup.model.process import PROTOCOL, AllocationSite, Heap, NodeProcess, NodesTold
from seqsup.node.sockets import Sockets, discard, peer

_LONGEST_LINE = 65536  # bytes
_LINES, _LINES_EACH = 512, 4  # connections in all, and of one process
_AT_ONCE, _REST = 16, 0.01  # accepted in one go, and seconds until the next
SOON = 10.0  # seconds for an answer
LONG = 600.0  # and for what goes through a whole heap: how long it is worth waiting for is the policy's to say
_SILENCE = 5.0  # seconds within which a client must name itself
_PATIENCE = 0.03  # seconds after which the watch thread is asked too; an idle loop answers in one millisecond

# What another program asks. An agent may be another user, so a client causes little work: it cannot read every heap.
QUESTIONS = {"operator": ("mem", "gc"), "client": ("usage", "gc")}

T = TypeVar("T")
Size = Annotated[int, Meta(ge=0, le=2**53)]
Text = Annotated[str, Meta(max_length=1000)]


class Hello(Struct, frozen=True, kw_only=True):
    hello: Text
    protocol: Size = PROTOCOL
    version: Text = ""
    script: Text = ""
    limit: Size = 0
    cap: Text = ""
    ask: Text = ""  # of an operator or a client


class Reading(Struct, frozen=True, kw_only=True):
    """A moment of a Node process, in bytes."""

    rss: Size
    used: Size
    total: Size
    external: Size
    array_buffers: Size
    workers: Size = 0  # threads


class Answer(Struct, frozen=True, kw_only=True):
    id: Size
    before: Reading | None = None
    after: Reading | None = None
    sites: Annotated[tuple[AllocationSite, ...], Meta(max_length=20)] = ()
    error: Text = ""


class Node:
    def __init__(self, pid: int, hello: Hello, line: "_Line") -> None:
        self.pid, self.hello = pid, hello
        self.lines = {"node": line}
        self.waiting: dict[int, asyncio.Future[Answer | None]] = {}
        self.asked = 0

    def process(self, reading: Reading) -> NodeProcess:
        return NodeProcess(
            pid=self.pid, version=self.hello.version, script=self.hello.script, rss=reading.rss, at=time.monotonic(),
            workers=reading.workers,
            heap=Heap(
                used=reading.used, total=reading.total, limit=self.hello.limit, external=reading.external,
                array_buffers=reading.array_buffers,
            ),
        )  # fmt: skip


class Channel:
    """The supervisor's end. `greeted` hears of each Node process, `operated` of each operator's question."""

    def __init__(self, sockets: Sockets, account: Account | None = None) -> None:
        """Accept connections of `account`'s processes (or our own user's) only. OSError says why that failed."""
        self.greeted: Callable[[Node], None]
        self.operated: Callable[[str, Callable[[bytes], None]], None]
        self._turn_away()
        self._users = {os.geteuid(), *([account.uid] if account is not None else [])}
        self._nodes: dict[int, Node] = {}
        self._lines: list[_Line] = []
        self._conversations: set[asyncio.Task[Any]] = set()
        self._listener, self.path = sockets.listen(account)
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def nodes(self) -> dict[int, Node]:
        """Connected processes, by the pid that the kernel reports."""
        return self._nodes

    async def ask(self, pid: int, question: str, deadline: float = SOON, **more: object) -> Answer | None:
        """Ask a Node process; None when it has not answered after `deadline` seconds, or is gone."""
        node = self._nodes.get(pid)
        if node is None:
            return None
        node.asked += 1
        number = node.asked
        line = msgspec.json.encode({"id": number, "ask": question, **more}) + b"\n"
        answer: asyncio.Future[Answer | None] = self._loop.create_future()
        node.waiting[number] = answer
        node.lines["node"].ask(number, line)
        timers = (
            self._loop.call_later(_PATIENCE, _ask_watch, node, number, line),
            self._loop.call_later(deadline, _settle, answer, None),
        )
        try:
            return await answer
        finally:
            node.waiting.pop(number, None)
            for timer in timers:
                timer.cancel()

    def begin(self, conversation: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run what asks and waits for answers beside the watch. close() cancels it."""
        task = self._loop.create_task(conversation)
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        return task

    def close(self) -> None:
        for conversation in self._conversations:
            conversation.cancel()
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listener.fileno())
        discard(self._listener, self.path)
        for line in tuple(self._lines):
            self._drop(line)
        self._turn_away()

    def _turn_away(self) -> None:
        """Drop the callbacks: a listener holds us, and the whole attempt would stay until Python's cycle collector
        runs.
        """
        self.greeted, self.operated = lambda _: None, lambda _, answer: answer(b"{}")

    def _accept(self) -> None:
        """Take in a few; the rest wait in the backlog, so that a flood of them leaves time for everything else."""
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or it went again
                break
            self._admit(connection)
        self._loop.remove_reader(self._listener.fileno())
        self._resting = self._loop.call_later(_REST, self._loop.add_reader, self._listener.fileno(), self._accept)

    def _admit(self, connection: socket.socket) -> None:
        pid, uid = peer(connection)
        full = len(self._lines) >= _LINES or sum(line.pid == pid for line in self._lines) >= _LINES_EACH
        if uid not in self._users or pid <= 0 or full:
            connection.close()
            return
        connection.setblocking(False)
        line = _Line(connection, pid, uid)
        self._lines.append(line)
        self._loop.add_reader(connection, self._read, line)
        self._loop.call_later(_SILENCE, self._drop_silent, line)

    def _read(self, line: "_Line") -> None:
        try:
            for text in line.read():
                self._heard(line, text)
        except (_Misbehaves, OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
            self._drop(line)

    def _heard(self, line: "_Line", text: bytes) -> None:
        if line.node is None:
            self._greet(line, msgspec.json.decode(text, type=Hello))
            return
        answer = msgspec.json.decode(text, type=Answer)
        line.answered(answer.id)
        if (waiting := line.node.waiting.get(answer.id)) is not None:
            _settle(waiting, answer)

    def _greet(self, line: "_Line", hello: Hello) -> None:
        known = self._nodes.get(line.pid)
        if hello.protocol != PROTOCOL:
            why = f"the supervisor speaks version {PROTOCOL} of the channel, and this program version {hello.protocol}"
            self._refuse(line, f"{why}: install the same version of seqsup for both")
        match hello.hello:
            case "node":
                if known is not None:  # it became another program
                    for old in tuple(known.lines.values()):
                        self._drop(old)
                line.node = self._nodes[line.pid] = Node(line.pid, hello, line)
                self.greeted(line.node)
            case "watch" if known is not None and "watch" not in known.lines:
                line.node, known.lines["watch"] = known, line
            case "operator" | "client" if not line.operates and (hello.hello == "client" or line.uid == os.geteuid()):
                if hello.ask not in QUESTIONS[hello.hello]:
                    self._refuse(line, f"unknown question {hello.ask!r}: ask {' or '.join(QUESTIONS[hello.hello])}")
                line.operates = True
                self.operated(hello.ask, lambda text: self._reply(line, text))
            case _:
                raise _Misbehaves

    def _reply(self, line: "_Line", text: bytes) -> None:
        line.send(text + b"\n")
        self._drop(line)

    def _refuse(self, line: "_Line", error: str) -> NoReturn:
        line.send(msgspec.json.encode(NodesTold(error=error)) + b"\n")
        raise _Misbehaves

    def _drop_silent(self, line: "_Line") -> None:
        if line.node is None and not line.operates:
            self._drop(line)

    def _drop(self, line: "_Line") -> None:
        if line not in self._lines:
            return
        self._lines.remove(line)
        self._loop.remove_reader(line.connection)
        line.connection.close()
        node = line.node
        if node is None:
            return
        if node.lines.get("watch") is line:
            del node.lines["watch"]
        elif node.lines["node"] is line:
            if self._nodes.get(node.pid) is node:
                del self._nodes[node.pid]
            for waiting in node.waiting.values():
                _settle(waiting, None)


class _Misbehaves(Exception):
    """A client sent more than was requested, or something else."""


class _Line:
    """One connection: nothing is kept of it but the line that it is about to say."""

    def __init__(self, connection: socket.socket, pid: int, uid: int) -> None:
        self.connection, self.pid, self.uid = connection, pid, uid
        self.node: Node | None = None
        self.operates = False
        self._owes: set[int] = set()
        self._begun = b""

    def ask(self, number: int, line: bytes) -> None:
        self._owes.add(number)
        self.send(line)

    def answered(self, number: int) -> None:
        if number not in self._owes:
            raise _Misbehaves
        # Earlier questions are answered on the other line, or too late
        self._owes = {other for other in self._owes if other > number}

    def send(self, text: bytes) -> None:
        """Send all at once or not at all: a client that does not read its few hundred bytes is dropped."""
        try:
            if self.connection.send(text) == len(text):
                return
        except OSError:
            pass
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # reads as its end

    def read(self) -> Iterator[bytes]:
        """Give what came in whole lines. OSError and _Misbehaves mean that nothing more will come."""
        try:
            came = self.connection.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        if not came:
            raise _Misbehaves
        *lines, self._begun = (self._begun + came).split(b"\n")
        if len(self._begun) > _LONGEST_LINE:
            raise _Misbehaves
        yield from lines


def _ask_watch(node: Node, number: int, line: bytes) -> None:
    if (watch := node.lines.get("watch")) is not None:
        watch.ask(number, line)


def _settle(waiting: "asyncio.Future[Answer | None]", answer: Answer | None) -> None:
    if not waiting.done():
        waiting.set_result(answer)
