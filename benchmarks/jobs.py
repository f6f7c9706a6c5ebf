"""What the embedded queue costs: its commands, and its calls with many waiting jobs over those with few."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from lab import SEQSUP, Lab, Row, median

from seqsup.queue.desk import Desk
from seqsup.queue.embedded import EmbeddedQueue
from seqsup.queue.embedded_file import QueueFile
from seqsup.queue.jobs import JobResult, NewJob, Order

FEW, MANY = 100, 100_000
CALLS, REPEATS = 200, 11
BATCH = 100  # jobs of one call
ORDER = Order(folder="/", profile="#" * 4000)
DONE = JobResult(exit_code=0, run="r1")


class Place:
    """A queue with many jobs of all kinds, and a worker."""

    def __init__(self, state_dir: Path, jobs: int) -> None:
        self.queue, self._file = EmbeddedQueue(state_dir), QueueFile(state_dir)
        self.desk = Desk(state_dir, self._file, "bench")
        for _ in range(jobs // BATCH):
            self.queue.add([self._job(number) for number in range(BATCH)])

    @staticmethod
    def _job(number: int) -> NewJob:
        """Return one of a hundred: a tenth each waits for its time, or for the first one."""
        timed, waits = number % 10 == 1, number % 10 == 2
        return NewJob(
            name=f"job-{number}", order=ORDER, priority=number % 3, after=(-1,) if waits else (),
            not_before=time.time() + 86400 if timed else None,
        )  # fmt: skip

    def calls(self) -> dict[str, Callable[[], Any]]:
        return {
            "add": lambda: self.queue.add([self._job(0)]),
            "list and count": lambda: (self.queue.jobs(), self.queue.counts(), self.queue.oldest_wait()),
            "move to the head": lambda: self.queue.first(1 + BATCH // 2),
            "take": self.desk.take,
        }

    def close(self) -> None:
        self.queue.close()
        self._file.close()


def measure(lab: Lab) -> list[Row]:
    return [*commands(lab), *calls(lab)]


def commands(lab: Lab) -> list[Row]:
    lab.seconds([*SEQSUP, "run", "--", "/bin/true"])
    tried = {"status": ["status"], "add": ["add", "--", "/bin/true"], "queue": ["queue"]}
    taken: dict[str, list[float]] = {name: [] for name in tried}
    for _ in range(REPEATS):
        for name, command in tried.items():
            taken[name].append(lab.seconds([*SEQSUP, *command]) * 1000)
    status = median(taken["status"])
    return [
        Row(f"seqsup {name} over seqsup status", [each / status for each in taken[name]], "×",
            f"{median(taken[name]):.0f} ms, status {status:.0f} ms", target=2.0)
        for name in ("add", "queue")
    ]  # fmt: skip


def calls(lab: Lab) -> list[Row]:
    """Measure both queues by turns: on a busy machine only so they compare."""
    with closing(Place(lab.folder / "few", FEW)) as few, closing(Place(lab.folder / "many", MANY)) as many:
        rows = []
        for name in few.calls():
            seconds: dict[Place, list[float]] = {few: [], many: []}
            for _ in range(CALLS):
                for place in (few, many):
                    seconds[place].append(_timed(place, name))
            least = median(seconds[few])
            rows.append(
                Row(
                    f"embedded queue, {name}: {MANY:,} waiting jobs over {FEW}",
                    [median(seconds[many]) / least], "×",
                    f"{median(seconds[many]) * 1e6:.0f} µs over {least * 1e6:.0f} µs", target=2.0,
                )
            )  # fmt: skip
    return rows


def _timed(place: Place, name: str) -> float:
    call = place.calls()[name]
    began = time.perf_counter()
    found = call()
    took = time.perf_counter() - began
    if name == "take":  # so that the queue stays as long as it is
        place.desk.finish(found, DONE)
        place.calls()["add"]()
    return took
