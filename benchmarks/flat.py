"""Whether a supervisor grows with the number of agents it has run."""

import sys
import time

from lab import AGENTS, Lab, Row

EARLY, LATE = 50, 500
LEAVES_EVERY = 10
SETTLE = 0.5  # seconds into an agent that waits


def measure(lab: Lab) -> list[Row]:
    agents = [(f"agent-{number}", command(lab, number)) for number in range(1, LATE + 1)]
    run = lab.supervise(lab.profile("flat", agents))
    memory, descriptors = {}, {}
    for number in (EARLY, LATE):
        run.until("spawned", f"agent-{number}")
        time.sleep(SETTLE)
        memory[number], descriptors[number] = run.resident(), run.descriptors()
    run.end()
    return [
        Row(
            f"RSS gained from agent {EARLY} to agent {LATE}", [memory[LATE] - memory[EARLY]], "MiB",
            f"{memory[EARLY]:.1f} → {memory[LATE]:.1f} MiB", target=2.0,
        ),
        Row(
            f"descriptors gained from agent {EARLY} to agent {LATE}", [descriptors[LATE] - descriptors[EARLY]], "open",
            f"{descriptors[EARLY]} → {descriptors[LATE]}", target=0,
        ),
    ]  # fmt: skip


def command(lab: Lab, number: int) -> list[str]:
    if number in (EARLY, LATE):  # looked at while it waits: between agents the figures move
        return ["sleep", str(4 * SETTLE)]
    if number % LEAVES_EVERY == 0:
        return [sys.executable, "-S", "-E", str(AGENTS / "leaves.py"), f"{lab.mark}-{number}"]
    return ["/bin/true"]
