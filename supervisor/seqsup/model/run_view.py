"""A run as its events tell it: what status, runs, the final table and resume know. Pure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from seqsup.model.enums import Halt, Restart
from seqsup.model.events import (
    AdmissionDelayed,
    AgentEnded,
    AgentSkipped,
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    BriefWritten,
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    Drained,
    GcDone,
    HaltRequested,
    HookEnded,
    HookStarted,
    LeaderEnded,
    LimitPaused,
    Recorded,
    RetryScheduled,
    RunContinued,
    RunEnded,
    RunPaused,
    RunStarted,
    Spawned,
)
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import how_many
from seqsup.model.reason import Reason


class AgentState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DRAINING = "draining"  # its last attempt ended; what follows is not told yet
    BACKOFF = "backoff"  # between two attempts
    COMPLETED = "completed"  # or ended by a reason that the profile expects
    GAVE_UP = "gave-up"
    SKIPPED = "skipped"
    LOST = "lost"  # its supervisor died; a resumed run takes it again
    HALTED = "halted"  # the operator's wish


_AT_TURN = (AgentState.RUNNING, AgentState.DRAINING, AgentState.BACKOFF)


class RunState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"  # or its supervisor died: only the lock in its folder knows
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"  # by the operator, a policy or a usage limit: --resume goes on


class Now(NamedTuple):
    """The present by both clocks: the calendar, which may be set while a run goes on, and the one that only counts.

    A run whose supervisor lives is of this boot, so that what its events say of the second is comparable.
    """

    at: float  # epoch
    mono: float


class AgentView(Struct, kw_only=True):
    """One agent so far: attempts, seconds, peak and leftovers of all attempts, the rest of the last one."""

    name: str
    state: AgentState = AgentState.PENDING
    attempts: int = 0
    reason: Reason | None = None
    why: str = ""
    seconds: float = 0.0
    peak: int = 0
    soft: int | None = None
    hard: int | None = None
    heap: int | None = None
    left_over: int = 0
    drained: float | None = None  # seconds until memory was proven to be back
    drain_reached: bool | None = None
    gc_freed: int | None = None  # by all collections
    forensics: str | None = None  # the last attempt's, in the run's folder
    exit_code: int | None = None
    signal: int | None = None
    attempt: int | None = None  # the last one's number, and its place in the run's folder
    folder: str | None = None
    pid: int | None = None  # only while it runs
    started: float | None = None  # epoch, of the last attempt
    began: float | None = None  # the same, monotonic
    retry_at: float | None = None  # epoch, while it waits for its next attempt
    due: float | None = None  # the same, monotonic; None: it waits for a time of day
    delayed: str = ""  # while it waits for the memory that it may take: what is missing
    limit_until: float | None = None  # epoch, until a usage limit resets: whoever resumes waits for it too
    processes: tuple[ProcessMemory, ...] = ()  # of the last attempt, as it was stopped
    left_out: bool = False  # by the plan: it is not taken at all
    before: bool = False  # completed by an earlier start of this run

    @property
    def expected(self) -> bool:
        """It ended otherwise than completed, as the profile says it should."""
        return self.state is AgentState.COMPLETED and self.reason not in (None, Reason.COMPLETED)

    def waits(self, now: Now) -> float:
        """Seconds until its next attempt."""
        left = (self.retry_at or now.at) - now.at if self.due is None else self.due - now.mono
        return max(0.0, left)


class Completed(Struct, frozen=True):
    """The last attempt of an agent that went as the profile expects."""

    content: str
    seq: int  # of the event that told its end
    folder: str
    reason: Reason = Reason.COMPLETED


class CompanionView(Struct, kw_only=True):
    """What lives beside the agents."""

    name: str
    state: str = "starting"  # starting, ready, exited, stopped
    pid: int | None = None
    starts: int = 0
    why: str = ""  # of its last exit or restart


class HookView(Struct, kw_only=True):
    """A hook that runs."""

    point: str
    command: str
    agent: str  # whose it is; empty: the run's
    pid: int
    started: float  # epoch
    began: float  # the same, monotonic


class RunView(Struct, kw_only=True):
    """One run so far. The agents stand in the plan's order."""

    run: str = ""
    name: str = ""
    profile: str | None = None
    task: str = ""
    state: RunState = RunState.STARTING
    agents: dict[str, AgentView] = field(default_factory=dict)
    companions: dict[str, CompanionView] = field(default_factory=dict)
    hooks: dict[str, HookView] = field(default_factory=dict)  # by folder
    expected: dict[str, float] = field(default_factory=dict)  # seconds, of agents that ran before
    halt: Halt = Halt.NONE
    paused: str = ""  # why no further agent is started
    concurrency: int = 1  # agents at a time
    supervisor: int | None = None
    version: str = ""
    containment: str = ""
    resumes: int = 0
    started: float | None = None  # epoch, of the first start
    resumed: float | None = None  # epoch, of the last start
    began: float | None = None  # the same, monotonic
    ended: float | None = None
    seconds: float | None = None  # of the last start, once it ended
    exit_code: int | None = None
    why: str = ""
    sequence_violations: int = 0
    completed: dict[str, Completed] = field(default_factory=dict)  # by agent: what resume need not run again
    # Agents that gave up or were lost, or skipped for want of such, and did not complete since
    failed: dict[str, None] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)  # what each agent was when it was tried last
    # Agents that ended as the profile expects, while what they left behind is still being stopped
    leaving: dict[str, tuple[Reason, Completed]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()  # the agents that the run was begun with
    only: tuple[str, ...] = ()
    start_from: str | None = None

    def count(self, *states: AgentState) -> int:
        return sum(agent.state in states for agent in self.agents.values())

    @property
    def owed(self) -> list[str]:
        """Agents that the run was begun with, and that are still to complete."""
        asked = (self.agents[name] for name in self.asked if name in self.agents)
        return [agent.name for agent in asked if agent.state is not AgentState.COMPLETED]

    @property
    def at_turn(self) -> list[AgentView]:
        """Whose turn it is, also between attempts: in lanes more than one."""
        return [agent for agent in self.agents.values() if agent.state in _AT_TURN]

    @property
    def awaited(self) -> list[AgentView]:
        """Those, and who waits for memory before its first attempt."""
        return [agent for agent in self.agents.values() if agent.delayed or agent.state in _AT_TURN]

    @property
    def between(self) -> str:
        """Where the run is while it is nobody's turn: hooks run there, and companions start and end."""
        pending = self.count(AgentState.PENDING)
        if pending + self.count(AgentState.SKIPPED) == len(self.agents):
            return "before the first agent"
        return "between agents" if pending and not self.halt else "after the last agent"

    def lose(self) -> None:
        """Take for lost whose turn it was when the supervisor died, before a sweep has told so, also between two tries;
        but not who had ended well."""
        self.stop_waiting()
        for companion in self.companions.values():
            if companion.pid is not None:
                companion.state, companion.pid = "lost", None
        for agent in self.at_turn:
            agent.pid = agent.retry_at = agent.due = None
            if agent.state is AgentState.RUNNING and agent.name in self.leaving:
                agent.state = AgentState.COMPLETED
                agent.reason, self.completed[agent.name] = self.leaving[agent.name]
            elif agent.state is AgentState.DRAINING and self._stands(agent):
                agent.state = AgentState.COMPLETED
            elif agent.state is AgentState.DRAINING and agent.reason is Reason.HALTED:
                agent.state = AgentState.HALTED
            else:
                agent.state, agent.reason = AgentState.LOST, Reason.LOST
                self.failed[agent.name] = None

    def stop_waiting(self) -> None:
        """Nothing of it is waited for any more: neither hooks nor memory."""
        self.hooks.clear()
        for agent in self.agents.values():
            agent.delayed = ""

    def _stands(self, agent: AgentView) -> bool:
        """Say whether an agent's last attempt is the one that completed."""
        return agent.name in self.completed and self.completed[agent.name].folder == agent.folder

    def fields(self) -> dict[str, Any]:
        """What programs are told of it."""
        told: dict[str, Any] = to_builtins(self)
        del told["completed"], told["contents"], told["began"]
        for agent in told["agents"].values():
            del agent["began"], agent["due"]
        told["hooks"] = list(told["hooks"].values())
        for hook in told["hooks"]:
            del hook["began"]
        return told

    @property
    def highest(self) -> AgentView | None:
        """The agent with the highest peak."""
        ran = [agent for agent in self.agents.values() if agent.peak]
        return max(ran, key=lambda agent: agent.peak, default=None)


def fold(events: Iterable[Recorded]) -> RunView:
    """Read a whole history, or as much of it as there is."""
    history = History()
    for recorded in events:
        history.apply(recorded)
    return history.view


def remaining(view: RunView, now: float) -> tuple[float, int]:
    """Seconds that the agents still to come usually take, and how many of them nothing is known of.

    `now` is monotonic.
    """
    seconds, unknown = 0.0, 0
    for agent in view.agents.values():
        if agent.state not in (AgentState.PENDING, AgentState.RUNNING, AgentState.BACKOFF):
            continue
        if (usual := view.expected.get(agent.name)) is None:
            unknown += 1
        elif agent.state is AgentState.RUNNING and agent.began is not None:
            seconds += max(usual - max(now - agent.began, 0.0), 0.0)
        else:
            seconds += usual
    return seconds, unknown


class History:
    """A view that grows with its events, each applied once and in order."""

    def __init__(self) -> None:
        self.view = RunView()
        self._ever: dict[str, AgentView] = {}  # also agents that a later profile left out, and may bring back
        self._strays: dict[str, frozenset[int]] = {}  # by agent: pids already counted as left over by its last attempt

    def apply(self, recorded: Recorded) -> None:
        self.view.run = recorded.run
        match recorded.body:
            case RunStarted() as event:
                self._run_started(event, recorded)
            case HaltRequested(halt=halt):
                self.view.halt = max(halt, self.view.halt)
            case AttemptStarted() as event:
                self._attempt_started(event, recorded)
            case Spawned(agent=agent, pid=pid):
                self._agent(agent).pid = pid
            case LeaderEnded(agent=agent, content=content, attempt=attempt, outcome=outcome):
                folder = self._agent(agent).folder or f"{agent}/{attempt}"
                self.view.leaving[agent] = outcome.reason, Completed(content, recorded.seq, folder, outcome.reason)
            case AttemptEnded() as event:
                self._attempt_ended(event, recorded.seq)
            case GcDone(owner=owner, collection=collection) if not owner.companion:
                collected = self._agent(owner.name)
                collected.gc_freed = (collected.gc_freed or 0) + collection.freed
            case AdmissionDelayed(agent=agent, why=why):
                self._agent(agent).delayed = why
            case RetryScheduled(agent=agent, wait=wait):
                waiting = self._agent(agent)
                waiting.state = AgentState.BACKOFF
                waiting.retry_at, waiting.due = recorded.at + wait, recorded.mono + wait
            case LimitPaused(agent=agent, until=until):
                paused = self._agent(agent)
                paused.state, paused.reason = AgentState.BACKOFF, Reason.USAGE_LIMIT
                paused.retry_at = paused.limit_until = until
            case AgentEnded() as event:
                self._agent_ended(event)
            case BriefWritten(agent=agent, folder=folder):
                briefed = self._agent(agent)
                briefed.state, briefed.reason, briefed.folder = AgentState.COMPLETED, Reason.COMPLETED, folder
                self.view.failed.pop(agent, None)
            case AgentSkipped(agent=agent, why=why):
                self._skip(agent, why)
                self.view.failed[agent] = None
                self.view.contents.pop(agent, None)
            case Drained() as event:
                self._drained(event)
            case AttemptLost(agent=agent):
                lost = self._agent(agent)
                lost.state, lost.reason, lost.pid = AgentState.LOST, Reason.LOST, None
                lost.why = "its supervisor died"
                self.view.failed[agent] = None
            case RunPaused(why=why):
                self.view.paused = why
            case RunContinued():
                self.view.paused = ""
            case CompanionStarted(companion=name, pid=pid):
                companion = self._companion(name)
                companion.state, companion.pid, companion.starts = "starting", pid, companion.starts + 1
            case CompanionReady(companion=name):
                self._companion(name).state = "ready"
            case CompanionExited(companion=name, why=why):
                companion = self._companion(name)
                companion.state, companion.pid, companion.why = "exited", None, why
            case CompanionStopped(companion=name, reason=stopped):
                companion = self._companion(name)
                companion.state, companion.pid = "stopped", None
                if stopped is not Restart.RUN_ENDED:  # of its next start, which is told whole once it is ready
                    companion.why = str(stopped)
            case CompanionRestarted(companion=name, reason=restart, why=why):
                self._companion(name).why = f"{restart}: {why}"
            case HookStarted(point=point, command=command, agent=agent, pid=pid, folder=folder):
                self.view.hooks[folder] = HookView(
                    point=point, command=command, agent=agent, pid=pid, started=recorded.at, began=recorded.mono
                )
            case HookEnded(folder=folder):
                self.view.hooks.pop(folder, None)
            case RunEnded() as event:
                self._run_ended(event, recorded.at)

    def _agent(self, name: str) -> AgentView:
        """Find an agent; one that no RunStarted named is taken in too."""
        return self.view.agents.setdefault(name, self._ever.setdefault(name, AgentView(name=name)))

    def _companion(self, name: str) -> CompanionView:
        return self.view.companions.setdefault(name, CompanionView(name=name))

    def _skip(self, name: str, why: str) -> None:
        agent = self._agent(name)
        agent.state, agent.reason, agent.why = AgentState.SKIPPED, Reason.SKIPPED, why

    def _run_started(self, event: RunStarted, recorded: Recorded) -> None:
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
            agent.left_out = name in event.skips
            agent.before = name in event.completed_before
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
        """What is known of attempts that stand for other agents now: of those who had their names then."""
        known = {agent.folder: agent for agent in self._ever.values()}
        found = {}
        for name, folder in taken_over.items():
            if name not in self._ever or self._ever[name].folder != folder:
                found[name] = replace(known.get(folder, AgentView(name=name)))
        return found

    def _attempt_started(self, event: AttemptStarted, recorded: Recorded) -> None:
        agent = self._agent(event.agent)
        self.view.contents[event.agent] = event.content
        agent.state, agent.reason, agent.why, agent.delayed = AgentState.RUNNING, None, "", ""
        agent.attempts += 1
        agent.attempt, agent.folder = event.attempt, event.folder
        agent.started, agent.began = recorded.at, recorded.mono
        agent.soft, agent.hard, agent.heap = event.soft, event.hard, event.heap
        agent.pid = agent.retry_at = agent.due = agent.limit_until = agent.exit_code = agent.signal = None

    def _attempt_ended(self, event: AttemptEnded, seq: int) -> None:
        self.view.leaving.pop(event.agent, None)
        agent, outcome = self._agent(event.agent), event.outcome
        agent.state = AgentState.DRAINING
        agent.reason, agent.why, agent.processes = outcome.reason, outcome.why, outcome.processes
        agent.exit_code, agent.signal, agent.pid = outcome.exit_code, outcome.signal, None
        agent.seconds += outcome.seconds
        agent.peak = max(agent.peak, outcome.peak)
        agent.hard = event.hard
        agent.forensics = f"{agent.folder}/{outcome.forensics}" if outcome.forensics and agent.folder else None
        agent.left_over += how_many(outcome.left_over)
        self._strays[event.agent] = frozenset(process.pid for process in outcome.left_over)
        if event.ok:  # also should the supervisor die in the drain that follows
            folder = agent.folder or f"{event.agent}/{event.attempt}"
            self.view.completed[event.agent] = Completed(event.content, seq, folder, outcome.reason)
            self.view.failed.pop(event.agent, None)

    def _agent_ended(self, event: AgentEnded) -> None:
        agent = self._agent(event.agent)
        agent.state = _ended_state(event)
        agent.reason, agent.why, agent.retry_at, agent.delayed = event.reason, event.why, None, ""
        # An agent that could not even be tried has no attempts to add these up from
        agent.attempts = max(agent.attempts, event.attempts)
        agent.seconds, agent.peak = max(agent.seconds, event.seconds), max(agent.peak, event.peak)
        if agent.state in (AgentState.GAVE_UP, AgentState.SKIPPED, AgentState.LOST):
            self.view.failed[event.agent] = None

    def _drained(self, event: Drained) -> None:
        agent = self._agent(event.agent)
        agent.drained, agent.drain_reached = event.seconds, event.reached
        counted = self._strays.get(event.agent, frozenset())
        new = [process for process in event.strays if process.pid not in counted]
        self._strays[event.agent] = counted.union(process.pid for process in new)
        agent.left_over += how_many(new)

    def _run_ended(self, event: RunEnded, at: float) -> None:
        view = self.view
        view.state, view.paused = run_state(event.exit_code), ""
        view.stop_waiting()
        view.ended, view.seconds, view.exit_code = at, event.seconds, event.exit_code
        view.why, view.sequence_violations = event.why, event.sequence_violations


_NOT_TRIED_OUT = {
    Reason.HALTED: AgentState.HALTED,
    Reason.SKIPPED: AgentState.SKIPPED,
    Reason.LOST: AgentState.LOST,
}


def _ended_state(event: AgentEnded) -> AgentState:
    if event.ok:
        return AgentState.COMPLETED
    return _NOT_TRIED_OUT.get(event.reason, AgentState.GAVE_UP)


def run_state(exit_code: int) -> RunState:
    if exit_code == 0:
        return RunState.COMPLETED
    # 4 policy, 75 usage limit, 128+n a signal: it can go on where it stopped
    return RunState.STOPPED if exit_code in (4, 75) or exit_code > 128 else RunState.FAILED
