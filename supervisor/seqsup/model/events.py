"""What happened: one frozen event each. Journal, log, JSON stream and table are its readers."""

from msgspec import Struct

from seqsup.model.enums import Halt, OnTimeout, Restart
from seqsup.model.outcome import Outcome
from seqsup.model.process import Collection, Heap, ProcessMemory, Surroundings
from seqsup.model.reason import Reason


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")


class Event(Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """Tagged with its name in snake_case; sizes in bytes, times in seconds."""


class RunStarted(Event, frozen=True):
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
    taken_over: dict[str, str]  # of those: agent -> the folder of the attempt that stands for it
    again: dict[str, str]  # agents that had completed and run again -> why
    expected: dict[str, float]  # agents that are to run -> seconds, of those that ran before
    waited: float  # for the machine's turn
    concurrency: int  # agents at a time
    listen: str | None  # where its figures are served
    file_sd: str | None  # the file that leads Prometheus there
    python: str  # version
    only: tuple[str, ...]  # agents named with --only, or retried
    start_from: str | None  # as given with --from
    gone: tuple[str, ...]  # agents of an earlier part of this run that the profile has no more


class HaltRequested(Event, frozen=True):
    halt: Halt
    by: str


class AttemptStarted(Event, frozen=True):
    """Written before the spawn, so that no agent ever runs unknown to the journal."""

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


class Spawned(Event, frozen=True):
    agent: str
    attempt: int
    pid: int
    start_time: int  # ticks since boot, of /proc/PID/stat: with the pid the identity of a process


class MemorySampled(Event, frozen=True):
    """Once a second of an attempt that lasts longer. Told to nobody: the run's timeline keeps them (see `timeline`)."""

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
    companions: dict[str, int] = {}  # what the tree of each holds


class MemoryWarned(Event, frozen=True):
    agent: str
    attempt: int
    used: int
    warn: int


class OutputCut(Event, frozen=True):
    """An agent printed more than its bound; from here on the middle of it is not kept. Told once for each stream."""

    agent: str
    attempt: int
    stream: str
    size: int
    most: int


class MemoryHigh(Event, frozen=True):
    """An attempt's tree went over its soft limit, for the first time."""

    agent: str
    attempt: int
    used: int
    soft: int


class Owner(Struct, frozen=True, kw_only=True):
    """An attempt of an agent, or a start of a companion: its tree is what an event is about."""

    name: str
    number: int
    companion: bool = False


class GcRequested(Event, frozen=True):
    """A collection was asked for, since the tree was over its limit."""

    owner: Owner
    used: int
    limit: int  # memory.soft of an agent, memory.hard of a companion
    processes: int  # Node processes that answer


class GcDone(Event, frozen=True):
    """What a collection came to, also one that an operator asked for."""

    owner: Owner
    used: int  # by the whole tree, now
    collection: Collection


class StopSent(Event, frozen=True):
    """TERM to the whole tree, or KILL."""

    agent: str
    attempt: int
    signal: str
    reason: Reason | None  # None: leftovers of an agent that ended by itself
    why: str
    processes: tuple[ProcessMemory, ...]


class LeaderEnded(Event, frozen=True):
    """An agent ended by itself, as the profile expects, but has left processes behind. Whatever becomes of us while
    these are stopped, this is what its attempt came to.
    """

    agent: str
    attempt: int
    content: str
    hard: int | None
    outcome: Outcome


class AttemptEnded(Event, frozen=True):
    agent: str
    attempt: int
    content: str
    ok: bool  # completed, or a reason that the profile expects: a resumed run does not take this agent again
    hard: int | None
    outcome: Outcome


class AdmissionDelayed(Event, frozen=True):
    """An agent waits until the memory that it may take is there."""

    agent: str
    need: int | None
    room: int  # bytes that may be taken now
    why: str


class RetryScheduled(Event, frozen=True):
    agent: str
    attempt: int  # the next one
    wait: float
    after: Reason
    heap: int | None
    bare: bool = False  # without our Node options, which broke the last one


class LimitPaused(Event, frozen=True):
    """Nothing runs until an agent's usage limit resets; that holds for a resumed run too."""

    agent: str
    attempt: int  # the next one
    until: float  # epoch
    why: str


class AgentEnded(Event, frozen=True):
    agent: str
    content: str
    reason: Reason
    why: str
    attempts: int
    ok: bool
    seconds: float  # of all attempts, without waits
    peak: int


class AgentSkipped(Event, frozen=True):
    agent: str
    why: str


class Drained(Event, frozen=True):
    """Proof, or its failure, that an agent's memory is back."""

    agent: str
    attempt: int
    reached: bool
    seconds: float
    before: int  # MemAvailable of the host when the tree was last measured
    after: int  # MemAvailable now
    freed: int  # after - before: the whole host's, so neighbours move it too
    owned: int  # bytes that the run still holds: supervisor and allowed leftovers
    strays: tuple[ProcessMemory, ...]  # found by cookie, outside the supervisor's descendants
    why: str = ""
    on_timeout: OnTimeout | None = None


class AgentDue(Event, frozen=True):
    """An agent's turn has come. Told where a hook asks for it."""

    agent: str
    content: str
    command: tuple[str, ...]


class CompanionStarted(Event, frozen=True):
    companion: str
    number: int  # of its starts in this run
    pid: int
    command: tuple[str, ...]
    folder: str  # within the run's: its output


class CompanionReady(Event, frozen=True):
    companion: str
    number: int
    seconds: float


class CompanionExited(Event, frozen=True):
    """It ended by itself, was not ready in time, or grew far too large."""

    companion: str
    number: int
    why: str
    exit_code: int | None
    signal: int | None
    seconds: float
    folder: str
    output: str  # the end of it


class CompanionStopped(Event, frozen=True):
    """It was ended, and nobody of its tree is left."""

    companion: str
    number: int
    reason: Restart
    seconds: float
    processes: tuple[ProcessMemory, ...]


class CompanionRestarted(Event, frozen=True):
    """The old tree is gone, and the new one ready."""

    companion: str
    number: int
    reason: Restart
    why: str


class ChainEnded(Event, frozen=True):
    """Between two chains: what was due is restarted, and memory is back to what the run began with, or not."""

    chain: int
    agents: int
    reached: bool
    seconds: float
    baseline: int  # bytes that the host had available before the first agent
    available: int  # and now
    owned: int  # bytes that the run holds: supervisor, companions, allowed leftovers
    why: str = ""


class HookStarted(Event, frozen=True):
    point: str
    command: str
    agent: str
    pid: int
    folder: str  # within the run's: its output


class HookEnded(Event, frozen=True):
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
    """Processes that took SIGKILL and are still there."""

    agent: str
    processes: tuple[ProcessMemory, ...]
    seconds: float
    why: str = ""  # of each: uninterruptible sleep, and in which call of the kernel's, or another user's by now


class AttemptLost(Event, frozen=True):
    """Its supervisor died; a later seqsup found that, and stopped what was left."""

    agent: str
    attempt: int
    content: str
    stopped: tuple[ProcessMemory, ...]


class Warned(Event, frozen=True):
    message: str


class BriefWritten(Event, frozen=True):
    """In an artifact-only run: what the agent would be given. Nothing was spawned."""

    agent: str
    content: str
    folder: str  # of the run's
    stands: str  # whose summary those after it get: the folder of an earlier attempt or brief, or nothing


class PeakRose(Event, frozen=True):
    """An agent took far more memory than it used to."""

    agent: str
    peak: int
    usual: int  # the median of its earlier attempts that went well
    attempts: int


class RunPaused(Event, frozen=True):
    """No further agent is started until what hinders is gone."""

    why: str


class RunContinued(Event, frozen=True):
    seconds: float  # it was paused


class RunsRemoved(Event, frozen=True):
    """Runs of this profile that were older than run.keep, with all that they left."""

    runs: tuple[str, ...]
    bytes: int
    keep: float


class RunEnded(Event, frozen=True):
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
    RunStarted | HaltRequested | AttemptStarted | Spawned | MemoryWarned | MemoryHigh | GcRequested | GcDone
    | OutputCut | StopSent
    | LeaderEnded | AttemptEnded | AdmissionDelayed | RetryScheduled | LimitPaused
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
