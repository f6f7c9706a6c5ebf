"""Which runtime a command ends up in, by the file behind its name."""

import os
import re
import shlex
import shutil
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from seqsup.containment.proc_text import filesystem
from seqsup.host.machine import in_wsl
from seqsup.model.plan import Detected
from seqsup.profile.words import OPERATORS, listed, meant
from seqsup.profile.wrappers import SHELLS, behind

_NODE = re.compile(r"node(js)?([-.]?[0-9][0-9.]*)?")
_BUN = re.compile(r"bunx?")
# Of pnpm and others that come as one binary with Node inside; as scripts their first line says it as well.
_NODE_TOOLS = ("npx", "npm", "pnpm", "pnpx", "yarn", "tsx", "corepack")
_SHELL_SHIM = re.compile(rb'^\s*exec\s+"?(\$basedir/)?node"?\s', re.MULTILINE)  # as pnpm and cmd-shim write
_BUN_TRAILER = b"---- Bun! ----"  # at the end of a program compiled by Bun
_BUN_SECTION = b".bun\0"  # where newer ones keep it; all that was linked in after it may stand behind
_ELF_MAGIC = b"\x7fELF"
_ELF_HEADER = struct.Struct("<40xQ10xHHH")  # offset of the section table, size and number of entries, index of names
_SECTION = struct.Struct("<24xQQ")  # where a section lies, and its length
_LONGEST_NAMES = 65536
_WINDOWS_MAGIC, _WINDOWS_DRIVES = b"MZ", ("9p", "drvfs")
_HEAD = 16384  # bytes of a file that are looked at: before pnpm's scripts start node come 4 KiB
_DEPTH = 5  # a script's interpreter may be a script, and a wrapper start another


def detect(command: Sequence[str], cwd: str, path: str) -> Detected:
    """Follow the command to its binary: names on the path, links, first lines of scripts, what wrappers become."""
    return Detector().detect(command, cwd, path)


class Detector:
    """Remembers what it has seen: the agents of a profile are many calls of few programs."""

    def __init__(self) -> None:
        self._programs: dict[tuple[str, str, str], Detected] = {}

    def detect(self, words: Sequence[str], cwd: str, path: str, depth: int = _DEPTH) -> Detected:
        key = (words[0], cwd, path)
        if key not in self._programs:
            self._programs[key] = self._program(*key, depth)
        own, name = self._programs[key], words[0].rpartition("/")[2]
        if not own.why:
            return replace(own, why=_missing(words, cwd, path))
        if own.executable is None or not depth or not (inner := behind(name, words[1:])):
            return own
        found = self.detect(inner, cwd, path, depth - 1)
        if name in SHELLS and (found.executable is None or found.kind == "native"):
            # it may be a word of the shell's, or in a folder that it enters first
            return replace(own, windows=own.windows or found.windows)
        return replace(found, why=f"behind {name}, {found.why}") if found.executable is not None else found

    def _program(self, word: str, cwd: str, path: str, depth: int) -> Detected:
        file = find(word, cwd, path)
        if file is None:
            return Detected(kind="native", executable=None, why="")  # the hint depends on the words behind it
        real = os.path.realpath(file)
        names = {Path(word).name, Path(real).name}
        if any(_NODE.fullmatch(name) for name in names):
            return Detected(kind="node", executable=file, why=f"{file} is Node")
        if any(_BUN.fullmatch(name) for name in names):
            return Detected(kind="bun", executable=file, why=f"{file} is Bun")
        head, tail, sections = _parts(real)
        if head.startswith(b"#!") and depth:
            return self._script(file, head, cwd, path, depth)
        if head.startswith(_WINDOWS_MAGIC) and in_wsl():
            return Detected(kind="native", executable=file, why=f"{file} is a program of Windows", windows=True)
        if head.startswith(_ELF_MAGIC) and (_BUN_SECTION in sections or _BUN_TRAILER in tail):
            return Detected(kind="bun", executable=file, why=f"{file} was compiled by Bun")
        if tool := next((name for name in names if name in _NODE_TOOLS), None):
            return Detected(kind="node", executable=find("node", cwd, path) or file, why=f"{tool} starts Node")
        return Detected(kind="native", executable=file, why=f"{file} is a native program")

    def _script(self, file: str, head: bytes, cwd: str, path: str, depth: int) -> Detected:
        line = re.split(b"[\n\0]", head[2:], maxsplit=1)[0].decode(errors="surrogateescape")
        interpreter, _, argument = line.strip().partition(" ")  # the kernel passes the rest as one argument
        words = [interpreter, *([argument.strip()] if argument.strip() else [])]
        if not interpreter:
            return Detected(kind="native", executable=file, why=f"{file} is a script of the shell")
        if line.endswith("\r"):  # to the kernel a part of the last word
            why = f"{file}: its first line ends in CR; fix it with: sed -i 's/\\r$//' {shlex.quote(file)}"
            return Detected(kind="native", executable=None, why=why)
        inner = self.detect(words, cwd, path, depth - 1)
        if inner.executable is None:
            return Detected(kind=inner.kind, executable=None, why=f"{file} asks for {line.strip()}: {inner.why}")
        if inner.kind == "native" and _SHELL_SHIM.search(head) and (node := find("node", cwd, path)):
            return Detected(kind="node", executable=node, why=f"{file} is a shell script that starts node")
        why = f"{file} begins with #!{line.strip()}"
        windows = inner.windows or _starts_windows(file, line, head)
        return Detected(kind=inner.kind, executable=inner.executable, why=why, windows=windows)


def _starts_windows(file: str, line: str, head: bytes) -> bool:
    """Say whether a script is a shim of Windows: a shell's, on one of its drives, that names one of its programs."""
    shell = any(Path(word).name in SHELLS for word in line.split())
    if b".exe" not in head or not shell or not in_wsl():
        return False
    return filesystem(os.path.realpath(file)) in _WINDOWS_DRIVES


def find(word: str, cwd: str, path: str) -> str | None:
    """The file behind a command's first word: with a slash relative to cwd, else on the path."""
    if "/" in word:  # shutil.which would take a path relative to ours
        return shutil.which(str(Path(cwd, word)))
    # An empty or relative part of the path counts from where the agent runs.
    parts = (os.path.join(cwd, part) for part in path.split(os.pathsep))  # noqa: PTH118 (hot)
    return shutil.which(word, path=os.pathsep.join(parts))


def _parts(file: str) -> tuple[bytes, bytes, bytes]:
    """A program's first and last bytes, and the names of its sections."""
    try:
        with Path(file).open("rb") as program:
            head = program.read(_HEAD)
            program.seek(max(0, os.fstat(program.fileno()).st_size - 4096))
            return head, program.read(), _section_names(program, head) if head.startswith(_ELF_MAGIC) else b""
    except OSError:
        return b"", b"", b""  # executable, but not readable


def _section_names(program: BinaryIO, head: bytes) -> bytes:
    """Return the section names of a 64-bit ELF file; empty if it is truncated or has none."""
    try:
        table, size, _, names = _ELF_HEADER.unpack_from(head)
        program.seek(table + names * size)
        offset, length = _SECTION.unpack_from(program.read(size))
        program.seek(offset)
        return program.read(min(length, _LONGEST_NAMES))
    except (struct.error, OverflowError, ValueError):
        return b""


def _missing(words: Sequence[str], cwd: str, path: str) -> str:
    word = words[0]
    first, *more = word.split() or [word]
    file = Path(cwd, word)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = 0
    except OSError as error:
        return f"{file}: {error.strerror}"
    if "/" not in word:
        if (more or word in OPERATORS) and not stat.S_ISREG(mode):
            return f"no program {word} on PATH\n{_apart(words)}"
        near = f"write ./{word}" if stat.S_ISREG(mode) else "install it, or give its path"
        return f"no program {word} on PATH: {near}"
    if stat.S_ISDIR(mode):
        return f"{file} is a folder"
    if mode:
        return f"{file} is not executable; fix it with: chmod +x {shlex.quote(str(file))}"
    whole = more and (find(first, cwd, path) or any(part in OPERATORS for part in more))
    return f"there is no {file}" + (f"\n{_apart(words)}" if whole else "")


def _apart(words: Sequence[str]) -> str:
    """What to write instead of a program that is a whole command."""
    why, apart = meant(words)
    return f"{f'{why}: write' if why else 'write each word as its own item:'} {listed(apart)}"
