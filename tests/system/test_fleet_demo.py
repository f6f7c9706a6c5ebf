"""`python3 supervisor fleet-demo`: what a person sees of a fleet first."""

import subprocess
import sys

import pytest

from helpers.command_line import environment
from helpers.paths import ROOT
from helpers.postgres import binaries

_PATIENCE = 240  # seconds; it takes half a minute on an idle machine


@pytest.mark.long
def test_fleet_demo_accepts_one_result_of_each_job_though_a_worker_is_killed() -> None:
    binaries()  # or skip
    demo = subprocess.run(
        [sys.executable, ROOT / "supervisor" / "fleet_demo.py"],
        env=environment({}), capture_output=True, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "killed worker bravo" in demo.stdout
    assert "30 jobs, 30 accepted results" in demo.stdout
