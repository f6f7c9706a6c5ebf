"""Measurements: processes, heaps, samples of a tree. Memory in bytes, time in monotonic seconds."""

from msgspec import Struct

from seqsup.model.conversation import Conversation
from seqsup.model.enums import Halt, ProcessKind, Verdict

PROTOCOL = 1  # version of the channel, as in docs/reference/channel.md


class ProcessMemory(Struct, frozen=True, kw_only=True):
    """One process of a tree, for the reader of a kill's reason; of small ones all that run the same program."""

    pid: int  # of the largest; 0 for what is of no process, or of several programs
    name: str
    command: str
    bytes: int
    kind: ProcessKind = ProcessKind.OTHER  # agent, mcp-server, shell, browser or other
    count: int = 1  # 0 for what is of no process


class TreeProcess(Struct, frozen=True, kw_only=True):
    """A process with its place in the tree."""

    pid: int
    parent: int
    memory: ProcessMemory | None  # None: its command line is not known


class Heap(Struct, frozen=True, kw_only=True):
    """Heap of an agent's Node process as V8 reports it, in bytes."""

    used: int
    total: int  # that V8 has taken from the system
    limit: int  # of the heap, where V8 gives up
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
    workers: int = 0  # its worker threads, which have heaps of their own that are not read


class AllocationSite(Struct, frozen=True, kw_only=True):
    """Where living objects were allocated, as the sampling profiler saw it."""

    bytes: int
    frames: tuple[str, ...]  # `function (file:line)`, the nearest first


class Collection(Struct, frozen=True, kw_only=True):
    """A requested collection that is over."""

    at: float  # when it was requested, in monotonic seconds
    seconds: float
    asked: int  # Node processes
    answered: int
    before: Heap  # the sums over those processes
    after: Heap
    used: int  # by the whole tree, at the request
    freed: int  # RSS of those processes
    verdict: Verdict


class NodesTold(Struct, frozen=True, kw_only=True):
    """Report about a tree to `seqsup mem` or a program of the agent; see docs/reference/channel.md."""

    before: tuple[NodeProcess, ...] = ()
    after: tuple[NodeProcess, ...] = ()
    collection: Collection | None = None  # if one was requested and a process answered
    used: int = 0  # memory of the whole tree, in bytes
    why: str = ""  # what is not known, and why
    error: str = ""  # why the question was not answered
    protocol: int = PROTOCOL


class Sample(Struct, frozen=True, kw_only=True):
    """One look at a tree and its host. `at` is monotonic seconds; memory is bytes."""

    at: float
    used: int
    processes: int
    host_available: int
    leaving: int = 0  # part of `used` of processes that seqsup killed to spare the others, and that are not gone
    quiet: float = 0.0  # seconds since the last sign of life
    kernel_oom: str = ""  # the kernel's figures, once it killed in the agent's cgroup because memory was short
    root_exited: bool = False
    childless: bool = False  # the kernel says that the supervisor has no descendant
    halt: Halt = Halt.NONE
    collectable: bool = False  # a Node process of the tree answers
    collection: Collection | None = None  # the last that is over
    snapping: bool = False  # a heap snapshot is being written
    figure: str = ""  # by which `used` was found, such as PSS
    spent: str = ""  # which budget is reached, in words
    spared: bool = False  # with lanes: for the host's floor another agent is stopped first


class Surroundings(Struct, frozen=True, kw_only=True):
    """Values read once a second beside a tree: of the machine, and of the supervisor itself. Bytes and seconds."""

    host_total: int
    own: int  # resident memory of the supervisor
    cpu: float  # that the supervisor has taken
    waiting: float | None = None  # in which some task waited for memory since boot; None: the kernel has no PSI
    stalled: float | None = None  # in which all did


class Observation(Struct, frozen=True, kw_only=True):
    """A sample for observers: timeline, metrics, live view."""

    agent: str
    attempt: int
    sample: Sample
    took: float  # seconds, for the look itself
    processes: tuple[ProcessMemory, ...] | None = None  # once a second, beginning with the second one
    pids: tuple[int, ...] = ()  # of all processes, as often as those are named
    heap: Heap | None = None
    around: Surroundings | None = None  # as often
    conversation: Conversation | None = None  # so far; None: its CLI writes no JSON stream
