"""Measure what seqsup costs and how well it keeps its limits; print a Markdown table.

    python benchmarks/run.py                    # everything, about fifteen minutes
    python benchmarks/run.py sequential idle    # only these
    python benchmarks/run.py --full queue       # at its whole length: 5,000 jobs instead of 110

Run it with the Python that has seqsup's dependencies (`.venv/bin/python`); Node is taken from PATH. What seqsup
writes goes to a temporary folder in /var/tmp: on a disk, because the journal waits for it. Ctrl-C ends all that was
started. Each figure stands beside a floor or a peer of the same minutes: on a busy machine only these compare.

sequential  what one more /bin/true costs: the slope between a run of 50 and a run of 250, journal included, against
            a shell loop, a bare loop that writes to the disk before each job (no journal can do with less),
            xargs -n1 and GNU parallel -j1, to which the target relates; and what a run costs once, whatever its length
handover    from the last output of an agent to the first output of the next, over a shell loop of the same agents,
            where memory is free
idle        the supervisor's memory and its share of a core while one Node agent does nothing
startup     `seqsup --version` and `seqsup status` against `python -c pass`
overshoot   how far a leak at full speed gets past a hard limit of 1 GiB, by watching alone and in a cgroup. The
            leaking process itself writes down what it holds before it takes more, so the figure does not depend on
            seqsup's eyes. A loop of psutil that looks every 0.25 s is the peer
peers       how supervisord with memmon, circus, pm2 and runexec stop the same leak, in the process that they start and
            in its grandchild
watch       the supervisor's share of a core while it watches 50 Node processes, far from the limit and near it
spawn       the start of a process through the shim against a bare Popen
bombs       survivors of fork bombs of 60 that refill themselves, 50 of each kind, by watching alone and in a cgroup;
            and when a time limit of 5 s stops 500 forking processes, or 8000 zombies
leftovers   processes alive after each of 100 agents that leave two, one double-forked with a session of its own, and
            what the peers leave
flat        the supervisor's memory and open descriptors at agent 50 and at agent 500 of one run, every tenth of
            which left two processes behind
many        the plan of 10,000 agents, the way to the first of them, and what it keeps of each in memory
preload     what the file that Node processes read first costs them: start, of CommonJS and of an ES module, for which
            it loads Node's CommonJS loader too; CPU and memory while idle; what a collection of some 600 MB of garbage
            gives back, and how soon a process with a blocked loop answers
scrape      a scrape of 12 and of 200 agents, and one while fork bombs are killed; the supervisor's memory with metrics
            off, on, and read; what metrics add to a run without a scrape
queue       on the queue of one machine: `seqsup add` against `seqsup status`; from a job in the queue to its process;
            one more /bin/true job of a worker against a run of one agent; the same commands with 100 and with 100,000
            jobs waiting; a worker without a job beside a supervisor of an idle agent
fleet       on the queue of a fleet, three workers here and a private PostgreSQL: from a job in the queue to its
            process; 20 agents of 1 s against the ideal; /bin/true jobs against plain tasks of Procrastinate; the
            fetches of 500 played workers (--full: 100 to 1000)
stream      CPU time to read a line of each agent CLI's JSON stream, and the share of a core at 100 lines a second

"met" compares the median with the target, or the worst value where the row says so.
"""

import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bombs
import flat
import fleet
import handover
import idle
import jobs_here
import leftovers
import many
import overshoot
import peers
import preload
import psutil
import scrape
import sequential
import spawn
import startup
import stream
import watch
from lab import MIB, NODE, Failed, Lab, Row

BENCHMARKS = {
    "sequential": sequential, "handover": handover, "idle": idle, "startup": startup,
    "overshoot": overshoot, "peers": peers, "watch": watch, "spawn": spawn, "bombs": bombs,
    "leftovers": leftovers, "flat": flat, "many": many, "preload": preload, "queue": jobs_here,
    "fleet": fleet,
    "scrape": scrape, "stream": stream,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    names, full = [each for each in arguments if each != "--full"], "--full" in arguments
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown or {"-h", "--help"} & set(names):
        print(__doc__)
        return 2 if unknown and unknown[0] not in ("-h", "--help") else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print_header()
    rows: list[Row] = []
    failed = False
    try:
        for name in names or BENCHMARKS:
            began = time.monotonic()
            try:
                with Lab(full=full) as lab:
                    rows += BENCHMARKS[name].measure(lab)
            except Failed as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; all that was started has been ended", file=sys.stderr)
        return 130
    finally:
        print_table(rows)
    return 1 if failed or any(row.met is False for row in rows) else 0


def print_header() -> None:
    with Lab() as lab:
        sync = sequential.sync_time(lab)
    memory = psutil.virtual_memory()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, load average {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    print(
        f"Linux {platform.release()}, {os.cpu_count()} × {cpu_model()}, {memory.total / 1024 / MIB:.0f} GiB"
        f" ({memory.available / 1024 / MIB:.0f} GiB available), a write reaches the disk in {sync * 1000:.2f} ms"
    )
    node = subprocess.check_output([NODE, "--version"], text=True).strip() if NODE else "none"
    print(f"Python {platform.python_version()}, Node {node}, commit {commit()}\n")


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def commit() -> str:
    if not shutil.which("git"):
        return "unknown"
    return subprocess.run(
        ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()


def print_table(rows: list[Row]) -> None:
    print("| figure | median | min – max | n | beside it, in the same run | target | met |")
    print("| --- | ---: | ---: | ---: | --- | --- | --- |")
    for row in rows:
        low, high, middle = min(row.values), max(row.values), statistics.median(row.values)
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        spread = f"{row.digits(low)} – {row.digits(high)}" if len(row.values) > 1 else ""
        target = f"≤ {row.target:g} {row.unit}{' at worst' if row.worst else ''}" if row.target is not None else ""
        print(
            f"| {row.what} | {row.digits(middle)} {row.unit} | {spread} | {len(row.values)} | {row.beside}"
            f" | {target} | {met} |"
        )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
