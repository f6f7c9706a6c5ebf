"""What it takes to watch a tree of 50 Node processes, far from its limit and near it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab import AGENTS, MIB, NODE, SOURCES, Failed, Lab, Row, marked, median

PROCESSES, WATCHED, REPEATS, SAMPLES = 50, 10.0, 3, 200
PATIENCE = 60.0  # seconds
FAR, NEAR = 3.0, 1.1  # the limit, as a multiple of what the tree holds


def measure(lab: Lab) -> list[Row]:
    if NODE is None:
        return []
    agent = ["sh", "-c", f"for n in $(seq {PROCESSES}); do {NODE} {AGENTS / 'idle.mjs'} {lab.mark} & done; wait"]
    alone, sample = by_itself(lab, agent)
    watched = [share(lab, agent, f"far-{n}", alone * FAR) for n in range(REPEATS)]
    far, held = [used for used, _ in watched], max(held for _, held in watched)
    near, ratios = [], []
    for n in range(REPEATS + 1):  # what it holds is not twice the same, and near the limit that counts: the first tells
        hard = held * NEAR
        used, held = share(lab, agent, f"near-{n}", hard)
        if n:
            near.append(used)
            ratios.append(hard / held)
    beside = f"the tree held {held / MIB:.0f} MiB"
    return [
        Row(f"one sample of {PROCESSES} Node processes", sample, "µs", beside, target=150.0),
        Row(f"CPU while they idle, the limit at {FAR:g} × what they hold", far, "% of a core", target=0.5),
        Row(
            f"CPU while they idle, the limit at {NEAR:g} × what they hold",
            near,
            "% of a core",
            f"at {min(ratios):.2f} to {max(ratios):.2f} × what they held then",
            target=5.0,
        ),
    ]


def by_itself(lab: Lab, agent: list[str]) -> tuple[float, list[float]]:
    """What the tree holds in bytes, and what one sample of it takes in microseconds, in this process."""
    process = lab.start(agent)
    held, taken = sampled(all_there(lab))
    lab.end_marked(process)
    return held, taken


def sampled(pids: list[int]) -> tuple[float, list[float]]:
    sys.path.insert(0, str(SOURCES))
    from seqsup.containment.members import Members

    members = Members()
    for pid in pids:
        members.add(pid)
    held = members.used()
    taken = [timed(members.used) for _ in range(SAMPLES)]
    members.close()
    return held, taken


def timed(look: Callable[[], object]) -> float:
    began = time.perf_counter()
    look()
    return (time.perf_counter() - began) * 1e6


def all_there(lab: Lab) -> list[int]:
    """Wait until all have started and grow no more."""
    before, deadline = -1.0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        pids = [pid for pid in marked(lab.mark) if Path(f"/proc/{pid}/comm").read_text() in ("node\n", "MainThread\n")]
        held = median([int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids] or [0.0])
        if len(pids) >= PROCESSES and held == before:
            return pids
        before = held
        time.sleep(1)
    raise Failed(f"of {PROCESSES} Node processes {len(pids)} are there after {PATIENCE:g} s")


def share(lab: Lab, agent: list[str], name: str, hard: float) -> tuple[float, float]:
    """The supervisor's share of a core in percent, and what the tree holds under it: the preload counts too."""
    tables = ("[memory]", f"hard = {int(hard)}", 'soft = "none"', 'warn = "none"', 'enforce = "watch"')
    run = lab.supervise(lab.profile(name, [("fifty", agent)], *tables, "[node]", 'max_old_space_size = "none"'))
    run.until("spawned", "fifty")
    pids = all_there(lab)
    time.sleep(WATCHED)  # who has just started is not idle yet
    held, _ = sampled(pids)
    before, began = run.cpu(), time.monotonic()
    time.sleep(WATCHED)
    used = (run.cpu() - before) / (time.monotonic() - began) * 100
    run.end()
    return used, held
