"""What a plan's agents took in earlier runs, and so may take in this one."""

from collections.abc import Iterable

from .events import PeakRose
from .journal import Journal
from .learning import Past, expect, need, risen
from .model import Plan, Step


class Experience:
    def __init__(self, plan: Plan, journal: Journal, run: int) -> None:
        """`run` is the one that goes on: of it nothing counts."""
        self._plan, self._journal, self._run = plan, journal, run
        self._needs: dict[str, int | None] = {}  # by agent

    def seconds(self, steps: Iterable[Step]) -> dict[str, float]:
        """How long those usually take that ran before."""
        expected: dict[str, float] = {}
        for step in steps:
            past = self._past(step)
            self._needs[step.name] = self._may_take(step, past)
            if (usual := expect(past, step.content)) is not None:
                expected[step.name] = usual.seconds
        return expected

    def need(self, step: Step) -> int | None:
        """What must be there before it starts."""
        if step.name not in self._needs:  # in a fresh image of the supervisor
            self._needs[step.name] = self._may_take(step, self._past(step))
        return self._needs[step.name]

    def compare(self, step: Step, peak: int) -> PeakRose | None:
        """What there is to tell of an agent that took far more than it used to."""
        if (usual := risen(peak, self._past(step), step.content)) is None:
            return None
        return PeakRose(agent=step.name, peak=peak, usual=usual.peak, attempts=usual.weighed)

    def _may_take(self, step: Step, past: list[Past]) -> int | None:
        """Beside others its limit, so that no sum of them can pass the memory."""
        alone, hard = self._plan.concurrency == 1, step.limits.hard
        learned = need(past, step.content, hard) if alone or self._plan.admit_learned else None
        return learned or (step.need if alone else hard)

    def _past(self, step: Step) -> list[Past]:
        past = self._journal.past(self._plan.profile, step.name)
        return [each for each in past if each.run != self._run]
