"""The keys of a profile: their types, units ended (bytes, seconds, None for "none"), defaults and meaning.

UNSET is a limit that the user left to us: it follows another key or the machine (see `limits`).
A table without `Table` in its name is also the plan's value. `model.plan` extends the others where it resolves them.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from msgspec import UNSET, UnsetType, field

from seqsup.model.enums import Enforce, Halt, Measure, OnTimeout, OnUsageLimit
from seqsup.model.kinds import (
    AMOUNT_OR_NONE,
    DURATION,
    FLAG,
    OUTPUT_OR_NONE,
    SIZE_AUTO_OR_NONE,
    SIZE_OR_NONE,
    SPAN,
    SPAN_OR_NONE,
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
from seqsup.model.preset import preset_names
from seqsup.model.reason import CONSEQUENCES, EndedBy, Reason, Retried, ended_by
from seqsup.units import show

_RETRIED = one_of([reason for reason in Reason if CONSEQUENCES[reason].retried is not Retried.NEVER], Reason)
_RETRIED_BY_DEFAULT = tuple(reason for reason, follows in CONSEQUENCES.items() if follows.retried is Retried.BY_DEFAULT)
_NEVER_EXPECTED = ended_by(EndedBy.USER, EndedBy.NOTHING)
_EXPECTED = one_of([reason for reason in Reason if reason not in _NEVER_EXPECTED], Reason)
_WORDS: dict[str, Any] = {"minItems": 1}


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
    if value == "":
        return None
    name: str = _NAMED.read(value)
    return name


_INHERITED = re.compile(r"[^=*\0]+\*?")


def _inherited(value: object) -> str:
    if not (isinstance(value, str) and _INHERITED.fullmatch(value)):
        raise ValueError(
            f'expected a variable, or a prefix with a *, such as "HTTPS_PROXY" or "AWS_*", not {show(value)}'
        )
    return value


_VARIABLE = ValueKind(_inherited, {"type": "string", "pattern": "^[^=*]+[*]?$"})
_NAMED = one_of(preset_names())
_PRESET = ValueKind(_preset, {"enum": ["", *preset_names()]}, off="")
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


_MEASURES = one_of(["auto", Measure.RSS, Measure.PSS, Measure.CGROUP])
_MEASURE = ValueKind(_measure, _MEASURES.schema, lambda measure: "auto" if measure is Measure.PRIVATE else str(measure))
_LIST_OF_ITEMS = ValueKind(_items, {"type": "array", "items": {"type": "string"}})


class RunTable(Table, frozen=True):
    mode: Annotated[
        Literal["sequential", "artifact-only"],
        "artifact-only: nothing is spawned; each agent's brief is written, with the summaries of those before it.",
    ] = "sequential"
    on_failure: Annotated[
        Literal["stop", "continue"],
        "What follows when an agent gives up; one whose `needs` failed is always skipped.",
    ] = "stop"
    chain: Annotated[int, whole(1), "Agents per chain: at a chain's end companions restart and memory must drain."] = 5
    concurrency: Annotated[
        int, whole(1), "Agents at a time, as far as their limits fit. More than one defeats the purpose."
    ] = 1
    allow_concurrency: Annotated[bool, FLAG, "Lets concurrency be more than 1."] = False
    admit: Annotated[
        Literal["limits", "learned"],
        "What an agent may take that is to run beside others: memory.hard, or what it was seen to take, with a margin.",
    ] = "limits"
    state_dir: Annotated[
        str | None, TEXT_OR_NONE, "Where journal and runs are kept; empty: the user's state folder."
    ] = None
    keep: Annotated[
        float, DURATION, "This profile's runs that are older are removed when one starts, but never its last one."
    ] = 7 * 86400.0
    disk_floor: Annotated[
        int | str | None,
        SIZE_AUTO_OR_NONE,
        "Free space on the disk of the state folder below which no agent is started, until there is room."
        " auto: 256MiB, or 5 % of a small disk.",
    ] = "auto"
    user: Annotated[
        str | None,
        TEXT_OR_NONE,
        "User that agents, companions and hooks run as, if seqsup runs as root. Empty: they stay root.",
    ] = None
    inherit: Annotated[
        tuple[str, ...],
        _VARIABLE,
        'Variables of root that processes of another user get too: names, or prefixes such as "AWS_*". Without it they'
        " get PATH, LANG, LC_*, TERM and TZ.",
    ] = ()


class NodeTable(Table, frozen=True):
    expose_gc: Annotated[bool, FLAG, "A global gc() in each Node process."] = True
    max_old_space_size: Annotated[
        int | str | None,
        SIZE_AUTO_OR_NONE,
        "V8's heap limit. auto: derived from memory.hard; \"none\": V8's own.",
    ] = "auto"
    options: Annotated[tuple[str, ...], "Further Node and V8 options for NODE_OPTIONS."] = ()
    telemetry: Annotated[bool, FLAG, "The preload that reports heap figures and collects on request."] = True
    heap_snapshot: Annotated[
        bool,
        FLAG,
        "Before a stop at memory.soft, within timeouts.grace, the largest Node process writes its heap to a file, where"
        " five times that heap has room. It holds every string, keys too.",
    ] = False


class MemoryTable(Table, frozen=True):
    """Of the agent's whole process tree."""

    measure: Annotated[Measure, _MEASURE, "What of a process counts. auto: its own; PSS confirms it near a limit."] = (
        Measure.PRIVATE
    )
    warn: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Above it the supervisor tells. By default two thirds of soft.",
        {"default": "4GiB"},
    ] = UNSET
    soft: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Above it for `sustain`: a collection is asked for; still above it: stopped, with grace."
        " By default three quarters of hard.",
        {"default": "6GiB"},
    ] = UNSET
    hard: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "Above it the tree is killed at once. By default 8GiB, on a small machine 80 % of its memory; "
        "host_floor, drain.threshold and drain.available are less there by default, too.",
        {"default": "8GiB"},
    ] = UNSET
    sustain: Annotated[float, DURATION, "How long above soft before anything is done."] = 2.0
    settle: Annotated[float, DURATION, "How long a collection may take to bring it below soft."] = 5.0
    host_floor: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "MemAvailable of the host, or what the limit of its container leaves: below it the agent is stopped (side by"
        " side the largest first) and none is started.",
        {"default": "512MiB"},
    ] = UNSET
    enforce: Annotated[Enforce, "By whom hard is kept. cgroup: refuse to start where none can be had."] = Enforce.AUTO


class Rlimits(Table, frozen=True):
    """Limits of each single process, kept by the kernel, and of their number; "none": as seqsup was started."""

    nofile: Annotated[int | None, whole_or_none(64), "Open files."] = None
    # By default none: that of a killed 8 GiB agent would fill the disk, and holds its secrets
    core: Annotated[int | None, AMOUNT_OR_NONE, "Size of the file that a crash leaves."] = 0
    data: Annotated[int | None, SIZE_OR_NONE, "Private writable memory, a second fence: whoever meets it crashes."] = (
        None
    )
    processes: Annotated[
        int | str | None,
        whole_auto_or_none(16),
        "How many processes the agent's tree may have. A cgroup counts threads too, and refuses more; without one the"
        " tree is killed. auto: an eighth of what the machine can have, from 512 to 16384.",
    ] = "auto"


class DrainTable(Table, frozen=True):
    """Between agents."""

    timeout: Annotated[float, DURATION, "How long memory may take to come back."] = 30.0
    interval: Annotated[float, SPAN, "How often to look, at most; an exit wakes earlier."] = 1.0
    threshold: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "All that the run still owns must be below it.",
        {"default": "4GiB"},
    ] = UNSET
    available: Annotated[
        int | UnsetType | None,
        SIZE_OR_NONE,
        "MemAvailable that the host must have again.",
        {"default": "1GiB"},
    ] = UNSET
    on_timeout: Annotated[OnTimeout, "What follows when memory does not come back in time."] = (
        OnTimeout.RESTART_COMPANIONS
    )
    sweep: Annotated[bool, FLAG, "Leftovers of the agent are stopped, and named."] = True
    allow: Annotated[tuple[str, ...], "Program patterns that may outlive their agent."] = ()


class Timeouts(Table, frozen=True):
    wall: Annotated[float | None, SPAN_OR_NONE, "How long an attempt may take, from its spawn, never while queued."] = (
        3600.0
    )
    stall: Annotated[float | None, SPAN_OR_NONE, "How long an attempt may print nothing."] = None
    grace: Annotated[float, DURATION, "Between TERM and KILL; MCP clients need over 4 s to close their servers."] = 10.0


class OutputTable(Table, frozen=True):
    max: Annotated[
        int | None,
        OUTPUT_OR_NONE,
        "How much of each of an agent's two streams is kept, half of it from the beginning; the middle goes.",
    ] = 64 * 1024**2


class Retry(Table, frozen=True):
    attempts: Annotated[int, whole(1), "Tries at an agent, the first one included."] = 3
    on: Annotated[tuple[Reason, ...], _RETRIED, "Reasons after which an agent is tried again."] = _RETRIED_BY_DEFAULT
    wait: Annotated[float, DURATION, "Before the second attempt; then doubled each time, with jitter."] = 1.0
    max_wait: Annotated[float, DURATION, "The longest wait between attempts."] = 60.0
    usage_limit: Annotated[
        OnUsageLimit,
        "What follows when an agent meets its provider's usage limit. stop: the run stops, with exit code 75;"
        " wait: until the limit resets, and the attempt does not count.",
    ] = OnUsageLimit.STOP
    grow_heap: Annotated[
        float,
        number(1, 16),
        "After heap-oom V8's heap limit grows by this factor, never beyond what fits under hard.",
    ] = 1.5


class MetricsTable(Table, frozen=True):
    meant: ClassVar[dict[str, str]] = dict.fromkeys(("port", "address", "host", "bind"), "listen")

    listen: Annotated[
        str | UnsetType | None,
        _ADDRESS,
        'Where Prometheus reads; "none" turns it off. By default as SEQSUP_METRICS_LISTEN says, else 127.0.0.1:9472.',
        {"default": LISTEN},
    ] = UNSET
    required: Annotated[bool, FLAG, "Refuse to start when the port is taken."] = False
    linger: Annotated[
        float, DURATION, "How long the figures can still be read after the run, unless another run begins."
    ] = 0.0
    textfile: Annotated[str | None, TEXT_OR_NONE, "File for node_exporter's textfile collector."] = None
    pushgateway: Annotated[str | None, TEXT_OR_NONE, "Address of a Prometheus Pushgateway."] = None
    file_sd: Annotated[
        str | None, TEXT_OR_NONE, "File for Prometheus' file_sd_configs, there only while figures can be read."
    ] = None


class HooksTable(Table, frozen=True):
    """Commands; JSON of the event on stdin, SEQSUP_* in the environment."""

    # A point is marked with the stop at which its commands are abandoned
    before_run: Annotated[tuple[str, ...], Halt.NOW, "Before the first agent."] = ()
    before_agent: Annotated[tuple[str, ...], Halt.NOW, "Before each agent."] = ()
    after_agent: Annotated[tuple[str, ...], Halt.KILL, "After each agent."] = ()
    memory_high: Annotated[tuple[str, ...], Halt.KILL, "When an agent goes over its soft limit, while it runs on."] = ()
    killed: Annotated[tuple[str, ...], Halt.KILL, "When an agent was stopped by a limit of memory or time."] = ()
    chain_end: Annotated[tuple[str, ...], Halt.KILL, "At the end of each chain."] = ()
    after_run: Annotated[tuple[str, ...], Halt.KILL, "After the last agent."] = ()
    timeout: Annotated[float, SPAN, "How long a hook may take; then it is stopped, and has failed."] = 60.0
    on_error: Annotated[
        Literal["warn", "stop"], "What follows when a hook fails: its exit code is not 0, or it took too long."
    ] = "warn"
    user: Annotated[
        str | None,
        TEXT_OR_NONE,
        "User that hooks run as, if seqsup runs as root. Empty: as run.user says."
        " root: only programs that no other user can write.",
    ] = None

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """Return the commands by point, of points that have some."""
        return {point: commands for point in HOOK_POINTS if (commands := getattr(self, point))}


_HOOK_HINTS = get_type_hints(HooksTable, include_extras=True)
HOOK_POINTS = {name: mark for name, hint in _HOOK_HINTS.items() for mark in get_args(hint) if isinstance(mark, Halt)}


class Readiness(Table, frozen=True):
    """How a companion shows that it is ready: one of these; without any it is as soon as it runs."""

    PROBES: ClassVar[tuple[str, ...]] = ("http", "port", "log", "delay")

    http: Annotated[str | None, TEXT_OR_NONE, "An address that answers, with neither 404 nor 5xx."] = None
    port: Annotated[int | None, whole(1, 65535), "A local port that takes connections."] = None
    log: Annotated[str | None, TEXT_OR_NONE, "Text that it prints."] = None
    delay: Annotated[float | None, DURATION, "Simply a time."] = None
    timeout: Annotated[float, SPAN, "How long it may take to be ready; then it has failed."] = 60.0

    @property
    def probe(self) -> tuple[str, Any]:
        """Return name and value of the probe that is set; a delay of 0 seconds if none is."""
        found = ((name, value) for name in self.PROBES if (value := getattr(self, name)) is not None)
        return next(found, ("delay", 0.0))


class CompanionMemory(Table, frozen=True):
    hard: Annotated[
        int | None,
        SIZE_OR_NONE,
        "Above it, between agents: a collection is asked for; still above it: restarted. At half as much again:"
        " stopped and restarted at once.",
    ] = None


class CompanionTable(Table, frozen=True):
    """Lives beside the agents: an MCP server, a gateway, a dev server."""

    must_have: ClassVar[tuple[str, ...]] = ("name", "command")

    name: Annotated[str, "Unique; ASCII letters, digits, '.', '_' and '-'."] = ""
    command: Annotated[tuple[str, ...], "Program and arguments, as a list of words.", _WORDS] = ()
    cwd: Annotated[str, "The folder it runs in, relative to the profile."] = "."
    env: Annotated[dict[str, str], "Variables beyond the user's own environment."] = field(default_factory=dict)
    ready: Annotated[Readiness, "How it shows that it is ready."] = Readiness()
    restart_every: Annotated[int | None, whole(1), "In agents; by default run.chain."] = None
    memory: Annotated[CompanionMemory, "Limits of its process tree."] = CompanionMemory()


class Success(Table, frozen=True):
    """What must be true for an exit to count as completed."""

    codes: Annotated[tuple[int, ...], whole(0, 255), "Exit codes that are a success.", _WORDS] = (0,)
    file: Annotated[str | None, TEXT_OR_NONE, "A file that must be there, relative to cwd."] = None
    output: Annotated[str | None, TEXT_OR_NONE, "A regular expression that its standard output must match."] = None
    command: Annotated[
        tuple[str, ...], "A command that must succeed, run where the agent ran and as it was; at most 5 minutes."
    ] = ()


class ForEach(Table, frozen=True):
    """One agent for each item: a list, or one of these."""

    items: Annotated[tuple[str, ...], "The items themselves."] = ()
    glob: Annotated[str | None, TEXT_OR_NONE, "Files and folders that match, relative to the profile."] = None
    lines: Annotated[str | None, TEXT_OR_NONE, "Lines of this file that are not empty."] = None

    def ways(self) -> tuple[object, ...]:
        return (self.items, self.glob, self.lines)


class AgentTable(Table, frozen=True):
    must_have: ClassVar[tuple[str, ...]] = ("name", "command")

    name: Annotated[str, "Unique; ASCII letters, digits, '.', '_' and '-'."] = ""
    command: Annotated[tuple[str, ...], "Program and arguments, as a list of words.", _WORDS] = ()
    runtime: Annotated[
        Literal["auto", "node", "bun", "native"], "What runs the program. auto: found out from its file."
    ] = "auto"
    preset: Annotated[
        str | None, _PRESET, "What is known of an agent CLI: variables, patterns, keys. `plan` shows what it sets."
    ] = None
    user: Annotated[str | None, TEXT_OR_NONE, "Whom it becomes before it starts; empty: as run.user says."] = None
    cwd: Annotated[str, "The folder it runs in, relative to the profile."] = "."
    env: Annotated[dict[str, str], "Variables beyond the user's own environment."] = field(default_factory=dict)
    stdin: Annotated[str | None, TEXT_OR_NONE, "Text for its standard input."] = None
    stdin_file: Annotated[str | None, TEXT_OR_NONE, "File for its standard input, relative to the profile."] = None
    needs: Annotated[tuple[str, ...], "Agents that must have completed before it."] = ()
    when: Annotated[tuple[str, ...], "Taken only if the text given with --task contains one of these words."] = ()
    success: Annotated[Success, "What must be true for an exit to count as completed."] = Success()
    expect: Annotated[
        tuple[Reason, ...], _EXPECTED, "Reasons that count as success, for demonstrations and tests."
    ] = ()
    for_each: Annotated[ForEach | None, _LIST_OF_ITEMS, "One agent for each item; {item} is the item."] = None
    node: Annotated[NodeTable, "What it is started with if it is a Node program."] = NodeTable()
    memory: Annotated[MemoryTable, "Limits of its whole process tree."] = MemoryTable()
    rlimits: Annotated[Rlimits, "Limits of each of its processes, and of their number."] = Rlimits()
    drain: Annotated[DrainTable, "The proof that its memory is back."] = DrainTable()
    timeouts: Annotated[Timeouts, "How long it may take."] = Timeouts()
    output: Annotated[OutputTable, "What is kept of what it prints."] = OutputTable()
    retry: Annotated[Retry, "Whether and how it is tried again."] = Retry()

    def texts(self) -> list[tuple[KeyPath, str]]:
        """Every text that may hold placeholders, with its key."""
        return [
            *((("command", n), word) for n, word in enumerate(self.command)),
            *((("env", name), value) for name, value in self.env.items()),
            (("cwd",), self.cwd),
            (("stdin",), self.stdin or ""),
            (("stdin_file",), self.stdin_file or ""),
            (("success", "file"), self.success.file or ""),
            *((("success", "command", n), word) for n, word in enumerate(self.success.command)),
        ]


# A table at the top level is the default for every agent, key by key.
SHARED = ("node", "memory", "rlimits", "drain", "timeouts", "output", "retry")


class Profile(Table, frozen=True):
    """One TOML file: one run."""

    must_have: ClassVar[tuple[str, ...]] = ("agents",)

    name: Annotated[str, "Of the run; by default the file's name."] = ""
    run: Annotated[RunTable, "The run as a whole."] = RunTable()
    node: Annotated[NodeTable, "What every Node process of an agent goes by."] = NodeTable()
    memory: Annotated[MemoryTable, "Limits of each agent's whole process tree."] = MemoryTable()
    rlimits: Annotated[Rlimits, "Limits of each single process of an agent, and of their number."] = Rlimits()
    drain: Annotated[DrainTable, "Between agents: the proof that memory is back."] = DrainTable()
    timeouts: Annotated[Timeouts, "How long an agent may take."] = Timeouts()
    output: Annotated[OutputTable, "What is kept of what agents, companions and hooks print."] = OutputTable()
    retry: Annotated[Retry, "Whether and how an agent is tried again."] = Retry()
    metrics: Annotated[MetricsTable, "Figures for Prometheus."] = MetricsTable()
    hooks: Annotated[HooksTable, "Commands run when something happens."] = HooksTable()
    companions: Annotated[tuple[CompanionTable, ...], "Processes that live beside the agents."] = ()
    agents: Annotated[
        tuple[AgentTable, ...], "The agents, in order; at least one, with a name and a command.", _WORDS
    ] = ()

    file: str | None = None  # as the user named it; None when it came from a command line
    text: str = ""
