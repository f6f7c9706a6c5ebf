"""Heap limit, preload and options reach the Node that runs in the end, however an agent starts it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers import npm
from helpers.supervised import Tried, step, tried
from seqsup.model.plan import NodeStart
from seqsup.model.reason import Reason
from seqsup.node.binary import probe
from seqsup.units import MIB

HEAP = 300 * MIB
SAYS = """{
  limit: require("v8").getHeapStatistics().heap_size_limit,
  preload: typeof globalThis.gc,
  channel: process.env.SEQSUP_CHANNEL || "",
  agent: process.env.SEQSUP_AGENT || "",
  options: process.env.NODE_OPTIONS || "",
}"""
LEAN = "{ stdio: 'inherit', env: { PATH: process.env.PATH, HOME: process.env.HOME } }"
ODD = 'it\'s "odd" here/first.cjs'
PROGRAMS = {
    "says.cjs": f"console.log(JSON.stringify({SAYS}))",
    "says.ts": f"import {{ createRequire }} from 'node:module'; const require = createRequire(__filename);\n"
    f"const said: object = {SAYS}; console.log(JSON.stringify(said))",
    "says": f"#!/usr/bin/env node\nconsole.log(JSON.stringify({SAYS}))",
    "package.json": '{"scripts": {"says": "node says.cjs"}}',
    "lean.cjs": f"require('child_process').spawn('node', ['says.cjs'], {LEAN})",
    "replaces.cjs": "process.env.NODE_OPTIONS = '--no-warnings';"
    "require('child_process').spawn('node', ['says.cjs'], { stdio: 'inherit' })",
    "own.cjs": "process.env.NODE_OPTIONS = '--max-old-space-size=200';"
    "require('child_process').spawn('node', ['says.cjs'], { stdio: 'inherit' })",
    "forks.cjs": "require('child_process').fork('./says.cjs')",
    "cluster.cjs": "const cluster = require('cluster');"
    "if (cluster.isPrimary) cluster.fork(); else { require('./says.cjs'); process.disconnect(); }",
    "titled.cjs": "process.title = 'an agent of another name'; require('./says.cjs')",
    "hooks.mjs": "export async function resolve(name, context, next) { return next(name, context) }",
    ODD: "globalThis.first = 'first'",
}
WAYS: dict[str, list[str]] = {
    "node": ["node", "says.cjs"],
    "by its path": ["NODE", "says.cjs"],
    "a first line": ["./says"],
    "sh": ["sh", "-c", "node says.cjs; true"],
    "npm exec": ["npm", "exec", "-c", "node says.cjs"],
    "npm run": ["npm", "run", "--silent", "says"],
    "tsx": ["tsx", "says.ts"],
    "npx tsx": ["npx", "--prefix", "TSX", "tsx", "says.ts"],
    "a child with another environment": ["node", "lean.cjs"],
    "a child with other NODE_OPTIONS": ["node", "replaces.cjs"],
    "fork": ["node", "forks.cjs"],
    "cluster": ["node", "cluster.cjs"],
    "another title": ["node", "titled.cjs"],
    "a loader": ["node", "--no-warnings", "--experimental-loader", "./hooks.mjs", "says.cjs"],
}
SLOW = ("npm exec", "npm run", "npx tsx", "a loader")


def start(folder: Path, node: Path, command: list[str], **env: str) -> Tried:
    for name, text in PROGRAMS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "says").chmod(0o755)
    tsx = npm.bin_folder("tsx") if "tsx" in command else None
    words = {"NODE": str(node), "TSX": str(tsx.parent.parent) if tsx is not None else ""}
    path = os.pathsep.join([str(node.parent), *([str(tsx)] if tsx is not None else []), os.environ["PATH"]])
    found = probe(str(node))
    own = NodeStart(
        executable=found.executable, version=found.version, options=(), heap=HEAP, heap_ceiling=None, telemetry=True,
        expose_gc=True,
    )  # fmt: skip
    env = {"PATH": path, "NPM_CONFIG_UPDATE_NOTIFIER": "false", **env}
    plain = step(*(words.get(word, word) for word in command), cwd=folder, env=env, node=own)
    ended = tried(plain, folder / "run", heap=HEAP)
    assert ended.reason is Reason.COMPLETED, (ended.outcome.why, (ended.folder / "stderr.log").read_text())
    return ended


def said(ended: Tried) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


@npm.each_node
@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.long) if way in SLOW else way for way in WAYS])
def test_node_that_an_agent_starts_has_limit_and_preload(way: str, node: Path, tmp_path: Path) -> None:
    ended = start(tmp_path, node, WAYS[way])
    told = said(ended)
    assert HEAP <= told["limit"] <= HEAP + 192 * MIB
    assert (told["preload"], told["agent"]) == ("function", "agent")
    assert told["channel"]
    complaints = (ended.folder / "stderr.log").read_text().splitlines()
    assert [line for line in complaints if not line.startswith("npm ")] == []


def test_a_limit_that_a_child_is_given_is_kept(node: Path, tmp_path: Path) -> None:
    told = said(start(tmp_path, node, ["node", "own.cjs"]))
    bare = subprocess.run([node, "--max-old-space-size=200", tmp_path / "says.cjs"], capture_output=True, check=True)
    assert told["limit"] == json.loads(bare.stdout)["limit"]
    assert told["preload"] == "function"


@npm.each_node
def test_a_preload_of_the_users_with_an_odd_path_is_read_too(node: Path, tmp_path: Path) -> None:
    spelled = str(tmp_path / ODD).replace('"', '\\"')
    told = start(tmp_path, node, ["node", "-p", "first + typeof gc"], NODE_OPTIONS=f'--require "{spelled}"')
    assert told.stdout == "firstfunction\n"


@pytest.mark.long
def test_a_deno_is_left_alone(node: Path, tmp_path: Path) -> None:
    """Deno reads the files of --require in NODE_OPTIONS, and by default may not read the environment."""
    (tmp_path / "told.mjs").write_text("console.log(typeof gc)")
    ended = start(tmp_path, node, [str(npm.deno_binary()), "run", "--no-prompt", "told.mjs"], NO_COLOR="1")
    assert ended.stdout == "undefined\n"
