"""How far a leak gets past the hard limit before it is dead, by watching alone and with the kernel's limit behind."""

import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from lab import AGENTS, MIB, NODE, SEQSUP, Failed, Lab, Row, kill, median

LIMIT = 1024 * MIB
RUNS, AT_ONCE = 10, 4
PEER_INTERVAL = 0.25  # seconds
HOLDS = """
const held = [];
for (let left = Number(process.argv[1]); left > 0; left -= 1 << 24) held.push(Buffer.alloc(1 << 24, 1));
console.log("ready");
setInterval(() => held, 1000);
"""
SLACK = 1024 * MIB  # what must be free beside the limit, or the machine's own floor would stop the agent first
TABLES = ('hard = "1GiB"', 'soft = "none"', 'warn = "none"', "[retry]", "attempts = 1")
WATCH, KERNEL = "watch", "cgroup"
DEAD = {WATCH: 150.0, KERNEL: 60.0}  # ms from the limit to an empty tree
OVER = {WATCH: 2.0, KERNEL: 3.0}  # % of the limit; the kernel's own is 2 % above it, and counts more


def measure(lab: Lab) -> list[Row]:
    if psutil.virtual_memory().available < LIMIT + SLACK:
        print("overshoot: not enough memory available, left out", file=sys.stderr)
        return []
    rows = [row for enforce in tiers(lab) for row in by(lab, enforce)]
    if NODE is None:
        return rows
    leaks = [NODE, str(AGENTS / "leaks.mjs")]
    values = [psutil_loop(lab, number, leaks) for number in range(RUNS)]
    rows.append(Row(f"peer: psutil every {PEER_INTERVAL:g} s, Node Buffers: overshoot", values, "% of the limit"))
    killed = [bare_kill(lab, NODE) for _ in range(RUNS)]
    return [*rows, Row("floor: from a bare SIGKILL to the end of a Node that holds the limit in Buffers", killed, "ms")]


def by(lab: Lab, enforce: str) -> list[Row]:
    rows = leak(lab, enforce, "Python bytes", 1, lambda notes: [sys.executable, str(AGENTS / "leaks.py"), *notes])
    if NODE is None:
        return rows
    leaks = [NODE, str(AGENTS / "leaks.mjs")]
    line = " ".join(leaks)
    rows += leak(lab, enforce, "Node Buffers", 1, lambda notes: [*leaks, *notes])
    rows += leak(
        lab, enforce, "Node Buffers in a grandchild", 1,
        lambda notes: ["sh", "-c", f"sh -c '{line} {notes[0]}; :'; :"],
    )  # fmt: skip
    return rows + leak(
        lab, enforce, f"Node Buffers in {AT_ONCE} processes at once", AT_ONCE,
        lambda notes: ["sh", "-c", " & ".join(f"{line} {note}" for note in notes)],
    )  # fmt: skip


def tiers(lab: Lab) -> list[str]:
    """By which means a limit can be kept here."""
    try:
        lab.seconds([*SEQSUP, "start", "-q", lab.profile("tier", [("one", ["/bin/true"])], *memory(KERNEL))])
    except Failed:
        print("overshoot: no cgroup with a memory limit can be had here, so by watching only", file=sys.stderr)
        return [WATCH]
    return [WATCH, KERNEL]


def memory(enforce: str) -> tuple[str, ...]:
    return ("[memory]", f'enforce = "{enforce}"', *TABLES)


def leak(lab: Lab, enforce: str, what: str, processes: int, command: Callable[[list[str]], list[str]]) -> list[Row]:
    """Let agents of one run leak, one after another; their processes note what they hold."""
    what = f"{'watched' if enforce == WATCH else 'in a cgroup'}: {what}"
    name = "".join(filter(str.isalnum, what))
    notes = {
        f"leak-{number}": [new_note(lab, f"{name}-{number}-{process}") for process in range(processes)]
        for number in range(RUNS)
    }
    agents = [(agent, command(list(map(str, paths)))) for agent, paths in notes.items()]
    run = lab.supervise(lab.profile(name, agents, *memory(enforce)))
    ended = [event for event in run.events() if event["event"] == "attempt_ended"]
    run.end()
    emptied, kills = run.moments("attempt_ended"), run.moments("stop_sent")
    held, seen, dead, sent, rates = [], [], [], [], []
    by_kernel = sum(event["reason"] == "kernel-oom" for event in ended)  # at the cgroup's limit, a little above hard
    for event in ended:
        if event["reason"] not in ("hard", "kernel-oom"):
            raise Failed(f"{what}: ended as {event['reason']}: {event['why']}")
        left = [Note(path) for path in notes[event["agent"]]]
        held.append(over(sum(note.held for note in left)))
        seen.append(over(event["peak"]))
        rates.append(sum(note.rate for note in left))
        dead += [(emptied[event["agent"]] - note.crossed) * 1000 for note in left if note.crossed]
        sent += [
            (kills[event["agent"]] - note.crossed) * 1000 for note in left if note.crossed and event["agent"] in kills
        ]
    beside = f"grew at {median(rates):.0f} MiB/s; seqsup saw {median(seen):.1f} %, at most {max(seen):.1f} %"
    beside += f"; {by_kernel} of {RUNS} ended by the kernel" if by_kernel else ""
    rows = [Row(f"{what}: overshoot", held, "% of the limit", beside, target=OVER[enforce], worst=True)]
    if dead:
        beside = f"SIGKILL after {median(sent):.1f} ms" if sent else ""
        rows.append(Row(f"{what}: from crossing to tree empty", dead, "ms", beside, target=DEAD[enforce]))
    return rows


class Note:
    """Record of a leaking process: its largest memory in bytes, with monotonic seconds."""

    SIZE = 40

    def __init__(self, path: Path) -> None:
        self.held: float
        self.crossed: float
        self.held, first, began, self.crossed, last = struct.unpack("<5d", path.read_bytes())
        self.rate = (self.held - first) / MIB / max(last - began, 1e-9)


def new_note(lab: Lab, name: str) -> Path:
    path = lab.folder / f"note-{name}"
    path.write_bytes(bytes(Note.SIZE))
    return path


def over(held: float) -> float:
    return (held - LIMIT) / LIMIT * 100


def bare_kill(lab: Lab, node: str) -> float:
    """How long the kernel takes to free what a leak held at its limit."""
    process = lab.start([node, "-e", HOLDS, str(LIMIT)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    began = time.perf_counter()
    process.kill()
    process.wait()
    taken = (time.perf_counter() - began) * 1000
    process.stdout.close()
    lab.end(process)
    return taken


def psutil_loop(lab: Lab, number: int, leaks: Sequence[str]) -> float:
    """A watcher as one would write it: sum the tree with psutil, kill or sleep."""
    note = new_note(lab, f"peer-{number}")
    root = psutil.Process(lab.start([*leaks, str(note)]).pid)
    time.sleep(random.random() * PEER_INTERVAL)  # else each look would fall on the same point of the growth
    while True:
        tree = [root, *root.children(recursive=True)]
        if sum(memory.rss - memory.shared for memory in (each.memory_info() for each in tree)) >= LIMIT:
            break
        time.sleep(PEER_INTERVAL)
    for each in tree:
        kill(each.pid)
    root.wait()
    return over(Note(note).held)
