"""The keys of a profile: types, defaults and meaning. Values are in bytes and seconds; None means "none".

UNSET is a limit that the profile does not set: it follows another key or the machine (see `limits`).
A table without `Table` in its name is also the plan's value. `model.plan` extends the others where it resolves them.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from msgspec import UNSET, UnsetType, field

from seqsup.model.enums import (
    Enforce,
    GcMode,
    Halt,
    Keep,
    Measure,
    Notice,
    OnTimeout,
    OnUsageLimit,
    RetryHow,
    TreeOnRetry,
)
from seqsup.model.kinds import (
    AGE_OF_DAYS,
    AMOUNT_OR_NONE,
    DURATION,
    FLAG,
    OUTPUT_OR_NONE,
    SHARE_OR_NONE,
    SIZE_AUTO_OR_NONE,
    SIZE_OR_NONE,
    SPAN,
    SPAN_AUTO_OR_NONE,
    SPAN_OR_NONE,
    SUM_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    KeyPath,
    Table,
    ValueKind,
    number,
    one_of,
    whole,
    whole_auto_or_none,
    whole_or_none,
)
from seqsup.model.preset import Preset, PromptForm, preset_names
from seqsup.model.reason import CONSEQUENCES, EndedBy, Reason, Retried, ended_by
from seqsup.units import WINDOW_PATTERN, parse_window, show

_RETRIED = one_of([reason for reason in Reason if CONSEQUENCES[reason].retried is not Retried.NEVER], Reason)
_RETRIED_BY_DEFAULT = tuple(reason for reason, follows in CONSEQUENCES.items() if follows.retried is Retried.BY_DEFAULT)
_NEVER_EXPECTED = ended_by(EndedBy.USER, EndedBy.NOTHING)
_EXPECTED = one_of([reason for reason in Reason if reason not in _NEVER_EXPECTED], Reason)
_WORDS: dict[str, Any] = {"minItems": 1}
AUTO = "auto"  # as an agent's preset, until `parse` has looked at its program


LISTEN = "127.0.0.1:9472"


def address(value: object) -> str | None:
    """host:port, or None for "none"."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if value == "none":
        return None
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f'expected "host:port", such as "127.0.0.1:9472", or "none", not {show(value)}')
    return f"{host}:{port}"


def _preset(value: object) -> str | None:
    name: str = TEXT.read(value)
    return None if name == "none" else name


_INHERITED = re.compile(r"[^=*\0]+\*?")


def _inherited(value: object) -> str:
    if not (isinstance(value, str) and _INHERITED.fullmatch(value)):
        raise ValueError(
            f'expected a variable, or a prefix with a *, such as "HTTPS_PROXY" or "AWS_*", not {show(value)}'
        )
    return value


_VARIABLE = ValueKind(_inherited, {"type": "string", "pattern": "^[^=*]+[*]?$"})
# `parse` knows the user's presets too
_PRESET = ValueKind(_preset, {"anyOf": [{"enum": [AUTO, "none", *preset_names()]}, {"type": "string"}]})
_ADDRESS = ValueKind(address, {"type": "string", "pattern": "^(none|.+:[0-9]{1,5})$"}, off="none")


def _items(value: object) -> object:
    if isinstance(value, list):
        return {"items": value}
    if not isinstance(value, dict):
        raise ValueError(f"expected a list, or a table with glob or lines, not {show(value)}")
    return value


def _measure(value: object) -> Measure:
    word: str = _MEASURES.read(value)
    return Measure.PRIVATE if word == "auto" else Measure(word)


_RECIPIENTS = re.compile(r"desktop|\$[A-Za-z_][A-Za-z0-9_]*|[A-Za-z][A-Za-z0-9.+-]*://\S+", re.ASCII)


def _recipient(value: object) -> str:
    if not (isinstance(value, str) and _RECIPIENTS.fullmatch(value)):  # it may be a secret, so it is not shown
        raise ValueError('expected "desktop", an address such as "ntfy://my-topic", or a variable such as "$NTFY_URL"')
    return value


def _window(value: object) -> str:
    if value:
        parse_window(value)
    return TEXT.read(value)  # type: ignore[no-any-return]


_WINDOW = ValueKind(_window, {"type": "string", "pattern": WINDOW_PATTERN})
_RECIPIENT = ValueKind(_recipient, {"type": "string", "pattern": f"^({_RECIPIENTS.pattern})$"}, secret=True)
_MEASURES = one_of(["auto", Measure.RSS, Measure.PSS, Measure.CGROUP])
_MEASURE = ValueKind(_measure, _MEASURES.schema, lambda measure: "auto" if measure is Measure.PRIVATE else str(measure))
_LIST_OF_ITEMS = ValueKind(_items, {"type": "array", "items": {"type": "string"}})


class Budget(Table, frozen=True):
    """What agents may spend, all attempts together. An agent that reaches it is stopped with a grace period."""

    usd: Annotated[float | None, SUM_OR_NONE, "Most cost in USD, for CLIs that report it."] = None
    tokens: Annotated[int | None, whole_or_none(1), "Most tokens, also those from the provider's cache."] = None
    turns: Annotated[int | None, whole_or_none(1), "Most requests to the model."] = None


class RunTable(Table, frozen=True):
    mode: Annotated[
        Literal["sequential", "artifact-only"],
        "artifact-only: start nothing, and write each agent's brief with the summaries of earlier agents.",
    ] = "sequential"
    on_failure: Annotated[
        Literal["stop", "continue"],
        "What to do when an agent fails. An agent whose `needs` failed is always skipped.",
    ] = "stop"
    chain: Annotated[
        int, whole(1), "Agents per chain. After a chain, due companions restart and memory must be back."
    ] = 5
    concurrency: Annotated[
        int, whole(1), "Agents at a time, as far as their limits fit into memory. More than 1 needs allow_concurrency."
    ] = 1
    allow_concurrency: Annotated[bool, FLAG, "Allow concurrency above 1, at your own risk."] = False
    admit: Annotated[
        Literal["limits", "learned"],
        "Memory to reserve for an agent that runs next to others: its memory.hard, or its past peak plus a margin.",
    ] = "limits"
    state_dir: Annotated[str | None, TEXT_OR_NONE, "Folder for journal and runs. Empty: the user's state folder."] = (
        None
    )
    keep: Annotated[
        float,
        AGE_OF_DAYS,
        "Delete this profile's runs older than this when a new run starts. The last run is always kept.",
    ] = 7 * 86400.0
    disk_floor: Annotated[
        int | str | None,
        SIZE_AUTO_OR_NONE,
        "Free space on the state folder's disk below which no agent starts. auto: 256MiB, or 5 % of a small disk.",
    ] = "auto"
    budget: Annotated[
        Budget,
        "Budget of the whole run, its resumed parts included. When it is spent, no further agent starts: exit code 4.",
    ] = Budget()
    user: Annotated[
        str | None,
        TEXT_OR_NONE,
        "User to run agents, companions and hooks as when seqsup runs as root. Empty: root.",
    ] = None
    inherit: Annotated[
        tuple[str, ...],
        _VARIABLE,
        'Variables of root that processes of another user inherit: names, or prefixes such as "AWS_*". Default: only'
        " PATH, LANG, LC_*, TERM and TZ.",
    ] = ()


class WorkspaceTable(Table, frozen=True):
    """A branch of a git repository for each agent, in a folder of its own: agents work there."""

    must_have: ClassVar[tuple[str, ...]] = ("git",)
    meant: ClassVar[dict[str, str]] = {"repo": "git", "url": "git", "repository": "git", "base": "ref"}

    git: Annotated[
        str,
        'The repository: a folder, relative to the profile, or an address such as "https://example.org/shop.git".',
        {"minLength": 1},
    ] = ""
    ref: Annotated[
        str | None, TEXT_OR_NONE, "Branch, tag or commit that workspaces begin with. Default: the branch of HEAD."
    ] = None
    per: Annotated[
        Literal["agent", "run"],
        "agent: each agent has a workspace. run: all agents share one, and each finds the work of those before.",
    ] = "agent"
    branch: Annotated[
        str | None,
        TEXT_OR_NONE,
        'Name of the new branch. It contains {run}, and {agent} unless per = "run". Default: seqsup/{run}/{agent}, or'
        ' seqsup/{run}/all for per = "run".',
    ] = None
    push: Annotated[bool, FLAG, "Push the branch when its agent has completed, or all agents if they share it."] = False
    keep: Annotated[
        Keep,
        "When to keep the folder after its agent. The branch stays. A folder with work that is neither on a branch nor"
        " pushed is never removed.",
    ] = Keep.ON_FAILURE

    @property
    def remote(self) -> bool:
        """Whether the repository has an address, and is no folder of this machine."""
        return _ADDRESS_OF_GIT.match(self.git) is not None

    @property
    def pattern(self) -> str:
        return self.branch or ("seqsup/{run}/all" if self.per == "run" else "seqsup/{run}/{agent}")


_ADDRESS_OF_GIT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:")


class NodeTable(Table, frozen=True):
    expose_gc: Annotated[bool, FLAG, "Give each Node process a global gc()."] = True
    max_old_space_size: Annotated[
        int | str | None,
        SIZE_AUTO_OR_NONE,
        "V8's heap limit. A size wins over NODE_OPTIONS. auto: that of NODE_OPTIONS, else derived from memory.hard."
        ' "none": V8\'s own default.',
    ] = "auto"
    options: Annotated[tuple[str, ...], "More Node and V8 options for NODE_OPTIONS."] = ()
    telemetry: Annotated[bool, FLAG, "Load the preload, which reports heap figures and runs a GC on request."] = True
    heap_snapshot: Annotated[
        bool,
        FLAG,
        "Write the heap of the largest Node process to a file before a stop at memory.soft, if five times the heap"
        " fits. The file contains every string of the program, keys too.",
    ] = False


class GcTable(Table, frozen=True):
    """Garbage collections that seqsup requests in Node processes. Each stops its process for up to seconds."""

    mode: Annotated[
        GcMode,
        "off: none. high: in an agent above memory.soft, and in a companion above its memory.hard. between: also in all"
        " companions after each agent. aggressive: also in an agent above memory.warn, after each gap.",
    ] = GcMode.HIGH
    gap: Annotated[
        float,
        SPAN,
        "Shortest time from one GC of an agent, or of a companion below its memory.hard, to the next. At most 1min.",
    ] = 10.0


class MemoryTable(Table, frozen=True):
    """Limits of the agent's whole process tree."""

    meant: ClassVar[dict[str, str]] = {"max": "hard", "limit": "hard", "hard_limit": "hard", "soft_limit": "soft"}

    measure: Annotated[
        Measure, _MEASURE, "Which memory of a process counts. auto: its own; PSS confirms near a limit."
    ] = Measure.PRIVATE
    warn: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Log a warning above this size. Default: two thirds of soft.",
        {"default": "4GiB"},
    ] = UNSET
    soft: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Above it for `sustain`: request a GC, and if that does not help, stop the agent with a grace period."
        " Default: three quarters of hard.",
        {"default": "6GiB"},
    ] = UNSET
    hard: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Killed at once above this. Default: 8GiB, or 80 % of RAM on small machines (host_floor, drain.threshold and"
        " drain.available shrink alike).",
        {"default": "8GiB"},
    ] = UNSET
    sustain: Annotated[float, DURATION, "How long memory must stay above soft."] = 2.0
    settle: Annotated[float, DURATION, "How long a GC may take to bring memory below soft."] = 5.0
    host_floor: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Available memory of the host, or of its container's limit. Below it no agent starts, and the largest running"
        " one is stopped.",
        {"default": "512MiB"},
    ] = UNSET
    spare: Annotated[
        Literal["auto", "none"],
        "auto: above soft or hard, first end the largest process of a tool. A CLI with a preset keeps running and sees"
        " that its tool failed. If that does not help, the agent is stopped.",
    ] = "auto"
    enforce: Annotated[
        Enforce, "How memory.hard is enforced. cgroup: by the kernel; refuse to start if no cgroup is available."
    ] = Enforce.AUTO


class Rlimits(Table, frozen=True):
    """Limits of each single process, enforced by the kernel, and of their number. "none": as seqsup was started."""

    nofile: Annotated[int | None, whole_or_none(64), "Most open files."] = None
    # By default none: the core file of an agent of 8 GiB would fill the disk, and it contains secrets
    core: Annotated[int | None, AMOUNT_OR_NONE, "Largest core file after a crash."] = 0
    data: Annotated[
        int | None,
        SIZE_OR_NONE,
        "Data segment limit (RLIMIT_DATA). Allocations beyond it fail, so programs usually crash.",
    ] = None
    processes: Annotated[
        int | str | None,
        whole_auto_or_none(16),
        "Most processes of the agent's tree. A cgroup counts threads too, and refuses more. Without one the tree is"
        " killed. auto: an eighth of what the machine allows, from 512 to 16384.",
    ] = "auto"


class DrainTable(Table, frozen=True):
    """The proof that memory is back, between agents."""

    timeout: Annotated[float, DURATION, "How long memory may take to come back."] = 30.0
    interval: Annotated[float, SPAN, "Longest time between two looks."] = 1.0
    threshold: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Most memory that the run itself may still use.",
        {"default": "4GiB"},
    ] = UNSET
    available: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Memory that the host must have available again.",
        {"default": "1GiB"},
    ] = UNSET
    on_timeout: Annotated[OnTimeout, "What to do when memory is not back in time."] = OnTimeout.RESTART_COMPANIONS
    sweep: Annotated[bool, FLAG, "Stop the agent's leftover processes, and name them."] = True
    allow: Annotated[
        tuple[str, ...],
        "Processes that may outlive their agent: a part of the command line, or a glob such as `node*mcp.mjs`."
        " `[[]` is a bracket.",
    ] = ()


class Timeouts(Table, frozen=True):
    wall: Annotated[float | None, SPAN_OR_NONE, "Longest time of an attempt, from its start."] = 3600.0
    stall: Annotated[
        float | str | None,
        SPAN_AUTO_OR_NONE,
        "Longest time without output. auto: 15min without output and CPU use, if its CLI writes a JSON stream; else"
        " none.",
    ] = "auto"
    grace: Annotated[
        float, DURATION, "Time between SIGTERM and SIGKILL. MCP clients need more than 4 s to close their servers."
    ] = 10.0


class OutputTable(Table, frozen=True):
    max: Annotated[
        int | None,
        OUTPUT_OR_NONE,
        "How much of stdout and of stderr to keep: half from the beginning, half from the end.",
    ] = 64 * 1024**2


class Retry(Table, frozen=True):
    meant: ClassVar[dict[str, str]] = {"usage_limit": "usage.on_limit"}

    attempts: Annotated[int, whole(1), "Most attempts of an agent, the first one included."] = 3
    on: Annotated[tuple[Reason, ...], _RETRIED, "Reasons after which an agent is retried."] = _RETRIED_BY_DEFAULT
    how: Annotated[
        RetryHow,
        "What to do with the conversation of an agent that has a prompt. auto: resume it after a kill, a stall, a"
        " timeout, a usage limit, a stop or a crash; else start a fresh one. resume: also after a failure. fresh: never"
        " resume.",
    ] = RetryHow.AUTO
    workspace: Annotated[
        TreeOnRetry,
        "What a retry finds in its workspace. clean: what the first attempt found; seqsup saves the work of the last"
        " attempt on a branch. keep: what the last attempt left. A resumed conversation and a round always keep it.",
    ] = TreeOnRetry.CLEAN
    wait: Annotated[float, DURATION, "Wait before the second attempt. It doubles each time, with jitter."] = 1.0
    max_wait: Annotated[
        float,
        DURATION,
        "Longest wait between attempts. A usage limit that resets within this time causes a retry, also with"
        ' usage.on_limit = "stop".',
    ] = 60.0
    grow_heap: Annotated[
        float,
        number(1, 16),
        "After heap-oom, raise V8's heap limit by this factor, up to what fits under memory.hard.",
    ] = 1.5


class UsageRule(Table, frozen=True):
    """The usage limit of an agent's provider."""

    on_limit: Annotated[
        OnUsageLimit,
        "What to do at the limit. stop: stop the run with exit code 75. wait: wait until the limit resets; the attempt"
        " does not count.",
    ] = OnUsageLimit.STOP
    wait_at_most: Annotated[
        float | None, SPAN_OR_NONE, "Longest wait for the reset. If it takes longer, the run stops with exit code 75."
    ] = 6 * 3600.0
    stop_at: Annotated[
        float | None,
        SHARE_OR_NONE,
        'Share of the limit, such as "80%", from which on no further agent starts, as on_limit says. Only for CLIs that'
        " report it: claude, as a subscriber.",
    ] = None
    window: Annotated[
        str,
        _WINDOW,
        'Time of day, such as "22:00-07:00", outside of which no attempt starts. It is local time. Empty: any time.',
    ] = ""


class MetricsTable(Table, frozen=True):
    meant: ClassVar[dict[str, str]] = dict.fromkeys(("port", "address", "host", "bind"), "listen")

    listen: Annotated[
        str | UnsetType | None,
        _ADDRESS,
        'Address for Prometheus, or "none". Default: SEQSUP_METRICS_LISTEN, or 127.0.0.1:9472.',
        {"default": LISTEN},
    ] = UNSET
    required: Annotated[bool, FLAG, "Refuse to start if the port is taken."] = False
    linger: Annotated[float, DURATION, "How long metrics stay readable after the run, unless another run starts."] = 0.0
    textfile: Annotated[str | None, TEXT_OR_NONE, "File for node_exporter's textfile collector."] = None
    pushgateway: Annotated[str | None, TEXT_OR_NONE, "Address of a Prometheus Pushgateway."] = None
    file_sd: Annotated[
        str | None,
        TEXT_OR_NONE,
        "Target file for Prometheus' file_sd_configs. It exists only while metrics can be read.",
    ] = None


class HooksTable(Table, frozen=True):
    """Command lines. Each gets the event as JSON on stdin, and SEQSUP_* in its environment."""

    # Each point is marked with the kind of stop that ends its commands
    before_run: Annotated[tuple[str, ...], Halt.NOW, "Before the first agent."] = ()
    before_agent: Annotated[tuple[str, ...], Halt.NOW, "Before each agent."] = ()
    after_agent: Annotated[tuple[str, ...], Halt.KILL, "After each agent."] = ()
    memory_high: Annotated[
        tuple[str, ...], Halt.KILL, "When an agent exceeds its soft limit. The agent keeps running."
    ] = ()
    killed: Annotated[tuple[str, ...], Halt.KILL, "When an agent was stopped by a limit of memory, time or cost."] = ()
    chain_end: Annotated[tuple[str, ...], Halt.KILL, "After each chain."] = ()
    after_run: Annotated[tuple[str, ...], Halt.KILL, "After the last agent."] = ()
    timeout: Annotated[float, SPAN, "Longest time of a hook. Then it is stopped and counts as failed."] = 60.0
    on_error: Annotated[
        Literal["warn", "stop"], "What to do when a hook fails: it exits with another code than 0, or takes too long."
    ] = "warn"
    user: Annotated[
        str | None,
        TEXT_OR_NONE,
        "User to run hooks as when seqsup runs as root. Empty: run.user."
        " root: only programs that no other user can write.",
    ] = None

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """Return the commands by point, of points that have some."""
        return {point: commands for point in HOOK_POINTS if (commands := getattr(self, point))}


_HOOK_HINTS = get_type_hints(HooksTable, include_extras=True)
HOOK_POINTS = {name: mark for name, hint in _HOOK_HINTS.items() for mark in get_args(hint) if isinstance(mark, Halt)}


class NotifyTable(Table, frozen=True):
    to: Annotated[
        tuple[str, ...],
        _RECIPIENT,
        'Where messages go: "desktop", or addresses as Apprise takes them, such as "ntfy://my-topic". "$NAME" is a'
        " variable that holds one.",
    ] = ()
    command: Annotated[
        tuple[str, ...], "Program and arguments, as a list of words. It gets each message on stdin."
    ] = ()
    on: Annotated[tuple[Notice, ...], "What to send messages about."] = tuple(Notice)


class Readiness(Table, frozen=True):
    """The test for a companion's readiness: one of these keys. Without any it is ready when it runs."""

    PROBES: ClassVar[tuple[str, ...]] = ("http", "port", "log", "delay")

    http: Annotated[str | None, TEXT_OR_NONE, "An address that answers with neither 404 nor 5xx."] = None
    port: Annotated[int | None, whole(1, 65535), "A local port that accepts connections."] = None
    log: Annotated[str | None, TEXT_OR_NONE, "Text that it prints."] = None
    delay: Annotated[float | None, DURATION, "A fixed time."] = None
    timeout: Annotated[float, SPAN, "Longest time until it is ready. Then the run stops."] = 60.0

    @property
    def probe(self) -> tuple[str, Any]:
        """Return name and value of the probe that is set; a delay of 0 seconds if none is."""
        found = ((name, value) for name in self.PROBES if (value := getattr(self, name)) is not None)
        return next(found, ("delay", 0.0))


class CompanionMemory(Table, frozen=True):
    hard: Annotated[
        int | None,
        SIZE_OR_NONE,
        "Above it: request a GC between agents, and if that does not help, restart. At 1.5 times this restart at once.",
    ] = None


_ENV = "Environment variables, added to the user's own. {secret:NAME} is replaced by the value of a secret."


class CompanionTable(Table, frozen=True):
    """A process that runs beside the agents: an MCP server, a gateway, a dev server."""

    must_have: ClassVar[tuple[str, ...]] = ("name", "command")

    name: Annotated[str, "A unique name of ASCII letters, digits, '.', '_' and '-'."] = ""
    command: Annotated[tuple[str, ...], "Program and arguments, as a list of words.", _WORDS] = ()
    cwd: Annotated[str, "Its working folder, relative to the profile. ~ is the home of its user."] = "."
    env: Annotated[dict[str, str], _ENV] = field(default_factory=dict)
    ready: Annotated[Readiness, "How to tell that it is ready."] = Readiness()
    restart_every: Annotated[int | None, whole(1), "Restart after this many agents. Default: run.chain."] = None
    memory: Annotated[CompanionMemory, "Limits of its process tree."] = CompanionMemory()


class Success(Table, frozen=True):
    """Conditions for an exit to count as completed."""

    codes: Annotated[tuple[int, ...], whole(0, 255), "Exit codes that mean success.", _WORDS] = (0,)
    file: Annotated[str | None, TEXT_OR_NONE, "A file that must exist, relative to cwd."] = None
    output: Annotated[str | None, TEXT_OR_NONE, "A regular expression that its stdout must match."] = None
    command: Annotated[
        tuple[str, ...], "A command that must succeed, in the agent's folder and as its user. It may take 5 minutes."
    ] = ()


class Repeat(Table, frozen=True):
    """Rounds of an agent. Memory is proven to be back after each."""

    must_have: ClassVar[tuple[str, ...]] = ("until",)

    until: Annotated[
        tuple[str, ...],
        "Program and arguments that end the rounds by exit code 0, in the agent's folder and as its user.",
        _WORDS,
    ] = ()
    max: Annotated[int, whole(1), "Most rounds. After them the agent is unfinished, which counts as failed."] = 10
    fresh: Annotated[bool, FLAG, "Begin each round with a new conversation. false: continue the one before."] = True


class ForEach(Table, frozen=True):
    """One agent for each item: a list, or one of these."""

    items: Annotated[tuple[str, ...], "The items themselves."] = ()
    glob: Annotated[str | None, TEXT_OR_NONE, "One for each file or folder that matches, relative to the profile."] = (
        None
    )
    lines: Annotated[str | None, TEXT_OR_NONE, "One for each line of this file that is not empty."] = None
    allow_empty: Annotated[bool, FLAG, "Skip the agent if there are no items. Otherwise seqsup refuses to start."] = (
        False
    )

    def ways(self) -> tuple[object, ...]:
        return (self.items, self.glob, self.lines)


_FOREIGN = {
    "hard_limit": "memory.hard", "memory_limit": "memory.hard", "mem_limit": "memory.hard", "max_memory": "memory.hard",
    "soft_limit": "memory.soft", "retries": "retry.attempts", "max_retries": "retry.attempts",
    "attempts": "retry.attempts",
}  # fmt: skip


class AgentTable(Table, frozen=True):
    must_have: ClassVar[tuple[str, ...]] = ("name",)
    must_have_one: ClassVar[tuple[str, ...]] = ("command", "prompt")
    meant: ClassVar[dict[str, str]] = _FOREIGN | {
        "depends_on": "needs", "after": "needs", "environment": "env", "working_dir": "cwd", "workdir": "cwd",
        "cmd": "command", "arguments": "args", "timeout": "timeouts.wall",
    }  # fmt: skip

    name: Annotated[str, "A unique name of ASCII letters, digits, '.', '_' and '-'."] = ""
    command: Annotated[tuple[str, ...], "Program and arguments, as a list of words.", _WORDS] = ()
    prompt: Annotated[
        str | None, TEXT, "In place of `command`: what the agent shall do. `preset` names the CLI that gets it."
    ] = None
    args: Annotated[tuple[str, ...], "Further arguments of the CLI that gets the prompt, as a list of words."] = ()
    model: Annotated[str | None, TEXT, "Model of the CLI that gets the prompt. Default: the CLI's own."] = None
    runtime: Annotated[
        Literal["auto", "node", "bun", "native"], "What runs the program. auto: detected from its file."
    ] = "auto"
    preset: Annotated[
        str | None,
        _PRESET,
        "Settings for a known CLI: variables, failure patterns, keys. auto: the preset of the program that `command`"
        " starts, if it has one. An agent with `prompt` must name its preset.",
    ] = AUTO
    user: Annotated[str | None, TEXT_OR_NONE, "User to run it as when seqsup runs as root. Empty: run.user."] = None
    cwd: Annotated[str, "Its working folder, relative to the profile. ~ is the home of its user."] = "."
    env: Annotated[dict[str, str], _ENV] = field(default_factory=dict)
    stdin: Annotated[str | None, TEXT_OR_NONE, "Text for stdin."] = None
    stdin_file: Annotated[str | None, TEXT_OR_NONE, "File for stdin, relative to the profile or below ~."] = None
    needs: Annotated[tuple[str, ...], "Agents that must complete before it."] = ()
    when: Annotated[
        tuple[str, ...],
        "Run it only if --task contains one of these words, in singular or plural, or with -ed or -ing, or matches a"
        ' regular expression "/…/".',
    ] = ()
    otherwise: Annotated[bool, FLAG, "Run it only if --task selects no agent with `when`. One agent may have it."] = (
        False
    )
    success: Annotated[Success, "What must hold for an exit to count as completed."] = Success()
    expect: Annotated[tuple[Reason, ...], _EXPECTED, "Reasons that count as success, for demos and tests."] = ()
    repeat: Annotated[Repeat | None, "Run it again and again until a command succeeds."] = None
    for_each: Annotated[ForEach | None, _LIST_OF_ITEMS, "Make one agent for each item. {item} is replaced by it."] = (
        None
    )
    node: Annotated[NodeTable, "Options if it is a Node program."] = NodeTable()
    memory: Annotated[MemoryTable, "Limits of its whole process tree."] = MemoryTable()
    gc: Annotated[GcTable, "When to request a GC in its Node processes."] = GcTable()
    rlimits: Annotated[Rlimits, "Limits of each of its processes, and of their number."] = Rlimits()
    drain: Annotated[DrainTable, "How to prove that its memory is back."] = DrainTable()
    timeouts: Annotated[Timeouts, "How long it may take."] = Timeouts()
    output: Annotated[OutputTable, "How much of its output to keep."] = OutputTable()
    retry: Annotated[Retry, "Whether and how to retry it."] = Retry()
    usage: Annotated[UsageRule, "What to do at its provider's usage limit, and when it may start."] = UsageRule()
    budget: Annotated[Budget, "What it may spend."] = Budget()

    settings: Preset | None = None  # of `preset`

    @property
    def form(self) -> PromptForm | None:
        """How its CLI is started with its prompt; None if it has none, or its preset takes none."""
        return self.settings.prompt if self.prompt is not None and self.settings is not None else None

    def texts(self) -> list[tuple[KeyPath, str]]:
        """Every text that may hold placeholders, with its key."""
        return [
            *((("command", n), word) for n, word in enumerate(self.command)),
            (("prompt",), self.prompt or ""),
            *((("args", n), word) for n, word in enumerate(self.args)),
            (("model",), self.model or ""),
            *((("env", name), value) for name, value in self.env.items()),
            (("cwd",), self.cwd),
            (("stdin",), self.stdin or ""),
            (("stdin_file",), self.stdin_file or ""),
            (("success", "file"), self.success.file or ""),
            *((("success", "command", n), word) for n, word in enumerate(self.success.command)),
            *((("repeat", "until", n), word) for n, word in enumerate(self.repeat.until if self.repeat else ())),
        ]


# A table at the top level is the default for every agent, key by key.
SHARED = ("node", "memory", "gc", "rlimits", "drain", "timeouts", "output", "retry", "usage", "budget")


class Profile(Table, frozen=True):
    """One TOML file: one run."""

    meant: ClassVar[dict[str, str]] = _FOREIGN | {"tasks": "agents", "services": "companions or agents"}

    must_have: ClassVar[tuple[str, ...]] = ("agents",)

    name: Annotated[str, "Name of the run. Default: the file's name."] = ""
    run: Annotated[RunTable, "Settings of the whole run."] = RunTable()
    workspace: Annotated[WorkspaceTable | None, "A git branch and a folder of its own for each agent."] = None
    node: Annotated[NodeTable, "Options of every Node process of an agent."] = NodeTable()
    memory: Annotated[MemoryTable, "Limits of each agent's whole process tree."] = MemoryTable()
    gc: Annotated[GcTable, "When to request a GC in Node processes."] = GcTable()
    rlimits: Annotated[Rlimits, "Limits of each single process of an agent, and of their number."] = Rlimits()
    drain: Annotated[DrainTable, "How to prove between agents that memory is back."] = DrainTable()
    timeouts: Annotated[Timeouts, "How long an agent may take."] = Timeouts()
    output: Annotated[OutputTable, "How much output of agents, companions and hooks to keep."] = OutputTable()
    retry: Annotated[Retry, "Whether and how to retry an agent."] = Retry()
    usage: Annotated[UsageRule, "What to do at a provider's usage limit, and when agents may start."] = UsageRule()
    budget: Annotated[Budget, "What each agent may spend, all attempts together."] = Budget()
    metrics: Annotated[MetricsTable, "Metrics for Prometheus."] = MetricsTable()
    hooks: Annotated[HooksTable, "Commands to run at points of a run."] = HooksTable()
    notify: Annotated[NotifyTable, "Messages to people: on the desktop, by ntfy, Slack or mail."] = NotifyTable()
    companions: Annotated[tuple[CompanionTable, ...], "Processes that run beside the agents."] = ()
    agents: Annotated[
        tuple[AgentTable, ...], "The agents, in order. At least one, with a name and a command or a prompt.", _WORDS
    ] = ()

    file: str | None = None  # as the user named it; None when it came from a command line
    text: str = ""
