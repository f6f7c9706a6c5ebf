"""Jobs of lost workers, and deliveries that got lost on their way: given to others."""

from procrastinate import App

from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.queue.fleet_link import AsyncLink
from seqsup.queue.held import boot_seconds

_ON_ITS_WAY = 5.0  # seconds that a worker may take between a fetch and its claim; more does no harm


class Rescue:
    """Looks after all machines, next to the jobs of a worker, so that it needs no slot. One machine at a time does."""

    def __init__(self, link: AsyncLink, app: App, figures: WorkerFigures) -> None:
        self._link, self._app, self._figures = link, app, figures
        self._suspects: dict[int, float] = {}  # deliveries without a job that runs -> when they were first seen
        self.looked = False  # for lost deliveries, since a machine or the server was lost

    async def round(self) -> None:
        found = await self._link.one("SELECT seqsup_rescue()")
        for _ in range(found["rescued"]):
            self._figures.rescue()
        for _ in range(found["given_up"]):
            self._figures.give_up()
        if found["lost"] or not self.looked or self._suspects:
            self.looked = True
            await self._look()

    async def _look(self) -> None:
        """Settle deliveries that were fetched, and that no worker carries out: the answer or the worker was lost."""
        fetched = [job.id for job in await self._app.job_manager.list_jobs_async(task="seqsup", status="doing")]
        orphans = await self._link.one("SELECT seqsup_orphans(%(fetched)s::bigint[])", fetched=fetched)
        now = boot_seconds()
        self._suspects = {orphan: self._suspects.get(orphan, now) for orphan in orphans}
        settled = [orphan for orphan, since in self._suspects.items() if now - since >= _ON_ITS_WAY]
        if settled:
            await self._link.one("SELECT seqsup_settle(%(orphans)s::bigint[])", orphans=settled)
