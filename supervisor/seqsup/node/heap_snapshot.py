"""The heap snapshot of the Node process that holds most, written to a file in the reports' folder."""

from collections.abc import Callable
from pathlib import PurePath

from seqsup.host.wake import Wake
from seqsup.model.process import Heap
from seqsup.node.channel import LONG, Channel
from seqsup.node.processes import NodeProcesses
from seqsup.node.reports import REPORTS
from seqsup.text import printable


class HeapSnapshot:
    def __init__(self, channel: Channel, processes: NodeProcesses, wake: Wake) -> None:
        self._channel, self._processes, self._wake = channel, processes, wake
        self.writing = False
        self.result = ""  # in words

    def request(self, no_room: Callable[[Heap], str]) -> None:
        """Have the process that holds most write its heap to a file, unless `no_room` gives a reason against it."""
        nodes = self._processes.in_tree()
        node = max(nodes, key=lambda node: node.heap.used + node.heap.external, default=None)
        why = no_room(node.heap) if node is not None else "no Node process has reported its memory yet"
        if node is None or why:
            self.result = f"no heap snapshot: {why}"
            return
        self.writing = True
        self.result = "no heap snapshot: it did not finish"
        self._channel.begin(self._write(node.pid, printable(PurePath(node.script).name or "node")))

    async def _write(self, pid: int, name: str) -> None:
        file = f"heap-{pid}.heapsnapshot"
        answer = await self._channel.ask(pid, "snapshot", LONG, file=file)
        if answer is not None and answer.error:
            self.result = f"no heap snapshot: {printable(answer.error)}"
        elif answer is not None:
            self.result = f"heap snapshot of {name}: {REPORTS}/{file}"
        self.writing = False
        self._wake.poke()
