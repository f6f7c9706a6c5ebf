"""Metrics of a worker and of its queue: their values, and that no scrape waits for a queue that does not answer."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from helpers.monitoring import get
from seqsup import __version__
from seqsup.metrics.catalogue import JOB_ENDS, JOBS, OF_QUEUE, full_name
from seqsup.metrics.endpoint import PortTaken
from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.exporter import QueueLook, WorkerExporter, counted
from seqsup.queue.jobs import JobResult, JobState, NewJob, Order
from seqsup.queue.store import Lease, Queue, QueueError, Unfinished

LABELS = {full_name(metric): metric.labels for metric in OF_QUEUE}
Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[EmbeddedQueue]:
    made = EmbeddedQueue(tmp_path)
    made.add([NewJob(name="a", order=Order(folder="/", command=("true",)), not_before=at) for at in (None, None, 4e9)])
    yield made
    made.close()


@pytest.fixture
def scrape(tmp_path: Path) -> Iterator[Callable[..., Samples]]:
    """Serve figures at a free port, and read them as Prometheus does."""
    opened: list[WorkerExporter] = []

    def read(figures: WorkerFigures, open_queue: Callable[[], Queue] = lambda: EmbeddedQueue(tmp_path)) -> Samples:
        exporter = WorkerExporter("127.0.0.1:0", "db", "box", figures, open_queue)
        opened.append(exporter)
        return samples(get(f"http://{exporter.open()}/metrics"))

    yield read
    for each in opened:
        each.close()


def samples(text: str) -> Samples:
    """Name and labels after `queue` -> value, of all but process_*."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name.startswith("seqsup_"):
                assert labels.pop("queue") == "db"
                found[name, tuple(labels[each] for each in LABELS[name])] = value
    return found


def refuse() -> Queue:
    raise QueueError("the server does not answer")


def test_states_of_jobs_in_the_catalogue_are_those_of_the_queue() -> None:
    assert tuple(JobState) == JOBS
    assert tuple(state for state in JobState if state.over) == JOB_ENDS


@pytest.mark.usefixtures("queue")
def test_scrape_has_every_metric_of_worker_and_queue(scrape: Callable[..., Samples]) -> None:
    figures = WorkerFigures(slots=3, jobs=2)
    for count in (figures.beat, figures.rescue, figures.give_up, figures.give_up):
        count()
    figures.end("failed")
    told = scrape(figures)
    assert {name for name, _ in told} == {full_name(metric) for metric in OF_QUEUE}
    assert [told["seqsup_queue_jobs", (state,)] for state in JOBS] == [1, 2, 0, 0, 0, 0]
    assert told["seqsup_queue_oldest_wait_seconds", ()] > 0
    assert told["seqsup_queue_workers", ()] == told["seqsup_queue_paused", ()] == 0
    assert (told["seqsup_worker_slots", ("box",)], told["seqsup_worker_jobs", ("box",)]) == (3, 2)
    assert [told["seqsup_worker_jobs_ended_total", ("box", state)] for state in JOB_ENDS] == [0, 1, 0]
    assert told["seqsup_worker_jobs_rescued_total", ("box",)] == 1
    assert told["seqsup_worker_jobs_given_up_total", ("box",)] == 2
    assert told["seqsup_worker_info", ("box", __version__)] == 1


def test_paused_queue_is_told(queue: EmbeddedQueue, scrape: Callable[..., Samples]) -> None:
    queue.pause(True)
    assert scrape(WorkerFigures())["seqsup_queue_paused", ()] == 1


def test_worker_is_told_while_its_queue_does_not_answer(scrape: Callable[..., Samples]) -> None:
    told = scrape(WorkerFigures(), refuse)
    assert told["seqsup_worker_slots", ("box",)] == 1
    assert not [name for name, _ in told if name.startswith("seqsup_queue_")]


def test_many_scrapes_at_once_ask_the_queue_once(tmp_path: Path, queue: EmbeddedQueue) -> None:
    asked = 0

    def open_queue() -> Queue:
        nonlocal asked
        asked += 1
        return EmbeddedQueue(tmp_path)

    look = QueueLook(open_queue)
    told: list[object] = []
    threads = [threading.Thread(target=lambda: told.append(look())) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert asked <= 2  # on a slow machine the second one may come late
    assert len(told) == 20
    assert None not in told


def test_look_asks_again_once_its_figures_are_old(
    tmp_path: Path, queue: EmbeddedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("seqsup.queue.exporter.time.monotonic", lambda: now)
    look = QueueLook(lambda: EmbeddedQueue(tmp_path))
    assert (first := look()) is not None
    queue.pause(True)
    assert look() is first
    now += 1
    assert (second := look()) is not None
    assert (first.paused, second.paused) == (False, True)


def test_taken_port_refuses_the_worker_with_a_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(PortTaken, match=f"--listen {listen}: Address already in use; choose another address"):
            WorkerExporter(listen, "db", "box", WorkerFigures(), refuse).open()


@pytest.mark.parametrize(
    ("ends", "ended"),
    [
        (JobResult(exit_code=0, run="r1"), {"done": 1}),
        (JobResult(exit_code=1, run="r1"), {"failed": 1}),
        (JobResult(exit_code=1, run="r1", cancelled=True), {"cancelled": 1}),
        (Unfinished("its worker stopped"), {}),
        (RuntimeError("a fault"), {"failed": 1}),
    ],
)
def test_job_counts_while_it_runs_and_by_its_end(ends: JobResult | Exception, ended: dict[str, int]) -> None:
    figures = WorkerFigures()
    running: list[int] = []

    async def carry_out(_: Lease) -> JobResult:
        running.append(figures.jobs)
        if isinstance(ends, Exception):
            raise ends
        return ends

    async def carry() -> None:
        await counted(carry_out, figures)(None)  # type: ignore[arg-type]

    if isinstance(ends, Exception):
        with pytest.raises(type(ends)):
            asyncio.run(carry())
    else:
        asyncio.run(carry())
    assert (running, figures.jobs, figures.ended) == ([1], 0, ended)
