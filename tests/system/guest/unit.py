"""The unit that `seqsup init --systemd` prints, under a real systemd; run inside, by test_guest.py."""

import os
import pwd
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.paths import ROOT
from helpers.profiles import of, parsed, shell, write
from helpers.waiting import alive, wait_for

Cli = Callable[..., Result]
PATIENCE = 200  # seconds, in an emulated machine


def control(*words: str) -> str:
    runtime = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}  # which conftest.py has replaced
    return subprocess.run(
        ["systemctl", "--user", *words], env={**os.environ, **runtime}, capture_output=True, text=True, check=True
    ).stdout.strip()


def shown(unit: str, key: str) -> str:
    return control("show", "--value", f"--property={key}", unit)


@pytest.fixture
def unit(seqsup: Cli, tmp_path: Path) -> Iterator[str]:
    """Start the unit of a profile with one agent that reports its ids and holds."""
    holds = shell("holds", "sleep 600 & echo ready $$ $!; wait")
    text = seqsup("init", write(tmp_path, holds, timeouts={"wall": "600s", "grace": "1s"}), "--systemd").stdout
    (name,) = set(re.findall(r"seqsup-\S+\.service", text))
    folder = Path(pwd.getpwuid(os.getuid()).pw_dir, ".config/systemd/user")
    (folder / f"{name}.d").mkdir(parents=True)
    (folder / name).write_text(text)
    ours = {"PYTHONPATH": str(ROOT / "supervisor"), **{key: os.environ[key] for key in ("HOME", "SEQSUP_STATE_DIR")}}
    environment = "".join(f'Environment="{key}={value}"\n' for key, value in ours.items())
    (folder / f"{name}.d" / "test.conf").write_text(f"[Service]\n{environment}")
    control("daemon-reload")
    yield name
    control("stop", name)


def fled(run: str) -> list[int]:
    """Return the pids of the agent and its child, once the agent has reported them."""
    said = Path(os.environ["SEQSUP_STATE_DIR"], "runs", run, "holds", "1", "stdout.log")
    wait_for(said.read_text, PATIENCE)
    return [int(pid) for pid in said.read_text().split()[1:]]


def test_a_killed_supervisor_takes_its_agent_along_and_the_next_start_tells_of_it(seqsup: Cli, unit: str) -> None:
    control("start", unit)
    first = fled("r1")
    assert all(map(alive, first))
    os.kill(int(shown(unit, "MainPID")), signal.SIGKILL)
    wait_for(lambda: shown(unit, "ActiveState") == "failed", PATIENCE)
    assert shown(unit, "Result") == "signal"
    wait_for(lambda: not any(map(alive, first)), PATIENCE)

    control("start", unit)
    second = fled("r2")
    events = parsed(seqsup("events", "r1").stdout)
    assert events[0]["containment"] == "cgroup2"
    assert [event["agent"] for event in of(events, "attempt_lost")] == ["holds"]

    control("stop", unit)
    assert (shown(unit, "ActiveState"), shown(unit, "Result")) == ("inactive", "success")
    assert not any(map(alive, second))
    assert of(parsed(seqsup("events", "r2").stdout), "run_ended")[0]["exit_code"] == 128 + signal.SIGTERM
