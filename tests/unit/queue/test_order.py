"""Which jobs another one needs, and why a job waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.errors import SeqsupError
from seqsup.queue.jobs import MAX_LOST, Job, JobState
from seqsup.queue.order import needed_here, poisonous, refuse_needed, why_waiting
from seqsup.queue.store import NoSuchJob

NUMBERS = st.lists(st.integers(1, 10**6), unique=True).map(sorted)


def job(*after: int) -> Job:
    return Job(
        number=9, name="job", state=JobState.WAITING, priority=0, added=0.0, by="", not_before=None, after=after, lost=0
    )


@given(NUMBERS, st.lists(st.integers(-20, 20)))
def test_needed_jobs_are_older_ones_of_the_call_or_given_numbers(numbers: list[int], after: list[int]) -> None:
    """So no job can need itself, and there is no cycle."""
    if min(after, default=0) < -len(numbers):
        with pytest.raises(NoSuchJob, match=f"job {len(numbers) + 1} of this call"):
            needed_here(after, numbers)
        return
    found = needed_here(after, numbers)
    assert set(found) == {each for each in after if each >= 0} | {numbers[-each - 1] for each in after if each < 0}
    assert list(found) == sorted(set(found))


@given(st.dictionaries(st.integers(1, 99), st.sampled_from(JobState) | st.none()))
def test_needed_job_must_be_known_and_able_to_be_done(states: dict[int, JobState | None]) -> None:
    good = {JobState.WAITING, JobState.READY, JobState.RUNNING, JobState.DONE}
    if set(states.values()) <= good:
        refuse_needed(states)
    else:
        with pytest.raises(SeqsupError, match="seqsup queue"):
            refuse_needed(states)


@given(st.dictionaries(st.integers(1, 8), st.sampled_from(JobState), min_size=1))
def test_reason_of_a_wait_names_what_blocks_it(states: dict[int, JobState]) -> None:
    why = why_waiting(job(*states), states)
    broken = [number for number, state in states.items() if state in (JobState.FAILED, JobState.CANCELLED)]
    left = [number for number, state in states.items() if state is not JobState.DONE]
    if broken:
        assert f"needs #{broken[0]}" in why
        assert f"seqsup queue retry {broken[0]}" in why
        assert "drop 9" in why
    elif left:
        assert why == "after " + ", ".join(f"#{number}" for number in left)
    else:
        assert why == ""


def test_job_may_outlive_as_many_supervisors_as_allowed() -> None:
    assert [bool(poisonous(lost)) for lost in range(MAX_LOST + 3)] == [False] * (MAX_LOST + 1) + [True, True]
