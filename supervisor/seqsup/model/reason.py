"""Why an attempt ended, and what follows from each reason: one table, from which all other lists of reasons come."""

from enum import Enum, StrEnum, auto

from msgspec import Struct


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
    PROCESSES = "processes"  # more than rlimits.processes
    TIMEOUT = "timeout"
    STALLED = "stalled"
    NO_RESULT = "no-result"  # exited well, but the profile's success check found nothing
    UNFINISHED = "unfinished"  # its round completed, but repeat.until did not succeed
    USAGE_LIMIT = "usage-limit"
    BUDGET = "budget"  # it spent what the profile allows
    NO_CREDIT = "no-credit"  # its provider's account is used up, which does not reset by itself
    SPAWN_FAILED = "spawn-failed"
    MISCONFIGURED = "misconfigured"
    HALTED = "halted"  # requested by the user
    SKIPPED = "skipped"
    LOST = "lost"  # the supervisor died while it ran


class EndedBy(Enum):
    """Cause of an attempt's exit."""

    ITSELF = auto()  # also a signal that seqsup did not send, or no start at all
    V8 = auto()
    KERNEL = auto()
    SEQSUP = auto()  # at a limit
    USER = auto()  # by seqsup, at the user's wish
    NOTHING = auto()  # it never ran, or its end was not seen


class Retried(Enum):
    """Whether an attempt that ended so is followed by another."""

    BY_DEFAULT = auto()
    IF_LISTED = auto()  # in retry.on
    NEVER = auto()  # or by other rules than retry.on


class Consequences(Struct, frozen=True, kw_only=True):
    """Consequences of a reason."""

    by: EndedBy = EndedBy.ITSELF
    retried: Retried = Retried.NEVER
    memory: bool = False  # the memory of its tree is examined
    limit: str = ""  # key of the profile that is to be raised
    option: str = ""  # the same for `seqsup run`, which derives the heap limit from --hard


# In the order in which lists of reasons are shown: memory first
CONSEQUENCES = {
    Reason.HARD: Consequences(
        by=EndedBy.SEQSUP, retried=Retried.BY_DEFAULT, memory=True, limit="memory.hard", option="--hard",
    ),
    Reason.SOFT: Consequences(
        by=EndedBy.SEQSUP, retried=Retried.BY_DEFAULT, memory=True, limit="memory.soft", option="--soft",
    ),
    Reason.HEAP_OOM: Consequences(
        by=EndedBy.V8, retried=Retried.BY_DEFAULT, memory=True, limit="node.max_old_space_size", option="--hard",
    ),
    Reason.KERNEL_OOM: Consequences(
        by=EndedBy.KERNEL, retried=Retried.BY_DEFAULT, memory=True, limit="memory.hard", option="--hard",
    ),
    Reason.HOST_FLOOR: Consequences(by=EndedBy.SEQSUP, retried=Retried.IF_LISTED, memory=True),
    Reason.PROCESSES: Consequences(by=EndedBy.SEQSUP, retried=Retried.IF_LISTED, limit="rlimits.processes"),
    Reason.CRASHED: Consequences(retried=Retried.BY_DEFAULT),
    Reason.TIMEOUT: Consequences(
        by=EndedBy.SEQSUP, retried=Retried.IF_LISTED, limit="timeouts.wall", option="--timeout",
    ),
    Reason.STALLED: Consequences(by=EndedBy.SEQSUP, retried=Retried.BY_DEFAULT, limit="timeouts.stall"),
    Reason.BUDGET: Consequences(by=EndedBy.SEQSUP, limit="budget"),
    Reason.FAILED: Consequences(retried=Retried.BY_DEFAULT),
    Reason.NO_RESULT: Consequences(retried=Retried.IF_LISTED),
    Reason.UNFINISHED: Consequences(),
    Reason.SPAWN_FAILED: Consequences(retried=Retried.IF_LISTED),
    Reason.MISCONFIGURED: Consequences(),
    Reason.USAGE_LIMIT: Consequences(),
    Reason.NO_CREDIT: Consequences(),
    Reason.COMPLETED: Consequences(),
    Reason.HALTED: Consequences(by=EndedBy.USER),
    Reason.SKIPPED: Consequences(by=EndedBy.NOTHING),
    Reason.LOST: Consequences(by=EndedBy.NOTHING),
}  # fmt: skip


def ended_by(*some: EndedBy) -> tuple[Reason, ...]:
    """Return the reasons of attempts that these end."""
    return tuple(reason for reason, follows in CONSEQUENCES.items() if follows.by in some)


AT_A_LIMIT = ended_by(EndedBy.SEQSUP, EndedBy.KERNEL)
STOPPED_BY_US = ended_by(EndedBy.SEQSUP, EndedBy.USER)
KILLED = ended_by(EndedBy.V8, EndedBy.KERNEL, EndedBy.SEQSUP, EndedBy.USER)
# Ends that interrupt a conversation: it can be resumed
INTERRUPTED = (*KILLED, Reason.CRASHED, Reason.USAGE_LIMIT, Reason.NO_CREDIT, Reason.LOST)
OF_MEMORY = tuple(reason for reason, follows in CONSEQUENCES.items() if follows.memory)
