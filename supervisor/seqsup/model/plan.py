"""The plan, resolved. Memory in bytes, time in seconds."""

from msgspec import Struct

from seqsup.model.enums import Keep, Measure
from seqsup.model.preset import Preset, PromptForm
from seqsup.model.profile import (
    Budget,
    DrainTable,
    GcTable,
    HooksTable,
    MemoryTable,
    MetricsTable,
    NotifyTable,
    Readiness,
    Repeat,
    Retry,
    Rlimits,
    Success,
    Timeouts,
    UsageRule,
)
from seqsup.model.reason import Reason
from seqsup.text import labelled

OWN_STDIN = "-"  # as `stdin_file`: what the supervisor reads from


class Limits(MemoryTable, frozen=True, kw_only=True):
    """Memory limits of one agent's tree, with the sizes that the profile leaves open."""

    warn: int | None
    soft: int | None
    hard: int | None
    host_floor: int | None


class Account(Struct, frozen=True, kw_only=True):
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str
    inherit: tuple[str, ...] = ()  # variables of root's that its processes get; one that ends in * is a prefix


class Drain(DrainTable, frozen=True, kw_only=True):
    """The proof that memory is back, with the sizes that the profile leaves open."""

    threshold: int | None
    available: int | None


class Detected(Struct, frozen=True, kw_only=True):
    """The runtime of a command."""

    kind: str  # node | bun | native
    executable: str | None  # the binary that will run: of a script its interpreter. None: not found
    why: str  # how that was found out, or what is missing and how to get it
    windows: bool = False  # WSL runs it, or what it starts, in Windows


class NodeBinary(Struct, frozen=True, kw_only=True):
    """A Node, asked once."""

    executable: str
    version: str
    allowed: tuple[str, ...]  # the flags it takes in NODE_OPTIONS; any other there ends it with exit 9


class NodeStart(Struct, frozen=True, kw_only=True):
    """Options and variables for each Node process of an agent: the agent itself, or a child."""

    executable: str
    version: str
    options: tuple[str, ...]  # for NODE_OPTIONS: only what this binary allows there, without the heap limit
    heap: int | None  # bytes for --max-old-space-size; None leaves V8's own
    heap_set: bool = False  # by the profile itself: it wins over NODE_OPTIONS of the user
    heap_ceiling: int | None  # what still fits under memory.hard
    telemetry: bool = False  # the preload reports heap figures and collects on request
    expose_gc: bool = False  # and defines globalThis.gc
    snapshot: bool = False  # and writes a heap snapshot before a stop at memory.soft


class Prompted(Struct, frozen=True, kw_only=True):
    """How the agent's CLI is started with its prompt."""

    form: PromptForm
    text: str
    options: tuple[str, ...]  # all but those of the session

    def command(self, session: tuple[str, ...] = (), text: str | None = None) -> tuple[str, ...]:
        """Return the command line. `text` is a prompt in place of its own."""
        return self.form.words(self.text if text is None else text, self.options, session)


class WorkspaceRules(Struct, frozen=True, kw_only=True):
    """Where agents work, if each has a branch of a repository. Absolute paths."""

    git: str  # folder, or an address, which may contain a password
    shown: str  # the same without it
    remote: bool
    home: str  # a folder of the repository, where git is called; empty: it is remote
    common: str  # the repository's own folder; empty: it is remote
    name: str  # of the repository: workspaces have a folder of that name
    ref: str
    commit: str  # of `ref` as the plan was made; empty: not known
    base: str  # the folder in place of which a workspace stands: paths of agents below it are meant in the workspace
    below: str  # the place of `base` in the repository; empty: its top
    shared: bool  # by all agents of the run
    branch: str  # with {run}, and with {agent} unless it is shared
    push_to: str  # the remote to push to; empty: nothing is pushed
    keep: Keep
    account: Account | None  # the owner of a shared one
    changed: int  # files of the repository that are not committed: agents do not see them


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
    repeat: Repeat | None = None
    needs: tuple[str, ...]
    content: str  # digest of command, cwd, env and stdin: what resume knows an agent by
    item: str | None = None  # of for_each
    need: int | None = None  # bytes that must be available before it starts, while nothing is known of its peaks
    usage: UsageRule = UsageRule()
    budget: Budget = Budget()  # of all its attempts
    rlimits: Rlimits = Rlimits()
    gc: GcTable = GcTable()
    account: Account | None = None  # the user that it becomes; None: that of the supervisor
    chosen: str = ""  # why it is taken, where something was chosen
    output_max: int | None = None  # bytes kept of each of its two streams
    preset: Preset | None = None
    prompt: Prompted | None = None  # None: the profile gives a command
    dialect: str | None = None  # of its JSON stream on stdout; None: it writes none
    in_workspace: bool = False  # its folder is one of a workspace

    @property
    def label(self) -> str:
        """What people know it by."""
        return labelled(self.name, self.item)

    @property
    def ends_tools_first(self) -> bool:
        """Whether a process of a tool is ended before the agent is."""
        return self.limits.spare == "auto" and self.preset is not None and self.preset.spare


class CompanionStart(Struct, frozen=True, kw_only=True):
    """One companion of the plan, resolved."""

    name: str
    command: tuple[str, ...]
    cwd: str
    env: dict[str, str]  # as a step's, with secrets that only the run fills in
    ready: Readiness
    restart_every: int
    hard: int | None
    grace: float
    environment: dict[str, str]  # what agents and hooks find it by
    account: Account | None = None
    measure: Measure = Measure.PRIVATE
    gc: GcTable = GcTable()
    node: str | None = None  # the Node on its PATH: its Node processes are asked for a collection; None: none is asked


class Hooks(HooksTable, frozen=True, kw_only=True):
    """Command of a hook, its folder and its user."""

    cwd: str
    account: Account | None = None  # the user that they become; None: the supervisor's


class Notify(NotifyTable, frozen=True, kw_only=True):
    """Where messages go, and as which user they are sent. Addresses contain secrets."""

    cwd: str
    account: Account | None = None  # None: the supervisor's

    @property
    def shown(self) -> list[str]:
        """Return where messages go, without anything that may be a secret. Of several alike each has its number."""
        plain = [to.partition("://")[0] + "://…" if "://" in to else to for to in self.to]
        return [
            f"{each} ({plain[: n + 1].count(each)} of {count})" if (count := plain.count(each)) > 1 else each
            for n, each in enumerate(plain)
        ]


class Skip(Struct, frozen=True, kw_only=True):
    name: str
    why: str
    content: str = ""  # of a copy of for_each: its number may have belonged to another item before
    item: str | None = None

    @property
    def label(self) -> str:
        """What people know it by."""
        return labelled(self.name, self.item)


class Metrics(MetricsTable, frozen=True, kw_only=True):
    """How metrics are exported, with absolute paths."""

    listen: str | None = None


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
    missing: tuple[str, ...] = ()  # programs and secrets that are missing, if it is only looked at: start refuses
    hooks: Hooks
    notify: Notify
    companions: tuple[CompanionStart, ...]
    concurrency: int = 1  # lanes
    admit_learned: bool = False  # into a lane, by what an agent was seen to take and not by its hard limit
    execution_mode: str = "sequential"
    budget: Budget = Budget()  # of the whole run
    metrics: Metrics = Metrics()
    workspaces: WorkspaceRules | None = None

    @property
    def items(self) -> dict[str, str]:
        """Each copy of for_each, and its item."""
        told = {step.name: step.item for step in self.steps} | {skip.name: skip.item for skip in self.skips}
        return {name: item for name, item in told.items() if item is not None}
