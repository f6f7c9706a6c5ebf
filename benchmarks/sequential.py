"""The cost of one more job in a sequence, and of a sequence at all."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

from lab import AGENTS, SEQSUP, Lab, Row, median

SHORT, LONG, REPEATS = 50, 250, 7
JOB = "/bin/true"
# For files that a peer creates and removes: ext4 without a journal searches recently removed inodes at each creation
_IN_MEMORY = "/dev/shm"
OWN, LOOP, PEER = "seqsup start", "shell loop", "parallel -j1"


def measure(lab: Lab) -> list[Row]:
    kinds = {OWN: "overhead", LOOP: "floor", "a durable write": "floor", "xargs -n1": "peer"}
    if shutil.which("parallel"):
        kinds[PEER] = "peer"
    commands = {name: (command(lab, name, SHORT), command(lab, name, LONG)) for name in kinds}
    jobs: dict[str, list[float]] = {name: [] for name in commands}
    once = []
    lab.seconds(commands[OWN][0])  # compiles what it imports
    for _ in range(REPEATS):
        for name, (short, long) in commands.items():
            few, many = lab.seconds(short) * 1000, lab.seconds(long) * 1000
            job = (many - few) / (LONG - SHORT)
            jobs[name].append(job)
            if name == OWN:
                once.append(few - SHORT * job)
    above = {name: [job - floor for job, floor in zip(taken, jobs[LOOP], strict=True)] for name, taken in jobs.items()}
    beside = ", ".join(f"{name} {median(taken):.2f}" for name, taken in jobs.items())
    return [
        *(_ratio(above) if PEER in kinds else ()),
        Row(f"overhead of a job ({JOB}) over a {LOOP}", above[OWN], "ms", f"ms a job: {beside}"),
        *(Row(f"{kinds[name]}: {name}, over a {LOOP}", above[name], "ms") for name in kinds if name not in (OWN, LOOP)),
        Row("cost of a run, whatever its length", once, "ms"),
    ]


def _ratio(above: dict[str, list[float]]) -> list[Row]:
    ratios = [own / peer for own, peer in zip(above[OWN], above[PEER], strict=True)]
    return [Row(f"overhead of a job ({JOB}), relative to {PEER}'s in the same run", ratios, "", target=0.75)]


def command(lab: Lab, name: str, jobs: int) -> list[str]:
    lines = str(lab.folder / f"jobs-{jobs}")
    Path(lines).write_text(f"{JOB}\n" * jobs)
    match name:
        case "seqsup start":
            agents = [(f"job-{number}", [JOB]) for number in range(jobs)]
            return [*SEQSUP, "start", "-q", lab.profile(f"jobs-of-{jobs}", agents)]
        case "shell loop":
            return ["sh", "-c", f"while read -r job; do $job; done < {shlex.quote(lines)}"]
        case "a durable write":
            script = str(AGENTS / "durable_loop.py")
            return [sys.executable, "-S", "-E", script, lines, str(lab.folder / "journal")]
        case "xargs -n1":
            return ["xargs", "-a", lines, "-n1", JOB]
        case _:
            return ["parallel", "--will-cite", "--tmpdir", _IN_MEMORY, "-j1", "-a", lines]


def sync_time(lab: Lab) -> float:
    """Seconds until a small write has reached the disk: seqsup waits for that once an attempt."""
    taken = []
    with (lab.folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)
