"""Memory of the active run, for programs of your own: measure, collect, wait.

    from seqsup.memory import cleanup_between_agents, is_memory_high

    if is_memory_high():
        print(f"freed {cleanup_between_agents().bytes} bytes")

`run` is a run's label, such as "r42", or its folder. Its default is the run of the agent or hook that this program
belongs to, or else the active run of the user's state folder. Without an active run there are 0 bytes, and no process
that could collect. NoSuchRun: there is no run of this name.

Sizes are bytes, or text such as "6GiB". Times are seconds, or text such as "30s". `why` says why a process could not be
asked. ValueError is for impossible values, such as a timeout below 0, and for those that can only be a slip, such as a
threshold of 6144 bytes. TypeError is for values of another type. The message says what to write.
"""

import math
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping, Set
from contextlib import closing, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from seqsup.arguments import Folder, chosen_run, must_be
from seqsup.containment import members_file
from seqsup.containment.mark import tree_of
from seqsup.containment.members import Members, descend
from seqsup.containment.process import read_stat
from seqsup.host.machine import Host, total
from seqsup.model.process import PROTOCOL, Collection, Heap, NodeProcess, NodesTold, ProcessMemory
from seqsup.node.forensics import total as heaps
from seqsup.state.run_folder import CHANNEL, MEMBERS, RUNS, state_dir, surely_alive
from seqsup.text import printable
from seqsup.units import BYTES, GIB, format_duration, format_size, parse_duration, parse_size, write_duration

__all__ = [
    "Freed",
    "Usage",
    "cleanup_between_agents",
    "force_gc",
    "is_memory_high",
    "log_memory_usage",
    "memory_of",
    "memory_usage",
    "wait_for_memory_cleanup",
]

Size = int | str  # bytes, or such as "6GiB"
Duration = float | str  # seconds, or such as "30s"

_PEER = struct.Struct("3i")  # pid, uid, gid
_SUMMED = ("asked", "answered", "used", "freed")
_LONG = {"timeout": 3600.0, "interval": 60.0}  # seconds: a number above it was meant as milliseconds
_LONGEST_SLEEP = 86400.0  # seconds; sleep() refuses infinity
_PATIENCE = {"mem": 5.0, "gc": 15.0}  # seconds; the supervisor itself waits 1 and 11
NOT_KNOWN = "n/a"
NO_RUN = "no run is running"
ENDED = "the agent ended while it was asked"
NO_NODE = "no Node process answers: there is none, it has just started, or node.telemetry is false"


class Usage(Struct, frozen=True, kw_only=True):
    """Memory of a run, or of some processes, at one moment; sizes in bytes."""

    used: int  # of all processes together, as seqsup's limits count it
    processes: tuple[ProcessMemory, ...]  # the largest first
    nodes: tuple[NodeProcess, ...]  # those that say what their heap holds
    available: int  # of the host
    total: int  # of the host
    why: str = ""  # what is not known of the heaps, and why
    owners: dict[int, str] = {}  # by pid, where it is known: agent/2, @companions/api/1, @hooks/after_agent-1


class Freed(Struct, frozen=True, kw_only=True):
    """Result of a collection."""

    bytes: int  # reduction in RSS of the processes that were asked
    before: Usage
    after: Usage
    reached: bool  # below the threshold, where one was waited for
    collection: Collection | None  # None: no process could be asked; see `why`
    why: str = ""


def memory_usage(run: Folder | None = None) -> Usage:
    """Measure all processes of a run, and ask its Node processes for their heaps.

    A process whose event loop is busy is waited for up to 1 second. `why` says what is not known.
    """
    folder = _folder(run)
    return _usage(folder, _ask(folder, "mem"))


def memory_of(pids: Iterable[int]) -> Usage:
    """Measure any processes of this machine with all their descendants. Sends nothing to them.

    Heap figures exist for those that belong to a run. A process that is gone, or may not be read, is not in
    `processes`. ValueError: a pid below 1.
    """
    must_be("pids", "a list of whole numbers", pids, Iterable)
    pids = tuple(pids)
    for pid in pids:
        must_be("a pid", "a whole number", pid, int)
        if pid < 1:
            raise ValueError(f"a pid is at least 1, not {pid}")
    told = _ask(_folder(None), "mem") if pids else NodesTold()
    return _weigh(descend(pids), told)


def force_gc(run: Folder | None = None) -> Freed:
    """Request a GC in every Node process of a run, and wait for it, at most 11 seconds for each agent or companion.

    A process that does not answer within 1 second is not asked to collect. If none answers, `collection` is None.
    `why` says what was not done, and why.
    """
    folder = _folder(run)
    told = _ask(folder, "gc")
    after = _usage(folder, NodesTold(before=told.after, after=told.after, why=told.why))
    before = msgspec.structs.replace(after, nodes=told.before, used=after.used + _fewer(told))
    return Freed(
        bytes=_fewer(told), before=before, after=after, reached=True, collection=told.collection,
        why=told.why or ("" if told.collection else NO_NODE),
    )  # fmt: skip


def log_memory_usage(label: str = "", run: Folder | None = None) -> Usage:
    """Print the time, `label`, RSS, heap and external memory of a run on stderr, as one line. Return the figures.

    Inside an agent the line is in the agent's log. Without an active run it is about the calling process. RSS is that
    of the Node processes. Without any, the line has the memory of all processes instead, as limits count it. Takes at
    most 15 seconds.
    """
    must_be("label", "text", label, str)
    title = f"[{printable(label)}] " if label else ""
    folder = _folder(run)
    usage = memory_usage(folder) if folder is not None else memory_of([os.getpid()])
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {title}{labelled_figures(usage)}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201
    return usage


def labelled_figures(usage: Usage) -> str:
    """Return RSS, heap and external memory as people read them; `memory` is that of all processes."""
    heap, external = heap_figures([node.heap for node in usage.nodes])
    return f"{'RSS' if usage.nodes else 'memory'} {format_size(rss(usage))}, heap {heap}, external {external}"


def heap_figures(heaps: list[Heap]) -> tuple[str, str]:
    """Return used/limit and external of some heaps together."""
    if not heaps:
        return NOT_KNOWN, NOT_KNOWN
    used = sum(heap.used for heap in heaps)
    limit = sum(heap.limit for heap in heaps)
    return f"{format_size(used)}/{format_size(limit)}", format_size(sum(heap.external for heap in heaps))


def rss(usage: Usage) -> int:
    """Return the RSS of the Node processes in bytes; without any, the memory of all processes."""
    return sum(node.rss for node in usage.nodes) if usage.nodes else usage.used


def is_memory_high(threshold: Size = 6 * GIB, run: Folder | None = None) -> bool:
    """Return whether a run uses more than `threshold` bytes, all processes together.

    ValueError: below 0, or a slip such as 6144 for "6144MiB".
    """
    most = _size(threshold)
    folder = _folder(run)
    return _usage(folder, NodesTold()).used > most


def wait_for_memory_cleanup(
    threshold: Size = 4 * GIB, timeout: Duration = 30.0, interval: Duration = 1.0, run: Folder | None = None
) -> bool:
    """Wait until a run uses at most `threshold` bytes. Return False after `timeout` seconds.

    Measures every `interval` seconds, and once at least. ValueError: one of them is below 0, `interval` is 0, or a
    number is a slip: a threshold in MB, times in ms.
    """
    most, seconds, pause = _size(threshold), _seconds("timeout", timeout), _seconds("interval", interval, least=1e-3)
    return _wait(most, seconds, pause, run)


def cleanup_between_agents(
    threshold: Size = 4 * GIB, timeout: Duration = 30.0, interval: Duration = 1.0, run: Folder | None = None
) -> Freed:
    """Request a GC, then wait until a run uses at most `threshold` bytes; `reached` says whether it does.

    For `timeout`, `interval` and errors see `wait_for_memory_cleanup`. Between agents seqsup itself does more.
    """
    most, seconds, pause = _size(threshold), _seconds("timeout", timeout), _seconds("interval", interval, least=1e-3)
    freed = force_gc(run)
    reached = _wait(most, seconds, pause, run)
    return msgspec.structs.replace(freed, reached=reached, after=memory_usage(run))


def _wait(most: int, seconds: float, pause: float, run: Folder | None) -> bool:
    deadline = time.monotonic() + seconds
    while is_memory_high(most, run):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left, _LONGEST_SLEEP))
    return True


def _size(threshold: Size) -> int:
    """Return bytes. Below a megabyte a number is a slip: the seed of such scripts counts in MB."""
    if isinstance(threshold, str):
        try:
            return parse_size(threshold)
        except ValueError as error:
            raise ValueError(f"threshold: {error}".replace("\n", ": ")) from None
    _must_be_amount("threshold", threshold)
    if 0 < threshold < BYTES:
        mib = f'"{threshold}MiB" or {threshold} * 2**20'
        raise ValueError(f"threshold is in bytes, and {threshold} bytes are always in use: write {mib}")
    return threshold


def _seconds(name: str, value: Duration, least: float = 0) -> float:
    """Return seconds. A large number without a unit is a slip: scripts in JavaScript count in milliseconds."""
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        _must_be_amount(name, seconds, least)
        return seconds
    _must_be_amount(name, value, least)
    if _LONG[name] < value < math.inf:
        ways = f'write "{write_duration(value / 1000)}" or "{value:g}s"'
        raise ValueError(f"{name} is in seconds, and {value} are {format_duration(value)}: {ways}")
    return value


def _must_be_amount(name: str, value: float, least: float = 0) -> None:
    must_be(name, "a number or text with a unit", value, int, float)
    if not value >= least:  # nor NaN
        raise ValueError(f"{name} is at least {least:g}, not {value}")


def _fewer(told: NodesTold) -> int:
    return told.collection.freed if told.collection is not None else 0


def _folder(run: Folder | None) -> Path | None:
    """Return the folder of the selected run, if it is active."""
    chosen = chosen_run(run)
    folders = [chosen] if chosen is not None else [lock.parent for lock in (state_dir() / RUNS).glob("*/lock")]
    return next((folder for folder in folders if surely_alive(folder)), None)


def _usage(folder: Path | None, told: NodesTold) -> Usage:
    return _weigh(_members(folder) if folder is not None else (), told)


def _members(folder: Path) -> Iterable[int]:
    """Return the members of a run's trees that still live: a pid alone may have been reused."""
    with suppress(OSError):
        for pid, start in members_file.entries(folder / MEMBERS):
            stat = read_stat(pid)
            if stat is not None and stat.start == start and stat.state not in "ZX":
                yield pid


def _weigh(pids: Iterable[int], told: NodesTold) -> Usage:
    with closing(Members()) as members, closing(Host()) as host:
        for pid in pids:
            members.add(pid)
        used = members.used()
        living = members.living()
        here = {member.pid for member in living}
        owners = {pid: tree for pid in here if (tree := _tree(pid, here))}
        leaders = _leaders([member.pid for member in living], owners)
        known = [member.describe(leader=member.pid in leaders) for member in living]
        known.sort(key=lambda process: -process.bytes)
        return Usage(
            used=used, processes=tuple(known), nodes=tuple(node for node in told.after if node.pid in here),
            available=host.available(), total=total(), why=told.why, owners=owners,
        )  # fmt: skip


def _leaders(pids: Iterable[int], owners: Mapping[int, str]) -> set[int]:
    """Which of them are what a profile's command became: of each agent's tree the first that was seen."""
    first: dict[str, int] = {}
    for pid in pids:
        if not (tree := owners.get(pid, "@")).startswith("@"):
            first.setdefault(tree, pid)
    return {pid for pid in first.values() if _has_a_session(pid)}


def _has_a_session(pid: int) -> bool:
    with suppress(OSError):
        return os.getsid(pid) == pid
    return False


def _tree(pid: int, among: Set[int]) -> str:
    """Return the tree of a process, by its environment or that of its parents: MCP clients drop it, and the stand-in
    restores it only for Node.
    """
    while pid in among:
        if tree := tree_of(pid):
            return tree
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
    return ""


def _ask(folder: Path | None, question: str) -> NodesTold:
    """Ask the supervisor of a run, by the socket of each attempt and companion that has one."""
    if folder is None:
        return NodesTold(why=NO_RUN)
    told, why = NodesTold(), ""
    for link in (*folder.glob(f"*/*/{CHANNEL}"), *folder.glob(f"@companions/*/*/{CHANNEL}")):
        try:
            told = _together(told, _converse(link.readlink(), question))
        except TimeoutError:
            why = f"its supervisor did not answer within {_PATIENCE[question]:g} s"
        except (FileNotFoundError, ConnectionResetError, BrokenPipeError, EOFError):
            why = ENDED
        except (OSError, msgspec.DecodeError) as error:
            why = f"its supervisor does not answer: {error}"
    return told if told.after or told.why else NodesTold(why=why or NO_NODE)


def _together(one: NodesTold, other: NodesTold) -> NodesTold:
    """The verdict is that of the larger tree."""
    done = [told.collection for told in (one, other) if told.collection is not None]
    collection = max(done, key=lambda each: each.used, default=None)
    if collection is not None:
        asked, answered, used, freed = (sum(getattr(each, name) for each in done) for name in _SUMMED)
        collection = msgspec.structs.replace(
            collection, at=min(each.at for each in done), seconds=sum(each.seconds for each in done), asked=asked,
            answered=answered, used=used, freed=freed, before=heaps(each.before for each in done),
            after=heaps(each.after for each in done),
        )  # fmt: skip
    return NodesTold(
        before=one.before + other.before, after=one.after + other.after, collection=collection,
        why=one.why or other.why,
    )  # fmt: skip


def _converse(path: Path, question: str) -> NodesTold:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_PATIENCE[question])
        line.connect(os.fspath(path))
        if hasattr(socket, "SO_PEERCRED"):
            pid, _, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if (stat := read_stat(pid)) is not None and stat.state in "Tt":
                why = f"its supervisor is suspended and watches nothing: continue it with `kill -CONT {pid}`"
                return NodesTold(why=why)
        hello = {"hello": "operator", "protocol": PROTOCOL, "ask": question}
        line.sendall(msgspec.json.encode(hello) + b"\n")
        answer = bytearray()
        while piece := line.recv(65536):
            answer += piece
    if not answer:
        raise EOFError
    told = msgspec.json.decode(bytes(answer), type=NodesTold)
    if told.error or told.protocol != PROTOCOL:
        other = f"it speaks version {told.protocol} of the channel, and this seqsup version {PROTOCOL}"
        return NodesTold(why=f"its supervisor does not answer: {told.error or other}")
    return told
