"""The table of reasons: complete, consistent, and as the reference documents it."""

import pytest

from seqsup.model.reason import (
    AT_A_LIMIT,
    CONSEQUENCES,
    KILLED,
    OF_MEMORY,
    STOPPED_BY_US,
    EndedBy,
    Reason,
    Retried,
    ended_by,
)


def test_each_reason_has_its_row() -> None:
    assert set(CONSEQUENCES) == set(Reason)


def test_lists_follow_from_the_table() -> None:
    assert set(AT_A_LIMIT) | set(STOPPED_BY_US) | {Reason.HEAP_OOM} == set(KILLED)
    assert set(STOPPED_BY_US) - set(AT_A_LIMIT) == {Reason.HALTED}
    assert set(OF_MEMORY) <= set(KILLED)
    for reason, follows in CONSEQUENCES.items():
        assert reason in KILLED or not (follows.limit or follows.option), reason
        assert follows.by is not EndedBy.NOTHING or follows.retried is Retried.NEVER, reason


def test_memory_is_examined_of_what_memory_ended() -> None:
    assert list(map(str, OF_MEMORY)) == ["hard", "soft", "heap-oom", "kernel-oom", "host-floor"], "in this order"


@pytest.mark.parametrize(
    ("by", "reasons"),
    [
        (EndedBy.SEQSUP, {"hard", "soft", "host-floor", "processes", "timeout", "stalled", "budget"}),
        (EndedBy.KERNEL, {"kernel-oom"}),
        (EndedBy.V8, {"heap-oom"}),
        (EndedBy.USER, {"halted"}),
        (EndedBy.NOTHING, {"skipped", "lost"}),
        (
            EndedBy.ITSELF,
            {
                "completed",
                "failed",
                "crashed",
                "no-result",
                "unfinished",
                "no-credit",
                "usage-limit",
                "spawn-failed",
                "misconfigured",
            },
        ),
    ],
)
def test_cause_of_an_exit_follows_from_its_reason(by: EndedBy, reasons: set[str]) -> None:
    assert set(map(str, ended_by(by))) == reasons


@pytest.mark.parametrize(
    ("retried", "reasons"),
    [
        (Retried.BY_DEFAULT, {"hard", "soft", "heap-oom", "kernel-oom", "crashed", "stalled", "failed"}),
        (Retried.IF_LISTED, {"host-floor", "processes", "timeout", "no-result", "spawn-failed"}),
        (
            Retried.NEVER,
            {
                "completed",
                "unfinished",
                "usage-limit",
                "no-credit",
                "budget",
                "misconfigured",
                "halted",
                "skipped",
                "lost",
            },
        ),
    ],
)
def test_retryable_reasons_are_listed(retried: Retried, reasons: set[str]) -> None:
    assert {str(reason) for reason, follows in CONSEQUENCES.items() if follows.retried is retried} == reasons


RAISED = {
    "hard": ("memory.hard", "--hard"),
    "soft": ("memory.soft", "--soft"),
    "heap-oom": ("node.max_old_space_size", "--hard"),  # which the heap limit of `seqsup run` follows
    "kernel-oom": ("memory.hard", "--hard"),
    "processes": ("rlimits.processes", ""),
    "timeout": ("timeouts.wall", "--timeout"),
    "stalled": ("timeouts.stall", ""),
    "budget": ("budget", ""),
}


@pytest.mark.parametrize("reason", Reason)
def test_key_and_option_to_raise_follow_from_the_reason(reason: Reason) -> None:
    follows = CONSEQUENCES[reason]
    assert (follows.limit, follows.option) == RAISED.get(reason, ("", ""))
