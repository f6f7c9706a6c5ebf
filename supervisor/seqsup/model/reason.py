"""Why an attempt ended."""

from enum import StrEnum


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


KILLED = frozenset({
    Reason.HEAP_OOM, Reason.SOFT, Reason.HARD, Reason.KERNEL_OOM, Reason.HOST_FLOOR,
    Reason.TIMEOUT, Reason.STALLED, Reason.HALTED,
})  # fmt: skip
STOPPED_BY_US = KILLED - {Reason.HEAP_OOM, Reason.KERNEL_OOM}
