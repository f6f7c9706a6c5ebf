"""How an attempt ended."""

import pytest

from seqsup.model.outcome import Exit, Outcome, ending
from seqsup.model.reason import Reason


@pytest.mark.parametrize(
    ("ended", "words", "code", "signal"),
    [
        (None, "", None, None),
        (Exit(code=0, signal=None), "exit 0", 0, None),
        (Exit(code=3, signal=None), "exit 3", 3, None),
        (Exit(code=None, signal=9), "signal 9", None, 9),
    ],
)
def test_exit_of_a_leader_in_words_and_numbers(
    ended: Exit | None, words: str, code: int | None, signal: int | None
) -> None:
    outcome = Outcome(reason=Reason.FAILED, why="", exit=ended, seconds=1.0, peak=0)
    assert ending(ended) == words
    assert (outcome.exit_code, outcome.signal) == (code, signal)


def test_outcome_without_details_blames_no_process() -> None:
    outcome = Outcome(reason=Reason.FAILED, why="exit 1", exit=None, seconds=1.0, peak=0)
    assert (outcome.processes, outcome.left_over, outcome.forensics) == ((), (), "")
    assert not outcome.blames_us
    assert outcome.resets_at is None
