"""Add the facts of a stream up to a conversation."""

from msgspec import Struct

from seqsup.dialects.facts import (
    Answered,
    Cost,
    Denied,
    Fact,
    Finished,
    LimitSeen,
    ModelKnown,
    SessionCost,
    SessionKnown,
    SessionSpent,
    Settled,
    Spent,
    Spoken,
    ToolEnded,
    ToolStarted,
)
from seqsup.dialects.values import over
from seqsup.model.conversation import Conversation, ProviderLimit, Result, ResultKind, Tokens, ToolUse

NO_TOKENS = Tokens()
TEXT = 1024 * 1024  # characters that are kept of a result
_MANY = 256  # messages, tools and denials that are kept apart
_WORD = 500  # characters of an id or a name


class _Costs(Struct):
    """USD. None: not reported."""

    before: float  # of the session's earlier attempts
    attempt: float | None = None
    session: float | None = None
    reported: bool = False  # the session's was
    open: bool = False  # something was asked since the last report


class Fold:
    """Facts of one attempt.

    `usd_before` and `tokens_before` are those of the session's earlier attempts.
    """

    def __init__(self, *, prices: bool, usd_before: float = 0.0, tokens_before: Tokens = NO_TOKENS) -> None:
        self._prices = prices
        self._tokens_before = tokens_before
        self._costs = _Costs(before=usd_before, session=usd_before or None)
        self._session = self._model = ""
        self._turns = 0
        self._tools: dict[str, ToolUse] = {}
        self._settled = Tokens()
        self._messages: dict[str, Tokens] = {}
        self._limit: ProviderLimit | None = None
        self._kind: ResultKind | None = None
        self._text = ""  # of the last result that had one
        self._said: list[str] = []  # the last text
        self._room = TEXT  # characters that still fit
        self._denied: dict[str, str] = {}

    @property
    def text(self) -> str:
        """Return the text of the last result, or else the last text of the model."""
        return self._text or "".join(self._said)

    def conversation(self, *, ended: bool, malformed: int, skipped: int) -> Conversation:
        """Return all so far. `ended`: no more facts follow."""
        usd = self._costs.attempt
        partial = ended and self._costs.open and (self._prices or usd is not None)
        return Conversation(
            session=self._session, model=self._model, turns=self._turns,
            tool=next(reversed(self._tools.values()), None),
            tokens=sum(self._messages.values(), self._settled),
            usd=usd if usd is not None or not partial else 0.0,
            usd_of_session=self._costs.session, usd_is_partial=partial, limit=self._limit,
            result=Result(kind=self._kind, text=self._text) if self._kind is not None else None,
            denied=tuple(self._denied.values()), malformed=malformed, skipped=skipped,
        )  # fmt: skip

    def add(self, fact: Fact, now: float) -> None:
        match fact:
            case Spoken():
                self._say(fact)
            case ToolStarted():
                self._start(fact, now)
            case ToolEnded(id):
                self._tools.pop(id, None)
            case Answered():
                self._turns += 1
                self._costs.open = True
            case Denied() if len(self._denied) < _MANY:
                self._deny(fact)
            case LimitSeen(limit):
                self._limit = limit
            case SessionKnown(session):
                self._session = session[:_WORD] or self._session
                self._costs.open = True
            case ModelKnown(model):
                self._model = model[:_WORD] or self._model
            case Finished():
                self._finish(fact)
            case Spent() | Settled() | SessionSpent():
                self._spend(fact)
            case Cost() | SessionCost():
                self._pay(fact)

    def _say(self, fact: Spoken) -> None:
        if fact.by:
            return
        if not fact.more:
            self._said, self._room = [], TEXT
        piece = fact.text[: self._room]
        self._room -= len(piece)
        self._said.append(piece)

    def _start(self, fact: ToolStarted, now: float) -> None:
        if len(self._tools) >= _MANY:  # ends that are never told
            self._tools.pop(next(iter(self._tools)))
        self._tools[fact.id] = ToolUse(name=fact.name[:_WORD], about=fact.about, since=now)

    def _deny(self, fact: Denied) -> None:
        tool = self._tools.get(fact.id)
        if name := fact.tool or (tool.name if tool is not None else ""):
            self._denied[fact.id] = name[:_WORD]

    def _finish(self, fact: Finished) -> None:
        """Keep the kind of the last result. A good one without text, as after a background task, keeps the text."""
        self._kind = fact.kind
        text = fact.text[:TEXT]
        self._text = text or "".join(self._said) or self._text if fact.kind is ResultKind.COMPLETED else text
        self._tools.clear()

    def _spend(self, fact: Spent | Settled | SessionSpent) -> None:
        match fact:
            case Spent(message, tokens):
                self._messages[message] = tokens
                if len(self._messages) > _MANY:
                    self._settled += self._messages.pop(next(iter(self._messages)))
            case Settled(tokens):
                self._settled += tokens
                self._messages.clear()
            case SessionSpent(tokens):
                self._settled = over(tokens, self._tokens_before)
                self._messages.clear()

    def _pay(self, fact: Cost | SessionCost) -> None:
        costs = self._costs
        costs.open = False
        match fact:
            case Cost(usd):
                costs.attempt = (costs.attempt or 0.0) + usd
                if not costs.reported:
                    costs.session = costs.before + costs.attempt
            case SessionCost(usd):
                costs.session, costs.reported = usd, True
