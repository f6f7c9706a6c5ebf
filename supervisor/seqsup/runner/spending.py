"""What the agents of a run spend, against their budgets and the run's, and how much of a usage limit is used."""

import time
from typing import NamedTuple

from msgspec.structs import replace

from seqsup.model.conversation import Conversation, ProviderLimit, Result, ResultKind
from seqsup.model.outcome import Outcome
from seqsup.model.plan import Plan, Step
from seqsup.model.run_view import RunView
from seqsup.policy import budget
from seqsup.policy.budget import NOTHING, Expenses


class SeenLimit(NamedTuple):
    """A provider's usage limit."""

    limit: ProviderLimit
    seen: float  # epoch


class Spending:
    def __init__(self, plan: Plan, view: RunView) -> None:
        """`view` has the attempts of earlier parts of the run."""
        self._of_run = plan.budget
        self._providers = {step.name: step.preset.name for step in plan.steps if step.preset is not None}
        self._limits: dict[str, SeenLimit] = {}  # by provider
        self._settled: dict[str, Expenses] = {}  # by agent, in attempts that are over
        self._running: dict[str, Expenses] = {}
        self._finished: dict[str, tuple[Result, Expenses]] = {}  # by agent, as it was when its CLI reported a result
        for attempt in view.attempts:
            if attempt.conversation is not None:
                self._add(attempt.agent, attempt.conversation)
                self._take_limit(attempt.agent, attempt.conversation, attempt.ended)

    def settle(self, step: Step, outcome: Outcome) -> None:
        """Add an attempt that is over."""
        self._running.pop(step.name, None)
        self._finished.pop(step.name, None)
        if outcome.conversation is not None:
            self._add(step.name, outcome.conversation)
            self._take_limit(step.name, outcome.conversation, time.time())

    def limit(self, step: Step) -> SeenLimit | None:
        """Return the usage limit of the agent's provider, as it was reported last."""
        return self._limits.get(self._providers.get(step.name, ""))

    def hear(self, step: Step, conversation: Conversation) -> str:
        """Take in a running conversation. Say which budget is reached; an empty string if none is."""
        spent, result = budget.spent(conversation), conversation.result
        self._running[step.name] = spent
        if result is not None and result.kind is ResultKind.COMPLETED:
            finished = self._finished.get(step.name)
            if finished is None or finished[0] != result:
                finished = self._finished[step.name] = result, spent
            if finished[1] == spent:  # its work is done, and its exit follows
                return ""
        told = self.reached_by(step) or self.reached_by_run()
        return told and f"it has used {told}"

    def reached_by(self, step: Step) -> str:
        """Say which budget of the agent is reached; an empty string if none is."""
        return budget.reached(step.budget, self._of(step.name), "budget")

    def reached_by_run(self) -> str:
        return budget.reached(self._of_run, self._of_all(), "run.budget")

    def within(self, step: Step) -> Step:
        """Return the step with its CLI's own options for what is left."""
        if (prompt := step.prompt) is None:
            return step
        left = budget.left([(step.budget, self._of(step.name)), (self._of_run, self._of_all())])
        options = prompt.options + prompt.form.limits(left.usd, left.turns, prompt.options)
        return replace(step, prompt=replace(prompt, options=options))

    def _take_limit(self, agent: str, conversation: Conversation, seen: float) -> None:
        provider = self._providers.get(agent)
        if provider is not None and conversation.limit is not None:
            self._limits[provider] = SeenLimit(conversation.limit, seen)

    def _add(self, agent: str, conversation: Conversation) -> None:
        self._settled[agent] = self._settled.get(agent, NOTHING) + budget.spent(conversation)

    def _of(self, agent: str) -> Expenses:
        return self._settled.get(agent, NOTHING) + self._running.get(agent, NOTHING)

    def _of_all(self) -> Expenses:
        return sum((*self._settled.values(), *self._running.values()), NOTHING)
