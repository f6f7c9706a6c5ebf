"""`seqsup mem`: memory now, of the run that goes on or of any processes."""

import click
import msgspec

from ..memory import Freed, Usage, force_gc, memory_of, memory_usage
from ..model import Heap, NodeProcess, SeqsupError
from ..table import Column, render
from ..units import format_size
from ..wording import counted, title
from ._output import put_object, width
from ._values import size, whole

SCHEMA = "seqsup.mem/1"
_NOT_KNOWN = "n/a"
_COLUMNS = (
    Column("pid"),
    Column("memory"),
    Column("heap used/limit"),
    Column("external"),
    Column("kind", right=False, optional=1),
    Column("process", right=False),
)


@click.command()
@click.argument("pids", metavar="[PID]...", nargs=-1, callback=whole(1))
@click.option("--gc", is_flag=True, help="Ask the run's Node processes for a collection, and say what it freed.")
@click.option("--threshold", metavar="SIZE", callback=size, help="Exit 1 if more than this is held, such as 6GiB.")
@click.option("--json", "as_json", is_flag=True, help="One object, with bytes as numbers.")
def mem(pids: tuple[int, ...], gc: bool, threshold: int | None, as_json: bool) -> int:
    """Memory of the run that goes on, of the host, now.

    With PIDs: of these processes and all that descend from them; nothing is asked of them. What V8 says of its heap is
    known of the Node processes of a run.

    Exit codes with --threshold: 0 below, 1 above.
    """
    if gc and pids:
        raise click.UsageError("--gc asks the run that goes on, as a whole: leave out the PIDs")
    freed = force_gc() if gc else None
    usage = freed.after if freed is not None else memory_of(pids) if pids else memory_usage()
    missing = [pid for pid in pids if all(pid != process.pid for process in usage.processes)]
    if missing:
        raise SeqsupError(f"there is no process {missing[0]} that could be read")
    if as_json:
        put_object(SCHEMA, _fields(usage, freed, threshold))
    else:
        click.echo("\n".join([*_collected(freed), *_table(usage)]))
    return int(threshold is not None and usage.used > threshold)


def _table(usage: Usage) -> list[str]:
    lines: list[str] = []
    if usage.processes:
        nodes = {node.pid: node for node in usage.nodes}
        rows = [
            (str(each.pid), format_size(each.bytes), *_heap(nodes.get(each.pid)), str(each.kind), title(each))
            for each in usage.processes
        ]
        together = ("", format_size(usage.used), "", "", "", f"together, {counted(len(rows), 'process', 'processes')}")
        lines = render(_COLUMNS, [*rows, together], width())
    else:
        lines = ["no run goes on"]
    host = f"host: {format_size(usage.available)} available of {format_size(usage.total)}"
    return [*lines, host]


def _heap(node: NodeProcess | None) -> tuple[str, str]:
    if node is None:
        return _NOT_KNOWN, _NOT_KNOWN
    return f"{format_size(node.heap.used)}/{format_size(node.heap.limit)}", format_size(node.heap.external)


def _collected(freed: Freed | None) -> list[str]:
    """What a collection came to, as people have it from scripts that collect."""
    if freed is None:
        return []
    if freed.collection is None:
        return [f"[Before] {_whole(freed.before)}", f"GC available: no ({freed.why})", ""]
    done = freed.collection
    silent = f"; {done.asked - done.answered} did not answer" if done.answered < done.asked else ""
    return [
        f"[Before] {_whole(freed.before)}",
        f"GC available: yes ({counted(done.answered, 'Node process', 'Node processes')}{silent})",
        f"Freed: {format_size(freed.bytes)}; verdict: {done.verdict}",
        f"[After]  {_whole(freed.after)}",
        "",
    ]


def _whole(usage: Usage) -> str:
    if not usage.nodes:
        return f"RSS {format_size(usage.used)}, heap {_NOT_KNOWN}, external {_NOT_KNOWN}"
    rss = sum(node.rss for node in usage.nodes)
    used, limit, external = (sum(getattr(node.heap, name) for node in usage.nodes) for name in _SUMMED)
    return f"RSS {format_size(rss)}, heap {format_size(used)}/{format_size(limit)}, external {format_size(external)}"


_SUMMED = ("used", "limit", "external")


def _fields(usage: Usage, freed: Freed | None, threshold: int | None) -> dict[str, object]:
    heaps: dict[int, Heap] = {node.pid: node.heap for node in usage.nodes}
    fields: dict[str, object] = {
        "used": usage.used,
        "processes": [
            {**msgspec.to_builtins(process), "heap": msgspec.to_builtins(heaps.get(process.pid))}
            for process in usage.processes
        ],
        "host": {"available": usage.available, "total": usage.total},
        "heap_unknown": usage.why,
    }
    if threshold is not None:
        fields |= {"threshold": threshold, "high": usage.used > threshold}
    if freed is not None:
        fields["gc"] = {
            "available": freed.collection is not None, "why": freed.why, "freed": freed.bytes,
            "collection": msgspec.to_builtins(freed.collection),
        }  # fmt: skip
    return fields
