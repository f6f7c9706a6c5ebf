"""What a plan asks of the machine to keep its trees together, and what it gets."""

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
    enforce, key = (_enforcement(plan), _enforcing_key(plan)) if plan is not None else (Enforce.AUTO, "")
    return choose(enforce, cookie, key, os.environ.get("SEQSUP_TIER", ""))


def _enforcement(plan: Plan) -> Enforce:
    """Return what the run as a whole asks of the machine: the strictest that any of its agents does."""
    if plan.execution_mode == ARTIFACT_ONLY:
        return Enforce.WATCH
    asked = {Enforce.CGROUP if step.limits.measure is Measure.CGROUP else step.limits.enforce for step in plan.steps}
    return next((enforce for enforce in (Enforce.CGROUP, Enforce.AUTO) if enforce in asked), Enforce.WATCH)


def _enforcing_key(plan: Plan) -> str:
    """Return the key of the profile that asks for limits kept by the kernel, if one does."""
    enforced = any(step.limits.enforce is Enforce.CGROUP for step in plan.steps)
    return "memory.enforce" if enforced else "memory.measure"


def would_contain(plan: Plan) -> Chosen | str:
    """Return what a start would be given, or why it would refuse. Makes cgroups to find that out, and removes them."""
    try:
        chosen = contain(plan, secrets.token_hex(16))
    except SeqsupError as error:
        return str(error)
    chosen.close()
    return chosen
