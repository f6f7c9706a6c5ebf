"""How an attempt ended."""

from msgspec import Struct

from seqsup.model.conversation import Conversation
from seqsup.model.enums import Verdict
from seqsup.model.process import ProcessMemory
from seqsup.model.reason import Reason


class Exit(Struct, frozen=True, kw_only=True):
    """How the leader ended: one of the two is set."""

    code: int | None
    signal: int | None


class Leak(Struct, frozen=True, kw_only=True):
    """The line of code that holds most of a tree's memory, where the verdict is a leak."""

    verdict: Verdict
    at: str  # file and line, such as embed.js:9
    proven: bool  # by a GC; else part of that memory may be garbage


class Outcome(Struct, frozen=True, kw_only=True):
    """How one attempt ended, and why, with the numbers."""

    reason: Reason
    why: str
    exit: Exit | None
    seconds: float
    peak: int
    # Memory of the tree before it exited or was stopped: the higher of the last two looks; None: there was none
    end: int | None = None
    processes: tuple[ProcessMemory, ...] = ()
    left_over: tuple[ProcessMemory, ...] = ()
    blames_us: bool = False  # an option of ours caused it: it may run without
    forensics: str = ""  # the file that says more, in the attempt's folder
    leak: Leak | None = None
    resets_at: float | None = None  # epoch: when the usage limit that it met does; None: it did not say
    session_lost: bool = False  # the conversation that it was to resume does not exist
    conversation: Conversation | None = None  # as the agent's CLI reported it; None: it wrote no JSON stream

    @property
    def exit_code(self) -> int | None:
        return self.exit.code if self.exit else None

    @property
    def signal(self) -> int | None:
        return self.exit.signal if self.exit else None


class PastAttempt(Struct, frozen=True, kw_only=True):
    """An earlier attempt of an agent, as far as the next one depends on it."""

    content: str  # of the agent then
    session: str  # the id of its conversation; empty: not known
    resumed: bool  # it resumed that conversation
    outcome: Outcome


def ending(ended: Exit | None) -> str:
    """Say how the leader of a tree ended, or nothing when that is not known."""
    if ended is None:
        return ""
    return f"exit {ended.code}" if ended.signal is None else f"signal {ended.signal}"
