"""`seqsup mem`: memory now, of the active run or of any processes."""

import os
import re
import time
from pathlib import Path

import click
import msgspec

from seqsup.cli import complete
from seqsup.cli.arguments import file, size
from seqsup.cli.find_run import find
from seqsup.cli.output import append_object, notice, put_object
from seqsup.containment.mark import FOLDER
from seqsup.errors import SeqsupError
from seqsup.memory import (
    NO_NODE,
    NO_RUN,
    Freed,
    Usage,
    force_gc,
    heap_figures,
    labelled_figures,
    memory_of,
    memory_usage,
    rss,
)
from seqsup.model.enums import ProcessKind
from seqsup.model.process import Heap
from seqsup.model.process_names import classify, processes, title
from seqsup.node.forensics import SAID
from seqsup.state.journal_schema import kept
from seqsup.state.run_folder import private, state_dir
from seqsup.text import counted, styled, wrap
from seqsup.units import format_size
from seqsup.view.ndjson import timestamp
from seqsup.view.table import NONE, Column, render
from seqsup.view.terminal import width

_SCHEMA = "seqsup.mem/1"
_COLUMNS = (
    Column("pid"),
    Column("memory"),
    Column("heap used/limit"),
    Column("external"),
    Column("owner", right=False, optional=2),
    Column("kind", right=False, optional=1),
    Column("process", right=False),
)


@click.command()
@click.argument("words", metavar="[RUN | PID...]", nargs=-1, shell_complete=complete.run)
@click.option("--gc", is_flag=True, help="Request a GC in the run's Node processes, and show what it freed.")
@click.option("--threshold", metavar="SIZE", type=size, help="Exit with 1 if these processes use more, such as 6GiB.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes.")
@click.option("--log", metavar="FILE", type=file, help="Append that JSON object to FILE as a line, and print no table.")
def mem(words: tuple[str, ...], gc: bool, threshold: int | None, as_json: bool, log: str | None) -> int:
    """Show how much memory the active run uses now, by process, and what the host has available.

    RUN is r42, a profile's name or its file; a number alone is a PID. Default: the active run. If no run is active, it
    shows the agent CLIs that run outside of seqsup.

    With PIDs it shows these processes and their descendants, and changes nothing. Heap figures exist only for the Node
    processes of a run.

    Exit codes with --threshold: 0 below, 1 above.
    """
    pids, run = _pids_or_run(words)
    if gc and pids:
        raise click.UsageError("--gc works on a whole run: leave out the PIDs")
    freed = force_gc(run) if gc else None
    usage = freed.after if freed is not None else memory_of(pids) if pids else memory_usage(run)
    missing = [pid for pid in pids if all(pid != process.pid for process in usage.processes)]
    if missing:
        raise SeqsupError(f"process {missing[0]} does not exist or cannot be read")
    at = time.time()
    fields = {"time": timestamp(at), **_fields(usage, freed, threshold)}
    if log is not None:
        if (path := Path(log)).parent == state_dir():
            private(path.parent)  # the first run may be still to come
        append_object(path, _SCHEMA, fields)
    if as_json:
        put_object(_SCHEMA, fields)
    elif log is None:
        click.echo("\n".join([*_collected(freed), *_table(usage, at)]))
        if (freed is None or freed.collection) and usage.why not in ("", NO_RUN, NO_NODE):
            notice(usage.why)
    return int(threshold is not None and usage.used > threshold)


def _pids_or_run(words: tuple[str, ...]) -> tuple[tuple[int, ...], Path | None]:
    if not words and not os.environ.get(FOLDER):
        kept(state_dir())  # refuses a folder of which it would only say that no run is running
    if len(words) != 1 or words[0].isdecimal():
        if wrong := [word for word in words if not re.fullmatch("0{0,9}[1-9][0-9]{0,9}", word)]:
            raise click.UsageError(f"{wrong[0]} is no PID: give one run, or PIDs")
        return tuple(map(int, words)), None
    found = find(words[0])
    if not found.lives():
        raise SeqsupError(f"{found.label} is not running")
    return (), found.folder


def _owner(tree: str) -> str:
    """As status names it: the agent, the companion, or a hook's call."""
    first, _, rest = tree.partition("/")
    return rest.partition("/")[0] if first.startswith("@") else first


def _table(usage: Usage, at: float) -> list[str]:
    if usage.processes:
        rows = [
            (
                styled("dim", str(each.pid)),
                format_size(each.bytes),
                *heap_figures([node.heap for node in usage.nodes if node.pid == each.pid]),
                _owner(usage.owners.get(each.pid, "")) or NONE,
                str(each.kind),
                title(each),
            )
            for each in usage.processes
        ]
        count = f"together, {counted(len(rows), 'process', 'processes')}"
        together = ("", styled("bold", format_size(usage.used)), *[""] * 4, styled("bold", count))
        lines = render(_COLUMNS, [*rows, together], width())
    elif usage.why == NO_RUN:
        lines = [NO_RUN, *wrap(_outside(), width(), "  ")]
    else:
        lines = ["no process is running: the run is between agents"]
    host = f"host: {format_size(usage.available)} available of {format_size(usage.total)}"
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return [*lines, *(styled("dim", line) for line in wrap(f"{host}, {clock}", width(), "  "))]


def _outside() -> str:
    """Name the user's agents that run without seqsup, with their descendants, the largest first."""
    import psutil  # a run's own processes are known without it

    me, found = os.getuid(), list[int]()
    for each in psutil.process_iter(["uids", "name", "cmdline"]):
        uids, name, words = (each.info[key] for key in ("uids", "name", "cmdline"))
        if uids and uids.real == me and words and classify(name, words, leader=False) is ProcessKind.AGENT:
            found.append(each.pid)
    usage = memory_of(found)
    if not usage.processes:
        return "no agent CLI runs outside of seqsup"
    return f"outside of seqsup, agent CLIs use {format_size(usage.used)}: {processes(usage.processes)}"


def _collected(freed: Freed | None) -> list[str]:
    """What a collection came to, as people have it from scripts that collect."""
    if freed is None:
        return []
    if freed.collection is None:
        before = [f"[Before] {labelled_figures(freed.before)}"] if freed.before.processes else []
        return [*before, *wrap(f"GC available: no ({freed.why})", width()), ""]
    done = freed.collection
    silent = f"; {done.asked - done.answered} did not answer" if done.answered < done.asked else ""
    said = SAID.get(done.verdict, "")
    said = f"{said[0].upper()}{said[1:]}. " if said else ""
    return [
        f"[Before] {labelled_figures(freed.before)}",
        f"GC available: yes ({counted(done.answered, 'Node process', 'Node processes')}{silent})",
        f"{styled('bold', f'Freed: {format_size(freed.bytes)}')} of {format_size(rss(freed.before))} RSS",
        f"[After]  {labelled_figures(freed.after)}",
        *wrap(f"{said}RSS includes shared pages; limits count the memory below.", width()),
        "",
    ]


def _fields(usage: Usage, freed: Freed | None, threshold: int | None) -> dict[str, object]:
    heaps: dict[int, Heap] = {node.pid: node.heap for node in usage.nodes}
    fields: dict[str, object] = {
        "used": usage.used,
        "processes": [
            {
                **msgspec.to_builtins(process),
                "owner": _owner(usage.owners.get(process.pid, "")),
                "heap": msgspec.to_builtins(heaps.get(process.pid)),
            }
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
