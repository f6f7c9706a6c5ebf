"""A run folded from its events, for status, runs, the tables, the report and resume. Pure."""

from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field, to_builtins

from seqsup.model.conversation import Conversation, Tokens, ToolUse
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import MemorySampled
from seqsup.model.outcome import Leak, PastAttempt
from seqsup.model.process import ProcessMemory
from seqsup.model.reason import Reason
from seqsup.text import labelled


class AgentState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DRAINING = "draining"  # its last attempt ended; what follows is not told yet
    BACKOFF = "backoff"  # between two attempts
    COMPLETED = "completed"  # or ended by a reason that the profile expects
    GAVE_UP = "gave-up"
    SKIPPED = "skipped"
    LOST = "lost"  # its supervisor died; a resumed run takes it again
    HALTED = "halted"  # requested by the user


_OURS = ("attempts", "lives", "completed", "began")  # of a run: not shown to programs
_AT_TURN = (AgentState.RUNNING, AgentState.DRAINING, AgentState.BACKOFF)


class RunState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"  # or its supervisor died: only the lock in its folder knows
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"  # by the user, a policy or a usage limit: --resume continues it


class Now(NamedTuple):
    """The present by both clocks: the calendar, which may be set during a run, and the monotonic one.

    An active run is of this boot, so monotonic times in its events are comparable.
    """

    at: float  # epoch
    mono: float


class MemoryFigures(Struct, kw_only=True):
    """Memory around one attempt, in bytes; None: not known, or not yet."""

    host_before: int | None = None  # available on the host before it started
    companions_before: int | None = None  # used by the companions then; None too if there are none
    end: int | None = None  # of its tree before it exited or was stopped, see Outcome
    gave_back: int | None = None  # by its tree and its leftover processes, once they are gone
    host_after: int | None = None  # available on the host after the drain


class AgentView(MemoryFigures, kw_only=True):
    """One agent so far. Attempts, seconds, peak, leftovers, turns, tokens and cost are of all attempts, the rest is of
    the last one.
    """

    name: str
    item: str | None = None  # of for_each
    state: AgentState = AgentState.PENDING
    attempts: int = 0
    rounds: int = 0  # of repeat, whose command did not succeed
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
    leak: Leak | None = None  # of the last attempt
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
    delayed: str = ""  # what its start waits for
    limit_until: float | None = None  # epoch, until a usage limit resets: a resumed run waits for it too
    processes: tuple[ProcessMemory, ...] = ()  # of the last attempt, as it was stopped
    session: str = ""  # id of its conversation; empty: not known, or it has none
    resumed: bool = False  # the last attempt resumed that conversation
    past: tuple[PastAttempt, ...] = ()  # all its attempts that are over
    left_out: bool = False  # by the plan: it is not taken at all
    before: bool = False  # completed by an earlier start of this run
    dialect: str | None = None  # of the JSON stream that its CLI writes
    model: str = ""
    turns: int = 0
    tokens: Tokens = Tokens()
    usd: float | None = None  # None: its CLI reports no cost
    usd_is_partial: bool = False  # an attempt ended before its cost was reported: it is at least `usd`
    usd_of_session: float | None = None  # of all calls of the session, where its CLI reports that
    tool: ToolUse | None = None  # that is in use, while it runs
    briefed: bool = False  # in an artifact-only run: its brief was written, and nothing was started

    @property
    def label(self) -> str:
        """What people know it by."""
        return labelled(self.name, self.item)

    @property
    def expected(self) -> bool:
        """It ended otherwise than completed, as the profile says it should."""
        return self.state is AgentState.COMPLETED and self.reason not in (None, Reason.COMPLETED)

    def hear(self, conversation: Conversation) -> None:
        """Add an attempt's conversation."""
        self.session = conversation.session or self.session
        self.model = conversation.model or self.model
        self.turns += conversation.turns
        self.tokens += conversation.tokens
        if conversation.usd is not None:
            self.usd = (self.usd or 0.0) + conversation.usd
        self.usd_is_partial |= conversation.usd_is_partial
        self.usd_of_session = conversation.usd_of_session
        self.tool = conversation.tool

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


class Stop(Struct, frozen=True, kw_only=True):
    """A signal that was sent to a tree, and the processes in it."""

    at: float
    signal: str
    reason: Reason | None
    why: str
    processes: tuple[ProcessMemory, ...]


class AttemptView(MemoryFigures, kw_only=True):
    """One attempt of an agent; times in seconds since the epoch."""

    agent: str
    item: str | None = None  # of for_each
    number: int
    command: tuple[str, ...]
    folder: str
    started: float
    ended: float
    seconds: float | None = None  # by the monotonic clock, once it is over
    over: bool = False
    soft: int | None = None
    hard: int | None = None
    peak: int = 0
    reason: Reason | None = None
    why: str = ""
    ok: bool = False
    conversation: Conversation | None = None  # once it is over
    stops: tuple[Stop, ...] = ()
    drained: float | None = None  # when memory was back, or was given up
    draining: float | None = None  # seconds until then
    drain_reached: bool = True  # it was back
    forensics: str = ""  # the file that says more, in the run's folder
    resumed: bool = False  # it resumed the conversation of the one before
    samples: tuple[MemorySampled, ...] = ()  # of the run's timeline: only the report reads it

    @property
    def label(self) -> str:
        """What people know its agent by."""
        return labelled(self.agent, self.item)

    @property
    def took(self) -> float:
        return self.ended - self.started if self.seconds is None else self.seconds

    @property
    def stopped(self) -> float | None:
        """When it was first told to stop, for a reason."""
        return next((stop.at for stop in self.stops if stop.reason is not None), None)


class CompanionLives(Struct, kw_only=True):
    """All starts of one companion in this run."""

    name: str
    starts: int = 0
    restarts: dict[Restart, int] = field(default_factory=dict)
    exits: int = 0  # by itself
    peak: int = 0  # of the run's timeline: only the report reads it
    ready: float | None = None  # seconds until it was ready, the last time
    why: str = ""  # of its last exit or restart


class CompanionView(Struct, kw_only=True):
    """A companion as it is now."""

    name: str
    state: str = "starting"  # starting, ready, exited, stopped
    pid: int | None = None
    starts: int = 0
    why: str = ""  # of its last exit or restart


class HookView(Struct, kw_only=True):
    """A hook that runs."""

    point: str
    command: str
    agent: str  # its agent; empty: the run
    pid: int
    started: float  # epoch
    began: float  # the same, monotonic


class WorkspaceView(Struct, kw_only=True):
    """A workspace of the run."""

    agent: str  # its owner; empty: the whole run
    folder: str
    branch: str
    git: str
    user: str | None = None
    remote: bool = False
    home: str = ""
    common: str = ""
    base: str = ""  # the commit that its branch began with; empty: no agent was in it yet
    last: str = ""  # the agent that was in it last
    head: str = ""  # the commit that this agent began with
    snapshot: str = ""  # and a commit of all files, if some were not committed
    holder: str = ""  # the branch that its agent's work is on, once it is over
    saved: tuple[str, ...] = ()  # branches with work of attempts that failed
    ended: bool = False  # its agent is over, and what follows is known
    commits: int = 0
    changed: int = 0
    pushed: bool = False
    removed: bool = False
    why: str = ""
    holds: str = ""
    next: tuple[str, ...] = ()


class RunView(Struct, kw_only=True):
    """One run so far. The agents are in the plan's order."""

    run: str = ""
    name: str = ""
    profile: str | None = None
    task: str = ""
    state: RunState = RunState.STARTING
    agents: dict[str, AgentView] = field(default_factory=dict)
    attempts: list[AttemptView] = field(default_factory=list)  # of all agents, as they began
    companions: dict[str, CompanionView] = field(default_factory=dict)
    lives: dict[str, CompanionLives] = field(default_factory=dict)  # by companion
    hooks: dict[str, HookView] = field(default_factory=dict)  # by folder
    workspaces: dict[str, WorkspaceView] = field(default_factory=dict)  # by owner
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
    sequence_violations: int = 0  # pairs of attempts that ran at the same time in one lane
    completed: dict[str, Completed] = field(default_factory=dict)  # by agent: what resume need not run again
    # Agents that failed or were lost, or skipped because of those, and have not completed since
    failed: dict[str, None] = field(default_factory=dict)
    # Agents that exited as the profile expects, while their leftover processes are still being stopped
    leaving: dict[str, tuple[Reason, Completed]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()  # the agents with which the run was started
    only: tuple[str, ...] = ()
    start_from: str | None = None

    def count(self, *states: AgentState) -> int:
        return sum(agent.state in states for agent in self.agents.values())

    @property
    def items(self) -> dict[str, str | None]:
        """Return each agent with its item of for_each: those of an earlier part of the run, too."""
        return {each.agent: each.item for each in self.attempts} | {
            name: agent.item for name, agent in self.agents.items()
        }

    @property
    def owed(self) -> list[str]:
        """Return the agents of this run that have not completed yet."""
        asked = (self.agents[name] for name in self.asked if name in self.agents)
        return [agent.name for agent in asked if agent.state is not AgentState.COMPLETED]

    @property
    def at_turn(self) -> list[AgentView]:
        """Return the active agents, also between attempts: in lanes more than one."""
        return [agent for agent in self.agents.values() if agent.state in _AT_TURN]

    @property
    def awaited(self) -> list[AgentView]:
        """Return the active agents, and those whose first attempt is delayed."""
        return [agent for agent in self.agents.values() if agent.delayed or agent.state in _AT_TURN]

    @property
    def between(self) -> str:
        """Return the phase of a run without an active agent: hooks run then, and companions start and stop."""
        pending = self.count(AgentState.PENDING)
        if pending + self.count(AgentState.SKIPPED) == len(self.agents):
            return "before the first agent"
        return "between agents" if pending and not self.halt else "after the last agent: hooks and notifications"

    def lose(self) -> None:
        """Mark agents as lost that were active when the supervisor died, before a sweep records it, also between
        attempts. One that had exited well stays completed.
        """
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
        for attempt in self.attempts:
            if attempt.reason is None and (of := self.agents.get(attempt.agent)) is not None:
                attempt.reason, attempt.ok = of.reason, of.state is AgentState.COMPLETED

    def stop_waiting(self) -> None:
        """Clear all waits, for hooks and for memory."""
        self.hooks.clear()
        for agent in self.agents.values():
            agent.delayed = ""

    def _stands(self, agent: AgentView) -> bool:
        """Say whether an agent's last attempt is the one that completed."""
        return agent.name in self.completed and self.completed[agent.name].folder == agent.folder

    def fields(self) -> dict[str, Any]:
        """Return the fields that programs get."""
        told = {name: to_builtins(getattr(self, name)) for name in self.__struct_fields__ if name not in _OURS}
        for agent in told["agents"].values():
            del agent["began"], agent["due"], agent["past"]
        told["hooks"] = list(told["hooks"].values())
        told["workspaces"] = list(told["workspaces"].values())
        for hook in told["hooks"]:
            del hook["began"]
        return told

    @property
    def highest(self) -> AgentView | None:
        """The agent with the highest peak."""
        ran = [agent for agent in self.agents.values() if agent.peak]
        return max(ran, key=lambda agent: agent.peak, default=None)


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


def run_state(exit_code: int) -> RunState:
    if exit_code == 0:
        return RunState.COMPLETED
    # 4 policy, 75 usage limit, 128+n a signal: it can be resumed
    return RunState.STOPPED if exit_code in (4, 75) or exit_code > 128 else RunState.FAILED
