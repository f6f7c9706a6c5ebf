"""The figures of a queue and of a worker. As in `figures`, a field with a metric's name is that metric."""

import time
from collections.abc import Mapping

from msgspec import Struct, field


class QueueFigures(Struct, frozen=True, kw_only=True):
    """A queue at one moment."""

    jobs: Mapping[str, int] = field(name="queue_jobs")  # by state
    oldest_wait: float = field(name="queue_oldest_wait_seconds")
    paused: bool = field(name="queue_paused")
    workers: int = field(name="queue_workers")


class WorkerFigures(Struct, kw_only=True):
    """A worker since it began. It writes them, and a scrape reads them in another thread."""

    slots: int = field(default=1, name="worker_slots")
    jobs: int = field(default=0, name="worker_jobs")
    ended: dict[str, int] = field(default_factory=dict, name="worker_jobs_ended_total")
    heartbeat: float | None = field(default=None, name="worker_last_heartbeat_timestamp_seconds")
    rescued: int = field(default=0, name="worker_jobs_rescued_total")
    last_rescue: float | None = field(default=None, name="worker_last_rescue_timestamp_seconds")
    given_up: int = field(default=0, name="worker_jobs_given_up_total")
    last_given_up: float | None = field(default=None, name="worker_last_given_up_timestamp_seconds")

    def beat(self) -> None:
        """The queue has answered."""
        self.heartbeat = time.time()

    def rescue(self) -> None:
        """It took over the job of a lost worker, or made it ready again."""
        self.rescued, self.last_rescue = self.rescued + 1, time.time()

    def give_up(self) -> None:
        """It found a job that has lost too many workers."""
        self.given_up, self.last_given_up = self.given_up + 1, time.time()

    def end(self, state: str) -> None:
        self.ended[state] = self.ended.get(state, 0) + 1
