"""The Node processes of an attempt that have another heap limit than the one that seqsup set."""

from pathlib import PurePath

from seqsup.node import forensics
from seqsup.node.channel import Node
from seqsup.text import printable
from seqsup.units import format_size

_REMEMBERED = 50  # scripts


class HeapLimits:
    def __init__(self) -> None:
        self._greeted: list[Node] = []  # since the last call of `overridden`
        self._reported: set[tuple[str, int]] = set()  # script and limit

    def greeted(self, node: Node) -> None:
        self._greeted.append(node)

    def overridden(self, cap: int | None) -> list[str]:
        """Name the new processes whose limit is not `cap` bytes; of many with the same script and limit the first."""
        new, self._greeted = self._greeted, []
        said = []
        for node in new:
            alike = (node.hello.script, node.hello.limit)
            if alike in self._reported or len(self._reported) >= _REMEMBERED:
                continue
            if words := _overridden(node, cap):
                self._reported.add(alike)
                said.append(words)
        return said


def _overridden(node: Node, cap: int | None) -> str:
    limit = node.hello.limit
    if cap is None or not limit or not forensics.overridden(limit, cap):
        return ""
    name = PurePath(node.hello.script).name or "node"
    by = f"its own argument {node.hello.cap}" if node.hello.cap else "its environment"
    return printable(
        f"{name} (pid {node.pid}) has a heap limit of {format_size(limit)} instead of {format_size(cap)}:"
        f" overridden by {by}; memory.hard holds all the same"
    )
