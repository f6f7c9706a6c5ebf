"""The heartbeat of a fleet's worker: what the queue hears of it and of its jobs, and what it hears of the queue."""

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from seqsup import __version__
from seqsup.host.machine import PAGE, Host, machine_id
from seqsup.host.wake import Wake
from seqsup.metrics.queue_figures import WorkerFigures
from seqsup.model.enums import Halt
from seqsup.queue.fleet_link import LIMIT, AsyncLink
from seqsup.queue.held import MOST_OUTPUT, Contact, Held, News
from seqsup.queue.lease_file import extend
from seqsup.queue.rescue import Rescue
from seqsup.queue.store import QueueError, WorkerStop
from seqsup.state.run_folder import RUNS, state_dir, surely_alive

_BEATS = 5  # in a lease
_AGAIN = 1.0  # seconds until the next try to reach the server
_NOTES = 5.0  # seconds between two notes of a job
_MACHINES = 10  # that look after the others in each round of one of them


class Heartbeat:
    def __init__(
        self, link: AsyncLink, name: str, stop: WorkerStop, figures: WorkerFigures, say: Callable[[str], None],
        lease_file: Path,
    ) -> None:  # fmt: skip
        self.name, self.say, self.lease_file = name, say, lease_file
        self.contact, self.wake = Contact(), Wake()  # a poke: beat now
        self.held: dict[int, Held] = {}  # by token
        self.paused = self.drained = self.replaced = False
        self.changed: Callable[[], None] = lambda: None  # called when one of these has
        self._link, self._stop, self._figures, self._host = link, stop, figures, Host()
        self._incarnation = os.urandom(8).hex()
        self._workers = 1
        self._unreachable = False

    async def call(self, call: str, **values: object) -> Any:
        """Call a function of the queue, which is one transaction. QueueError: it may or may not have happened.

        A value that can be called is, at the last moment.
        """
        own = {"worker": self.name, "incarnation": self._incarnation}
        answer = await self._link.one(f"SELECT {call}", **own, **values)
        self._figures.beat()
        return answer

    async def until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call until the server answers. CancelledError: this worker was told to end at once meanwhile."""
        while True:
            try:
                return await call()
            except QueueError as error:
                self.miss(error)
                if self._stop.halt >= Halt.NOW:
                    raise asyncio.CancelledError from error
                await Wake().wait(_AGAIN)

    async def enter(self, slots: int) -> None:
        """Tell of this worker, and have back what an earlier one of its name had. QueueError: that one lives."""
        other = await self.call(
            "seqsup_enter(%(worker)s, %(place)s, %(incarnation)s, %(host)s, %(pid)s, %(slots)s, %(version)s,"
            " %(memory)s, %(available)s)",
            place=f"{machine_id()}:{state_dir()}", host=socket.gethostname(), pid=os.getpid(), slots=slots,
            version=__version__, memory=os.sysconf("SC_PHYS_PAGES") * PAGE, available=self._host.available(),
        )  # fmt: skip
        if other is not None:
            raise QueueError(f"a worker named {self.name} lives on {other}: stop it, or choose another --name")
        own = await self._link.one(
            "SELECT coalesce(jsonb_agg(jsonb_build_array(number, run, state_dir)), '[]') FROM seqsup_jobs"
            " WHERE worker = %(worker)s AND state = 'running' AND run IS NOT NULL",
            worker=self.name,
        )  # fmt: skip
        await self.beat([number for number, run, folder in own if surely_alive(Path(folder) / RUNS / run)])

    async def leave(self) -> None:
        with suppress(QueueError):
            await self.call("seqsup_leave(%(worker)s, %(incarnation)s)")

    async def keep(self, app: App) -> None:
        """Beat, tell of the jobs, and look after the other machines, until it is cancelled."""
        rescue = Rescue(self._link, app, self._figures)
        rescue_at, notes_at = 0.0, 0.0
        while True:
            try:
                if self.contact.now() >= notes_at or any(held.news.run for held in self.held.values()):
                    await self._tell_all()
                    notes_at = self.contact.now() + _NOTES
                await self.beat()
                pause = self.contact.lease / _BEATS
                if self.contact.now() >= rescue_at and self.contact.may_rescue():
                    await rescue.round()
                    rounds = min(pause, _NOTES) * max(self._workers / _MACHINES, 1)
                    rescue_at = self.contact.now() + rounds * random.uniform(0.5, 1)  # not all machines at once
                await self.wake.wait(min(pause, _NOTES))
            except (QueueError, ConnectorException) as error:
                self.miss(error)
                rescue.looked = False
                await Wake().wait(min(_AGAIN, self.contact.lease / _BEATS))

    async def beat(self, lives: Sequence[int] = ()) -> None:
        """Tell that this worker lives. `lives` has jobs of an earlier one whose supervisors do."""
        asked, held = self.contact.now(), dict[int, Held]()

        def tokens() -> list[int]:  # at the last moment: the queue takes back what is not among them
            held.update(self.held)
            return list(held)

        told = await self.call(
            "seqsup_beat(%(worker)s, %(incarnation)s, %(available)s, %(held)s::bigint[], %(lives)s::bigint[])",
            available=self._host.available(), held=tokens, lives=list(lives),
        )  # fmt: skip
        if self._unreachable:
            self._unreachable = False
            self.say(f"the queue answers again after {self.contact.silence():.0f} s")
        if not told["known"]:
            self.replaced = True
            for each in held.values():
                each.void = True
            self.changed()
            return
        self.contact.answered(asked)
        self.contact.lease, self.contact.ride_out = float(told["lease"]), told["ride_out"]
        with suppress(OSError):  # the last one still holds; a full disk stops a job early
            extend(self.lease_file, self.contact)
        self._link.limit = min(LIMIT, self.contact.lease / 2)
        self._workers = int(told["workers"])
        for token, each in held.items():
            each.hear(told["stops"].get(str(token)))
        before, (self.paused, self.drained) = (self.paused, self.drained), (told["paused"], told["drain"])
        if before != (self.paused, self.drained):
            if self.drained and not before[1]:
                self.say(f"worker {self.name} is drained: it takes no further job; a restart ends that")
            self.changed()

    async def _tell_all(self) -> None:
        for held in list(self.held.values()):
            held.read_output()
            if held.news and held.claimed:
                await self.tell(held)

    async def tell(self, held: Held) -> None:
        """Tell the queue what is new of a job."""
        news, held.news = held.news, News()
        try:
            await self.call(
                "seqsup_tell(%(number)s, %(token)s, %(run)s, %(dir)s, %(note)s, %(output)s::bytea, %(most)s)",
                number=held.taken.number, token=held.token, run=news.run, dir=news.state_dir, note=news.note,
                output=news.output, most=MOST_OUTPUT,
            )  # fmt: skip
        except QueueError:
            held.news = news.followed_by(held.news)
            raise

    def miss(self, error: BaseException) -> None:
        """Say once that the server does not answer."""
        if not self._unreachable and self.contact.silence() > self._link.limit / 2:
            self._unreachable = True
            after = "its agents keep running" if self.contact.ride_out else "then this worker stops its agents"
            self.say(f"{error}; trying again; without an answer for {self.contact.patience():.0f} s {after}")
