"""The nouns: frozen, in bytes and seconds. Strings with units end in `profile`; nothing here acts."""

from enum import IntEnum, StrEnum

from msgspec import Struct

MIB = 1024 * 1024
GIB = 1024 * MIB
OWN_STDIN = "-"  # as `stdin_file`: what the supervisor reads from


class SeqsupError(Exception):
    """What a user can mend: the message says what happened, why, and what to do."""

    exit_code: int = 2  # what the command line ends with


class Stopped(Exception):
    """The run cannot go on, by the profile's own rules."""


class AtUsageLimit(Stopped):
    """An agent has met its provider's limit, and the profile does not want to wait."""


class Reason(StrEnum):
    """Why an attempt, and with its last attempt an agent, ended. The first cause wins."""

    COMPLETED = "completed"
    FAILED = "failed"  # an exit code that the profile does not call a success
    CRASHED = "crashed"  # a signal that was not ours
    HEAP_OOM = "heap-oom"  # V8 reached its heap limit
    SOFT = "soft"
    HARD = "hard"
    KERNEL_OOM = "kernel-oom"
    HOST_FLOOR = "host-floor"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    NO_RESULT = "no-result"  # exited well, but the profile's success check found nothing
    USAGE_LIMIT = "usage-limit"
    SPAWN_FAILED = "spawn-failed"
    MISCONFIGURED = "misconfigured"
    HALTED = "halted"  # the operator's wish
    SKIPPED = "skipped"
    LOST = "lost"  # the supervisor died while it ran


class Halt(IntEnum):
    """The operator's wish to stop. It only grows."""

    NONE = 0
    AFTER_AGENT = 1
    NOW = 2
    KILL = 3


class Measure(StrEnum):
    """What of a process counts against the limits."""

    PRIVATE = "private"  # resident - shared: equals the cgroup's figure; Σ RSS of Node trees overstates ×2.3
    RSS = "rss"
    PSS = "pss"
    CGROUP = "cgroup"  # what the kernel counts for the group: anonymous memory and shmem


class Enforce(StrEnum):
    """By whom the hard limit is kept."""

    AUTO = "auto"  # by the kernel where a group can be had, and always by watching
    CGROUP = "cgroup"  # by the kernel, else nothing is started
    WATCH = "watch"


class OnTimeout(StrEnum):
    RESTART_COMPANIONS = "restart-companions"
    STOP = "stop"
    CONTINUE = "continue"


class OnUsageLimit(StrEnum):
    """What follows when an agent meets its provider's limit."""

    STOP = "stop"  # the run, with exit code 75
    WAIT = "wait"  # until it resets; that attempt does not count


class Limits(Struct, frozen=True, kw_only=True):
    """Memory limits of one agent's tree, in bytes; None is off."""

    warn: int | None
    soft: int | None
    hard: int | None
    sustain: float
    host_floor: int | None
    measure: Measure
    enforce: Enforce = Enforce.AUTO
    settle: float = 5.0  # how long a collection may take to bring it below soft


class Rlimits(Struct, frozen=True, kw_only=True):
    """Limits of each single process, kept by the kernel; None is as the supervisor was started with."""

    nofile: int | None = None
    core: int | None = 0  # bytes; a core of a killed 8 GiB agent would fill the disk, and holds its secrets
    data: int | None = None  # bytes


class Account(Struct, frozen=True, kw_only=True):
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


class Timeouts(Struct, frozen=True, kw_only=True):
    """In seconds; None is off. `grace` lies between TERM and KILL."""

    wall: float | None
    stall: float | None
    grace: float


class Retry(Struct, frozen=True, kw_only=True):
    attempts: int
    on: tuple[Reason, ...]
    wait: float
    max_wait: float
    grow_heap: float
    usage_limit: OnUsageLimit = OnUsageLimit.STOP


class Drain(Struct, frozen=True, kw_only=True):
    timeout: float
    interval: float
    threshold: int | None
    available: int | None
    on_timeout: OnTimeout
    sweep: bool
    allow: tuple[str, ...]


class Success(Struct, frozen=True, kw_only=True):
    """What must be true for an exit to count as completed."""

    codes: tuple[int, ...]
    file: str | None
    output: str | None  # a regular expression
    command: tuple[str, ...] = ()


class Preset(Struct, frozen=True, kw_only=True):
    """What is known of an agent CLI, beside the keys of the profile that it sets."""

    name: str
    title: str
    env: dict[str, str] = {}  # the user's own variables win
    failure: tuple[str, ...] = ()  # patterns of a failure that may exit 0, looked for in the last lines
    usage_limit: tuple[str, ...] = ()  # patterns of a provider's limit; see `usage.find`
    leaks: tuple[str, ...] = ()  # known ones, for the reader of a plan


class Detected(Struct, frozen=True, kw_only=True):
    """What stands behind a command."""

    kind: str  # node | bun | native
    executable: str | None  # the binary that will run: of a script its interpreter. None: not found
    why: str  # how that was found out, or what is missing and how to mend it


class NodeBinary(Struct, frozen=True, kw_only=True):
    """A Node, asked once."""

    executable: str
    version: str
    allowed: tuple[str, ...]  # the flags it takes in NODE_OPTIONS; any other there ends it with exit 9


class NodeStart(Struct, frozen=True, kw_only=True):
    """What each Node process of an agent goes by: the agent itself, or what it starts."""

    executable: str
    version: str
    options: tuple[str, ...]  # for NODE_OPTIONS: only what this binary allows there, without the heap limit
    heap: int | None  # bytes for --max-old-space-size; None leaves V8's own
    heap_ceiling: int | None  # what still fits under memory.hard
    telemetry: bool = False  # the preload reports heap figures and collects on request
    expose_gc: bool = False  # and defines globalThis.gc
    snapshot: bool = False  # and writes a heap snapshot before a stop at memory.soft


class Step(Struct, frozen=True, kw_only=True):
    """One agent of the plan, resolved: `plan` prints it, `start` carries it out."""

    name: str
    command: tuple[str, ...]
    cwd: str
    env: dict[str, str]  # what the profile sets beyond the user's own environment
    stdin: str | None
    stdin_file: str | None
    runtime: str
    runtime_why: str  # how that was found out, and what of Node's options reaches it
    node: NodeStart | None  # None: there is no node on its PATH
    limits: Limits
    timeouts: Timeouts
    retry: Retry
    drain: Drain
    success: Success
    expect: tuple[Reason, ...]
    needs: tuple[str, ...]
    content: str  # digest of command, cwd, env and stdin: what resume knows an agent by
    need: int | None = None  # bytes that must be available before it starts, while nothing is known of its peaks
    rlimits: Rlimits = Rlimits()
    account: Account | None = None  # whom it becomes; None: it stays the supervisor's user
    chosen: str = ""  # why it is taken, where something was chosen
    output_max: int | None = None  # bytes kept of each of its two streams
    preset: Preset | None = None


class Restart(StrEnum):
    """Why a companion was ended or started again."""

    EVERY_N = "every-n"  # agents
    CRASHED = "crashed"  # or was far over its limit
    MEMORY = "memory"
    DRAIN = "drain"  # memory did not come back after an agent
    SUPERVISOR = "supervisor"  # that takes its own place anew
    RUN_ENDED = "run-ended"


class Readiness(Struct, frozen=True, kw_only=True):
    """How a companion shows that it is ready: the first of these that is set; in seconds."""

    http: str | None
    port: int | None
    log: str | None
    delay: float
    timeout: float


class CompanionStart(Struct, frozen=True, kw_only=True):
    """One companion of the plan, resolved."""

    name: str
    command: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    ready: Readiness
    restart_every: int
    hard: int | None
    grace: float
    environment: dict[str, str]  # what agents and hooks find it by
    account: Account | None = None
    measure: Measure = Measure.PRIVATE
    node: str | None = None  # the Node on its PATH: what runs in Node is asked for a collection; None: nothing is asked


class Hooks(Struct, frozen=True, kw_only=True):
    """What is run when something happens, and where."""

    commands: dict[str, tuple[str, ...]]  # by point; each as a shell would split it
    timeout: float
    stop_on_error: bool
    cwd: str


class Skip(Struct, frozen=True, kw_only=True):
    name: str
    why: str
    content: str = ""  # of a copy of for_each: its number may have been another's before


class Metrics(Struct, frozen=True, kw_only=True):
    """How the run's figures are told."""

    listen: str | None = None  # host:port
    required: bool = False
    linger: float | None = None  # seconds; None: until one more scrape, if somebody scrapes
    textfile: str | None = None
    pushgateway: str | None = None
    file_sd: str | None = None


ARTIFACT_ONLY = "artifact-only"  # an execution mode
LANES = "lanes"  # as an execution_mode


class Plan(Struct, frozen=True, kw_only=True):
    name: str
    profile: str | None  # the file's path; None for `seqsup run`
    state_dir: str
    task: str
    only: tuple[str, ...] = ()  # what was named on the command line, or is retried
    start_from: str | None = None
    steps: tuple[Step, ...]
    skips: tuple[Skip, ...]
    stop_on_failure: bool
    chain: int
    keep: float  # seconds
    disk_floor: int | str | None = "auto"  # bytes
    output_max: int | None = None  # bytes kept of each stream of a hook or a companion
    notes: tuple[str, ...]  # advice
    hooks: Hooks
    companions: tuple[CompanionStart, ...]
    concurrency: int = 1  # lanes
    admit_learned: bool = False  # into a lane, by what an agent was seen to take and not by its hard limit
    execution_mode: str = "sequential"
    metrics: Metrics = Metrics()


class Kind(StrEnum):
    """What a process of an agent's tree is for."""

    AGENT = "agent"  # the leader, or an agent's program that it started
    MCP_SERVER = "mcp-server"
    SHELL = "shell"
    BROWSER = "browser"
    OTHER = "other"


class ProcessMemory(Struct, frozen=True, kw_only=True):
    """One process of a tree, for the reader of a kill's reason; of small ones all that run the same program."""

    pid: int  # of the largest; 0 for what is of no process, or of several programs
    name: str
    command: str
    bytes: int
    kind: Kind = Kind.OTHER
    count: int = 1  # 0 for what is of no process


class Heap(Struct, frozen=True, kw_only=True):
    """What the V8 of an agent's Node process says of itself, in bytes."""

    used: int
    total: int
    limit: int
    external: int  # held by JavaScript outside V8's heap: Buffers, long strings
    array_buffers: int  # part of external


class NodeProcess(Struct, frozen=True, kw_only=True):
    """The last that a Node process said of itself."""

    pid: int
    version: str
    script: str
    rss: int
    heap: Heap
    at: float  # monotonic seconds
    workers: int = 0  # its worker threads, whose heaps are their own and not asked


class Site(Struct, frozen=True, kw_only=True):
    """Where living objects were allocated, as the sampling profiler saw it."""

    bytes: int
    frames: tuple[str, ...]  # `function (file:line)`, the nearest first


class Verdict(StrEnum):
    """What most of a tree's memory is, as a collection shows it."""

    GARBAGE = "garbage"  # nothing needed it any more
    JS_LEAK = "js-leak"  # objects that are still reachable
    BUFFER_LEAK = "buffer-leak"  # Buffers and long strings that are still reachable: no heap limit covers them
    OUTSIDE_JS = "outside-js"  # native code, other programs, pages that malloc keeps
    UNKNOWN = "unknown"  # in Node processes that did not answer, or not since they grew


class Collection(Struct, frozen=True, kw_only=True):
    """A collection that was asked for, and is over."""

    at: float  # when it was asked for, in monotonic seconds
    seconds: float
    asked: int  # Node processes
    answered: int
    before: Heap  # the sums over those processes
    after: Heap
    used: int  # by the whole tree, when it was asked for
    freed: int  # RSS of those processes
    verdict: Verdict


class NodesTold(Struct, frozen=True, kw_only=True):
    """What the supervisor tells an operator of an attempt's Node processes."""

    before: tuple[NodeProcess, ...] = ()
    after: tuple[NodeProcess, ...] = ()
    collection: Collection | None = None  # where one was asked for, and somebody answered
    why: str = ""  # why nothing is known


class Sample(Struct, frozen=True, kw_only=True):
    """One look at a tree and its host. `at` is monotonic seconds; memory is bytes."""

    at: float
    used: int
    processes: int
    host_available: int
    quiet: float = 0.0  # seconds since the last output
    kernel_oom: str = ""  # the kernel's figures, once it killed in the agent's group for want of memory
    root_exited: bool = False
    childless: bool = False  # the kernel's word that nobody descends from the supervisor
    halt: Halt = Halt.NONE
    collectable: bool = False  # a Node process of the tree answers
    collection: Collection | None = None  # the last that is over
    snapping: bool = False  # a heap snapshot is being written
    spared: bool = False  # with lanes: for the host's floor another agent is stopped first


class Surroundings(Struct, frozen=True, kw_only=True):
    """What is read once a second beside a tree: the machine, and the supervisor itself. Bytes and seconds."""

    host_total: int
    own: int  # resident memory of the supervisor
    cpu: float  # that the supervisor has taken
    waiting: float | None = None  # in which some task waited for memory since boot; None: the kernel has no PSI
    stalled: float | None = None  # in which all did


class Observation(Struct, frozen=True, kw_only=True):
    """A sample, for those who look on: timeline, metrics, live view."""

    agent: str
    attempt: int
    sample: Sample
    took: float  # seconds, for the look itself
    processes: tuple[ProcessMemory, ...] | None = None  # once a second, beginning with the second one
    pids: tuple[int, ...] = ()  # of all processes, as often as those are named
    heap: Heap | None = None
    around: Surroundings | None = None  # as often


class Exit(Struct, frozen=True, kw_only=True):
    """How the leader ended: one of the two is set."""

    code: int | None
    signal: int | None


class Outcome(Struct, frozen=True, kw_only=True):
    """How one attempt ended, and why, with the numbers."""

    reason: Reason
    why: str
    exit: Exit | None
    seconds: float
    peak: int
    processes: tuple[ProcessMemory, ...] = ()
    left_over: tuple[ProcessMemory, ...] = ()
    blames_us: bool = False  # an option of ours broke it: without them it may run
    forensics: str = ""  # the file that says more, in the attempt's folder
    resets_at: float | None = None  # epoch: when the usage limit that it met does; None: it did not say
