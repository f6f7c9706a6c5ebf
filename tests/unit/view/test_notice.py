"""The words of notifications: what happened, with the number, and the command to run next."""

import pytest

from helpers.told import Told
from seqsup.model.enums import Notice
from seqsup.model.events import AnyEvent, LimitPaused, RunPaused, Unkillable, Warned
from seqsup.model.history import fold
from seqsup.model.reason import Reason
from seqsup.view.notice import words


def said(told: Told, held: dict[Notice, int] | None = None) -> tuple[str, str]:
    return words(told.events[-1], fold(told.events), held or {}, "r42")


def test_good_run_says_what_completed_and_leads_to_the_report() -> None:
    told = Told().run("a").started("a").ended("a").agent_ended("a").run_ended(0)
    title, body = said(told)
    assert title == "seqsup nightly r42: done"
    assert body.splitlines()[0].startswith("1 of 1 completed · ")
    assert body.splitlines()[-1] == "next: seqsup report r42"


def test_failed_run_names_each_failure_and_leads_to_its_log_and_on() -> None:
    told = Told().run("a", "b").started("a").ended("a", Reason.FAILED, why="exit 3")
    told.agent_ended("a", Reason.FAILED, why="exit 3").run_ended(1)
    title, body = said(told)
    assert title == "seqsup nightly r42: failed"
    assert "a failed: exit 3" in body.splitlines()
    assert body.splitlines()[-1] == "next: seqsup logs r42 a · seqsup start nightly.toml --resume"


def test_many_failures_are_counted() -> None:
    names = [f"a.{n}" for n in range(9)]
    told = Told().run(*names)
    for name in names:
        told.started(name).ended(name, Reason.FAILED, why="exit 3").agent_ended(name, Reason.FAILED, why="exit 3")
    _, body = said(told.run_ended(1))
    assert "and 4 more" in body.splitlines()
    assert len(body.splitlines()) == 8


@pytest.mark.parametrize(
    ("code", "what"), [(0, "done"), (1, "failed"), (75, "stopped at a usage limit"), (130, "stopped")]
)
def test_title_says_how_a_run_ended(code: int, what: str) -> None:
    assert said(Told().run("a").run_ended(code))[0] == f"seqsup nightly r42: {what}"


def test_stop_for_memory_names_the_reason_and_the_log() -> None:
    told = Told().run("a").started("a").ended("a", Reason.HARD, why="memory 9 GiB, above memory.hard (8 GiB)")
    assert said(told) == (
        "seqsup nightly r42: a was stopped (hard)",
        "Attempt 1: memory 9 GiB, above memory.hard (8 GiB)\nnext: seqsup logs r42 a",
    )


def test_failed_agent_says_that_the_run_continues() -> None:
    told = Told().run("a", "b").started("a").ended("a", Reason.FAILED).agent_ended("a", Reason.FAILED, why="exit 3")
    assert said(told) == (
        "seqsup nightly r42: a failed",
        "exit 3\nThe run continues.\nnext: seqsup logs r42 a",
    )


@pytest.mark.parametrize(
    ("event", "title", "first"),
    [
        (
            LimitPaused(agent="a", attempt=2, until=1.0, why="until 21:57, waiting for claude's usage limit to reset"),
            "a is at a usage limit",
            "Paused until 21:57, waiting for claude's usage limit to reset.",
        ),
        (RunPaused(why="the disk has 1 MiB free"), "paused", "No further agent starts: the disk has 1 MiB free"),
        (Unkillable(agent="a", processes=(), seconds=10.0), "a cannot be killed", "Still running 10 s after SIGKILL: "),
    ],
)
def test_what_is_stuck_or_waits(event: AnyEvent, title: str, first: str) -> None:
    found, body = said(Told().run("a").tell(event))
    assert (found, body.splitlines()[0]) == (f"seqsup nightly r42: {title}", first)
    assert body.splitlines()[-1].startswith("next: seqsup ")


def test_held_messages_are_counted() -> None:
    _, body = said(Told().run("a").run_ended(0), {Notice.MEMORY: 2, Notice.STUCK: 1})
    assert body.splitlines()[-1] == (
        "Not sent since the last message, at most one of a kind in 5 minutes: 2 × memory, 1 × stuck"
    )


def test_nothing_of_an_agent_moves_a_cursor_and_long_lines_are_cut() -> None:
    why = "\x1b[2J" + "x" * 1000
    told = Told().run("a", "b").started("a").ended("a", Reason.FAILED).agent_ended("a", Reason.FAILED, why=why)
    _, body = said(told)
    assert "\x1b" not in body
    assert max(map(len, body.splitlines())) <= 300


def test_no_words_for_other_events() -> None:
    with pytest.raises(TypeError):
        said(Told().run("a").tell(Warned(message="")))
