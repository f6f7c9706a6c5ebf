"""Use of a plan's agents in earlier runs, and so their likely use in this one."""

from collections.abc import Iterable

from seqsup.model.events import PeakRose
from seqsup.model.plan import Plan, Step
from seqsup.policy.learning import Expected, expect, need, risen
from seqsup.state.journal import Journal


class Expectations:
    def __init__(self, plan: Plan, journal: Journal, run: int) -> None:
        """`run` is the present run, which does not count."""
        self._plan, self._journal, self._run = plan, journal, run
        self._usual: dict[str, Expected | None] = {}  # by agent, once requested

    def seconds(self, steps: Iterable[Step]) -> dict[str, float]:
        """Return the usual duration of agents that ran before, in seconds."""
        return {step.name: usual.seconds for step in steps if (usual := self._of(step)) is not None}

    def need(self, step: Step) -> int | None:
        """Return the memory that must be available before the agent starts. Beside others this is its hard limit, so
        that limits never add up to more than there is.
        """
        alone, hard = self._plan.concurrency == 1, step.limits.hard
        learned = need(self._of(step), hard) if alone or self._plan.admit_learned else None
        return learned or (step.need if alone else hard)

    def compare(self, step: Step, peak: int) -> PeakRose | None:
        """Return an event if an agent used far more than before."""
        usual = self._of(step)
        if usual is None or not risen(peak, usual):
            return None
        return PeakRose(agent=step.name, peak=peak, usual=usual.peak, attempts=usual.weighed)

    def _of(self, step: Step) -> Expected | None:
        if step.name not in self._usual:
            past = self._journal.past(self._plan.profile, step.name)
            self._usual[step.name] = expect((each for each in past if each.run != self._run), step.content)
        return self._usual[step.name]
