"""A queue in one file, as simple as can be: it has what a worker needs of a store, and survives kills of workers."""

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from seqsup.model.enums import Halt
from seqsup.queue.jobs import MAX_LOST, Job, JobState, NewJob, Order, Result, Taken
from seqsup.queue.store import CarryOut, Lease, NoSuchJob, Stop, Unfinished

_LOOK = 0.05  # seconds


class Kept(Struct):
    job: Job
    order: Order
    cookie: str
    retried: float | None = None
    halt: Halt = Halt.NONE
    results: int = 0


class Table(Struct):
    jobs: dict[int, Kept] = field(default_factory=dict)


class FileQueue:
    def __init__(self, path: Path) -> None:
        self.address = f"file {path.name}"
        self._path = path

    @contextmanager
    def _table(self) -> Iterator[Table]:
        with open(f"{self._path}.lock", "w") as lock:  # noqa: PTH123
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = msgspec.json.decode(self._path.read_bytes(), type=Table) if self._path.exists() else Table()
            yield table
            new = self._path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(table))
            new.replace(self._path)

    def add(self, jobs: Sequence[NewJob]) -> list[int]:
        with self._table() as table:
            first = len(table.jobs) + 1
            for number, new in enumerate(jobs, first):
                job = Job(
                    number=number, name=new.name, state=JobState.READY, priority=new.priority, added=time.time(), by="",
                    not_before=None, after=new.after, lost=0,
                )  # fmt: skip
                table.jobs[number] = Kept(job, new.order, secrets.token_hex(16))
            return list(range(first, first + len(jobs)))

    def kept(self, number: int) -> Kept:
        with self._table() as table:
            if number not in table.jobs:
                raise NoSuchJob(str(number))
            return table.jobs[number]

    def job(self, number: int) -> Job:
        return self.kept(number).job

    def jobs(self, *, over: int = 20) -> list[Job]:
        del over
        with self._table() as table:
            return [kept.job for kept in table.jobs.values()]

    def counts(self) -> dict[str, int]:
        return {}

    def drop(self, number: int, *, now: bool = False) -> Job:
        def change(kept: Kept) -> None:
            if kept.job.state is JobState.RUNNING:
                kept.halt = Halt.NOW if now else Halt.AFTER_AGENT
            else:
                kept.job = replace(kept.job, state=JobState.CANCELLED)

        return self._change(number, change)

    def first(self, number: int) -> Job:
        raise NotImplementedError

    def retry(self, number: int) -> Job:
        def change(kept: Kept) -> None:
            kept.job, kept.retried, kept.halt = replace(kept.job, state=JobState.READY), time.time(), Halt.NONE

        return self._change(number, change)

    def pause(self, paused: bool) -> None:
        raise NotImplementedError

    def paused(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _change(self, number: int, change: Callable[[Kept], None]) -> Job:
        with self._table() as table:
            change(table.jobs[number])
            return table.jobs[number].job

    async def serve(
        self, worker: str, carry_out: CarryOut, *, slots: int, until_empty: bool, open_now: Callable[[], bool],
        stop: Stop,
    ) -> None:  # fmt: skip
        running: set[asyncio.Task[None]] = set()
        for job in self.jobs():
            if job.state is JobState.RUNNING and job.worker == worker:
                running.add(asyncio.create_task(self._carry_out(job.number, worker, carry_out, resumed=True)))
        while True:
            running = {task for task in running if not task.done() or task.result()}
            if stop.halt:
                break
            while len(running) < slots and open_now() and (number := self._take(worker)) is not None:
                running.add(asyncio.create_task(self._carry_out(number, worker, carry_out, resumed=False)))
            if until_empty and not running and all(job.state is not JobState.READY for job in self.jobs()):
                return
            await asyncio.sleep(_LOOK)
        await asyncio.gather(*running)

    def _take(self, worker: str) -> int | None:
        with self._table() as table:
            for number, kept in table.jobs.items():
                if kept.job.state is JobState.READY:
                    kept.job = replace(kept.job, state=JobState.RUNNING, worker=worker, started=time.time())
                    return number
        return None

    async def _carry_out(self, number: int, worker: str, carry_out: CarryOut, *, resumed: bool) -> None:
        kept = self.kept(number)
        taken = Taken(
            number=number, name=kept.job.name, order=kept.order, token=secrets.token_hex(4), cookie=kept.cookie,
            lost=kept.job.lost, resumed=resumed, retried=kept.retried,
        )  # fmt: skip
        try:
            result = await carry_out(_Held(self, taken))
        except Unfinished as unfinished:
            self._change(number, partial(_put_back, why=unfinished))
        else:
            self._change(number, lambda kept: _accept(kept, result))


def _put_back(kept: Kept, why: Unfinished) -> None:
    lost = kept.job.lost + why.lost
    state = JobState.FAILED if lost > MAX_LOST else JobState.READY
    kept.job = replace(kept.job, state=state, lost=lost, why=str(why))
    kept.results += state is JobState.FAILED


def _accept(kept: Kept, result: Result) -> None:
    kept.results += 1
    kept.job = replace(
        kept.job, state=result.state, exit_code=result.exit_code, why=result.why, run=result.run, ended=time.time()
    )  # fmt: skip


class _Held(Lease):
    def __init__(self, queue: FileQueue, taken: Taken) -> None:
        self.taken = taken
        self._queue = queue

    def begin(self, run: str, state_dir: str) -> None:
        def change(kept: Kept) -> None:
            kept.job = replace(kept.job, run=run, state_dir=state_dir)

        self._queue._change(self.taken.number, change)

    def note(self, text: str) -> None:
        def change(kept: Kept) -> None:
            kept.job = replace(kept.job, note=text)

        self._queue._change(self.taken.number, change)

    def wanted(self) -> Halt:
        return self._queue.kept(self.taken.number).halt


def open_queue(address: str | None = None) -> FileQueue:
    del address
    return FileQueue(Path(os.environ["SEQSUP_STATE_DIR"]) / "queue.json")
