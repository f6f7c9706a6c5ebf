"""Where a benchmark works: a temporary state folder, and every process it starts, ended at the latest on leaving."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
AGENTS = Path(__file__).parent / "agents"
NODE = shutil.which("node")
SEQSUP = (sys.executable, "-m", "seqsup")
SOURCES = Path(__file__).resolve().parent.parent / "supervisor"
_PATIENCE = 15.0  # seconds that seqsup gets to end its agents


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    values: Sequence[float]
    unit: str
    beside: str = ""
    target: float | None = None
    worst: bool = False  # the target is for the worst value, not for the median

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return (max(self.values) if self.worst else statistics.median(self.values)) <= self.target

    def digits(self, value: float) -> str:
        return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


class Failed(Exception):
    """A benchmark could not be carried out."""


class Lab:
    def __init__(self, *, full: bool = False) -> None:
        self.full = full  # long benchmarks run at their whole length

    def __enter__(self) -> "Lab":
        self.folder = Path(tempfile.mkdtemp(prefix="seqsup-bench-", dir="/var/tmp"))  # /tmp may be memory
        self.mark = f"seqsup-bench-{uuid.uuid4().hex}"  # part of the command line of every leftover process
        self.env = {
            **os.environ, "PYTHONPATH": str(SOURCES), "SEQSUP_STATE_DIR": str(self.folder / "state"),
            "XDG_STATE_HOME": str(self.folder / "xdg"), "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONPYCACHEPREFIX": str(self.folder / "compiled"),
        }  # fmt: skip
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
        self._started: list[subprocess.Popen[bytes]] = []
        return self

    def __exit__(self, *_: object) -> None:
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(each, signal.SIG_IGN) for each in signals]  # an impatient second Ctrl-C waits, too
        for process in tuple(self._started):
            self.end(process)
        for pid in marked(self.mark):
            kill(pid)
        shutil.rmtree(self.folder, ignore_errors=True)
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)

    def start(self, command: Sequence[str], *, stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """Start something that does not outlive the lab. Its words go to a file."""
        with (self.folder / "stderr").open("ab") as errors:
            process = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors
            )
        self._started.append(process)
        return process

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Let it end its own children first."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
        if process in self._started:
            self._started.remove(process)

    def end_marked(self, process: "subprocess.Popen[bytes]") -> None:
        """End it together with all that bears this lab's mark."""
        process.kill()
        for pid in marked(self.mark):
            kill(pid)
        self.end(process)

    def seconds(self, command: Sequence[str]) -> float:
        """How long a command takes from start to end."""
        began = time.perf_counter()
        process = self.start(command)
        code = process.wait()
        took = time.perf_counter() - began
        self.end(process)
        if code:
            raise Failed(f"{' '.join(command)[:200]} ended with {code}:\n{self.words()}")
        return took

    def words(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")[-2000:]

    def profile(self, name: str, agents: Sequence[tuple[str, Sequence[str]]], *tables: str) -> str:
        """Write a profile of agents, each a name and a command, and give its path."""
        text = [f"name = {json.dumps(name)}", "[run]", 'on_failure = "continue"', *tables]
        for agent, command in agents:
            text += ["[[agents]]", f"name = {json.dumps(agent)}", f"command = {json.dumps(list(command))}"]
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(text) + "\n")
        return str(path)

    def supervise(self, profile: str) -> "Supervised":
        return Supervised(self, self.start([*SEQSUP, "start", "--json", profile], stdout=subprocess.PIPE))


class Supervised:
    """A run of seqsup, heard through its stream of events."""

    def __init__(self, lab: Lab, process: "subprocess.Popen[bytes]") -> None:
        self._lab, self._process = lab, process
        self.pid = process.pid

    def events(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout
        for line in self._process.stdout:
            yield json.loads(line)

    def moments(self, name: str, **fields: str) -> dict[str, float]:
        """When an event of each agent with these fields was, in monotonic seconds: the stream has the time of day."""
        with sqlite3.connect(self._lab.folder / "state" / "journal.db") as journal:
            rows = journal.execute("SELECT mono, body FROM events").fetchall()
        journal.close()
        bodies = [(mono, json.loads(body)) for mono, body in rows]
        return {body["agent"]: mono for mono, body in bodies if body.items() >= {"event": name, **fields}.items()}

    def until(self, name: str, agent: str) -> None:
        """Wait for an event of an agent."""
        for event in self.events():
            if event["event"] == name and event["agent"] == agent:
                return
        raise Failed(f"seqsup ended before {name} of {agent}:\n{self._lab.words()}")

    def end(self) -> None:
        self._lab.end(self._process)

    def resident(self) -> float:
        """RSS in MiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cpu(self) -> float:
        """CPU seconds used, to the nanosecond: utime and stime count in steps of 10 ms."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def marked(mark: str) -> list[int]:
    """List the living processes with this mark in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():  # a zombie's is empty
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
