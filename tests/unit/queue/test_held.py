"""When a worker of a fleet must end its agents, and when it may judge others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import Halt
from seqsup.queue.held import MOST_OUTPUT, Contact, Held, News
from seqsup.queue.jobs import Order, Taken


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def contact(lease: float = 100.0) -> tuple[Contact, Clock]:
    clock = Clock()
    made = Contact(clock)
    made.lease = lease
    return made, clock


def held(contact: Contact) -> Held:
    made = Held(7, contact, lambda: None)
    made.taken = Taken(number=1, name="", order=Order(folder="/"), token="7", cookie="c", lost=0)
    return made


@given(lease=st.floats(1, 1000), silence=st.floats(0, 2000))
def test_worker_without_an_answer_for_more_than_six_tenths_of_a_lease_is_cut_off(lease: float, silence: float) -> None:
    made, clock = contact(lease)
    clock.now += silence
    assert made.cut_off() == (made.silence() > lease * 0.6)
    if silence >= lease:
        assert made.cut_off()


def test_silence_begins_with_the_question_and_not_with_its_answer() -> None:
    made, clock = contact()
    asked = made.now()
    clock.now += 50
    made.answered(asked)
    assert made.silence() == 50


def test_worker_that_rides_out_is_never_cut_off() -> None:
    made, clock = contact()
    made.ride_out = True
    clock.now += 1e6
    assert not made.cut_off()


def test_worker_may_rescue_from_its_start() -> None:
    made, _ = contact()
    assert made.may_rescue()


def test_worker_that_was_cut_off_gives_the_others_a_lease() -> None:
    made, clock = contact()
    clock.now += 61
    assert not made.may_rescue()
    made.answered(clock.now)
    assert not made.may_rescue()
    for _ in range(2):
        clock.now += 50
        made.answered(clock.now)
    assert made.may_rescue()


def test_job_that_was_given_up_stays_so() -> None:
    made, clock = contact()
    job = held(made)
    assert job.wanted() is Halt.NONE
    clock.now += 61
    assert job.wanted() is Halt.NOW
    made.answered(clock.now)
    assert job.wanted() is Halt.NOW
    assert job.given_up


def test_job_of_another_worker_is_void() -> None:
    job = held(contact()[0])
    job.hear(None)
    assert job.wanted() is Halt.NOW
    assert not job.given_up


def test_delivery_that_is_not_claimed_yet_is_not_void() -> None:
    job = Held(7, contact()[0], lambda: None)
    job.hear(None)
    assert not job.void


def test_wish_to_stop_only_grows() -> None:
    job = held(contact()[0])
    job.hear(Halt.NOW)
    job.hear(Halt.AFTER_AGENT)
    assert job.wanted() is Halt.NOW


@pytest.mark.parametrize(("earlier", "later"), [(b"a" * MOST_OUTPUT, b"b"), (b"", b"b" * (MOST_OUTPUT + 1))])
def test_of_output_the_end_is_kept(earlier: bytes, later: bytes) -> None:
    kept = News(output=earlier).followed_by(News(output=later)).output
    assert len(kept) == MOST_OUTPUT
    assert kept.endswith(b"b")


def test_later_news_wins_and_earlier_news_is_not_lost() -> None:
    news = News(run="r1", state_dir="/s", note="old").followed_by(News(note="new"))
    assert (news.run, news.state_dir, news.note) == ("r1", "/s", "new")
    assert not News()
