"""Telemetry of an agent's Node processes, and how seqsup acts on it: real Nodes that really leak."""

import asyncio
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from helpers.command_line import Result
from helpers.npm import each_node, package
from helpers.paths import NO_NODE, ROOT, STUBS
from helpers.profiles import agent, write
from helpers.supervised import LIMITS as DEFAULTS
from helpers.supervised import Tried, step, supervised, tried, until
from seqsup.containment.reaper import Reaper
from seqsup.containment.tree import Tree
from seqsup.host import users
from seqsup.host.wake import Wake
from seqsup.model.enums import GcMode, Verdict
from seqsup.model.events import GcDone, GcRequested, Owner, StopSent, Warned
from seqsup.model.plan import NodeStart, Step
from seqsup.model.process import AllocationSite, Collection, Heap, NodeProcess, ProcessMemory
from seqsup.model.profile import GcTable
from seqsup.model.reason import Reason
from seqsup.node import channel, forensics
from seqsup.node.allocation_sites import of_buffers
from seqsup.node.channel import Channel, Node
from seqsup.node.forensics import Known, examine, finding, no_room, short, text, verdict
from seqsup.node.heap_limits import overridden
from seqsup.node.reports import clean
from seqsup.node.sockets import Sockets
from seqsup.node.telemetry import Telemetry
from seqsup.runner.place import AttemptPlace
from seqsup.runner.watch import Watcher
from seqsup.state.output import Output
from seqsup.units import GIB, MIB

LIMITS = {"soft": 160 * MIB, "hard": 700 * MIB, "sustain": 0.3, "settle": 1.0, "warn": None}
# V8 gives an object heap of this size before the limit below ends it
HEAP = 600 * MIB


def node_step(node: Path, folder: Path, *words: object, **changes: Any) -> Step:
    start = NodeStart(
        executable=str(node), version="", options=(), heap=HEAP, heap_ceiling=None, telemetry=True, expose_gc=True
    )
    changes = {"limits": LIMITS, "timeouts": {"wall": 200.0}, "node": start, "runtime": "node", **changes}
    return step(str(node), *map(str, words), cwd=folder, **changes)


def leak(node: Path, folder: Path, *words: object, **changes: Any) -> Tried:
    return tried(node_step(node, folder, STUBS / "leaks.mjs", *words, **changes), folder / "run", heap=HEAP)


def known(ended: Tried) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ended.folder / "forensics.json").read_bytes())
    return found


LEAKS = {
    "objects": (Verdict.JS_LEAK, "remember"),
    "closures": (Verdict.JS_LEAK, "plan"),
    "listeners": (Verdict.JS_LEAK, "subscribe"),
    "buffers": (Verdict.BUFFER_LEAK, "screenshot"),
    "strings": (Verdict.BUFFER_LEAK, "download"),
    "contexts": (Verdict.JS_LEAK, "detach"),
    "native": (Verdict.OUTSIDE_JS, ""),
}


def proven(ended: Tried, kind: str, *, alone: bool = True) -> None:
    """`alone`: nothing else makes Buffers and strings, of which some live on for a while and are sampled too."""
    expected, function = LEAKS[kind]
    assert ended.reason is Reason.SOFT, ended.outcome.why
    done = next(event for event in ended.events if isinstance(event, GcDone)).collection
    assert done.verdict is expected, ended.events
    assert " after a GC that freed " in ended.outcome.why
    if not function:
        assert ended.outcome.why.endswith(f"; {expected}")
        assert ended.outcome.leak is None
        return
    assert f"{expected}: " in ended.outcome.why
    if alone:
        assert ended.outcome.leak is not None
        assert (ended.outcome.leak.verdict, ended.outcome.leak.proven) == (expected, True)
        assert ended.outcome.leak.at.startswith("leaks.mjs:")
    told = (ended.folder / "forensics.txt").read_text()
    assert " leaks.mjs:" in ended.outcome.why or not alone, told
    sites = [frame for some in known(ended)["known"]["sites"].values() for site in some for frame in site["frames"]]
    assert any(function in frame or "leaks.mjs" in frame for frame in sites)


@pytest.mark.memory
@pytest.mark.parametrize("kind", LEAKS)
def test_a_planted_leak_is_found_out(kind: str, node: Path, tmp_path: Path) -> None:
    ended = leak(node, tmp_path, kind, 10)
    proven(ended, kind)
    assert ended.outcome.forensics == "forensics.txt"
    assert f"verdict: {LEAKS[kind][0]}" in (ended.folder / "forensics.txt").read_text()
    assert ended.names.index("GcRequested") < ended.names.index("GcDone") < ended.names.index("StopSent")
    assert not (ended.folder / "reports").exists()
    assert not (ended.folder / "channel").is_symlink()


@pytest.mark.memory
@pytest.mark.parametrize("kind", ["objects", "buffers"])
def test_a_leak_in_a_child_is_found_out_too(kind: str, node: Path, tmp_path: Path) -> None:
    proven(leak(node, tmp_path, kind, 10, "child"), kind)


@pytest.mark.memory
def test_allocations_by_node_itself_do_not_name_the_leak(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "pours.mjs"
    script.write_text("""
        import { spawn } from "node:child_process";
        const kept = [], page = Buffer.alloc(2 ** 21, "a");
        const leaking = setInterval(function download() {
          kept.push(page.toString("latin1"));
          if (kept.length < 45) return;
          clearInterval(leaking);
          setTimeout(pour, 2000); // it has been looked into by then
        }, 20);
        function pour() {
          const source = spawn("sh", ["-c", "while :; do head -c 1000000 /dev/zero; sleep 0.02; done"]);
          source.stdout.on("data", kept.push.bind(kept));
        }
    """)
    ended = tried(node_step(node, tmp_path, script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT, ended.outcome.why
    assert "buffer-leak: from download pours.mjs:" in ended.outcome.why


def test_state_of_an_attempt_is_dropped_with_it_and_waits_for_no_gc(node: Path, tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        ended = tried(node_step(node, tmp_path, "-e", "setTimeout(() => {}, 500)"), tmp_path / "run", heap=HEAP)
        left = {type(each) for each in gc.get_objects()}
    finally:
        gc.enable()
    assert ended.reason is Reason.COMPLETED, ended.outcome.why
    assert left.isdisjoint({Watcher, Channel, Output, AttemptPlace, Telemetry, Tree})


def server_leak(node: Path, folder: Path, kind: str) -> None:
    sdk = package("@modelcontextprotocol/sdk")
    server = ("node", STUBS / "mcp_leaks.mjs", sdk, kind)
    env = {"PATH": f"{node.parent}:{os.environ['PATH']}"}
    watched = node_step(node, folder, STUBS / "mcp_client.mjs", sdk, "call", *server, env=env)
    ended = tried(watched, folder / "run", heap=HEAP)
    proven(ended, kind, alone=LEAKS[kind][0] is Verdict.JS_LEAK)
    largest = max(ended.outcome.processes, key=lambda process: process.bytes)
    assert "mcp_leaks.mjs" in largest.command
    nodes = known(ended)["known"]["nodes"]
    assert len(nodes) == 2
    assert max(nodes, key=lambda said: int(said["rss"]))["pid"] == largest.pid
    [done] = [event for event in ended.events if isinstance(event, GcDone)][-1:]
    assert (done.collection.asked, done.collection.answered) == (2, 2)


@pytest.mark.memory
@pytest.mark.parametrize("kind", ["closures", "strings"])
def test_a_leak_in_a_server_behind_the_official_client_is_found_out(kind: str, node: Path, tmp_path: Path) -> None:
    server_leak(node, tmp_path, kind)


@pytest.mark.memory
@pytest.mark.long
@each_node
@pytest.mark.parametrize("kind", LEAKS)
def test_every_leak_is_found_out_by_every_node(
    kind: str, node: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In agent, child or server in turn, so that any two of kind, place and Node have met."""
    turn = list(LEAKS).index(kind) + request.node.callspec.indices["node"]
    match turn % 3:
        case 0:
            server_leak(node, tmp_path, kind)
        case 1:
            proven(leak(node, tmp_path, kind, 10, "child"), kind)
        case _:
            proven(leak(node, tmp_path, kind, 10), kind)


@pytest.mark.memory
@each_node
def test_garbage_is_collected_and_the_agent_continues(node: Path, tmp_path: Path) -> None:
    made = tmp_path / "hoards.mjs"
    made.write_text("""
        import { PerformanceObserver } from "node:perf_hooks";
        const kept = [];
        let soon;
        function end() { console.log("freed"); process.exit(0); }
        // Reading the allocation sites makes V8 collect: memory dropped before that would be freed without a request
        function put_off() { clearTimeout(soon); soon = setTimeout(drop, 2000); }
        const collections = new PerformanceObserver(put_off);
        setTimeout(() => {
          for (let n = 0; n < 2_000_000; n++) kept.push({ n, text: `message ${n}` });
          collections.observe({ entryTypes: ["gc"] });
          put_off();
        }, 1000);
        function drop() {
          collections.disconnect();
          kept.length = 0;
          setInterval(() => {
            if (process.memoryUsage().rss < 150 * 2 ** 20) setTimeout(end, 3000);
          }, 50);
        }
    """)
    unasked = ("--no-memory-reducer", "--no-incremental-marking")  # V8 collects nothing by itself meanwhile
    lasting = node_step(node, tmp_path, *unasked, made, limits={**LIMITS, "sustain": 8.0})
    ended = tried(lasting, tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.COMPLETED, ended.outcome.why
    assert ended.stdout == "freed\n"
    done = next(event for event in ended.events if isinstance(event, GcDone)).collection
    assert done.verdict is Verdict.GARBAGE
    assert (done.asked, done.answered) == (1, 1)
    asked = next(event for event in ended.events if isinstance(event, GcRequested))
    assert asked.limit == LIMITS["soft"] == 160 * MIB
    assert asked.used >= 160 * MIB


@pytest.mark.parametrize(("mode", "least", "most"), [("off", 0, 0), ("high", 0, 0), ("aggressive", 2, 5)])
def test_aggressive_mode_collects_above_warn_and_not_more_often_than_the_gap(
    node: Path, tmp_path: Path, mode: str, least: int, most: int
) -> None:
    """The seed's row 18."""
    script = "const kept = Buffer.alloc(60 * 2 ** 20, 1); setTimeout(() => console.log(kept.length), 5500)"
    limits = {**LIMITS, "warn": 50 * MIB, "soft": 900 * MIB, "hard": 1024 * MIB}
    begun = node_step(node, tmp_path, "-e", script, limits=limits, gc=GcTable(mode=GcMode(mode), gap=1.0))
    told = tried(begun, tmp_path / "run", heap=HEAP)
    assert told.reason is Reason.COMPLETED
    asked = [event for event in told.events if isinstance(event, GcRequested)]
    assert least <= len(asked) <= most
    assert {(event.key, event.limit) for event in asked} <= {("warn", 50 * MIB)}


@pytest.mark.memory
def test_agent_without_a_node_is_stopped_without_a_request(node: Path, tmp_path: Path) -> None:
    native = replace(node_step(node, tmp_path, STUBS / "leaks.mjs", "buffers", 10), node=None)
    ended = tried(native, tmp_path / "run")
    assert ended.reason is Reason.SOFT
    assert "GcRequested" not in ended.names
    assert "collection" not in ended.outcome.why
    found = known(ended)
    assert found["processes"]
    assert found["known"]["nodes"] == []
    assert found["verdict"] == "unknown"


@pytest.mark.memory
def test_a_leak_outside_javascript_is_called_so(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "starts.mjs"
    python = "import time; kept = []\nwhile True: len(kept) < 150 and kept.append(b'x' * 2_000_000); time.sleep(0.01)"
    script.write_text(f"""
        import {{ spawn }} from "node:child_process";
        spawn("python3", ["-c", {json.dumps(python)}], {{ stdio: "ignore" }});
        setInterval(() => {{}}, 1000);
    """)
    ended = tried(node_step(node, tmp_path, script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT
    assert ended.outcome.why.endswith("; outside-js")
    assert known(ended)["used"] >= LIMITS["soft"]


GROWS = "for (;;) kept.push(Buffer.alloc(2 ** 20, 1));"


@pytest.mark.memory
def test_memory_of_another_program_at_a_hard_stop_is_not_called_javascript(
    node: Path, tmp_path: Path, stub: Callable[..., list[str]]
) -> None:
    script = tmp_path / "starts.mjs"
    script.write_text(f"""
        import {{ spawn }} from "node:child_process";
        const [program, ...words] = {json.dumps(stub("grows", 1000))};
        setTimeout(() => spawn(program, words, {{ stdio: "ignore" }}), 1500);
        setInterval(() => {{}}, 1000);
    """)
    limits = {"soft": None, "hard": 300 * MIB}
    ended = tried(node_step(node, tmp_path, script, limits=limits), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.HARD
    assert ended.outcome.why.endswith("; outside-js")
    assert known(ended)["used"] >= 300 * MIB


@pytest.mark.memory
def test_node_that_never_answers_gets_no_verdict(node: Path, tmp_path: Path) -> None:
    """In CommonJS: a module begins only after Node has looked at its sockets."""
    (tmp_path / "blocks.cjs").write_text(f"const kept = []; {GROWS}")
    limits = {"soft": None, "hard": 300 * MIB}
    shell = replace(node_step(node, tmp_path, limits=limits), command=("/bin/sh", "-c", f"{node} blocks.cjs; true"))
    ended = tried(shell, tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.HARD
    assert ended.outcome.why.endswith("; unknown: node blocks.cjs did not answer")
    assert known(ended)["verdict"] == "unknown"
    assert "verdict: unknown: node blocks.cjs did not answer\n" in (ended.folder / "forensics.txt").read_text()


@pytest.mark.memory
def test_node_that_grew_since_it_answered_gets_no_verdict(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "blocks.mjs"
    script.write_text(f"const kept = []; setTimeout(() => {{ {GROWS} }}, 1500)")
    limits = {"soft": None, "hard": 300 * MIB}
    ended = tried(node_step(node, tmp_path, script, limits=limits), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.HARD
    assert "; unknown: node blocks.mjs did not answer since it held " in ended.outcome.why


@pytest.mark.memory
@pytest.mark.parametrize("whole", [False, True])
def test_agent_that_removes_our_files_is_still_stopped_and_reported(whole: bool, node: Path, tmp_path: Path) -> None:
    script = tmp_path / "enemy.mjs"
    script.write_text(f"""
        import fs from "node:fs";
        import path from "node:path";
        import {{ spawn }} from "node:child_process";
        const {{ SEQSUP_CHANNEL: channel, SEQSUP_REPORTS: reports, PATH }} = process.env;
        const folders = [path.dirname(channel), reports, PATH.split(":")[0]];
        if ({json.dumps(whole)}) folders.push(path.dirname(reports));
        setTimeout(() => {{
          for (const folder of folders) fs.rmSync(folder, {{ recursive: true }});
          for (const name in process.env) delete process.env[name];
          process.title = "nobody";
          spawn(process.execPath, ["-e", "setInterval(() => {{}}, 1000)"], {{ stdio: "inherit" }});
          const kept = [];
          setInterval(function hoard() {{
            for (let n = 0; n < 20000 && kept.length < 4e6; n++) kept.push({{ n, text: `${{n}}` }});
          }}, 10);
        }}, 1500);
    """)
    plain = node_step(node, tmp_path, script)
    ended = tried(replace(plain, node=wants_snapshot(plain.node)), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT, ended.outcome.why
    assert "js-leak: " in ended.outcome.why
    assert "from hoard enemy.mjs:" in ended.outcome.why
    assert (ended.folder / "forensics.txt").exists() is not whole


@pytest.mark.memory
def test_a_child_without_our_environment_is_named_and_not_called_outside_javascript(node: Path, tmp_path: Path) -> None:
    (tmp_path / "child.mjs").write_text("const kept = Buffer.alloc(250 * 2 ** 20, 1); setInterval(() => kept, 1000)")
    script = tmp_path / "starts.mjs"
    script.write_text("""
        import { spawn } from "node:child_process";
        spawn(process.execPath, ["child.mjs"], { stdio: "ignore", env: {} });
        setInterval(() => {}, 1000);
    """)
    ended = tried(node_step(node, tmp_path, script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT
    assert next(event for event in ended.events if isinstance(event, GcDone)).collection.verdict is Verdict.UNKNOWN
    assert ended.outcome.why.endswith("; unknown: node child.mjs did not answer")


@pytest.mark.memory
@each_node
def test_a_leak_in_a_worker_thread_is_not_called_outside_javascript(node: Path, tmp_path: Path) -> None:
    (tmp_path / "starts.mjs").write_text("import { Worker } from 'worker_threads'; new Worker('./worker.mjs')")
    (tmp_path / "worker.mjs").write_text(f"""
        const kept = [];
        setInterval(() => {{ if (kept.length < 30) kept.push(Buffer.alloc({10 * MIB}, 1)) }}, 30);
    """)
    ended = tried(node_step(node, tmp_path, "starts.mjs"), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT
    assert next(event for event in ended.events if isinstance(event, GcDone)).collection.verdict is Verdict.UNKNOWN
    assert ended.outcome.why.endswith(" MiB may be in worker threads of node starts.mjs, which cannot be asked")


@pytest.mark.memory
def test_hard_stop_is_not_delayed_and_has_the_last_reports(node: Path, tmp_path: Path) -> None:
    # The leak ends at 350 MiB of RSS. Up to 60 of them are pages of Node's file, which do not count.
    limits = {**LIMITS, "soft": 220 * MIB, "hard": 270 * MIB, "sustain": 60.0}
    ended = leak(node, tmp_path, "objects", 60, limits=limits)
    assert ended.reason is Reason.HARD
    assert "js-leak or garbage: " in ended.outcome.why, (ended.folder / "forensics.txt").read_text()
    assert "leaks.mjs:" in ended.outcome.why
    assert ended.outcome.peak < 400 * MIB


@pytest.mark.memory
@each_node
def test_v8s_last_words_are_kept_without_the_environment_and_the_leak_is_named(node: Path, tmp_path: Path) -> None:
    heap = 150 * MIB
    # It leaks slowly: a supervisor that is delayed for seconds must still see the upper half of the heap fill
    changed = node_step(
        node, tmp_path, STUBS / "leaks.mjs", "objects", 320, limits={**LIMITS, "soft": None, "hard": 2 * GIB},
        env={"MY_API_KEY": "secret-to-keep"},
    )  # fmt: skip
    assert changed.node is not None
    ended = tried(replace(changed, node=replace(changed.node, heap=heap)), tmp_path / "run", heap=heap)
    assert ended.reason is Reason.HEAP_OOM, ended.outcome.why
    assert "; js-leak: " in ended.outcome.why, (ended.folder / "forensics.txt").read_text()
    assert " leaks.mjs:" in ended.outcome.why
    assert known(ended)["used"] > heap
    reports = list((ended.folder / "reports").iterdir())
    assert len(reports) == 1
    report = json.loads(reports[0].read_bytes())
    assert report["header"]["trigger"] == "OOMError"
    assert "environmentVariables" not in report
    for file in ended.folder.rglob("*"):
        assert file.is_dir() or b"secret-to-keep" not in file.read_bytes(), file
    assert reports[0].name in (ended.folder / "forensics.txt").read_text()


def wants_snapshot(start: NodeStart | None) -> NodeStart:
    assert start is not None
    return replace(start, snapshot=True)


@pytest.mark.memory
@each_node
@pytest.mark.parametrize("how", ["", "blocked"])
def test_a_heap_snapshot_is_written_before_a_soft_stop(how: str, node: Path, tmp_path: Path) -> None:
    script = STUBS / "leaks.mjs"
    if how:
        script = tmp_path / "blocks.mjs"
        script.write_text("""
            const kept = [Buffer.alloc(100 * 2 ** 20, 1)];
            setTimeout(() => { for (;;) if (kept.length < 100) kept.push(Buffer.alloc(2 ** 20, 1)); }, 1500);
        """)
    plain = node_step(node, tmp_path, script, "buffers", 10, env={"MY_API_KEY": "x"})
    ended = tried(replace(plain, node=wants_snapshot(plain.node)), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT, ended.outcome.why
    assert f"; heap snapshot of {script.name}: reports/heap-" in ended.outcome.why
    (written,) = (ended.folder / "reports").iterdir()
    assert written.name in (ended.folder / "forensics.txt").read_text()
    assert json.loads(written.read_bytes())["snapshot"]["node_count"] > 1000
    assert ended.names.index("GcDone") < ended.names.index("StopSent")


@pytest.mark.memory
def test_a_heap_snapshot_without_room_is_refused_with_the_numbers(node: Path, tmp_path: Path) -> None:
    plain = node_step(node, tmp_path, STUBS / "leaks.mjs", "objects", 10)
    ended = tried(replace(plain, node=wants_snapshot(plain.node)), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT
    assert "; no heap snapshot: it may take " in ended.outcome.why
    assert ended.outcome.why.endswith(" are below memory.hard 700 MiB")
    assert not (ended.folder / "reports").exists()


@pytest.mark.memory
def test_heap_snapshot_that_grace_interrupts_is_reported_and_removed(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow.mjs"
    script.write_text("""
        import v8 from "node:v8";
        import fs from "node:fs";
        v8.writeHeapSnapshot = (path) => { fs.writeFileSync(path, "{"); for (;;); };
        const kept = [];
        setInterval(() => kept.length < 150 && kept.push(Buffer.alloc(2 ** 21, 1)), 10);
    """)
    plain = node_step(node, tmp_path, script, timeouts={"wall": 200.0, "grace": 1.0})
    ended = tried(replace(plain, node=wants_snapshot(plain.node)), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.SOFT
    assert ended.outcome.why.endswith("; no heap snapshot: it did not finish")
    assert [event.signal for event in ended.events if isinstance(event, StopSent)] == ["SIGKILL"]
    assert not (ended.folder / "reports").exists()


def test_size_of_a_heap_snapshot_is_checked_against_every_limit() -> None:
    heap = Heap(used=100 * MIB, total=0, limit=0, external=0, array_buffers=0)
    limits = replace(DEFAULTS, hard=1024 * MIB, host_floor=512 * MIB)
    told = partial(no_room, heap, limits)
    assert told(used=524 * MIB, available=1012 * MIB, disk=500 * MIB) == ""
    assert told(used=525 * MIB, available=2000 * MIB, disk=2000 * MIB).endswith("499 MiB are below memory.hard 1 GiB")
    assert "above memory.host_floor 512 MiB" in told(used=0, available=1011 * MIB, disk=2000 * MIB)
    assert told(used=0, available=2000 * MIB, disk=MIB) == "it may take 500 MiB, and 1 MiB are free on the disk"


def test_reports_that_are_none_are_removed_and_nothing_else_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "secret.json").write_text('{"environmentVariables": 1, "a": 2}')
    os.mkfifo(folder / "report.1.json")
    (folder / "report.2.json").symlink_to(tmp_path / "secret.json")
    (folder / "report.3.json").write_text('{"environmentVariables": {"KEY": "1"}')
    (folder / "report.4.json").write_text("[]")
    (folder / "report.5.json").write_text('{"environmentVariables": {"KEY": "1"}, "header": {}}')
    (folder / "report.6.json").write_text('{"workers": [{"environmentVariables": {"KEY": "1"}, "workers": []}]}')
    (folder / "report.7.json").write_text('{"workers": 7}')
    assert clean(folder) == ("report.5.json", "report.6.json")
    assert sorted(file.name for file in folder.iterdir()) == ["report.5.json", "report.6.json"]
    assert (folder / "report.5.json").read_text() == '{"header":{}}'
    assert (folder / "report.6.json").read_text() == '{"workers":[{"workers":[]}]}'
    assert "environmentVariables" in (tmp_path / "secret.json").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that are not the agent's")
def test_file_that_is_not_the_agents_own_is_not_its_report(tmp_path: Path) -> None:
    (folder := tmp_path / "reports").mkdir()
    (roots := tmp_path / "settings.json").write_text('{"environmentVariables": 1, "a": 2}')
    (folder / "report.1.json").hardlink_to(roots)
    os.chown(folder, 65534, 65534)
    assert clean(folder) == ()
    assert (roots.read_text(), list(folder.iterdir())) == ('{"environmentVariables": 1, "a": 2}', [])


def test_number_of_kept_reports_is_bounded(tmp_path: Path) -> None:
    many = json.dumps({"environmentVariables": {"KEY": "1"}, "stack": [{}] * 300_000})
    for number in range(100, 130):
        (tmp_path / f"report.{number}.json").write_text(many)
    tracemalloc.start()
    assert len(clean(tmp_path)) == len(list(tmp_path.glob("report.*"))) == 20
    assert tracemalloc.get_traced_memory()[1] < 20 * MIB, "nothing of it is unpacked"
    tracemalloc.stop()
    assert "KEY" not in (tmp_path / "report.119.json").read_text()


@pytest.mark.memory
def test_forensics_that_cannot_be_written_harm_nothing(tmp_path: Path, stub: Callable[..., list[str]]) -> None:
    (tmp_path / "run" / "agent" / "1" / "forensics.txt").mkdir(parents=True)
    ended = tried(step(*stub("grows", 300), cwd=tmp_path, limits={"hard": 100 * MIB}), tmp_path / "run")
    assert ended.reason is Reason.HARD
    assert ended.outcome.forensics == ""
    assert any(isinstance(event, Warned) and "forensics" in event.message for event in ended.events)


def test_own_heap_limit_of_a_process_is_reported(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "waits.mjs"
    script.write_text("setTimeout(() => {}, 3000)")
    ended = tried(node_step(node, tmp_path, "--max-old-space-size=3000", script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.COMPLETED
    told = [event.message for event in ended.events if isinstance(event, Warned)]
    assert len(told) == 1, told
    assert all(word in told[0] for word in ("waits.mjs", "600 MiB", "--max-old-space-size=3000"))


def test_same_heap_limit_of_many_processes_is_reported_once(node: Path, tmp_path: Path) -> None:
    (tmp_path / "check.mjs").write_text("setTimeout(() => {}, 4000)")
    script = tmp_path / "starts.mjs"
    script.write_text("""
        import { spawn } from "node:child_process";
        for (const size of [3000, 3000, 3000, 2000]) spawn("node", [`--max-old-space-size=${size}`, "check.mjs"]);
    """)
    ended = tried(node_step(node, tmp_path, script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.COMPLETED
    told = [event.message for event in ended.events if isinstance(event, Warned)]
    assert len(told) == 2, told
    assert all(any(f"--max-old-space-size={size}" in message for message in told) for size in (2000, 3000))


@each_node
def test_a_cap_as_it_was_set_is_none_of_its_own(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "waits.mjs"
    script.write_text("setTimeout(() => {}, 1000)")
    ended = tried(node_step(node, tmp_path, script), tmp_path / "run", heap=HEAP)
    assert ended.reason is Reason.COMPLETED
    assert "Warned" not in ended.names


@pytest.mark.memory
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can change the user")
def test_an_agent_that_becomes_another_user_is_asked_too(node: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o111)
    script = shutil.copy(STUBS / "leaks.mjs", tmp_path)
    nobody = users.look_up("nobody")
    if nobody is None or users.out_of_reach(nobody, str(tmp_path), (str(node),)):
        pytest.skip("nobody cannot start this node")
    (tmp_path / "run" / "agent" / "1").mkdir(parents=True)
    (tmp_path / "run" / "agent" / "1").chmod(0o711)
    ended = tried(node_step(node, tmp_path, script, "objects", 10, account=nobody), tmp_path / "run", heap=HEAP)
    proven(ended, "objects")


NODES = """
import json, os, socket, sys
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        line = socket.socket(socket.AF_UNIX)
        line.connect(sys.argv[1])
        line.sendall(b'{"hello":"node"}\\n')
        for asked in line.makefile():
            number = json.loads(asked)["id"]
            reading = dict(rss=number, used=0, total=0, external=0, array_buffers=0)
            line.sendall(json.dumps({"id": number, "after": reading}).encode() + b"\\n")
        os._exit(0)
while True:
    os.wait()
"""


@pytest.mark.parametrize(
    ("count", "before", "after", "seconds", "asked"),
    [
        (1, 60, 60, 4.9, False), (1, 60, 60, 5.1, True), (1, 60, 65, 4.9, False),
        (20, 60, 60, 5.1, False), (20, 60, 63, 9.9, False), (20, 60, 60, 10.1, True), (20, 90, 90, 5.1, False),
        (20, 60, 65, 4.9, False), (20, 60, 65, 5.1, True), (20, 60, 55, 5.1, True),
        (20, 90, 95, 0.9, False), (20, 90, 95, 1.1, True), (20, 75, 85, 1.1, True),
    ],
)  # fmt: skip
def test_idle_processes_are_asked_rarely_and_one_that_grows_near_its_limit_often(
    count: int, before: int, after: int, seconds: float, asked: bool, tmp_path: Path
) -> None:
    def answers(telemetry: Telemetry) -> list[int]:
        return [node.rss for node in telemetry.processes.living()]

    async def story(_: Reaper, wake: Wake) -> None:
        sockets = Sockets()
        telemetry = Telemetry(replace(DEFAULTS, soft=160 * MIB), None, tmp_path, wake, sockets)
        socket = telemetry.line[0]
        with subprocess.Popen([sys.executable, "-c", NODES, socket, str(count)]) as nodes:
            try:
                await until(lambda: answers(telemetry) == [1] * count, wake)  # as they came
                telemetry.look(100.0, before * MIB, lambda _: True, tuple)
                await until(lambda: answers(telemetry) == [2] * count, wake)
                telemetry.look(100.0 + seconds, after * MIB, lambda _: True, tuple)
                telemetry.look(200.0, after * MIB, lambda _: True, tuple)
                await until(lambda: answers(telemetry) == [4 if asked else 3] * count, wake)
            finally:
                telemetry.close()
                nodes.kill()
        sockets.close()

    supervised(story)


def test_without_telemetry_nothing_is_opened(node: Path, tmp_path: Path) -> None:
    script = tmp_path / "prints.mjs"
    script.write_text("console.log(process.env.SEQSUP_CHANNEL, process.env.NODE_OPTIONS)")
    plain = node_step(node, tmp_path, script)
    assert plain.node is not None
    ended = tried(replace(plain, node=replace(plain.node, telemetry=False)), tmp_path / "run", heap=HEAP)
    assert ended.stdout == "undefined --max-old-space-size=600\n"
    assert not (ended.folder / "reports").exists()


def test_run_without_node_does_not_import_it(seqsup: Callable[..., Any], tmp_path: Path) -> None:
    code = (
        "import sys; from seqsup.cli.app import main; main(['run', '--', '/bin/true']); print(*sys.modules, sep='\\n')"
    )
    import subprocess
    import sys as system

    ended = subprocess.run(
        [system.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{NO_NODE}:{ROOT / 'supervisor'}", "PATH": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    modules = ended.stdout.split()
    assert "seqsup.runner.attempt" in modules
    assert not {"seqsup.node.channel", "seqsup.node.telemetry"} & set(modules)


def test_events_and_table_tell_what_a_collection_freed() -> None:
    from helpers.told import Told, collected
    from seqsup.model.history import fold
    from seqsup.view.summary import summary

    done = GcDone(owner=Owner(name="a", number=1), used=2, collection=collected(100 * MIB))
    told = Told().run("a", "b").started("a").tell(done).tell(done).ended("a").agent_ended("a").run_ended(0)
    view = fold(told.events)
    assert view.agents["a"].gc_freed == 200 * MIB
    assert view.agents["b"].gc_freed is None
    assert "200 MiB" in summary(view)


# -- conclusions, as tables


def heap(used: int = 0, external: int = 0) -> Heap:
    return Heap(used=used * MIB, total=used * MIB, limit=GIB, external=external * MIB, array_buffers=external * MIB)


@pytest.mark.parametrize(
    ("before", "after", "used", "expected"),
    [
        (heap(560), heap(3), 660, Verdict.GARBAGE),
        (heap(5, 400), heap(3, 1), 450, Verdict.GARBAGE),
        (heap(5, 391), heap(3, 1), 474, Verdict.GARBAGE),  # though malloc keeps the pages
        (heap(525), heap(520), 650, Verdict.JS_LEAK),
        (heap(525), heap(300), 650, Verdict.JS_LEAK),
        (heap(9, 290), heap(8, 288), 350, Verdict.BUFFER_LEAK),
        (heap(100, 90), heap(90, 80), 500, Verdict.OUTSIDE_JS),
        (heap(6), heap(4), 900, Verdict.OUTSIDE_JS),
        (heap(), heap(), 100, Verdict.OUTSIDE_JS),
        (heap(50), heap(100), 200, Verdict.JS_LEAK),  # it grew while it was collected
    ],
)
def test_verdict(before: Heap, after: Heap, used: int, expected: Verdict) -> None:
    assert verdict(before, after, used * MIB, used * MIB) is expected


def test_garbage_that_v8_collected_by_itself_counts_too() -> None:
    assert verdict(heap(4), heap(3), 300 * MIB, 60 * MIB) is Verdict.GARBAGE


@pytest.mark.parametrize(
    ("limit", "cap", "expected"),
    [(560, 512, False), (704, 512, False), (268, 256, False), (12_100, 560, True), (300, 512, True), (4144, 512, True)],
)
def test_overridden(limit: int, cap: int, expected: bool) -> None:
    assert overridden(limit * MIB, cap * MIB) is expected


def test_buffers_are_sampled_finely_if_they_prevail() -> None:
    assert of_buffers(heap(10, 300))
    assert not of_buffers(heap(300, 10))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ("step (/srv/my agent/embed.js:9)", "step embed.js:9"),
        ("new Page (/srv/page.mjs:12)", "new Page page.mjs:12"),
        ("(anonymous) (/a/[eval]:1)", "(anonymous) [eval]:1"),
        ("(V8 API)", "(V8 API)"),
        ("set (node:internal/x:7)", "set x:7"),
        ("e\x1b[31m (/a.js:1)", "e [31m a.js:1"),
    ],
)
def test_short(frame: str, said: str) -> None:
    assert short(frame) == said


def found(collected: bool = True, reason: Reason = Reason.SOFT, **parts: Any) -> forensics.Forensics:
    node = NodeProcess(pid=7, version="v20", script="/a/embed.js", rss=650 * MIB, heap=heap(520), at=1.0)
    collection = Collection(
        at=1.0, seconds=2.0, asked=2, answered=1, before=heap(560), after=heap(520), used=700 * MIB, freed=40 * MIB,
        verdict=Verdict.JS_LEAK,
    )  # fmt: skip
    sites = {
        7: (AllocationSite(bytes=300 * MIB, frames=("step (/a/embed.js:9)", "main (/a/embed.js:40)")),),
        8: (
            AllocationSite(bytes=50 * MIB, frames=("read (node:fs:1)",)),
            AllocationSite(bytes=30 * MIB, frames=("keep (/b/mcp.js:2)",)),
        ),
    }
    said = Known(nodes=(node,), collections=(collection,) if collected else (), sites=sites, reports=("report.1.json",))
    processes = (ProcessMemory(pid=7, name="node", command="node /a/embed.js", bytes=600 * MIB),)
    return examine("embed", 2, reason, "it was too large", 700 * MIB, processes, replace(said, **parts))


def test_the_finding_names_verdict_and_code_but_nothing_of_nodes_own() -> None:
    assert finding(found()) == "js-leak: 300 MiB from step embed.js:9, 30 MiB from keep mcp.js:2"
    assert (
        finding(found(collected=False)) == "js-leak or garbage: 300 MiB from step embed.js:9, 30 MiB from keep mcp.js:2"
    )
    assert finding(found(sites={})) == "js-leak"
    assert finding(found(nodes=())) == "unknown: node embed.js did not answer"


def test_process_that_exited_before_is_not_part_of_the_verdict() -> None:
    gone = NodeProcess(pid=8, version="v20", script="/a/once.js", rss=900 * MIB, heap=heap(10, 800), at=0.5)
    living = NodeProcess(pid=7, version="v20", script="/a/embed.js", rss=650 * MIB, heap=heap(520), at=1.0)
    assert found(collected=False, nodes=(gone, living)).verdict is Verdict.JS_LEAK


@pytest.mark.parametrize(
    ("reason", "rss", "used", "expected"),
    [
        (Reason.HARD, 900, 1200, Verdict.JS_LEAK),  # a third more is taken for more of the same
        (Reason.HARD, 500, 1200, Verdict.UNKNOWN),
        (Reason.HEAP_OOM, 500, 1200, Verdict.JS_LEAK),
        (Reason.KERNEL_OOM, 900, 1200, Verdict.JS_LEAK),
        (Reason.KERNEL_OOM, 500, 1200, Verdict.UNKNOWN),
    ],
)
def test_allocation_sites_count_only_if_most_of_a_process_reported_them(
    reason: Reason, rss: int, used: int, expected: Verdict
) -> None:
    node = NodeProcess(pid=7, version="v20", script="/a/embed.js", rss=rss * MIB, heap=heap(rss - 80), at=1.0)
    process = ProcessMemory(pid=7, name="MainThread", command="node /a/embed.js", bytes=used * MIB)
    assert examine("embed", 1, reason, "", used * MIB, (process,), Known(nodes=(node,))).verdict is expected


@pytest.mark.parametrize(("workers", "expected"), [(0, Verdict.OUTSIDE_JS), (1, Verdict.UNKNOWN)])
def test_worker_threads_may_hold_what_their_process_does_not(workers: int, expected: Verdict) -> None:
    process = ProcessMemory(pid=7, name="MainThread", command="node /a/embed.js", bytes=600 * MIB)
    node = NodeProcess(
        pid=7, version="v20", script="/a/embed.js", rss=650 * MIB, heap=heap(90, 10), at=1.0, workers=workers
    )
    told = examine("embed", 1, Reason.HARD, "", 600 * MIB, (process,), Known(nodes=(node,)))
    assert told.verdict is expected
    assert ("500 MiB may be in worker threads of node embed.js" in finding(told)) is bool(workers)


def test_a_collection_long_ago_says_nothing_of_what_came_after_it() -> None:
    freed = Collection(
        at=1.0, seconds=1.0, asked=1, answered=1, before=heap(560), after=heap(3), used=600 * MIB, freed=500 * MIB,
        verdict=Verdict.GARBAGE,
    )  # fmt: skip
    assert found(collections=(freed,)).verdict is Verdict.GARBAGE  # each of the last minute was of no use
    late = found(collections=(freed,), reason=Reason.HARD)
    assert (late.verdict, late.collected) == (Verdict.JS_LEAK, False)


def test_the_text_says_all_of_it() -> None:
    said = text(found())
    for part in (
        "embed, attempt 2: soft", "it was too large", "verdict: js-leak", "1 of 2 Node processes", "freed 40 MiB",
        "560 MiB → 520 MiB", "report.1.json", "node embed.js", "heap 520 MiB of 1 GiB", "█", "step (/a/embed.js:9)",
        "← main (/a/embed.js:40)", "100%",
    ):  # fmt: skip
        assert part in said, said
    assert "no GC showed" in text(found(collected=False))
    assert "none known" in text(found(sites={}))


def test_sites_that_no_node_would_tell_are_no_trouble() -> None:
    """Any process of the tree may claim to be a Node process, and report anything about itself."""
    odd = (AllocationSite(bytes=10**18, frames=("f (/a.js:1)",)), AllocationSite(bytes=-(10**18), frames=()))
    said = text(found(sites={7: odd}))
    assert "of no function" in said
    assert len(said) < 10_000


@pytest.mark.memory
def test_a_run_tells_it_in_every_place(seqsup: Callable[..., Result], tmp_path: Path) -> None:
    memory = {"soft": "160MiB", "hard": "700MiB", "sustain": "300ms", "settle": "2s"}
    leaks = agent("a", ["node", STUBS / "leaks.mjs", "objects", 10], memory=memory)
    result = seqsup("start", write(tmp_path, leaks))
    assert result.code == 1
    assert "collected" in result.stderr
    said = " ".join(result.stderr.split())
    assert "why a failed: the tree was above memory.soft" in said
    assert "leaks.mjs:" in said
    assert "js-leak" in seqsup("status").stdout
    shown = seqsup("logs", "a")
    assert "verdict: js-leak" in shown.stderr
    assert "█" in shown.stderr
    assert shown.stdout == "ready\n"
    fields = json.loads(seqsup("status", "--json").stdout)
    assert fields["agents"][0]["forensics"] == "a/1/forensics.txt"
    assert (Path(fields["folder"]) / "a/1/forensics.json").stat().st_mode & 0o777 == 0o600


def test_companion_forgets_its_node_processes_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may start one after another for weeks, and no report asks for their heap limits."""

    monkeypatch.setattr(channel, "_SILENCE", 0.1)

    async def story(_: object, wake: Wake) -> None:
        sockets = Sockets()
        telemetry = Telemetry(None, None, tmp_path, wake, sockets)
        for _ in range(100):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(telemetry.line[0]))
                client.sendall(b'{"hello":"node"}\n')
                await until(telemetry._channel.nodes, wake)
            await until(lambda: not telemetry._channel.nodes(), wake)
        telemetry.close()
        await wake.wait(0.2)
        gc.collect()
        assert sum(isinstance(each, Node) for each in gc.get_objects()) < 10
        sockets.close()

    supervised(story)


@pytest.mark.parametrize(("limits", "samples"), [(LIMITS, True), (None, False)])
def test_collection_begins_sampling_in_agent_only(limits: dict[str, Any] | None, samples: bool, tmp_path: Path) -> None:
    asked = []

    async def answer(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"hello":"node"}\n')
        reading = {"rss": 1, "used": 1, "total": 1, "external": 0, "array_buffers": 0}
        try:
            async for line in reader:
                question = json.loads(line)
                asked.append(question["ask"])
                writer.write(json.dumps({"id": question["id"], "before": reading, "after": reading}).encode() + b"\n")
        finally:
            writer.close()

    async def story(_: object, wake: Wake) -> None:
        sockets = Sockets()
        telemetry = Telemetry(replace(DEFAULTS, **limits) if limits else None, None, tmp_path, wake, sockets)
        node = asyncio.create_task(answer(telemetry.line[0]))
        try:
            await until(lambda: bool(telemetry.processes.living()), wake)
            collection = telemetry.gc.collect()
            while not collection.done():
                telemetry.look(1.0, MIB, lambda _: True, tuple)
                await wake.wait(0.05)
            telemetry.look(9.0, MIB, lambda _: True, tuple)
            await until(lambda: asked.count("mem") == 4, wake)
            assert ("sample" in asked) is samples
        finally:
            telemetry.close()
            sockets.close()
            await node

    supervised(story)


def test_sites_of_a_heap_that_is_sampled_late_are_read_at_its_next_answer(tmp_path: Path) -> None:
    """It may be at its limit before it has grown by another step."""
    asked: list[str] = []

    def answered_again(before: int) -> bool:
        return asked.count("mem") > before

    async def answer(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(json.dumps({"hello": "node", "version": "v24.21.0", "limit": 342 * MIB}).encode() + b"\n")
        reading = {"rss": 200 * MIB, "used": 158 * MIB, "total": 200 * MIB, "external": 0, "array_buffers": 0}
        try:
            async for line in reader:
                question = json.loads(line)
                asked.append(question["ask"])
                writer.write(json.dumps({"id": question["id"], "after": reading}).encode() + b"\n")
        finally:
            writer.close()

    async def story(_: object, wake: Wake) -> None:
        sockets = Sockets()
        telemetry = Telemetry(replace(DEFAULTS, soft=None, hard=2 * GIB), None, tmp_path, wake, sockets)
        node = asyncio.create_task(answer(telemetry.line[0]))
        try:
            await until(lambda: "watch" in asked, wake)
            await wake.wait(0.05)
            for now in (10.0, 20.0, 30.0):
                answers = asked.count("mem")
                telemetry.look(now, 200 * MIB, lambda _: True, tuple)
                await until(partial(answered_again, answers), wake)
                await wake.wait(0.05)
            assert asked.count("sample") == 1
            assert asked.count("sites") == 1
        finally:
            telemetry.close()
            sockets.close()
            await node

    supervised(story)
