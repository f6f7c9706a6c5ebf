"""Words of a command: as TOML spells them, and whether they were meant for a shell. Pure."""

import json
import re
import shlex
from collections.abc import Iterable, Sequence

from seqsup.profile import placeholders

OPERATORS = (
    "|",
    "||",
    "|&",
    ">",
    ">>",
    "<",
    "<<<",
    "2>",
    "2>>",
    "2>&1",
    "&>",
    "&&",
    ";",
    "&",
    "2>/dev/null",
    ">/dev/null",
)
# What has to follow such a word at the end of a line
_OPEN = dict.fromkeys(("|", "||", "|&", "&&"), "COMMAND") | dict.fromkeys((">", ">>", "<", "2>", "2>>", "&>"), "FILE")
# Programs that have such words of their own, and options behind which such a word is a separator
_OWN = ("[", "expr", "test", "tmux", "tr")
_SEPARATOR = ("-d", "-F", "-s", "-t", "--delimiter", "--field-separator", "--output-delimiter", "--separator")
_FIND_RUNS = ("-exec", "-execdir", "-ok", "-okdir")
_EXPRESSION = re.compile(r"/(.*)/([gimsuxy]{0,3})", re.DOTALL)  # behind it the flags of other languages
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh", "fish")


def quoted(text: str) -> str:
    """A basic string of TOML: what JSON writes is one, but for a character that only JSON takes bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def listed(words: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"


def expression(word: str) -> tuple[str, str] | None:
    """Return a regular expression that is written `/so/`, and its flags; None for a word."""
    match = _EXPRESSION.fullmatch(word)
    return (match[1], match[2]) if match is not None else None


def operator(command: Sequence[str]) -> int | None:
    """Return the place of the first word that only a shell understands, if the program has no use for it."""
    program = command[0].rpartition("/")[2] if command else ""
    if program in _OWN or (program in _SHELLS and len(command) > 2):
        return None
    for n, word in enumerate(command):
        separates = n > 0 and command[n - 1] in _SEPARATOR
        ends_find = word == ";" and any(option in command for option in _FIND_RUNS)
        if word in OPERATORS and not separates and not ends_find:
            return n
    return None


def for_shell(command: Sequence[str]) -> str:
    """Return the command as TOML, run by a shell."""
    return listed(_shelled("", command))


def meant(command: Sequence[str]) -> tuple[str, list[str]]:
    """Return what is wrong with a command whose first word is a whole command line, and the words that were meant."""
    text, *rest = command
    if any(word in OPERATORS for word in text.split()):
        return "no shell runs this", _shelled(text, rest)
    return "", [*_split(text), *rest]


def _shelled(line: str, command: Iterable[str]) -> list[str]:
    """Return a call of a shell. Placeholders of `command` become arguments, which no shell misreads."""
    script, arguments = [line] if line else [], []
    for word in command:
        if placeholders.written(word):
            arguments.append(word)
            word = f'"${len(arguments)}"'
        elif word not in OPERATORS and re.search(r"[\s'\"\\;&|<>()`#!]|^$", word):
            word = shlex.quote(word)
        script.append(word)
    line = " ".join(script)
    before, after = ("COMMAND " if line.split()[0] in OPERATORS else ""), _OPEN.get(line.split()[-1], "")
    return ["sh", "-c", f"{before}{line} {after}".rstrip(), *(["sh", *arguments] if arguments else [])]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError:  # a quote is missing
        return text.split()
