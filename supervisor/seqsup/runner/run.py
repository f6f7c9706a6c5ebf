"""The story of one run: agents in order, one at a time."""

import os
import platform
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from seqsup import __version__
from seqsup.containment.cgroup.tiers import PSUTIL, Chosen
from seqsup.containment.mark import bearers, marks
from seqsup.containment.reaper import Reaper
from seqsup.containment.stop import stop
from seqsup.errors import AtUsageLimit, Stopped, denial
from seqsup.host.machine import Host, boot_id, room
from seqsup.host.users import open_way
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt, OnTimeout, Restart
from seqsup.model.events import (
    AgentDue,
    AgentEnded,
    AgentSkipped,
    BriefWritten,
    ChainEnded,
    Drained,
    Recorded,
    RunContinued,
    RunEnded,
    RunPaused,
    RunsRemoved,
    RunStarted,
    Warned,
)
from seqsup.model.plan import ARTIFACT_ONLY, Drain, Plan, Step
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, RunView
from seqsup.node import stand_in
from seqsup.plan.resume import builds_on, gone, left_out, resumption
from seqsup.policy import resources, watch
from seqsup.policy.overlap import violations
from seqsup.profile.placeholders import finish
from seqsup.runner import artifact_only
from seqsup.runner.admission import Admission
from seqsup.runner.agent import Agent
from seqsup.runner.companions import Companions
from seqsup.runner.context import World
from seqsup.runner.drain import until_back
from seqsup.runner.emitter import Audience
from seqsup.runner.expectations import Experience
from seqsup.runner.hooks import Hooking
from seqsup.runner.lanes import Lanes
from seqsup.runner.side_process import Site
from seqsup.runner.stop_request import Operator
from seqsup.runner.workspace import Place
from seqsup.state.artifacts import Summaries, summary
from seqsup.state.journal import Journal
from seqsup.state.retention import outdated, remove
from seqsup.state.run_folder import ARTIFACTS, MEMBERS, PAUSED, RUNS, SUMMARIES, label, private
from seqsup.units import told_apart

COMPLETED, GAVE_UP, STOPPED_BY_POLICY, AT_USAGE_LIMIT = 0, 1, 4, 75
_LOOK_AGAIN = 1.0  # seconds: a disk says nothing when there is room again


class Identity(Struct, frozen=True):
    """Which run this is: a new one, or one that goes on."""

    run: int
    cookie: str
    goes_on: bool = False  # there are events of its earlier parts


class Run:
    """One run from its first event to its last."""

    def __init__(
        self, plan: Plan, identity: Identity, folder: Path, journal: Journal, audience: Audience, wake: Wake,
        operator: Operator, reaper: Reaper, containment: Chosen,
    ) -> None:  # fmt: skip
        self._plan, self._identity, self._folder, self._journal = plan, identity, folder, journal
        self._audience, self._emit = audience, audience.emit
        self._experience = Experience(plan, journal, identity.run)
        self._need = self._experience.need
        self._ok: dict[str, bool] = {}  # by agent, once it has ended
        self._let_go: frozenset[int] = frozenset()  # pids
        self._containment = containment
        self._world = World(
            reaper, Host(), wake, operator, audience.emit, containment.groups, observe=audience.observe,
            weigh=audience.weigh, since=lambda: audience.view.started or time.time(),
        )  # fmt: skip
        self._summaries: Summaries | None = None
        self._paused = folder / PAUSED
        self._standing: dict[str, Path] = {}  # in an artifact-only run: what agents left in earlier ones
        self._chain = self._in_chain = 0  # chains that are over, and agents of the present one
        self._baseline = self._first_own = 0  # bytes
        self._grown = False  # the supervisor, and that was reported
        self._admission = Admission(self._world.host, self._may_go_on)
        if plan.concurrency > 1:
            audience.add_observer(self._admission.observe)

    @property
    def _view(self) -> RunView:
        return self._audience.view

    async def carry_out(self, lock: int, waited: float) -> int:
        """Run the plan and return the exit code.

        `lock` is the run's, which is let go in the end. `waited` is how long the machine's turn took, in seconds.
        """
        began = time.monotonic()
        if self._identity.goes_on:
            # What the dead had left is stopped by now: this is what an earlier part of this run let go
            self._let_go = frozenset(bearers(self._identity.cookie))
        members = self._folder / MEMBERS
        ledger = os.open(members, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        site = Site(self._folder, self._identity.cookie, ledger, self._plan.output_max)
        self._companions = companions = Companions(self._plan.companions, site, self._world)
        self._world = replace(self._world, beside=companions.used)
        hooks = Hooking(self._plan.hooks, site, self._plan.profile, companions.environment, self._world)
        if self._plan.hooks.commands:
            self._audience.add_reader(hooks)
        try:
            self._summaries = Summaries(self._folder / SUMMARIES)
            self._start(waited)
            self._remove_old()
            stopped: Stopped | None = None
            try:
                await hooks.after("before_run", RunStarted)
                self._baseline = self._world.host.available()
                await companions.start()
                if self._plan.execution_mode == ARTIFACT_ONLY:
                    self._write_briefs()
                elif self._plan.concurrency > 1:
                    await self._in_lanes(ledger, hooks)
                else:
                    await self._agents(ledger, hooks)
            except Stopped as reason:
                stopped = reason
            except OSError as error:
                stopped = self._without_place(error)
            await companions.stop()
            stopped = await self._after_run(hooks, stopped, began)
            await self._last_sweep()
            abandoned = self._abandoned()
            ended = self._ended(stopped, began)
            self._emit(ended)
            if not abandoned:  # else the next seqsup is to look for them
                with suppress(OSError):  # nobody is found by it any more
                    members.unlink()
            return ended.exit_code
        finally:
            await companions.abandon()
            await hooks.abandon()
            self._admission.close()
            self._world.host.close()
            self._world.sockets.close()
            stand_in.remove(self._folder)
            self._containment.close()
            if self._summaries is not None:
                self._summaries.close()
            os.close(ledger)
            os.close(lock)

    def _without_place(self, error: OSError) -> Stopped:
        """Why the run has no place to go on in; whatever else it is, is raised."""
        if (told := denial(error)) is not None:
            return Stopped(f"{error.filename or self._folder}: {told}")
        if isinstance(error, FileNotFoundError) and not self._folder.is_dir():
            return Stopped(f"its folder {self._folder} was removed while it went on")
        raise error

    def _start(self, waited: float) -> None:
        plan = self._plan
        earlier = resumption(plan.steps, self._view.completed)
        self._ok = dict.fromkeys(earlier.done, True)
        stand = {
            name: each.folder for name, each in (left_out(plan, self._view.completed) | earlier.done).items()
        }  # fmt: skip
        due = [step for step in plan.steps if step.name not in self._ok]
        self._emit(
            RunStarted(
                name=plan.name, profile=plan.profile, task=plan.task, agents=tuple(step.name for step in plan.steps),
                skips={skip.name: skip.why for skip in plan.skips}, supervisor=os.getpid(), boot_id=boot_id(),
                version=__version__, containment=self._containment.tier, resumed=self._identity.goes_on,
                completed_before=tuple(stand), taken_over=stand, again=earlier.again, waited=waited,
                concurrency=plan.concurrency, listen=plan.metrics.listen, file_sd=plan.metrics.file_sd,
                python=platform.python_version(), expected=self._experience.seconds(due), only=plan.only,
                start_from=plan.start_from, gone=gone(self._view, plan, earlier),
            )
        )  # fmt: skip
        if self._containment.tier == PSUTIL:
            self._emit(Warned(message=self._containment.detail))
        for name in stand:
            self._hand_on(name)

    def _remove_old(self) -> None:
        plan, journal = self._plan, self._journal
        state_dir = self._folder.parent.parent
        old = outdated(journal, state_dir, plan.profile, plan.keep, but=self._identity.run)
        gone = []
        for each in old:
            try:
                gone += [each] if remove(journal, state_dir, each.run) else []
            except OSError as error:  # it stays, and the others go
                self._emit(Warned(message=f"{each.label}, an old run, cannot be removed: {error}"))
        if gone:
            labels = tuple(each.label for each in gone)
            self._emit(RunsRemoved(runs=labels, bytes=sum(each.size for each in gone), keep=plan.keep))

    async def _agents(self, ledger: int, hooks: Hooking) -> None:
        for step in self._plan.steps:
            if step.name in self._ok:
                continue
            if self._world.operator.halt > Halt.NONE or not await self._may_go_on():
                return
            if failed := [name for name in step.needs if not self._ok.get(name, False)]:
                self._skip(step, failed)
                continue
            await self._between(step.drain, hooks)
            self._ok[step.name] = await self._turn(self._agent(step, ledger), hooks)
            self._in_chain += 1
            self._hand_on(step.name)
            self._compare(step)
            if not self._ok[step.name] and self._plan.stop_on_failure:
                return

    async def _in_lanes(self, ledger: int, hooks: Hooking) -> None:
        """Several at a time, as far as their memory fits; between chains, and to restart companions, none.

        Who may start is decided here, for one at a time and in the plan's order, so that a pause, or a full disk,
        finds nobody who waits to start in a lane.
        """
        lanes = Lanes(min(self._plan.concurrency, len(self._plan.steps)), self._world.wake)
        taken = {step.name for step in self._plan.steps}
        waiting = {
            step.name: (step, [name for name in builds_on(step) if name in taken])
            for step in self._plan.steps
            if step.name not in self._ok
        }
        over = False
        try:
            while True:
                over = over or lanes.stopped is not None or self._world.operator.halt > Halt.NONE
                step = None if over else self._next(waiting)
                if step is None or lanes.full or not (lanes.idle or self._fits_beside(step)):
                    if lanes.idle:
                        break
                    for name, ok in (await lanes.ended()).items():
                        self._ok[name] = ok
                        self._hand_on(name)
                        over = over or (not ok and self._plan.stop_on_failure)
                    continue
                if lanes.idle:
                    if not await self._may_go_on():
                        break
                    await self._between(step.drain, hooks)
                    if not await self._admission.admit(step, self._need(step), self._world, Halt.AFTER_AGENT):
                        break
                else:
                    self._admission.take_in(step, self._need(step))
                del waiting[step.name]
                self._in_chain += 1
                lanes.start(step.name, partial(self._in_lane, step, ledger, hooks))
        finally:
            await lanes.abandon()
        if lanes.stopped is not None:
            raise lanes.stopped

    def _fits_beside(self, step: Step) -> bool:
        calm = self._in_chain < self._plan.chain and self._companions.settled() and not self._hindrance()
        return calm and self._admission.fits(step, self._need(step), self._world)

    def _next(self, waiting: dict[str, tuple[Step, list[str]]]) -> Step | None:
        """The first of whom all that it builds on is over; who cannot run any more is taken out on the way."""
        for step, bases in tuple(waiting.values()):
            if any(name not in self._ok for name in bases):
                continue
            if failed := [name for name in step.needs if not self._ok[name]]:
                del waiting[step.name]
                self._skip(step, failed)
                continue
            return step
        return None

    def _skip(self, step: Step, failed: list[str]) -> None:
        self._ok[step.name] = False
        self._emit(AgentSkipped(agent=step.name, why=f"it needs {', '.join(failed)}, which did not complete"))

    async def _in_lane(self, step: Step, ledger: int, hooks: Hooking, lane: int) -> bool:
        try:
            ok = await self._turn(self._agent(step, ledger, lane), hooks)
        finally:
            self._admission.let_go(step.name)  # where a hook took it its turn
        self._compare(step)
        return ok

    async def _between(self, rule: Drain, hooks: Hooking) -> None:
        """While no agent runs: the end of a chain, and what companions need."""
        if self._in_chain >= self._plan.chain:
            await self._chain_end(rule, hooks)
        await self._companions.between()

    def _write_briefs(self) -> None:
        """Carry out an artifact-only plan: whatever else the profile says, nothing is spawned."""
        assert self._summaries is not None
        state_dir = self._folder.parent.parent
        for step in self._plan.steps:
            if self._world.operator.halt > Halt.NONE:
                return
            if step.name in self._ok:
                continue
            place = self._place(step, artifact_only.FOLDER, -1)
            private(place.artifacts)
            artifact_only.write(self._filled_in(step, place), place.folder, self._summaries.file.read_text())
            found = artifact_only.standing(self._journal, state_dir, self._plan.profile, step.name, self._identity.run)
            if found is not None:
                self._standing[step.name] = found
            stands = str(found.relative_to(state_dir / RUNS)) if found is not None else ""
            self._emit(BriefWritten(agent=step.name, content=step.content, folder=place.label, stands=stands))
            self._ok[step.name] = True
            self._hand_on(step.name)

    async def _chain_end(self, rule: Drain, hooks: Hooking) -> None:
        """Between two chains: restart what is due, and see memory back at where the run began."""
        self._warn_if_grown()
        await self._companions.between()
        self._chain += 1
        ended = await self._drain_chain(rule)
        if not ended.reached and rule.on_timeout is OnTimeout.RESTART_COMPANIONS and self._companions:
            self._emit(ended)
            await self._companions.restart(Restart.DRAIN, f"after chain {self._chain} {ended.why}")
            ended = await self._drain_chain(rule)
        self._emit(ended)
        self._in_chain = 0
        await hooks.after("chain_end", ChainEnded)
        if not ended.reached and rule.on_timeout is not OnTimeout.CONTINUE:
            raise Stopped(f"memory did not drain after chain {self._chain}: {ended.why}")

    def _warn_if_grown(self) -> None:
        """Warn once if the supervisor itself uses much more memory than after its first chain."""
        own = self._world.host.own()
        self._first_own = self._first_own or own
        if not self._grown and resources.supervisor_grew(own, self._first_own):
            self._grown = True
            before, now = told_apart(self._first_own, own)
            self._emit(Warned(message=f"the supervisor grew from {before} to {now}: please report this"))

    async def _drain_chain(self, rule: Drain) -> ChainEnded:
        """Wait until the host has as much as before the first agent, but for what the run may own."""
        lost = self._baseline - (rule.threshold or self._baseline)
        available_again = None if rule.available is None else max(rule.available, lost)
        found = await until_back(
            rule, available_again, self._world, began=time.monotonic(), enough=Halt.AFTER_AGENT
        )  # fmt: skip
        return ChainEnded(
            chain=self._chain, agents=self._in_chain, reached=not found.missing, seconds=found.seconds,
            baseline=self._baseline, available=found.available, owned=found.owned, why=found.missing,
        )  # fmt: skip

    async def _may_go_on(self) -> bool:
        """Wait while something hinders the next agent; False when the operator wants none any more."""
        if not (why := self._hindrance()):
            return True
        began = time.monotonic()
        self._emit(RunPaused(why=why))
        while why and self._world.operator.halt is Halt.NONE:
            await self._world.wake.wait(_LOOK_AGAIN)
            why = self._hindrance()
        if why:
            return False
        self._emit(RunContinued(seconds=time.monotonic() - began))
        return True

    def _hindrance(self) -> str:
        if os.path.exists(self._paused):  # noqa: PTH110 (before each agent)
            return f"by the operator; `seqsup resume {label(self._identity.run)}` lets it go on"
        return resources.disk_too_full(*room(self._folder), self._plan.disk_floor)

    async def _turn(self, agent: Agent, hooks: Hooking) -> bool:
        """One agent, with the hooks before and after it."""
        step = agent.step
        try:
            if self._world.operator.halt > Halt.NONE:
                return False
            if hooks.wants("before_agent"):
                self._emit(AgentDue(agent=step.name, content=step.content, command=step.command))
                await hooks.after("before_agent", AgentDue, step.name)
                if self._world.operator.halt > Halt.NONE:
                    return False
            ok = await agent.run()
            self._companions.count_agent()
        finally:
            await hooks.settle()
            await hooks.after("after_agent", AgentEnded, step.name)
        return ok

    def _agent(self, step: Step, ledger: int, lane: int = 1) -> Agent:
        def place(number: int) -> Place:
            return self._place(step, str(number), ledger, lane)

        earlier = self._view.agents[step.name]
        world, beside_others = self._world, self._plan.concurrency > 1
        if beside_others:
            world = replace(world, wake=world.wake.branch(), spares=self._admission.spares)
        return Agent(
            step, place, self._filled_in, self._identity.cookie, world, self._relieve, self._admission,
            beside_others=beside_others, need=self._need(step), tried_before=earlier.attempt or 0,
            limit_until=earlier.limit_until,
        )  # fmt: skip

    def _place(self, step: Step, name: str, ledger: int, lane: int = 1) -> Place:
        label = f"{step.name}/{name}"
        place = Place(
            self._folder, self._folder / label, label, ledger, self._marks(label),
            previous=self._folder / SUMMARIES, lane=lane,
        )  # fmt: skip
        if step.account is not None:
            open_way(private(place.folder), self._folder.parent.parent)
        return place

    async def _relieve(self, drained: Drained) -> bool:
        """Restart what holds memory beside the agents, where there is any."""
        if self._admission.crowded:  # no running agent is to lose them
            return False
        await self._companions.restart(Restart.DRAIN, f"after {drained.agent} {drained.why}")
        return bool(self._companions)

    def _marks(self, tree: str) -> dict[str, str]:
        return marks(self._identity.cookie, self._folder, tree) | self._companions.environment

    def _filled_in(self, step: Step, place: Place) -> Step:
        """Put in what only the run knows: where this attempt works, what earlier agents left."""
        if step.account is not None and self._summaries is not None:
            self._summaries.hand_to(step.account.uid, step.account.gid)

        def value(name: str, agent: str | None) -> str:
            if name == "summary":
                return self._summary(agent or step.name)
            return str(self._last_folder(agent) / ARTIFACTS if agent else place.artifacts)

        return replace(
            step,
            command=tuple(finish(word, value) for word in step.command),
            env={key: finish(text, value) for key, text in step.env.items()},
            stdin=finish(step.stdin, value) if step.stdin is not None else None,
        )

    def _last_folder(self, agent: str) -> Path:
        """Where an agent's last attempt left its output, and what it made."""
        return self._standing.get(agent) or self._folder / (self._view.agents[agent].folder or agent)

    def _summary(self, agent: str) -> str:
        return summary(self._last_folder(agent))

    def _hand_on(self, agent: str) -> None:
        """Let those that follow read what this one has done."""
        assert self._summaries is not None
        how = "" if self._ok.get(agent, True) else str(self._view.agents[agent].reason or "")
        self._summaries.add(agent, how, self._summary(agent))

    def _compare(self, step: Step) -> None:
        """Tell of an agent that took far more than it used to."""
        if (news := self._experience.compare(step, self._view.agents[step.name].peak)) is not None:
            self._emit(news)

    async def _last_sweep(self) -> None:
        """Look once more everywhere for this run's mark; an agent's own drain looked at new pids only."""
        let_go = self._let_go | self._world.reaper.let_go()
        found, _ = await stop(
            lambda: bearers(self._identity.cookie, except_pids=let_go), self._world.wake,
            grace=watch.LEFTOVER_GRACE, deadline=watch.KILL_DEADLINE,
        )  # fmt: skip
        if found:
            names = ", ".join(f"{process.name} ({process.pid})" for process in found)
            self._emit(Warned(message=f"found at the end of the run, and stopped: {names}"))

    def _abandoned(self) -> bool:
        """Tell of whoever survived every kill and is still there."""
        left = self._world.reaper.still_abandoned()
        if left:
            pids = ", ".join(map(str, sorted(left)))
            self._emit(Warned(message=f"still there after SIGKILL: pid {pids}; the next seqsup looks for it again"))
        return bool(left)

    def _exit_code(self, stopped: Stopped | None) -> int:
        if stopped is not None:
            return AT_USAGE_LIMIT if isinstance(stopped, AtUsageLimit) else STOPPED_BY_POLICY
        if all(self._ok.get(step.name) for step in self._plan.steps):
            return COMPLETED
        if self._world.operator.signal is not None:
            return 128 + self._world.operator.signal
        if any(agent.reason is Reason.HOST_FLOOR for agent in self._view.agents.values()):
            return STOPPED_BY_POLICY
        return GAVE_UP

    async def _after_run(self, hooks: Hooking, stopped: Stopped | None, began: float) -> Stopped | None:
        """Run the last hooks, before the end is written: a run that dies in them is not over. Give why it stopped."""
        try:
            await hooks.settle()
            if hooks.wants("after_run"):
                ended = self._ended(stopped, began)
                run = self._folder.name
                await hooks.on("after_run", Recorded(run=run, seq=0, at=time.time(), mono=time.monotonic(), body=ended))
        except Stopped as reason:
            return stopped or reason
        return stopped

    def _ended(self, stopped: Stopped | None, began: float) -> RunEnded:
        count = self._view.count
        return RunEnded(
            exit_code=self._exit_code(stopped), why=str(stopped or ""), completed=count(AgentState.COMPLETED),
            gave_up=count(AgentState.GAVE_UP), skipped=count(AgentState.SKIPPED), seconds=time.monotonic() - began,
            not_run=count(AgentState.PENDING, AgentState.HALTED, AgentState.LOST),
            sequence_violations=violations(self._journal.events(self._identity.run)),
        )  # fmt: skip
