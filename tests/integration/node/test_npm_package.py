"""The npm package `seqsup`: packed, checked by TypeScript, and used in real agents."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import npm
from helpers.command_line import Result
from helpers.npm import each_node
from helpers.paths import ROOT
from helpers.profiles import agent, shell, write
from seqsup import __version__, artifacts
from seqsup.model.process import PROTOCOL

Cli = Callable[..., Result]
PACKAGE = ROOT / "node"
NAMES = (
    "appendToScratchpad", "cleanupBetweenAgents", "forceGC", "getMemoryUsage", "isMemoryHigh", "logMemoryUsage",
    "readAgentSummary", "waitForMemoryCleanup",
)  # fmt: skip

# Each value that it looks at depends on the supervisor or on this process
USES = """
(async () => {
  const seen = { now: s.getMemoryUsage(), high: s.isMemoryHigh(1), low: s.isMemoryHigh() };
  s.logMemoryUsage("Before");
  const cleaned = await s.cleanupBetweenAgents();
  const waited = [await s.waitForMemoryCleanup(6144, 100, 10), await s.waitForMemoryCleanup(1, 50, 10)];
  await s.appendToScratchpad("a", { summary: "  old", details: "one" });
  await s.appendToScratchpad("a", { summary: "short ü", details: "two" });
  await s.appendToScratchpad("sub", { summary: "of a sub-agent" });
  const read = [await s.readAgentSummary("a"), await s.readAgentSummary("sub"), await s.readAgentSummary("none")];
  console.log(JSON.stringify({ ...seen, cleaned, waited, read, gc: s.forceGC() }));
})();
"""
KINDS = {
    "cjs": ("agent.cjs", 'const s = require("seqsup");'),
    "esm": ("agent.mjs", 'import * as s from "seqsup";'),
    "ts": ("agent.mts", 'import * as s from "seqsup";\nconst _typed: s.MemoryUsage = s.getMemoryUsage();'),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `npm pack` makes."""
    tool = shutil.which("npm")
    if tool is None:
        pytest.skip("no npm on PATH")
    folder = tmp_path_factory.mktemp("packed")
    subprocess.run([tool, "pack", "--pack-destination", folder, PACKAGE], cwd=folder, check=True, capture_output=True)
    (file,) = folder.glob("*.tgz")
    return file


@pytest.fixture
def project(packed: Path, tmp_path: Path) -> Path:
    """A folder in which the packed file is installed."""
    (tmp_path / "package.json").write_text("{}")
    options = ("--offline", "--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(["npm", "install", *options, packed], cwd=tmp_path, check=True, capture_output=True)
    for name, head in KINDS.values():
        (tmp_path / name).write_text(f"{head}\n{USES}")
    return tmp_path


def said(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def test_package_has_the_version_of_seqsup_and_of_its_channel(packed: Path) -> None:
    described = json.loads((PACKAGE / "package.json").read_text())
    assert described["version"] == __version__
    assert not {"dependencies", "optionalDependencies", "peerDependencies", "scripts"} & set(described)
    license_ = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert described["license"] == license_
    assert f"const PROTOCOL = {PROTOCOL};" in (PACKAGE / "index.cjs").read_text()
    assert packed.name == f"seqsup-{__version__}.tgz"


def test_types_hold_under_strict(project: Path) -> None:
    compiler = npm.bin_folder("typescript") / "tsc"
    sample = """
        import { cleanupBetweenAgents, isMemoryHigh, readAgentSummary, waitForMemoryCleanup } from "seqsup";
        const { freed }: { freed: number } = await cleanupBetweenAgents();
        const high: boolean = isMemoryHigh();
        const ok: boolean = await waitForMemoryCleanup(4096, 30000, 1000);
        const summary: string = await readAgentSummary("agent1");
        // @ts-expect-error a threshold is a number
        isMemoryHigh("6144");
        export { freed, high, ok, summary };
    """
    (project / "sample.mts").write_text(sample)
    (project / "sample.cts").write_text(
        'import seqsup = require("seqsup");\nexport const n: number = seqsup.getMemoryUsage().rss;'
    )
    options = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--types", "")
    ended = subprocess.run(
        ["node", compiler.resolve(), *options, "sample.mts", "sample.cts"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@each_node
@pytest.mark.parametrize("kind", ["cjs", "esm"])
def test_agent_under_node_asks_the_supervisor(kind: str, node: Path, project: Path, seqsup: Cli) -> None:
    file, _ = KINDS[kind]
    under_seqsup(seqsup, project, [str(node), file])


@pytest.mark.parametrize("starter", ["tsx", "npx"])
def test_agent_under_tsx_and_npx_asks_the_supervisor(starter: str, project: Path, seqsup: Cli) -> None:
    folder = npm.bin_folder("tsx")
    if starter == "npx":
        (project / "node_modules/.bin").mkdir(exist_ok=True)
        (project / "node_modules/.bin/tsx").symlink_to(folder / "tsx")
        under_seqsup(seqsup, project, ["npx", "--offline", "tsx", "agent.mts"])
    else:
        under_seqsup(seqsup, project, [str(folder / "tsx"), "agent.mts"])


def under_seqsup(seqsup: Cli, project: Path, command: list[str]) -> None:
    ended = seqsup("start", write(project, agent("a", command, cwd=str(project))), deadline=120)
    told = seqsup("logs", "r1", "a").stdout
    assert ended.code == 0, ended.stderr + told
    seen = said(told)
    assert (seen["now"]["source"], seen["now"]["why"]) == ("seqsup", "")
    assert seen["now"]["rss"] >= 5
    assert (seen["high"], seen["low"], seen["gc"]) == (True, False, True)
    assert seen["cleaned"]["gcAvailable"] is True, seen
    assert seen["cleaned"]["freed"] >= 0
    assert seen["waited"] == [True, False]
    assert seen["read"] == ["short ü", "of a sub-agent", ""]
    assert re.search(
        r"\[Before\] Memory: \d+MB, Heap: \d+/\d+MB, External: \d+MB"
        r" \(agent a with all its processes, as memory.hard counts it\)",
        told,
    )
    assert seqsup("artifacts", "summary", "r1", "a").stdout == "short ü\n"
    assert seqsup("artifacts", "show", "r1", "a", "--file", "details.md").stdout == "one\n\ntwo"


@pytest.mark.parametrize("starter", ["node", "tsx"])  # that of tsx is connected before its child
def test_gc_in_the_first_statement_reaches_the_process(starter: str, project: Path, seqsup: Cli) -> None:
    (project / "agent.cjs").write_text("""
        const garbage = new WeakRef({});
        require("seqsup").cleanupBetweenAgents().then((done) => {
          console.log(JSON.stringify({ ...done, collected: garbage.deref() === undefined }));
        });
    """)
    word = str(npm.bin_folder("tsx") / "tsx") if starter == "tsx" else starter
    ended = seqsup("start", write(project, agent("a", [word, "agent.cjs"])))
    assert ended.code == 0, ended.stderr
    done = said(seqsup("logs", "a").stdout)
    assert (done["gcAvailable"], done["why"], done["collected"]) == (True, "", True)


def test_process_without_the_preload_is_named(project: Path, seqsup: Cli) -> None:
    (project / "agent.cjs").write_text("""
        const { cleanupBetweenAgents } = require("seqsup");
        cleanupBetweenAgents().then((done) => console.log(JSON.stringify({ ...done, pid: process.pid })));
    """)
    node = str(shutil.which("node"))
    assert seqsup("start", write(project, agent("a", ["env", "-u", "NODE_OPTIONS", node, "agent.cjs"]))).code == 0
    done = said(seqsup("logs", "a").stdout)
    assert (done["source"], done["gcAvailable"]) == ("seqsup", False)
    assert done["why"].startswith(
        f"process {done['pid']} did not collect: its preload is not connected: seqsup's NODE_"
    )


def test_agent_without_telemetry_and_hook_say_what_is_measured(project: Path, seqsup: Cli) -> None:
    (project / "agent.cjs").write_text('require("seqsup").logMemoryUsage("x")')
    profile = write(
        project, agent("a", ["node", "agent.cjs"]), node={"telemetry": False},
        hooks={"after_agent": [f"sh -c 'node {project}/agent.cjs > {project}/told'"]},
    )  # fmt: skip
    ended = seqsup("start", profile)
    assert ended.code == 0, ended.stderr
    only = "only this process is measured"
    remedy = "Set node.telemetry = true in the profile, and have node on PATH"
    assert f"(under seqsup without telemetry: {only}. {remedy})" in seqsup("logs", "a").stdout
    assert f"(in a hook of seqsup: {only})" in (project / "told").read_text()


@each_node
@pytest.mark.parametrize("kind", ["cjs", "esm"])
def test_without_seqsup_it_reports_on_its_own_process(kind: str, node: Path, project: Path) -> None:
    file, _ = KINDS[kind]
    ended = subprocess.run(
        [node, "--expose-gc", file], cwd=project, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    seen = said(ended.stdout)
    assert seen["now"]["source"] == "process"
    assert "(not under seqsup: only this process is measured)" in ended.stdout
    assert seen["cleaned"]["gcAvailable"] is True
    assert seen["waited"] == [True, False]
    assert seen["read"] == ["short ü", "of a sub-agent", ""]
    assert (project / ".seqsup-artifacts/a/summary.md").read_text() == "short ü"


def run(project: Path, code: str, **env: str) -> str:
    (project / "run.cjs").write_text(f'const s = require("seqsup");\n{code}')
    ended = subprocess.run(
        ["node", "run.cjs"],
        cwd=project,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.stdout + ended.stderr


def test_supervisor_that_is_gone_is_reported(project: Path) -> None:
    told = run(project, "s.logMemoryUsage('x');", SEQSUP_CHANNEL=str(project / "gone"), SEQSUP_AGENT="a")
    assert "(the supervisor cannot be reached: connect ENOENT" in told


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("s.isMemoryHigh(6442450944)", "give 6144 for 6 GiB"),
        ("s.isMemoryHigh(1e30)", "RangeError: mb is a number of MB, and 1e+30 MB is more than 16 TiB"),
        ("s.isMemoryHigh(NaN)", "RangeError: mb is at least 0, not NaN"),
        ("s.isMemoryHigh('6144')", "TypeError: mb is a number, not string"),
        ("s.isMemoryHigh(null)", "TypeError: mb is a number, not null"),
        ("s.waitForMemoryCleanup(1, -1)", "RangeError: maxWaitMs is at least 0, not -1"),
        ("s.waitForMemoryCleanup(1, 5n)", "TypeError: maxWaitMs is a number, not bigint"),
        ("s.waitForMemoryCleanup(1, 0, 0)", "RangeError: everyMs is at least 1, not 0"),
        ("s.logMemoryUsage(5)", "TypeError: label is text, not number"),
        ("s.appendToScratchpad('../b', { summary: 'x' })", 'RangeError: "../b" is no name of an agent'),
        ("s.appendToScratchpad('..', { summary: 'x' })", "is no name of an agent"),
        ("s.appendToScratchpad('x'.repeat(9999), { summary: 'x' })", f'"{"x" * 80}…" is no name of an agent'),
        ("s.appendToScratchpad(5n, { summary: 'x' })", "TypeError: agent is text, not bigint"),
        ("s.readAgentSummary()", "TypeError: agent is text, not undefined"),
        ("s.readAgentSummary('a/b')", "is no name of an agent"),
        ("s.appendToScratchpad('summary.md', { summary: 'x' })", "RangeError: summary.md names a file"),
        ("s.appendToScratchpad('a')", "TypeError: nothing to store: give a summary, details, or both"),
        ("s.appendToScratchpad('a', null)", "TypeError: nothing to store"),
        ("s.appendToScratchpad('a', { summary: null })", "TypeError: nothing to store"),
        (
            "s.appendToScratchpad('a', 'x')",
            "TypeError: entry is an object with a summary, details, or both, not string",
        ),
        ("s.appendToScratchpad('a', { summary: 5 })", "TypeError: summary is text, not number"),
        ("s.appendToScratchpad('a', { details: ['x'] })", "TypeError: details is text, not array"),
        ("s.appendToScratchpad('a', { summary: 'x', detail: 'y' })", 'TypeError: unknown key "detail": give a summary'),
        ("s.appendToScratchpad('a', { summary: 'x'.repeat(16385) })", "has 16385 bytes, more than 16384: shorten it"),
    ],
)
def test_bad_argument_is_an_error(project: Path, code: str, error: str) -> None:
    told = run(
        project, f"Promise.resolve().then(() => {code}).catch((e) => console.log(`${{e.name}}: ${{e.message}}`));"
    )
    assert error in told
    assert not (project / ".seqsup-artifacts").exists()


def test_no_link_is_followed(project: Path) -> None:
    folder = project / "artifacts"
    folder.mkdir()
    (project / "secret").write_text("secret")
    (folder / "summary.md").symlink_to(project / "secret")
    (folder / "sub").symlink_to(project)
    env = {"SEQSUP_ARTIFACTS": str(folder), "SEQSUP_AGENT": "a"}
    assert "ELOOP" in run(project, "s.readAgentSummary('a').then(console.log, (e) => console.log(e.message))", **env)
    code = "s.appendToScratchpad('sub', { summary: 'x' }).catch((e) => console.log(e.message))"
    assert "is no folder: remove it" in run(project, code, **env)
    run(project, "s.appendToScratchpad('a', { summary: 'mine' })", **env)
    assert (project / "secret").read_text() == "secret"
    assert (folder / "summary.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("label", "head"),
    [("", "RSS: "), ("null", "RSS: "), ("'a\\nb\\x1b[2J\\u202e'", "[a b [2J ] RSS: "), ("'über 1'", "[über 1] RSS: ")],
)
def test_label_forges_no_line_and_may_be_absent(project: Path, label: str, head: str) -> None:
    told = run(project, f"s.logMemoryUsage({label})")
    assert told.startswith(head)
    assert told.count("\n") == 1


def test_folder_that_is_missing_or_closed_is_an_error(project: Path) -> None:
    code = "s.appendToScratchpad('a', { summary: 'x' }).catch((e) => console.log(e.code, e.message))"
    gone = str(project / "gone")
    told = run(project, code, SEQSUP_ARTIFACTS=gone, SEQSUP_AGENT="a")
    assert f"{gone} does not exist: was the run removed, or is this another machine or container?" in told
    told = run(project, code, SEQSUP_ARTIFACTS=gone, SEQSUP_AGENT="b")
    assert f"ENOENT {gone}/a cannot be made: ENOENT: no such file or directory" in told
    (project / "artifacts/summary.md").mkdir(parents=True)
    told = run(project, code, SEQSUP_ARTIFACTS=str(project / "artifacts"), SEQSUP_AGENT="a")
    assert f"EISDIR summary.md cannot be stored in {project}/artifacts: EISDIR" in told


@pytest.mark.parametrize(
    "script",
    [
        "printf '\\033[31mred\\033[0m \\007end \\377\\n'",
        "seq 2000",
        "printf ü%.0s $(seq 2500)",
        "true",
        "echo out; : > $SEQSUP_ARTIFACTS/summary.md",
        "echo out; printf ' a\\0b ' > $SEQSUP_ARTIFACTS/summary.md",
        "printf ü%.0s $(seq 9000) > $SEQSUP_ARTIFACTS/summary.md",
        "echo own; node -e \"require('seqsup').readAgentSummary('one').then(console.log)\"",
    ],
)
def test_summary_is_that_of_python(project: Path, seqsup: Cli, tmp_path: Path, script: str) -> None:
    (project / "two.cjs").write_text(
        "require('seqsup').readAgentSummary('one').then((t) => console.log(JSON.stringify(t)));"
    )
    profile = write(project, shell("one", script, cwd=str(project)), agent("two", ["node", "two.cjs"]))
    assert seqsup("start", profile).code == 0
    (folder,) = tmp_path.glob("**/runs/r1")
    assert json.loads(seqsup("logs", "r1", "two").stdout) == artifacts.summary("one", folder)


def test_summary_of_an_earlier_agent_is_read(project: Path, seqsup: Cli) -> None:
    code = {
        "one": "s.appendToScratchpad('one', { summary: 'from one' })",
        "two": "s.readAgentSummary('one').then(console.log)",
    }
    for name, text in code.items():
        (project / f"{name}.cjs").write_text(f'const s = require("seqsup");\n{text};')
    profile = write(project, *(agent(name, ["node", f"{name}.cjs"], cwd=str(project)) for name in code))
    assert seqsup("start", profile).code == 0
    assert seqsup("logs", "r1", "two").stdout == "from one\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_summary_of_another_user_says_what_to_use(project: Path, seqsup: Cli) -> None:
    for folder in (project, *project.parents[:-1]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    code = "require('seqsup').readAgentSummary('one').catch((e) => console.log(e.code, e.message))"
    profile = write(
        project, shell("one", "echo hello"), agent("two", ["node", "-e", code]),
        run={"user": "nobody", "state_dir": str(project / "state")},
    )  # fmt: skip
    ended = seqsup("start", profile)
    assert ended.code == 0, ended.stderr
    said = (project / "state/runs/r1/two/1/stdout.log").read_text()
    assert said == "EACCES this user may not read files of one: use {summary:one} in the command\n"


def test_call_after_force_gc_is_answered(project: Path, seqsup: Cli) -> None:
    (project / "agent.cjs").write_text("""
        const s = require("seqsup");
        (async () => {
          for (let n = 0; n < 9; n++) s.forceGC();
          await s.cleanupBetweenAgents();
          console.log(JSON.stringify({ over: await s.waitForMemoryCleanup(6144, 100, 10) }));
        })();
    """)
    ended = seqsup("start", write(project, agent("a", ["node", "agent.cjs"])))
    assert ended.code == 0, ended.stderr
    assert said(seqsup("logs", "a").stdout) == {"over": True}


def test_calls_beside_one_another_lose_no_details(project: Path) -> None:
    code = """
        const s = require("seqsup");
        Promise.all([..."abcdefgh"].map((details) => s.appendToScratchpad("one", { details })));
    """
    subprocess.run(["node", "-e", code], cwd=project, check=True)
    assert (project / ".seqsup-artifacts/one/details.md").read_text().split() == list("abcdefgh")


def test_names_are_those_of_both_kinds_and_of_the_types() -> None:
    code = f"console.log(JSON.stringify(Object.keys(require({str(PACKAGE / 'index.cjs')!r}))))"
    names = json.loads(subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True).stdout)
    declared = re.findall(r"^export function (\w+)", (PACKAGE / "index.d.cts").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(declared) == sorted(NAMES)
    assert all(f"  {name},\n" in (PACKAGE / "index.mjs").read_text() for name in NAMES)
