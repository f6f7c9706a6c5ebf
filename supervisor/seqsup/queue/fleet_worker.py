"""A worker of a fleet. Procrastinate hands it deliveries; it claims the job, carries it out, and tells the result."""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from seqsup import __version__
from seqsup.host.machine import PAGE, Host, machine_id
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.queue.fleet_link import LIMIT, Address, AsyncLink
from seqsup.queue.held import MOST_OUTPUT, Contact, Held, News
from seqsup.queue.jobs import SCHEMA, JobResult, Order, Taken, job_label
from seqsup.queue.rescue import Rescue
from seqsup.queue.store import CarryOut, QueueError, Unfinished, WorkerStop
from seqsup.state.run_folder import RUNS, state_dir, surely_alive

_BEATS = 5  # in a lease
_LONGEST_SLEEP = 30.0  # seconds, since no message tells of a window that opens
_AGAIN = 1.0  # seconds until the next try to reach the server
_NOTES = 5.0  # seconds between two notes of a job
_NEVER = 86400.0  # seconds; what Procrastinate would do besides, we do
_FAULT = 70


class _Deliveries(JobManager):
    """Jobs of Procrastinate. Each ends in the transaction that accepts its result or gives it to another worker."""

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        del job, status, delete_job


class FleetWorker:
    def __init__(
        self, address: Address, name: str, carry_out: CarryOut, slots: int, until_empty: bool,
        open_now: Callable[[], bool], stop: WorkerStop, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._name, self._carry_out, self._slots, self._until_empty = name, carry_out, slots, until_empty
        self._open_now, self._stop, self._say = open_now, stop, say
        self._incarnation = os.urandom(8).hex()
        self._link = AsyncLink(address, ("seqsup", "seqsup_end") if until_empty else ("seqsup",), self._hear)
        self._contact, self._host = Contact(), Host()
        self._held: dict[int, Held] = {}  # by token
        self._beat_now, self._work = Wake(), Wake()  # for the heartbeat; for slots without a job
        self._paused = self._drained = self._empty = self._replaced = False
        self._newer: int | None = None  # a job of a newer schema, once it was told of
        self._others = 1
        self._unreachable = False

    async def serve(self) -> None:
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL + 1)  # it repeats what we tell
        logging.getLogger("psycopg").setLevel(logging.CRITICAL + 1)
        subscribed = self._stop.subscribe(lambda *_: self._poke())
        beating: asyncio.Task[None] | None = None
        try:
            await self._enter()
            app = self._app()
            await app.open_async(self._link)
            beating = asyncio.create_task(self._beating(app))
            async with asyncio.TaskGroup() as slots:
                for _ in range(self._slots):
                    slots.create_task(self._slot(app, self._work.branch()))
        finally:
            self._stop.unsubscribe(subscribed)
            if beating is not None:
                beating.cancel()
                await asyncio.wait([beating])
                with suppress(QueueError):
                    await self._call("seqsup_leave(%(who)s, %(incarnation)s)")
            await self._link.close()
        if self._replaced:
            raise QueueError(f"another worker named {self._name} has started: this one ends; choose another --name")

    async def _enter(self) -> None:
        place = f"{machine_id()}:{state_dir()}"
        other = await self._call(
            "seqsup_enter(%(who)s, %(place)s, %(incarnation)s, %(host)s, %(pid)s, %(slots)s, %(version)s, %(memory)s,"
            " %(available)s)",
            place=place, host=socket.gethostname(), pid=os.getpid(), slots=self._slots, version=__version__,
            memory=os.sysconf("SC_PHYS_PAGES") * PAGE, available=self._host.available(),
        )  # fmt: skip
        if other is not None:
            raise QueueError(f"a worker named {self._name} lives on {other}: stop it, or choose another --name")
        own = await self._link.one(
            "SELECT coalesce(jsonb_agg(jsonb_build_array(number, run, state_dir)), '[]') FROM seqsup_jobs"
            " WHERE worker = %(who)s AND state = 'running' AND run IS NOT NULL",
            who=self._name,
        )  # fmt: skip
        await self._beat([number for number, run, folder in own if surely_alive(Path(folder) / RUNS / run)])

    async def _call(self, call: str, **values: object) -> Any:
        """Call a function of the queue, which is one transaction. QueueError: it may or may not have happened."""
        own = {"who": self._name, "incarnation": self._incarnation}
        return await self._link.one(f"SELECT {call}", **own, **values)

    async def _until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call until the server answers. CancelledError: this worker was told to end at once meanwhile."""
        while True:
            try:
                return await call()
            except QueueError as error:
                self._miss(error)
                if self._stop.halt >= Halt.NOW:
                    raise asyncio.CancelledError from error
                await asyncio.sleep(_AGAIN)

    def _poke(self) -> None:
        self._beat_now.poke()
        self._work.poke()

    def _hear(self, channel: str, said: str) -> None:
        """Take what others tell: `job` or `look`, for all or followed by a worker; on the other channel an end."""
        if channel != "seqsup":
            self._work.poke()
            return
        what, _, whom = said.partition(" ")
        if whom in ("", self._name):
            (self._work if what == "job" else self._beat_now).poke()

    # -- the heartbeat

    async def _beating(self, app: App) -> None:
        rescue = Rescue(self._link, app)
        rescue_at, notes_at = 0.0, 0.0
        while True:
            try:
                if self._contact.now() >= notes_at or any(held.news.run for held in self._held.values()):
                    await self._tell_news()
                    notes_at = self._contact.now() + _NOTES
                await self._beat()
                if self._contact.now() >= rescue_at and self._contact.may_rescue():
                    await rescue.round()
                    pause = min(self._contact.lease / _BEATS, _NOTES) * max(self._others / 10, 1)
                    rescue_at = self._contact.now() + pause * random.uniform(0.5, 1)  # not all machines at once
                pause = self._contact.lease / _BEATS
                await self._beat_now.wait(min(pause, _NOTES) if self._held else pause)
            except (QueueError, ConnectorException) as error:
                self._miss(error)
                rescue.looked = False
                await asyncio.sleep(min(_AGAIN, self._contact.lease / _BEATS))

    async def _beat(self, lives: Sequence[int] = ()) -> None:
        lives = list(lives)
        asked, held = self._contact.now(), dict(self._held)
        told = await self._call(
            "seqsup_beat(%(who)s, %(incarnation)s, %(available)s, %(held)s::bigint[], %(lives)s::bigint[])",
            available=self._host.available(), held=list(held), lives=lives,
        )  # fmt: skip
        if self._unreachable:
            self._unreachable = False
            self._say(f"the queue answers again after {self._contact.silence():.0f} s")
        if not told["known"]:
            self._replaced = True
            for each in held.values():
                each.void = True
            self._poke()
            return
        self._contact.answered(asked)
        self._contact.lease, self._contact.ride_out = float(told["lease"]), told["ride_out"]
        self._link.limit = min(LIMIT, self._contact.lease / 2)
        self._others = int(told["workers"])
        for token, each in held.items():
            stop = told["stops"].get(str(token))
            each.void = each.void or (stop is None and hasattr(each, "taken") and token in self._held)
            each.stop = Halt(max(each.stop, stop or 0))
        before, (self._paused, self._drained) = (self._paused, self._drained), (told["paused"], told["drain"])
        if before != (self._paused, self._drained):
            if self._drained and not before[1]:
                self._say(f"worker {self._name} is drained: it takes no further job; a restart ends that")
            self._work.poke()

    async def _tell_news(self) -> None:
        for held in list(self._held.values()):
            if held.news and hasattr(held, "taken"):
                await self._tell(held)

    async def _tell(self, held: Held) -> None:
        news, held.news = held.news, News()
        try:
            await self._call(
                "seqsup_tell(%(number)s, %(token)s, %(run)s, %(dir)s, %(note)s, %(output)s::bytea, %(most)s)",
                number=held.taken.number, token=held.token, run=news.run, dir=news.state_dir, note=news.note,
                output=news.output, most=MOST_OUTPUT,
            )  # fmt: skip
        except QueueError:
            held.news = news.followed_by(held.news)
            raise

    def _miss(self, error: BaseException) -> None:
        """Tell once of a server that does not answer."""
        if not self._unreachable and self._contact.silence() > self._link.limit / 2:
            self._unreachable = True
            after = "its agents keep running" if self._contact.ride_out else "then it stops its agents"
            self._say(f"{error}; it is tried again for {self._contact.lease * 0.6:.0f} s, {after}")

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
        while not (self._stop.halt or self._replaced or self._empty):
            try:
                if await self._take(app):
                    continue
                pause = await self._look_ahead()
            except (QueueError, ConnectorException) as error:
                self._miss(error)
                pause = _AGAIN
            if not (self._empty or self._stop.halt or self._replaced):
                await wake.wait(pause)

    def _takes(self) -> bool:
        return not (self._stop.halt or self._replaced or self._paused or self._drained) and self._open_now()

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
        seen = await self._call("seqsup_outlook(%(schema)s)", schema=SCHEMA)
        if self._newer is None and seen["newer"] is not None:
            self._newer = seen["newer"]
            self._say(f"{job_label(seen['newer'])} was added by a newer seqsup: upgrade this machine to run such jobs")
        if self._until_empty and not seen["goes_on"]:
            self._empty = True
            self._poke()
        return min(_LONGEST_SLEEP, max(float(seen["due"]) + 0.01, 0.05) if seen["due"] is not None else _LONGEST_SLEEP)

    # -- carrying a job out

    async def _delivered(self, token: int, number: int) -> None:
        held = self._held[token] = Held(token, self._contact, self._beat_now.poke)
        try:
            taken = await self._until_answered(lambda: self._claim(held, number))
            if taken is None:
                return
            held.taken = taken
            await self._carry(held)
        finally:
            del self._held[token]

    async def _claim(self, held: Held, number: int) -> Taken | None:
        told = await self._call(
            "seqsup_claim(%(number)s, %(token)s, %(who)s, %(incarnation)s, %(takes)s)",
            number=number, token=held.token, takes=self._takes(),
        )  # fmt: skip
        if told is None:
            await self._beat()  # it tells why
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
        if held.news.output:
            await self._until_answered(lambda: self._tell(held))
        if result is None:
            kept = await self._until_answered(
                lambda: self._call(
                    "seqsup_release(%(number)s, %(token)s, %(why)s, %(outlived)s)",
                    number=number, token=held.token, why=release, outlived=outlived,
                )
            )  # fmt: skip
        else:
            kept = await self._until_answered(
                lambda: self._call(
                    "seqsup_accept(%(number)s, %(token)s, %(state)s, %(code)s, %(run)s, %(why)s)",
                    number=number, token=held.token, state=str(result.state), code=result.exit_code, run=result.run,
                    why="\n".join((result.why, *result.branches)).strip(),
                )
            )  # fmt: skip
        if not kept:
            self._say(f"{job_label(number)}: another worker has the job by now, so this result does not count")
