"""Memory limits as they apply: defaults, the machine, and what contradicts."""

import pytest
from msgspec.structs import replace

from seqsup.model.enums import Enforce, Measure
from seqsup.model.plan import Limits
from seqsup.model.profile import DrainTable, MemoryTable, NodeTable
from seqsup.profile import limits
from seqsup.units import GIB, MIB

FREE = Limits(warn=None, soft=None, hard=None, sustain=1.0, host_floor=None, measure=Measure.PRIVATE)
KIB = 1024


@pytest.mark.parametrize(
    ("total", "scale"), [(None, 1.0), (64 * GIB, 1.0), (10 * GIB, 1.0), (5 * GIB, 0.5), (1 * GIB, 0.1)]
)
def test_defaults_shrink_below_ten_gib(total: int | None, scale: float) -> None:
    assert limits.scale(total) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(None, (4096, 6144, 8192, 512)), (5 * GIB, (2048, 3072, 4096, 256)), (1 * GIB, (409, 614, 819, 51))],
)
def test_unset_limits_follow_the_machine(total: int | None, expected: tuple[int, ...]) -> None:
    applied = limits.resolve(MemoryTable(), total)
    sizes = (applied.warn, applied.soft, applied.hard, applied.host_floor)
    assert tuple(size and size // MIB for size in sizes) == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (MemoryTable(hard=400 * MIB), (200 * MIB, 300 * MIB, 400 * MIB)),
        (MemoryTable(soft=300 * MIB), (200 * MIB, 300 * MIB, 8 * GIB)),
        (MemoryTable(hard=400 * MIB, soft=None), (200 * MIB, None, 400 * MIB)),
        (MemoryTable(hard=None), (None, None, None)),
        (MemoryTable(hard=None, soft=300 * MIB), (200 * MIB, 300 * MIB, None)),
        (MemoryTable(hard=400 * MIB, warn=None), (None, 300 * MIB, 400 * MIB)),
        (MemoryTable(hard=400 * MIB, warn=10 * MIB), (10 * MIB, 300 * MIB, 400 * MIB)),
    ],
)
def test_limits_left_open_follow_those_that_are_set(
    table: MemoryTable, expected: tuple[int | None, int | None, int | None]
) -> None:
    applied = limits.resolve(table)
    assert (applied.warn, applied.soft, applied.hard) == expected


def test_set_limits_are_kept() -> None:
    table = MemoryTable(host_floor=None, sustain=7.0, measure=Measure.PSS, enforce=Enforce.WATCH)
    applied = limits.resolve(table, GIB)
    assert (applied.host_floor, applied.sustain, applied.measure, applied.enforce) == (
        None, 7.0, Measure.PSS, Enforce.WATCH,
    )  # fmt: skip


def test_unset_drain_follows_the_machine() -> None:
    assert (limits.resolve_drain(DrainTable()).threshold, limits.resolve_drain(DrainTable()).available) == (
        4 * GIB, GIB,
    )  # fmt: skip
    small = limits.resolve_drain(DrainTable(), 5 * GIB)
    assert (small.threshold, small.available) == (2 * GIB, 512 * MIB)
    own = limits.resolve_drain(DrainTable(threshold=3 * MIB, available=None, timeout=9.0), 5 * GIB)
    assert (own.threshold, own.available, own.timeout) == (3 * MIB, None, 9.0)


@pytest.mark.parametrize(
    ("hard", "heap"),
    [
        (None, None),
        (5 * GIB, 4 * GIB),
        (8 * GIB, 6_871_947_674),  # whole bytes
        (1000 * MIB, 800 * MIB),
        (400 * MIB, 200 * MIB),
        (100 * MIB, 64 * MIB),
    ],
)
def test_heap_leaves_a_fifth_and_200_mib_at_least(hard: int | None, heap: int | None) -> None:
    assert limits.auto_heap(hard) == heap


@pytest.mark.parametrize(
    ("size", "hard", "expected"),
    [
        ("auto", 1000, (800, 800)),
        ("auto", 2000, (1600, 1800)),
        ("auto", None, (None, None)),
        (500, 1000, (500, 800)),
        (900, 1000, (900, 900)),
        (500, None, (500, None)),
        (None, 1000, (None, None)),
    ],
)
def test_heap_and_the_highest_that_fits(
    size: int | str | None, hard: int | None, expected: tuple[int | None, int | None]
) -> None:
    node = NodeTable(max_old_space_size=size * MIB if isinstance(size, int) else size)
    found = limits.heap(node, None if hard is None else hard * MIB)
    assert tuple(each and each // MIB for each in found) == expected


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"hard": 64 * KIB - 1}, "hard", "64 KiB is too little for any program"),
        ({"hard": 8, "soft": 6}, "hard", "8 B is too little for any program"),
        ({"soft": 8}, "soft", "8 B is too little for any program"),
        ({"hard": 64 * KIB}, "", ""),
        ({"soft": 3 * MIB, "hard": 2 * MIB}, "soft",
         "soft (3 MiB) is above hard (2 MiB), so it would never be reached"),
        ({"soft": 2 * MIB, "hard": 2 * MIB}, "", ""),
        ({"warn": 3 * MIB, "soft": 2 * MIB}, "warn",
         "warn (3 MiB) is above soft (2 MiB), so the warning would come too late"),
        ({"warn": 2 * MIB, "soft": 2 * MIB}, "", ""),
        ({"warn": 3 * MIB, "hard": 2 * MIB}, "", ""),
        ({"measure": Measure.CGROUP, "enforce": Enforce.WATCH}, "measure",
         '"cgroup" needs a cgroup of the kernel\'s, and memory.enforce = "watch" asks for none; drop one'),
        ({"measure": Measure.CGROUP}, "", ""),
        ({"enforce": Enforce.WATCH}, "", ""),
    ],
)  # fmt: skip
def test_contradicting_limits_are_reported_with_their_key(changes: dict[str, object], key: str, said: str) -> None:
    assert list(limits.disorder(replace(FREE, **changes))) == ([(key, said)] if key else [])


@pytest.mark.parametrize(
    ("heap", "hard", "told"),
    [
        (8 * MIB, None, None),
        (8 * MIB - 1, None, ("node", "max_old_space_size", "8 MiB is too little: Node needs 8 MiB")),
        (MIB, None, ("node", "max_old_space_size", "1 MiB is too little: Node needs 8 MiB")),
        ("auto", 64 * MIB, None),
        ("auto", 63 * MIB, ("memory", "hard", "63 MiB is too little: a bare Node program needs about 64 MiB")),
        ("auto", 64 * KIB, ("memory", "hard", "64 KiB is too little: a bare Node program needs about 64 MiB")),
        ("auto", 64 * KIB - 1, None),  # no program could live under it: that is reported already
        (100 * MIB, 164 * MIB, None),
        (101 * MIB, 164 * MIB, ("node", "max_old_space_size",
         "a heap of 101 MiB does not fit under memory.hard (164 MiB): Node needs about 64 MiB beside it; lower it,"
         ' raise memory.hard, or write "auto"')),
        (101 * MIB, None, None),
    ],
)  # fmt: skip
def test_limits_under_which_no_node_could_live_are_reported(
    heap: int | str, hard: int | None, told: tuple[str, str, str] | None
) -> None:
    found = list(limits.too_small_for_node(NodeTable(max_old_space_size=heap), hard))
    assert [(table, key) for table, key, _ in found] == ([] if told is None else [told[:2]])
    assert told is None or found[0][2].startswith(told[2])
