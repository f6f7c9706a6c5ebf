"""Names that the tests of the seed's rows share."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from helpers.command_line import Result, Started
from helpers.profiles import Event

Agent = dict[str, Any]
InAgent = Callable[[str], Any]
Running = Callable[..., Started]
SeedAgent = Callable[..., Agent]
Seqsup = Callable[..., Result]

UNASKED = ("--no-memory-reducer", "--no-incremental-marking")  # V8 collects nothing by itself meanwhile


class Start(Protocol):
    def __call__(self, *agents: Agent, code: int = 0, **tables: Any) -> list[Event]: ...


def printed(name: str, run: str = "r1", stream: str = "stdout") -> str:
    """What an agent has printed in its first attempt."""
    log = Path(os.environ["SEQSUP_STATE_DIR"]) / "runs" / run / name / "1" / f"{stream}.log"
    return log.read_text() if log.exists() else ""


def check(doctor: Result, what: str, level: str) -> str:
    """What `doctor --json` has found out about something, which must be on this level."""
    (found,) = (each for each in json.loads(doctor.stdout)["checks"] if each["what"] == what)
    assert found["level"] == level, found
    return str(found["finding"])
