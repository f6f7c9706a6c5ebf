"""The seed's functions in its own language: rows 7 to 12, 29 and 30 by the npm package, with their names and units."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.profiles import agent
from helpers.seed import UNASKED, Seqsup, Start, printed

InNode = Callable[[str], Any]

# Asks when its heap is full of garbage and seqsup knows it
AGENT = f"""
import * as seqsup from "{ROOT}/node/index.mjs";

const kept = [];
for (let n = 0; n < 400_000; n++) kept.push({{ n, text: `message ${{n}}` }});
while (seqsup.getMemoryUsage().heapUsed < 20) await new Promise((done) => setTimeout(done, 100));
kept.length = 0;
console.log("answer", JSON.stringify(await eval(process.argv[2])));
"""


@pytest.fixture
def in_node(start: Start, tmp_path: Path) -> InNode:
    """Evaluate an expression in a Node agent, and return its value."""
    (tmp_path / "agent.mjs").write_text(AGENT)

    def ask(expression: str) -> Any:
        start(agent("agent1", ["node", *UNASKED, "agent.mjs", expression]))
        return json.loads(printed("agent1").rsplit("answer ", 1)[1])

    return ask


def test_row_07_force_gc_from_node(in_node: InNode) -> None:
    assert in_node("seqsup.forceGC()") is True


def test_row_08_get_memory_usage_from_node(in_node: InNode) -> None:
    usage = in_node("seqsup.getMemoryUsage()")
    assert usage["source"] == "seqsup"
    assert 1000 > usage["rss"] > usage["heapUsed"] > 20  # MB


def test_row_09_cleanup_between_agents_from_node(in_node: InNode) -> None:
    cleanup = in_node("seqsup.cleanupBetweenAgents()")
    assert cleanup["gcAvailable"]
    assert cleanup["freed"] >= 0
    assert cleanup["before"]["heapUsed"] - cleanup["after"]["heapUsed"] > 10


@pytest.mark.parametrize(("threshold", "reached"), [(4096, True), (1, False)])
def test_row_10_wait_for_memory_cleanup_from_node(in_node: InNode, threshold: int, reached: bool) -> None:
    assert in_node(f"seqsup.waitForMemoryCleanup({threshold}, 500, 100)") is reached


@pytest.mark.parametrize(("threshold", "high"), [("", False), (4096, False), (1, True)])
def test_row_11_is_memory_high_from_node(in_node: InNode, threshold: object, high: bool) -> None:
    assert in_node(f"seqsup.isMemoryHigh({threshold})") is high


def test_row_12_log_memory_usage_from_node(in_node: InNode, seqsup: Seqsup) -> None:
    in_node("seqsup.logMemoryUsage('Before Agent 1')")
    said = seqsup("logs", "r1", "agent1").stdout
    assert re.search(r"\[Before Agent 1\] Memory: \d+MB, Heap: \d+/\d+MB, External: \d+MB", said)


def test_rows_29_and_30_scratchpad_from_node(in_node: InNode, seqsup: Seqsup) -> None:
    entry = "{ summary: 'two bugs', details: 'line\\n'.repeat(5000) }"
    appended = f"seqsup.appendToScratchpad('agent1', {entry}).then(() => seqsup.readAgentSummary('agent1'))"
    assert in_node(appended) == "two bugs"
    assert seqsup("artifacts", "summary", "agent1").stdout.rstrip().endswith("two bugs")
    assert seqsup("artifacts", "show", "agent1", "--file", "details.md").stdout.count("line") == 5000
