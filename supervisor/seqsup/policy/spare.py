"""Which process is ended to spare an agent CLI: the largest leaf of a tool, pure."""

from collections.abc import Iterable, Iterator, Mapping

from seqsup.model.enums import ProcessKind
from seqsup.model.process import ProcessMemory, TreeProcess
from seqsup.model.process_names import classify, title
from seqsup.units import format_size

VICTIMS = 5  # processes in a row, see `watch.LASTING`
_OF_TOOLS = (ProcessKind.OTHER, ProcessKind.BROWSER)


def victim(processes: Iterable[TreeProcess], leader: int, excess: int) -> ProcessMemory | None:
    """Choose the process to end, of a tree that is `excess` bytes over its limit. None: ending tools would not help.

    The CLI, shells, MCP servers and what those started are never chosen. A process whose parent has ended counts as
    one of a tool.
    """
    tree = {process.pid: process for process in processes}
    kinds = {pid: _kind(process, leader) for pid, process in tree.items()}
    parents = {process.parent for process in tree.values()}
    leaves = [
        process.memory for pid, process in tree.items()
        if process.memory is not None and pid not in parents and kinds[pid] in _OF_TOOLS
        and _is_of_tool(pid, tree, kinds, leader)
    ]  # fmt: skip
    leaves.sort(key=lambda leaf: (-leaf.bytes, leaf.pid))
    if not leaves or sum(leaf.bytes for leaf in leaves[:VICTIMS]) < excess:
        return None
    return leaves[0]


def _kind(process: TreeProcess, leader: int) -> ProcessKind | None:
    """Return the kind by the program. The leader may be a wrapper around a CLI that is not known by its name."""
    known = process.memory
    if known is None:
        return None
    return known.kind if process.pid != leader else classify(known.name, known.command.split(" "), leader=False)


def of_tools(processes: Iterable[TreeProcess], leader: int) -> Iterator[int]:
    """Yield the pids of tools with their shells, without what leads to an MCP server."""
    tree = {process.pid: process for process in processes}
    kinds = {pid: _kind(process, leader) for pid, process in tree.items()}
    leading = {
        above for pid, kind in kinds.items() if kind is ProcessKind.MCP_SERVER for above in _above(pid, tree)
    }  # fmt: skip
    for pid, kind in kinds.items():
        if kind in (*_OF_TOOLS, ProcessKind.SHELL) and pid not in leading and _is_of_tool(pid, tree, kinds, leader):
            yield pid


def is_of_tool(process: ProcessMemory) -> bool:
    """Return whether the agent can continue without a process, by its kind alone."""
    return process.kind in (*_OF_TOOLS, ProcessKind.SHELL)


def _is_of_tool(
    pid: int, tree: Mapping[int, TreeProcess], kinds: Mapping[int, ProcessKind | None], leader: int
) -> bool:
    above = _above(pid, tree)
    among = {kinds[each] for each in above}
    if pid == leader or among & {None, ProcessKind.MCP_SERVER}:
        return False
    return ProcessKind.AGENT in (among if leader in above else kinds.values())


def _above(pid: int, tree: Mapping[int, TreeProcess]) -> list[int]:
    above = [pid]
    while (parent := tree[above[-1]].parent) in tree and parent not in above:
        above.append(parent)
    return above[1:]


def notice(process: ProcessMemory, used: int, key: str, limit: int) -> str:
    """Tell the agent, in a line, what was ended and why. Sizes in bytes."""
    return (
        f"seqsup ended {title(process)} (pid {process.pid}, {format_size(process.bytes)}),"
        f" because the process tree reached {format_size(used)} (memory.{key} {format_size(limit)})."
        " Do not run it again as it was: it needs less memory."
    )
