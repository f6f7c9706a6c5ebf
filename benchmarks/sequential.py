"""The cost of one more job in a sequence, and of a sequence at all."""

import os
import shlex
import shutil
import time

from lab import SEQSUP, Lab, Row, median

SHORT, LONG, REPEATS = 50, 250, 7
JOB = "/bin/true"


def measure(lab: Lab) -> list[Row]:
    commands = {name: (command(lab, name, SHORT), command(lab, name, LONG)) for name in runners()}
    jobs: dict[str, list[float]] = {name: [] for name in commands}
    once: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, (short, long) in commands.items():
            few, many = lab.seconds(short), lab.seconds(long)
            job = (many - few) / (LONG - SHORT)
            jobs[name].append(job * 1000)
            once[name].append((few - SHORT * job) * 1000)
    loop = jobs["shell loop"]
    beside = ", ".join(f"{name} {median(values):.2f}" for name, values in jobs.items())
    missing = "" if shutil.which("parallel") else ", GNU parallel not installed"
    return [
        Row(
            f"overhead of a job ({JOB}) over a shell loop",
            [own - floor for own, floor in zip(jobs["seqsup start"], loop, strict=True)],
            "ms", f"ms a job: {beside}{missing}", target=3.0,
        ),
        Row("cost of a run, whatever its length", once["seqsup start"], "ms"),
        *(
            Row(f"peer: overhead of {name}", [own - floor for own, floor in zip(jobs[name], loop, strict=True)], "ms")
            for name in jobs if name not in ("seqsup start", "shell loop")
        ),
    ]  # fmt: skip


def runners() -> list[str]:
    return ["seqsup start", "shell loop", "xargs -n1", *(["parallel -j1"] if shutil.which("parallel") else [])]


def command(lab: Lab, name: str, jobs: int) -> list[str]:
    lines = lab.folder / f"jobs-{jobs}"
    lines.write_text(f"{JOB}\n" * jobs)
    match name:
        case "seqsup start":
            agents = [(f"job-{number}", [JOB]) for number in range(jobs)]
            return [*SEQSUP, "start", "-q", lab.profile(f"jobs-of-{jobs}", agents)]
        case "shell loop":
            return ["sh", "-c", f"while read -r job; do $job; done < {shlex.quote(str(lines))}"]
        case "xargs -n1":
            return ["xargs", "-a", str(lines), "-n1", JOB]
        case _:
            return ["parallel", "--will-cite", "-j1", "-a", str(lines)]


def sync_time(lab: Lab) -> float:
    """Seconds until a small write has reached the disk: seqsup waits for that twice an attempt."""
    taken = []
    with (lab.folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)
