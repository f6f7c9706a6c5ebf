"""Cost of watching a tree of 50 Node processes, far from its limit and near it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab import AGENTS, MIB, NODE, SOURCES, Failed, Lab, Row, marked, median

PROCESSES, WATCHED, REPEATS, SAMPLES = 50, 10.0, 3, 200
PATIENCE = 60.0  # seconds
FAR, NEAR = 3.0, 1.1  # the limit, as a multiple of what the tree holds
GIB = 1024 * MIB


def measure(lab: Lab) -> list[Row]:
    if NODE is None:
        return []
    agent = nodes(lab)
    alone, sample = by_itself(lab, agent)
    watched = [share(lab, agent, f"far-{n}", alone * FAR) for n in range(REPEATS)]
    far, held = [used for used, _ in watched], max(held for _, held in watched)
    near = nearby(lab, "near", agent, held)
    full = nearby(lab, "full", nodes(lab, round((GIB / NEAR - held) / PROCESSES)), GIB / NEAR)
    beside = f"the tree held {held / MIB:.0f} MiB"
    return [
        Row(f"one sample of {PROCESSES} Node processes", sample, "µs", beside, target=150.0),
        Row(f"CPU while they idle, the limit at {FAR:g} × what they hold", far, "% of a core", target=0.5),
        near_row(f"the limit at {NEAR:g} × what they hold", near),
        near_row("the same where they hold 0.9 GiB", full),
    ]


def near_row(name: str, watched: list[tuple[float, float]]) -> Row:
    used, ratios = zip(*watched, strict=True)
    beside = f"at {min(ratios):.2f} to {max(ratios):.2f} × what they held then"
    return Row(f"CPU while they idle, {name}", list(used), "% of a core", beside, target=5.0)


def nearby(lab: Lab, name: str, agent: list[str], held: float) -> list[tuple[float, float]]:
    """Return the supervisor's share of a core, and the limit as a multiple of the tree's memory.

    The memory differs from run to run, and near the limit that matters: the first run measures it.
    """
    watched = []
    for n in range(REPEATS + 1):
        hard = held * NEAR
        used, held = share(lab, agent, f"{name}-{n}", hard)
        watched.append((used, hard / held))
    return watched[1:]


def nodes(lab: Lab, more: int = 0) -> list[str]:
    """The command of 50 Nodes that idle; each holds `more` bytes beside what an empty one does."""
    node = f"{NODE} {AGENTS / 'idle.mjs'} {lab.mark} {more}"
    return ["sh", "-c", f"for n in $(seq {PROCESSES}); do {node} & done; wait"]


def by_itself(lab: Lab, agent: list[str]) -> tuple[float, list[float]]:
    """Measure the tree's memory in bytes, and the microseconds of one sample of it, in this process."""
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
    """Wait until all have started and have stopped growing."""
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
    time.sleep(WATCHED)  # a process that has just started is not idle yet
    held, _ = sampled(pids)
    before, began = run.cpu(), time.monotonic()
    time.sleep(WATCHED)
    used = (run.cpu() - before) / (time.monotonic() - began) * 100
    run.end()
    return used, held
