"""What the Node processes of one attempt say of themselves, and what they are asked: figures, collections, sites."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from pathlib import Path, PurePath
from typing import Any

import msgspec

from seqsup.host.wake import Wake
from seqsup.model.plan import Account, Limits
from seqsup.model.process import AllocationSite, Collection, Heap, NodeProcess, NodesTold, ProcessMemory
from seqsup.node import forensics
from seqsup.node.channel import Answer, Channel, Node
from seqsup.node.forensics import Known
from seqsup.node.reports import REPORTS, clean, settle
from seqsup.node.sockets import Sockets
from seqsup.state.run_folder import CHANNEL, private
from seqsup.text import printable
from seqsup.units import MIB, format_size

_SLOW, _BRISK = 5.0, 1.0  # seconds between two questions for memory, below and above the alert
_EACH = 0.5  # and as many more as there are processes, while the tree stands still: to ask one takes 0.2 ms
_STEPS = 4  # times that sites are read between the alert and soft, and from half of a heap's limit on
_MOMENT = 1.0  # seconds in which Buffers are looked into
_SHARE = 4  # whoever holds a quarter of what all hold is looked at closely: the worker takes it 7 to 19 MB
_SETTLED = 0.3  # seconds after a collection until RSS shows it (Node 20 and before; Buffers on any)
_PACE = 4 * MIB  # by which a tree must move until its heaps are read again, however small they are
_DEADLINE = 600.0  # seconds for a collection: how long it is worth waiting for is the policy's to say
_OPERATORS = 60.0  # seconds that an operator waits for one
_SOON = 10.0  # seconds for everything else
_REMEMBERED = 50  # processes
_LAST = 10  # collections that are told of in the end


class Telemetry:
    """Of one attempt. Its questions run beside the watch, which never waits for them."""

    def __init__(
        self, limits: Limits | None, account: Account | None, folder: Path, wake: Wake, sockets: Sockets
    ) -> None:
        """Open the channel; OSError says why it cannot be had. Without limits, those of a companion, no allocations are
        sampled."""
        self._wake, self._account = wake, account
        self._folder, self._reports = folder, folder / REPORTS
        self._channel = Channel(sockets, account)
        self._channel.greeted, self._channel.operated = self._greeted, self._operated
        self._alert = forensics.alert(limits) if limits is not None else None
        self._samples = limits is not None
        self._stage = 0.0
        self._used, self._read_at, self._asked = 0, 0, -inf
        self._belongs: Callable[[int], bool] = lambda _: True
        self._describe: Callable[[], tuple[ProcessMemory, ...]] = tuple
        self._known: dict[int, NodeProcess] = {}
        self._largest: NodeProcess | None = None  # of those that live, until one of them says more
        self._watched: set[int] = set()  # pids whose allocations are sampled
        self._looked_into: set[int] = set()  # and of which many are, for a moment
        self._filled: dict[int, int] = {}  # pid -> parts of its heap's limit in use as its sites were read last
        self._sites: dict[int, tuple[AllocationSite, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: asyncio.Future[None] | None = None  # the next look
        self._collecting: asyncio.Task[Collection] | None = None
        self._collections: list[Collection] = []
        self._told = 0  # of them
        self.snapping = False
        self._snapshot = ""  # what came of it, in words
        self._greetings: list[Node] = []  # that the watch has not heard of yet
        self._visited = False  # by a Node process
        self._others: set[tuple[str, int]] = set()  # scripts with a heap limit of their own that were told of

    @property
    def line(self) -> tuple[Path, Path]:
        """Where the preload finds us: the channel, and the folder for reports."""
        return self._channel.path, self._reports

    def look(
        self, now: float, used: int, belongs: Callable[[int], bool], describe: Callable[[], tuple[ProcessMemory, ...]]
    ) -> None:
        """Take note of a sample: of the tree's bytes, and of who is in it. Asks where it is time to."""
        self._used, self._belongs, self._describe = used, belongs, describe
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
        if self._due(now):
            self._asked, self._read_at = now, used
            for pid in self._channel.nodes():
                self._begin(self._read(pid))
        if self._alert is not None and self._alerted():
            stage = used * _STEPS // self._alert
            if stage > self._stage:
                self._stage = stage
                self._examine()

    @property
    def answered(self) -> bool:
        """Whether a Node process of the tree can be asked."""
        return any(map(self._belongs, self._channel.nodes()))

    def answering(self) -> list[int]:
        """The Node processes of the tree that can be asked."""
        return [pid for pid in self._channel.nodes() if self._belongs(pid)]

    def processes(self) -> tuple[NodeProcess, ...]:
        """The last figures of those that live."""
        return tuple(self._known[pid] for pid in self._channel.nodes() if pid in self._known)

    def heap(self) -> Heap | None:
        """The heap of the living process that holds most."""
        if self._largest is None or self._largest.pid not in self._channel.nodes():
            self._largest = max(self.processes(), key=lambda node: node.rss, default=None)
        return self._largest.heap if self._largest is not None else None

    def known(self) -> Known:
        """All that was said so far, also by those that are gone. Takes the environment out of Node's reports."""
        return Known(
            nodes=tuple(sorted(self._known.values(), key=lambda node: -node.rss)),
            collections=tuple(self._collections[-_LAST:]),
            sites={pid: sites for pid, sites in self._sites.items() if sites},
            reports=clean(self._reports),
            snapshot=self._snapshot,
        )

    def collected(self) -> list[Collection]:
        """The collections that are over and that nobody has heard of yet."""
        new, self._told = self._collections[self._told :], len(self._collections)
        return new

    def overridden(self, cap: int | None) -> list[str]:
        """Say who has another heap limit than ours; of many with the same script and limit the first."""
        new, self._greetings = self._greetings, []
        said = []
        for node in new:
            alike = (node.hello.script, node.hello.limit)
            if alike in self._others or len(self._others) >= _REMEMBERED:
                continue
            if words := _overridden(node, cap):
                self._others.add(alike)
                said.append(words)
        return said

    def collect(self) -> "asyncio.Task[Collection]":
        """Ask all for a collection, unless that is going on. The watch is woken when it is over."""
        if self._collecting is None:
            self._collecting = asyncio.get_running_loop().create_task(self._collect())
        return self._collecting

    def snapshot(self, no_room: Callable[[Heap], str]) -> None:
        """Have the process that holds most write its heap to a file, unless there is no room, and say why."""
        asked = set(self.answering())
        nodes = [node for node in self.processes() if node.pid in asked]
        node = max(nodes, key=lambda node: node.heap.used + node.heap.external, default=None)
        why = no_room(node.heap) if node is not None else "no Node process has said yet what it holds"
        if node is None or why:
            self._snapshot = f"no heap snapshot: {why}"
            return
        self.snapping = True
        self._snapshot = "no heap snapshot: it was not finished"
        self._begin(self._snap(node.pid, printable(PurePath(node.script).name or "node")))

    def close(self) -> None:
        for task in (*self._tasks, *([self._collecting] if self._collecting else [])):
            task.cancel()
        self._channel.close()
        if self._visited:
            with suppress(OSError):
                (self._folder / CHANNEL).unlink()
            settle(self._reports)

    def _due(self, now: float) -> bool:
        grown, since, nodes = self._used - self._read_at, now - self._asked, self._channel.nodes()
        if grown >= _PACE and grown >= self._pace():
            return True
        if full := sum(pid in self._filled for pid in nodes):  # they may go on in what V8 has already
            return since >= max(_BRISK, _EACH * full)
        if abs(grown) < _PACE:
            return since >= max(_SLOW, _EACH * len(nodes))
        return since >= (_BRISK if self._alerted() else _SLOW)

    def _alerted(self) -> bool:
        return self._alert is not None and self._used >= self._alert

    def _begin(self, question: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(question)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _greeted(self, node: Node) -> None:
        if not self._visited:
            self._visited = True
            self._receive()
        self._watched.discard(node.pid)
        self._filled.pop(node.pid, None)
        if self._samples:  # nobody asks who in a companion has a heap limit of its own
            self._greetings.append(node)
        self._begin(self._read(node.pid))
        self._wake.poke()

    def _receive(self) -> None:
        """Make what there need not be before a Node process came: most commands have none."""
        with suppress(OSError):  # the agent may have removed the folder
            (self._folder / CHANNEL).symlink_to(self._channel.path)
            private(self._reports)
            if self._account is not None:
                os.chown(self._reports, self._account.uid, self._account.gid)

    async def _read(self, pid: int) -> None:
        self._note(pid, await self._channel.ask(pid, "mem", _SOON))

    def _note(self, pid: int, answer: Answer | None) -> None:
        node = self._channel.nodes().get(pid)
        if node is None or answer is None or answer.after is None:
            return
        self._known.pop(pid, None)  # the latest stand last
        self._known[pid], self._largest = node.process(answer.after), None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._consider(self._known[pid])

    def _consider(self, node: NodeProcess) -> None:
        """Look closely at what came or grew large since all were examined, and at what nears its heap's limit."""
        if self._alerted() and node.pid not in self._watched:
            self._examine(node.pid)
            return
        filled = node.heap.used * 2 * _STEPS // max(forensics.room_for_old(node.heap.limit, node.version), 1)
        if self._samples and filled >= _STEPS and filled > self._filled.get(node.pid, 0) and self._belongs(node.pid):
            self._filled[node.pid] = filled
            self._begin(self._examine_one(node))

    def _pace(self) -> float:
        """Bytes that the tree may grow by until its heaps are read again: the smallest may be at its limit soon."""
        hellos = [node.hello for node in self._channel.nodes().values() if node.hello.limit]
        rooms = [forensics.room_for_old(hello.limit, hello.version) for hello in hellos]
        return max(min(rooms) / (2 * _STEPS), _PACE) if self._samples and rooms else inf

    def _examine(self, only: int | None = None) -> None:
        """Have those that hold most watched, and read where their memory comes from."""
        nodes = [node for node in self.processes() if self._belongs(node.pid)]
        whole = sum(node.rss for node in nodes)
        for node in nodes:
            if node.rss * _SHARE >= whole and only in (None, node.pid):
                self._begin(self._examine_one(node))

    async def _examine_one(self, node: NodeProcess) -> None:
        """Have it watched, or read what is known. Buffers are looked into for a moment: so many samples are dear."""
        pid = node.pid
        if pid not in self._watched:
            self._watched.add(pid)
            await self._channel.ask(pid, "sample", _SOON, interval=forensics.COARSE)
            await self._channel.ask(pid, "watch", _SOON)
        elif pid in self._looked_into or not forensics.of_buffers(node.heap):
            await self._read_sites(pid, buffers=pid in self._looked_into)
        if pid in self._looked_into or not forensics.of_buffers(node.heap):
            return
        self._looked_into.add(pid)
        await self._channel.ask(pid, "sample", _SOON, interval=forensics.FINE)
        await Wake().wait(_MOMENT)
        await self._read_sites(pid, buffers=True)
        await self._channel.ask(pid, "sample", _SOON, interval=forensics.COARSE)
        self._looked_into.discard(pid)

    async def _read_sites(self, pid: int, *, buffers: bool) -> None:
        answer = await self._channel.ask(pid, "sites", _SOON, buffers=buffers)
        if answer is not None:
            before = self._sites.pop(pid, ())
            self._sites[pid] = answer.sites if forensics.names_a_file(answer.sites) or not before else before
            if len(self._sites) > _REMEMBERED:
                del self._sites[next(iter(self._sites))]
            self._note(pid, answer)

    async def _snap(self, pid: int, name: str) -> None:
        file = f"heap-{pid}.heapsnapshot"
        answer = await self._channel.ask(pid, "snapshot", _DEADLINE, file=file)
        if answer is not None and answer.error:
            self._snapshot = f"no heap snapshot: {printable(answer.error)}"
        elif answer is not None:
            self._snapshot = f"heap snapshot of {name}: {REPORTS}/{file}"
        self.snapping = False
        self._wake.poke()

    async def _collect(self) -> Collection:
        began, used = time.monotonic(), self._used
        asked, known = self.answering(), dict(self._known)
        answers = await asyncio.gather(*(self._channel.ask(pid, "gc", _DEADLINE) for pid in asked))
        await Wake().wait(_SETTLED)
        befores, afters = [], []
        for pid, answer in zip(asked, answers, strict=True):
            if answer is None or answer.before is None:
                continue
            if (node := self._channel.nodes().get(pid)) is not None:
                await self._read(pid)
                reading = node.process(answer.before)  # V8 may have begun by itself since it was known last
                befores.append(max(known.get(pid, reading), reading, key=lambda each: each.rss))
                afters.append(self._known.get(pid, befores[-1]))
        self._awaited = asyncio.get_running_loop().create_future()
        self._wake.poke()
        await self._awaited
        done = self._sum_up(began, len(asked), used, befores, afters)
        self._collections.append(done)
        self._collecting = None
        self._examine()  # what is left now is no garbage
        self._wake.poke()
        return done

    def _sum_up(
        self, began: float, asked: int, used: int, befores: list[NodeProcess], afters: list[NodeProcess]
    ) -> Collection:
        before, after = (forensics.total(node.heap for node in nodes) for nodes in (befores, afters))
        spoke = {node.pid for node in befores}
        rest = forensics.total(node.heap for node in self.processes() if node.pid not in spoke)
        whole = forensics.total([before, rest]), forensics.total([after, rest])
        unknown = forensics.unsaid(self._describe(), self.processes())
        return Collection(
            at=began, seconds=time.monotonic() - began, asked=asked, answered=len(befores), before=before, after=after,
            used=used,
            freed=max(sum(node.rss for node in befores) - sum(node.rss for node in afters), 0),
            verdict=forensics.verdict(*whole, used, self._used, unknown),
        )  # fmt: skip

    # -- an operator, who asks from another process

    def _operated(self, question: str, answer: Callable[[bytes], None]) -> None:
        self._begin(self._serve(question, answer))

    async def _serve(self, question: str, answer: Callable[[bytes], None]) -> None:
        done: Collection | None = None
        for pid in self.answering():
            await self._read(pid)
        before = self.processes()
        if question == "gc" and before:
            with suppress(TimeoutError):
                async with asyncio.timeout(_OPERATORS):
                    done = await asyncio.shield(self.collect())
        answer(msgspec.json.encode(NodesTold(before=before, after=self.processes(), collection=done)))


def _overridden(node: Node, cap: int | None) -> str:
    """Say who gave a process another heap limit than ours; empty when nobody did."""
    limit = node.hello.limit
    if cap is None or not limit or not forensics.overridden(limit, cap):
        return ""
    name = PurePath(node.hello.script).name or "node"
    by = f"its own argument {node.hello.cap}" if node.hello.cap else "its environment"
    return printable(
        f"{name} (pid {node.pid}) has a heap limit of {format_size(limit)} instead of {format_size(cap)}:"
        f" overridden by {by}; memory.hard holds all the same"
    )
