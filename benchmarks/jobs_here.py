"""What the queue of one machine costs: a job in it, a worker, and a long queue."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from lab import AGENTS, MIB, SEQSUP, Failed, Lab, Row, median

REPEATS = 15
FEW, MANY, MANY_IN_FULL, ROUNDS = 10, 110, 5000, 3
SHORT, LONG = 100, 100_000  # waiting jobs
TAKES = 90  # a disk that is slow now and then decides fifteen of them
SETTLE, WATCHED = 3.0, 20.0
PATIENCE = 30.0
ADD = (*SEQSUP, "add", "--", "/bin/true")
WORK = (*SEQSUP, "work", "--name", "bench")


def measure(lab: Lab) -> list[Row]:
    return [*commands(lab), *way(lab), *tiny(lab), *depth(lab), *idle(lab)]


def commands(lab: Lab) -> list[Row]:
    """`add`, beside the least that another command costs."""
    lab.seconds([*SEQSUP, "run", "--", "/bin/true"])
    own, peer = in_turn(lambda: lab.seconds(ADD), lambda: lab.seconds([*SEQSUP, "status"]))
    renew(lab)
    beside = f"{median(own) * 1000:.0f} ms over {median(peer) * 1000:.0f} ms"
    return [Row("`seqsup add`, relative to `seqsup status`", over(own, peer), "", beside, target=2.0)]


def way(lab: Lab) -> list[Row]:
    """From the job in the queue to its process, which writes down when it began."""
    worker, since_add, since_command = lab.start(WORK), [], []
    wait_for(lambda: list(state(lab).glob("queue/*/wake")), "a worker")
    for number in range(REPEATS + 1):
        began, told = time.time(), lab.folder / f"began-{number}"
        lab.seconds([*SEQSUP, "add", "--", "sh", "-c", f"date +%s.%N > {told}.new; mv {told}.new {told}"])
        wait_for(told.exists, "the job's process")
        started = float(told.read_text())
        added = ask(lab, "SELECT max(added) FROM jobs")
        wait_for(lambda: ask(lab, "SELECT count(*) FROM jobs WHERE state = 'done'") == number + 1, "the job's end")  # noqa: B023
        since_add.append((started - added) * 1000)
        since_command.append((started - began) * 1000)
    lab.end(worker)
    renew(lab)
    beside = f"from the start of the command `add`: {median(since_command[1:]):.0f} ms"
    return [Row("from a job in the queue to its process, a worker waits", since_add[1:], "ms", beside, target=150.0)]


def tiny(lab: Lab) -> list[Row]:
    """One more /bin/true job of a worker, beside a run of one agent."""
    many = MANY_IN_FULL if lab.full else MANY

    def job() -> float:
        few = work_off(lab, FEW)
        return (work_off(lab, many) - few) / (many - FEW)

    work_off(lab, 1)  # compiles what it imports
    own, peer = in_turn(job, lambda: lab.seconds([*SEQSUP, "run", "--", "/bin/true"]), 1 if lab.full else ROUNDS)
    renew(lab)
    beside = f"{median(own) * 1000:.0f} ms a job; `seqsup run -- /bin/true` {median(peer) * 1000:.0f} ms"
    return [Row(f"one of {many} jobs (/bin/true), relative to a run of one agent", over(own, peer), "", beside, 2.0)]


def work_off(lab: Lab, number: int) -> float:
    renew(lab)
    fill(lab, number)
    return lab.seconds([*WORK, "--until-empty"])


def depth(lab: Lab) -> list[Row]:
    """The same with few and with many jobs waiting."""
    taken: dict[str, dict[int, list[float]]] = {"add": {}, "queue": {}, "taking a job": {}}
    for number in (SHORT, LONG):
        renew(lab)
        taken["taking a job"][number] = fill(lab, number, TAKES)
        lab.seconds(ADD)
        taken["add"][number], taken["queue"][number] = in_turn(
            lambda: lab.seconds(ADD) * 1000, lambda: lab.seconds([*SEQSUP, "queue"]) * 1000
        )
    renew(lab)
    return [
        Row(
            f"{what} with {LONG:,} jobs waiting, relative to {SHORT}",
            over(sorted(each[LONG]), sorted(each[SHORT])), "",
            f"{median(each[LONG]):.2f} ms over {median(each[SHORT]):.2f} ms", target=2.0,
        )
        for what, each in taken.items()
    ]  # fmt: skip


def idle(lab: Lab) -> list[Row]:
    """A worker without a job, beside a supervisor of one idle agent."""
    (run_memory, run_share), (memory, share) = (
        at_rest(lab, command) for command in ((*SEQSUP, "run", "--", "sleep", "600"), WORK)
    )  # fmt: skip
    renew(lab)
    return [
        Row("memory (PSS) of an idle worker", [memory], "MiB", f"`seqsup run -- sleep 600`: {run_memory:.1f} MiB"),
        Row("CPU of an idle worker", [share], "% of a core", f"`seqsup run -- sleep 600`: {run_share:.2f} %", 0.5),
    ]


def at_rest(lab: Lab, command: tuple[str, ...]) -> tuple[float, float]:
    """Return PSS in MiB and the share of a core in percent, of all Python processes of a command."""
    process = lab.start(command)
    time.sleep(SETTLE)
    own = psutil.Process(process.pid)
    tree = [each for each in (own, *own.children(recursive=True)) if "python" in each.name()]
    before, began = sum(map(cpu, tree)), time.monotonic()
    time.sleep(WATCHED)
    share = (sum(map(cpu, tree)) - before) / (time.monotonic() - began) * 100
    memory = sum(each.memory_full_info().pss for each in tree) / MIB
    lab.end(process)
    return memory, share


def cpu(process: psutil.Process) -> float:
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def fill(lab: Lab, number: int, takes: int = 0) -> list[float]:
    script = [sys.executable, str(AGENTS / "fill_queue.py"), str(number), str(takes)]
    return [float(line) for line in subprocess.check_output(script, env=lab.env, text=True).split()]


def state(lab: Lab) -> Path:
    return lab.folder / "state"


def renew(lab: Lab) -> None:
    """Begin with an empty queue and an empty journal."""
    shutil.rmtree(state(lab), ignore_errors=True)


def ask(lab: Lab, query: str) -> float:
    journal = sqlite3.connect(state(lab) / "queue.db", timeout=PATIENCE)
    try:
        return float(journal.execute(query).fetchone()[0])
    finally:
        journal.close()


def in_turn(
    one: Callable[[], float], other: Callable[[], float], times: int = REPEATS
) -> tuple[list[float], list[float]]:
    pairs = [(one(), other()) for _ in range(times)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def over(own: list[float], peer: list[float]) -> list[float]:
    return [one / other for one, other in zip(own, peer, strict=True)]


def wait_for(holds: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > ends:
            raise Failed(f"{what} did not come within {PATIENCE:.0f} s")
        time.sleep(0.02)
