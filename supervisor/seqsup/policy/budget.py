"""What agents have spent, and which budget that reaches. Pure."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from seqsup.model.conversation import Conversation
from seqsup.model.profile import Budget
from seqsup.text import counted


class Expenses(Struct, frozen=True, kw_only=True):
    """Cost, tokens and turns. What was not reported is missing."""

    usd: float = 0.0
    tokens: int = 0
    turns: int = 0

    def __add__(self, other: "Expenses") -> "Expenses":
        return Expenses(usd=self.usd + other.usd, tokens=self.tokens + other.tokens, turns=self.turns + other.turns)


NOTHING = Expenses()


def spent(conversation: Conversation) -> Expenses:
    return Expenses(usd=conversation.usd or 0.0, tokens=conversation.tokens.total, turns=conversation.turns)


def reached(budget: Budget, so_far: Expenses, table: str) -> str:
    """Say which key of the table is reached; an empty string if none is."""
    if budget.turns is not None and so_far.turns >= budget.turns:
        return f"{counted(so_far.turns, 'turn')} ({table}.turns {budget.turns})"
    if budget.tokens is not None and so_far.tokens >= budget.tokens:
        return f"{so_far.tokens:,} tokens ({table}.tokens {budget.tokens:,})"
    if budget.usd is not None and so_far.usd >= budget.usd:
        return f"${so_far.usd:.2f} ({table}.usd {budget.usd:g})"
    return ""


def left(budgets: Sequence[tuple[Budget, Expenses]]) -> Budget:
    """Return what all of these budgets leave of each kind, at least 0."""

    def least(key: str) -> Any:
        rests = [
            max(getattr(budget, key) - getattr(so_far, key), 0)
            for budget, so_far in budgets if getattr(budget, key) is not None
        ]  # fmt: skip
        return min(rests, default=None)

    return Budget(usd=least("usd"), tokens=least("tokens"), turns=least("turns"))
