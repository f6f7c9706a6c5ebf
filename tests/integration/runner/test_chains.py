"""Chains: what happens between them."""

import ctypes
import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import agent, of, parsed, proven, shell, write
from helpers.waiting import wait_for
from seqsup.containment import memory_files, proc_text
from seqsup.containment.proc_text import Mount
from seqsup.units import MIB, format_size

Seqsup = Callable[..., Result]
Stub = Callable[..., list[str]]
SERVES = {"name": "mcp", "command": ["sh", "-c", "echo ready; exec sleep 60"], "ready": {"log": "ready"}}


def agents(number: int, script: str = "echo {} >>done") -> list[dict[str, Any]]:
    return [shell(name, script.format(name)) for name in "abcdefghij"[:number]]


def of_chain(size: int) -> dict[str, Any]:
    return {"run": {"chain": size}}


def test_run_warns_once_of_a_supervisor_that_grew(tmp_path: Path, seqsup: Seqsup) -> None:
    grown = tmp_path / "grown.py"
    grown.write_text(
        "import sys\nfrom seqsup.cli import app\nfrom seqsup.policy import resources\n"
        "resources.supervisor_grew = lambda own, first: True\nsys.exit(app.main(sys.argv[1:]))\n"
    )
    path = write(tmp_path, *agents(3), **of_chain(1))
    run = subprocess.run([sys.executable, grown, "start", path, "--json"], capture_output=True, text=True, check=True)
    (warned,) = of(parsed(run.stdout), "warned")
    assert re.fullmatch(r"the supervisor grew from .*B to .*B: please report this", warned["message"])


def test_between_chains_companions_restart_memory_is_back_and_hooks_run(seqsup: Seqsup, tmp_path: Path) -> None:
    hook = "sh -c 'cat >>told; echo chain_end >>done'"
    path = write(
        tmp_path,
        *agents(5),
        companions=[SERVES],
        hooks={"chain_end": [hook]},
        drain={"available": "1MiB"},
        **of_chain(2),
    )
    events = proven(seqsup("start", path, "--json"))
    assert (tmp_path / "done").read_text().split() == ["a", "b", "chain_end", "c", "d", "chain_end", "e"]
    ends = of(events, "chain_ended")
    assert [(end["chain"], end["agents"], end["reached"]) for end in ends] == [(1, 2, True), (2, 2, True)]
    assert all(end["baseline"] > end["owned"] > 0 for end in ends)
    assert [event["reason"] for event in of(events, "companion_restarted")] == ["every-n", "every-n"]
    for end in ends:
        before = [event["event"] for event in events if event["seq"] < end["seq"]]
        assert before.count("companion_ready") == before.count("companion_stopped") + 1
    assert [json.loads(line)["event"] for line in (tmp_path / "told").read_text().splitlines()] == ["chain_ended"] * 2


def test_a_run_of_one_chain_has_no_such_end(seqsup: Seqsup, tmp_path: Path) -> None:
    assert of(proven(seqsup("start", write(tmp_path, *agents(5), **of_chain(5)), "--json")), "chain_ended") == []


def test_chain_whose_memory_is_not_freed_is_reported_and_acts_as_the_profile_says(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    drain = {"threshold": "1MiB", "timeout": "200ms", "on_timeout": "continue"}
    last = shell("z", "true", drain={"on_timeout": "stop"})  # its drain is the one that holds before it
    events = proven(seqsup("start", write(tmp_path, *agents(4), last, drain=drain, **of_chain(2)), "--json"))
    assert [end["reached"] for end in of(events, "chain_ended")] == [False, False]
    assert "the run still uses" in of(events, "chain_ended")[0]["why"]
    assert (events[-1]["exit_code"], events[-1]["completed"]) == (4, 4)
    assert events[-1]["why"].startswith("memory did not drain after chain 2: the run still uses")


@pytest.mark.memory
@pytest.mark.long
def test_demo_continues_though_another_program_uses_memory_meanwhile(
    seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    demo = seqsup_started("start", tmp_path / "profiles" / "demo.toml", "--json")
    wait_for(lambda: '"spawned"' in demo.stdout)
    holds = f"held = b'x' * {400 * MIB}; print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        ended = demo.wait(90)
        other.kill()
    assert ended.code == 0
    [chain] = of([json.loads(line) for line in ended.stdout.splitlines()], "chain_ended")
    assert not chain["reached"]


def test_files_that_agents_left_in_memory_are_named_when_memory_is_missing(seqsup: Seqsup, tmp_path: Path) -> None:
    """Also memory without a process: a file in a tmpfs, a System V segment."""
    if not Path("/dev/shm").is_mount():
        pytest.skip("no tmpfs at /dev/shm")
    file, old = (Path("/dev/shm") / f"seqsup-test-{secrets.token_hex(8)}" for _ in range(2))
    old.write_bytes(bytes(9 * MIB))
    segment = (
        "import ctypes; c = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p;"
        f" n = c.shmget(0, {9 * MIB}, 0o1600); at = ctypes.c_void_p(c.shmat(n, None, 0));"
        f" ctypes.memset(at, 1, {9 * MIB}); print(n)"
    )
    total = psutil.virtual_memory().total
    drain = {"available": total, "timeout": "100ms", "on_timeout": "continue"}
    path = write(
        tmp_path, shell("a", f"head -c {10 * MIB} /dev/zero >{file}"), agent("b", [sys.executable, "-c", segment]),
        shell("c", "true"), drain=drain, **of_chain(2),
    )  # fmt: skip
    try:
        events = proven(seqsup("start", path, "--json"))
        number = seqsup("logs", "b").stdout.strip()
    finally:
        file.unlink()
        old.unlink()
    ctypes.CDLL(None).shmctl(int(number), 0, None)
    first, *others = of(events, "drained", "chain_ended")
    assert f"waiting for {format_size(total)} (drain.available); files in memory since the run began" in first["why"]
    for each in (first, *others):
        assert f"{file} 10 MiB" in each["why"]
        assert str(old) not in each["why"]
    for each in others:
        assert f"System V segment {number} 9 MiB" in each["why"]


def test_search_for_files_in_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 33,000 files in /dev/shm the supervisor neither watched nor heard Ctrl-C for six seconds."""
    for name in ("deep/er/file", "other/file"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(2 * MIB))
    kinds = {tmp_path: "tmpfs", tmp_path / "other": "ext4"}
    mounts = [Mount("0:1", "/", str(where), kind, ()) for where, kind in kinds.items()]
    monkeypatch.setattr(proc_text, "mounts", lambda: mounts)
    assert str(tmp_path / "deep/er/file") in memory_files.kept_since(0)
    assert str(tmp_path / "other/file") not in memory_files.kept_since(0)
    monkeypatch.setattr(memory_files, "_LONGEST", -1)
    assert str(tmp_path / "deep/er/file") not in memory_files.kept_since(0)


def test_the_plan_tells_of_a_chain_that_is_longer_than_advised(seqsup: Seqsup, tmp_path: Path) -> None:
    said = "companions run longer before they restart"
    assert said in " ".join(seqsup("plan", write(tmp_path, *agents(10), **of_chain(10))).stdout.split())
    assert said not in " ".join(seqsup("plan", write(tmp_path, *agents(10), **of_chain(5))).stdout.split())
