"""A machine that has no room for another process for a while: in a cgroup whose pids.max is reached."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Started
from helpers.profiles import of, parsed, proven, shell, write
from helpers.waiting import wait_for

Start = Callable[..., Started]

_ROOTS = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
_PIDS = next((root for root in _ROOTS if (root / "cgroup.procs").exists()), None)


class Full:
    """A cgroup in which seqsup runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = ["sh", "-c", f'echo 0 >{folder}/cgroup.procs && exec "$@"', "sh"]

    def most(self, number: int | str) -> None:
        (self.folder / "pids.max").write_text(str(number))


@pytest.fixture
def full() -> Iterator[Full]:
    if _PIDS is None or os.geteuid() != 0:
        pytest.skip("only root may make a cgroup")
    folder = _PIDS / f"seqsup-test-{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        if not (folder / "pids.max").exists():
            pytest.skip("no pids controller here")
        yield Full(folder)
    finally:
        for each in (*folder.rglob("*/"), folder):
            with suppress(OSError):
                wait_for(lambda each=each: not (each / "cgroup.procs").read_text())  # type: ignore[misc]
                each.rmdir()


@pytest.fixture
def crowded(seqsup_started: Start, full: Full, tmp_path: Path) -> Callable[..., Started]:
    """Run a first agent, and before it exits take all room for the next process."""

    def start(*agents: dict[str, Any], **tables: Any) -> Started:
        os.mkfifo(tmp_path / "go")
        first = shell("first", "echo $$ >at; read line <go")
        path = write(tmp_path, first, *agents, memory={"enforce": "watch"}, **tables)
        run = seqsup_started("start", path, "--json", through=full.words)
        wait_for(lambda: (tmp_path / "at").exists())
        full.most(1)
        with (tmp_path / "go").open("w") as go:
            go.write("\n")
        return run

    return start


def test_agent_waits_for_room_for_its_process(crowded: Callable[..., Started], full: Full) -> None:
    run = crowded(shell("a", "true", retry={"attempts": 1}))
    wait_for(lambda: "a waits up to 30 s" in run.stdout)
    full.most("max")
    events = proven(run.wait())
    [warned] = of(events, "warned")
    assert "no room for another process: " in warned["message"]
    assert [event["attempt"] for event in of(events, "attempt_ended") if event["agent"] == "a"] == [1]


def test_agent_for_which_there_is_no_room_in_time_is_given_up(crowded: Callable[..., Started]) -> None:
    run = crowded(shell("a", "true", drain={"timeout": "1s"}))
    assert run.wait().code == 1
    ended = of(parsed(run.stdout), "agent_ended")[1]
    assert (ended["reason"], ended["attempts"]) == ("spawn-failed", 1)
    assert "too many processes for 1" in ended["why"]


def test_wait_for_room_ends_when_the_user_stops_the_run(crowded: Callable[..., Started]) -> None:
    run = crowded(shell("a", "true"))
    wait_for(lambda: "a waits up to 30 s" in run.stdout)
    run.send(signal.SIGINT)
    assert run.wait().code == 130
    assert of(parsed(run.stdout), "agent_ended")[1]["reason"] == "halted"


def test_hook_waits_for_room_for_its_process(crowded: Callable[..., Started], full: Full) -> None:
    run = crowded(hooks={"after_agent": ["true"], "on_error": "stop"})
    wait_for(lambda: "after_agent-1 waits up to 30 s" in run.stdout)
    full.most("max")
    assert of(proven(run.wait()), "hook_ended")[0]["ok"]
