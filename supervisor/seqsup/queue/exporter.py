"""A worker's metrics and those of its queue, for Prometheus."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from seqsup import __version__
from seqsup.host.forks import STEADY
from seqsup.metrics.endpoint import Endpoint, PortTaken
from seqsup.metrics.queue_figures import QueueFigures, WorkerFigures
from seqsup.queue.jobs import JobResult, JobState
from seqsup.queue.store import CarryOut, Lease, Queue, QueueError, Unfinished

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from seqsup.metrics.rows import Row

_FRESH = 1.0  # seconds for which what the queue told is kept, at least
_SHARE = 0.05  # of the time may go into asking
_STALEST = 10.0  # seconds for which it is kept, at most


class WorkerExporter:
    """Serves them at an address, in threads: no scrape delays the worker."""

    def __init__(
        self, listen: str, queue: str, worker: str, figures: WorkerFigures, open_queue: Callable[[], Queue]
    ) -> None:  # fmt: skip
        """`queue` is the name of the queue. Threads ask a queue of their own, from `open_queue`."""
        self._name, self._worker, self._figures = queue, worker, figures
        self._look = QueueLook(open_queue)
        self._endpoint = Endpoint(listen, self._application, "--listen")

    def open(self) -> str:
        """Serve, and return the address in use; PortTaken if it is not available."""
        try:
            self._endpoint.bind()
        except PortTaken as taken:
            raise PortTaken(f"{taken}; choose another address") from None
        self._endpoint.serve()
        return self._endpoint.address or self._endpoint.listen

    def close(self) -> None:
        self._endpoint.close()

    def _application(self) -> "WSGIApplication":
        from seqsup.metrics.exposition import Collector, application

        return application(Collector(self._name, self._rows))

    def _rows(self) -> "list[Row]":
        with STEADY:
            from seqsup.metrics.rows import worker_rows

            return list(worker_rows(self._worker, __version__, self._figures, self._look()))


class QueueLook:
    """Asks a queue for its figures. What it told is kept for a while, so that scrapes do not slow the queue."""

    def __init__(self, open_queue: Callable[[], Queue]) -> None:
        self._open = open_queue
        self._lock = threading.Lock()
        self._kept: QueueFigures | None = None
        self._until = 0.0

    def __call__(self) -> QueueFigures | None:
        """Return the figures; None: the queue does not answer."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._kept = self._ask()
                now = time.monotonic()
                self._until = now + min(max(_FRESH, (now - began) / _SHARE), _STALEST)
            return self._kept

    def _ask(self) -> QueueFigures | None:
        try:
            with closing(self._open()) as queue:
                return QueueFigures(
                    jobs={state.value: number for state, number in queue.counts().items()},
                    oldest_wait=queue.oldest_wait(),
                    paused=queue.paused(),
                    workers=len(queue.workers()),
                )
        except QueueError:
            return None


def counted(carry_out: CarryOut, figures: WorkerFigures) -> CarryOut:
    """Carry jobs out, and count them."""

    async def carry(lease: Lease) -> JobResult:
        figures.jobs += 1
        try:
            result = await carry_out(lease)
        except Unfinished:
            raise
        except Exception:
            figures.end(JobState.FAILED)
            raise
        finally:
            figures.jobs -= 1
        figures.end(result.state)
        return result

    return carry
