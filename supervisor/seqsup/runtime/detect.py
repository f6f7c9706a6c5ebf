"""Which runtime a command ends up in, by the file behind its name."""

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..model import Detected

_NODE = re.compile(r"node(js)?([-.]?[0-9][0-9.]*)?")
_BUN = re.compile(r"bunx?")
# Of pnpm and others that come as one binary with Node inside; as scripts their first line says it as well.
_NODE_TOOLS = ("npx", "npm", "pnpm", "pnpx", "yarn", "tsx", "corepack")
_SHELL_SHIM = re.compile(rb'^\s*exec\s+"?(\$basedir/)?node"?\s', re.MULTILINE)  # as pnpm and cmd-shim write
_BUN_TRAILER = b"---- Bun! ----"  # at the end of a program compiled by Bun
_DEPTH = 5  # a script's interpreter may be a script


def detect(command: Sequence[str], cwd: str, path: str) -> Detected:
    """Follow the command to its binary: names on the path, links, first lines of scripts, `env`."""
    return _detect(list(command), cwd, path, _DEPTH)


def find(word: str, cwd: str, path: str) -> str | None:
    """The file behind a command's first word: with a slash relative to cwd, else on the path."""
    if "/" in word:  # shutil.which would take a path relative to ours
        return shutil.which(Path(cwd, word))
    # An empty or relative part of the path counts from where the agent runs.
    return shutil.which(word, path=os.pathsep.join(str(Path(cwd, part)) for part in path.split(os.pathsep)))


def _detect(words: list[str], cwd: str, path: str, depth: int) -> Detected:
    file = find(words[0], cwd, path)
    if file is None:
        return Detected(kind="native", executable=None, why=_missing(words[0], cwd))
    real = os.path.realpath(file)
    names = {Path(words[0]).name, Path(real).name}
    if any(_NODE.fullmatch(name) for name in names):
        return Detected(kind="node", executable=file, why=f"{file} is Node")
    if any(_BUN.fullmatch(name) for name in names):
        return Detected(kind="bun", executable=file, why=f"{file} is Bun")
    if depth and "env" in names and (inner := _behind_env(words[1:])):
        return _detect(inner, cwd, path, depth - 1)
    return _by_content(file, real, names, cwd, path, depth)


def _by_content(file: str, real: str, names: set[str], cwd: str, path: str, depth: int) -> Detected:
    head, tail = _ends(real)
    if head.startswith(b"#!") and depth:
        return _script(file, head, cwd, path, depth)
    if head.startswith(b"\x7fELF") and _BUN_TRAILER in tail:
        return Detected(kind="bun", executable=file, why=f"{file} was compiled by Bun")
    if tool := next((name for name in names if name in _NODE_TOOLS), None):
        return Detected(kind="node", executable=find("node", cwd, path) or file, why=f"{tool} starts Node")
    return Detected(kind="native", executable=file, why=f"{file} is a program of its own")


def _script(file: str, head: bytes, cwd: str, path: str, depth: int) -> Detected:
    line = head[2:].split(b"\n", 1)[0].decode(errors="surrogateescape").strip()
    interpreter, _, argument = line.partition(" ")  # the kernel hands on the rest as one argument
    words = [interpreter, *([argument.strip()] if argument.strip() else [])]
    if not interpreter:
        return Detected(kind="native", executable=file, why=f"{file} is a script of the shell")
    inner = _detect(words, cwd, path, depth - 1)
    if inner.executable is None:
        return Detected(kind=inner.kind, executable=None, why=f"{file} asks for {line}: {inner.why}")
    if inner.kind == "native" and _SHELL_SHIM.search(head) and (node := find("node", cwd, path)):
        return Detected(kind="node", executable=node, why=f"{file} is a shell script that starts node")
    return Detected(kind=inner.kind, executable=inner.executable, why=f"{file} begins with #!{line}")


def _behind_env(words: list[str]) -> list[str]:
    """The command that `env` starts."""
    words = list(words)
    while words:
        word = words.pop(0)
        if word in ("-u", "--unset", "-C", "--chdir"):
            words = words[1:]
        elif word.startswith(("-S", "--split-string")):
            text = word.removeprefix("--split-string").removeprefix("-S").removeprefix("=")
            words = [*_split(text), *words] if text else [*_split(" ".join(words[:1])), *words[1:]]
        elif not word.startswith("-") and "=" not in word:
            return [word, *words]
    return []


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _ends(file: str) -> tuple[bytes, bytes]:
    try:
        with Path(file).open("rb") as program:
            head = program.read(4096)
            program.seek(max(0, os.fstat(program.fileno()).st_size - 4096))
            return head, program.read()
    except OSError:
        return b"", b""  # executable, but not readable


def _missing(word: str, cwd: str) -> str:
    if "/" not in word:
        return f"there is no program {word} on PATH"
    file = Path(cwd, word)
    if file.is_dir():
        return f"{file} is a folder"
    if file.exists():
        return f"{file} is not executable; mend it with: chmod +x {shlex.quote(str(file))}"
    return f"there is no {file}"
