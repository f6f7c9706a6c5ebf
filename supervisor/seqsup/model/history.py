"""A run's events, folded into a view of the run. Pure."""

from collections.abc import Iterable

from msgspec.structs import replace

from seqsup.model import events
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import Recorded
from seqsup.model.outcome import Outcome, PastAttempt
from seqsup.model.process_names import how_many
from seqsup.model.reason import Reason
from seqsup.model.run_view import (
    AgentState,
    AgentView,
    AttemptView,
    CompanionLives,
    CompanionView,
    Completed,
    HookView,
    RunState,
    RunView,
    Stop,
    WorkspaceView,
    run_state,
)


def fold(records: Iterable[Recorded]) -> RunView:
    """Read a whole history, or as much of it as there is."""
    history = History()
    for recorded in records:
        history.apply(recorded)
    return history.view


class History:
    """A view that grows with its events, each applied once and in order."""

    def __init__(self) -> None:
        self.view = RunView()
        self._ever: dict[str, AgentView] = {}  # also agents that a later profile left out, and may bring back
        self._last: dict[str, AttemptView] = {}  # by agent
        self._lanes: dict[tuple[str, int], int] = {}  # of the attempts that run
        self._boot = ""
        self._strays: dict[str, frozenset[int]] = {}  # by agent: pids already counted as left over by its last attempt

    def apply(self, recorded: Recorded) -> None:
        self.view.run = recorded.run
        match recorded.body:  # the most frequent ones first
            case events.AttemptStarted() as event:
                self._attempt_started(event, recorded)
            case events.Spawned(agent=name, pid=pid):
                self._agent(name).pid = pid
            case events.SessionReported(agent=name, session=session):
                self._agent(name).session = session
            case events.AttemptEnded() as event:
                self._attempt_ended(event, recorded)
            case events.Drained() as event:
                self._drained(event, recorded.at)
            case events.AgentEnded() as event:
                self._agent_ended(event)
            case events.StopSent() as event:
                self._stop_sent(event, recorded.at)
            case events.GcDone(owner=owner, collection=collection) if not owner.companion:
                agent = self._agent(owner.name)
                agent.gc_freed = (agent.gc_freed or 0) + collection.freed
            case events.RetryScheduled(agent=name, wait=wait):
                agent = self._agent(name)
                agent.state = AgentState.BACKOFF
                agent.retry_at, agent.due = recorded.at + wait, recorded.mono + wait
            case events.LimitPaused(agent=name, until=until):
                agent = self._agent(name)
                agent.state, agent.reason = AgentState.BACKOFF, Reason.USAGE_LIMIT
                agent.retry_at = agent.limit_until = until
            case events.AdmissionDelayed(agent=name, why=why):
                self._agent(name).delayed = f"for memory: {why}"
            case events.StartDelayed(agent=name, why=why):
                self._agent(name).delayed = why
            case events.LeaderEnded() as event:
                self._leader_ended(event, recorded.seq)
            case events.AgentSkipped(agent=name, why=why):
                self._skip(name, why)
                self.view.failed[name] = None
            case events.BriefWritten(agent=name, folder=folder):
                agent = self._agent(name)
                agent.state, agent.reason, agent.folder = AgentState.COMPLETED, Reason.COMPLETED, folder
                agent.briefed = True
                self.view.failed.pop(name, None)
            case events.AttemptLost() as event:
                self._attempt_lost(event)
            case _:
                self._other_event(recorded)

    def _other_event(self, recorded: Recorded) -> None:
        match recorded.body:
            case events.RunStarted() as event:
                self._run_started(event, recorded)
            case events.RunEnded() as event:
                self._run_ended(event, recorded.at)
            case events.RunPaused(why=why):
                self.view.paused = why
            case events.RunContinued():
                self.view.paused = ""
            case events.HaltRequested(halt=halt):
                self.view.halt = max(halt, self.view.halt)
            case events.HookStarted() as event:
                self.view.hooks[event.folder] = HookView(
                    point=event.point, command=event.command, agent=event.agent, pid=event.pid, started=recorded.at,
                    began=recorded.mono,
                )  # fmt: skip
            case events.HookEnded(folder=folder):
                self.view.hooks.pop(folder, None)
            case event if isinstance(event, events.CompanionEvent):
                _companion_event(self.view, event)
            case event:
                _workspace_event(self.view, event)

    def _agent(self, name: str) -> AgentView:
        """Find an agent; one that no events.RunStarted named is taken in too."""
        if (agent := self.view.agents.get(name)) is None:
            agent = self.view.agents[name] = self._ever.setdefault(name, AgentView(name=name))
        return agent

    def _skip(self, name: str, why: str) -> None:
        agent = self._agent(name)
        agent.state, agent.reason, agent.why = AgentState.SKIPPED, Reason.SKIPPED, why

    def _run_started(self, event: events.RunStarted, recorded: Recorded) -> None:
        view = self.view
        view.name, view.profile, view.task, view.supervisor = event.name, event.profile, event.task, event.supervisor
        view.expected, view.concurrency = event.expected, event.concurrency
        view.version, view.containment = event.version, event.containment
        view.resumes += event.resumed
        view.started = recorded.at if view.started is None else view.started
        view.resumed, view.began = recorded.at, recorded.mono
        view.state, view.halt, view.paused = RunState.RUNNING, Halt.NONE, ""
        view.stop_waiting()
        view.ended = view.seconds = view.exit_code = None
        view.why = ""
        if not event.resumed:
            view.asked, view.only, view.start_from = event.agents, event.only, event.start_from
        if event.boot_id != self._boot:  # no attempt outlives a boot
            self._boot = event.boot_id
            self._lanes.clear()
        by_folder = {each.folder: each for each in view.completed.values()}
        view.completed |= {name: by_folder[folder] for name, folder in event.taken_over.items() if folder in by_folder}
        had = self._of_others(event.taken_over)
        # The profile may have changed since: its order counts, and agents it no longer has are left out
        view.agents = {}
        view.companions = {}
        for name in (*event.agents, *event.skips):
            agent = self._agent(name)
            if name in had:
                agent = self._ever[name] = view.agents[name] = replace(
                    had[name], name=name, attempt=agent.attempt, limit_until=agent.limit_until
                )  # fmt: skip
            agent.pid = agent.retry_at = agent.due = None
            agent.item = event.items.get(name)
            agent.left_out = name in event.skips
            agent.before, agent.briefed = name in event.completed_before, False
            if agent.before:
                view.failed.pop(name, None)
                stands = view.completed.get(name)
                agent.state, agent.reason = AgentState.COMPLETED, stands.reason if stands else Reason.COMPLETED
                agent.folder = event.taken_over.get(name, agent.folder)
            else:
                agent.state, agent.reason, agent.why = AgentState.PENDING, None, ""
        for name, why in event.skips.items():
            if name not in event.completed_before:
                self._skip(name, why)

    def _of_others(self, taken_over: dict[str, str]) -> dict[str, AgentView]:
        """Return the views of attempts that other agents reuse now, by the names of that time."""
        known = {agent.folder: agent for agent in self._ever.values()}
        found = {}
        for name, folder in taken_over.items():
            if name not in self._ever or self._ever[name].folder != folder:
                found[name] = replace(known.get(folder, AgentView(name=name)))
        return found

    def _attempt_started(self, event: events.AttemptStarted, recorded: Recorded) -> None:
        agent = self._agent(event.agent)
        self.view.sequence_violations += list(self._lanes.values()).count(event.lane)
        self._lanes[event.agent, event.attempt] = event.lane
        attempt = AttemptView(
            agent=event.agent, item=agent.item, number=event.attempt, command=event.command, folder=event.folder,
            started=recorded.at, ended=recorded.at, soft=event.soft, hard=event.hard, host_before=event.host_before,
            companions_before=event.companions_before, resumed=event.resumed,
        )  # fmt: skip
        self._last[event.agent] = attempt
        self.view.attempts.append(attempt)
        agent.state, agent.reason, agent.why, agent.delayed = AgentState.RUNNING, None, "", ""
        agent.attempts += 1
        agent.attempt, agent.folder = event.attempt, event.folder
        agent.started, agent.began = recorded.at, recorded.mono
        agent.soft, agent.hard, agent.heap = event.soft, event.hard, event.heap
        agent.host_before, agent.companions_before = event.host_before, event.companions_before
        agent.session, agent.resumed, agent.dialect = event.session, event.resumed, event.dialect
        agent.end = agent.gave_back = agent.host_after = None
        agent.pid = agent.retry_at = agent.due = agent.limit_until = agent.exit_code = agent.signal = None

    def _stop_sent(self, event: events.StopSent, at: float) -> None:
        if (attempt := self._last.get(event.agent)) is not None:
            stop = Stop(at=at, signal=event.signal, reason=event.reason, why=event.why, processes=event.processes)
            attempt.stops += (stop,)

    def _leader_ended(self, event: events.LeaderEnded, seq: int) -> None:
        folder, reason = self._agent(event.agent).folder or f"{event.agent}/{event.attempt}", event.outcome.reason
        self.view.leaving[event.agent] = reason, Completed(event.content, seq, folder, reason)

    def _attempt_ended(self, event: events.AttemptEnded, recorded: Recorded) -> None:
        self.view.leaving.pop(event.agent, None)
        self._lanes.pop((event.agent, event.attempt), None)
        agent, outcome = self._agent(event.agent), event.outcome
        if (attempt := self._last.get(event.agent)) is not None:
            attempt.ended, attempt.over, attempt.seconds = recorded.at, True, outcome.seconds
            attempt.peak, attempt.end = outcome.peak, outcome.end
            attempt.reason, attempt.why, attempt.ok = outcome.reason, outcome.why, event.ok
            attempt.forensics = f"{attempt.folder}/{outcome.forensics}" if outcome.forensics else ""
            attempt.conversation = outcome.conversation
        if outcome.conversation is not None:
            agent.hear(outcome.conversation)
        agent.tool = None
        agent.state = AgentState.DRAINING
        agent.reason, agent.why, agent.processes = outcome.reason, outcome.why, outcome.processes
        agent.leak = outcome.leak
        agent.exit_code, agent.signal, agent.pid = outcome.exit_code, outcome.signal, None
        agent.seconds += outcome.seconds
        agent.peak, agent.end = max(agent.peak, outcome.peak), outcome.end
        agent.hard = event.hard
        agent.forensics = f"{agent.folder}/{outcome.forensics}" if outcome.forensics and agent.folder else None
        agent.left_over += how_many(outcome.left_over)
        self._strays[event.agent] = frozenset(process.pid for process in outcome.left_over)
        agent.rounds += outcome.reason is Reason.UNFINISHED
        _remember(agent, event.content, outcome)
        if event.ok:  # also should the supervisor die in the drain that follows
            folder = agent.folder or f"{event.agent}/{event.attempt}"
            self.view.completed[event.agent] = Completed(event.content, recorded.seq, folder, outcome.reason)
            self.view.failed.pop(event.agent, None)

    def _agent_ended(self, event: events.AgentEnded) -> None:
        agent = self._agent(event.agent)
        agent.state, agent.rounds = _ended_state(event), 0
        agent.reason, agent.why, agent.retry_at, agent.delayed = event.reason, event.why, None, ""
        # An agent that could not even be tried has no attempts to add these up from
        agent.attempts = max(agent.attempts, event.attempts)
        agent.seconds, agent.peak = max(agent.seconds, event.seconds), max(agent.peak, event.peak)
        if agent.state in (AgentState.GAVE_UP, AgentState.SKIPPED, AgentState.LOST):
            self.view.failed[event.agent] = None

    def _attempt_lost(self, event: events.AttemptLost) -> None:
        self._lanes.pop((event.agent, event.attempt), None)
        agent = self._agent(event.agent)
        agent.state, agent.reason, agent.pid = AgentState.LOST, Reason.LOST, None
        agent.why = "its supervisor died"
        self.view.failed[event.agent] = None
        if (heard := event.conversation) is not None:
            agent.hear(heard)
        lost = Outcome(reason=Reason.LOST, why=agent.why, exit=None, seconds=0.0, peak=0, conversation=heard)
        _remember(agent, event.content, lost)
        if (attempt := self._last.get(event.agent)) is not None:
            attempt.reason, attempt.why, attempt.conversation = agent.reason, agent.why, heard

    def _drained(self, event: events.Drained, at: float) -> None:
        agent = self._agent(event.agent)
        if (attempt := self._last.get(event.agent)) is not None:
            attempt.drained, attempt.draining, attempt.drain_reached = at, event.seconds, event.reached
            attempt.gave_back, attempt.host_after = event.gave_back, event.after
        agent.gave_back, agent.host_after = event.gave_back, event.after
        agent.drained, agent.drain_reached = event.seconds, event.reached
        counted = self._strays.get(event.agent, frozenset())
        new = [process for process in event.strays if process.pid not in counted]
        self._strays[event.agent] = counted.union(process.pid for process in new)
        agent.left_over += how_many(new)

    def _run_ended(self, event: events.RunEnded, at: float) -> None:
        view = self.view
        view.state, view.paused = run_state(event.exit_code), ""
        view.stop_waiting()
        view.ended, view.seconds, view.exit_code, view.why = at, event.seconds, event.exit_code, event.why


def _companion_event(view: RunView, event: events.CompanionEvent) -> None:
    name = event.companion
    companion = view.companions.setdefault(name, CompanionView(name=name))
    lives = view.lives.get(name) or CompanionLives(name=name)  # kept once it has started
    match event:
        case events.CompanionStarted(pid=pid):
            companion.state, companion.pid, companion.starts = "starting", pid, companion.starts + 1
            view.lives[name], lives.starts = lives, lives.starts + 1
        case events.CompanionReady(seconds=seconds):
            companion.state, lives.ready = "ready", seconds
        case events.CompanionExited(why=why):
            companion.state, companion.pid, companion.why = "exited", None, why
            lives.exits, lives.why = lives.exits + 1, why
        case events.CompanionStopped(reason=stopped):
            companion.state, companion.pid = "stopped", None
            if stopped is not Restart.RUN_ENDED:  # its next start is reported once it is ready
                companion.why = str(stopped)
        case events.CompanionRestarted(reason=restart, why=why):
            companion.why, lives.why = f"{restart}: {why}", why
            lives.restarts[restart] = lives.restarts.get(restart, 0) + 1


def _workspace_event(view: RunView, event: events.AnyEvent) -> None:
    known = view.workspaces
    match event:
        case events.WorkspaceDue(agent=owner):
            known[owner] = WorkspaceView(
                agent=owner, folder=event.folder, branch=event.branch, git=event.git, user=event.user,
                remote=event.remote, home=event.home, common=event.common,
            )  # fmt: skip
        case events.WorkspaceOpened(agent=name) if (own := known.get("" if event.shared else name)) is not None:
            own.branch, own.base, own.ended, own.removed = event.branch, event.base, False, False
            if own.last != name:
                own.last, own.head, own.snapshot = name, event.head, event.snapshot
        case events.WorkspaceSaved(agent=name, branch=branch):
            if (own := known.get(name) or known.get("")) is not None:
                own.saved += (branch,)
        case events.WorkspaceEnded(agent=owner) if (own := known.get(owner)) is not None:
            own.ended, own.commits, own.changed, own.pushed = True, event.commits, event.changed, event.pushed
            own.removed, own.why, own.holds, own.next = event.removed, event.why, event.holds, event.next
            own.holder = event.branch


def _remember(agent: AgentView, content: str, outcome: Outcome) -> None:
    past = PastAttempt(content=content, session=agent.session, resumed=agent.resumed, outcome=outcome)
    agent.past += (past,)


_NOT_TRIED_OUT = {
    Reason.HALTED: AgentState.HALTED,
    Reason.SKIPPED: AgentState.SKIPPED,
    Reason.LOST: AgentState.LOST,
}


def _ended_state(event: events.AgentEnded) -> AgentState:
    if event.ok:
        return AgentState.COMPLETED
    return _NOT_TRIED_OUT.get(event.reason, AgentState.GAVE_UP)
