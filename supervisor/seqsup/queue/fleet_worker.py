"""A worker of a fleet. Procrastinate hands it deliveries; it claims the job, carries it out, and tells the result."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.queue.fleet_link import AsyncLink
from seqsup.queue.heartbeat import Heartbeat
from seqsup.queue.held import Held
from seqsup.queue.jobs import SCHEMA, JobResult, Order, Taken, job_label
from seqsup.queue.store import CarryOut, QueueError, Unfinished, WorkerStop

CHANNELS = ("seqsup", "seqsup_end")  # what workers are told; the numbers of jobs that end
_LONGEST_SLEEP = 30.0  # seconds, since no message tells of a window that opens
_AGAIN = 1.0  # seconds until the next try to reach the server
_NEVER = 86400.0  # seconds; what Procrastinate would do besides, we do
_FAULT = 70


class _Deliveries(JobManager):
    """Jobs of Procrastinate. Each ends in the transaction that accepts its result or gives it to another worker."""

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        del job, status, delete_job


class FleetWorker:
    def __init__(
        self, link: AsyncLink, heartbeat: Heartbeat, carry_out: CarryOut, open_now: Callable[[], bool],
        stop: WorkerStop, *, until_empty: bool,
    ) -> None:  # fmt: skip
        self._link, self._heartbeat, self._carry_out = link, heartbeat, carry_out
        self._open_now, self._stop, self._until_empty = open_now, stop, until_empty
        self._name, self._say = heartbeat.name, heartbeat.say
        self._work = Wake()  # for slots without a job
        self._empty = False
        self._newer: int | None = None  # a job of a newer schema, once it has been reported

    async def serve(self, slots: int) -> None:
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL + 1)  # it repeats what we tell
        logging.getLogger("psycopg").setLevel(logging.CRITICAL + 1)
        self._link.hear, self._heartbeat.changed = self._hear, self._work.poke
        subscribed = self._stop.subscribe(lambda *_: self._work.poke())
        try:
            await self._heartbeat.enter(slots)
            app = self._app()
            await app.open_async(self._link)
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._heartbeat.keep(app))
                taking = [group.create_task(self._slot(app, self._work.branch())) for _ in range(slots)]
                await asyncio.wait(taking)
                beating.cancel()
            await self._heartbeat.leave()
        finally:
            self._stop.unsubscribe(subscribed)
            await self._link.close()
        if self._heartbeat.replaced:
            raise QueueError(f"another worker named {self._name} has started: this one ends; choose another --name")

    def _hear(self, channel: str, said: str) -> None:
        """Take what others tell: `job` or `look`, for all or followed by a worker; on the other channel an end."""
        what, _, whom = said.partition(" ")
        if channel != CHANNELS[0] or (what == "job" and whom in ("", self._name)):
            self._work.poke()
        elif whom in ("", self._name):
            self._heartbeat.wake.poke()

    # -- taking jobs

    def _app(self) -> App:
        app = App(connector=PsycopgConnector())
        app.job_manager = _Deliveries(app.connector)

        @app.task(name="seqsup", pass_context=True)
        async def _delivered(context: JobContext, number: int) -> None:
            assert context.job.id is not None
            await self._delivered(context.job.id, number)

        return app

    async def _slot(self, app: App, wake: Wake) -> None:
        """Take one job after another."""
        while not (self._stop.halt or self._heartbeat.replaced or self._empty):
            try:
                if await self._take(app):
                    continue
                pause = await self._look_ahead()
            except (QueueError, ConnectorException) as error:
                self._heartbeat.miss(error)
                pause = _AGAIN
            if not (self._empty or self._stop.halt or self._heartbeat.replaced):
                await wake.wait(pause)

    def _takes(self) -> bool:
        return (
            not (self._stop.halt or self._heartbeat.replaced or self._heartbeat.paused or self._heartbeat.drained)
            and self._open_now()
        )

    async def _take(self, app: App) -> bool:
        """Take jobs until there is none for this worker. False: there was none.

        Those that an earlier worker of this name had are taken also where nothing else may be taken.
        """
        taken = False

        async def between(carry: Callable[[], Awaitable[Any]], _: JobContext, engine: Worker) -> Any:
            nonlocal taken
            taken = True
            try:
                return await carry()
            finally:
                if not self._takes():
                    engine.stop()  # type: ignore[no-untyped-call]

        queues = [f"seqsup@{self._name}"]
        if self._takes():
            queues += [f"seqsup-{schema}" for schema in range(1, SCHEMA + 1)]
        await app.run_worker_async(
            queues=queues, concurrency=1, wait=False, listen_notify=False, install_signal_handlers=False,
            update_heartbeat_interval=_NEVER / 24, stalled_worker_timeout=_NEVER, abort_job_polling_interval=_NEVER,
            worker_middleware=[between],
        )  # fmt: skip
        return taken

    async def _look_ahead(self) -> float:
        """Return for how many seconds there is nothing to take, unless this worker is told otherwise."""
        seen = await self._heartbeat.call("seqsup_outlook(%(schema)s)", schema=SCHEMA)
        if self._newer is None and seen["newer"] is not None:
            self._newer = seen["newer"]
            self._say(f"{job_label(seen['newer'])} was added by a newer seqsup: upgrade this machine to run such jobs")
        if self._until_empty and not seen["goes_on"]:
            self._empty = True
            self._work.poke()
        return min(_LONGEST_SLEEP, max(float(seen["due"]) + 0.01, 0.05) if seen["due"] is not None else _LONGEST_SLEEP)

    # -- carrying a job out

    async def _delivered(self, token: int, number: int) -> None:
        held = self._heartbeat.held[token] = Held(
            token, self._heartbeat.contact, self._heartbeat.wake.poke, self._heartbeat.lease_file
        )
        try:
            taken = await self._heartbeat.until_answered(lambda: self._claim(held, number))
            if taken is None:
                return
            held.taken = taken
            await self._carry(held)
        finally:
            del self._heartbeat.held[token]

    async def _claim(self, held: Held, number: int) -> Taken | None:
        told = await self._heartbeat.call(
            "seqsup_claim(%(number)s, %(token)s, %(worker)s, %(incarnation)s, %(takes)s)",
            number=number, token=held.token, takes=self._takes(),
        )  # fmt: skip
        if told is None:
            await self._heartbeat.beat()  # it tells why
            return None
        held.stop = Halt(told["stop"])
        return Taken(
            number=number, name=told["name"], order=msgspec.json.decode(told["body"], type=Order),
            token=str(held.token), cookie=told["cookie"], lost=told["lost"], resumed=told["resumed"],
            retried=told["retried"] and float(told["retried"]),
        )  # fmt: skip

    async def _carry(self, held: Held) -> None:
        """Carry a job out. Its result is in the journal of runs by then, so it may wait for the server."""
        number, release = held.taken.number, ""
        outlived, result = 0, None
        try:
            result = await self._carry_out(held)
        except Unfinished as unfinished:
            release, outlived = str(unfinished), int(unfinished.lost)
        except Exception as error:
            result = JobResult(exit_code=_FAULT, run=None, why=f"internal error: {error!r}")
        if held.given_up and (result is None or result.cancelled):
            result, outlived = None, 0
            release = f"worker {self._name} could not reach the queue, and stopped it"
        held.read_output()
        if held.news.output:
            await self._heartbeat.until_answered(lambda: self._heartbeat.tell(held))
        if result is None:
            kept = await self._heartbeat.until_answered(
                lambda: self._heartbeat.call(
                    "seqsup_release(%(number)s, %(token)s, %(why)s, %(outlived)s)",
                    number=number, token=held.token, why=release, outlived=outlived,
                )
            )  # fmt: skip
        else:
            kept = await self._heartbeat.until_answered(
                lambda: self._heartbeat.call(
                    "seqsup_accept(%(number)s, %(token)s, %(state)s, %(code)s, %(run)s, %(why)s)",
                    number=number, token=held.token, state=str(result.state), code=result.exit_code, run=result.run,
                    why="\n".join((result.why, *result.branches)).strip(),
                )
            )  # fmt: skip
        if not kept:
            self._say(f"{job_label(number)}: another worker has the job by now, so this result does not count")
