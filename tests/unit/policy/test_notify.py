"""Notifications: which event is one, and that a kind is sent at most once in five minutes but for the run's end."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import Notice, OnTimeout
from seqsup.model.events import (
    AgentEnded,
    AnyEvent,
    AttemptEnded,
    Drained,
    LimitPaused,
    RunEnded,
    RunPaused,
    Unkillable,
    Warned,
)
from seqsup.model.outcome import Outcome
from seqsup.model.reason import OF_MEMORY, Reason
from seqsup.policy.notify import QUIET, Sent, Told, hear, kind


def attempt(reason: Reason, *, ok: bool = False) -> AttemptEnded:
    outcome = Outcome(reason=reason, why="", exit=None, seconds=1.0, peak=0)
    return AttemptEnded(agent="a", attempt=1, content="", ok=ok, hard=None, outcome=outcome)


def agent(reason: Reason, *, ok: bool = False) -> AgentEnded:
    return AgentEnded(agent="a", content="", reason=reason, why="", attempts=1, ok=ok, seconds=1.0, peak=0)


def run(exit_code: int) -> RunEnded:
    counts: dict[str, Any] = dict.fromkeys(("completed", "gave_up", "skipped", "not_run", "sequence_violations"), 0)
    return RunEnded(exit_code=exit_code, why="", seconds=1.0, **counts)


def drained(on_timeout: OnTimeout | None, *, reached: bool = False) -> Drained:
    sizes: dict[str, Any] = dict.fromkeys(("before", "after", "owned"), 0)
    return Drained(agent="a", attempt=1, reached=reached, seconds=1.0, strays=(), on_timeout=on_timeout, **sizes)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (run(0), Notice.DONE),
        (run(1), Notice.FAILED),
        (run(4), Notice.FAILED),
        (run(70), Notice.FAILED),
        (run(75), Notice.USAGE_LIMIT),
        (run(130), None),  # the user stopped it
        (LimitPaused(agent="a", attempt=2, until=1.0, why=""), Notice.USAGE_LIMIT),
        (attempt(Reason.HARD), Notice.MEMORY),
        (attempt(Reason.HARD, ok=True), None),  # the profile expects it
        (attempt(Reason.STALLED), Notice.STUCK),
        (attempt(Reason.FAILED), None),
        (agent(Reason.FAILED), Notice.FAILED),
        (agent(Reason.FAILED, ok=True), None),
        (agent(Reason.HALTED), None),
        (agent(Reason.USAGE_LIMIT), None),  # the run stops, and its end says so
        (drained(OnTimeout.STOP), Notice.STUCK),
        (drained(OnTimeout.CONTINUE), Notice.STUCK),
        (drained(OnTimeout.RESTART_COMPANIONS), None),  # which may help
        (drained(None, reached=True), None),
        (Unkillable(agent="a", processes=(), seconds=10.0), Notice.STUCK),
        (RunPaused(why="the disk has 1 MiB free"), Notice.STUCK),
        (RunPaused(why=f"{RunPaused.BY_USER}; `seqsup resume r1` continues it"), None),
        (Warned(message=""), None),
    ],
)
def test_kind_of_an_event(event: AnyEvent, expected: Notice | None) -> None:
    assert kind(event, continues=True) is expected


@pytest.mark.parametrize("reason", OF_MEMORY)
def test_each_stop_for_memory_is_of_that_kind(reason: Reason) -> None:
    assert kind(attempt(reason), continues=False) is Notice.MEMORY


def test_failed_agent_is_left_to_the_end_of_the_run_where_that_follows() -> None:
    assert kind(agent(Reason.FAILED), continues=False) is None


def told(heard: Iterable[tuple[AnyEvent, float]], on: Iterable[Notice]) -> list[tuple[float, Told]]:
    sent, messages, wanted = Sent(), [], tuple(on)
    for event, at in heard:
        sent, message = hear(sent, event, wanted, at, continues=True)
        messages += [(at, message)] if message is not None else []
    return messages


def test_held_messages_are_counted_in_the_next_one_of_any_kind() -> None:
    hard, stalled = attempt(Reason.HARD), attempt(Reason.STALLED)
    heard: list[tuple[AnyEvent, float]] = [
        (hard, 0.0),
        (hard, 1.0),
        (hard, QUIET - 1),
        (stalled, QUIET - 1),
        (hard, QUIET),
        (run(1), QUIET),
    ]
    assert told(heard, Notice) == [
        (0.0, Told(Notice.MEMORY, {})),
        (QUIET - 1, Told(Notice.STUCK, {Notice.MEMORY: 2})),
        (QUIET, Told(Notice.MEMORY, {})),
        (QUIET, Told(Notice.FAILED, {})),
    ]


def test_end_is_sent_with_held_messages_even_if_it_is_not_in_on() -> None:
    hard = attempt(Reason.HARD)
    on = (Notice.MEMORY,)
    assert told([(hard, 0.0), (run(0), 1.0)], on) == [(0.0, Told(Notice.MEMORY, {}))]
    assert told([(hard, 0.0), (hard, 1.0), (run(130), 2.0)], on)[1:] == [(2.0, Told(Notice.MEMORY, {Notice.MEMORY: 1}))]


EVENTS = st.sampled_from(
    [attempt(Reason.HARD), attempt(Reason.STALLED), agent(Reason.FAILED), run(0), Warned(message=""), drained(None)]
)
BEFORE_THE_END = EVENTS.filter(lambda event: not isinstance(event, RunEnded))


@given(
    steps=st.lists(st.tuples(BEFORE_THE_END, st.floats(0, 2 * QUIET)), max_size=40),
    code=st.sampled_from([0, 1, 75, 130]),
    on=st.sets(st.sampled_from(Notice)),
)
def test_each_kind_is_sent_once_in_five_minutes_and_nothing_is_lost(
    steps: list[tuple[AnyEvent, float]], code: int, on: set[Notice]
) -> None:
    now, heard = 1000.0, []
    for event, pause in steps:
        now += pause
        heard.append((event, now))
    messages = told([*heard, (run(code), now)], on)
    events = [event for event, _ in heard] + [run(code)]
    wanted = Counter(notice for event in events if (notice := kind(event, continues=True)) in on)
    ends_unasked = kind(run(code), continues=True) not in on and len(messages) > len(told(heard, on))
    sent = Counter(message.notice for _, message in messages[: len(messages) - ends_unasked])
    held: Counter[Notice | None] = Counter()
    for _, message in messages:
        held.update(message.held)
    assert sent + held == wanted
    ended_wanted = kind(run(code), continues=True) in on
    before_the_end = messages[: len(messages) - (ended_wanted or ends_unasked)]
    for notice in on:
        times = [at for at, message in before_the_end if message.notice is notice]
        assert all(later - earlier >= QUIET for earlier, later in pairwise(times))
