"""Any sequence of changes: the embedded queue agrees with a model that keeps its jobs in a list."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helpers.queues import new
from seqsup.errors import SeqsupError
from seqsup.model.enums import Halt
from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import MAX_LOST, JobResult, JobState, Taken
from seqsup.queue.store import NoSuchJob, Unfinished

LATER = 4e9  # a time that does not come during a test
ENDED = {JobState.FAILED, JobState.CANCELLED}
ANY = st.integers(1, 12)


class Known:
    """A job of the model."""

    def __init__(self, number: int, priority: int, after: set[int], timed: bool) -> None:
        self.number, self.priority, self.after, self.timed = number, priority, after, timed
        self.rank = self.lost = 0
        self.stop = False
        self.state = JobState.READY  # or WAITING, see `state_of`


class QueueModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        state = Path(self._folder.name) / "state"
        self.queue, self.file = EmbeddedQueue(state), QueueFile(state)
        self.desk = Desk(state, self.file, "w")
        self.jobs: dict[int, Known] = {}
        self.hands: dict[int, Taken] = {}
        self.stale: list[Taken] = []
        self.paused = False

    def teardown(self) -> None:
        self.queue.close()
        self.file.close()
        self._folder.cleanup()

    # -- the model

    def state_of(self, job: Known) -> JobState:
        waits = job.timed or any(self.jobs[each].state is not JobState.DONE for each in job.after)
        return JobState.WAITING if job.state is JobState.READY and waits else job.state

    def line(self) -> list[int]:
        ready = [job for job in self.jobs.values() if self.state_of(job) is JobState.READY]
        return [job.number for job in sorted(ready, key=lambda job: (-job.priority, job.rank, job.number))]

    def to_the_head(self, job: Known) -> None:
        same = [each for each in self.jobs.values() if each.priority == job.priority and each.state is JobState.READY]
        job.rank = min([0, *(each.rank for each in same)]) - 1

    # -- changes

    @rule(priority=st.integers(-1, 1), after=st.lists(ANY, max_size=2), timed=st.booleans(), own=st.booleans())
    def add(self, priority: int, after: list[int], timed: bool, own: bool) -> None:
        jobs = [
            new(priority=priority, after=tuple(after), not_before=LATER if timed else None),
            new(priority=priority, after=(-1,) if own else ()),
        ]
        known = [self.jobs.get(each) for each in after]
        if not all(job is not None and job.state not in ENDED for job in known):
            with pytest.raises(SeqsupError):
                self.queue.add(jobs)
            return
        one, two = self.queue.add(jobs)
        assert one == len(self.jobs) + 1
        self.jobs[one] = Known(one, priority, set(after), timed)
        self.jobs[two] = Known(two, priority, {one} if own else set(), False)

    @rule()
    def take(self) -> None:
        expected = [] if self.paused else self.line()[:1]
        taken = self.desk.take()
        assert ([taken.number] if taken else []) == expected
        if taken:
            self.hands[taken.number] = taken
            self.jobs[taken.number].state = JobState.RUNNING

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), code=st.sampled_from([0, 0, 0, 1]))
    def finish(self, data: st.DataObject, code: int) -> None:
        taken = self.hands.pop(data.draw(st.sampled_from(sorted(self.hands))))
        job = self.jobs[taken.number]
        result = JobResult(exit_code=code, run=None, cancelled=job.stop and code > 0)
        assert self.desk.finish(taken, result)
        job.state, job.stop = result.state, False
        self.stale.append(taken)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), lost=st.booleans())
    def give_back(self, data: st.DataObject, lost: bool) -> None:
        taken = self.hands.pop(data.draw(st.sampled_from(sorted(self.hands))))
        job = self.jobs[taken.number]
        self.desk.give_back(taken, Unfinished("interrupted", lost=lost))
        self._lose(job, lost)
        if job.state is JobState.RUNNING and not job.stop:
            self.to_the_head(job)
            job.state = JobState.READY
        elif job.state is JobState.RUNNING:
            job.state = JobState.CANCELLED
        job.stop = False
        self.stale.append(taken)

    def _lose(self, job: Known, lost: bool = True) -> None:
        job.lost += lost
        if lost and job.lost > MAX_LOST:
            job.state, job.stop = JobState.FAILED, False

    @rule(number=ANY)
    def poison(self, number: int) -> None:
        """Kill the worker, perhaps after the job that it has was dropped."""
        if number in self.hands:
            self.drop(number)
        self.crash()

    @precondition(lambda self: self.hands)
    @rule()
    def crash(self) -> None:
        """Kill the worker: the next one takes over what it had."""
        held = sorted(self.hands)
        self.stale += self.hands.values()
        self.hands = {}
        for number in held:
            self._lose(self.jobs[number])
        while taken := self.desk.settle(self.hands):
            assert taken.resumed
            self.hands[taken.number] = taken
        assert sorted(self.hands) == [number for number in held if self.jobs[number].state is JobState.RUNNING]

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def finish_too_late(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(self.stale))
        assert not self.desk.finish(taken, JobResult(exit_code=0, run=None))
        self.desk.give_back(taken, Unfinished("late", lost=True))
        assert self.desk.wanted(taken) is Halt.NOW

    @rule(number=ANY)
    def drop(self, number: int) -> None:
        job = self.jobs.get(number)
        if job is None or job.state.over:
            with pytest.raises(SeqsupError):
                self.queue.drop(number)
        else:
            self.queue.drop(number)
            if job.state is JobState.RUNNING:
                job.stop = True
            else:
                job.state = JobState.CANCELLED

    @rule(number=ANY)
    def first(self, number: int) -> None:
        job = self.jobs.get(number)
        if job is None or job.state is not JobState.READY:
            with pytest.raises(SeqsupError):
                self.queue.first(number)
        else:
            self.queue.first(number)
            self.to_the_head(job)

    @rule(number=ANY)
    def retry(self, number: int) -> None:
        job = self.jobs.get(number)
        if job is None or job.state not in ENDED:
            with pytest.raises(SeqsupError):
                self.queue.retry(number)
        else:
            self.queue.retry(number)
            job.state, job.lost = JobState.READY, 0

    @rule()
    def pause(self) -> None:
        self.paused = not self.paused
        self.queue.pause(self.paused)

    # -- what must hold

    @invariant()
    def agree(self) -> None:
        shown = self.queue.jobs(over=1000, waiting=1000)
        assert {job.number: (job.state, job.lost, job.stop_wanted) for job in shown} == {
            job.number: (self.state_of(job), job.lost, job.stop) for job in self.jobs.values()
        }
        assert [job.number for job in shown if job.state is JobState.READY] == self.line()
        counts = self.queue.counts()
        assert counts == {state: sum(job.state is state for job in shown) for state in JobState}
        for number, taken in self.hands.items():
            assert (self.desk.wanted(taken) is not Halt.NONE) == self.jobs[number].stop
        more = any(
            state in (JobState.READY, JobState.RUNNING) or (job.timed and state is JobState.WAITING and self._free(job))
            for job in self.jobs.values()
            for state in [self.state_of(job)]
        )
        assert self.desk.has_more() == more
        with pytest.raises(NoSuchJob):
            self.queue.job(len(self.jobs) + 1)

    def _free(self, job: Known) -> bool:
        return all(self.jobs[each].state is JobState.DONE for each in job.after)


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=40, stateful_step_count=60)
