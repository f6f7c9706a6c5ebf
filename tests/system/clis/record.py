"""Record the JSON streams of real agent CLIs into tests/data/streams, with a scripted model server.

    PYTHONPATH=supervisor:tests .venv/bin/python tests/system/clis/record.py [CLI]...

The first line of a recording says what it is of: the CLI, its version, the case, the exit code, and stderr.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from helpers.model_server import Model, Step, model
from helpers.paths import ROOT
from helpers.real_clis import CLIS, command, environment, version
from helpers.recordings import STREAMS

_COUNTS = {"in": 1200, "out": 80}
_SAYS: Step = {"say": "There are three files, and the tests pass.", **_COUNTS}
_SEVERAL: Step = {"say": "I look first.", "shell": ["seq 3", "sh -c 'exit 3'"], "main": True, "times": 1, **_COUNTS}
_TURN: list[Step] = [{"main": True, "shell": "expr 41 + 1", "times": 1, **_COUNTS}, _SAYS]
_WINDOWS = {  # of a subscriber's plan: nine tenths of five hours are used
    f"anthropic-ratelimit-unified-{name}": value
    for name, value in {
        "status": "allowed_warning",
        "reset": "2000000000",
        "representative-claim": "five_hour",
        "5h-status": "allowed_warning",
        "5h-reset": "2000000000",
        "5h-utilization": "0.91",
        "5h-surpassed-threshold": "0.9",
        "7d-status": "allowed",
        "7d-reset": "2000300000",
        "7d-utilization": "0.4",
    }.items()
}
_LOST = {"codex": "0199a213-81c0-7800-8aa1-bbab2a035a53", "opencode": "ses_1b7a4c0fffferY2Bq0Bxw5QbZK"}
_ID = re.compile(r'"(?:session_id|thread_id|sessionI[dD])":\s*"([^"]+)"')


@dataclass
class Case:
    """What one recording shows: the model's script, and the CLIs that it is recorded of, with further options."""

    script: Sequence[Step]
    of: Sequence[str] = CLIS
    options: Sequence[str] = ()
    may: bool = True  # use any tool
    resume: str = ""  # earlier: the session of a turn before; lost: of none
    subscriber: bool = False  # claude's own, the others have no such login
    interrupt: bool = False


CASES = {
    "turn": Case(_TURN),
    "several-tools": Case([_SEVERAL, _SAYS]),
    "usage-limit": Case([{"error": "usage-limit"}], ("claude", "codex", "gemini", "qwen"), subscriber=True),
    "usage-warning": Case([{**step, "headers": _WINDOWS} for step in _TURN], ("claude",), subscriber=True),
    "auth": Case([{"error": "auth"}]),
    "credit": Case([{"error": "credit"}], ("claude", "codex", "gemini")),
    "denied": Case(
        [{"main": True, "shell": "python3 -c 1", "times": 1}, _SAYS], ("claude", "gemini", "qwen"), may=False
    ),
    "max-turns": Case(_TURN, ("claude",), ("--max-turns", "1")),
    "max-session-turns": Case(_TURN, ("qwen",), ("--max-session-turns", "1")),
    "max-budget": Case(_TURN, ("claude",), ("--max-budget-usd", "0.001")),
    "subagents": Case(
        [
            {"main": True, "when": "Count", "agents": ["First part", "Second part"], "times": 1, **_COUNTS},
            {"main": True, "when": "(First|Second) part", "say": "A part.", **_COUNTS},
            _SAYS,
        ],
        ("claude",),
    ),
    "interrupted": Case([{"say": "I look at each file. " * 9, "silence": "midway"}], ("claude",), interrupt=True),
    "resumed": Case([_SAYS], resume="earlier"),
    "lost": Case([_SAYS], resume="lost"),
}


def record(cli: str, name: str) -> None:
    """Record one case of a CLI in a home and a project of its own."""
    case = CASES[name]
    with TemporaryDirectory(prefix="recorded-") as folder, model(case.script) as asks:
        home, project = Path(folder, "home"), Path(folder, "project")
        project.mkdir()
        env = {**environment(cli, asks.url, home, subscriber=case.subscriber), "TZ": "UTC"}

        def turn(session: str, interrupt: bool) -> tuple[int, str, str]:
            words = command(cli, "Count the files", *case.options, may=case.may, resume=session)
            started = subprocess.Popen(
                words, env=env, cwd=project, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            if interrupt:
                interrupt_amid_its_answer(started, asks)
            stdout, stderr = started.communicate(timeout=200)
            return started.returncode, stdout, stderr

        session = {"": "", "lost": _LOST.get(cli, "3f0c1f9e-0000-4000-8000-000000000000")}.get(case.resume)
        if session is None:
            session = _ID.findall(turn("", False)[1])[-1]
        code, stdout, stderr = turn(session, case.interrupt)
        told = {"cli": cli, "version": version(cli), "case": name, "exit": code, "stderr": stderr}
        text = json.dumps({"recorded": told}) + "\n" + stdout
    path = STREAMS / cli / f"{name}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scrubbed(text, folder, asks))
    print(f"{path.relative_to(ROOT)}: {len(text)} bytes, exit {code}", flush=True)


def interrupt_amid_its_answer(started: "subprocess.Popen[str]", asks: Model) -> None:
    while not asks.asked:
        time.sleep(0.05)
    time.sleep(2)  # half of the answer
    started.send_signal(signal.SIGINT)


def scrubbed(text: str, folder: str, asks: Model) -> str:
    """Return the text without what names this machine: its paths and the port of its model's server."""
    text = text.replace(asks.url, "http://127.0.0.1:1").replace(str(Path.home()), "/home/user")
    for form in (folder, re.sub(r"\W", "-", folder)):
        text = text.replace(f"{form}{form[0]}home", f"{form[0]}home{form[0]}user").replace(form, "")
    return text


if __name__ == "__main__":
    for cli in sys.argv[1:] or CLIS:
        for name, case in CASES.items():
            if cli in case.of:
                record(cli, name)
