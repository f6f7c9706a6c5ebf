"""Agents of 600 MiB in 1 GiB: at once, one after another, with leftovers, under seqsup, and in two of its lanes.

    python benchmarks/seed_table.py [TRIES]     # as root: it makes a cgroup with that limit, and one for each try

Every agent takes 600 MiB, holds them for a moment and exits 0. A leftover is a child in a session of its own that
takes as much when its agent ends. An agent that exits otherwise has crashed: the kernel killed it because memory was
short. `peak` is the largest memory charged to the cgroup.
"""

import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import AGENTS, MIB, SEQSUP, Lab, kill, marked

LIMIT, SIZE, HOLD = 1024 * MIB, 600, "0.2"
COUNTS, TRIES = (3, 5, 10), 3


class Group:
    """A cgroup of our own with a memory limit, v1 or v2."""

    def __init__(self) -> None:
        v1 = Path("/sys/fs/cgroup/memory")
        lines = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        self.old = v1.exists()
        top = v1 / lines["memory"].lstrip("/") if self.old else Path("/sys/fs/cgroup") / lines[""].lstrip("/")
        self.folder = top / f"seqsup-bench-{secrets.token_hex(4)}"
        self.folder.mkdir()
        (self.folder / ("memory.limit_in_bytes" if self.old else "memory.max")).write_text(str(LIMIT))

    def enter(self, command: list[str]) -> list[str]:
        return ["sh", "-c", f'echo 0 >{self.folder}/cgroup.procs && exec "$@"', "enter", *command]

    def peak(self) -> int:
        return int((self.folder / ("memory.max_usage_in_bytes" if self.old else "memory.peak")).read_text())

    def close(self) -> None:
        for _ in range(500):
            pids = [int(pid) for below in self.folder.rglob("cgroup.procs") for pid in below.read_text().split()]
            for pid in pids:
                kill(pid)
            with suppress(OSError):
                for below in sorted((each for each in self.folder.rglob("*") if each.is_dir()), reverse=True):
                    below.rmdir()
                self.folder.rmdir()
                return
            time.sleep(0.02)


@contextmanager
def group() -> Iterator[Group]:
    made = Group()
    try:
        yield made
    finally:
        made.close()


def agent(lab: Lab, leave: bool) -> list[str]:
    command = [sys.executable, "-S", "-E", str(AGENTS / "holds.py"), str(SIZE), HOLD]
    return [*command, "--leave", lab.mark] if leave else command


def parallel(lab: Lab, count: int, within: Group) -> int:
    started = [lab.start(within.enter(agent(lab, False))) for _ in range(count)]
    return sum(process.wait() != 0 for process in started)


def sequential(lab: Lab, count: int, within: Group, leave: bool = False) -> int:
    return sum(lab.start(within.enter(agent(lab, leave))).wait() != 0 for _ in range(count))


def leftovers(lab: Lab, count: int, within: Group) -> int:
    return sequential(lab, count, within, leave=True)


def supervised(lab: Lab, count: int, within: Group, lanes: int = 1) -> int:
    beside = [f"concurrency = {lanes}", "allow_concurrency = true"] if lanes > 1 else []
    memory = ["[memory]", f'hard = "{SIZE + 100}MiB"', 'host_floor = "32MiB"']
    quiet = ["[drain]", 'available = "64MiB"', "[retry]", "attempts = 1", "[metrics]", 'listen = "none"']
    name = f"agents-{count}-{lanes}-{secrets.token_hex(2)}"
    profile = lab.profile(name, [(f"a{n}", agent(lab, True)) for n in range(count)], *beside, *memory, *quiet)
    run = lab.start(within.enter([*SEQSUP, "start", "-q", profile]))
    run.wait()
    shown = subprocess.run([*SEQSUP, "status", "--json"], env=lab.env, capture_output=True, text=True, check=False)
    return count - shown.stdout.count('"reason":"completed"')


def two_lanes(lab: Lab, count: int, within: Group) -> int:
    return supervised(lab, count, within, lanes=2)


WAYS = {
    "all at once": parallel,
    "one after another": sequential,
    "one after another, each leaves a child": leftovers,
    "seqsup, each leaves a child": supervised,
    "seqsup with two lanes, each leaves a child": two_lanes,
}


def main(tries: int) -> int:
    if os.geteuid() != 0:
        print("only root may make a cgroup with a limit", file=sys.stderr)
        return 2
    print(f"{SIZE} MiB each in {LIMIT // MIB} MiB; {tries} tries of each row; load {os.getloadavg()[0]:.1f}\n")
    print("| way | agents | crashed | tries with a crash | peak | time |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    safe = True
    for count in COUNTS:
        for name, way in WAYS.items():
            crashed, peaks, times = [], [], []
            for _ in range(tries):
                with Lab() as lab, group() as within:
                    began = time.monotonic()
                    crashed.append(way(lab, count, within))
                    times.append(time.monotonic() - began)
                    peaks.append(within.peak())
                    for pid in marked(lab.mark):
                        kill(pid)
            safe = safe and not (name.startswith("seqsup") and any(crashed))
            with_crash = sum(map(bool, crashed))
            print(
                f"| {name} | {count} | {sum(crashed)} of {count * tries} | {with_crash} of {tries}"
                f" | {max(peaks) / MIB:.0f} MiB | {statistics.median(times):.1f} s |", flush=True,
            )  # fmt: skip
    return 0 if safe else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIES))
