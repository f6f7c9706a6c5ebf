"""The purpose of a process in an agent's tree, by its name and command line."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import PurePath

from seqsup.model.enums import ProcessKind
from seqsup.model.preset import agent_programs
from seqsup.model.process import ProcessMemory
from seqsup.text import printable
from seqsup.units import format_size

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "ash"})
INTERPRETERS = SHELLS | {"node", "nodejs", "bun", "deno", "npx", "python", "python3", "ruby"}  # named by what they run
_LAUNCHERS = frozenset({
    "npx", "npm", "pnpm", "pnpx", "yarn", "bunx", "uv", "uvx", "pipx", "docker", "podman",
})  # fmt: skip
# Agent CLIs beyond those that have a preset
_OTHER_AGENTS = frozenset({"aider", "goose", "amp", "copilot", "cursor-agent", "crush", "droid"})
_BROWSERS = re.compile(
    r"(google-)?chrom(e|ium)([-_](stable|beta|browser|headless[-_]shell|crashpad(_handler)?))?"
    r"|headless_shell|firefox(-bin|-esr)?|msedge|brave|chromedriver|geckodriver|MiniBrowser|(WPE|WebKit)\w*Process"
)
_VALUED = frozenset({"-r", "--require", "--import", "--loader", "-C", "--env-file"})  # of Node: an argument follows
_TEXT = re.compile(r"-[a-zA-Z]{0,3}[cep]|--eval|--print")  # the program's text follows, as in `bash -lc`
_STARTS = {"bun": ("run", "x"), "deno": ("run",)}  # what they run follows such a word
_SERVES = frozenset({"mcp", "mcp-server"})  # as an agent's first word: `codex mcp-server`, `claude mcp serve`
_NAMELESS = frozenset({"index", "main", "cli", "server", "start", "__main__"})  # what every package calls its script
_WITHIN = frozenset({"dist", "build", "lib", "src", "bin", ".bin", "out", "bundle", "esm", "cjs"})
_NODES = frozenset({"node", "nodejs", "MainThread", "node-MainThread"})  # so newer ones call their first thread
_LOOKED_AT = 3  # words that may name what a launcher starts: `pnpm dlx PACKAGE`, `uv tool run PACKAGE`


def classify(name: str, command: Sequence[str], *, leader: bool) -> ProcessKind:
    """Return the purpose of a process; `name` is the kernel's, `leader` says that the profile's command became it.

    A shell between, such as npm's `sh -c mcp-server-x`, is a shell: the process that it starts is classified by itself.
    """
    if leader:
        return ProcessKind.AGENT
    words = _words(command)
    program = _base(words[0]) if words else name
    arguments = words[1:]
    if program in SHELLS:
        return ProcessKind.SHELL
    if _BROWSERS.fullmatch(program) or _BROWSERS.fullmatch(name):
        return ProcessKind.BROWSER
    if _interprets(program) and (started := subject(program, arguments)):
        program, arguments = started, arguments[arguments.index(started) + 1 :]
    if _is_agent(program):
        return ProcessKind.MCP_SERVER if _SERVES & set(arguments[:1]) else ProcessKind.AGENT
    return ProcessKind.MCP_SERVER if _speaks_mcp(program, arguments) else ProcessKind.OTHER


def is_node(process: ProcessMemory) -> bool:
    """Return whether it is a Node by its names. One with another name is known only if it reports to the channel."""
    return process.name in _NODES or _base(process.command.partition(" ")[0]) in _NODES


def subject(program: str, arguments: Iterable[str]) -> str:
    """Return what an interpreter runs: a script, a module, or `-e` for inline code; empty if none is given."""
    starts = _STARTS.get(program, ())
    following = iter(arguments)
    for word in following:
        if word in _VALUED:
            next(following, None)
        elif word not in starts and (not word.startswith("-") or _TEXT.fullmatch(word)):
            return word
    return ""


def script_name(script: str) -> str:
    """Name a script shortly: `embed.js`, but `server-github/index.js`, as every package has an index.js."""
    path = PurePath(script)
    if path.stem not in _NAMELESS:
        return path.name
    package = next((part for part in reversed(path.parent.parts) if part not in _WITHIN), "")
    return f"{package}/{path.name}" if package not in ("", "/", ".", "..") else path.name


def _words(command: Sequence[str]) -> list[str]:
    """Split what a process wrote over its own arguments, as npm and Chromium do: all of it is then the first."""
    if len(command) == 1 and " " in command[0]:
        return command[0].split()
    return list(command)


def _base(program: str) -> str:
    """A login shell is called -bash; claude and bun are claude.exe and bun.exe in npm's packages, on Linux too."""
    return PurePath(program.removeprefix("-")).name.removesuffix(".exe")


def _interprets(program: str) -> bool:
    return program not in _LAUNCHERS and re.sub(r"[\d.]+$", "", program) in INTERPRETERS


def _speaks_mcp(program: str, arguments: Sequence[str]) -> bool:
    launcher, plain = _base(program), [word for word in arguments if not word.startswith("-")]
    if launcher in ("docker", "podman"):
        return any(map(_named_mcp, plain))
    if launcher in _LAUNCHERS:
        return any(_named_mcp(word) for word in plain[:_LOOKED_AT] if word.startswith("@") or "/" not in word)
    return _named_mcp(_package(program))


def _named_mcp(text: str) -> bool:
    return not {"mcp", "modelcontextprotocol", "fastmcp"}.isdisjoint(re.split(r"[^a-z0-9]+", text.lower()))


def _package(script: str) -> str:
    """Return the telling part of a script's path: all below node_modules, else its package's folder and its name."""
    _, modules, below = script.rpartition("node_modules/")
    if modules:
        return below
    parts = [part for part in PurePath(script).parts if part not in _WITHIN]
    return "/".join(parts[-2:])


@cache
def _agents() -> frozenset[str]:
    return agent_programs() | _OTHER_AGENTS


def _is_agent(program: str) -> bool:
    if _base(program) in _agents():
        return True
    below = program.rpartition("node_modules/")[2].split("/")
    return len(below) > 1 and (below[1] if below[0].startswith("@") else below[0]) in _agents()


_CUT, _LONGEST = 15, 60  # characters of a process's name: where the kernel cuts it, and where we do
OTHER = "other"  # programs together, also as a label
# A shell is shown by its name; the other words are those of the field
KINDS = {ProcessKind.AGENT: "agent", ProcessKind.MCP_SERVER: "MCP server", ProcessKind.BROWSER: "browser"}


def title(process: ProcessMemory) -> str:
    """Name a process as its user would: `node embed.js`, not `MainThread`."""
    return _title(process.name, process.command)


@lru_cache(maxsize=256)  # the same ones are named each second
def _title(name: str, command: str) -> str:
    words = command.split()
    program = _base(words[0]) if words else name.removesuffix(".exe")
    if program not in INTERPRETERS:
        return printable(_whole(name, command, program).removesuffix(".exe"))
    runs = subject(program, words[1:])
    return printable(f"{program} {script_name(runs)}") if runs else program


def _whole(name: str, command: str, program: str) -> str:
    """A name that the kernel has cut, up to the end of its word; not beyond a `=`, which a secret may follow."""
    if len(name) == _CUT:
        for text in (command, program):
            if text.startswith(name):
                return f"{name}{re.split(r'[ =]', text[_CUT:_LONGEST], maxsplit=1)[0]}"
    return name


def by_program(some: Iterable[ProcessMemory]) -> dict[str, int]:
    """Sum the bytes of processes of one name, the largest first."""
    sizes = Counter[str]()
    for process in some:
        sizes[title(process)] += process.bytes
    return dict(sizes.most_common())


def how_many(some: Iterable[ProcessMemory]) -> int:
    return sum(process.count for process in some)


def processes(some: Iterable[ProcessMemory], named: int = 3) -> str:
    """List the memory by process: `node embed.js (agent) 589 MiB · 3 × chrome (browser) 237 MiB · other 98 MiB`."""
    sizes, numbers = Counter[str](), Counter[str]()
    for process in some:
        name = title(process) + (f" ({KINDS[process.kind]})" if process.kind in KINDS else "")
        sizes[name] += process.bytes
        numbers[name] += process.count
    other = sizes.pop(OTHER, 0)
    ranked = sizes.most_common()
    if len(ranked) == named + 1 and not other:
        named += 1  # "other" would take the same room
    times = {name: f"{number} × " for name, number in numbers.items() if number > 1}
    said = [f"{times.get(name, '')}{name} {format_size(size)}" for name, size in ranked[:named]]
    if other := other + sum(size for _, size in ranked[named:]):
        said.append(f"{OTHER} {format_size(other)}")
    return " · ".join(said)
