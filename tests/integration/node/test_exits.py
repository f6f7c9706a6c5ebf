"""How real Nodes end: what becomes of each ending on each version, however the agent was started."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import npm
from helpers.profiles import agent, of, proven, reasons, write
from helpers.supervised import Tried, step, tried
from seqsup.model.plan import NodeStart
from seqsup.model.profile import Rlimits
from seqsup.model.reason import Reason
from seqsup.node.binary import probe
from seqsup.units import MIB

HEAP = 48 * MIB
PROGRAMS = {
    "leak.cjs": "const kept = []; for (;;) kept.push(new Array(1000).fill(kept.length))",
    "abort.cjs": "process.abort()",
    "throws.cjs": "throw new Error('nothing works')",
    "imports.cjs": "require('./nowhere.cjs')",
    "five.cjs": "process.exitCode = 5",
    "leak.ts": "const kept: number[][] = []; for (;;) kept.push(new Array(1000).fill(kept.length))",
    "never.mjs": "await new Promise(() => {})",
    "worker.cjs": "new (require('worker_threads').Worker)('./leak in turns.cjs')",
    # In an endless loop a worker of Node 25 passes its limit now and then, and grows on (1 of 30 on a busy machine)
    "leak in turns.cjs": "const kept = []; setInterval("
    "() => { for (let n = 0; n < 1000; n++) kept.push(new Array(1000).fill(n)) })",
    "buffers.cjs": "const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1))",
    # As gemini and qwen: what its child dies of is lost but for its words
    "relaunch.cjs": "require('child_process').spawn(process.execPath, process.argv.slice(2), { stdio: 'inherit' })"
    ".on('close', (code) => process.exit(code ?? 1))",
}
ENDINGS: dict[str, tuple[list[str], Reason, str]] = {
    "heap, direct": (["node", "leak.cjs"], Reason.HEAP_OOM, "reached its heap limit"),
    "heap, sh": (["sh", "-c", "node leak.cjs; exit $?"], Reason.HEAP_OOM, "exit 134"),
    "heap, npm exec": (["npm", "exec", "-c", "node leak.cjs"], Reason.HEAP_OOM, "heap limit"),
    "heap, tsx": (["tsx", "leak.ts"], Reason.HEAP_OOM, "heap limit"),
    "heap, relaunched": (["node", "relaunch.cjs", "leak.cjs"], Reason.HEAP_OOM, "(exit 1)"),
    "heap, worker": (["node", "worker.cjs"], Reason.HEAP_OOM, "heap limit"),
    "abort": (["node", "abort.cjs"], Reason.CRASHED, "SIGABRT"),
    "abort, sh": (["sh", "-c", "node abort.cjs; exit $?"], Reason.CRASHED, "exit 134: SIGABRT"),
    "abort, relaunched": (["node", "relaunch.cjs", "abort.cjs"], Reason.FAILED, "exit 1"),
    "thrown": (["node", "throws.cjs"], Reason.FAILED, "exit 1: Error: nothing works"),
    "missing module": (["node", "imports.cjs"], Reason.FAILED, "exit 1: Error: Cannot find module './nowhere.cjs'"),
    "missing script": (["node", "nowhere.cjs"], Reason.FAILED, "exit 1"),
    "its own code": (["node", "five.cjs"], Reason.FAILED, "exit 5"),
    "never settles": (["node", "never.mjs"], Reason.FAILED, "exit 13"),
    "bad option": (["node", "--no-such-option", "five.cjs"], Reason.MISCONFIGURED, "bad option: --no-such-option"),
    "bad value": (["node", "--max-old-space-size=x", "five.cjs"], Reason.MISCONFIGURED, "--max-old-space-size=x"),
    "user's preload": (["node", "-r", "./nowhere.cjs", "five.cjs"], Reason.MISCONFIGURED, "nowhere.cjs"),
    "no command, sh": (["sh", "-c", "no-such-program; exit $?"], Reason.FAILED, "exit 127: a command was not found"),
}
SLOW = ("heap, npm exec", "heap, tsx", "heap, worker", "abort, sh", "thrown", "missing script")


def end(folder: Path, node: Path, command: list[str], options: tuple[str, ...] = (), **changes: object) -> Tried:
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    env = {"PATH": os.pathsep.join([str(node.parent), *_tsx(command), os.environ["PATH"]])}
    found = probe(str(node))
    start = NodeStart(executable=found.executable, version=found.version, options=options, heap=HEAP, heap_ceiling=None)
    return tried(step(*command, cwd=folder, env=env, node=start, **changes), folder / "run", heap=HEAP)


def _tsx(command: list[str]) -> list[str]:
    return [str(npm.bin_folder("tsx"))] if command[0] == "tsx" else []


@npm.each_node
@pytest.mark.parametrize(
    "how", [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in ENDINGS]
)
def test_exit_of_a_node_is_classified(tmp_path: Path, node: Path, how: str) -> None:
    command, reason, words = ENDINGS[how]
    outcome = end(tmp_path, node, command).outcome
    assert (outcome.reason, outcome.blames_us) == (reason, False)
    assert words in outcome.why


@npm.each_node
def test_a_preload_of_ours_that_is_gone_is_our_fault(tmp_path: Path, node: Path) -> None:
    gone = f"--require={tmp_path}/it is gone.cjs"
    outcome = end(tmp_path, node, ["node", "five.cjs"], (gone,)).outcome
    assert (outcome.reason, outcome.blames_us) == (Reason.MISCONFIGURED, True)
    assert f"the preload {tmp_path}/it is gone.cjs, which seqsup had set" in outcome.why


def test_a_preload_that_a_node_may_not_read_is_our_fault(tmp_path: Path) -> None:
    node = npm.node_binary(20)
    (tmp_path / "first.cjs").write_text("")
    allowed = f"--allow-fs-read={tmp_path}/five.cjs"
    command = [str(node), "--experimental-permission", allowed, "five.cjs"]
    outcome = end(tmp_path, node, command, ("--require", f"{tmp_path}/first.cjs")).outcome
    assert (outcome.reason, outcome.blames_us) == (Reason.MISCONFIGURED, True)
    assert f"the preload {tmp_path}/first.cjs, which seqsup had set" in outcome.why


@pytest.mark.memory
@npm.each_node
def test_process_that_meets_rlimit_data_may_have_died_of_it(tmp_path: Path, node: Path) -> None:
    outcome = end(tmp_path, node, ["node", "leak.cjs"], rlimits=Rlimits(data=700 * MIB)).outcome
    assert outcome.reason in (Reason.HEAP_OOM, Reason.CRASHED)
    if outcome.reason is Reason.CRASHED:
        assert "who meets rlimits.data (700 MiB) exits like this" in outcome.why


def test_an_option_that_another_node_refuses_is_left_out_at_the_next_try(
    tmp_path: Path, seqsup: Callable[..., object], node: Path
) -> None:
    """The Node that seqsup probes takes --expose-gc; the one that the agent starts by its path does not."""
    asked, old = npm.node_binary(24), npm.node_binary(18)
    env = {"PATH": f"{asked.parent}:{os.environ['PATH']}"}
    script = tmp_path / "agent.sh"
    script.write_text(f"#!/bin/sh\nexec {old} -p 'process.env.NODE_OPTIONS'\n")
    script.chmod(0o755)
    profile = write(
        tmp_path, agent("a", [str(script)], runtime="node", env=env, node={"options": ["--disable-sigusr1"]})
    )
    events = proven(seqsup("start", profile, "--json"))  # type: ignore[arg-type]
    first, second = of(events, "attempt_ended")
    assert (first["reason"], second["reason"], reasons(events)) == ("misconfigured", "completed", {"a": "completed"})
    assert "which seqsup had set" in first["why"]
    [scheduled] = of(events, "retry_scheduled")
    assert (scheduled["bare"], scheduled["heap"]) == (True, None)
    assert [begun["options"] != [] for begun in of(events, "attempt_started")] == [True, False]
