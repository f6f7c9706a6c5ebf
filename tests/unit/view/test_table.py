"""Tables: what they leave out or cut, and that they fit."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from seqsup.text import Width, columns, styled, unpainted
from seqsup.view.table import Column, render

AGENTS = (Column("agent", right=False), Column("attempts", optional=2), Column("reason", right=False))


def drawn(rows: Sequence[tuple[str, ...]], width: int | None, more: str = "…") -> list[str]:
    limit = None if width is None else Width(width)
    if limit is not None:
        limit.more = more
    return [unpainted(line) for line in render(AGENTS, rows, limit)]


def test_table_keeps_what_matters_when_it_is_narrow() -> None:
    rows = [("the-long-name-of-an-agent", "3", "heap-oom (expected)")]
    assert drawn(rows, 80)[1] == "  the-long-name-of-an-agent         3  heap-oom (expected)"
    assert drawn(rows, 44)[1] == "  the-long-name-of-an-…  heap-oom (expected)"
    assert max(map(len, drawn(rows, 30))) <= 30


def test_copy_keeps_its_number_when_its_name_is_cut() -> None:
    rows = [(f"migrate-the-components.{number}", "1", "completed") for number in (9, 10)]
    assert drawn(rows, 30)[1:] == ["  migrate-the-co….9  completed", "  migrate-the-c….10  completed"]


def test_copy_keeps_its_item_when_its_name_is_cut() -> None:
    rows = [(f"migrate-the-components.{number} items/f{number}.md", "1", "completed") for number in (9, 10)]
    assert drawn(rows, 44)[1:] == [
        "  migrate-the-comp….9 items/f9.md  completed",
        "  migrate-the-comp…0 items/f10.md  completed",
    ]


def test_table_without_symbols_fits_exactly() -> None:
    rows = [("the-long-name-of-an-agent", "3", "heap-oom (expected)")]
    assert drawn(rows, 44)[1] == "  the-long-name-of-an-…  heap-oom (expected)"
    assert drawn(rows, 44, "..")[1] == "  the-long-name-of-an..  heap-oom (expected)"
    assert drawn([("the-long-name-of-copy.10", "3", "heap-oom (expected)")], 40, "..")[1] == (
        "  the-long-nam...10  heap-oom (expected)"
    )


@given(
    st.lists(st.tuples(st.text("ab日", min_size=1, max_size=40), st.just("1"), st.just("hard")), min_size=1),
    st.integers(30, 90),
    st.sampled_from(["…", ".."]),
)
def test_table_is_never_too_wide(rows: list[tuple[str, ...]], width: int, more: str) -> None:
    assert max(map(columns, drawn(rows, width, more))) <= width


def test_style_of_a_cell_changes_no_layout_and_colours_no_blanks() -> None:
    rows = [("a", "1", "hard"), ("the-long-name-of-an-agent", "2", "completed")]
    painted = [(styled("bold", name), tries, styled("red", reason)) for name, tries, reason in rows]
    for width in (None, 30, 44):
        assert drawn(painted, width) == drawn(rows, width)
    assert render(AGENTS, painted, Width(30))[1:] == [
        "  \x1b[1ma\x1b[0m                  \x1b[31mhard\x1b[0m",
        "  \x1b[1mthe-long-name-of…\x1b[0m  \x1b[31mcompleted\x1b[0m",
    ]


def test_titles_are_dim() -> None:
    assert render(AGENTS[:1], [("a",)])[0] == "  \x1b[2magent\x1b[0m"
