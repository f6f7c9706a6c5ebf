"""Which words of `when` a task contains: whole words in any form that inflection makes, or expressions. Pure."""

import re
from functools import lru_cache

from seqsup.profile.words import expression

DEADLINE = 1.0  # seconds for one expression: it may try for ever
_SHORTEST = 3  # letters that remain without an ending, so that `red` is no form of `r`
_ENDINGS = (("ies", "y"), ("ied", "y"), ("s", ""), ("es", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"))


@lru_cache
def mentioned(when: tuple[str, ...], task: str) -> tuple[str, ...]:
    """Return those of the words that the task contains. TimeoutError, if an expression takes a second."""
    return tuple(word for word in when if _found(word.strip(), task))


def too_slow(when: tuple[str, ...], task: str) -> bool:
    """Return whether an expression cannot be searched for in time."""
    try:
        mentioned(when, task)
    except TimeoutError:
        return True
    return False


def _found(word: str, task: str) -> bool:
    if written := expression(word):
        import regex  # 8 ms, which only this form costs

        return regex.search(written[0], task, flags=regex.IGNORECASE, timeout=DEADLINE) is not None
    asked = re.findall(r"\w+", word)
    between = (re.sub(r"(\\?\s)+", r"\\s+", re.escape(text)) for text in re.split(r"\w+", word))
    pattern = r"(?<!\w)(?=" + r"(\w+)".join(between) + r"(?!\w))"
    return any(all(map(_alike, asked, match.groups())) for match in re.finditer(pattern, task))


def _alike(one: str, other: str) -> bool:
    return not _stems(one).isdisjoint(_stems(other))


@lru_cache(maxsize=4096)
def _stems(word: str) -> frozenset[str]:
    """Return what a word may be a form of: of `queries` that is queries, querie and query."""
    word = word.casefold()
    stems = {word}
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= _SHORTEST:
            stems.add(stem + instead)
            if stem[-1] == stem[-2] and ending in ("ed", "ing"):
                stems.add(stem[:-1])
    return frozenset(stems)
