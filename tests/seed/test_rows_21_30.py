"""What it costs, chains, memory that still grows, and the artifact system."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from helpers.paths import STUBS
from helpers.profiles import agent, of, shell, write
from helpers.seed import SeedAgent, Seqsup, Start, printed
from helpers.waiting import alive


@pytest.mark.memory
def test_row_21_bench_measures_the_table_of_the_seed(seqsup: Seqsup) -> None:
    ended = seqsup("bench", "--agents", "3", "--memory", "128MiB", deadline=120)
    for way in ("all at once", "one after another", "with leftovers", "under seqsup"):
        assert re.search(rf"{way} +\d of 3 +\d+ MiB +[\d.]+ s", ended.stdout), ended


def test_row_22_plan_says_when_one_at_a_time_takes_too_long(seqsup: Seqsup, tmp_path: Path) -> None:
    agents = [shell(f"agent{n}", "true", timeouts={"wall": "6m"}) for n in range(52)]
    assert "52 agents × 6 min ≈ 5 h 12 min at most" in seqsup("plan", write(tmp_path, *agents)).stdout
    assert "advice" not in seqsup("plan", write(tmp_path, *agents[:3])).stdout


def test_row_23_chain_of_five_agents_is_the_default(start: Start, tmp_path: Path) -> None:
    agents = (shell(f"agent{n}", "echo agent >>told") for n in range(1, 13))
    events = start(*agents, hooks={"chain_end": ["sh -c 'echo chain >>told'"]})
    assert [(each["chain"], each["reached"]) for each in of(events, "chain_ended")] == [(1, True), (2, True)]
    assert (tmp_path / "told").read_text().split() == [*["agent"] * 5, "chain", *["agent"] * 5, "chain", *["agent"] * 2]


def test_row_24_mcp_server_restarts_after_every_five_agents(start: Start) -> None:
    server = f"echo $$ >mcp.pid; exec node {STUBS / 'mcp_server.mjs'} stays"
    mcp = {"name": "mcp", "command": ["sh", "-c", server], "ready": {"log": "ready"}}
    start(*(shell(f"agent{n}", "cat mcp.pid") for n in range(1, 13)), companions=[mcp])
    asked = [printed(f"agent{n}") for n in range(1, 13)]
    assert [asked.count(pid) for pid in dict.fromkeys(asked)] == [5, 5, 2]


def test_row_25_artifact_only_writes_briefs_and_starts_nothing(seqsup: Seqsup, tmp_path: Path) -> None:
    writer, reader = shell("writer", "touch ran"), agent("reader", ["cat", "{summary:writer}"])
    profile = write(tmp_path, writer, reader, run={"mode": "artifact-only"})
    assert seqsup("start", profile).code == 0
    runs = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs"
    (runs / "r1/writer/brief/artifacts/summary.md").write_text("done by hand")
    assert seqsup("start", profile).code == 0
    assert "cat 'done by hand'" in seqsup("artifacts", "show", "reader", "--file", "brief.md").stdout
    assert not (tmp_path / "ran").exists()


def test_row_25_artifact_only_calls_no_agent_completed(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("writer", "touch ran"), shell("reader", "true"), run={"mode": "artifact-only"})
    started = seqsup("start", profile)
    shown = seqsup("status").stdout
    for text in (started.stderr, shown):
        assert "2 briefs written, no agent started" in text
        assert re.search(r"^ +reader +– +brief written ", text, re.M)
        assert "completed  " not in text
        assert "next: seqsup artifacts show writer --file brief.md" in text
    assert "2 briefs" in seqsup("runs").stdout
    assert [each["briefed"] for each in json.loads(seqsup("status", "--json").stdout)["agents"]] == [True] * 2


def test_row_26_mcp_servers_are_unloaded_with_their_agent(start: Start, seed_agent: SeedAgent) -> None:
    events = start(seed_agent("plain", server="plain"), seed_agent("hidden", server="hidden"))
    for name, end in zip(("plain", "hidden"), of(events, "attempt_ended"), strict=True):
        (left,) = end["left_over"]
        assert "mcp_server.mjs" in left["command"]
        assert f"server {left['pid']}" in printed(name)
        assert not alive(left["pid"])


def test_row_27_listeners_that_are_never_removed_are_named(start: Start) -> None:
    limits = {"memory": {"soft": "none", "hard": "300MiB"}, "node": {"max_old_space_size": "100MiB"}}
    events = start(agent("a", ["node", STUBS / "leaks.mjs", "listeners", 10], **limits), code=1)
    (end,) = of(events, "agent_ended")
    assert "leaks.mjs:" in end["why"]


def test_row_28_large_output_is_cut_and_the_next_agent_gets_its_end(seqsup: Seqsup, start: Start) -> None:
    events = start(shell("talks", "seq 200000", output={"max": "256KiB"}), agent("next", ["echo", "{summary:talks}"]))
    assert [(each["agent"], each["stream"]) for each in of(events, "output_cut")] == [("talks", "stdout")]
    kept = seqsup("logs", "r1", "talks").stdout
    assert "of output cut here, see output.max" in kept
    assert len(kept) < 300_000
    assert len(printed("next")) < 4100
    assert printed("next").rstrip().endswith("\n200000")


RESPONDS = shell("agent1", 'seq 5000 >response.md; seqsup artifacts put --summary "two bugs" --details response.md')


def test_row_29_append_to_scratchpad(seqsup: Seqsup, start: Start) -> None:
    start(RESPONDS)
    assert seqsup("artifacts", "show", "agent1", "--file", "response.md").stdout.startswith("1\n2\n3\n")
    assert "agent1" in seqsup("artifacts", "list").stdout


def test_rows_29_and_30_scratchpad_from_python(start: Start) -> None:
    puts = "from seqsup import artifacts; artifacts.put('agent1', summary='two bugs', details='line\\n' * 5000)"
    reads = "from seqsup import artifacts; print(artifacts.summary('agent1'), len(artifacts.read('agent1')))"
    start(agent("agent1", [sys.executable, "-c", puts]), agent("agent2", [sys.executable, "-c", reads]))
    assert printed("agent2") == "two bugs 25000\n"


def test_row_30_read_agent_summary(seqsup: Seqsup, start: Start) -> None:
    start(RESPONDS, agent("agent2", ["echo", "{summary:agent1}"]))
    assert printed("agent2") == "two bugs\n"
    assert seqsup("artifacts", "summary", "agent1").stdout.rstrip().endswith("two bugs")
