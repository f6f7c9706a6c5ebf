"""Cost of the shim at the start of a process: it enters the agent's cgroup and sets its limits before exec."""

import os
import secrets
import subprocess
import sys
import time

from lab import SOURCES, Lab, Row

REPEATS = 200
JOB = ["/bin/true"]


def measure(lab: Lab) -> list[Row]:
    sys.path.insert(0, str(SOURCES))
    from seqsup.containment.cgroup.tiers import choose
    from seqsup.containment.launcher import Bounds, wrap
    from seqsup.model.enums import Enforce
    from seqsup.model.profile import Rlimits

    chosen = choose(Enforce.AUTO, secrets.token_hex(16))
    group = chosen.groups.make("bench", None, None) if chosen.groups else None
    bounds = Bounds(Rlimits(), 1024)
    shimmed = wrap(JOB, group.entry if group else (), names=os.environ, die_with_us=True, bounds=bounds)
    try:
        taken = [(seconds(shimmed), seconds(JOB)) for _ in range(REPEATS)]
    finally:
        if chosen.groups is not None and group is not None:
            group.close()
            chosen.groups.close()
    above = [(shim - bare) * 1000 for shim, bare in taken]
    return [Row(f"start to end of {JOB[0]} through the shim, over a bare Popen", above, "ms", chosen.tier, target=2.0)]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, start_new_session=True)
    return time.perf_counter() - began
