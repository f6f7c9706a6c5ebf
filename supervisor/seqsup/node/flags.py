"""NODE_OPTIONS as a text and as words. Pure: Node's own rules, measured on Node 18 to 25."""

from collections.abc import Iterable
from functools import cache

HEAP, GC = "--max-old-space-size", "--expose-gc"
_EVERYWHERE = (HEAP, "--require", "-r", "--report-on-fatalerror")  # taken in NODE_OPTIONS by each Node from 18 to 25


def split(text: str) -> list[str]:
    """The words, as Node splits them: at spaces, double quotes hold together, a backslash only inside them."""
    words: list[str] = []
    inside, begun = False, False
    characters = iter(text)
    for character in characters:
        if character == " " and not inside:
            begun = False
            continue
        if not begun:
            words.append("")
            begun = True
        if character == '"':
            inside = not inside
        else:
            words[-1] += next(characters, "") if character == "\\" and inside else character
    return words


def join(words: Iterable[str]) -> str:
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    if word and " " not in word and '"' not in word:
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def name(word: str) -> str:
    """The flag of an option: without its value, with dashes where V8 also takes underscores."""
    if not word.startswith("--"):
        return word  # a short one takes no "="
    flag = word.partition("=")[0]
    return flag[:2] + flag[2:].replace("_", "-")


def sets_heap(words: Iterable[str]) -> bool:
    return any(name(word) == HEAP for word in words)


def everywhere(words: Iterable[str]) -> list[str]:
    """Those of the options that every Node takes, with their values: for a Node that was not asked."""
    kept, keep = [], False
    for word in words:
        keep = name(word) in _EVERYWHERE if word.startswith("-") else keep
        if keep:
            kept.append(word)
    return kept


def refused(words: Iterable[str], allowed: tuple[str, ...]) -> list[str]:
    """The options that this Node does not take in NODE_OPTIONS; words without a dash are values."""
    return [word for word in words if word.startswith("-") and not _takes(name(word), allowed)]


def _takes(flag: str, allowed: tuple[str, ...]) -> bool:
    known = _names(allowed)
    return flag in known or flag.replace("--no-", "--", 1) in known


@cache  # some 300 flags, and each agent of a profile is compared with those of the same Node
def _names(allowed: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(name, allowed))
