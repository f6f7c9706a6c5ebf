"""Memory limits as they apply: what the user left open follows another key, or the machine."""

from collections.abc import Iterator
from functools import lru_cache

from msgspec import UNSET
from msgspec.structs import asdict

from seqsup.model.enums import Enforce, Measure
from seqsup.model.plan import Drain, Limits
from seqsup.model.profile import DrainTable, MemoryTable, NodeTable
from seqsup.units import GIB, MIB, format_size

HARD = 8 * GIB
HOST_FLOOR = 512 * MIB
THRESHOLD = 4 * GIB
AVAILABLE = 1 * GIB
SHARE = 0.8  # of a small machine's memory: the default hard limit there
BARE = 64 * 1024  # less than any program uses
BARE_NODE = 64 * MIB  # an idle `node -e 0` holds 40 to 50 MiB
BARE_HEAP = 8 * MIB  # with less Node 22 and 24 die as they start
OUTSIDE_HEAP = 200 * MIB  # measured: a tree's peak is at most the heap limit + 186 MiB (Node 18 to 25)


def scale(total: int | None) -> float:
    """By how much the defaults shrink on a machine of this much memory; None: any machine."""
    return 1.0 if total is None else min(1.0, SHARE * total / HARD)


def _default(size: int, total: int | None) -> int:
    return int(size * scale(total)) // MIB * MIB


@lru_cache  # of a hundred agents most have the same
def resolve(memory: MemoryTable, total: int | None = None) -> Limits:
    hard = _default(HARD, total) if memory.hard is UNSET else memory.hard
    soft = memory.soft
    if soft is UNSET:
        soft = None if hard is None else hard * 3 // 4
    warn = memory.warn
    if warn is UNSET:
        warn = soft * 2 // 3 if soft else hard // 2 if hard else None
    floor = _default(HOST_FLOOR, total) if memory.host_floor is UNSET else memory.host_floor
    return Limits(**asdict(memory) | {"warn": warn, "soft": soft, "hard": hard, "host_floor": floor})


def resolve_drain(drain: DrainTable, total: int | None = None) -> Drain:
    threshold = _default(THRESHOLD, total) if drain.threshold is UNSET else drain.threshold
    available = _default(AVAILABLE, total) if drain.available is UNSET else drain.available
    return Drain(**asdict(drain) | {"threshold": threshold, "available": available})


def auto_heap(hard: int | None) -> int | None:
    """Return V8's default heap limit in bytes."""
    return None if hard is None else max(BARE_NODE, hard - max(OUTSIDE_HEAP, hard // 5))


def heap(node: NodeTable, hard: int | None) -> tuple[int | None, int | None]:
    """V8's heap limit, and the highest that still fits under hard."""
    size = node.max_old_space_size
    if isinstance(size, str):  # auto
        size = auto_heap(hard)
    if size is None or hard is None:
        return size, None
    return size, max(size, hard - OUTSIDE_HEAP)


def disorder(applied: Limits) -> Iterator[tuple[str, str]]:
    """(key of [memory], what is wrong) where limits do not rise from warn over soft to hard, or contradict."""
    small = [(key, size) for key, size in (("hard", applied.hard), ("soft", applied.soft)) if size and size < BARE]
    if small:
        key, size = small[0]  # an unset soft limit follows the hard one
        yield key, f"{format_size(size)} is too little for any program"
    if applied.soft and applied.hard and applied.soft > applied.hard:
        yield "soft", f"{_above('soft', applied.soft, 'hard', applied.hard)}, so it would never be reached"
    if applied.measure is Measure.CGROUP and applied.enforce is Enforce.WATCH:
        yield (
            "measure",
            '"cgroup" needs a cgroup of the kernel\'s, and memory.enforce = "watch" asks for none; drop one',
        )
    if applied.warn and applied.soft and applied.warn > applied.soft:
        yield "warn", f"{_above('warn', applied.warn, 'soft', applied.soft)}, so the warning would come too late"


def _above(low: str, size: int, high: str, bound: int) -> str:
    return f"{low} ({format_size(size)}) is above {high} ({format_size(bound)})"


def too_small_for_node(node: NodeTable, hard: int | None) -> Iterator[tuple[str, str, str]]:
    """(table, key, what is wrong) where a Node program could not live under its heap's limit, or under hard."""
    size = node.max_old_space_size
    if isinstance(size, int) and size < BARE_HEAP:
        why = f"{format_size(size)} is too little: Node needs {format_size(BARE_HEAP)}"
        yield "node", "max_old_space_size", why
    if hard is None:
        return
    bare = format_size(BARE_NODE)
    if BARE <= hard < BARE_NODE:
        why = f"{format_size(hard)} is too little: a bare Node program needs about {bare}"
        yield "memory", "hard", why
    elif isinstance(size, int) and size + BARE_NODE > hard:
        why = (
            f"a heap of {format_size(size)} does not fit under memory.hard ({format_size(hard)}):"
            f' Node needs about {bare} beside it; lower it, raise memory.hard, or write "auto"'
        )
        yield "node", "max_old_space_size", why
