"""The command of a hook, checked without running it: the shell's syntax, and the script that it starts."""

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seqsup.node.detect import detect

_INTERPRETERS = frozenset({"bash", "sh", "dash", "zsh", "node", "python", "python3", "bun", "deno", "tsx"})
_PREFIXES = {  # and the folder that each names
    "~/": "home", "$HOME/": "home", "${HOME}/": "home", "$CLAUDE_PROJECT_DIR/": "project",
    "${CLAUDE_PROJECT_DIR}/": "project",
}  # fmt: skip
_OPERATORS = ";&|()<>\n"
_THEN = frozenset({"&&", ";", "\n"})  # between `cd FOLDER` and what runs there
_SHELL = "/bin/sh"  # that Claude Code starts too
_PATIENCE = 5.0  # seconds; it takes a thousandth

Wrong = tuple[str, str]  # what is wrong, and the remedy


class Folders(NamedTuple):
    """The folders that a hook's command may name. None: another one in each session."""

    home: Path | None
    project: Path | None
    current: Path | None  # the project, until a `cd`


def check_line(line: str, folders: Folders, blocks: str) -> Iterator[Wrong]:
    """Check a line for the shell. `blocks` says what exit 2 blocks, if it blocks anything."""
    if refused := _refused(line, blocks):
        yield refused, f"correct the command; {_SHELL} -n checks it without running it"
        return
    words: list[str] = []
    for word in _words(line):
        if set(word) - set(_OPERATORS):
            words.append(word)
        elif len(words) == 2 and words[0] == "cd" and word.rstrip("\n") in _THEN | {""}:
            folder = _path(words[1], folders)
            if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 (Path's raises for a long name)
                yield f"there is no {folder}", "create the folder, or correct its path"
                return
            folders, words = folders._replace(current=folder), []
        elif words or word.strip("\n"):
            break
    yield from check_words(words, folders)


def check_words(words: list[str], folders: Folders) -> Iterator[Wrong]:
    """Check the script that a program with its arguments is, or that an interpreter gets."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    interpreted = len(words) > 1 and words[0] in _INTERPRETERS
    word = words[interpreted] if words else ""
    file = _path(word, folders) if "/" in word else None
    if file is None:
        return
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            yield f"{file} is not a file", "correct its path"
        elif not interpreted and not os.access(file, os.X_OK):
            yield f"{file} is not executable", f"chmod +x {shlex.quote(str(file))}"
        elif not interpreted:
            found = detect([str(file)], str(file.parent), os.environ.get("PATH", os.defpath))
            if found.executable is None:
                yield found.why, "correct its first line, or install that program"
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no file can have such a name
        yield f"there is no {file}", "write the script, or correct its path"
    except OSError as error:
        yield f"{file}: {error.strerror}", ""


def _refused(line: str, blocks: str) -> str:
    """Return why the shell refuses a line, or nothing."""
    try:
        asked = subprocess.run(
            [_SHELL, "-n"], input=line.encode(errors="surrogatepass"), env={"LC_ALL": "C"}, timeout=_PATIENCE,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if not asked.returncode:
        return ""
    said = asked.stderr.decode(errors="replace").strip().splitlines() or [f"exit {asked.returncode}"]
    why = re.sub(r"^\S+: (line )?\d+: ", "", said[0])
    then = f" with exit 2, which blocks {blocks}" if blocks and asked.returncode == 2 else ""
    return f"the shell refuses it{then}: {why}"


def _words(line: str) -> list[str]:
    """Return the words and the operators of a line. Empty: they are quoted in a way of the shell's alone."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.whitespace_split = " \t\r", True
    try:
        return list(lexer)
    except ValueError:
        return []


def _path(word: str, folders: Folders) -> Path | None:
    """Return the file or folder that a word names; None if only a shell could tell."""
    whole = f"{word}/"  # also for $HOME alone
    prefix = next(filter(whole.startswith, _PREFIXES), "")
    rest, folder = word[len(prefix) :], getattr(folders, _PREFIXES.get(prefix, "current"))
    if rest.startswith(("-", "~")) or re.search(r"[$`*?;&|<>()]", rest):
        return None
    if rest.startswith("/"):
        return Path(rest)
    return None if folder is None else folder / rest
