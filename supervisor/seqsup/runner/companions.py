"""Companions: started before the first agent, restarted between agents or after a crash, ended after the last."""

import asyncio
import time
from collections.abc import Sequence

from msgspec.structs import replace
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_exponential

from seqsup.errors import Stopped
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import (
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    GcDone,
    GcRequested,
    Owner,
    Warned,
)
from seqsup.model.plan import CompanionStart
from seqsup.policy import classify, pacing, resources, watch
from seqsup.runner.context import RunContext
from seqsup.runner.readiness import missing, taken
from seqsup.runner.side_process import SideProcess, Site
from seqsup.text import counted
from seqsup.units import format_duration, format_size

FOLDER = "@companions"  # within the run's: no agent can be called that
TRIES = 5  # crashes in a row
STEADY = 60.0  # seconds after which a crash is the first of its row
_LOOK, _LOOK_AGAIN = 0.02, 0.5  # seconds between looks whether it is ready: the first, and at most
_COLLECTS = 10.0  # seconds at most, which the next agent waits
_BACKOFF = wait_exponential(multiplier=0.2, max=30)  # seconds


class Companion:
    """One companion. Each start begins a life, a task that goes on over its crashes until it is told to end."""

    def __init__(self, start: CompanionStart, site: Site, context: RunContext) -> None:
        self.start, self._site = start, site
        self._everyone = context.wake
        self._context = replace(context, wake=context.wake.branch())
        self.ready = False
        self.failed = ""  # why it is not started any more
        self.agents = 0  # that ended since it was started
        self._number = len(list((site.folder / FOLDER / start.name).glob("*")))  # of earlier parts
        self._crashes = 0
        self._died = False  # at its last crash; else it was not ready, or could not be started
        self._collected = ""  # what came of the last collection
        self._outgrown = False  # it is over its limit by itself, and that is told
        self._life: asyncio.Task[None] | None = None
        self._tree: SideProcess | None = None
        self._because: Restart | None = None  # of the start that is under way
        self._why = ""
        self._end: Restart | None = None  # why it is to end

    @property
    def name(self) -> str:
        return self.start.name

    def begin(self, because: Restart | None = None, why: str = "") -> None:
        self._because, self._why, self._end = because, why, None
        self._life = asyncio.create_task(self._live())

    async def end(self, because: Restart) -> None:
        """End this life; the companion is gone, with all that it started, when this returns."""
        if self._life is not None:
            self._end = because
            self._context.wake.poke()
            life, self._life = self._life, None
            await life

    async def abandon(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def up(self) -> None:
        """Wait until it is ready, or the operator wants no more of it. Stopped, when it will never be."""
        while not self.ready and self._context.stop_request.halt is Halt.NONE:
            if self.failed:
                raise Stopped(f"the companion {self.name} {self.failed}")
            assert self._life is not None
            if self._life.done():
                self._life.result()
            await self._everyone.wait(1.0)

    def used(self) -> int:
        """Weigh its tree in bytes."""
        return self._tree.used() if self._tree is not None else 0

    def due(self) -> tuple[Restart, str] | None:
        """Say whether it is to be restarted before the next agent, and why."""
        start = self.start
        if self.agents and not self._outgrown and start.hard is not None and (used := self.used()) >= start.hard:
            holds = f"its tree holds {format_size(used)}{self._collected}"
            return Restart.MEMORY, f"{holds} (memory.hard {format_size(start.hard)})"
        if self.agents >= start.restart_every:
            return Restart.EVERY_N, f"{counted(self.agents, 'agent')} since it was started"
        return None

    async def relieve(self) -> None:
        """Have it collect, where its tree is over its limit: what was garbage is no reason to restart it."""
        self._collected = ""
        tree, hard = self._tree, self.start.hard
        if tree is None or hard is None or (used := tree.used()) < hard:
            return
        if (telemetry := tree.telemetry) is None or not (asked := telemetry.answering()):
            return
        self._context.emit(GcRequested(owner=self._owner(), used=used, limit=hard, processes=len(asked)))
        collection, deadline = telemetry.collect(), time.monotonic() + _COLLECTS
        collection.add_done_callback(lambda _: self._everyone.poke())
        while not collection.done() and self._context.stop_request.halt is Halt.NONE:
            if (left := deadline - time.monotonic()) <= 0:
                self._collected = f", and has not collected within {format_duration(_COLLECTS)}"
                return
            await self._everyone.wait(left)
        self._hear(tree)

    async def look_at_rest(self) -> None:
        """Tell, once, of one that is over its limit before any agent has used it: no restart would change that."""
        hard = self.start.hard
        if hard is None or self.agents or self._outgrown or not self.ready:
            return
        await self.relieve()
        if (used := self.used()) >= hard:
            self._outgrown = True
            self._context.emit(
                Warned(
                    message=f"the companion {self.name} holds {format_size(used)} before any agent has used it, over"
                    f" its memory.hard {format_size(hard)}: a restart would not help, so only at"
                    f" {format_size(resources.far_over(hard))} is it ended; raise that limit"
                )
            )  # fmt: skip

    def _hear(self, tree: SideProcess) -> None:
        """Tell of the collections that are over."""
        for done in tree.telemetry.collected() if tree.telemetry is not None else ():
            self._collected = f" after a collection that freed {format_size(done.freed)} ({done.verdict})"
            self._context.emit(GcDone(owner=self._owner(), used=tree.used(), collection=done))

    def _owner(self) -> Owner:
        return Owner(name=self.name, number=self._number, companion=True)

    # -- one life

    async def _live(self) -> None:
        while self._end is None and not self.failed:
            self._crashes = 0
            retrying = AsyncRetrying(
                retry=retry_if_result(lambda again: again),
                stop=lambda _: self._end is not None or self._crashes >= TRIES,
                wait=_BACKOFF,
                sleep=self._pause,
                retry_error_callback=self._give_up,
            )
            await retrying(self._once)

    def _give_up(self, _: RetryCallState) -> None:
        if self._end is None:
            what = f"crashed {TRIES} times in a row" if self._died else f"was started {TRIES} times in vain"
            self.failed = f"{what}; the last time {self._why}"
            self._context.emit(Warned(message=f"the companion {self.name} {self.failed}; no further agent starts"))
            self._everyone.poke()

    async def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._end is None:
            await self._context.wake.wait(left)

    async def _once(self) -> bool:
        """Start it and stay with it until it is gone. True: it crashed, and not after a long time."""
        if self._end is not None:  # tenacity tries once more after a pause that was cut short
            return False
        self._number += 1
        began, crashed = time.monotonic(), ""
        label = f"{FOLDER}/{self.name}/{self._number}"
        async with SideProcess(label, self._site, self._context) as tree:
            crashed = await self._start(tree) or await self._until_ready(tree, began)
            if not crashed and self._end is None:
                self._tell_ready(time.monotonic() - began)
                self._tree = tree
                try:
                    crashed = await self._watch(tree)
                finally:
                    self._tree, self.ready = None, False
            if crashed:
                self._died = tree.begun and tree.ended is not None
                self._tell_exit(tree, crashed, time.monotonic() - began)
            stopping = time.monotonic()
            left = await tree.stop(self.start.grace if self._end is not None else watch.LEFTOVER_GRACE)
            if self._end is not None and not crashed:
                seconds = time.monotonic() - stopping
                self._context.emit(
                    CompanionStopped(
                        companion=self.name, number=self._number, reason=self._end, seconds=seconds, processes=left
                    )
                )  # fmt: skip
        if crashed:
            self._because, self._why = Restart.CRASHED, crashed
            steady = time.monotonic() - began >= STEADY
            self._crashes = 1 if steady else self._crashes + 1
            return not steady
        return False

    async def _start(self, tree: SideProcess) -> str:
        start = self.start
        if why := await taken(start.ready):
            return why
        try:
            await tree.start(
                start.command, cwd=start.cwd, env=start.env, become=start.account,
                hard=None if start.hard is None else resources.far_over(start.hard), measure=start.measure,
                node=start.node,
            )  # fmt: skip
        except OSError as error:
            return f"it could not be started: {error.strerror or error}"
        self._context.emit(
            CompanionStarted(
                companion=self.name, number=self._number, pid=tree.pid or 0, command=start.command, folder=tree.label
            )
        )  # fmt: skip
        return ""

    async def _until_ready(self, tree: SideProcess, began: float) -> str:
        """Wait for it; say why it is not to be waited for any longer, or nothing."""
        ready, look = self.start.ready, _LOOK
        while self._end is None:
            lacks = await missing(ready, tree.output(), time.monotonic() - began)
            if tree.ended is not None:
                return self._how_it_ended(tree)
            if not lacks:
                return ""
            if (waited := time.monotonic() - began) >= ready.timeout:
                return f"it was not ready after {format_duration(ready.timeout)}: {lacks}"
            tree.used()
            await self._context.wake.wait(min(look, max(ready.delay - waited, 0.001) if ready.delay else look))
            look = min(look * 2, _LOOK_AGAIN)
        return ""

    async def _watch(self, tree: SideProcess) -> str:
        """Stay until it is to end, or is gone, or far too large; say which of these."""
        hard, used, rate, at = self.start.hard, tree.used(), 0.0, time.monotonic()
        while self._end is None:
            if tree.ended is not None:
                return self._how_it_ended(tree)
            self._hear(tree)
            if self._context.weigh is not None:
                self._context.weigh(self.name, used)
            if hard is not None and used >= resources.far_over(hard):
                await tree.stop(0)
                return f"its tree reached {format_size(used)}, far over memory.hard {format_size(hard)}"
            room = None if hard is None else resources.far_over(hard) - used
            await self._context.wake.wait(pacing.until_full(room, rate, self._context.host.cpus))
            before, then, used, at = used, at, tree.used(), time.monotonic()
            rate = max(used - before, 0) / max(at - then, 1e-4)
        return ""

    def _how_it_ended(self, tree: SideProcess) -> str:
        ended = tree.ended
        assert ended is not None
        why = tree.complaint() or classify.describe(ended)
        return f"{why}, but a companion has to stay in the foreground" if ended.code == 0 else why

    def _tell_ready(self, seconds: float) -> None:
        context = self._context
        context.emit(CompanionReady(companion=self.name, number=self._number, seconds=seconds))
        if self._because is not None:
            context.emit(
                CompanionRestarted(companion=self.name, number=self._number, reason=self._because, why=self._why)
            )
        self.ready, self.agents, self._because, self._why = True, 0, None, ""
        self._everyone.poke()

    def _tell_exit(self, tree: SideProcess, why: str, seconds: float) -> None:
        ended = tree.ended if tree.begun else None
        self._context.emit(
            CompanionExited(
                companion=self.name, number=self._number, why=why, seconds=seconds, folder=tree.label,
                exit_code=ended.code if ended else None, signal=ended.signal if ended else None,
                output=tree.said() if tree.begun else "",
            )
        )  # fmt: skip


class Companions:
    """All of a run's, in the profile's order."""

    def __init__(self, starts: Sequence[CompanionStart], site: Site, context: RunContext) -> None:
        self._all = [Companion(start, site, context) for start in starts]
        self._changing = asyncio.Lock()  # two lanes may want them restarted
        self.environment = {name: value for start in starts for name, value in start.environment.items()}

    def __bool__(self) -> bool:
        return bool(self._all)

    def used(self) -> int:
        """What all of them hold, in bytes."""
        return sum(companion.used() for companion in self._all)

    async def start(self) -> None:
        for companion in self._all:
            companion.begin()
            await companion.up()

    async def stop(self) -> None:
        """End all, the last one first."""
        for companion in reversed(self._all):
            await companion.end(Restart.RUN_ENDED)

    async def abandon(self) -> None:
        for companion in self._all:
            await companion.abandon()

    def count_agent(self) -> None:
        for companion in self._all:
            companion.agents += 1

    def settled(self) -> bool:
        """Whether all are ready, and none is due to be restarted."""
        return all(companion.ready and companion.due() is None for companion in self._all)

    async def between(self) -> None:
        """Between agents: have the too large ones collect, restart those that are due, and see that all are ready."""
        for companion in self._all:
            if companion.agents:
                await companion.relieve()
        due = {companion: found for companion in self._all if companion.ready and (found := companion.due())}
        await self._restart(due)
        for companion in self._all:
            await companion.up()
            await companion.look_at_rest()

    async def restart(self, reason: Restart, why: str) -> None:
        """Restart all of them."""
        async with self._changing:
            await self._restart(dict.fromkeys(self._all, (reason, why)))

    async def _restart(self, due: dict[Companion, tuple[Restart, str]]) -> None:
        for companion in reversed(due):
            await companion.end(due[companion][0])
        for companion, (reason, why) in due.items():
            companion.begin(reason, why)
            await companion.up()
