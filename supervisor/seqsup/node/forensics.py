"""Diagnosis of a tree that grew too large: what its memory is, and where it was allocated. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from msgspec import Struct
from msgspec.structs import replace

from seqsup.model.enums import Verdict
from seqsup.model.outcome import Leak
from seqsup.model.plan import Limits
from seqsup.model.process import AllocationSite, Collection, Heap, NodeProcess, ProcessMemory
from seqsup.model.process_names import is_node, title
from seqsup.model.reason import Reason
from seqsup.text import printable
from seqsup.units import MIB, format_duration, format_size, told_apart

SAID = {
    Verdict.GARBAGE: "most of it was garbage",
    Verdict.JS_LEAK: "most of it is JavaScript objects that are still referenced",
    Verdict.BUFFER_LEAK: "most of it is Buffers or long strings that are still referenced",
    Verdict.OUTSIDE_JS: "most of it is outside JavaScript",
}
_LEAST = 32 * MIB  # a verdict is about at least this much more than bare Node processes use
# Of one bare Node process in bytes, measured with Node 18 to 25: 3 to 6 MiB of heap, 1 to 2 MiB external, 40 MiB of RSS
_BARE = {Verdict.JS_LEAK: 8 * MIB, Verdict.BUFFER_LEAK: 8 * MIB, Verdict.OUTSIDE_JS: 48 * MIB}
_NO_VERDICT = (Verdict.UNKNOWN, Verdict.NONE)
_COVERS = 2 / 3  # of a process: what it said when it was smaller says nothing of the rest
_SNAPSHOT = 5  # times the heap: what Node takes to write one, measured at 0.7 to 4.3, of many small objects at up to 30
_BAR = 24  # characters
_FRAME = re.compile(r"(?P<name>.*?) \((?P<file>.*):(?P<line>\d+)\)", re.DOTALL)


class Known(Struct, frozen=True, kw_only=True):
    """Reports of a tree's Node processes, dead ones included."""

    nodes: tuple[NodeProcess, ...] = ()
    collections: tuple[Collection, ...] = ()
    sites: dict[int, tuple[AllocationSite, ...]] = {}  # by pid
    reports: tuple[str, ...] = ()  # files that Node wrote as V8 gave up
    snapshot: str = ""  # what came of a heap snapshot, if one was wanted


class Forensics(Struct, frozen=True, kw_only=True):
    """Diagnosis of an attempt that was stopped for its memory."""

    agent: str
    attempt: int
    reason: Reason
    why: str
    used: int  # bytes of its tree as it was stopped; the most there ever were where it ended by itself
    processes: tuple[ProcessMemory, ...]  # as it was stopped
    known: Known
    verdict: Verdict
    collected: bool  # else what is called a leak may in part be garbage
    silent: tuple[ProcessMemory, ...] = ()  # Node processes of which nothing is known, or too little


def examine(
    agent: str, attempt: int, reason: Reason, why: str, used: int, processes: tuple[ProcessMemory, ...], known: Known,
    soft: int | None = None,
) -> Forensics:  # fmt: skip
    """Draw the conclusion. Without a collection it is V8's last word on itself that counts.

    An attempt that ended below its limit `soft`, because the machine had no more memory, gets no verdict.
    """
    stopped, nodes = processes, known.nodes
    if reason is Reason.KERNEL_OOM or not processes:  # the large process is gone; its reports are left
        stopped = tuple(ProcessMemory(pid=node.pid, name="node", command="", bytes=node.rss) for node in nodes)
    heap = as_stopped(stopped, nodes)
    unknown = unsaid(stopped, nodes)
    if stopped is not processes:
        unknown += max(used - sum(process.bytes for process in stopped), 0)
    last = known.collections[-1] if known.collections and _still_holds(known.collections[-1], reason, used) else None
    if reason is Reason.HEAP_OOM:
        said = Verdict.JS_LEAK  # V8 collects before it gives up
    elif not nodes:
        said = Verdict.UNKNOWN
    elif soft is not None and used < soft and reason in (Reason.KERNEL_OOM, Reason.HOST_FLOOR):
        said = Verdict.NONE
    else:
        counted = {process.pid for process in stopped} & {node.pid for node in nodes}
        said = verdict(heap, heap, used, used, unknown, nodes=len(counted))
        if last is not None and {said, last.verdict}.isdisjoint(_NO_VERDICT):
            said = last.verdict
    return Forensics(
        agent=agent, attempt=attempt, reason=reason, why=why, used=used, processes=processes, known=known,
        verdict=said, collected=last is not None or reason is Reason.HEAP_OOM, silent=silent(stopped, nodes),
    )  # fmt: skip


def _still_holds(last: Collection, reason: Reason, used: int) -> bool:
    """Return whether the last collection describes the stopped tree: a tree that has doubled since is another one."""
    return reason is Reason.SOFT or used <= 2 * (last.used - last.freed)


def silent(processes: Iterable[ProcessMemory], nodes: Iterable[NodeProcess]) -> tuple[ProcessMemory, ...]:
    """Find the Node processes that never spoke, or have outgrown what they said."""
    said = {node.pid: node.rss for node in nodes}
    return tuple(
        process for process in processes
        if process.count == 1 and (process.pid in said or is_node(process))
        and said.get(process.pid, 0) < process.bytes * _COVERS
    )  # fmt: skip


def in_workers(processes: tuple[ProcessMemory, ...], nodes: Iterable[NodeProcess]) -> dict[ProcessMemory, int]:
    """Find those with worker threads, and what may be theirs: each has a heap of its own, which is not asked."""
    heaps = {node.pid: node.heap for node in nodes if node.workers}
    return {
        process: max(process.bytes - heaps[process.pid].used - heaps[process.pid].external, 0)
        for process in processes if process.count == 1 and process.pid in heaps
    }  # fmt: skip


def unsaid(processes: tuple[ProcessMemory, ...], nodes: tuple[NodeProcess, ...]) -> int:
    """Sum up what Node processes hold of which nothing is known."""
    quiet = {process: process.bytes for process in silent(processes, nodes)}
    return sum((in_workers(processes, nodes) | quiet).values())


def as_stopped(processes: Iterable[ProcessMemory], nodes: Iterable[NodeProcess]) -> Heap:
    """Sum up the heaps of processes that answered; growth since the answer counts as more of the same."""
    by_pid = {node.pid: node for node in nodes}
    heaps = []
    for process in processes:
        node = by_pid.get(process.pid)
        if node is not None and process.count == 1 and node.rss >= process.bytes * _COVERS:
            heaps.append(_grown(node.heap, max(process.bytes / max(node.rss, 1), 1.0)))
    return total(heaps)


def _grown(heap: Heap, times: float) -> Heap:
    return Heap(
        used=int(heap.used * times), total=int(heap.total * times), limit=heap.limit,
        external=int(heap.external * times), array_buffers=int(heap.array_buffers * times),
    )  # fmt: skip


def no_room(heap: Heap, limits: Limits, used: int, available: int, disk: int) -> str:
    """Say why a heap snapshot would not fit; empty where it does. `disk` is what its file may take, in bytes."""
    need = heap.used * _SNAPSHOT
    rooms = [(disk, "free on the disk"), (available, "available on the host")]
    if limits.host_floor is not None:
        rooms.append((available - limits.host_floor, f"above memory.host_floor {format_size(limits.host_floor)}"))
    if limits.hard is not None:
        rooms.append((limits.hard - used, f"below memory.hard {format_size(limits.hard)}"))
    room, where = min(rooms)
    if need <= room:
        return ""
    return "it may take {}, and {} are {}".format(*told_apart(need, max(room, 0)), where)


def total(heaps: Iterable[Heap]) -> Heap:
    some = tuple(heaps)
    return Heap(
        used=sum(heap.used for heap in some), total=sum(heap.total for heap in some),
        limit=sum(heap.limit for heap in some), external=sum(heap.external for heap in some),
        array_buffers=sum(heap.array_buffers for heap in some),
    )  # fmt: skip


def verdict(
    before: Heap, after: Heap, used: int, used_after: int, unsaid: int = 0, nodes: int = 1
) -> Verdict:  # fmt: skip
    """Return the largest part of a tree of `used` bytes, given its heaps before and after a collection.

    Garbage that V8 collected by itself before the request shows in the tree alone. `unsaid` is the memory of Node
    processes that did not answer. That many bare Node processes (`nodes`), and 32 MiB more, are no leak.
    """
    garbage = max(before.used + before.external - after.used - after.external, used - used_after, 0)
    outside = used - garbage - after.used - after.external - unsaid
    parts = {
        Verdict.GARBAGE: garbage, Verdict.JS_LEAK: after.used, Verdict.BUFFER_LEAK: after.external,
        Verdict.OUTSIDE_JS: outside, Verdict.UNKNOWN: unsaid,
    }  # fmt: skip
    largest = max(parts, key=lambda part: parts[part])
    least = 0 if largest is Verdict.UNKNOWN else _LEAST + nodes * _BARE.get(largest, 0)
    return largest if parts[largest] >= least else Verdict.NONE


def above(done: Collection, limit: int | None) -> Collection:
    """Return a collection without its verdict if the tree was below its limit: such a process is healthy."""
    return done if limit is not None and done.used >= limit else replace(done, verdict=Verdict.NONE)


def finding(found: Forensics) -> str:
    """One line for the reason an attempt ended: `js-leak: 220 MiB from step embed.js:9, 40 MiB from …`."""
    match found.verdict:
        case Verdict.UNKNOWN:
            whose = _unsaid(found)
            return f"{found.verdict}: {whose}" if whose else ""
        case Verdict.OUTSIDE_JS:
            return str(found.verdict)
        case Verdict.NONE:
            return ""
    said = str(found.verdict) if found.collected else f"{found.verdict} or garbage"
    sites = _in_code(found)
    if found.verdict is Verdict.BUFFER_LEAK:  # what was sampled is their wrappers: sizes say nothing
        return said + (f": from {short(sites[0].frames[0])}" if sites else "")
    named = ", ".join(f"{format_size(site.bytes)} from {short(site.frames[0])}" for site in sites[:2])
    return said + (f": {named}" if named else "")


def leak(found: Forensics) -> Leak | None:
    """Return the line of code that holds most; None without a verdict that is a leak, or without such a line."""
    sites = _in_code(found) if found.verdict in (Verdict.JS_LEAK, Verdict.BUFFER_LEAK) else []
    match = _FRAME.fullmatch(sites[0].frames[0]) if sites else None
    if match is None:
        return None
    at = printable(f"{PurePath(match['file']).name}:{match['line']}")
    return Leak(verdict=found.verdict, at=at, proven=found.collected)


def _in_code(found: Forensics) -> list[AllocationSite]:
    """Return the sites in code that is neither Node's nor V8's own, those that hold most first."""
    sites = ranked(found.known.sites)
    if found.verdict is Verdict.BUFFER_LEAK:
        holders = sorted(found.known.nodes, key=lambda node: -node.heap.external)
        sites = [site for node in holders for site in found.known.sites.get(node.pid, ()) if site.frames]
    return [site for site in sites if _file(site.frames[0])]


def _unsaid(found: Forensics) -> str:
    """Name the largest process of unknown memory: `node leak.mjs did not answer`. Empty if there is none."""
    quiet = {process: process.bytes for process in found.silent}
    every = in_workers(found.processes, found.known.nodes) | quiet
    if not every:
        return ""
    largest = max(every, key=lambda process: every[process])
    if largest not in quiet:
        return f"{format_size(every[largest])} may be in worker threads of {title(largest)}, which cannot be asked"
    since = next((node.rss for node in found.known.nodes if node.pid == largest.pid), None)
    others = f", nor did {len(found.silent) - 1} more" if len(found.silent) > 1 else ""
    spoke = f" since it held {format_size(since)}" if since is not None else ""
    return f"{title(largest)} did not answer{spoke}{others}"


def ranked(sites: Mapping[int, tuple[AllocationSite, ...]]) -> list[AllocationSite]:
    """All processes' sites, the largest first."""
    return sorted((site for some in sites.values() for site in some if site.frames), key=lambda site: -site.bytes)


def names_a_file(sites: Iterable[AllocationSite]) -> bool:
    """Say whether one of them is in code that is neither Node's nor V8's own."""
    return any(_file(site.frames[0]) for site in sites if site.frames)


def _file(frame: str) -> str:
    """The file of a frame; empty for what belongs to Node or V8 itself."""
    match = _FRAME.fullmatch(frame)
    return match["file"] if match and not match["file"].startswith("node:") else ""


def short(frame: str) -> str:
    """A frame without its folders."""
    match = _FRAME.fullmatch(frame)
    return printable(f"{match['name']} {PurePath(match['file']).name}:{match['line']}" if match else frame)


def text(found: Forensics) -> str:
    """All of it for people."""
    parts = (_head(found), _processes(found), _sites(found))
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"


def _head(found: Forensics) -> Iterator[str]:
    yield f"{found.agent}, attempt {found.attempt}: {found.reason}"
    yield printable(found.why)
    if found.verdict is Verdict.NONE:
        said = "too little memory to judge: below memory.soft, or not far above bare Node processes"
    elif found.verdict is Verdict.UNKNOWN:
        otherwise = (
            "it was in none of the Node processes that answered" if found.known.nodes else "no Node process in it"
        )
        said = _unsaid(found) or otherwise
    else:
        unproven = " (V8's last report; no GC showed how much of it was garbage)"
        said = SAID[found.verdict] + ("" if found.collected else unproven)
    yield f"verdict: {found.verdict}: {said}"
    for each in found.known.collections:
        before, after = each.before, each.after
        yield (
            f"GC in {each.answered} of {each.asked} Node processes, {format_duration(each.seconds)}:"
            f" freed {format_size(each.freed)}; heap {format_size(before.used)} → {format_size(after.used)},"
            f" external {format_size(before.external)} → {format_size(after.external)}; {each.verdict}"
        )
    for report in found.known.reports:
        yield f"report of V8's end: {report}"
    if found.known.snapshot:
        yield found.known.snapshot


def _processes(found: Forensics) -> Iterator[str]:
    if found.processes or found.known.nodes:
        yield "processes"
    nodes = {node.pid: node for node in found.known.nodes}
    for process in found.processes:
        heap = _heap(nodes.pop(process.pid, None))
        yield f"  {process.pid: >8}  {format_size(process.bytes): >9}  {title(process)}{heap}"
    for node in nodes.values():
        name = printable(f"node {PurePath(node.script).name}".strip())
        yield f"  {node.pid: >8}  {format_size(node.rss): >9}  {name} (RSS, when it last answered){_heap(node)}"


def _heap(node: NodeProcess | None) -> str:
    if node is None:
        return ""
    heap = node.heap
    return (
        f": heap {format_size(heap.used)} of {format_size(heap.limit)}, external {format_size(heap.external)}"
        f" (ArrayBuffers {format_size(heap.array_buffers)}), Node {printable(node.version)}"
    )


def _sites(found: Forensics) -> Iterator[str]:
    if not any(found.known.sites.values()):
        yield "allocation sites: none known; sampling begins at half of memory.soft or of a heap, where Node answers"
        return
    yield "allocation sites of what was alive, sampled from half of memory.soft, or of a heap, on"
    if found.verdict is Verdict.BUFFER_LEAK:
        yield "  (sizes are of the objects on V8's heap: of a Buffer or a long string up to a hundred bytes)"
    shares = Counter({pid: sum(site.bytes for site in some) for pid, some in found.known.sites.items()})
    for pid, whole in shares.most_common():
        yield f"  in pid {pid}"
        for site in found.known.sites[pid]:
            nearest, *callers = site.frames or ("of no function",)
            share = min(site.bytes / max(whole, 1), 1.0)  # what calls itself a Node process may say anything
            bar = "█" * max(round(share * _BAR), 1)
            yield f"    {bar: <{_BAR}} {share: >4.0%} {format_size(site.bytes): >9}  {printable(nearest)}"
            yield from (f"{'':{_BAR + 22}}← {printable(frame)}" for frame in callers)
