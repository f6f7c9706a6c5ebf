"""The table of reasons: whole, and consistent with itself."""

from seqsup.model.reason import AT_A_LIMIT, CONSEQUENCES, KILLED, OF_MEMORY, STOPPED_BY_US, EndedBy, Reason, Retried


def test_each_reason_has_its_row() -> None:
    assert set(CONSEQUENCES) == set(Reason)


def test_lists_follow_from_the_table() -> None:
    assert set(AT_A_LIMIT) | set(STOPPED_BY_US) | {Reason.HEAP_OOM} == set(KILLED)
    assert set(STOPPED_BY_US) - set(AT_A_LIMIT) == {Reason.HALTED}
    assert set(OF_MEMORY) <= set(KILLED)
    for reason, follows in CONSEQUENCES.items():
        assert reason in KILLED or not (follows.limit or follows.option), reason
        assert follows.by is not EndedBy.NOTHING or follows.retried is Retried.NEVER, reason
