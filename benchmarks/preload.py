"""Cost of the preload for a Node process, and memory that a collection frees."""

import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import MIB, NODE, SOURCES, Lab, Row, median

STARTS, PROCESSES, IDLE, ASKED = 60, 5, 10.0, 5
PRELOAD = SOURCES / "seqsup" / "runtime" / "preload.cjs"
KINDS = {"cjs": "a CommonJS program", "mjs": "an ES module"}
WAITS = "setInterval(() => {}, 1000)"
GARBAGE = """
let garbage = [];
for (let n = 0; n < 7e6; n++) garbage.push({ n, text: "x" + n });
garbage = null;
setInterval(() => {}, 1000);
"""
SPINS = """
setTimeout(() => {
  const kept = [];
  for (;;) { kept.push({ x: [1, 2, 3] }); if (kept.length > 1e5) kept.length = 0; }
}, 1000);
"""


def measure(lab: Lab) -> list[Row]:
    if NODE is None:
        return []
    with listening(lab) as listener:
        rows = [row for kind, name in KINDS.items() for row in starts(lab, kind, name)]
        idle_without, idle_with = idle(lab, listener)
        rows += [
            Row(
                "an idle Node's CPU with it, over without", [idle_with.cpu - idle_without.cpu], "ms/s",
                f"without {idle_without.cpu:.2f} ms/s", target=0.1,
            ),
            Row(
                "an idle Node's RSS with it, over without",
                [b - a for a, b in zip(idle_without.rss, idle_with.rss, strict=True)], "MiB",
                f"without {median(idle_without.rss):.1f} MiB", target=3.0,
            ),
        ]  # fmt: skip
        before, after, seconds = collections(lab, listener)
        rows += [
            Row(
                "RSS one second after a collection was asked for", after, "MiB", f"before {median(before):.0f} MiB",
                target=120.0, worst=True,
            ),
            Row("until a collection is answered", seconds, "ms"),
            Row("until a blocked loop answers a question for memory", blocked(lab, listener), "ms", target=100.0),
        ]  # fmt: skip
    return rows


class Idle:
    def __init__(self) -> None:
        self.rss: list[float] = []
        self.cpu = 0.0  # ms a second, of one process


class Node:
    """A Node process with the preload, and the line to it."""

    def __init__(self, lab: Lab, listener: socket.socket, text: str) -> None:
        self._lab, self._asked = lab, 0
        self.process = started(lab, ["-e", text], str(listener.getsockname()))
        self._line = listener.accept()[0].makefile("rw")
        self._line.readline()

    def watch(self, listener: socket.socket) -> None:
        """Send requests to the worker from now on."""
        self.ask("watch")
        watch = listener.accept()[0].makefile("rw")
        watch.readline()
        self._line.close()
        self._line = watch

    def ask(self, question: str) -> float:
        """Ask, and say how many milliseconds the answer took."""
        self._asked += 1
        began = time.perf_counter()
        self._line.write(json.dumps({"id": self._asked, "ask": question}) + "\n")
        self._line.flush()
        self._line.readline()
        return (time.perf_counter() - began) * 1000

    def end(self) -> None:
        self._line.close()
        self._lab.end(self.process)


@contextmanager
def listening(lab: Lab) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(lab.folder / "node"))
        listener.listen(128)
        yield listener


def started(lab: Lab, words: list[str], channel: str | None) -> "subprocess.Popen[bytes]":
    own = {"NODE_OPTIONS": f'--require "{PRELOAD}"', "SEQSUP_CHANNEL": channel} if channel is not None else {}
    before, lab.env = lab.env, {**lab.env, **own}
    try:
        return lab.start([str(NODE), *words])
    finally:
        lab.env = before


def starts(lab: Lab, kind: str, name: str) -> list[Row]:
    """Start an empty program by turns without and with it. CPU time says what it costs; the clock, on a machine that
    does something else too, mostly what the others do."""
    program = lab.folder / f"empty.{kind}"
    program.touch()
    taken: dict[str | None, list[float]] = {None: [], str(lab.folder / "none"): []}
    spent: dict[str | None, list[float]] = {channel: [] for channel in taken}
    for turn in range(STARTS):
        for channel in sorted(taken, key=str, reverse=turn % 2 == 0):  # the second of a pair finds a warmer machine
            before, began = children(), time.perf_counter()
            process = started(lab, [str(program)], channel)
            process.wait()
            taken[channel].append((time.perf_counter() - began) * 1000)
            spent[channel].append((children() - before) * 1000)
            lab.end(process)
    return [
        Row(
            f"CPU time of the start of {name} with the preload, over without", differences(spent), "ms",
            f"without {median(spent[None]):.1f} ms", target=2.0,
        ),
        Row("the same by the clock", differences(taken), "ms", f"without {median(taken[None]):.1f} ms"),
    ]  # fmt: skip


def differences(ways: dict[str | None, list[float]]) -> list[float]:
    return [b - a for a, b in zip(*ways.values(), strict=True)]


def children() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def idle(lab: Lab, listener: socket.socket) -> tuple[Idle, Idle]:
    bare = [started(lab, ["-e", WAITS], None) for _ in range(PROCESSES)]
    nodes = [Node(lab, listener, WAITS) for _ in range(PROCESSES)]
    time.sleep(3)
    groups = ((bare, Idle()), ([node.process for node in nodes], Idle()))
    for processes, found in groups:
        found.rss = [rss(process.pid) for process in processes]
        found.cpu = -sum(cpu(process.pid) for process in processes)
    time.sleep(IDLE)
    for processes, found in groups:
        found.cpu = (found.cpu + sum(cpu(process.pid) for process in processes)) / IDLE / PROCESSES * 1000
    for process in bare:
        lab.end(process)
    for node in nodes:
        node.end()
    return groups[0][1], groups[1][1]


def collections(lab: Lab, listener: socket.socket) -> tuple[list[float], list[float], list[float]]:
    before, after, taken = [], [], []
    for _ in range(ASKED):
        node = Node(lab, listener, GARBAGE)
        before.append(rss(node.process.pid))
        began = time.monotonic()
        taken.append(node.ask("gc"))
        time.sleep(max(began + 1 - time.monotonic(), 0))
        after.append(rss(node.process.pid))
        node.end()
    return before, after, taken


def blocked(lab: Lab, listener: socket.socket) -> list[float]:
    taken = []
    for _ in range(ASKED):
        node = Node(lab, listener, SPINS)
        node.watch(listener)
        time.sleep(1.5)
        taken += [node.ask("mem") for _ in range(ASKED)]
        node.end()
    return taken


def rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def cpu(pid: int) -> float:
    """CPU seconds used, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
