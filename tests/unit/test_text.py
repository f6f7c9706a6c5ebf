"""Text for people: its width, what a terminal may show, plurals and lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.text import (
    at_a_time,
    columns,
    counted,
    cut,
    mark,
    message,
    named,
    narrowed,
    nearest,
    printable,
    shown,
    styled,
    unpainted,
    unstyled,
    wrap,
)


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("é", 1), ("e\u0301", 1), ("日本", 4), ("Ａ", 2), ("a日", 3), ("…", 1)]
)
def test_width_is_that_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width


def test_unprintable_character_becomes_a_blank() -> None:
    assert printable("a\x1b[1mb\nc") == "a [1mb c"
    assert printable("né → ok") == "né → ok"


def test_style_has_no_width_and_goes_without_a_trace() -> None:
    painted = styled("red", "hard") + " " + styled("dim", "日本")
    assert painted == "\x1b[31mhard\x1b[0m \x1b[2m日本\x1b[0m"
    assert (columns(painted), unpainted(painted)) == (9, "hard 日本")
    assert (styled("", "plain"), styled("red", "")) == ("plain", "")


def test_styled_text_cannot_move_the_cursor() -> None:
    assert styled("red", "a\x1b[2Jb") == "\x1b[31ma [2Jb\x1b[0m"


def test_shown_keeps_styles_only_where_they_are_wanted() -> None:
    hidden = "\x1b[8mhidden\x1b[0m\x1b[2J"
    assert shown(styled("red", "hard") + hidden, styles=True) == "\x1b[31mhard\x1b[0m [8mhidden\x1b[0m [2J"
    assert shown(styled("red", "hard")) == " [31mhard [0m"


@given(st.lists(st.tuples(st.sampled_from(["", "bold", "red"]), st.text("ab ", max_size=9))), st.integers(1, 60))
def test_wrapped_text_keeps_its_styles(parts: list[tuple[str, str]], width: int) -> None:
    painted = "".join(styled(style, word) for style, word in parts)
    lines = wrap(painted, width)
    assert [unpainted(line) for line in lines] == wrap(unpainted(painted), width)
    assert all(line.endswith("\x1b[0m") for line in lines if "\x1b" in line and not line.endswith(("a", "b", " ")))


def test_style_that_spans_lines_begins_again_behind_the_indent() -> None:
    assert wrap(styled("red", "one two three four five"), 14) == [
        "\x1b[31mone two three four\x1b[0m",
        "  \x1b[31mfive\x1b[0m",
    ]


def test_shown_text_keeps_its_lines_tabs_and_joiners() -> None:
    assert shown("a\tb\n\x1b\u202e\udcff\u200dc") == "a\tb\n   \u200dc"


@given(st.text(), st.integers(1, 50))
def test_cut_text_keeps_both_ends_and_fits(text: str, most: int) -> None:
    told = cut(text, most)
    assert len(told) == min(len(text), most)
    assert told == text or "…" in told


@pytest.mark.parametrize("filler", ["a", "a b "])
def test_message_is_not_endless(filler: str) -> None:
    assert len(message(filler * 70_000)) <= 2400


@pytest.mark.parametrize(
    ("styled", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"), ("\x1b]0;title\x07text", "text"), ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1b(Btext", "text"), ("a\x00\x07\x7fb", "ab"), ("a\tb\nc", "a\tb\nc"), ("\x1b[?25lx", "x"),
    ],
)  # fmt: skip
def test_unstyled_text_has_neither_colours_nor_control_characters(styled: str, plain: str) -> None:
    assert unstyled(styled) == plain


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two", None, ["one two"]),
        ("one two", 7, ["one two"]),
        ("one two three four five six", 22, ["one two three four", "  five six"]),
        ("    one two three four five six", 24, ["    one two three four", "  five six"]),
        ("a-long/path-" + "x" * 30 + " end", 22, ["a-long/path-" + "x" * 30, "  end"]),
        ("one two three four five six seven", 5, ["one two three four", "  five six seven"]),
        (" " * 30, 22, [""]),
    ],
)
def test_text_is_wrapped_at_blanks_only(text: str, width: int | None, lines: list[str]) -> None:
    assert wrap(text, width) == lines


def test_wrapped_lines_are_indented_as_asked() -> None:
    assert wrap("one two three four five six seven", 26, "    ") == ["one two three four five", "    six seven"]


@given(st.lists(st.text("abc-/", min_size=1, max_size=40), min_size=1), st.integers(1, 80))
def test_wrapping_loses_no_word(words: list[str], width: int) -> None:
    assert " ".join(wrap(" ".join(words), width)).split() == words


@pytest.mark.parametrize(
    ("number", "noun", "several", "text"),
    [(0, "agent", "", "0 agents"), (1, "agent", "", "1 agent"), (2, "agent", "", "2 agents"),
     (1, "process", "processes", "1 process"), (3, "process", "processes", "3 processes")],
)  # fmt: skip
def test_number_and_noun_agree(number: int, noun: str, several: str, text: str) -> None:
    assert counted(number, noun, several) == text


def test_lanes_are_shown_with_their_risk() -> None:
    assert at_a_time(1) == "one at a time"
    assert at_a_time(2) == "2 at a time at your own risk: their memory adds up"


@pytest.mark.parametrize(
    ("only", "start_from", "text"),
    [
        ((), None, ""), (("a",), None, "only a"), (("a", "b"), None, "only a, b"), ((), "c", "all from c on"),
        (("a", "b"), "c", "only a, b, all from c on"),
    ],
)  # fmt: skip
def test_task_and_selection_are_shown(only: tuple[str, ...], start_from: str | None, text: str) -> None:
    assert narrowed(only, start_from) == text


def test_long_list_is_cut_and_says_how_many_more_there_are() -> None:
    assert named("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert named("abcdefghi") == "a, b, c, d, e, f, g, h and 1 more"
    assert named("abc", 1) == "a and 2 more"
    assert named([]) == ""


@pytest.mark.parametrize(
    ("symbol", "encoding", "shown"),
    [("✔", "utf-8", "✔"), ("✔", "ascii", "ok"), ("✔", None, "ok"), ("✔", "no-such", "ok"), ("☠", "latin-1", "KILL"),
     ("·", "latin-1", "·"), ("♥", "ascii", "?"), ("!", None, "!")],
)  # fmt: skip
def test_symbol_is_one_that_the_terminal_can_show(symbol: str, encoding: str | None, shown: str) -> None:
    assert mark(symbol, encoding) == shown


@pytest.mark.parametrize(
    ("symbol", "word"),
    [("✖", "FAIL"), ("↻", "re"), ("▶", ">"), ("■", "stop"), ("–", "-"), ("…", ".."), ("→", "->"), ("←", "<-"),
     ("Σ", "sum of"), ("─", "-"), ("█", "#"), ("░", "."), ("·", "|"), ("×", "x")],
)  # fmt: skip
def test_symbol_has_a_word_for_a_terminal_without_it(symbol: str, word: str) -> None:
    assert mark(symbol, "ascii") == word


def test_unknown_word_has_two_hints_at_most() -> None:
    assert nearest("nightl", ["nightly", "daily"]) == " (did you mean nightly?)"
    assert nearest("aaa1", ["aaa2", "aaa3", "aaa4"]).count(" or ") == 1
    assert nearest("xyz", ["nightly"]) == ""
