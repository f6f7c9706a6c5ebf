"""Memory: thresholds, checks by hand, options of Node, and what a run uses at its peak and after it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.profiles import agent, of, shell, write
from helpers.seed import Agent, InAgent, Running, SeedAgent, Seqsup, Start, check, printed
from seqsup import memory
from seqsup.units import MIB

GC_AND_HEAP_LIMIT = "console.log(typeof gc, require('v8').getHeapStatistics().heap_size_limit / 2 ** 20)"


@pytest.mark.parametrize(("threshold", "high"), [("", False), ("'4GiB'", False), ("'1MiB'", True)])
def test_row_11_is_memory_high(in_agent: InAgent, threshold: str, high: bool) -> None:
    assert in_agent(f"is_memory_high({threshold})") is high


def test_row_11_figure_of_the_seed_is_refused_as_a_wrong_unit() -> None:
    with pytest.raises(ValueError, match="6144MiB"):
        memory.is_memory_high(6144)


def test_row_11_plan_shows_the_thresholds_of_the_seed(seqsup: Seqsup, tmp_path: Path) -> None:
    plan = json.loads(seqsup("plan", write(tmp_path, shell("a", "true")), "--json").stdout)
    (limits,) = (step["limits"] for step in plan["steps"])
    assert (limits["warn"], limits["soft"]) == (4096 * MIB, 6144 * MIB)


def test_row_12_log_memory_usage(in_agent: InAgent) -> None:
    in_agent("log_memory_usage('Before Agent 1')")
    assert re.search(r"Before Agent 1.* RSS \d+ MiB, heap \d+ MiB/.*, external ", printed("asks", stream="stderr"))


def test_row_12_memory_before_and_after_each_agent_is_logged(
    seqsup: Seqsup, seed_agent: SeedAgent, tmp_path: Path
) -> None:
    ended = seqsup("start", write(tmp_path, seed_agent("agent1", 100), seed_agent("agent2", 100)), "-v")
    for name in ("agent1", "agent2"):
        assert re.search(rf"{name} +drained +end 1\d\d MiB, gave back 1\d\d MiB +available .* → ", ended.stderr)
    (first, _) = json.loads(seqsup("status", "--json").stdout)["agents"]
    assert first["peak"] >= first["end"] > 100 * MIB
    assert first["host_before"] > 0 < first["host_after"]


def test_row_13_memory_is_shown_on_demand(seqsup: Seqsup, running: Running, garbage: Agent) -> None:
    running(garbage)
    shown = seqsup("mem").stdout
    assert "agent1" in shown
    assert re.search(r"\d+ MiB +\d+ MiB/\d\.\d GiB", shown)  # RSS, heap and its limit


def test_row_14_forced_cleanup_shows_before_and_after(seqsup: Seqsup, running: Running, garbage: Agent) -> None:
    running(garbage)
    before, available, freed, after, *_ = seqsup("mem", "--gc").stdout.splitlines()
    assert re.match(r"\[Before\] RSS \d+ MiB, heap \d+ MiB/\d\.\d GiB, external ", before)
    assert available == "GC available: yes (1 Node process)"
    assert re.match(r"Freed: \d+ MiB of ", freed)
    assert re.match(r"\[After\]  RSS \d+ MiB, heap [\d.]+ MiB/\d\.\d GiB, external ", after)


def test_row_15_doctor_says_whether_gc_is_available(seqsup: Seqsup) -> None:
    assert "GC on request work" in check(seqsup("doctor", "--json"), "preload", "ok")


def test_row_16_expose_gc_in_every_node_process(start: Start) -> None:
    grandchild = f"require('child_process').execFileSync('node', ['-e', `{GC_AND_HEAP_LIMIT}`], {{ stdio: 'inherit' }})"
    start(agent("a", ["node", "-e", GC_AND_HEAP_LIMIT]), agent("b", ["node", "-e", grandchild]))
    assert printed("a").split()[0] == printed("b").split()[0] == "function"


@pytest.mark.parametrize("exported", ["", "--max-old-space-size=8192"])
def test_row_17_max_old_space_size(start: Start, monkeypatch: pytest.MonkeyPatch, exported: str) -> None:
    monkeypatch.setenv("NODE_OPTIONS", exported)
    start(agent("a", ["node", "-e", GC_AND_HEAP_LIMIT], node={"max_old_space_size": "300MiB"}))
    young = 3 * 64  # MiB: V8's limit counts three semi-spaces, of 64 MiB each from Node 24 on
    assert 300 <= float(printed("a").split()[1]) <= 300 + young


def test_row_18_aggressive_gc(start: Start, stub: Callable[..., list[str]]) -> None:
    holds = "const kept = Buffer.alloc(60 * 2 ** 20, 1); setTimeout(() => console.log(kept.length), 3500)"
    mcp = {"name": "mcp", "command": stub("mcp_server", "stays"), "ready": {"log": "ready"}}
    limits = {"warn": "50MiB", "soft": "900MiB", "hard": "1GiB"}
    gc = {"mode": "aggressive", "gap": "1s"}
    events = start(agent("a", ["node", "-e", holds]), shell("b", "true"), companions=[mcp], memory=limits, gc=gc)
    assert {each["answered"] for each in of(events, "gc_done")} == {1}
    assert {each["answered"] for each in of(events, "companion_gc_done")} == {1}


def test_row_19_next_agent_waits_until_the_whole_tree_of_the_last_has_ended(start: Start, tmp_path: Path) -> None:
    child = "(trap '' TERM; sleep 1; echo end a >>ledger) & sleep 0.1"
    start(shell("a", child), shell("b", "echo begin b >>ledger"), timeouts={"grace": "10s"})
    assert (tmp_path / "ledger").read_text().splitlines() == ["end a", "begin b"]


@pytest.mark.memory
def test_row_20_peak_is_that_of_one_agent_and_after_each_memory_is_back(start: Start, seed_agent: SeedAgent) -> None:
    events = start(*(seed_agent(f"agent{n}", 200) for n in (1, 2, 3)))
    assert all(200 * MIB < each["peak"] < 400 * MIB for each in of(events, "agent_ended"))
    for drained in of(events, "drained"):
        assert drained["gave_back"] > 200 * MIB
        assert drained["owned"] < 60 * MIB  # seqsup itself
