"""The containment that a plan requests from the machine, and the one that it gets."""

import os
import secrets

from seqsup.containment.cgroup.tiers import Chosen, choose
from seqsup.errors import SeqsupError
from seqsup.model.enums import Enforce, Measure
from seqsup.model.plan import ARTIFACT_ONLY, Plan


def contain(plan: Plan | None, cookie: str) -> Chosen:
    """Choose the tier for a run of this plan, or of none; SeqsupError where it asks for more than there is.

    SEQSUP_TIER asks for one tier by its name. It is read here only, and is for tests: they run the real command line
    in each tier, and no profile could say which, since the best one is always right for users.
    """
    enforce, key = _asked(plan) if plan is not None else (Enforce.AUTO, "")
    return choose(enforce, cookie, key, os.environ.get("SEQSUP_TIER", ""))


def _asked(plan: Plan) -> tuple[Enforce, str]:
    """Return what the run asks of the machine, the strictest that any agent does, and the key that asks for cgroups."""
    asked = {step.limits.enforce for step in plan.steps}
    key = "memory.enforce" if Enforce.CGROUP in asked else "memory.measure"
    if any(step.limits.measure is Measure.CGROUP for step in plan.steps):
        asked.add(Enforce.CGROUP)
    strictest = next((enforce for enforce in (Enforce.CGROUP, Enforce.AUTO) if enforce in asked), Enforce.WATCH)
    return Enforce.WATCH if plan.execution_mode == ARTIFACT_ONLY else strictest, key


def would_contain(plan: Plan) -> Chosen | str:
    """Return what a start would be given, or why it would refuse. Makes cgroups to find that out, and removes them."""
    try:
        chosen = contain(plan, secrets.token_hex(16))
    except SeqsupError as error:
        return str(error)
    chosen.close()
    return chosen
