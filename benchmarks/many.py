"""Cost of a profile of ten thousand agents: its plan, the time to its first agent, and one more agent."""

import time

from lab import SEQSUP, Lab, Row

AGENTS, REPEATS = 10_000, 3
EARLY, LATE = 100, 3_000  # the agents between which the supervisor's memory is followed


def measure(lab: Lab) -> list[Row]:
    agents = [
        (f"agent-{number}", ["sleep", "1"] if number in (EARLY, LATE) else ["/bin/true"])
        for number in range(1, AGENTS + 1)
    ]
    profile = lab.profile("many", agents)
    plan = [lab.seconds([*SEQSUP, "plan", profile]) for _ in range(REPEATS)]
    first: list[float] = []
    gained: list[float] = []
    told = ""
    for _ in range(REPEATS):
        run, began = lab.supervise(profile), time.perf_counter()
        run.until("spawned", "agent-1")
        first.append(time.perf_counter() - began)
        if not gained:
            run.until("spawned", f"agent-{EARLY}")
            early = run.resident()
            run.until("spawned", f"agent-{LATE}")
            late = run.resident()
            gained, told = [(late - early) * 1024 / (LATE - EARLY)], f"{early:.0f} → {late:.0f} MiB"
        run.end()
    return [
        Row(f"plan of {AGENTS} agents", plan, "s", target=3.0),
        Row(f"start of {AGENTS} agents, to the first one's spawn", first, "s", target=2.0),
        Row(f"kept of each agent, from {EARLY} to {LATE} of {AGENTS}: RSS", gained, "KiB", told, target=2.0),
    ]
