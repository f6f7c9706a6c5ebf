"""One companion: looked at, started and stopped as policy.companion says, and asked to collect between agents."""

import asyncio
import time
from collections.abc import Callable
from math import inf

from msgspec.structs import replace

from seqsup.errors import Stopped
from seqsup.model import events
from seqsup.model.enums import Halt, Restart, Verdict
from seqsup.model.events import GcDone, GcRequested, Owner, Warned
from seqsup.model.outcome import Exit
from seqsup.model.plan import CompanionStart
from seqsup.model.process import Collection
from seqsup.node.forensics import above
from seqsup.policy import classify, companion
from seqsup.policy.companion import CompanionLife, CompanionLook, CompanionPhase, far_over, over_hard, why_given_up
from seqsup.policy.confirm import MemoryBounds
from seqsup.runner.context import RunContext
from seqsup.runner.readiness import missing, taken
from seqsup.runner.side_process import SideProcess, Site
from seqsup.units import format_duration, format_size

FOLDER = "@companions"  # within the run's: no agent can be called that
COLLECTS = 10.0  # seconds at most, which the next agent waits for all companions together


class Companion:
    """One companion. Between `begin` and `end` a task carries out its life, with all its failures."""

    def __init__(
        self, start: CompanionStart, site: Site, context: RunContext, weigh: Callable[[str, int], None]
    ) -> None:
        """`weigh` hears its name and the bytes that it uses, at each look while it is ready."""
        self.start, self._site, self._weigh = start, site, weigh
        self._everyone = context.wake
        self._context = replace(context, wake=context.wake.branch())
        self.agents = 0  # that ended since its start
        self._number = len(list((site.folder / FOLDER / start.name).glob("*")))  # of earlier parts
        self._life = CompanionLife()
        self._task: asyncio.Task[None] | None = None
        self._restart: tuple[Restart, str] | None = None  # why the run has ended the life before
        self._end: Restart | None = None  # why the run ends this one
        self._tree: SideProcess | None = None  # while it is ready
        self._collection: asyncio.Task[Collection] | None = None  # that was requested last
        self._asked, self._awaited = -inf, False  # when it was requested; whether the next agent waits for it
        self._collected = ""  # what came of it
        self.failure: tuple[float, str] | None = None  # the last one: monotonic seconds, and why
        self._outgrown = False  # it is over its limit without agents, which was reported

    @property
    def name(self) -> str:
        return self.start.name

    @property
    def ready(self) -> bool:
        return self._tree is not None

    def begin(self, restart: tuple[Restart, str] | None = None) -> None:
        """Begin a life. `restart` is why the run has ended the one before. One that was given up stays so."""
        if self._life.phase is not CompanionPhase.GIVEN_UP:
            self._life = CompanionLife()
        self._restart, self._end = restart, None
        self._task = asyncio.create_task(self._live())

    async def end(self, because: Restart) -> None:
        """End this life. No process of the companion is left on return."""
        if self._task is not None:
            self._end = because
            self._context.wake.poke()
            task, self._task = self._task, None
            await task

    async def abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def up(self) -> None:
        """Wait until it is ready or the run stops. Stopped, if it will never be ready."""
        while not self.ready and self._context.stop_request.halt is Halt.NONE:
            if self._life.phase is CompanionPhase.GIVEN_UP:
                raise Stopped(f"the companion {self.name} {why_given_up(self._life)}")
            assert self._task is not None
            if self._task.done():
                self._task.result()
            await self._everyone.wait(1.0)

    def used(self) -> int:
        """Measure its tree in bytes."""
        return self._tree.used() if self._tree is not None else 0

    # -- between agents

    def due(self) -> tuple[Restart, str] | None:
        """Say whether it is to be restarted before the next agent, and why."""
        measured = self.agents and not self._outgrown and self.start.hard is not None
        return companion.restart_due(self.start, self.agents, self.used() if measured else 0, self._collected)

    def request_gc(self) -> None:
        """Have it collect, where `companion.collects` says so: what was garbage is no reason to restart it."""
        idle = self._collection is None or self._collection.done()  # else it never answered, and is not awaited again
        tree, start, rested = self._tree, self.start, idle and time.monotonic() - self._asked >= self.start.gc.gap
        self._collected, self._awaited = "", False
        if tree is None or not companion.may_collect(start, rested=rested):
            return
        used = tree.used()
        if not companion.collects(start, self.agents, used, rested=rested):
            return
        if (telemetry := tree.telemetry) is None or not (asked := telemetry.processes.answering()):
            return
        limit = start.hard if over_hard(start, used) else None
        told = GcRequested(owner=self._owner(), used=used, limit=limit, processes=len(asked), key="hard")
        self._context.emit(told)
        self._asked, self._collection, self._awaited = time.monotonic(), telemetry.gc.collect(), True
        self._collection.add_done_callback(lambda _: self._everyone.poke())

    async def await_gc(self, deadline: float) -> None:
        """Wait for the collection that was requested, until `deadline` at most."""
        if self._collection is None or not self._awaited:
            return
        while not self._collection.done():
            if self._tree is None or self._context.stop_request.halt is not Halt.NONE:
                return
            if (left := deadline - time.monotonic()) <= 0:
                self._collected = f", and its GC did not finish within {format_duration(COLLECTS)}"
                return
            await self._everyone.wait(left)
        if self._tree is not None:
            self._hear(self._tree)

    async def look_at_rest(self) -> None:
        """Report once that it is above its limit before any agent has used it: a restart would not change that."""
        hard = self.start.hard
        if hard is None or self.agents or self._outgrown or not self.ready:
            return
        self.request_gc()
        await self.await_gc(time.monotonic() + COLLECTS)
        if over_hard(self.start, used := self.used()):
            self._outgrown = True
            self._context.emit(
                Warned(
                    message=f"companion {self.name} uses {format_size(used)} while idle, more than its memory.hard of"
                    f" {format_size(hard)}. Restarting would not help; seqsup restarts it above"
                    f" {format_size(far_over(hard))}. Raise memory.hard."
                )
            )  # fmt: skip

    def _hear(self, tree: SideProcess) -> None:
        """Report collections that are over."""
        for done in tree.telemetry.gc.new() if tree.telemetry is not None else ():
            done = above(done, self.start.hard)
            said = "" if done.verdict is Verdict.NONE else f" ({done.verdict})"
            self._collected = f" after a GC that freed {format_size(done.freed)}{said}"
            self._context.emit(GcDone(owner=self._owner(), used=tree.used(), collection=done))

    def _owner(self) -> Owner:
        return Owner(name=self.name, number=self._number, companion=True)

    # -- its life

    async def _live(self) -> None:
        """Start it when it is due, until it is given up or ended."""
        while self._life.phase in (CompanionPhase.DUE, CompanionPhase.FAILED):
            look = CompanionLook(at=time.monotonic(), wanted=self._end is None)
            self._life = companion.step(self._life, self.start, look)
            if self._life.phase is CompanionPhase.STARTING:
                await self._attend()
            elif self._life.phase is CompanionPhase.DUE:
                await self._wait(look, 0.0)

    async def _attend(self) -> None:
        """Start it and look at it until it has failed or is to end. No process of it is left on return."""
        self._number += 1
        label = f"{FOLDER}/{self.name}/{self._number}"
        async with SideProcess(label, self._site, self._context) as tree:
            try:
                look, rate = await self._started(tree), 0.0
                while self._step_on(tree, look) in (CompanionPhase.STARTING, CompanionPhase.READY):
                    await self._wait(look, rate)
                    before, look = look, await self._look(tree)
                    rate = max(look.used - before.used, 0) / max(look.at - before.at, 1e-4)
            finally:
                self._tree = None
            await self._stop(tree)

    async def _wait(self, look: CompanionLook, rate: float) -> None:
        await self._context.wake.wait(companion.pause(self._life, self.start, look, rate, self._context.host.cpus))

    async def _started(self, tree: SideProcess) -> CompanionLook:
        """Start it, and return the first look at it."""
        start = self.start
        broken = await taken(start.ready)
        if not broken:
            try:
                await tree.start(
                    start.command, cwd=start.cwd, env=start.env, become=start.account,
                    bounds=MemoryBounds() if start.hard is None else MemoryBounds(start.hard, far_over(start.hard)),
                    measure=start.measure, node=start.node,
                )  # fmt: skip
            except OSError as error:
                broken = f"it could not be started: {error.strerror or error}"
        if broken:
            return CompanionLook(at=time.monotonic(), broken=broken)
        self._context.emit(
            events.CompanionStarted(
                companion=self.name, number=self._number, pid=tree.pid or 0, command=start.command, folder=tree.label
            )
        )  # fmt: skip
        return await self._look(tree)

    async def _look(self, tree: SideProcess) -> CompanionLook:
        life, lacks = self._life, ""
        if life.phase is CompanionPhase.STARTING and self._end is None:
            lacks = await missing(self.start.ready, tree.output(), time.monotonic() - life.since)
        used, ended = tree.used(), tree.ended
        return CompanionLook(
            at=time.monotonic(), wanted=self._end is None, broken=_how_it_ended(tree, ended) if ended else "",
            died=ended is not None, lacks=lacks, used=used, oom=tree.kernel_oom() if ended else "",
        )  # fmt: skip

    def _step_on(self, tree: SideProcess, look: CompanionLook) -> CompanionPhase:
        self._life = companion.step(self._life, self.start, look)
        if self._life.phase is CompanionPhase.READY:
            if not self.ready:
                self._tell_ready(look)
                self._tree = tree
                self._everyone.poke()
            self._hear(tree)
            self._weigh(self.name, look.used)
        elif self._life.phase in (CompanionPhase.FAILED, CompanionPhase.GIVEN_UP):
            self.failure = look.at, self._life.why
        return self._life.phase

    async def _stop(self, tree: SideProcess) -> None:
        """Report how it ended, and stop what is left of it."""
        life, began = self._life, time.monotonic()
        if life.phase is CompanionPhase.ENDED:
            assert self._end is not None
            left = await tree.stop(life.grace)
            self._context.emit(
                events.CompanionStopped(
                    companion=self.name, number=self._number, reason=self._end, seconds=time.monotonic() - began,
                    processes=left,
                )
            )  # fmt: skip
            return
        if not life.grace:  # it grows: it is killed before that is reported
            await tree.stop(0)
        self._tell_exit(tree)
        await tree.stop(life.grace)
        if life.phase is CompanionPhase.GIVEN_UP:
            why = f"the companion {self.name} {why_given_up(life)}; no further agent starts"
            self._context.emit(Warned(message=why))
            self._everyone.poke()

    # -- reporting

    def _tell_ready(self, look: CompanionLook) -> None:
        life, context = self._life, self._context
        restart = (life.restart, life.why) if life.failures else self._restart
        if restart is not None:
            reason, why = restart
            context.emit(events.CompanionRestarted(companion=self.name, number=self._number, reason=reason, why=why))
        context.emit(events.CompanionReady(companion=self.name, number=self._number, seconds=look.at - life.since))
        self.agents = 0

    def _tell_exit(self, tree: SideProcess) -> None:
        ended = tree.ended if tree.begun else None
        self._context.emit(
            events.CompanionExited(
                companion=self.name, number=self._number, why=self._life.why,
                seconds=time.monotonic() - self._life.since, folder=tree.label,
                exit_code=ended.code if ended else None, signal=ended.signal if ended else None,
                output=tree.said() if tree.begun else "",
            )
        )  # fmt: skip


def _how_it_ended(tree: SideProcess, ended: Exit) -> str:
    why = tree.complaint() or classify.describe(ended)
    return f"{why}; a companion must stay in the foreground" if ended.code == 0 else why
