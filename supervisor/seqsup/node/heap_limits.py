"""The Node processes of an attempt that have another heap limit than the one that seqsup set."""

from pathlib import PurePath

from seqsup.node.channel import Node
from seqsup.text import printable
from seqsup.units import MIB, format_size

_REMEMBERED = 50  # scripts
_OTHER_HEAP = 1.05  # V8's limit is at most this and _YOUNG above the cap that was set: three semi-spaces
_YOUNG = 512 * MIB


class HeapLimits:
    def __init__(self) -> None:
        self._greeted: list[Node] = []  # since the last call of `newly_overridden`
        self._reported: set[tuple[str, int]] = set()  # script and limit

    def greeted(self, node: Node) -> None:
        self._greeted.append(node)

    def newly_overridden(self, cap: int | None) -> list[str]:
        """Name new processes with a limit other than `cap` bytes; of many with the same script and limit only the
        first.
        """
        new, self._greeted = self._greeted, []
        said = []
        for node in new:
            alike = (node.hello.script, node.hello.limit)
            if alike in self._reported or len(self._reported) >= _REMEMBERED:
                continue
            if cap is not None and node.hello.limit and overridden(node.hello.limit, cap):
                self._reported.add(alike)
                said.append(_describe(node, cap))
        return said


def overridden(process_limit: int, cap: int) -> bool:
    """Say whether V8's limit is another than the cap that we set would give."""
    return not cap * 0.95 <= process_limit <= cap * _OTHER_HEAP + _YOUNG


def _describe(node: Node, cap: int) -> str:
    name = PurePath(node.hello.script).name or "node"
    by = f"its own argument {node.hello.cap}" if node.hello.cap else "its environment"
    return printable(
        f"{name} (pid {node.pid}) has a heap limit of {format_size(node.hello.limit)} instead of {format_size(cap)}:"
        f" overridden by {by}; memory.hard still applies"
    )
