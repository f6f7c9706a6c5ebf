"""Reused pids: hundreds of agents run in a pid namespace that has few of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, environment
from helpers.profiles import of, parsed, reasons, shell, write

Seqsup = Callable[..., Result]

PIDS = 332  # of which the kernel gives out those above 300 again and again; since Linux 6.14 each namespace has its own
AGENTS = 200


def with_few_pids(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    few = f'echo {PIDS} >/proc/sys/kernel/pid_max && [ "$(cat /proc/sys/kernel/pid_max)" = {PIDS} ] || exit 99'
    outside = Path("/proc/sys/kernel/pid_max").read_text()
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    guard = 'read -r _ release _ </proc/version; case "$(uname -r)" in [0-5].*|6.[0-9].*|6.1[0-3].*) exit 99;; esac'
    ended = subprocess.run(
        [*words, f'{guard}; {few}; {script}', "sh", *map(str, args)],
        env=environment({}), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert Path("/proc/sys/kernel/pid_max").read_text() == outside
    if ended.returncode == 99 or ended.stderr.startswith("unshare"):
        pytest.skip(f"no pid namespace with a pid_max of its own can be had here: {ended.stderr.strip()}")
    return ended


@pytest.mark.parametrize("concurrency", [1, 3])
def test_agents_and_companions_run_where_numbers_come_round(seqsup: Seqsup, tmp_path: Path, concurrency: int) -> None:
    """Each agent uses some numbers, and leaves a process behind."""
    command = "for i in 1 2 3 4 5 6; do /bin/true; done; sleep 0.05 & exit 0"
    lanes: dict[str, Any] = {"concurrency": concurrency, "allow_concurrency": True} if concurrency > 1 else {}
    beside = {"name": "beside", "command": ["sleep", "1000"], "ready": {"delay": "10ms"}, "restart_every": 30}
    names = [f"a{number}" for number in range(AGENTS)]
    profile = write(
        tmp_path, *(shell(name, command) for name in names),
        run=lanes, memory={"hard": "64MiB"}, companions=[beside],
    )  # fmt: skip
    ended = with_few_pids(f'exec {sys.executable} -m seqsup start "$1"', profile)
    assert ended.returncode == 0, ended.stderr[-3000:]
    events = parsed(seqsup("events").stdout)
    assert reasons(events) == dict.fromkeys(names, "completed")
    leaders = [event["pid"] for event in of(events, "spawned")]
    assert len(set(leaders)) < len(leaders), "no number was given twice"
    assert events[-1]["sequence_violations"] == 0


TWICE = """
import asyncio, os, sys, time
from pathlib import Path
from seqsup.containment.members import Members
from seqsup.containment.reaper import Reaper

def again(pid):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))

async def main():
    with Reaper(lambda: None) as reaper:
        def spawn(*command):
            return reaper.spawn(command, cwd="/", env={}, streams=(0, 1, 2))
        def ended(leader):
            while reaper.ending(leader) is None:
                time.sleep(0.001)
            return reaper.ending(leader).code
        first = spawn("/bin/sh", "-c", "exit 7")
        members = Members()
        held = members.add(first.pid)
        assert ended(first) == 7
        again(first.pid)
        second = spawn("/bin/sleep", "1000")
        assert second.pid == first.pid, (second, first)
        assert reaper.ending(first).code == 7
        assert reaper.ending(second) is None
        assert not members.knows(second.pid)
        taken = members.add(second.pid)
        assert taken is not None and not taken.gone()
        assert [member.pid for member in members.living()] == [second.pid]
        members.send(9)
        assert reaper.ending(first).code == 7
        while reaper.ending(second) is None:
            time.sleep(0.001)
        assert reaper.ending(second).signal == 9
        for leader in (first, second):
            reaper.forget(leader)
    print("well")

asyncio.run(main())
"""


def test_two_leaders_with_one_pid_are_distinguished() -> None:
    ended = with_few_pids(f'exec {sys.executable} -c "$1"', TWICE)
    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr
