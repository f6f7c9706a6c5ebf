"""Events of a run: one frozen value each, read by journal, log, JSON stream and table."""

from typing import ClassVar

from msgspec import Struct

from seqsup.model.conversation import Conversation
from seqsup.model.enums import Halt, OnTimeout, Restart
from seqsup.model.outcome import Outcome
from seqsup.model.process import Collection, Heap, ProcessMemory, Surroundings
from seqsup.model.reason import Reason


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")


class Event(Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """Tagged with its name in snake_case; sizes in bytes, times in seconds."""


class RunStarted(Event, frozen=True):
    """A run started, or was resumed."""

    name: str
    profile: str | None
    task: str
    agents: tuple[str, ...]
    skips: dict[str, str]  # agent -> why
    supervisor: int  # pid
    boot_id: str
    version: str
    containment: str
    resumed: bool
    completed_before: tuple[str, ...]  # agents of the plan that an earlier part of this run completed
    taken_over: dict[str, str]  # of those: agent -> the folder of the attempt that it reuses
    again: dict[str, str]  # agents that had completed and run again -> why
    expected: dict[str, float]  # agents that are to run -> seconds, of those that ran before
    waited: float  # for the machine's turn
    concurrency: int  # agents at a time
    listen: str | None  # where its figures are served
    file_sd: str | None  # the file that leads Prometheus there
    python: str  # version
    only: tuple[str, ...]  # agents named with --only, or retried
    start_from: str | None  # as given with --from
    gone: tuple[str, ...]  # agents of an earlier start that the profile no longer has
    items: dict[str, str] = {}  # copy of for_each, also one in `gone` -> its item


class HaltRequested(Event, frozen=True):
    """The user or a signal asked the run to stop."""

    halt: Halt
    by: str


class AttemptStarted(Event, frozen=True):
    """An attempt is about to start. This is on disk before its process exists, so that no agent runs unknown."""

    agent: str
    attempt: int
    content: str
    command: tuple[str, ...]
    hard: int | None
    heap: int | None
    folder: str
    runtime: str
    options: tuple[str, ...]  # what we put into NODE_OPTIONS; never the user's own
    soft: int | None
    lane: int
    host_before: int | None = None  # bytes that the host has available; None in old journals
    companions_before: int | None = None  # bytes that the companions use; None if there are none
    session: str = ""  # id of its conversation; empty: the CLI chooses one, or has none
    resumed: bool = False  # it resumes that conversation
    dialect: str | None = None  # of the JSON stream on its stdout; None: it writes none


class WorkspaceDue(Event, frozen=True):
    """A workspace is about to be made. This is on disk before git is called, so that none is forgotten."""

    agent: str  # its owner; empty: the whole run
    folder: str  # absolute; nothing was there
    branch: str  # as wanted
    git: str  # folder or address of the repository, without a password
    user: str | None  # its owner, if seqsup runs as root
    remote: bool
    home: str  # a folder of the repository; empty: it is remote
    common: str


class WorkspaceOpened(Event, frozen=True):
    """An agent's workspace is ready for its next attempt."""

    agent: str
    attempt: int
    shared: bool  # it is the whole run's
    folder: str
    branch: str
    base: str  # the commit that the branch began with
    head: str  # the commit that the agent begins with
    snapshot: str  # a commit of all files that it begins with, if some are not committed; empty: all are


class WorkspaceSaved(Event, frozen=True):
    """Work of an attempt that failed is on a branch of its own. The next attempt starts without it."""

    agent: str
    attempt: int  # the one that failed
    branch: str
    commits: int
    files: int  # that were not committed


class WorkspaceEnded(Event, frozen=True):
    """The agent of a workspace ended, or the run that shares it."""

    agent: str  # its owner; empty: the whole run
    folder: str
    branch: str
    commits: int  # on the branch
    changed: int  # files that are not committed
    pushed: bool
    removed: bool  # the folder is gone; the branch stays
    why: str  # what is wrong: a push failed, or git did
    holds: str  # which work would be lost with the folder
    next: tuple[str, ...]  # commands for the user


class Spawned(Event, frozen=True):
    """The attempt's first process started."""

    agent: str
    attempt: int
    pid: int
    start_time: int  # ticks since boot, of /proc/PID/stat: with the pid the identity of a process


class SessionReported(Event, frozen=True):
    """The agent's CLI reported the session by which it resumes the conversation."""

    agent: str
    attempt: int
    session: str


class AgentProgress(Event, frozen=True):
    """Progress of an agent's conversation, at most once a second. It is kept in the run's timeline, not in the
    journal.
    """

    agent: str
    attempt: int
    conversation: Conversation


class MemorySampled(Event, frozen=True):
    """Memory of an attempt, once a second. It is kept in the run's timeline, not in the journal."""

    at: float  # seconds since the epoch
    mono: float  # the same moment in monotonic seconds
    agent: str
    attempt: int
    used: int
    peak: int  # since the one before
    processes: int
    host_available: int
    programs: dict[str, int]  # the largest, by what their user calls them
    heap: Heap | None = None
    around: Surroundings | None = None
    printed: tuple[int, int] | None = None  # bytes of its stdout and stderr so far
    companions: dict[str, int] = {}  # what the tree of each holds
    conversation: Conversation | None = None  # if it has changed since the line before


class MemoryWarned(Event, frozen=True):
    """The tree exceeded memory.warn."""

    agent: str
    attempt: int
    used: int
    warn: int


class OutputCut(Event, frozen=True):
    """A stream exceeded output.max. Its middle is not kept. Reported once for each stream."""

    agent: str
    attempt: int
    stream: str
    size: int
    most: int


class MemoryHigh(Event, frozen=True):
    """The tree exceeded memory.soft for the first time in this attempt."""

    agent: str
    attempt: int
    used: int
    soft: int


class ToolKilled(Event, frozen=True):
    """A process of a tool was killed to spare the agent: its tree exceeded a limit, or the kernel ran out of memory."""

    agent: str
    attempt: int
    process: ProcessMemory
    used: int  # by the whole tree
    limit: int
    key: str  # of [memory], which has that limit: soft or hard
    why: str


class Owner(Struct, frozen=True, kw_only=True):
    """An attempt of an agent, or a start of a companion: its tree is what an event is about."""

    name: str
    number: int
    companion: bool = False


class GcRequested(Event, frozen=True):
    """seqsup requested a GC, because the tree exceeded a limit, or as gc.mode says."""

    owner: Owner
    used: int
    limit: int | None  # memory.soft or memory.warn of an agent, memory.hard of a companion; None: below it
    processes: int  # Node processes that answer
    key: str = "soft"  # of [memory], which has that limit


class GcDone(Event, frozen=True):
    """Result of a GC, also of one that a user requested."""

    owner: Owner
    used: int  # by the whole tree, now
    collection: Collection


class StopSent(Event, frozen=True):
    """SIGTERM or SIGKILL was sent to the whole tree."""

    agent: str
    attempt: int
    signal: str
    reason: Reason | None  # None: leftovers of an agent that ended by itself
    why: str
    processes: tuple[ProcessMemory, ...]


class LeaderEnded(Event, frozen=True):
    """The agent's first process exited as the profile expects, but leftover processes are running. If seqsup dies while
    it stops them, this is the attempt's result.
    """

    agent: str
    attempt: int
    content: str
    hard: int | None
    outcome: Outcome


class AttemptEnded(Event, frozen=True):
    """An attempt ended, and no process of it is left."""

    agent: str
    attempt: int
    content: str
    ok: bool  # completed, or a reason that the profile expects: a resumed run does not take this agent again
    hard: int | None
    outcome: Outcome


class AdmissionDelayed(Event, frozen=True):
    """An agent waits until the memory that it may need is available."""

    agent: str
    need: int | None
    room: int  # bytes that may be taken now
    why: str


class RetryScheduled(Event, frozen=True):
    """The agent is retried after a wait."""

    agent: str
    attempt: int  # the next one
    wait: float
    after: Reason
    heap: int | None
    bare: bool = False  # without our Node options, which broke the last one
    outlook: str = ""  # what the next attempt can expect: its heap limit, and a leak that may return
    resumes: bool | None = None  # it resumes the conversation, or starts a fresh one; None: the agent has none


class LimitPaused(Event, frozen=True):
    """The run waits until a usage limit resets. This holds for a resumed run too."""

    agent: str
    attempt: int  # the next one
    until: float  # epoch
    why: str


class StartDelayed(Event, frozen=True):
    """The agent's next attempt does not start yet, although nothing else is missing."""

    agent: str
    until: float  # epoch
    why: str


class AgentEnded(Event, frozen=True):
    """An agent's last attempt ended."""

    agent: str
    content: str
    reason: Reason
    why: str
    attempts: int
    ok: bool
    seconds: float  # of all attempts, without waits
    peak: int
    not_retried: str = ""  # why, although retry.attempts allows more


class AgentSkipped(Event, frozen=True):
    """An agent does not run."""

    agent: str
    why: str


class Drained(Event, frozen=True):
    """Memory is back after an attempt, or not in time."""

    agent: str
    attempt: int
    reached: bool
    seconds: float
    before: int  # MemAvailable of the host before the attempt
    after: int  # MemAvailable now
    owned: int  # bytes that the run still holds: supervisor and allowed leftovers
    strays: tuple[ProcessMemory, ...]  # found by cookie, outside the supervisor's descendants
    why: str = ""
    on_timeout: OnTimeout | None = None
    end: int | None = None  # of the attempt's outcome
    gave_back: int | None = None  # bytes of its tree and leftover processes that are gone; None: never measured


class AgentDue(Event, frozen=True):
    """An agent is about to start. Reported only if a hook asks for it."""

    agent: str
    content: str
    command: tuple[str, ...]


class CompanionStarted(Event, frozen=True):
    """A companion's process started."""

    companion: str
    number: int  # of its starts in this run
    pid: int
    command: tuple[str, ...]
    folder: str  # within the run's: its output


class CompanionReady(Event, frozen=True):
    """A companion is ready."""

    companion: str
    number: int
    seconds: float


class CompanionExited(Event, frozen=True):
    """A companion exited by itself, was not ready in time, or grew far too large."""

    companion: str
    number: int
    why: str
    exit_code: int | None
    signal: int | None
    seconds: float
    folder: str
    output: str  # the end of it


class CompanionStopped(Event, frozen=True):
    """seqsup stopped a companion, and no process of it is left."""

    companion: str
    number: int
    reason: Restart
    seconds: float
    processes: tuple[ProcessMemory, ...]


class CompanionRestarted(Event, frozen=True):
    """A companion was restarted: the old tree is gone and the new one is ready."""

    companion: str
    number: int
    reason: Restart
    why: str


class ChainEnded(Event, frozen=True):
    """A chain ended: due companions are restarted, and memory is back or not."""

    chain: int
    agents: int
    reached: bool
    seconds: float
    baseline: int  # bytes that the host had available before the first agent
    available: int  # and now
    owned: int  # bytes that the run holds: supervisor, companions, allowed leftovers
    why: str = ""


class HookStarted(Event, frozen=True):
    """A hook started."""

    point: str
    command: str
    agent: str
    pid: int
    folder: str  # within the run's: its output


class HookEnded(Event, frozen=True):
    """A hook exited or was stopped."""

    point: str
    command: str
    agent: str
    ok: bool
    why: str  # it is no success
    exit_code: int | None
    signal: int | None
    seconds: float
    folder: str  # within the run's: its output
    output: str  # the end of it, of one that failed
    left_over: tuple[ProcessMemory, ...] = ()


class Unkillable(Event, frozen=True):
    """Processes are still running after SIGKILL."""

    agent: str
    processes: tuple[ProcessMemory, ...]
    seconds: float
    why: str = ""  # of each: uninterruptible sleep, and in which call of the kernel's, or another user's by now


class AttemptLost(Event, frozen=True):
    """The supervisor died during an attempt. A later seqsup found that, and stopped leftover processes."""

    agent: str
    attempt: int
    content: str
    stopped: tuple[ProcessMemory, ...]
    conversation: Conversation | None = None  # as the run's timeline had it last


class Warned(Event, frozen=True):
    """A warning of seqsup."""

    message: str


class BriefWritten(Event, frozen=True):
    """In an artifact-only run: the brief of an agent was written. No process was started."""

    agent: str
    content: str
    folder: str  # of the run's
    stands: str  # folder of an earlier attempt or brief with the summary for later agents; empty: none


class PeakRose(Event, frozen=True):
    """An agent used far more memory than in earlier attempts."""

    agent: str
    peak: int
    usual: int  # the median of its earlier attempts that went well
    attempts: int


class RunPaused(Event, frozen=True):
    """No further agent starts until the cause is gone."""

    BY_USER: ClassVar[str] = "by the user"  # how `why` begins then

    why: str


class RunContinued(Event, frozen=True):
    """A paused run continues."""

    seconds: float  # it was paused


class RunsRemoved(Event, frozen=True):
    """Runs of this profile older than run.keep were removed."""

    runs: tuple[str, ...]
    bytes: int
    keep: float


class RunEnded(Event, frozen=True):
    """The run ended."""

    exit_code: int
    why: str
    completed: int
    gave_up: int
    skipped: int
    not_run: int
    seconds: float
    sequence_violations: int


CompanionEvent = CompanionStarted | CompanionReady | CompanionExited | CompanionStopped | CompanionRestarted
AnyEvent = (
    RunStarted | HaltRequested | AttemptStarted | WorkspaceDue | WorkspaceOpened | WorkspaceSaved | WorkspaceEnded
    | Spawned | SessionReported | AgentProgress
    | MemoryWarned | MemoryHigh | GcRequested | GcDone | OutputCut | ToolKilled | StopSent
    | LeaderEnded | AttemptEnded | AdmissionDelayed | RetryScheduled | LimitPaused | StartDelayed
    | AgentEnded | AgentSkipped | Drained | Unkillable | AttemptLost
    | AgentDue | CompanionEvent | ChainEnded | HookStarted | HookEnded | Warned | BriefWritten | PeakRose
    | RunPaused | RunContinued | RunsRemoved | RunEnded
)  # fmt: skip


class Recorded(Struct, frozen=True, kw_only=True):
    """An event with its place and time, as journal and JSON stream carry it."""

    run: str
    seq: int
    at: float  # seconds since the epoch, for people
    mono: float  # monotonic seconds since boot, for intervals
    body: AnyEvent


def about(event: AnyEvent) -> tuple[str, int | None]:
    """Name the agent and the attempt that an event is about, as far as it is about any."""
    if isinstance(event, GcRequested | GcDone):
        owner = event.owner
        return ("", None) if owner.companion else (owner.name, owner.number)
    return getattr(event, "agent", ""), getattr(event, "attempt", None)
