"""The Node processes of one tree, and the last figures of each."""

from collections.abc import Callable

from seqsup.model.process import Heap, NodeProcess
from seqsup.node.channel import SOON, Answer, Channel

_REMEMBERED = 50  # processes


class NodeProcesses:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.belongs: Callable[[int], bool] = lambda _: True  # whether a pid is in the tree
        self._known: dict[int, NodeProcess] = {}  # the latest stand last
        self._largest: NodeProcess | None = None  # of the living, until one of them reports new figures

    def answering(self) -> list[int]:
        """Return the pids in the tree that answer."""
        return [pid for pid in self._channel.nodes() if self.belongs(pid)]

    def living(self) -> tuple[NodeProcess, ...]:
        return tuple(self._known[pid] for pid in self._channel.nodes() if pid in self._known)

    def in_tree(self) -> list[NodeProcess]:
        """Return the living ones that are in the tree."""
        return [node for node in self.living() if self.belongs(node.pid)]

    def every(self) -> tuple[NodeProcess, ...]:
        """Return the last figures of each, also of those that have exited; the largest first."""
        return tuple(sorted(self._known.values(), key=lambda node: -node.rss))

    def last(self, pid: int) -> NodeProcess | None:
        return self._known.get(pid)

    def heap(self) -> Heap | None:
        """Return the heap of the largest living process."""
        if self._largest is None or self._largest.pid not in self._channel.nodes():
            self._largest = max(self.living(), key=lambda node: node.rss, default=None)
        return self._largest.heap if self._largest is not None else None

    async def read(self, pid: int, deadline: float = SOON) -> NodeProcess | None:
        """Ask a process for its figures; None where it has not answered after `deadline` seconds."""
        return self.note(pid, await self._channel.ask(pid, "mem", deadline))

    def note(self, pid: int, answer: Answer | None) -> NodeProcess | None:
        """Keep the figures in an answer, and return them."""
        node = self._channel.nodes().get(pid)
        if node is None or answer is None or answer.after is None:
            return None
        self._known.pop(pid, None)
        self._known[pid], self._largest = node.process(answer.after), None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return self._known[pid]
