"""The tiers of containment, for tests that run the real command line in each: asked for by name, or skipped."""

import os
from collections.abc import Mapping

import pytest

from helpers.profiles import Event
from seqsup.containment.cgroup import tiers

BEST, WEAKEST = "the best here", tiers.SUBREAPER
TIERS = [*tiers.TIERS, WEAKEST]
LIMITING = ("cgroup2", "cgroup2 scope", "cgroup1 with cgroup2", "cgroup1")  # the kernel keeps hard, weighs the tree
PATIENCE = 240 if "SEQSUP_GUEST" in os.environ else 120  # seconds; an emulated machine is ten times as slow


def environment(tier: str) -> Mapping[str, str]:
    return {} if tier == BEST else {"SEQSUP_TIER": tier}


def kept_by(tier: str, events: list[Event]) -> str:
    """Return the tier that contained a run. Skip the test if this machine does not have the tier that it asks for."""
    kept = str(events[0]["containment"])
    if tier not in (BEST, kept):
        pytest.skip(f"no {tier} here, only {kept}")
    return kept
