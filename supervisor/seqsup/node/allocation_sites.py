"""Where the memory of a tree's Node processes was allocated, as V8's sampling profiler saw it."""

from math import inf

from seqsup.host.wake import Wake
from seqsup.model.plan import Limits
from seqsup.model.process import AllocationSite, Heap, NodeProcess
from seqsup.node.channel import Channel
from seqsup.node.forensics import names_a_file
from seqsup.node.processes import NodeProcesses
from seqsup.units import MIB

_STEPS = 4  # times that sites are read between the alert and soft, and from half of a heap's limit on
_MOMENT = 1.0  # seconds in which Buffers are looked into
_SHARE = 4  # a process with a quarter of all memory is sampled: its worker thread costs it 7 to 19 MB
# Bytes between two samples: the first costs nothing that could be measured, the second is for a moment.
_COARSE, _FINE = 512 * 1024, 128
_REMEMBERED = 50  # processes


class AllocationSites:
    """Samples the processes that hold most, once the tree is over the alert or a heap is over half of its limit."""

    def __init__(self, limits: Limits | None, channel: Channel, processes: NodeProcesses) -> None:
        """Without `limits` (a companion) nothing is sampled."""
        self._channel, self._processes = channel, processes
        self._samples = limits is not None
        self._alert = _alert(limits) if limits is not None else None
        self._used = 0  # bytes of the tree
        self._stage = 0  # steps above zero at which all were examined last
        self._watched: set[int] = set()  # pids with sampled allocations
        self._unread: set[int] = set()  # those of which no sites were requested since sampling began
        self._looked_into: set[int] = set()  # pids of which many are sampled, for a moment
        self._filled: dict[int, int] = {}  # pid -> parts of its heap's limit in use as its sites were read last
        self._sites: dict[int, tuple[AllocationSite, ...]] = {}

    @property
    def alerted(self) -> bool:
        return self._alert is not None and self._used >= self._alert

    def known(self) -> dict[int, tuple[AllocationSite, ...]]:
        return {pid: sites for pid, sites in self._sites.items() if sites}

    def look(self, used: int) -> None:
        """Take note of the tree's memory in bytes; examine its processes at every step above the alert."""
        self._used = used
        if self._alert is not None and self.alerted:
            stage = used * _STEPS // self._alert
            if stage > self._stage:
                self._stage = stage
                self.examine()

    def forget(self, pid: int) -> None:
        """Forget a process that has become another program."""
        self._watched.discard(pid)
        self._unread.discard(pid)
        self._filled.pop(pid, None)

    def nearly_full(self) -> int:
        """Return the number of living processes with a heap above half of its limit."""
        return sum(pid in self._filled for pid in self._channel.nodes())

    def pace(self) -> float:
        """Return the bytes that the tree may grow by until its heaps are read again.

        The smallest heap may be at its limit soon.
        """
        hellos = [node.hello for node in self._channel.nodes().values() if node.hello.limit]
        rooms = [_room_for_old(hello.limit, hello.version) for hello in hellos]
        return min(rooms) / (2 * _STEPS) if self._samples and rooms else inf

    def consider(self, node: NodeProcess) -> None:
        """Examine a process that came or grew large since all were examined, or that nears its heap's limit."""
        if self.alerted and node.pid not in self._watched:
            self.examine(node.pid)
            return
        filled = node.heap.used * 2 * _STEPS // max(_room_for_old(node.heap.limit, node.version), 1)
        # One that answered late may be at its limit before the next step
        news = filled > self._filled.get(node.pid, 0) or node.pid in self._unread
        if self._samples and filled >= _STEPS and news and self._processes.belongs(node.pid):
            self._unread.discard(node.pid)
            self._filled[node.pid] = filled
            self._channel.begin(self._examine_one(node))

    def examine(self, only: int | None = None) -> None:
        """Have those that hold most watched, and read where their memory comes from."""
        if not self._samples:
            return
        nodes = self._processes.in_tree()
        whole = sum(node.rss for node in nodes)
        for node in nodes:
            if node.rss * _SHARE >= whole and only in (None, node.pid):
                self._channel.begin(self._examine_one(node))

    async def _examine_one(self, node: NodeProcess) -> None:
        """Have it watched, or read what is known. Buffers are looked into for a moment: so many samples are dear."""
        pid = node.pid
        if pid not in self._watched:
            self._watched.add(pid)
            await self._sample(pid, _COARSE)
            await self._channel.ask(pid, "watch")
            self._unread.add(pid)
        elif pid in self._looked_into or not of_buffers(node.heap):
            await self._read(pid, buffers=pid in self._looked_into)
        if pid in self._looked_into or not of_buffers(node.heap):
            return
        self._looked_into.add(pid)
        await self._sample(pid, _FINE)
        await Wake().wait(_MOMENT)
        await self._read(pid, buffers=True)
        await self._sample(pid, _COARSE)
        self._looked_into.discard(pid)

    async def _sample(self, pid: int, interval: int) -> None:
        """Have one allocation in `interval` bytes sampled."""
        await self._channel.ask(pid, "sample", interval=interval)

    async def _read(self, pid: int, *, buffers: bool) -> None:
        answer = await self._channel.ask(pid, "sites", buffers=buffers)
        if answer is None:
            return
        before = self._sites.pop(pid, ())
        self._sites[pid] = answer.sites if names_a_file(answer.sites) or not before else before
        if len(self._sites) > _REMEMBERED:
            del self._sites[next(iter(self._sites))]
        if (node := self._processes.note(pid, answer)) is not None:
            self.consider(node)


def _alert(limits: Limits) -> int | None:
    """Return from how many bytes on a tree is looked at more closely: half of soft; None: never."""
    if limits.soft is not None:
        return limits.soft // 2
    return None if limits.hard is None else limits.hard * 3 // 8


def of_buffers(heap: Heap) -> bool:
    """Say whether most of it is Buffers and long strings: only a wrapper of each, up to 100 bytes, is on the heap."""
    return heap.external > heap.used


def _room_for_old(limit: int, version: str) -> int:
    """Return what lasting objects may take of V8's limit, in bytes.

    The limit counts three semi-spaces too: 64 MiB each from Node 24 on, else 16.
    """
    major = version.removeprefix("v").partition(".")[0]
    young = 3 * (64 if major.isdecimal() and int(major) >= 24 else 16) * MIB
    return max(limit - young, limit // 4)
