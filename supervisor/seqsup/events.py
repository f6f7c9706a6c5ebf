"""What happened: one frozen event each. Journal, log, JSON stream and table are its readers."""

from msgspec import Struct

from .model import Halt, OnTimeout, ProcessMemory, Reason


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")


class Event(Struct, frozen=True, kw_only=True, tag_field="event", tag=_snake):
    """Tagged with its name in snake_case; sizes in bytes, times in seconds."""


class TurnAwaited(Event):
    """Another run of this user has the machine."""

    behind: str


class RunStarted(Event):
    name: str
    profile: str | None
    task: str
    agents: tuple[str, ...]
    skips: dict[str, str]  # agent -> why
    supervisor: int  # pid
    boot_id: str
    version: str
    containment: str
    resumed: bool = False
    completed_before: tuple[str, ...] = ()


class HaltRequested(Event):
    halt: Halt
    by: str


class AttemptStarted(Event):
    """Written before the spawn, so that no agent ever runs unknown to the journal."""

    agent: str
    attempt: int
    content: str
    command: tuple[str, ...]
    hard: int | None
    heap: int | None
    folder: str


class Spawned(Event):
    agent: str
    attempt: int
    pid: int
    start_time: float  # ticks since boot, of /proc/PID/stat: with the pid the identity of a process


class MemoryWarned(Event):
    agent: str
    attempt: int
    used: int
    warn: int


class StopSent(Event):
    """TERM to the whole tree, or KILL."""

    agent: str
    attempt: int
    signal: str
    reason: Reason | None  # None: leftovers of an agent that ended by itself
    why: str
    processes: tuple[ProcessMemory, ...]


class AttemptEnded(Event):
    agent: str
    attempt: int
    reason: Reason
    why: str
    exit_code: int | None
    signal: int | None
    seconds: float
    peak: int
    hard: int | None
    processes: tuple[ProcessMemory, ...]
    left_over: tuple[ProcessMemory, ...]


class RetryScheduled(Event):
    agent: str
    attempt: int  # the next one
    wait: float
    after: Reason
    heap: int | None


class AgentEnded(Event):
    agent: str
    content: str
    reason: Reason
    why: str
    attempts: int
    ok: bool  # completed, or a reason that the profile expects
    seconds: float  # of all attempts, without waits
    peak: int


class AgentSkipped(Event):
    agent: str
    why: str


class Drained(Event):
    """Proof, or its failure, that an agent's memory is back."""

    agent: str
    attempt: int
    reached: bool
    seconds: float
    before: int  # bytes of the tree at its last sample
    after: int  # bytes that the run still owns: supervisor and allowed leftovers
    freed: int
    available: int  # MemAvailable of the host at the end
    strays: tuple[ProcessMemory, ...]  # found by cookie, outside the supervisor's descendants
    why: str = ""
    on_timeout: OnTimeout | None = None


class Unkillable(Event):
    """Processes that took SIGKILL and are still there (uninterruptible sleep)."""

    agent: str
    processes: tuple[ProcessMemory, ...]
    seconds: float


class AttemptLost(Event):
    """Its supervisor died; a later seqsup found that, and stopped what was left."""

    agent: str
    attempt: int
    content: str
    stopped: tuple[ProcessMemory, ...]


class Warned(Event):
    message: str


class RunEnded(Event):
    exit_code: int
    why: str
    completed: int
    gave_up: int
    skipped: int
    not_run: int
    seconds: float
    sequence_violations: int


AnyEvent = (
    TurnAwaited | RunStarted | HaltRequested | AttemptStarted | Spawned | MemoryWarned | StopSent
    | AttemptEnded | RetryScheduled | AgentEnded | AgentSkipped | Drained | Unkillable | AttemptLost
    | Warned | RunEnded
)  # fmt: skip


class Recorded(Struct, frozen=True, kw_only=True):
    """An event with its place and time, as journal and JSON stream carry it."""

    run: str
    seq: int
    at: float  # seconds since the epoch, for people
    mono: float  # monotonic seconds since boot, for intervals
    body: AnyEvent
