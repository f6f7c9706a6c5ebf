"""How facts are said to people: the words that log, table and status share. Pure text."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PurePath

from seqsup.kind import INTERPRETERS, script_name, subject
from seqsup.model.enums import Halt, ProcessKind
from seqsup.model.process import ProcessMemory
from seqsup.model.reason import Reason
from seqsup.units import format_size

KILLED = frozenset({
    Reason.HEAP_OOM, Reason.SOFT, Reason.HARD, Reason.KERNEL_OOM, Reason.HOST_FLOOR,
    Reason.TIMEOUT, Reason.STALLED, Reason.HALTED,
})  # fmt: skip
STOPPED_BY_US = KILLED - {Reason.HEAP_OOM, Reason.KERNEL_OOM}
HALTS = {
    Halt.NONE: "not at all",
    Halt.AFTER_AGENT: "after this agent",
    Halt.NOW: "now, with its grace",
    Halt.KILL: "at once",
}
ASCII = {
    "✔": "ok", "✖": "FAIL", "☠": "KILL", "↻": "re", "▶": ">", "■": "stop", "–": "-", "…": "..",
    "!": "!", "→": "->", "←": "<-", "Σ": "sum of", "─": "-", "█": "#", "░": ".", "·": "|", "×": "x",
}  # fmt: skip
_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"  # colours, titles …
_CONTROL = r"[\x00-\x08\x0e-\x1f\x7f-\x9f]"
_CUT, _LONGEST = 15, 60  # characters of a process's name: where the kernel cuts it, and where we do
OTHER = "other"  # programs together, also as a label
# A shell is told by its name, and the rest is as the field calls it
KINDS = {ProcessKind.AGENT: "agent", ProcessKind.MCP_SERVER: "MCP server", ProcessKind.BROWSER: "browser"}


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


def title(process: ProcessMemory) -> str:
    """Name a process as its user would: `node embed.js`, not `MainThread`."""
    return _title(process.name, process.command)


@lru_cache(maxsize=256)  # the same ones are named each second
def _title(name: str, command: str) -> str:
    words = command.split()
    program = PurePath(words[0]).name if words and "/" in words[0] else next(iter(words), name)
    program = program.removesuffix(".exe")
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
    """Say who held the memory: `node embed.js (agent) 589 MiB · 3 × chrome (browser) 237 MiB · other 98 MiB`."""
    sizes, numbers = Counter[str](), Counter[str]()
    for process in some:
        name = f"{title(process)}{_kind(process)}"
        sizes[name] += process.bytes
        numbers[name] += process.count
    other = sizes.pop(OTHER, 0)
    ranked = sizes.most_common()
    if len(ranked) == named + 1 and not other:
        named += 1  # "other" would take the same room
    said = [f"{_times(numbers[name])}{name} {format_size(size)}" for name, size in ranked[:named]]
    if other := other + sum(size for _, size in ranked[named:]):
        said.append(f"{OTHER} {format_size(other)}")
    return " · ".join(said)


def _kind(process: ProcessMemory) -> str:
    return f" ({KINDS[process.kind]})" if process.kind in KINDS else ""


def _times(number: int) -> str:
    return f"{number} × " if number > 1 else ""


def ending(exit_code: int | None, signal: int | None) -> str:
    """Say how the leader of a tree ended, or nothing when that is not known."""
    if signal is not None:
        return f"signal {signal}"
    return "" if exit_code is None else f"exit {exit_code}"


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
