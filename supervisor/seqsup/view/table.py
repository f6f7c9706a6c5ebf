"""Tables without boxes, so that they can be copied, searched and compared. Pure text; a cell may be styled."""

import re
from collections.abc import Sequence

from msgspec import Struct

from seqsup.text import Width, fit, styled, unpainted
from seqsup.text import columns as wide

NONE = "–"
INDENT = "  "
_SHORTEST = 8  # characters that stay of a column of words that must shrink


class Column(Struct, frozen=True):
    title: str
    right: bool = True  # numbers line up at their end
    optional: int = 0  # > 0: may go when the table is too wide, the highest first


def render(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lay out a table in lines; within `width` as long as that holds the words that must stay."""
    kept = list(range(len(columns)))
    sizes = [max([len(column.title), *(wide(row[at]) for row in rows)]) for at, column in enumerate(columns)]

    def too_wide() -> int:
        return 0 if width is None else sum(sizes[at] + 2 for at in kept) - width

    # First what says nothing in any row, then what can be spared
    empty = [at for at in kept if columns[at].optional and all(unpainted(row[at]) == NONE for row in rows)]
    spare = [at for at in kept if columns[at].optional and at not in empty]
    name = next((at for at in kept if not columns[at].right), kept[0])
    longest = sizes[name]
    first = max(_SHORTEST, longest - 12)
    for at in [*_by_rank(empty, columns), None, *_by_rank(spare, columns)]:
        if too_wide() <= 0:
            break
        if at is None:
            sizes[name] = min(sizes[name], max(first, sizes[name] - too_wide()))
        else:
            kept.remove(at)
    sizes[name] = min(longest, sizes[name] + max(0, -too_wide()))  # a column that went may have left more than it took
    for at in sorted((at for at in kept if not columns[at].right), key=lambda at: -sizes[at]):
        sizes[at] = min(sizes[at], max(_SHORTEST, sizes[at] - max(0, too_wide())))
    lines = [[styled("dim", column.title) for column in columns], *rows]
    more = width.more if isinstance(width, Width) else Width.more
    return [
        INDENT
        + "  ".join(_cell(line[at], sizes[at], columns[at].right, more) for at in kept).rstrip()
        for line in lines
    ]  # fmt: skip


def _by_rank(positions: list[int], columns: Sequence[Column]) -> list[int]:
    return sorted(positions, key=lambda at: -columns[at].optional)


def _cell(text: str, size: int, right: bool, more: str) -> str:
    """Return a cell of this size: a text that is too long is cut, one that is short gets blanks outside its style."""
    plain = unpainted(text)
    text = styled("dim", NONE) if text == NONE else text
    begin, end = re.fullmatch(r"(\x1b\[\d+m)?.*?(\x1b\[0m)?", text, re.DOTALL).groups("")  # type: ignore[union-attr]
    if wide(plain) > size:
        _, dot, number = plain.rpartition(".")
        tail = dot + number if number.isdigit() and len(number) < size // 2 else ""  # of a copy: all else is alike
        if re.search(r"\.\d+ ", plain):  # its item follows
            tail = fit(plain, size // 2, keep_end=True)[1:]
        head = plain[: size - len(more) - len(tail)]
        while wide(head) > size - len(more) - len(tail):
            head = head[:-1]
        plain = head + more + tail
    blanks = " " * (size - wide(plain))
    painted = begin + plain + end
    return blanks + painted if right else painted + blanks
