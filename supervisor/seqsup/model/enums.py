"""The words of a fixed set that a plan and its facts are written with."""

from enum import IntEnum, StrEnum


class Halt(IntEnum):
    """The user's request to stop. It only grows."""

    NONE = 0
    AFTER_AGENT = 1
    NOW = 2
    KILL = 3


class Measure(StrEnum):
    """Part of a process's memory that counts against the limits."""

    PRIVATE = "private"  # resident - shared: equals the cgroup's figure; Σ RSS of Node trees overstates ×2.3
    RSS = "rss"
    PSS = "pss"
    CGROUP = "cgroup"  # what the kernel counts for the group: anonymous memory and shmem


class Enforce(StrEnum):
    """How the hard limit is enforced."""

    AUTO = "auto"  # by the kernel where a group can be had, and always by watching
    CGROUP = "cgroup"  # by the kernel, else nothing is started
    WATCH = "watch"


class OnTimeout(StrEnum):
    RESTART_COMPANIONS = "restart-companions"
    STOP = "stop"
    CONTINUE = "continue"


class GcMode(StrEnum):
    """When seqsup requests a GC by itself. Each includes those before it, except for off."""

    OFF = "off"
    HIGH = "high"  # an agent above memory.soft, a companion above its memory.hard
    BETWEEN = "between"  # and all companions between two agents
    AGGRESSIVE = "aggressive"  # and an agent above memory.warn, again and again


class OnUsageLimit(StrEnum):
    """Action when an agent meets its provider's limit."""

    STOP = "stop"  # the run, with exit code 75
    WAIT = "wait"  # until it resets; that attempt does not count


class RetryHow(StrEnum):
    """What an attempt does with the conversation of the one before."""

    AUTO = "auto"  # resumes it if that attempt was interrupted
    RESUME = "resume"  # also after a failure
    FRESH = "fresh"  # never resumes it


class Keep(StrEnum):
    """When a workspace's folder stays after its agent. One that holds work always stays."""

    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    NEVER = "never"


class TreeOnRetry(StrEnum):
    """What a retry finds in its workspace."""

    CLEAN = "clean"  # what the agent found; the work of the last attempt is on a branch of its own
    KEEP = "keep"  # what the last attempt left


class Notice(StrEnum):
    """What a user is notified of."""

    DONE = "done"  # the run ended well
    FAILED = "failed"  # the run did not, or an agent failed for good while the run continues
    USAGE_LIMIT = "usage-limit"  # the run waits or stops at a provider's limit
    STUCK = "stuck"  # a stalled agent, a process that survives SIGKILL, memory that does not come back, a full disk
    MEMORY = "memory"  # an agent was stopped for its memory


class Restart(StrEnum):
    """Why a companion was ended or started again."""

    EVERY_N = "every-n"  # agents
    CRASHED = "crashed"
    MEMORY = "memory"  # it was over its limit: between agents, or killed far over it
    DRAIN = "drain"  # memory did not come back after an agent
    RUN_ENDED = "run-ended"


class ProcessKind(StrEnum):
    """Purpose of a process in an agent's tree."""

    AGENT = "agent"  # the leader, or an agent's program that it started
    MCP_SERVER = "mcp-server"
    SHELL = "shell"
    BROWSER = "browser"
    OTHER = "other"


class Verdict(StrEnum):
    """The largest part of a tree's memory, as a collection shows it."""

    GARBAGE = "garbage"  # no longer needed
    JS_LEAK = "js-leak"  # objects that are still reachable
    BUFFER_LEAK = "buffer-leak"  # Buffers and long strings that are still reachable: no heap limit covers them
    OUTSIDE_JS = "outside-js"  # native code, other programs, pages that malloc keeps
    UNKNOWN = "unknown"  # in Node processes that did not answer, or not since they grew
    NONE = "none"  # too little to judge: the tree is below its limit, or not far above bare Node processes


HALTS = {
    Halt.NONE: "not at all",
    Halt.AFTER_AGENT: "after this agent",
    Halt.NOW: "now (with a grace period)",
    Halt.KILL: "at once",
}


LEVELS = DEBUG, INFO, WARNING, ERROR = "DEBUG", "INFO", "WARNING", "ERROR"  # of the log
