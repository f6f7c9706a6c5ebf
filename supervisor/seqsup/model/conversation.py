"""What an agent CLI reports of its conversation: the facts of its JSON stream, added up. Costs are in USD."""

from enum import StrEnum

from msgspec import Struct


class Tokens(Struct, frozen=True, kw_only=True):
    """Tokens by kind. `input` are those that the provider's cache did not have."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            input=self.input + other.input, output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read, cache_write=self.cache_write + other.cache_write,
        )  # fmt: skip

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


class ToolUse(Struct, frozen=True, kw_only=True):
    """A tool that the CLI is using."""

    name: str
    about: str  # the first line of its input, such as a command
    since: float  # monotonic seconds


class ProviderLimit(Struct, frozen=True, kw_only=True):
    """The provider's usage limit, as the CLI reported it last."""

    rejected: bool = False  # it is reached
    used: float | None = None  # the largest share of its windows, 1.0 is all
    resets_at: float | None = None  # epoch
    window: str = ""  # such as five_hour


class ResultKind(StrEnum):
    """How a CLI says that its work ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    USAGE_LIMIT = "usage-limit"
    NO_CREDIT = "no-credit"  # a limit that does not reset by itself
    BUDGET = "budget"  # the CLI's own limit of cost or turns
    INTERRUPTED = "interrupted"
    SESSION_LOST = "session-lost"  # the conversation to resume does not exist


class Result(Struct, frozen=True, kw_only=True):
    """The last result that the CLI reported."""

    kind: ResultKind
    text: str  # the answer, or the error's message


class Conversation(Struct, frozen=True, kw_only=True):
    """One attempt's conversation so far."""

    session: str = ""  # the id by which the CLI resumes it
    model: str = ""
    turns: int = 0  # requests to the model that were answered
    tool: ToolUse | None = None
    tokens: Tokens = Tokens()
    usd: float | None = None  # of this attempt; None: the CLI reports no cost
    usd_of_session: float | None = None  # of all its attempts, where the CLI reports that
    usd_is_partial: bool = False  # the attempt was stopped before its cost was reported: it is at least `usd`
    limit: ProviderLimit | None = None
    result: Result | None = None
    denied: tuple[str, ...] = ()  # tools whose use was not permitted
    malformed: int = 0  # lines that are not JSON objects
    skipped: int = 0  # lines that were too long, and parts for which there was no time

    @property
    def begun(self) -> bool:
        """Whether the CLI has reported anything of it."""
        return bool(self.session or self.turns or self.result)
