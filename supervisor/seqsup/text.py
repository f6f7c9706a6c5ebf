"""Text for people: its width, wrapping, plurals, and what a terminal may show."""

import re
from collections.abc import Iterable, Sequence

ASCII = {
    "✔": "ok", "✖": "FAIL", "☠": "KILL", "↻": "re", "▶": ">", "■": "stop", "–": "-", "…": "..",
    "!": "!", "→": "->", "←": "<-", "Σ": "sum of", "─": "-", "█": "#", "░": ".", "·": "|", "×": "x",
}  # fmt: skip
_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"  # colours, titles …
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f-\x9f]"


def columns(text: str) -> int:
    """How wide a terminal shows it."""
    if text.isascii():
        return len(text)
    import unicodedata  # most text needs none of it

    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def printable(text: str) -> str:
    """Keep what an agent called itself from moving the cursor or forging a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def unstyled(text: str) -> str:
    """Without what colours it or moves the cursor."""
    return re.sub(f"{_SEQUENCE}|{_CONTROL}", "", text)


def wrap(text: str, width: int | None, indent: str = "  ") -> list[str]:
    """Break at spaces; a word that is too long stays whole, so that paths and commands can be copied."""
    if width is None or len(text) <= width:
        return [text]
    from textwrap import wrap as broken  # most text fits

    first = text[: len(text) - len(text.lstrip())]
    room = max(width, len(indent) + 20)
    return broken(
        text.strip(), room, initial_indent=first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip


def at_a_time(concurrency: int) -> str:
    return "one at a time" if concurrency == 1 else f"{concurrency} at a time AT YOUR OWN RISK: their memory adds up"


def counted(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"


def narrowed(only: Sequence[str], start_from: str | None) -> str:
    """Say what of a profile was asked for: `only embed, report, all from embed on`; nothing where it was all."""
    told = ["only " + named(only)] * bool(only) + [f"all from {start_from} on"] * (start_from is not None)
    return ", ".join(told)


def named(some: Iterable[str], most: int = 8) -> str:
    """As many of them as can be read, and how many more there are."""
    listed = list(some)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def mark(symbol: str, encoding: str | None) -> str:
    """A symbol that the terminal can show, or its word."""
    try:
        symbol.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII.get(symbol, "?")
    return symbol


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word that nobody knows: ` (did you mean nightly?)`, or nothing."""
    from difflib import get_close_matches  # costs 5 ms, and slips are rare

    near = get_close_matches(word, list(known), 2)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
