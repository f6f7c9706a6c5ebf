"""Text for people: its width, wrapping, plurals, and what a terminal may show."""

import re
from collections.abc import Iterable, Iterator, Sequence

ASCII = {
    "✔": "ok", "✖": "FAIL", "☠": "KILL", "↻": "re", "▶": ">", "■": "stop", "–": "-", "…": "..",
    "!": "!", "→": "->", "←": "<-", "Σ": "sum of", "─": "-", "█": "#", "░": ".", "·": "|", "×": "x", "≥": ">=",
}  # fmt: skip
_NARROW = dict.fromkeys(map(ord, ASCII), ".")  # of one column
_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"  # colours, titles …
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f-\x9f]"
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji need them; they hide no text and turn none round
_LABEL = 32  # characters of an agent's name with its item
_LONGEST = 300  # characters of a word in a message: longer than most paths
_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}
_STYLE = r"\x1b\[(?:0|1|2|31|32|33)m"  # all that `styled` writes; none of them moves the cursor or hides text
_RESET = "\x1b[0m"


class Width(int):
    """Columns of a terminal, with the mark for what is cut: `…`, or `..` where there is no such symbol."""

    more = "…"


def styled(style: str, text: str) -> str:
    """Return text for people in a style: bold, dim, red, green or yellow; "" for none.

    Print it with click.echo, which leaves the style out where it is not wanted (NO_COLOR, TERM=dumb, a pipe).
    `columns`, `wrap` and tables do not count it.
    """
    return f"\x1b[{_STYLES[style]}m{printable(text)}{_RESET}" if style and text else text


def unpainted(text: str) -> str:
    """Return the text without the styles that `styled` gave it."""
    return re.sub(_STYLE, "", text) if "\x1b" in text else text


def columns(text: str) -> int:
    """Return the width of a text on a terminal, in columns."""
    text = unpainted(text)
    if text.isascii() or text.translate(_NARROW).isascii():
        return len(text)
    import unicodedata  # most text needs none of it

    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def printable(text: str) -> str:
    """Replace characters by which an agent's name could move the cursor or forge a line."""
    return text if text.isprintable() else _plain(text)


def shown(text: str, *, styles: bool = False) -> str:
    """Return text of several lines as a terminal may have it: only its lines, tabs and joiners are kept as they are,
    and with `styles` what `styled` writes."""
    if styles and "\x1b" in text:
        return "".join(part if at % 2 else shown(part) for at, part in enumerate(re.split(f"({_STYLE})", text)))
    return "\n".join(line if line.isprintable() else _plain(line, "\t" + _JOINERS) for line in text.split("\n"))


def _plain(text: str, kept: str = "") -> str:
    """Put a blank for control characters, bidi controls, other invisible characters and lone surrogates."""
    return "".join(c if c.isprintable() or c in kept else " " for c in text)


def cut(text: str, most: int) -> str:
    """Return at most so many characters: the beginning and the end of a longer text."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def labelled(name: str, item: str | None) -> str:
    """Return what people know a copy of for_each by: its name and its item. A long item is cut in the middle."""
    if not item:
        return name
    told, room = printable(item), max(_LABEL - len(name) - 1, _LABEL // 2)
    return f"{name} {told}" if len(told) <= room else f"{name} {told[: room // 2]}…{told[room // 2 + 1 - room :]}"


def fit(text: str, room: int, *, keep_end: bool = False) -> str:
    """Return a text that is at most `room` columns wide: the beginning of a longer one, or its end."""
    if columns(text) <= room:
        return text
    kept, left = "", room - 1
    for character in reversed(text) if keep_end else text:
        left -= columns(character)
        if left < 0:
            break
        kept += character
    return ("…" + kept[::-1] if keep_end else kept + "…") if room > 0 else ""


def message(text: str) -> str:
    """Return one line for people that may quote any value: printable, and neither it nor a word of it is endless."""
    return cut(re.sub(rf"\S{{{_LONGEST + 1},}}", lambda word: cut(word[0], _LONGEST), printable(text)), 8 * _LONGEST)


def unstyled(text: str) -> str:
    """Remove colours and control characters."""
    return re.sub(f"{_SEQUENCE}|{_CONTROL}", "", text)


def wrap(text: str, width: int | None, indent: str = "  ") -> list[str]:
    """Break at spaces; a word that is too long stays whole, so that paths and commands can be copied."""
    if width is None or len(plain := unpainted(text)) <= width:
        return [text]
    from textwrap import wrap as broken  # most text fits

    first = plain[: len(plain) - len(plain.lstrip())]
    room = max(width, len(indent) + 20)
    lines = broken(
        plain.strip(), room, initial_indent=first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip
    return lines if plain == text else list(_repainted(lines, text))


def _repainted(lines: list[str], text: str) -> Iterator[str]:
    """Give lines the styles of the text that was broken into them: only its blanks are not the same."""
    text = re.sub(r"(\s+)(\x1b\[0m)", r"\2\1", text)  # a style ends with a word, not with the blanks after it
    pieces = iter(re.findall(rf"((?:{_STYLE}|\s)*)(\S)(\x1b\[0m|)", text))
    style = ""  # continues in the next line, behind its indent
    for line in lines:
        words = line.lstrip()
        painted = line[: len(line) - len(words)] + style
        for character in words:
            begun = ended = ""
            if not character.isspace():
                before, _, ended = next(pieces)
                begun = "".join(before.split())
                style = "" if ended else begun or style
            painted += begun + character + ended
        yield painted + (_RESET if style else "")


def at_a_time(concurrency: int) -> str:
    return "one at a time" if concurrency == 1 else f"{concurrency} at a time at your own risk: their memory adds up"


def counted(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"


def narrowed(only: Sequence[str], start_from: str | None) -> str:
    """Describe the selection of a profile's agents: `only embed, report, all from embed on`; empty for all."""
    told = ["only " + named(only)] * bool(only) + [f"all from {start_from} on"] * (start_from is not None)
    return ", ".join(told)


def named(some: Iterable[str], most: int = 8) -> str:
    """List as many of them as are readable, and how many more there are."""
    listed = list(some)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def natural(text: str) -> tuple[list[str | int], str]:
    """Return a key that sorts f2 before f10."""
    parts = re.split(r"([0-9]+)", text)  # every second one is a number
    return [int(part) if n % 2 else part for n, part in enumerate(parts)], text


def mark(symbol: str, encoding: str | None) -> str:
    """A symbol that the terminal can show, or its word."""
    try:
        symbol.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII.get(symbol, "?")
    return symbol


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown word: ` (did you mean nightly?)`, or nothing."""
    from difflib import get_close_matches  # costs 5 ms, and slips are rare

    near = get_close_matches(word, list(known), 2)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
