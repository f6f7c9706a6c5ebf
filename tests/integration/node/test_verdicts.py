"""Verdicts on real Node processes: no healthy one is called a leak, and for one that leaks its line is named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import STUBS
from helpers.profiles import agent, parsed, write
from helpers.waiting import wait_for

ALIVE = "setInterval(() => {}, 1000);"
HEALTHY = {
    "idle": f"console.log('ready'); {ALIVE}",
    "cache": f"""
        const cache = (globalThis.cache = new Map());
        for (let n = 0; n < 600_000; n++) cache.set(`key ${{n}}`, {{ n, text: `message ${{n}}` }});
        console.log("ready"); {ALIVE}
    """,
    "sawtooth": """
        let made = [];
        setInterval(() => {
          for (let n = 0; n < 30_000; n++) made.push({ n, text: `message ${n}` });
          if (made.length > 300_000) made = [];
        }, 10);
        setTimeout(() => console.log("ready"), 1000);
    """,
    "modules": f"""
        import {{ writeFileSync }} from "node:fs";
        import {{ createRequire }} from "node:module";
        const text = "abcdefghij".repeat(100);
        for (let n = 0; n < 60; n++) {{
          const rows = Array.from({{ length: 300 }}, (_, m) => `f${{m}}: () => "${{text}}${{n}}${{m}}"`);
          writeFileSync(`module${{n}}.cjs`, `module.exports = {{ ${{rows}} }};`);
          const loaded = createRequire(import.meta.url)(`./module${{n}}.cjs`);
          for (const each of Object.values(loaded)) each();
        }}
        console.log("ready"); {ALIVE}
    """,
}

FAR_FROM_THE_BAR = {"idle": False, "cache": True}  # the others hold about as much as a verdict needs


@pytest.mark.memory
@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_process_is_never_called_a_leak(
    kind: str, seqsup: Callable[..., Any], seqsup_started: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "agent.mjs").write_text(HEALTHY[kind])
    server = {"name": "mcp", "command": ["node", str(STUBS / "mcp_server.mjs"), "stays"], "memory": {"hard": "200MiB"}}
    memory = {"soft": "800MiB", "hard": "1GiB", "host_floor": "none"}
    profile = write(tmp_path, agent("a", ["node", "agent.mjs"], memory=memory), companions=[server])
    started = seqsup_started("start", profile)
    log = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs/r1/a/1/stdout.log"
    wait_for(lambda: "ready" in log.read_text(), 60)
    wait_for(lambda: "(2 Node processes)" in seqsup("mem", "--gc").stdout, 60)
    said = seqsup("mem", "--gc").stdout
    assert "MiB RSS\n" in said
    if kind in FAR_FROM_THE_BAR:  # the user asked: it says what most of the memory is
        assert ("Most of it is JavaScript objects" in said) is FAR_FROM_THE_BAR[kind], said
    started.end()
    done = [event for event in parsed(seqsup("events").stdout) if "verdict" in event]
    assert {event["event"] for event in done} == {"gc_done", "companion_gc_done"}
    assert {event["verdict"] for event in done} == {"none"}
    told = started.stdout + started.stderr + seqsup("status").stdout + seqsup("logs", "r1").stderr
    assert "leak" not in told


@pytest.mark.memory
def test_a_leak_is_not_retried_a_third_time_and_its_line_is_to_be_fixed(
    seqsup: Callable[..., Any], tmp_path: Path
) -> None:
    limits = {
        "memory": {"soft": "none", "hard": "300MiB", "host_floor": "none"},
        "node": {"max_old_space_size": "auto"},
    }
    leaks = agent("a", ["node", str(STUBS / "leaks.mjs"), "objects", "100"], retry={"attempts": 3}, **limits)
    ended = seqsup("start", write(tmp_path, leaks))
    said = ended.stdout + ended.stderr
    assert said.count("with the same heap of 100 MiB: a larger one does not fit below memory.hard (300 MiB)") == 1, said
    assert "after 2 attempts: heap-oom; not retried again: the leak at leaks.mjs:" in said
    assert "next: fix the leak at leaks.mjs:" in said
    assert "raise" not in said
    page = tmp_path / "page.html"
    assert seqsup("report", "r1", "--output", page).code == 0
    assert "fix the leak at leaks.mjs:" in page.read_text()
