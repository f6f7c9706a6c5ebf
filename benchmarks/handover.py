"""From the end of an agent to the start of the next where memory is free: journal, sweep and proof lie between."""

import sys
from pathlib import Path

from lab import AGENTS, Lab, Row

NUMBER = 60


def measure(lab: Lab) -> list[Row]:
    agents = [
        (f"agent-{number}", [sys.executable, "-S", "-E", str(AGENTS / "holds.py"), "1", "0.02"])
        for number in range(NUMBER)
    ]
    run = lab.supervise(lab.profile("handover", agents, "[metrics]", 'listen = "none"'))
    for _ in run.events():
        pass
    spawned = run.moments("spawned")
    runs = sorted((lab.folder / "state" / "runs").iterdir())
    run.end()
    took = []
    for before, after in zip(range(NUMBER), range(1, NUMBER), strict=False):
        ended = float(Path(runs[-1], f"agent-{before}", "1", "stdout.log").read_text())
        took.append((spawned[f"agent-{after}"] - ended) * 1000)
    return [Row("from an agent's last words to the next one's spawn", took, "ms", target=10.0)]
