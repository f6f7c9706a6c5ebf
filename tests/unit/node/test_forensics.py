"""Verdicts: what is a leak, what is healthy, and which line of code is named. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.told import collected
from seqsup.model.enums import Verdict
from seqsup.model.outcome import Leak
from seqsup.model.process import AllocationSite, Heap, NodeProcess, ProcessMemory
from seqsup.model.reason import OF_MEMORY, Reason
from seqsup.node.forensics import Forensics, Known, above, examine, finding, leak, text, verdict
from seqsup.units import MIB

LEAKS = (Verdict.JS_LEAK, Verdict.BUFFER_LEAK)
SIZES = st.integers(0, 4000)
GROW = AllocationSite(bytes=90 * MIB, frames=("grow (/srv/leak.js:9)",))
CORE = AllocationSite(bytes=99 * MIB, frames=("set (node:internal/map:7)",))


def heap(used: int = 0, external: int = 0) -> Heap:
    return Heap(used=used * MIB, total=used * MIB, limit=0, external=external * MIB, array_buffers=external * MIB)


def node(rss: int, *sizes: int, pid: int = 7) -> NodeProcess:
    return NodeProcess(pid=pid, version="20", script="leak.js", rss=rss * MIB, heap=heap(*sizes), at=0.0)


def stopped(
    rss: int, *sizes: int, reason: Reason = Reason.SOFT, soft: int | None = None, known: Known | None = None
) -> Forensics:
    said = node(rss, *sizes)
    tree = (ProcessMemory(pid=7, name="node", command="node leak.js", bytes=rss * MIB),)
    known = replace(known or Known(), nodes=(said,))
    return examine("a", 1, reason, "why", rss * MIB, tree, known, None if soft is None else soft * MIB)


@pytest.mark.parametrize(
    ("nodes", "used", "sizes"),
    [
        (1, 8, (4, 2)),  # a bare Node by its cgroup
        (1, 45, (5, 2)),  # by its RSS
        (1, 60, (30, 2)),  # a program with many modules
        (1, 110, (39, 3)),
        (10, 100, (60, 20)),  # workers of a build
        (40, 360, (240, 60)),
    ],
)
def test_bare_processes_are_no_leak(nodes: int, used: int, sizes: tuple[int, int]) -> None:
    assert verdict(heap(*sizes), heap(*sizes), used * MIB, used * MIB, nodes=nodes) is Verdict.NONE


@given(nodes=st.integers(1, 200), used=SIZES, js=SIZES, external=SIZES)
def test_a_leak_is_always_larger_than_bare_processes(nodes: int, used: int, js: int, external: int) -> None:
    said = verdict(heap(js, external), heap(js, external), used * MIB, used * MIB, nodes=nodes)
    if said in LEAKS:
        assert max(js, external) >= 32 + 8 * nodes


@given(js=st.integers(40, 4000), rest=st.integers(0, 39))
def test_a_heap_that_holds_most_is_a_leak(js: int, rest: int) -> None:
    used = (js + rest) * MIB
    assert verdict(heap(js), heap(js), used, used) is Verdict.JS_LEAK
    assert verdict(heap(0, js), heap(0, js), used, used) is Verdict.BUFFER_LEAK


@given(used=SIZES, limit=st.none() | SIZES)
def test_a_collection_below_the_limit_has_no_verdict(used: int, limit: int | None) -> None:
    done = above(replace(collected(verdict=Verdict.JS_LEAK), used=used), limit)
    assert (done.verdict is Verdict.JS_LEAK) is (limit is not None and used >= limit)


@pytest.mark.parametrize("reason", [Reason.KERNEL_OOM, Reason.HOST_FLOOR])
def test_the_machines_want_of_memory_is_not_the_agents_leak(reason: Reason) -> None:
    healthy = stopped(200, 150, reason=reason, soft=400)
    assert (healthy.verdict, finding(healthy), leak(healthy)) == (Verdict.NONE, "", None)
    assert "verdict: none: too little memory to judge" in text(healthy)
    assert stopped(400, 350, reason=reason, soft=400).verdict is Verdict.JS_LEAK


@pytest.mark.parametrize("reason", OF_MEMORY)
def test_only_a_leak_names_a_line(reason: Reason) -> None:
    known = Known(sites={7: (CORE, GROW)})
    assert leak(stopped(400, 350, reason=reason, known=known)) is not None
    if reason is not Reason.HEAP_OOM:
        assert leak(stopped(400, 20, 10, reason=reason, known=known)) is None  # native


@pytest.mark.parametrize(("sizes", "expected"), [((350, 1), Verdict.JS_LEAK), ((30, 300), Verdict.BUFFER_LEAK)])
def test_the_line_is_the_agents_own_code(sizes: tuple[int, int], expected: Verdict) -> None:
    known = Known(sites={7: (CORE, GROW)})
    assert leak(stopped(400, *sizes, known=known)) == Leak(verdict=expected, at="leak.js:9", proven=False)
    proof = replace(known, collections=(replace(collected(verdict=expected), used=400 * MIB),))
    assert leak(stopped(400, *sizes, known=proof)) == Leak(verdict=expected, at="leak.js:9", proven=True)
    assert leak(stopped(400, *sizes, known=Known(sites={7: (CORE,)}))) is None
