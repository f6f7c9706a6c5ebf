"""What agents have spent, and which budget that reaches."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.conversation import Conversation, Tokens
from seqsup.model.profile import Budget
from seqsup.policy.budget import NOTHING, Expenses, left, reached, spent

sums = st.none() | st.floats(0.01, 1000)
counts = st.none() | st.integers(1, 10**9)
budgets = st.builds(Budget, usd=sums, tokens=counts, turns=counts)
spendings = st.builds(Expenses, usd=st.floats(0, 2000), tokens=st.integers(0, 10**10), turns=st.integers(0, 10**4))


def test_all_kinds_of_tokens_count_and_a_cost_that_is_partial() -> None:
    tokens = Tokens(input=1, output=20, cache_read=300, cache_write=4000)
    one = Conversation(tokens=tokens, turns=2, usd=0.5, usd_is_partial=True)
    assert spent(one) + spent(Conversation(turns=1)) == Expenses(usd=0.5, tokens=4321, turns=3)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(), ""),
        (Budget(usd=5.01, tokens=2_000_001, turns=8), ""),
        (Budget(usd=5.0), "$5.00 (budget.usd 5)"),
        (Budget(tokens=2_000_000), "2,000,000 tokens (budget.tokens 2,000,000)"),
        (Budget(turns=7), "7 turns (budget.turns 7)"),
        (Budget(turns=7, usd=1.0), "7 turns (budget.turns 7)"),
    ],
)
def test_reached_budget_is_named_with_its_key(budget: Budget, words: str) -> None:
    assert reached(budget, Expenses(usd=5.0, tokens=2_000_000, turns=7), "budget") == words


@given(budgets, spendings)
def test_budget_is_reached_when_nothing_is_left_of_a_kind(budget: Budget, so_far: Expenses) -> None:
    rest = left([(budget, so_far)])
    assert bool(reached(budget, so_far, "budget")) is (0 in (rest.usd, rest.tokens, rest.turns))
    assert not reached(budget, NOTHING, "budget")


@given(st.lists(st.tuples(budgets, spendings), max_size=3), spendings)
def test_more_spent_leaves_no_more(several: list[tuple[Budget, Expenses]], more: Expenses) -> None:
    before, after = left(several), left([(budget, so_far + more) for budget, so_far in several])
    for key in ("usd", "tokens", "turns"):
        had: Any = getattr(before, key)
        has: Any = getattr(after, key)
        assert (had is None) is (has is None) is all(getattr(budget, key) is None for budget, _ in several)
        assert had is None or 0 <= has <= had
