"""The last line that an agent printed: read by a viewer from the files that keep its output."""

import os
import re
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from seqsup.model.run_view import AgentState, RunView
from seqsup.state.artifacts import has_summary, summary
from seqsup.state.run_folder import ANSWER, STDERR, STDOUT, at_once
from seqsup.text import unstyled
from seqsup.units import format_duration

_TAIL = 16 * 1024  # bytes
_RESULTS = 10  # agents whose results are shown at the end of a run
_LINES = 20  # of which the last one that says something is shown
_HOLDS = ("message", "item", "content", "text", "result", "msg", "error")  # keys of JSON lines, the best first
# What Node prints below the error that ended it
_TRACE = re.compile(r"\d+: 0x[0-9a-f]+ |----- Native stack trace -----$")


class Said(Struct, frozen=True):
    """The last line of an agent, and when it was printed (epoch)."""

    text: str
    at: float

    def age(self, now: float) -> str:
        """Say how long ago it was; `now` is of the epoch."""
        seconds = int(max(0.0, now - self.at))
        return f"{format_duration(seconds)} ago" if seconds else "now"


class LastLines:
    """Finds what agents of a run printed last. A file that has not changed is not read again."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._known: dict[str, tuple[os.stat_result, Said]] = {}  # by the attempt's folder

    def of(self, attempt: str) -> Said | None:
        """Return the last line of an attempt, named by its folder within the run's; None if it printed nothing."""
        newest: tuple[Path, os.stat_result] | None = None
        for name in (STDERR, STDOUT):
            path = self._run_folder / attempt / name
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size and (newest is None or _later(status, newest[1])):
                newest = path, status
        if newest is None:
            return None
        path, status = newest
        known = self._known.get(attempt)
        if known is None or (known[0].st_mtime_ns, known[0].st_size) != (status.st_mtime_ns, status.st_size):
            known = self._known[attempt] = status, Said(last_line(_tail(path)), status.st_mtime)
        return known[1] if known[1].text else None


def results(view: RunView, run_folder: Path) -> dict[str, str]:
    """Return the first line of each completed agent's summary, or the last line that it printed, by agent."""
    lines, told = LastLines(run_folder), dict[str, str]()
    for agent in view.agents.values():
        if agent.state is not AgentState.COMPLETED or agent.folder is None or agent.before:
            continue
        if len(told) == _RESULTS:
            break
        attempt = run_folder / agent.folder
        said = lines.of(agent.folder)
        answered = has_summary(attempt) or (attempt / ANSWER).exists()
        text = _told(summary(attempt)) if answered else said.text if said else ""
        if text:
            told[agent.name] = text
    return told


def _later(one: os.stat_result, other: os.stat_result) -> bool:
    return one.st_mtime_ns >= other.st_mtime_ns


def _tail(path: Path) -> bytes:
    try:
        fd = at_once(str(path), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, _TAIL, max(size - _TAIL, 0))
    except OSError:
        return b""
    finally:
        os.close(fd)


def last_line(output: bytes) -> str:
    """Return the last line of some output that says something; of JSON lines, as agent CLIs print, the text or tool."""
    last = ""
    for line in reversed(output.decode(errors="replace").rstrip().split("\n")[-_LINES:]):
        shown = unstyled(line.rstrip("\r").rpartition("\r")[2].expandtabs(1)).strip()  # what was written over is gone
        last = last or shown
        if shown and not _TRACE.match(shown) and (told := _of_json(shown) if shown.startswith("{") else shown):
            return told
    return last


def _of_json(line: str) -> str:
    try:
        return _told(msgspec.json.decode(line))
    except (msgspec.DecodeError, RecursionError):
        return line


def _told(value: object) -> str:
    """Find the text, or the tool and its first argument, in a line of `--output-format stream-json` and the like."""
    match value:
        case str():
            return next((line.strip() for line in value.splitlines() if line.strip()), "")
        case list():
            return next(filter(None, map(_told, reversed(value))), "")
        case {"type": "tool_result"} | {"role": "user"} | {"type": "user"}:
            return ""
        case {"type": "tool_use", "name": str(name), "input": dict(given)}:
            return f"{name} {_told(list(given.values())[:1])}".strip()
        case {"type": "tool_use", "tool_name": str(name), "parameters": dict(given)}:
            return f"{name} {_told(list(given.values())[:1])}".strip()
        case {"type": "command_execution", "command": str(command)}:
            return f"$ {_told(command)}"
        case dict():
            return next(filter(None, (_told(value[key]) for key in _HOLDS if key in value)), "")
    return ""
