"""What a line of a CLI's stream says, in the same words for all CLIs."""

from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from seqsup.model.conversation import ProviderLimit, ResultKind, Tokens

Line = dict[str, Any]  # a decoded line: any value may have any type


class SessionKnown(Struct, frozen=True):
    """The id of the session. It comes with the begin of a turn, or with each line."""

    session: str


class ModelKnown(Struct, frozen=True):
    model: str


class Answered(Struct, frozen=True):
    """The model answered a request."""


class Spoken(Struct, frozen=True):
    """Text of the model."""

    text: str
    more: bool = False  # it continues the text before it
    by: str = ""  # the subagent, or nothing


class ToolStarted(Struct, frozen=True):
    id: str
    name: str
    about: str  # the first line of its input


class ToolEnded(Struct, frozen=True):
    id: str
    error: str = ""


class Denied(Struct, frozen=True):
    """The use of a tool was not permitted."""

    id: str  # of the use
    tool: str = ""  # empty: the tool that was started with this id


class Spent(Struct, frozen=True):
    """Tokens of one message so far. A later fact of the same message replaces an earlier one."""

    message: str
    tokens: Tokens


class Settled(Struct, frozen=True):
    """All tokens since the last such fact: it replaces what the messages spent."""

    tokens: Tokens


class SessionSpent(Struct, frozen=True):
    """All tokens of the session, earlier attempts included."""

    tokens: Tokens


class Cost(Struct, frozen=True):
    """USD since the last such fact."""

    usd: float


class SessionCost(Struct, frozen=True):
    """USD of the session, earlier attempts included."""

    usd: float


class LimitSeen(Struct, frozen=True):
    limit: ProviderLimit


class Finished(Struct, frozen=True):
    """A result. More may follow; the end of the process is the end."""

    kind: ResultKind
    text: str = ""  # empty: the last text of the model


Fact = (
    SessionKnown | ModelKnown | Answered | Spoken | ToolStarted | ToolEnded | Denied | Spent | Settled | SessionSpent
    | Cost | SessionCost | LimitSeen | Finished
)  # fmt: skip


class Reader(Protocol):
    """Reads the lines of one process of a CLI, in their order. A line that it does not know has no facts."""

    prices: bool  # whether the CLI always reports what its turns cost

    def read(self, line: Line) -> Iterable[Fact]: ...
