"""What every queue promises, wherever its jobs are kept."""

import asyncio
import time

import pytest

from helpers.queues import Hands, Store, add, beside, new, opened, serve, states, stop, until, until_stopped, work
from helpers.waiting import wait_for
from seqsup.errors import Refused, SeqsupError
from seqsup.model.enums import Halt
from seqsup.queue.jobs import MAX_LOST, SCHEMA, CommandOptions, JobResult, JobState, Order, Taken
from seqsup.queue.store import Lease, NoSuchJob, Queue, Unfinished
from seqsup.runner.stop_request import StopRequest

DONE = JobResult(exit_code=0, run="r7", seconds=1.5)
ORDERS = [
    Order(folder="/src", profile='name = "nightly"\n', path="/src/nightly.toml", task="do it", only=("a", "b")),
    Order(folder="/src", command=("sh", "-c", "echo ü"), options=CommandOptions(soft="1G", retries=2, timeout="5m")),
    Order(folder="/src", command=("fix", "it"), options=CommandOptions(preset="claude", model="opus", name="fix")),
    Order(folder="/src", profile="x", items={"a-1": "one"}, files={"in.txt": b"\x00\xff" * 1000}, origin="machine"),
    Order(folder="/src", profile="x", workspace="https://example.org/x.git@main"),
]


# -- adding


def test_added_job_is_shown_as_it_was_ordered(store: Store, queue: Queue) -> None:
    before, later = time.time(), time.time() + 3600
    first = add(queue, "first")
    second = add(queue, "second", priority=3, after=(first,), not_before=later, by="ann@host")
    with opened(store) as other:
        job = other.job(second)
    assert (job.name, job.priority, job.after, job.not_before, job.by) == ("second", 3, (first,), later, "ann@host")
    assert before <= job.added <= time.time()
    assert (job.state, job.lost, job.worker, job.exit_code) == (JobState.WAITING, 0, None, None)
    assert job.label == f"#{second}"


@pytest.mark.parametrize("order", ORDERS)
def test_order_reaches_its_worker_unchanged(queue: Queue, order: Order) -> None:
    number = add(queue, "job", order=order)
    (taken,) = work(queue).taken
    assert (taken.number, taken.name, taken.order) == (number, "job", order)


def test_numbers_only_grow(queue: Queue) -> None:
    numbers = [add(queue), *queue.add([new(), new(after=(-1,))]), add(queue)]
    work(queue)
    numbers.append(add(queue))
    assert numbers == sorted(set(numbers))


def test_no_job_is_added_if_one_of_them_cannot_be(queue: Queue) -> None:
    with pytest.raises(NoSuchJob, match="99"):
        queue.add([new("good"), new("bad", after=(99,))])
    assert queue.jobs() == []
    assert not any(queue.counts().values())


@pytest.mark.parametrize("after", [(99,), (0,), (2**70,), (-1, 5)])
def test_unknown_predecessor_is_refused(queue: Queue, after: tuple[int, ...]) -> None:
    with pytest.raises(NoSuchJob, match="job"):
        queue.add([new("first"), new("second", after=after)])


@pytest.mark.parametrize("after", [(-1,), (-2,), (-(2**70),)])
def test_job_cannot_need_itself_or_a_later_one(queue: Queue, after: tuple[int, ...]) -> None:
    with pytest.raises(NoSuchJob, match="only earlier ones"):
        queue.add([new("first", after=after), new("second")])
    assert queue.jobs() == []


ENDS = [JobResult(exit_code=1, run=None), JobResult(exit_code=143, run=None, cancelled=True)]


@pytest.mark.parametrize("result", ENDS)
def test_predecessor_that_failed_is_refused_with_a_remedy(queue: Queue, result: JobResult) -> None:
    number = add(queue, "bad")
    work(queue, {"bad": result})
    with pytest.raises(SeqsupError, match=f"retry {number}"):
        add(queue, "next", after=(number,))
    assert states(queue) == {"bad": result.state}


def test_predecessor_that_is_done_is_not_waited_for(queue: Queue) -> None:
    number = add(queue, "first")
    work(queue)
    second = add(queue, "second", after=(number,))
    assert queue.job(second).state is JobState.READY


# -- order


def test_order_is_priority_then_age(queue: Queue) -> None:
    for name, priority in (("b", 0), ("c", 0), ("low", -5), ("high", 5)):
        add(queue, name, priority=priority)
    expected = ["high", "b", "c", "low"]
    assert [job.name for job in queue.jobs()] == expected
    assert work(queue).names == expected


def test_first_is_the_head_of_its_priority_only(queue: Queue) -> None:
    numbers = {name: add(queue, name, priority=priority) for name, priority in (("high", 1), ("a", 0), ("b", 0))}
    add(queue, "c")
    queue.first(numbers["a"])
    assert queue.first(numbers["b"]).state is JobState.READY
    assert work(queue).names == ["high", "b", "a", "c"]


def test_first_holds_for_a_job_that_waits(queue: Queue) -> None:
    one = add(queue, "one", priority=1)
    add(queue, "two")
    queue.first(add(queue, "three", after=(one,)))
    assert work(queue).names == ["one", "three", "two"]


def test_job_runs_after_all_that_it_needs(queue: Queue) -> None:
    numbers = queue.add([new("a"), new("b", after=(-1,)), new("c"), new("d", after=(-2, -3), priority=9)])
    job = queue.job(numbers[3])
    assert (job.state, job.after) == (JobState.WAITING, (numbers[1], numbers[2]))
    assert f"#{numbers[1]}" in job.why
    assert f"#{numbers[2]}" in job.why
    names = work(queue).names
    assert names == ["a", "b", "d", "c"] or names == ["a", "b", "c", "d"]
    assert names.index("c") < names.index("d")


def test_same_predecessor_twice_counts_once(queue: Queue) -> None:
    one = add(queue, "one")
    add(queue, "two", after=(one, one))
    assert work(queue).names == ["one", "two"]


def test_successor_of_a_failed_job_waits_and_says_what_to_do(queue: Queue) -> None:
    one, two, three = queue.add([new("one"), new("two", after=(-1,)), new("three", after=(-2,))])
    assert work(queue, {"one": 3}).names == ["one"]
    waiting = queue.job(two)
    assert waiting.state is JobState.WAITING
    assert f"retry {one}" in waiting.why
    assert f"drop {two}" in waiting.why
    assert f"#{two}" in queue.job(three).why
    queue.retry(one)
    assert work(queue).names == ["one", "two", "three"]
    assert set(states(queue).values()) == {JobState.DONE}


def test_successor_of_a_dropped_job_waits_and_can_be_dropped(queue: Queue) -> None:
    one, two = queue.add([new("one"), new("two", after=(-1,))])
    queue.drop(one)
    assert f"retry {one}" in queue.job(two).why
    assert work(queue).names == []
    assert queue.drop(two).state is JobState.CANCELLED


def test_job_is_not_taken_before_its_time(queue: Queue) -> None:
    at = time.time() + 0.3
    add(queue, "timed", not_before=at, priority=9)
    add(queue, "plain")
    began: dict[str, float] = {}

    async def note(lease: Lease) -> JobResult:
        began[lease.taken.name] = time.time()
        return DONE

    work(queue, {"timed": note, "plain": note})
    assert list(began) == ["plain", "timed"]
    assert began["timed"] >= at


def test_time_that_has_come_makes_a_job_ready_without_a_worker(queue: Queue) -> None:
    number = add(queue, not_before=time.time() + 0.05)
    assert queue.counts()[JobState.WAITING] == 1
    wait_for(lambda: queue.job(number).state is JobState.READY)
    assert queue.counts()[JobState.READY] == 1
    assert queue.oldest_wait() < 30


def test_time_in_the_past_delays_nothing(queue: Queue) -> None:
    assert queue.job(add(queue, not_before=time.time() - 5)).state is JobState.READY


def test_job_with_a_time_and_a_predecessor_waits_for_both(queue: Queue) -> None:
    one = add(queue, "one")
    two = add(queue, "two", after=(one,), not_before=time.time() + 3600)
    three = add(queue, "three", after=(one,), not_before=time.time() - 1)
    request = StopRequest()
    serving = serve(queue, Hands(), until_empty=False, stop=request)
    asyncio.run(beside(serving, request, lambda: queue.job(three).state is JobState.DONE))
    assert states(queue) == {"one": JobState.DONE, "two": JobState.WAITING, "three": JobState.DONE}
    assert queue.job(two).why == ""


# -- ends


def test_end_of_a_job_is_kept(store: Store, queue: Queue) -> None:
    numbers = queue.add([new("good"), new("bad")])
    bad = JobResult(exit_code=4, run="r8", why="agent plan: exit 1", branches=("plan: branch seqsup/r8/plan",))
    began = time.time()
    work(queue, {"good": DONE, "bad": bad}, worker="machine")
    with opened(store) as other:
        good, failed = map(other.job, numbers)
    assert (good.state, good.exit_code, good.run, good.worker) == (JobState.DONE, 0, "r7", "machine")
    assert (failed.state, failed.exit_code, failed.run) == (JobState.FAILED, 4, "r8")
    assert "exit 1" in failed.why
    assert "seqsup/r8/plan" in failed.why
    assert good.started is not None
    assert good.ended is not None
    assert began <= good.started <= good.ended


def test_error_of_the_carrier_fails_the_job_with_its_text(queue: Queue) -> None:
    number = add(queue, "odd")
    work(queue, {"odd": ValueError("no such thing")})
    job = queue.job(number)
    assert job.state is JobState.FAILED
    assert "no such thing" in job.why


def test_news_of_a_running_job_are_shown(store: Store, queue: Queue) -> None:
    number = add(queue, "job")
    seen = []

    async def report(lease: Lease) -> JobResult:
        lease.begin("r12", "/state")
        lease.note("agent plan, 40 % of its limit")
        with opened(store) as other:
            await until(lambda: other.job(number).note)
            seen.append(other.job(number))
        return JobResult(exit_code=0, run="r12")

    work(queue, {"job": report}, worker="machine")
    (job,) = seen
    assert (job.state, job.run, job.state_dir, job.worker) == (JobState.RUNNING, "r12", "/state", "machine")
    assert job.note == "agent plan, 40 % of its limit"
    assert queue.job(number).note == ""


# -- drop, retry


def test_dropped_job_is_never_taken(queue: Queue) -> None:
    ready, waiting = add(queue, "ready"), add(queue, "waiting", not_before=time.time() + 3600)
    assert queue.drop(ready).state is JobState.CANCELLED
    assert queue.drop(waiting).state is JobState.CANCELLED
    assert work(queue).names == []
    assert queue.counts()[JobState.CANCELLED] == 2


@pytest.mark.parametrize(("now", "halt"), [(False, Halt.AFTER_AGENT), (True, Halt.NOW)])
def test_dropped_job_that_runs_is_asked_to_end(store: Store, queue: Queue, now: bool, halt: Halt) -> None:
    number = add(queue, "job")

    async def dropped(lease: Lease) -> JobResult:
        with opened(store) as other:
            job = other.drop(number, now=now)
        assert (job.state, job.stop_wanted) == (JobState.RUNNING, True)
        return await until_stopped(lease)

    work(queue, {"job": dropped})
    job = queue.job(number)
    assert (job.state, job.why, job.stop_wanted) == (JobState.CANCELLED, f"stopped {halt.name}", False)


def test_job_that_is_over_cannot_be_dropped_or_moved(queue: Queue) -> None:
    number = add(queue)
    work(queue)
    for change in (queue.drop, queue.first, queue.retry):
        with pytest.raises(SeqsupError, match="is done"):
            change(number)
    assert queue.job(number).state is JobState.DONE


def test_job_that_waits_cannot_be_retried(queue: Queue) -> None:
    number = add(queue)
    with pytest.raises(SeqsupError, match="only a failed or cancelled"):
        queue.retry(number)


@pytest.mark.parametrize("number", [1, 0, -1, 2**70])
def test_unknown_number_is_refused(queue: Queue, number: int) -> None:
    for call in (queue.job, queue.drop, queue.first, queue.retry):
        with pytest.raises(NoSuchJob, match=f"no job #{number}"):
            call(number)


def test_retried_job_keeps_number_and_cookie(queue: Queue) -> None:
    number = add(queue, "job")
    (first,) = work(queue, {"job": JobResult(exit_code=1, run="r3", why="exit 1")}).taken
    began = time.time()
    job = queue.retry(number)
    assert (job.number, job.state, job.exit_code, job.ended) == (number, JobState.READY, None, None)
    (second,) = work(queue, {"job": DONE}).taken
    assert second.cookie == first.cookie
    assert second.token != first.token
    assert second.resumed
    assert first.retried is None
    assert second.retried is not None
    assert began <= second.retried
    assert queue.job(number).state is JobState.DONE


def test_retry_of_a_job_before_its_time_waits_for_it(queue: Queue) -> None:
    number = add(queue, not_before=time.time() + 3600)
    queue.drop(number)
    assert queue.retry(number).state is JobState.WAITING


# -- what is not over


def test_unfinished_job_is_the_next_of_its_priority(queue: Queue) -> None:
    add(queue, "high", priority=1)
    add(queue, "job")
    add(queue, "next")
    tries: list[Taken] = []

    async def interrupted(lease: Lease) -> JobResult:
        tries.append(lease.taken)
        if len(tries) == 1:
            lease.begin("r5", "/state")
            raise Unfinished("its worker stopped")
        return DONE

    assert work(queue, {"job": interrupted}).names == ["high", "job", "job", "next"]
    first, second = tries
    assert (second.cookie, second.resumed, second.lost) == (first.cookie, True, 0)
    assert second.token != first.token


def test_job_that_was_lost_too_often_fails(queue: Queue) -> None:
    number = add(queue, "poison")
    hands = work(queue, {"poison": Unfinished("its supervisor was killed", lost=True)})
    assert [taken.lost for taken in hands.taken] == list(range(MAX_LOST + 1))
    job = queue.job(number)
    assert (job.state, job.lost) == (JobState.FAILED, MAX_LOST + 1)
    assert str(MAX_LOST) in job.why
    assert queue.retry(number).lost == 0


def test_unfinished_job_that_was_dropped_is_cancelled(store: Store, queue: Queue) -> None:
    number = add(queue, "job")

    async def dropped(lease: Lease) -> JobResult:
        with opened(store) as other:
            other.drop(number)
        raise Unfinished("its supervisor was killed", lost=True)

    work(queue, {"job": dropped})
    assert (queue.job(number).state, queue.job(number).stop_wanted) == (JobState.CANCELLED, False)


# -- lists


def test_list_has_running_jobs_then_waiting_ones_then_the_last_that_are_over(store: Store, queue: Queue) -> None:
    for n in range(30):
        add(queue, f"old-{n}", priority=2)
    work(queue)
    add(queue, "runs", priority=1)
    for n in range(60):
        add(queue, f"new-{n}")
    add(queue, "later", not_before=time.time() + 3600)
    seen: list[list[str]] = []

    async def look(lease: Lease) -> JobResult:
        with opened(store) as other:
            seen.append([job.name for job in other.jobs()])
            seen.append([job.name for job in other.jobs(over=2, waiting=1)])
        for job in queue.jobs(over=0, waiting=100):
            if job.name != "runs":
                queue.drop(job.number)
        return DONE

    work(queue, {"runs": look})
    assert seen[0] == ["runs", *(f"new-{n}" for n in range(50)), *(f"old-{n}" for n in range(29, 9, -1))]
    assert seen[1] == ["runs", "new-0", "old-29", "old-28"]


def test_counts_are_those_of_the_states(queue: Queue) -> None:
    assert queue.counts() == dict.fromkeys(JobState, 0)
    queue.add([new("good"), new("bad"), new("after", after=(-2,)), new("gone")])
    queue.drop(4)
    work(queue, {"bad": 1})
    add(queue, "ready")
    add(queue, "later", not_before=time.time() + 3600)
    assert queue.counts() == {
        JobState.WAITING: 2, JobState.READY: 1, JobState.RUNNING: 0, JobState.DONE: 1, JobState.FAILED: 1,
        JobState.CANCELLED: 1,
    }  # fmt: skip


def test_oldest_wait_is_that_of_a_ready_job(queue: Queue) -> None:
    assert queue.oldest_wait() == 0
    add(queue, "later", not_before=time.time() + 3600)
    assert queue.oldest_wait() == 0
    began = time.time()
    add(queue, "ready")
    assert 0 <= queue.oldest_wait() <= time.time() - began
    wait_for(lambda: queue.oldest_wait() > 0.01)


# -- a worker


def test_paused_queue_hands_out_nothing_until_it_is_resumed(store: Store, queue: Queue) -> None:
    add(queue, "job")
    queue.pause(True)
    hands, request = Hands(), StopRequest()

    async def story() -> None:
        serving = asyncio.ensure_future(serve(queue, hands, until_empty=True, stop=request))
        with opened(store) as other:
            assert other.paused()
            await until(other.workers)
            assert hands.names == []
            other.pause(False)
        await serving

    asyncio.run(story())
    assert hands.names == ["job"]
    assert not queue.paused()


def test_idle_worker_takes_a_job_that_is_added(store: Store, queue: Queue) -> None:
    hands, request = Hands(), StopRequest()

    async def story() -> None:
        with opened(store) as other:
            serving = serve(queue, hands, until_empty=False, stop=request)

            def added() -> bool:
                return bool(other.workers()) and bool(add(other, "job"))

            await beside(serving, request, added, lambda: hands.names)

    asyncio.run(story())
    assert hands.names == ["job"]


def test_slots_are_used_and_never_exceeded(queue: Queue) -> None:
    queue.add([new(f"job-{n}") for n in range(7)])
    active: set[int] = set()
    most = 0

    async def together(lease: Lease) -> JobResult:
        nonlocal most
        active.add(lease.taken.number)
        most = max(most, len(active))
        if lease.taken.number <= 3:
            await until(lambda: most == 3)
        active.remove(lease.taken.number)
        return DONE

    work(queue, {f"job-{n}": together for n in range(7)}, slots=3)
    assert most == 3
    assert set(states(queue).values()) == {JobState.DONE}


@pytest.mark.parametrize("halt", [Halt.AFTER_AGENT, Halt.NOW])
def test_stopped_worker_gives_its_job_back_and_takes_no_other(queue: Queue, halt: Halt) -> None:
    queue.add([new("job"), new("next")])
    request = StopRequest()

    async def stopped(lease: Lease) -> JobResult:
        stop(request, halt)
        assert lease.wanted() is Halt.NONE  # a CarryOut hears of it by the stop itself
        raise Unfinished("its worker stopped")

    assert work(queue, {"job": stopped}, stop=request, until_empty=False).names == ["job"]
    assert states(queue) == {"job": JobState.READY, "next": JobState.READY}
    assert [job.name for job in queue.jobs()] == ["job", "next"]


def test_idle_worker_stops_at_once(queue: Queue) -> None:
    request = StopRequest()
    asyncio.run(beside(serve(queue, Hands(), until_empty=False, stop=request), request, queue.workers))
    assert queue.workers() == []


def test_closed_window_lets_no_job_start(store: Store, queue: Queue) -> None:
    add(queue, "job")
    hands, request, looks, is_open = Hands(), StopRequest(), 0, False

    def open_now() -> bool:
        nonlocal looks
        looks += 1
        return is_open

    async def story() -> None:
        nonlocal is_open
        serving = asyncio.ensure_future(serve(queue, hands, open_now=open_now, stop=request))
        await until(lambda: looks)
        assert hands.names == []
        is_open = True
        with opened(store) as other:
            add(other, "next")  # a worker looks at the time when it is woken
        await serving

    asyncio.run(story())
    assert hands.names == ["job", "next"]


def test_job_of_a_newer_schema_is_left_alone(queue: Queue) -> None:
    add(queue, "newer", order=Order(folder="/", command=("true",), schema=SCHEMA + 1), priority=5)
    add(queue, "known")
    assert work(queue).names == ["known"]
    assert states(queue)["newer"] is JobState.READY


def test_second_worker_of_a_name_is_refused(store: Store, queue: Queue) -> None:
    request = StopRequest()

    async def story() -> None:
        serving = asyncio.ensure_future(serve(queue, Hands(), worker="night", until_empty=False, stop=request))
        with opened(store) as other:
            await until(lambda: other.workers() == ["night"])
            with pytest.raises(Refused, match="--name"):
                await serve(other, Hands(), worker="night")
            await serve(other, Hands(), worker="day")  # another name may
        stop(request)
        await serving

    asyncio.run(story())
    assert work(queue, worker="night").names == []  # and the name is free again


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "x" * 64, "ü", "a\n"])
def test_bad_name_of_a_worker_is_refused(queue: Queue, name: str) -> None:
    with pytest.raises(SeqsupError, match="--name"):
        work(queue, worker=name)
