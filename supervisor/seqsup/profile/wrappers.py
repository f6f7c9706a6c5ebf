"""The command behind a command: what env, timeout, a shell or npx becomes or starts. Pure."""

import itertools
import re
import shlex
from collections.abc import Sequence

# Programs that become the command behind their options: which of these take a value, and how many words stand between.
_WRAPPERS = {
    "nice": (("-n", "--adjustment"), 0), "nohup": ((), 0), "setsid": ((), 0),
    "stdbuf": (("-i", "-o", "-e", "--input", "--output", "--error"), 0),
    "timeout": (("-k", "-s", "--kill-after", "--signal"), 1),
}  # fmt: skip
SHELLS = ("sh", "ash", "bash", "dash", "ksh", "zsh")
_SHELL_WORDS = re.compile(
    r"""(?P<redirection>\d*[<>]+&?(\d+|-)?)|(?P<then>&&|[;\n])|(?P<operator>[&|()`]+)"""
    r"""|(?P<word>([^\s;&|<>()`'"\\]|'[^']*'|"(\\.|[^"\\])*"|\\.)+)""",
    re.DOTALL,
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# Programs that fetch a package and start it, and the word that asks for it
_FETCHERS = {"npx": "", "bunx": "", "pnpx": "", "bun": "x", "npm": "exec", "pnpm": "dlx", "yarn": "dlx"}
_OF_PACKAGE = ("-p", "--package")
_DEPTH = 5  # a wrapper may start another
_FIRST = 20  # words of a shell's command that are looked at: the rest may be a long prompt


def program(command: Sequence[str]) -> str:
    """Return the name of the program that a command starts: of `timeout 1h npx @openai/codex@1 exec` codex."""
    return _name(unwrapped(command))


def unwrapped(command: Sequence[str]) -> list[str]:
    """Return the command line that a command ends in: of `timeout 1h npx @openai/codex@1 exec` the last two words."""
    words = list(command)
    for _ in range(_DEPTH):
        name = _name(words)
        inner = behind(name, words[1:]) or _fetched(name, words[1:])
        if not inner:
            break
        words = inner
    return words


def _name(words: Sequence[str]) -> str:
    """Return the first word without its folder or scope, and without a version."""
    return words[0].rpartition("/")[2].partition("@")[0].removesuffix(".exe") if words else ""


def _fetched(name: str, words: Sequence[str]) -> list[str]:
    """Return the package that npx and the like start, with its arguments; nothing if they do something else."""
    asks = _FETCHERS.get(name)
    if asks is None or (asks and list(words[:1]) != [asks]):
        return []
    return _operands(words[1:] if asks else words, _OF_PACKAGE)


def behind(name: str, words: Sequence[str]) -> list[str]:
    """The command that a wrapper of this name becomes; nothing where it is none, or does more than that."""
    if name == "env":
        return _behind_env(words)
    if name in SHELLS:
        return _behind_shell(words)
    if name not in _WRAPPERS:
        return []
    with_value, between = _WRAPPERS[name]
    return _operands(words, with_value)[between:]


def _operands(words: Sequence[str], with_value: Sequence[str]) -> list[str]:
    rest = list(words)
    while rest and rest[0].startswith("-"):
        if (word := rest.pop(0)) == "--":
            break
        rest = rest[1:] if word in with_value else rest
    return rest


def _behind_shell(words: Sequence[str]) -> list[str]:
    """The last of the commands that follow each other in `-c SCRIPT`: `cd app && exec node x` is node."""
    options = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    if not any("c" in word and not word.startswith("--") for word in options) or len(options) == len(words):
        return []
    commands: list[list[str]] = [[]]
    for match in _SHELL_WORDS.finditer(words[len(options)]):
        match match.lastgroup:
            case "operator":
                return []
            case "then":
                commands.append([])
            case "word":
                commands[-1].append(match.group())
    last = next((command for command in reversed(commands) if command), [])
    plain = [word for text in last[:_FIRST] for word in _split(text)]
    return list(itertools.dropwhile(lambda word: word == "exec" or _ASSIGNMENT.match(word), plain))


def _behind_env(words: Sequence[str]) -> list[str]:
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
