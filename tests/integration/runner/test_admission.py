"""Admission: the memory that an agent may use must be available, and no agent waits for memory that cannot come."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.command_line import Result, environment
from helpers.profiles import agent, of, proven, reasons, shell, write
from helpers.waiting import wait_for
from seqsup.containment.cgroup.files import own_directory, remove
from seqsup.containment.cgroup.group import Unavailable
from seqsup.containment.cgroup.parent_limits import Ceiling
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Stub = Callable[..., list[str]]


def test_a_limit_above_us_leaves_what_it_has_left_and_page_cache(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("700\n")
    (tmp_path / "stat").write_text("anon 100\ninactive_file 30\nactive_file 20\n")
    ceiling = Ceiling(tmp_path / "max", tmp_path / "current", tmp_path / "stat", ["inactive_file", "active_file"])
    assert ceiling.bounds() == (1000, 350)
    assert (ceiling.room(2000), ceiling.room(340), ceiling.room(200)) == (350, 340, 200)
    (tmp_path / "max").write_text("max\n")
    assert ceiling.bounds() is None
    ceiling.close()


def test_limit_above_the_machines_memory_does_not_delay_a_start_for_ever(seqsup: Seqsup, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    path = write(tmp_path, shell("a", "true", memory={"hard": total - MIB, "soft": "none"}), drain={"timeout": "20s"})
    assert proven(seqsup("start", path, "--json"))[-1]["exit_code"] == 0


def test_agent_that_waits_for_memory_says_so_and_is_stopped_with_the_run(seqsup: Seqsup, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    path = write(
        tmp_path, shell("a", "true"), memory={"host_floor": total}, drain={"timeout": "300ms", "available": "none"}
    )
    result = seqsup("start", path, "--json")
    events = proven(result)
    (waits,) = of(events, "admission_delayed")
    assert "below memory.host_floor" in waits["why"]
    assert result.code == 4
    assert events[-1]["why"].startswith("a was not started: ")


@pytest.fixture
def small_group(test_id: str) -> Iterator[Path]:
    """A memory group of 300 MiB, of this test's own, to be entered."""
    for controller, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        with contextlib.suppress(Unavailable, OSError):
            group = own_directory(controller) / f"test-{test_id}"
            group.mkdir()
            try:
                (group / limit).write_text(str(300 * MIB))
                yield group
            finally:
                wait_for(lambda group=group: remove(group))  # type: ignore[misc]
            return
    pytest.skip("no memory group can be made here")


@pytest.mark.memory
@pytest.mark.parametrize("tier", ["", "subreaper"])
def test_host_floor_applies_in_a_limited_cgroup_while_agents_run(
    small_group: Path, tmp_path: Path, stub: Stub, tier: str
) -> None:
    """The machine has far more available, and the page cache of the group counts as room."""
    # On a disk, where /tmp may be memory
    writes = shell("writes", "f=$(mktemp -p /var/tmp); head -c 180M /dev/zero >$f; sleep 1; rm $f")
    grows = agent("grows", stub("grows", 280, "--rate", 150))
    path = write(tmp_path, writes, grows, memory={"host_floor": "100MiB", "hard": "none", "soft": "none"})
    enter = f'echo 0 >{small_group}/cgroup.procs; exec "$@"'
    command = ["sh", "-c", enter, "sh", sys.executable, "-m", "seqsup", "start", str(path), "--json"]
    env = environment({"SEQSUP_TIER": tier} if tier else {})
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)
    events = proven(Result(ended.returncode, ended.stdout, ended.stderr))
    assert reasons(events) == {"writes": "completed", "grows": "host-floor"}
    (stopped,) = of(events, "stop_sent")
    assert "below memory.host_floor" in stopped["why"]
