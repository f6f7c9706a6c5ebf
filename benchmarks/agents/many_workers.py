"""Play so many workers of a fleet, each with a job of so many seconds after another, for so many seconds.

It prints what they did as JSON: milliseconds of each fetch and each claim, heartbeats, jobs, and how late its own event
loop was, in milliseconds: so much of a fetch is not the server's.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from procrastinate import PsycopgConnector

from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue.fleet import FleetQueue
from seqsup.queue.fleet_link import Address, AsyncLink
from seqsup.queue.fleet_worker import CHANNELS, FleetWorker
from seqsup.queue.heartbeat import Heartbeat
from seqsup.queue.jobs import JobResult, NewJob, Order
from seqsup.queue.store import Lease

_TICK = 0.05  # seconds
url, number, seconds, length = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
told: dict[str, list[float]] = {"fetches": [], "claims": [], "beats": [], "lateness": []}
jobs = 0
measuring = False


class Stop:
    halt = Halt.NONE

    def __init__(self) -> None:
        self._subscribers: list[Callable[..., None]] = []

    def subscribe(self, subscriber: Callable[..., None]) -> Callable[..., None]:
        self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Callable[..., None]) -> None:
        self._subscribers.remove(subscriber)

    def end(self) -> None:
        self.halt = Halt.NOW
        for subscriber in self._subscribers:
            subscriber()


def timed(owner: type, name: str, kind: Callable[[str], str | None]) -> None:
    """Have a method of queries record its milliseconds. `kind` says where, from the text of the query."""
    method = getattr(owner, name)

    async def call(self: Any, query: str, **values: Any) -> Any:
        began = time.perf_counter()
        try:
            return await method(self, query, **values)
        finally:
            if measuring and (where := kind(query)):
                told[where].append((time.perf_counter() - began) * 1000)

    setattr(owner, name, call)


def of_link(query: str) -> str | None:
    return "claims" if "seqsup_claim" in query else "beats" if "seqsup_beat" in query else None


async def carry_out(_: Lease) -> JobResult:
    global jobs
    await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
    jobs += measuring
    return JobResult(exit_code=0, run="r1")


async def watch_loop() -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_TICK)
        told["lateness"].append((time.perf_counter() - before - _TICK) * 1000)


async def main(folder: Path) -> None:
    global measuring
    stop = Stop()
    tasks = []
    watching = asyncio.create_task(watch_loop())
    for which in range(number):
        link = AsyncLink(Address(url), CHANNELS[:1])
        heartbeat = Heartbeat(link, f"w{which}", stop, WorkerFigures(), lambda _: None, folder / f"lease-{which}")
        worker = FleetWorker(link, heartbeat, carry_out, lambda: True, stop, until_empty=False)
        tasks.append(asyncio.create_task(worker.serve(1)))
        await asyncio.sleep(seconds / number)  # so that they do not all fetch at the same time
    told["lateness"].clear()
    measuring = True
    await asyncio.sleep(length)
    measuring = False
    watching.cancel()
    failed = sum(task.done() for task in tasks)
    stop.end()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({**told, "jobs": jobs, "failed": failed}))


timed(PsycopgConnector, "execute_query_one_async", lambda query: "fetches" if "fetch_job" in query else None)
timed(AsyncLink, "one", of_link)
queue = FleetQueue(url)
queue.add([NewJob(name="plays", order=Order(folder="/"))] * int(number * (2 + length / seconds) * 1.3))
queue.close()
with TemporaryDirectory() as place:
    asyncio.run(main(Path(place)))
