"""The memory figures of an agent: before its start, at peak, at its end, after its drain, and what it gave back."""

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import Result
from helpers.profiles import Event, agent, of, parsed, proven, shell, write
from helpers.tiers import LIMITING
from seqsup.units import MIB, format_size

Seqsup = Callable[..., Result]


def _python(code: str) -> list[object]:
    return [sys.executable, "-S", "-c", code]


def _in_a_cgroup(events: list[Event]) -> None:
    if events[0]["containment"] not in LIMITING:
        pytest.skip("no cgroup here that weighs the tree")


def test_peak_of_a_short_agent_is_the_kernels(seqsup: Seqsup, tmp_path: Path) -> None:
    """The memory is there for less time than lies between two looks."""
    moment = f"held = b'x' * {100 * MIB}; del held; import time; time.sleep(0.1)"
    events = proven(seqsup("start", write(tmp_path, agent("a", _python(moment))), "--json"))
    _in_a_cgroup(events)
    (ended,) = of(events, "attempt_ended")
    assert 100 * MIB <= ended["peak"] < 140 * MIB


def test_page_cache_is_not_in_the_peak_of_a_short_agent(seqsup: Seqsup, tmp_path: Path) -> None:
    writes = f"head -c {100 * MIB} /dev/zero > big; cat big > /dev/null"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # on a disk, where /tmp may be memory
        events = proven(seqsup("start", write(tmp_path, shell("a", writes, cwd=folder)), "--json"))
    _in_a_cgroup(events)
    (ended,) = of(events, "attempt_ended")
    assert 0 < ended["peak"] < 20 * MIB


HELD = f"import subprocess, sys, time; held = b'x' * {64 * MIB}"


def test_an_agents_memory_is_reported_from_before_its_start_until_after_its_drain(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    holds = agent("a", _python(f"{HELD}; time.sleep(0.6)"))
    result = seqsup("start", write(tmp_path, holds), "-v")
    assert result.code == 0
    events = parsed(seqsup("events", "r1").stdout)
    (began,), (ended,), (drained,) = (of(events, kind) for kind in ("attempt_started", "attempt_ended", "drained"))
    assert began["host_before"] == drained["before"] > 0
    assert began["companions_before"] is None, "there are none"
    assert 64 * MIB <= ended["end"] == drained["end"] <= ended["peak"] < 100 * MIB
    assert drained["gave_back"] == ended["end"], "and not what the host has more or less"
    (shown,) = json.loads(seqsup("status", "--json").stdout)["agents"]
    told = {name: shown[name] for name in ("host_before", "companions_before", "end", "gave_back", "host_after")}
    assert told == {
        "host_before": drained["before"], "companions_before": None, "end": ended["end"],
        "gave_back": drained["gave_back"], "host_after": drained["after"],
    }  # fmt: skip
    (attempt,) = json.loads(seqsup("report", "--json").stdout)["attempts"]
    assert {name: attempt[name] for name in told} == told
    size = format_size(ended["end"])
    assert f"drained    end {size}, gave back {size}" in result.stderr
    assert re.search(rf"^  a  .* {size} +{size} +[\d.]+ .iB$", result.stderr, re.MULTILINE)
    assert "gave back" in seqsup("status", "-v").stdout
    assert "gave back" not in seqsup("status").stdout


def test_leftover_processes_count_in_what_an_agent_gave_back(seqsup: Seqsup, tmp_path: Path) -> None:
    """The agent is small and exits while its child grows."""
    child = f"import os, time; held = b'x' * {64 * MIB}; open('grown', 'w').close(); time.sleep(60)"
    leaves = agent(
        "a",
        _python(
            f"import os, subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', {child!r}])\n"
            "while not os.path.exists('grown'): time.sleep(0.01)"
        ),
    )
    (drained,) = of(proven(seqsup("start", write(tmp_path, leaves), "--json")), "drained")
    assert 64 * MIB <= drained["gave_back"] < 120 * MIB


def test_a_process_that_may_outlive_its_agent_gave_nothing_back(seqsup: Seqsup, tmp_path: Path) -> None:
    child = f"import os, time; held = b'x' * {64 * MIB}; open('grown', 'w').write(str(os.getpid())); time.sleep(60)"
    leaves = agent(
        "a",
        _python(
            f"import os, subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', {child!r}, 'stays'])\n"
            "while not os.path.exists('grown'): time.sleep(0.01)\n"
            "time.sleep(0.3)"
        ),
        drain={"allow": ["stays"]},
    )
    (drained,) = of(proven(seqsup("start", write(tmp_path, leaves), "--json")), "drained")
    os.kill(int((tmp_path / "grown").read_text()), signal.SIGKILL)
    assert drained["end"] >= 64 * MIB
    assert drained["gave_back"] < 40 * MIB


def test_memory_of_companions_is_reported_before_each_agent(seqsup: Seqsup, tmp_path: Path) -> None:
    mcp = {"name": "mcp", "command": _python(f"{HELD}; open('ready', 'w').close(); time.sleep(60)")}
    profile = write(
        tmp_path, shell("a", "while [ ! -e ready ]; do sleep 0.01; done"), shell("b", "true"), companions=[mcp]
    )
    (_, second) = of(proven(seqsup("start", profile, "--json")), "attempt_started")
    assert 64 * MIB <= second["companions_before"] < 100 * MIB
