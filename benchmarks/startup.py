"""How long the commands take that people and scripts call often."""

import sys

from lab import SEQSUP, Lab, Row, median

REPEATS = 15
FLOOR = "python -c pass"


def measure(lab: Lab) -> list[Row]:
    lab.seconds([*SEQSUP, "start", "-q", lab.profile("five", [(f"job-{n}", ["/bin/true"]) for n in range(5)])])
    commands = {
        FLOOR: [sys.executable, "-c", "pass"],
        "seqsup --version": [*SEQSUP, "--version"],
        "seqsup status": [*SEQSUP, "status"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            taken[name].append(lab.seconds(command) * 1000)
    floor = taken.pop(FLOOR)
    return [
        Row(
            f"{name} over {FLOOR}", [own - least for own, least in zip(values, floor, strict=True)], "ms",
            f"{median(values):.0f} ms over {median(floor):.0f} ms", target=150.0,
        )
        for name, values in taken.items()
    ]  # fmt: skip
