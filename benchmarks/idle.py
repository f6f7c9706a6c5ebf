"""CPU and memory of the supervisor while an agent is idle."""

import sys
import time

import psutil
from lab import AGENTS, MIB, NODE, Lab, Row

SETTLE, WATCHED, REPEATS = 1.5, 10.0, 3
LIMITS = (2, 8)  # GiB


def measure(lab: Lab) -> list[Row]:
    if NODE is None:
        return []
    floor = python_alone(lab)
    rows = []
    for limit in LIMITS:
        if limit * 1024 * MIB > psutil.virtual_memory().total:
            continue
        memory, share = [], []
        for number in range(REPEATS):
            agents = [("idle", [NODE, str(AGENTS / "idle.mjs")])]
            run = lab.supervise(lab.profile(f"idle-{limit}-{number}", agents, "[memory]", f'hard = "{limit}GiB"'))
            run.until("spawned", "idle")
            time.sleep(SETTLE)
            before, began = run.cpu(), time.monotonic()
            time.sleep(WATCHED)
            share.append((run.cpu() - before) / (time.monotonic() - began) * 100)
            memory.append(run.resident())
            run.end()
        rows += [
            Row(f"supervisor's RSS, hard = {limit} GiB", memory, "MiB", f"python alone {floor:.1f} MiB", target=33.0),
            Row(f"supervisor's CPU, hard = {limit} GiB", share, "% of a core", target=0.5),
        ]
    return rows


def python_alone(lab: Lab) -> float:
    process = lab.start([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(0.5)
    resident = psutil.Process(process.pid).memory_info().rss / MIB
    lab.end(process)
    return resident
