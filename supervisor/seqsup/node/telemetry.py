"""Reports of one tree's Node processes, and when they are requested."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path

import msgspec

from seqsup.host.wake import Wake
from seqsup.model.plan import Account, Limits
from seqsup.model.process import Collection, NodesTold, ProcessMemory
from seqsup.node.allocation_sites import AllocationSites
from seqsup.node.channel import SOON, Channel, Node
from seqsup.node.forensics import Known
from seqsup.node.gc_requests import GcRequests
from seqsup.node.heap_limits import HeapLimits
from seqsup.node.heap_snapshot import HeapSnapshot
from seqsup.node.processes import NodeProcesses
from seqsup.node.reports import REPORTS, clean, settle
from seqsup.node.sockets import Sockets
from seqsup.state.run_folder import CHANNEL, private
from seqsup.text import named
from seqsup.units import MIB, format_duration

_SLOW, _BRISK = 5.0, 1.0  # seconds between two questions for memory, below and above the alert
_EACH = 0.5  # and as many more as there are processes, while the tree is idle: one request takes 0.2 ms
_MOVED = 4 * MIB  # by which a tree must move until its heaps are read again, however small they are
_BUSY = 1.0  # seconds for an answer to `seqsup mem`; an idle loop answers in a millisecond
_GC = 10.0  # seconds that it waits for a collection
_RECENT = 0.2  # seconds: a program may ask as often as it likes, and causes no more looks than that
_LAST = 10  # collections that are reported at the end


class Telemetry:
    """The questions run beside the watch, which never waits for them."""

    def __init__(
        self, limits: Limits | None, account: Account | None, folder: Path, wake: Wake, sockets: Sockets
    ) -> None:
        """Open the channel; OSError says why it cannot be had. Without limits, those of a companion, no allocations are
        sampled."""
        self._wake, self._account = wake, account
        self._folder, self._reports = folder, folder / REPORTS
        self._of_agent = limits is not None
        self._channel = Channel(sockets, account)
        self._channel.greeted, self._channel.operated = self._greeted, self._operated
        self.processes = NodeProcesses(self._channel)
        self._sites = AllocationSites(limits, self._channel, self.processes)
        self.gc = GcRequests(self._channel, self.processes, self._sites, wake)
        self.snapshot = HeapSnapshot(self._channel, self.processes, wake)
        self.heap_limits = HeapLimits()
        self._read_at, self._asked = 0, -inf  # bytes of the tree, and monotonic seconds, at the last request to all
        self._answers: dict[str, asyncio.Task[NodesTold]] = {}  # the last to each question
        self._visited = False  # by a Node process

    @property
    def line(self) -> tuple[Path, Path]:
        """Return where the preload finds us: the channel, and the folder for reports."""
        return self._channel.path, self._reports

    def look(
        self, now: float, used: int, belongs: Callable[[int], bool], describe: Callable[[], tuple[ProcessMemory, ...]]
    ) -> None:
        """Take note of a sample: the tree's memory in bytes, and its processes. Ask them where it is time to."""
        self.processes.belongs = belongs
        self.gc.look(used, describe)
        self._sites.look(used)
        if self._due(now, used):
            self._asked, self._read_at = now, used
            for pid in self._channel.nodes():
                self._channel.begin(self._read(pid))

    def known(self) -> Known:
        """Return all that was reported so far. Take the environment out of Node's reports."""
        return Known(
            nodes=self.processes.every(),
            collections=tuple(self.gc.done[-_LAST:]),
            sites=self._sites.known(),
            reports=clean(self._reports),
            snapshot=self.snapshot.result,
        )

    def close(self) -> None:
        self._channel.close()
        if self._visited:
            with suppress(OSError):
                (self._folder / CHANNEL).unlink()
            settle(self._reports)

    def _due(self, now: float, used: int) -> bool:
        grown, since = used - self._read_at, now - self._asked
        if grown >= _MOVED and grown >= self._sites.pace():
            return True
        if full := self._sites.nearly_full():  # they may fill memory that V8 has reserved already
            return since >= max(_BRISK, _EACH * full)
        if abs(grown) < _MOVED:
            return since >= max(_SLOW, _EACH * len(self._channel.nodes()))
        return since >= (_BRISK if self._sites.alerted else _SLOW)

    async def _read(self, pid: int, deadline: float = SOON) -> bool:
        """Return whether it answered within `deadline` seconds."""
        if (node := await self.processes.read(pid, deadline)) is not None:
            self._sites.consider(node)
        return node is not None

    def _greeted(self, node: Node) -> None:
        if not self._visited:
            self._visited = True
            self._receive()
        self._sites.forget(node.pid)
        if self._of_agent:  # a companion's heap limits are not reported
            self.heap_limits.greeted(node)
        self._channel.begin(self._read(node.pid))
        self._wake.poke()

    def _receive(self) -> None:
        """Make what there need not be before a Node process came: most commands have none."""
        with suppress(OSError):  # the agent may have removed the folder
            (self._folder / CHANNEL).symlink_to(self._channel.path)
            private(self._reports)
            if self._account is not None:
                os.chown(self._reports, self._account.uid, self._account.gid)

    def _operated(self, question: str, answer: Callable[[bytes], None]) -> None:
        self._channel.begin(self._serve(question, answer))

    async def _serve(self, question: str, answer: Callable[[bytes], None]) -> None:
        """Answer `seqsup mem` or a program of the agent. Those that ask the same at one time get the same answer."""
        running = self._answers.get(question)
        if running is None or running.done():
            running = self._answers[question] = self._channel.begin(self._told(question))
        answer(msgspec.json.encode(await asyncio.shield(running)))

    async def _told(self, question: str) -> NodesTold:
        """Answer without a long wait for a process whose loop is busy."""
        if question == "usage":
            return NodesTold(used=await self.gc.measured(_RECENT), after=self.processes.living())
        asked = self.processes.answering()
        read = await asyncio.gather(*(self._read(pid, _BUSY) for pid in asked))
        silent = [
            pid for pid, answered in zip(asked, read, strict=True) if not answered and pid in self._channel.nodes()
        ]
        before, why = self.processes.living(), self._unanswered(silent)
        done: Collection | None = None
        if question == "gc" and len(silent) < len(asked):
            try:
                async with asyncio.timeout(_GC):
                    done = await asyncio.shield(self.gc.collect(frozenset(silent)))
            except TimeoutError:
                why = f"the GC did not finish within {_GC:g} s and continues"
        used = self.gc.used
        return NodesTold(before=before, after=self.processes.living(), collection=done, used=used, why=why)

    def _unanswered(self, silent: list[int]) -> str:
        if not silent:
            return ""
        ages = [time.monotonic() - node.at for pid in silent if (node := self.processes.last(pid)) is not None]
        which = f"process {silent[0]}" if len(silent) == 1 else f"{len(silent)} processes, {named(map(str, silent))},"
        why = f"Node {which} did not answer within {_BUSY:g} s: JavaScript keeps its event loop busy, or it is stopped"
        return why + (f"; its last figures are {format_duration(max(ages))} old" if ages else "; its heap is not known")
