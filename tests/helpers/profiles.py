"""Profiles for tests: quick ones, written as tables, and what a run of them has told."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomlkit

from helpers.command_line import Result

QUICK: dict[str, dict[str, Any]] = {
    "memory": {"host_floor": "none"},
    "drain": {"timeout": "30s", "available": "none"},
    "timeouts": {"wall": "4m", "grace": "5s"},
    "retry": {"attempts": 1, "wait": "50ms", "max_wait": "100ms"},
}

Event = dict[str, Any]


def agent(name: str, command: Iterable[object], **keys: Any) -> dict[str, Any]:
    return {"name": name, "command": list(map(str, command)), **keys}


def shell(name: str, script: str, **keys: Any) -> dict[str, Any]:
    return agent(name, ["sh", "-c", script], **keys)


def write(
    folder: Path, *agents: dict[str, Any], name: str = "nightly", companions: Iterable[dict[str, Any]] = (),
    **tables: dict[str, Any],
) -> Path:  # fmt: skip
    """A profile with these agents; `tables` add to, or override, the quick ones."""
    text = {key: {**QUICK.get(key, {}), **tables.get(key, {})} for key in {**QUICK, **tables}}
    path = folder / f"{name}.toml"
    path.write_text(tomlkit.dumps({**text, "companions": list(companions), "agents": list(agents)}))
    return path


def parsed(lines: str) -> list[Event]:
    return [json.loads(line) for line in lines.splitlines()]


def of(events: Iterable[Event], *kinds: str) -> list[Event]:
    return [event for event in events if event["event"] in kinds]


def reasons(events: Iterable[Event]) -> dict[str, str]:
    """How each agent ended."""
    return {event["agent"]: event["reason"] for event in of(events, "agent_ended")}


def started(events: Iterable[Event]) -> list[str]:
    """Which agents were tried, in order, each once for every attempt."""
    return [event["agent"] for event in of(events, "attempt_started")]


def proven(result: Result) -> list[Event]:
    """The events of a `--json` run, after the checks that every run must pass."""
    events = parsed(result.stdout)
    assert events, result.stderr
    numbers = [event["seq"] for event in events if event["event"] != "agent_progress"]  # not of the journal
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert (events[0]["event"], events[-1]["event"]) == ("run_started", "run_ended")
    assert events[-1]["exit_code"] == result.code
    assert events[-1]["sequence_violations"] == 0
    return events
