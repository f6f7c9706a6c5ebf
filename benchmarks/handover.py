"""From an agent's last words to the next agent's first words, as the agents write them, where memory is free.

The next agent's own start is part of it: a shell loop over the same agents is the floor.
"""

import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from lab import AGENTS, Lab, Row, median

NUMBER = 60
AGENT = [sys.executable, "-S", "-E", str(AGENTS / "speaks.py"), "0.02"]


def measure(lab: Lab) -> list[Row]:
    floor = gaps(in_a_loop(lab))
    took = gaps(under_seqsup(lab))
    least = median(floor)
    return [
        Row(
            "from an agent's last words to the next one's first words, over a shell loop",
            [gap - least for gap in took], "ms", f"shell loop {least:.1f} ms", target=10.0,
        ),
        Row("floor: the same agents in a shell loop", floor, "ms"),
    ]  # fmt: skip


def gaps(words: Sequence[str]) -> list[float]:
    """Milliseconds between the agents, by the lines that they wrote."""
    spoken = [tuple(map(float, line.split())) for line in words]
    return [(first - last) * 1000 for (_, last), (first, _) in pairwise(spoken)]


def in_a_loop(lab: Lab) -> list[str]:
    words = lab.folder / "loop"
    lab.seconds(["sh", "-c", f"for i in $(seq {NUMBER}); do {shlex.join(AGENT)}; done >{shlex.quote(str(words))}"])
    return words.read_text().splitlines()


def under_seqsup(lab: Lab) -> list[str]:
    agents = [(f"agent-{number}", AGENT) for number in range(NUMBER)]
    run = lab.supervise(lab.profile("handover", agents, "[metrics]", 'listen = "none"'))
    for _ in run.events():
        pass
    folder = max((lab.folder / "state" / "runs").iterdir(), key=lambda path: int(path.name[1:]))
    run.end()
    return [Path(folder, name, "1", "stdout.log").read_text() for name, _ in agents]
