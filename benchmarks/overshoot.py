"""How far a leak gets past the hard limit before it is dead."""

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from lab import AGENTS, MIB, NODE, Lab, Row, kill, median

LIMIT = 1024 * MIB
RUNS, PEER_RUNS = 10, 5
PEER_INTERVAL = 0.25  # seconds
SLACK = 1024 * MIB  # what must be free beside the limit, or the machine's own floor would stop the agent first


def measure(lab: Lab) -> list[Row]:
    if psutil.virtual_memory().available < LIMIT + SLACK:
        print("overshoot: not enough memory available, left out", file=sys.stderr)
        return []
    rows = leak(lab, "Python bytes at C speed", lambda note: [sys.executable, str(AGENTS / "leaks.py"), note])
    if NODE is None:
        return rows
    node = NODE
    rows += leak(lab, "Node Buffers", lambda note: [node, str(AGENTS / "leaks.mjs"), note])
    rows += leak(lab, "Node Buffers in a grandchild", lambda note: ["sh", "-c", f"sh -c '{node} {AGENTS}/leaks.mjs {note}; :'; :"])
    values = [psutil_loop(lab, number) for number in range(PEER_RUNS)]
    rows.append(Row(f"peer: psutil every {PEER_INTERVAL:g} s, Node Buffers", values, "% of the limit"))
    return rows


def leak(lab: Lab, what: str, command: Callable[[str], list[str]]) -> list[Row]:
    """Let agents of one run leak, one after another, each with its own note of what it holds."""
    notes = {f"leak-{number}": lab.folder / f"note-{number}" for number in range(RUNS)}
    for note in notes.values():
        note.write_bytes(bytes(Note.SIZE))
    tables = ("[memory]", 'hard = "1GiB"', 'soft = "none"', 'warn = "none"', "[retry]", "attempts = 1")
    profile = lab.profile(f"leak-{what.split()[0]}", [(name, command(str(note))) for name, note in notes.items()], *tables)
    run = lab.supervise(profile)
    over, own, dead, rates = [], [], [], []
    ended = [event for event in run.events() if event["event"] == "attempt_ended"]
    run.end()
    emptied = run.moments("attempt_ended")
    for event in ended:
        if event["reason"] != "hard":
            raise SystemExit(f"{what}: ended as {event['reason']}: {event['why']}")
        note = Note(notes[event["agent"]])
        over.append((note.held - LIMIT) / LIMIT * 100)
        own.append((event["peak"] - LIMIT) / LIMIT * 100)
        dead.append((emptied[event["agent"]] - note.crossed) * 1000 if note.crossed else 0.0)
        rates.append(note.rate)
    beside = f"grew at {median(rates):.0f} MiB/s; seqsup saw {median(own):.1f} % (at most {max(own):.1f} %)"
    return [
        Row(f"{what}: overshoot", over, "% of the limit", beside, target=5.0, worst=True),
        Row(f"{what}: from crossing to tree empty", dead, "ms"),
    ]


class Note:
    """What a leaking process wrote down: bytes held when it asked for more, and monotonic seconds."""

    SIZE = 40

    def __init__(self, path: Path) -> None:
        self.held, self.base, began, self.crossed, last = struct.unpack("<5d", path.read_bytes())
        self.rate = (self.held - self.base) / MIB / max(last - began, 1e-9)


def psutil_loop(lab: Lab, number: int) -> float:
    """A watcher as one would write it: sum the tree with psutil, sleep, kill."""
    path = lab.folder / f"peer-{number}"
    path.write_bytes(bytes(Note.SIZE))
    assert NODE
    root = psutil.Process(lab.start([NODE, str(AGENTS / "leaks.mjs"), str(path)]).pid)
    while True:
        tree = [root, *root.children(recursive=True)]
        if sum(memory.rss - memory.shared for memory in (each.memory_info() for each in tree)) >= LIMIT:
            break
        time.sleep(PEER_INTERVAL)
    for each in tree:
        kill(each.pid)
    root.wait()
    return (Note(path).held - LIMIT) / LIMIT * 100
