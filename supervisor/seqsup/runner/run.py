"""One run from its first event to its last: hooks, companions and agents in order, and a sweep at the end."""

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seqsup import __version__
from seqsup.containment.cgroup.tiers import PSUTIL, Chosen
from seqsup.containment.mark import bearers
from seqsup.containment.stop import stop_leftovers
from seqsup.errors import AtUsageLimit, Stopped, denial
from seqsup.host.machine import boot_id
from seqsup.host.wake import Wake
from seqsup.model.events import AgentDue, Recorded, RunEnded, RunsRemoved, RunStarted, Warned
from seqsup.model.history import fold
from seqsup.model.plan import ARTIFACT_ONLY, Plan, Step
from seqsup.model.reason import Reason
from seqsup.model.run_view import AgentState, RunView
from seqsup.node import stand_in
from seqsup.plan.resume import gone, left_out, resumption
from seqsup.plan.secrets import with_secrets
from seqsup.policy import watch
from seqsup.policy.workspaces import unseen
from seqsup.runner import artifact_only
from seqsup.runner.admission import Admission
from seqsup.runner.agent import Agent
from seqsup.runner.begun import BegunRun
from seqsup.runner.chain import Chains
from seqsup.runner.companions import Companions
from seqsup.runner.context import RunContext
from seqsup.runner.drain import Drainer
from seqsup.runner.emitter import Emitter
from seqsup.runner.expectations import Expectations
from seqsup.runner.hooks import HookRunner
from seqsup.runner.inputs import Inputs
from seqsup.runner.pause import Pause
from seqsup.runner.schedule import Scheduler
from seqsup.runner.side_process import Site
from seqsup.runner.spending import Spending
from seqsup.runner.workspaces import Workspaces
from seqsup.state.journal import Journal
from seqsup.state.retention import outdated, remove
from seqsup.state.run_folder import MEMBERS, surely_alive
from seqsup.state.workspaces import releases
from seqsup.text import shown

if TYPE_CHECKING:
    from seqsup.runner.notifier import Notifier

COMPLETED, GAVE_UP, STOPPED_BY_POLICY, FAULT, AT_USAGE_LIMIT = 0, 1, 4, 70, 75


class Run:
    def __init__(
        self, plan: Plan, begun: BegunRun, journal: Journal, emitter: Emitter, context: RunContext, containment: Chosen,
        secrets: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Construct it before the first process of the run: the machine's present figures are what agents may use."""
        self._plan, self._begun, self._journal = plan, begun, journal
        self._emitter, self._emit, self._context, self._containment = emitter, emitter.emit, context, containment
        self._began = time.monotonic()
        # Leftovers of dead runs are stopped by now: these were released by an earlier part of this run
        self._let_go = frozenset(bearers(begun.cookie)) if begun.continues else frozenset()
        self._members = begun.folder / MEMBERS
        self._ledger = os.open(self._members, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        site = Site(begun.folder, begun.cookie, self._ledger, plan.output_max)
        companions = [replace(start, env=with_secrets(start, secrets)) for start in plan.companions]
        self._companions = Companions(companions, site, context, emitter.weigh)
        self._hooks = HookRunner(plan.hooks, site, plan.profile, self._companions.environment, context)
        if plan.hooks.commands:
            emitter.add_reader(self._hooks)
        self._notifier = self._notifications(site) if plan.notify.to or plan.notify.command else None
        self._settled: int | None = None  # the exit code, once only messages are waited for
        self._expectations = Expectations(plan, journal, begun.number)
        self._pause = Pause(begun.folder, begun.number, plan.disk_floor, context)
        self._admission = Admission(context.host, self._expectations.need, self._pause.over, self._beside_others)
        if plan.concurrency > 1:
            emitter.add_observer(self._admission.observe)
        self._drainer = Drainer(begun.cookie, self._companions.used, lambda: self._view.started or time.time(), context)
        self._inputs = Inputs(site, self._companions.environment, secrets, lambda: self._view)
        self._workspaces = Workspaces(plan, site, lambda: self._view, context)
        self._ok: dict[str, bool] = {}  # by agent, once it is over

    def _notifications(self, site: Site) -> "Notifier":
        from seqsup.runner.notifier import Notifier  # which most runs have no use for

        notifier = Notifier(self._plan, site, lambda: self._view, self._context)
        self._emitter.add_reader(notifier)
        return notifier

    @property
    def _view(self) -> RunView:
        return self._emitter.view

    async def carry_out(self) -> int:
        """Run the plan to its end, and return the exit code."""
        try:
            started = self._start()
            await self._remove_old()
            stopped: Stopped | None = None
            try:
                await self._hooks.on("before_run", started)
                await self._run_agents()
            except Stopped as reason:
                stopped = reason
            except OSError as error:
                stopped = self._without_place(error)
            await self._companions.stop()
            await self._workspaces.settle(self._ok, all_ok=self._all_ok())
            stopped = await self._after_run(stopped)
            await self._last_sweep()
            abandoned = self._abandoned()
            ended = self._ended(stopped)
            self._emit(ended)
            if not abandoned:  # else the next seqsup is to look for them
                with suppress(OSError):  # its processes are found without it
                    self._members.unlink()
            return ended.exit_code
        except Exception as error:
            if self._notifier is not None:
                code = getattr(error, "exit_code", FAULT)
                await self._notifier.finish(replace(self._ended(None), exit_code=code, why=str(error)))
            raise
        finally:
            await self._companions.abandon()
            await self._hooks.abandon()
            if self._notifier is not None:
                await self._notifier.abandon()
            self._close()

    def _close(self) -> None:
        self._context.host.close()
        self._context.sockets.close()
        stand_in.remove(self._begun.folder)
        self._containment.close()
        self._inputs.close()
        os.close(self._ledger)
        os.close(self._begun.lock)

    def _without_place(self, error: OSError) -> Stopped:
        """Return why the run has lost its folder. Any other error is raised."""
        folder = self._begun.folder
        if (told := denial(error)) is not None:
            return Stopped(f"{error.filename or folder}: {told}")
        if isinstance(error, FileNotFoundError) and not folder.is_dir():
            return Stopped(f"its folder {folder} was removed while it was running")
        raise error

    def _beside_others(self) -> bool:
        """Return whether an agent of another run that shares the machine's turn is running."""
        if not self._begun.shares:
            return False
        own = self._begun.folder
        others = (each for each in own.parent.iterdir() if each != own and (each / MEMBERS).exists())
        views = (fold(self._journal.events(int(each.name[1:]))) for each in others if surely_alive(each))
        return any(agent.pid for view in views for agent in view.at_turn)

    # -- its beginning

    def _start(self) -> Recorded:
        plan, begun = self._plan, self._begun
        earlier = resumption(plan.steps, self._view.completed)
        self._ok = dict.fromkeys(earlier.done, True)
        stand = {
            name: each.folder for name, each in (left_out(plan, self._view.completed) | earlier.done).items()
        }  # fmt: skip
        due = [step for step in plan.steps if step.name not in self._ok]
        away, items = gone(self._view, plan, earlier), self._view.items
        items_gone = {name: item for name in away if (item := items.get(name)) is not None}
        started = self._emit(
            RunStarted(
                name=plan.name, profile=plan.profile, task=plan.task, agents=tuple(step.name for step in plan.steps),
                skips={skip.name: skip.why for skip in plan.skips}, supervisor=os.getpid(), boot_id=boot_id(),
                version=__version__, containment=self._containment.tier, resumed=begun.continues,
                completed_before=tuple(stand), taken_over=stand, again=earlier.again, waited=begun.waited,
                concurrency=plan.concurrency, listen=plan.metrics.listen, file_sd=plan.metrics.file_sd,
                python=platform.python_version(), expected=self._expectations.seconds(due), only=plan.only,
                start_from=plan.start_from, gone=away,
                items={name: shown(item) for name, item in plan.items.items()} | items_gone,
            )
        )  # fmt: skip
        if self._containment.tier == PSUTIL:
            self._emit(Warned(message=self._containment.detail))
        if plan.workspaces is not None and plan.workspaces.changed:
            self._emit(Warned(message=unseen(plan.workspaces.home, plan.workspaces.changed)))
        for name in stand:
            self._inputs.hand_on(name, ok=True)
        return started

    async def _remove_old(self) -> None:
        plan, journal = self._plan, self._journal
        state_dir = self._begun.folder.parent.parent
        old = outdated(journal, state_dir, plan.profile, plan.keep, but=self._begun.number)
        gone = []
        for each in old:
            try:
                for tree in releases(journal, state_dir, each.run):
                    await self._workspaces.release(tree)
                gone += [each] if remove(journal, state_dir, each.run) else []
            except OSError as error:  # it stays, and the others go
                self._emit(Warned(message=f"{each.label}, an old run, cannot be removed: {error}"))
        if gone:
            labels = tuple(each.label for each in gone)
            self._emit(RunsRemoved(runs=labels, bytes=sum(each.size for each in gone), keep=plan.keep))

    # -- its agents

    async def _run_agents(self) -> None:
        chains = Chains(self._plan.chain, self._companions, self._hooks, self._drainer, self._context)
        await self._companions.start()
        if self._plan.execution_mode == ARTIFACT_ONLY:
            artifact_only.carry_out(self._plan, self._begun, self._inputs, self._context, self._journal, self._ok)
            return
        self._spending = Spending(self._plan, self._view)
        scheduler = Scheduler(
            self._plan, self._ok, self._context, self._admission, chains, self._pause, self._companions
        )  # fmt: skip
        await scheduler.run(self._agent, self._turn, self._over)

    def _agent(self, step: Step, lane: int, wake: Wake) -> Agent:
        context = replace(self._context, wake=wake, spares=self._admission.spares, spent=self._spending.hear)
        return Agent(
            step, lane, self._inputs, context, self._admission, self._drainer, self._companions, self._spending,
            self._view.agents[step.name], self._context.wake.poke, self._workspaces,
            beside_others=self._plan.concurrency > 1,
        )  # fmt: skip

    async def _turn(self, agent: Agent) -> bool:
        """Carry out one agent, with the hooks before and after it. Return whether it ended well."""
        step, stop_request, ok = agent.step, self._context.stop_request, False
        try:
            if stop_request.halt:
                return False
            if self._hooks.wants("before_agent"):
                due = self._emit(AgentDue(agent=step.name, content=step.content, command=step.command))
                await self._hooks.on("before_agent", due)
                if stop_request.halt:
                    return False
            ok = await agent.run()
            self._companions.count_agent()
        finally:
            await self._hooks.settle()
            await self._hooks.on("after_agent", agent.ended)
            await self._workspaces.agent_over(step, ok=ok)
        return ok

    def _over(self, step: Step) -> None:
        """Pass on the results of an agent, and warn if it used far more memory than before."""
        self._inputs.hand_on(step.name, ok=self._ok[step.name])
        if (risen := self._expectations.compare(step, self._view.agents[step.name].peak)) is not None:
            self._emit(risen)

    # -- its end

    async def _after_run(self, stopped: Stopped | None) -> Stopped | None:
        """Run the last hooks before the end is written: a run that dies in them is not over. Return why it stopped."""
        try:
            await self._hooks.settle()
            if self._hooks.wants("after_run"):
                ended = self._ended(stopped)
                run = self._begun.folder.name
                last = Recorded(run=run, seq=0, at=time.time(), mono=time.monotonic(), body=ended)
                await self._hooks.on("after_run", last)
        except Stopped as reason:
            stopped = stopped or reason
        if self._notifier is not None:
            ended = self._ended(stopped)
            self._settled = ended.exit_code
            await self._notifier.finish(ended)
        return stopped

    async def _last_sweep(self) -> None:
        """Look once more everywhere for this run's mark; an agent's own drain looked at new pids only."""
        let_go = self._let_go | self._context.reaper.let_go()
        found, _ = await stop_leftovers(
            lambda: bearers(self._begun.cookie, except_pids=let_go), self._context.wake,
            grace=watch.LEFTOVER_GRACE, deadline=watch.KILL_DEADLINE,
        )  # fmt: skip
        if found:
            names = ", ".join(f"{process.name} ({process.pid})" for process in found)
            self._emit(Warned(message=f"stopped processes left at the end of the run: {names}"))

    def _abandoned(self) -> bool:
        """Report processes that survived every kill and are still there."""
        left = self._context.reaper.still_abandoned()
        if left:
            pids = ", ".join(map(str, sorted(left)))
            self._emit(Warned(message=f"pid {pids} survived SIGKILL; seqsup will check for it on its next start"))
        return bool(left)

    def _ended(self, stopped: Stopped | None) -> RunEnded:
        count = self._view.count
        return RunEnded(
            exit_code=self._exit_code(stopped), why=str(stopped or ""), completed=count(AgentState.COMPLETED),
            gave_up=count(AgentState.GAVE_UP), skipped=count(AgentState.SKIPPED),
            seconds=time.monotonic() - self._began,
            not_run=count(AgentState.PENDING, AgentState.HALTED, AgentState.LOST),
            sequence_violations=self._view.sequence_violations,
        )  # fmt: skip

    def _all_ok(self) -> bool:
        return all(self._ok.get(step.name) for step in self._plan.steps)

    def _exit_code(self, stopped: Stopped | None) -> int:
        if stopped is not None:
            return AT_USAGE_LIMIT if isinstance(stopped, AtUsageLimit) else STOPPED_BY_POLICY
        if self._settled is not None:
            return self._settled
        if self._all_ok():
            return COMPLETED
        if self._context.stop_request.signal is not None:
            return 128 + self._context.stop_request.signal
        if any(agent.reason is Reason.HOST_FLOOR for agent in self._view.agents.values()):
            return STOPPED_BY_POLICY
        return GAVE_UP
