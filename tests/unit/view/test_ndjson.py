"""Events as JSON lines, and an output that never delays a run."""

import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.told import Told, collected
from seqsup.model.events import AnyEvent, GcDone, GcRequested, LeaderEnded, Owner, Recorded
from seqsup.model.outcome import Exit, Outcome
from seqsup.model.reason import Reason
from seqsup.units import MIB
from seqsup.view.ndjson import Stream, encode, flat
from seqsup.view.nonblocking import BACKLOG, NonblockingWriter

EVENTS = (
    Told().run("a").attempt("a", peak=374 * MIB, exit_code=0).retry("a").drained("a")
    .lost("a").skipped("b", 'needs "a"\n').agent_ended("a", Reason.HARD, ok=True).run_ended(1).events
)  # fmt: skip


def test_a_line_is_flat_and_complete() -> None:
    line = json.loads(encode(EVENTS[3]))
    assert line == {
        "schema": "seqsup.events/1",
        "ts": "2026-11-18T11:06:44.000Z",
        "seq": 4,
        "run": "r42",
        "event": "attempt_ended",
        "agent": "a",
        "attempt": 1,
        "content": "content of a",
        "reason": "completed",
        "why": "",
        "ok": True,
        "exit_code": 0,
        "signal": None,
        "seconds": 1.0,
        "peak": 374 * MIB,
        "end": None,
        "hard": None,
        "processes": [],
        "left_over": [],
        "forensics": "",
        "leak": None,
        "conversation": None,
    }


def test_every_event_is_one_line_that_has_all_of_it() -> None:
    for recorded in EVENTS:
        line = encode(recorded)
        assert b"\n" not in line
        facts = json.loads(line)
        if not hasattr(recorded.body, "outcome"):
            assert facts == facts | json.loads(msgspec.json.encode(recorded.body))


@pytest.mark.parametrize(
    ("owner", "names", "limit"),
    [
        (Owner(name="a", number=2), ("gc_requested", "gc_done", {"agent": "a", "attempt": 2}), "soft"),
        (
            Owner(name="mcp", number=2, companion=True),
            ("companion_gc_requested", "companion_gc_done", {"companion": "mcp", "number": 2}),
            "hard",
        ),
    ],
    ids=["agent", "companion"],
)
def test_collection_is_reported_for_an_agent_or_a_companion(
    owner: Owner, names: tuple[str, str, dict[str, object]], limit: str
) -> None:
    asked, done, of = names
    heap = {"used": 1, "total": 2, "limit": 3, "external": 4, "array_buffers": 5}
    result = {"seconds": 0.1, "asked": 1, "answered": 1, "freed": 7, "used": 10, "verdict": "garbage"}
    assert flat(GcRequested(owner=owner, used=9, limit=8, processes=1, key=limit)) == {
        "event": asked, **of, "used": 9, limit: 8, "processes": 1,
    }  # fmt: skip
    assert msgspec.to_builtins(flat(GcDone(owner=owner, used=10, collection=collected(7)))) == {
        "event": done, **of, **result, "before": heap, "after": heap,
    }  # fmt: skip


def test_agent_with_leftover_processes_is_reported_as_it_exited() -> None:
    outcome = Outcome(reason=Reason.FAILED, why="exit 3", exit=Exit(code=3, signal=None), seconds=1.0, peak=MIB)
    assert flat(LeaderEnded(agent="a", attempt=1, content="c", hard=9, outcome=outcome)) == {
        "event": "leader_ended", "agent": "a", "attempt": 1, "content": "c", "reason": "failed", "why": "exit 3",
        "exit_code": 3, "signal": None, "seconds": 1.0, "peak": MIB, "end": None, "hard": 9,
    }  # fmt: skip


def test_no_event_has_a_field_of_the_envelope() -> None:
    envelope = {"schema", "ts", "seq", "run"}
    for kind in AnyEvent.__args__:
        assert not envelope & set(kind.__struct_fields__), kind


@given(st.integers(0, 2**53 // 1000))
def test_times_have_milliseconds_and_sort_as_text(at: int) -> None:
    stamp = json.loads(encode(_at(at / 1000)))["ts"]
    assert len(stamp) == 24
    assert stamp.endswith("Z")
    assert stamp <= json.loads(encode(_at(at / 1000 + 1)))["ts"]


def _at(at: float) -> Recorded:
    return Recorded(run="r1", seq=1, at=at % 4e9, mono=1.0, body=EVENTS[0].body)


# -- the way out -------------------------------------------------------------------------------------------------


def test_a_stream_writes_each_event_at_once() -> None:
    reading, writing = os.pipe()
    stream = Stream(writing)
    stream(EVENTS[0])
    assert os.read(reading, 65536) == encode(EVENTS[0]) + b"\n"
    stream.close()
    os.close(reading)
    os.close(writing)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    reading, writing = os.pipe()
    stream = Stream(writing)
    os.close(reading)
    for recorded in EVENTS:
        stream(recorded)
    stream.close()
    os.close(writing)


def test_slow_reader_delays_no_run_and_misses_nothing() -> None:
    reading, writing = os.pipe()
    outlet = NonblockingWriter(writing)
    lines = [f"{number} {'x' * 3000}\n".encode() for number in range(100)]  # a pipe holds 64 KiB
    for line in lines:
        outlet.write(line)
    whole = b"".join(lines)
    assert not outlet.pump()
    got = b""
    while len(got) < len(whole):
        got += os.read(reading, 65536)
        outlet.pump()
    assert got == whole
    assert outlet.pump()
    os.close(reading)
    os.close(writing)


def test_a_reader_that_never_reads_costs_bounded_memory() -> None:
    reading, writing = os.pipe()
    outlet = NonblockingWriter(writing)
    for _ in range(BACKLOG // 1000 + 200):
        outlet.write(b"x" * 999 + b"\n")
    got = os.read(reading, 65536)
    while not outlet.pump():
        got += os.read(reading, 65536)
    os.close(writing)
    while more := os.read(reading, 65536):
        got += more
    os.close(reading)
    assert BACKLOG - 1000 <= len(got) < BACKLOG + 100_000  # the backlog, and what a pipe holds
    assert set(got.splitlines()) == {b"x" * 999}


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_any_kind_of_output_works(path: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    outlet = NonblockingWriter(fd)
    outlet.write(b"lost\n")
    assert outlet.broken is (path == "/dev/full")
    outlet.close()
    os.close(fd)


def test_a_closed_descriptor_is_no_failure() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.close(fd)
    outlet = NonblockingWriter(fd)
    outlet.write(b"lost\n")
    assert outlet.broken
