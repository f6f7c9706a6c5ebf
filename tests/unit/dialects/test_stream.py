"""Streams as they may come: cut anywhere, in any pieces, out of order, too long, or with values of any type."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.recordings import RECORDINGS, recorded
from seqsup.dialects.fold import TEXT
from seqsup.dialects.stream import LONGEST, EventStream
from seqsup.dialects.transcript import Transcript
from seqsup.model.conversation import Conversation, Tokens
from seqsup.model.preset import DIALECTS
from seqsup.units import MIB

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PIECES = st.lists(st.integers(0, 5000), max_size=30)


def fed(dialect: str, *pieces: bytes) -> EventStream:
    stream = EventStream(dialect)
    for piece in pieces:
        stream.feed(piece, 0.0)
    return stream


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    """Cut a text into pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


@given(st.sampled_from(RECORDINGS), PIECES)
def test_pieces_give_the_same_as_the_whole(name: str, sizes: list[int]) -> None:
    dialect, text = name.partition("/")[0], recorded(name)
    pieces = cut(text, sizes)
    in_pieces, whole = fed(dialect, *pieces), fed(dialect, text)
    assert in_pieces.end() == whole.end()
    assert (in_pieces.lines, in_pieces.text) == (whole.lines, whole.text)
    piecewise, once = Transcript(dialect), Transcript(dialect)
    assert b"".join(map(piecewise.feed, pieces)) + piecewise.end() == once.feed(text) + once.end()


@given(st.sampled_from(RECORDINGS), st.data())
def test_stream_that_is_cut_has_the_facts_of_its_complete_lines(name: str, data: st.DataObject) -> None:
    dialect, text = name.partition("/")[0], recorded(name)
    text = text[: data.draw(st.integers(0, len(text)))]
    complete = text[: text.rfind(b"\n") + 1]
    found, expected = fed(dialect, text), fed(dialect, complete)
    assert found.conversation == expected.conversation
    assert found.lines == complete.count(b"\n")
    assert found.end().malformed == (text != complete)


@given(st.sampled_from(RECORDINGS), st.randoms())
def test_lines_in_another_order_or_twice_do_no_harm(name: str, random: Any) -> None:
    dialect, lines = name.partition("/")[0], recorded(name).splitlines(keepends=True) * 2
    random.shuffle(lines)
    stream = fed(dialect, *lines)
    assert stream.end().malformed == 0
    assert stream.lines == len(lines)


@given(st.sampled_from([name for name in RECORDINGS if recorded(name)]), st.data())
@settings(max_examples=300)
def test_values_of_any_type_do_no_harm(name: str, data: st.DataObject) -> None:
    """One value of each line, at any depth, becomes one of any type."""
    lines = [json.loads(line) for line in recorded(name).splitlines()]
    for line in lines:
        place: Any = line
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(ANY)
    text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    dialect = name.partition("/")[0]
    found = fed(dialect, text).end()
    assert isinstance(found, Conversation)
    assert found.turns <= len(lines)
    Transcript(dialect).feed(text)


@given(st.sampled_from(DIALECTS), st.lists(ANY | st.dictionaries(st.just("type"), ANY), max_size=5))
def test_lines_of_any_json_do_no_harm(dialect: str, lines: list[Any]) -> None:
    fed(dialect, *(f"{json.dumps(line)}\n".encode() for line in lines)).end()


@given(st.sampled_from(DIALECTS), st.lists(st.binary(max_size=40)))
def test_bytes_of_any_kind_do_no_harm(dialect: str, pieces: list[bytes]) -> None:
    stream = fed(dialect, *pieces)
    assert stream.lines == b"".join(pieces).count(b"\n")
    stream.end()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_malformed_lines_are_counted_and_the_next_ones_read(dialect: str) -> None:
    bad = [b"plain words", b'{"type":', b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"a":1e999']
    text = recorded(f"{dialect}/turn")
    found = fed(dialect, b"\n".join(bad) + b"\n\n", text).end()
    expected = fed(dialect, text).end()
    assert found.malformed == len(bad)
    assert (found.session, found.tokens, found.result) == (expected.session, expected.tokens, expected.result)


@pytest.mark.parametrize("half", [rb"\ud83d", b"\xf0\x9f"])
def test_line_with_half_a_character_is_read(half: bytes) -> None:
    found = fed("claude", b'{"type": "result", "is_error": false, "result": "done ' + half + b'"}\n').end()
    assert found.malformed == 0
    assert found.result is not None
    assert found.result.text.encode().startswith(b"done ")


def test_line_that_is_too_long_is_skipped_and_not_kept() -> None:
    text = recorded("claude/turn")
    first, _, rest = text.partition(b"\n")
    piece = b"x" * MIB
    stream = fed("claude", first + b"\n")
    tracemalloc.start()
    stream.feed(b'{"type":"assistant","message":"', 0.0)
    for _ in range(50):
        stream.feed(piece, 0.0)
    stream.feed(b'"}\n' + rest, 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found = stream.end()
    assert (found.skipped, found.malformed) == (1, 0)
    assert found.result == fed("claude", text).end().result
    assert peak < 3 * LONGEST
    assert stream.lines == text.count(b"\n") + 1


def test_line_as_long_as_it_may_be_is_read() -> None:
    said = "y" * (LONGEST - 200)
    line = json.dumps({"type": "result", "is_error": False, "result": said}).encode()
    stream = fed("claude", line + b"\n")
    assert stream.text == said[:TEXT]
    assert stream.end().skipped == 0


def test_many_lines_take_a_bounded_memory() -> None:
    stream = EventStream("claude")
    tracemalloc.start()
    for n in range(5_000):
        use = {"type": "tool_use", "id": f"tool-{n}", "name": "Bash", "input": {"command": "true"}}
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": f"message-{n}", "content": [use], "usage": usage}
        denied = {"type": "system", "subtype": "permission_denied", "tool_use_id": str(n), "tool_name": "Bash"}
        for line in ({"type": "assistant", "message": message}, denied):
            stream.feed(json.dumps(line).encode() + b"\n", 0.0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.end().tokens == Tokens(input=5_000, output=5_000)
    assert stream.conversation.turns == 5_000
    assert used < MIB / 4


def test_long_answer_in_pieces_is_kept_in_part() -> None:
    line = json.dumps({"type": "message", "role": "assistant", "content": "z" * 1000, "delta": True}).encode() + b"\n"
    stream = fed("gemini", line * 2000)
    assert stream.text == "z" * TEXT


def test_transcript_passes_what_is_no_json_and_leaves_out_what_is_cut() -> None:
    text = b'plain words\n42\n{"type":"unknown"}\n' + b"x" * (LONGEST + 1) + b"\n" + b'{"type":"text"'
    reader = Transcript("opencode")
    assert (
        reader.feed(text) + reader.end() == b"plain words\n42\n" + "… a line of more than 8 MiB is left out\n".encode()
    )
    assert Transcript("opencode").feed(b"half a word") == b""


def test_transcript_joins_the_pieces_of_an_answer() -> None:
    pieces = [
        {"type": "message", "role": "assistant", "content": each, "delta": True} for each in ("I c", "ount.\nYes")
    ]
    use = {"type": "tool_use", "tool_id": "1", "tool_name": "ls"}
    reader = Transcript("gemini")
    texts = [reader.feed(json.dumps(line).encode() + b"\n") for line in (*pieces, use)]
    assert texts == [b"I c", b"ount.\nYes", "\n▶ ls\n".encode()]
