"""The tiers of containment, for tests that run the real command line in each: asked for by name, or skipped."""

import os
from collections.abc import Mapping

import pytest

from helpers.profiles import Event

BEST, WEAKEST = "the best here", "subreaper"
# As in seqsup.containment.cgroup.tiers, and what a run is then kept by
TIERS = {
    "cgroup v2": "cgroup2",
    "cgroup v2 in a scope of systemd's": "cgroup2",
    "cgroup v1 with the kill of v2": "cgroup1",
    "cgroup v1": "cgroup1",
    "cgroup v2 without controllers": "cgroup2 without controllers",
    WEAKEST: "subreaper",
}
LIMITING = ("cgroup2", "cgroup1")  # where the kernel keeps memory.hard, and weighs the tree
PATIENCE = 240 if "SEQSUP_GUEST" in os.environ else 120  # seconds; an emulated machine is ten times as slow


def environment(tier: str) -> Mapping[str, str]:
    return {} if tier == BEST else {"SEQSUP_TIER": tier}


def kept_by(tier: str, events: list[Event]) -> str:
    """Say by what a run was kept; a tier that was asked for and that this machine has not is no test."""
    kept = str(events[0]["containment"])
    if tier != BEST and kept != TIERS[tier]:
        pytest.skip(f"no {tier} here, only {kept}")
    return kept
