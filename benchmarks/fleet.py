"""What the queue of a fleet costs: three workers on this machine, and many that are played, on one PostgreSQL.

The server is a private one that writes to the disk as any other does.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from jobs_here import in_turn, over, wait_for
from lab import AGENTS, SEQSUP, Lab, Row, median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers import postgres

DURABLE = {
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "128MB",
    "max_connections": "1200",
}  # fmt: skip
WORKERS = ("alpha", "bravo", "carol")
REPEATS, ROUNDS = 15, 3
SECONDS = 20  # agents that take one each
FEW, MANY = 60, 2000  # tiny jobs, and in full
PLAYED, PLAYED_IN_FULL = (500,), (100, 250, 500, 750, 1000)
JOB, LENGTH = 30.0, 30.0  # seconds of a played job, and of the measurement
_FOLDERS = count()


def measure(lab: Lab) -> list[Row]:
    with server() as found:
        return [*way(lab, found), *makespan(lab, found), *tiny(lab, found), *played(lab, found)]


@contextmanager
def server() -> Iterator[postgres.Server]:
    before, tempfile.tempdir = tempfile.tempdir, "/var/tmp"  # on a disk
    postgres.SETTINGS.update(DURABLE)
    found = postgres.Server(postgres.binaries())
    tempfile.tempdir = before
    try:
        yield found
    finally:
        found.close()


@contextmanager
def queue(lab: Lab, found: postgres.Server) -> Iterator[str]:
    with found.database() as name:
        lab.env["SEQSUP_QUEUE"] = found.url(name)
        lab.seconds([*SEQSUP, "queue", "init"])
        yield name


@contextmanager
def workers(lab: Lab, found: postgres.Server, name: str) -> Iterator[None]:
    """Three workers, each with a state folder of its own, as on machines of their own."""
    state, started = lab.env["SEQSUP_STATE_DIR"], []
    try:
        for worker in WORKERS:
            lab.env["SEQSUP_STATE_DIR"] = str(lab.folder / f"{worker}-{next(_FOLDERS)}")
            started.append(lab.start([*SEQSUP, "work", "--name", worker]))
        lab.env["SEQSUP_STATE_DIR"] = state
        wait_for(lambda: found.run("SELECT count(*) FROM seqsup_workers", name) == [(len(WORKERS),)], "the workers")
        yield
    finally:
        for process in started:
            lab.end(process)


def way(lab: Lab, found: postgres.Server) -> list[Row]:
    """From the job in the queue to its process, which writes down when it began."""
    taken = []
    with queue(lab, found) as name, workers(lab, found, name):
        for number in range(REPEATS + 1):
            told = lab.folder / f"fleet-{number}"
            lab.seconds([*SEQSUP, "add", "--", "sh", "-c", f"date +%s.%N > {told}.new; mv {told}.new {told}"])
            wait_for(told.exists, "the job's process")
            ((added,),) = found.run("SELECT extract(epoch FROM max(added))::float FROM seqsup_jobs", name)
            taken.append((float(told.read_text()) - added) * 1000)
            all_over(found, name)
    return [Row("fleet: from a job in the queue to its process, three workers wait", taken[1:], "ms", target=300.0)]


def makespan(lab: Lab, found: postgres.Server) -> list[Row]:
    ideal, taken = -(-SECONDS // len(WORKERS)), []
    for _ in range(ROUNDS):
        with queue(lab, found) as name, workers(lab, found, name):
            began = time.monotonic()
            fill(lab, name, found, SECONDS, "sleep", "1")
            all_over(found, name)
            taken.append((time.monotonic() - began) / ideal)
    what = f"fleet: {SECONDS} agents of 1 s on three workers, relative to the ideal of {ideal} s"
    return [Row(what, taken, "", target=1.2)]


def tiny(lab: Lab, found: postgres.Server) -> list[Row]:
    """So many /bin/true jobs of three workers, beside as many plain tasks of Procrastinate that run it."""
    number = MANY if lab.full else FEW

    def own() -> float:
        with queue(lab, found) as name, workers(lab, found, name):
            began = time.monotonic()
            fill(lab, name, found, number, "/bin/true")
            all_over(found, name)
            return time.monotonic() - began

    def plain() -> float:
        with found.database() as name:
            script = [sys.executable, str(AGENTS / "plain_tasks.py"), found.url(name), str(number), str(len(WORKERS))]
            return float(subprocess.check_output(script, env=lab.env, text=True))

    taken, peer = in_turn(own, plain, 1 if lab.full else ROUNDS)
    beside = f"{median(taken) / number * 1000:.0f} ms a job over {median(peer) / number * 1000:.1f} ms a task"
    return [Row(f"fleet: {number} jobs (/bin/true), relative to tasks of Procrastinate that run it", over(taken, peer),
                "", beside)]  # fmt: skip


def played(lab: Lab, found: postgres.Server) -> list[Row]:
    rows = []
    for number in PLAYED_IN_FULL if lab.full else PLAYED:
        with queue(lab, found) as name:
            script = [sys.executable, str(AGENTS / "many_workers.py"), found.url(name)]
            told = json.loads(
                subprocess.check_output([*script, str(number), str(JOB), str(LENGTH)], env=lab.env, text=True)
            )
        slow = {kind: sorted(told[kind])[int(len(told[kind]) * 0.99)] for kind in ("fetches", "beats", "lateness")}
        beside = (
            f"median {median(told['fetches']):.0f} ms; {told['jobs'] / LENGTH:.1f} jobs/s,"
            f" {len(told['beats']) / LENGTH:.0f} heartbeats/s of p99 {slow['beats']:.0f} ms;"
            f" the players' own lateness {slow['lateness']:.0f} ms; {told['failed']} gave up"
        )
        rows.append(Row(f"fleet: p99 of a fetch, {number} played workers with jobs of {JOB:.0f} s",
                        [slow["fetches"]], "ms", beside, target=100.0))  # fmt: skip
    return rows


def fill(lab: Lab, name: str, found: postgres.Server, number: int, *command: str) -> None:
    script = [sys.executable, str(AGENTS / "fill_fleet.py"), found.url(name), str(number), *command]
    subprocess.run(script, env=lab.env, check=True)


def all_over(found: postgres.Server, name: str) -> None:
    query = "SELECT count(*) FILTER (WHERE state <> 'done') FROM seqsup_jobs"
    ends = time.monotonic() + 3600
    while found.run(query, name) != [(0,)] and time.monotonic() < ends:
        time.sleep(0.05)
