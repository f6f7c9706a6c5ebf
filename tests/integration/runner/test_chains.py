"""Chains: what happens between them, and a supervisor that begins anew in the middle of a run and loses nothing."""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from helpers.command_line import Result, Started, as_in_a_terminal
from helpers.monitoring import free_port, up
from helpers.paths import ROOT, STUBS
from helpers.profiles import Event, agent, of, parsed, proven, shell, write
from helpers.waiting import alive, wait_for
from seqsup.containment import memory_files
from seqsup.policy import resources
from seqsup.units import MIB, format_size

Seqsup = Callable[..., Result]
Stub = Callable[..., list[str]]
SERVES = {"name": "mcp", "command": ["sh", "-c", "echo ready; exec sleep 60"], "ready": {"log": "ready"}}


def agents(number: int, script: str = "echo {} >>done") -> list[dict[str, Any]]:
    return [shell(name, script.format(name)) for name in "abcdefghij"[:number]]


def of_chain(size: int) -> dict[str, Any]:
    return {"run": {"chain": size}}


@pytest.mark.parametrize(
    ("own", "first", "due"),
    [(40, 35, False), (63, 35, False), (65, 35, True), (65, 60, False), (90, 60, False), (91, 60, True)],
)
def test_a_supervisor_begins_anew_when_it_has_grown_by_half_and_is_large(own: int, first: int, due: bool) -> None:
    assert resources.renewal_due(own * MIB, first * MIB) is due


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


def test_a_chain_whose_memory_does_not_come_back_says_so_and_does_what_the_profile_wants(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    drain = {"threshold": "1MiB", "timeout": "200ms", "on_timeout": "continue"}
    last = shell("z", "true", drain={"on_timeout": "stop"})  # its drain is the one that holds before it
    events = proven(seqsup("start", write(tmp_path, *agents(4), last, drain=drain, **of_chain(2)), "--json"))
    assert [end["reached"] for end in of(events, "chain_ended")] == [False, False]
    assert "this run still owns" in of(events, "chain_ended")[0]["why"]
    assert (events[-1]["exit_code"], events[-1]["completed"]) == (4, 4)
    assert events[-1]["why"].startswith("memory did not drain after chain 2: this run still owns")


@pytest.mark.memory
@pytest.mark.long
def test_the_demonstration_goes_on_though_another_program_takes_memory_meanwhile(
    seqsup_started: Callable[..., Started],
) -> None:
    demo = seqsup_started("start", ROOT / "profiles" / "demo.toml", "--json")
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


def test_what_agents_left_in_memory_is_named_where_it_is_missed(seqsup: Seqsup, tmp_path: Path) -> None:
    """Also where no process holds it any more: a file in a tmpfs, a System V segment."""
    if not Path("/dev/shm").is_mount():
        pytest.skip("no tmpfs at /dev/shm")
    file, old = (Path("/dev/shm") / f"seqsup-test-{secrets.token_hex(8)}" for _ in range(2))
    old.write_bytes(bytes(9 * MIB))
    segment = (
        "import ctypes; c = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p;"
        f" n = c.shmget(0, {9 * MIB}, 0o1600); at = ctypes.c_void_p(c.shmat(n, None, 0));"
        f" ctypes.memset(at, 1, {9 * MIB}); print(n)"
    )
    drain = {"available": psutil.virtual_memory().total, "timeout": "100ms", "on_timeout": "continue"}
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
    assert f", of {format_size(drain['available'])} that must be back; in memory since the run began" in first["why"]
    for each in (first, *others):
        assert f"{file} 10 MiB" in each["why"]
        assert str(old) not in each["why"]
    for each in others:
        assert f"System V segment {number} 9 MiB" in each["why"]


def test_who_looks_for_files_in_memory_does_not_look_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 33,000 files in /dev/shm the supervisor watched nobody for six seconds, nor heard a Ctrl-C."""
    for name in ("deep/er/file", "other/file"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(2 * MIB))
    mounts = {str(tmp_path): "memory_files", str(tmp_path / "other"): "ext4"}
    monkeypatch.setattr(memory_files, "_mounts", lambda: mounts)
    assert str(tmp_path / "deep/er/file") in memory_files.kept_since(0)
    assert str(tmp_path / "other/file") not in memory_files.kept_since(0)
    monkeypatch.setattr(memory_files, "_LONGEST", -1)
    assert str(tmp_path / "deep/er/file") not in memory_files.kept_since(0)


def test_the_plan_tells_of_a_chain_that_is_longer_than_advised(seqsup: Seqsup, tmp_path: Path) -> None:
    said = "in chains of more than 5 agents what companions leak adds up"
    assert said in " ".join(seqsup("plan", write(tmp_path, *agents(10), **of_chain(10))).stdout.split())
    assert said not in " ".join(seqsup("plan", write(tmp_path, *agents(10), **of_chain(5))).stdout.split())


def renewing(
    *args: object, env: Mapping[str, str] = MappingProxyType({}), through: Sequence[str] = ()
) -> subprocess.Popen[str]:
    with as_in_a_terminal():
        return subprocess.Popen(
            [*through, sys.executable, str(STUBS / "renews.py"), *map(str, args)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), **env},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip


def renewed(*args: object, env: Mapping[str, str] = MappingProxyType({})) -> Result:
    run = renewing(*args, env=env)
    stdout, stderr = run.communicate(timeout=90)
    return Result(run.returncode, stdout, stderr)


def test_a_renewed_supervisor_goes_on_where_it_was(seqsup: Seqsup, tmp_path: Path, stub: Stub) -> None:
    """Same run, pid, locks and order; agents known as ended; what was let go lives on; nothing is left over."""
    lives = " ".join(stub("orphans"))
    path = write(
        tmp_path,
        shell("a", f"echo $PPID >>parents; {lives} | tee orphan; echo a >>done"),
        *[shell(name, f"echo $PPID >>parents; echo {name} >>done") for name in "bc"],
        shell("d", "exit 3"),
        shell("e", "echo e >>done", needs=["d"]),
        shell("f", "echo '{summary:c}' >>done; cat $SEQSUP_PREVIOUS_SUMMARIES >told"),
        companions=[SERVES],
        run={"chain": 2, "on_failure": "continue"},
        drain={"allow": ["orphans.py"]},
    )
    result = renewed("start", path, "--json")
    assert result.code == 1, result.stderr
    events = proven(result)
    assert (tmp_path / "done").read_text().split() == ["a", "b", "c"]
    assert len(of(events, "run_started")) == 1
    assert len(of(events, "supervisor_renewed")) == 2
    reasons = [event["reason"] for event in of(events, "companion_stopped")]
    assert reasons == ["supervisor", "supervisor", "run-ended"]
    assert [event["reason"] for event in of(events, "companion_restarted")] == ["supervisor", "supervisor"]
    headings = [line for line in (tmp_path / "told").read_text().splitlines() if line.startswith("#")]
    assert headings == ["## a"]  # the others printed nothing
    assert len(set((tmp_path / "parents").read_text().split())) == 1
    last = events[-1]
    assert (last["completed"], last["gave_up"], last["skipped"], last["not_run"]) == (4, 1, 1, 0)
    assert len({event["folder"] for event in of(events, "companion_started")}) == 3
    orphan = int((tmp_path / "orphan").read_text().split()[1])
    assert alive(orphan)
    os.kill(orphan, signal.SIGKILL)
    shown = json.loads(seqsup("runs", "--json").stdout)["runs"]
    assert [run["state"] for run in shown] == ["failed"]


def test_a_renewed_supervisor_holds_its_turn_and_hears_who_stops_it(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    wait = "touch {0}; while [ ! -e go ]; do sleep 0.02; done"
    path = write(tmp_path, *agents(2, "true"), *[shell("last", wait.format("last"))], **of_chain(1))
    run = renewing("start", path)
    try:
        wait_for(lambda: (tmp_path / "last").exists(), 60)
        refused = seqsup("start", path, "--no-wait")
        assert refused.code == 3
        assert f"pid {run.pid}" in refused.stderr
        assert json.loads(seqsup("status", "--json").stdout)["state"] == "running"
        run.send_signal(signal.SIGTERM)
        assert run.wait(40) == 143
    finally:
        run.kill()
        run.communicate()


def test_what_an_agent_said_last_is_handed_on_before_a_renewal(tmp_path: Path) -> None:
    last = "i=0; while [ $i -lt 2000 ]; do echo {} $i; i=$((i+1)); done"
    path = write(tmp_path, *agents(3, last), **of_chain(1))
    result = renewed("start", path, "--follow")
    assert result.code == 0, result.stderr
    for name in "abc":
        assert f"{name} | {name} 1999\n" in result.stdout + result.stderr


@pytest.mark.parametrize("listen", [False, True], ids=["", "metrics"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_wish_that_meets_a_renewal_is_not_lost(tmp_path: Path, signum: signal.Signals, listen: bool) -> None:
    """It comes when the renewal is decided, and before the fresh image listens."""
    more = {"metrics": {"listen": "127.0.0.1:0"}} if listen else {}
    path = write(tmp_path, *agents(3), **of_chain(1), **more)
    result = renewed("start", path, "--json", env={"WISHED": str(int(signum))})
    assert result.code == 128 + (signal.SIGTERM if signum is signal.SIGTERM else signal.SIGINT), result.stderr
    assert (tmp_path / "done").read_text().split() == ["a"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_wish_is_for_the_run_and_for_none_of_its_threads(tmp_path: Path, signum: signal.Signals) -> None:
    """One that waits for a silent reader of the figures would take it, and be gone with the old image."""
    port = free_port()
    waits = "while [ ! -e read ]; do sleep 0.02; done; echo {} >>done"
    path = write(tmp_path, *agents(3, waits), metrics={"listen": f"127.0.0.1:{port}"}, **of_chain(1))
    run = renewing("start", path, env={"LATE": str(int(signum))})
    try:
        wait_for(lambda: up(f"http://127.0.0.1:{port}/metrics"))
        with socket.create_connection(("127.0.0.1", port)):
            wait_for(lambda: psutil.Process(run.pid).num_threads() > 2)
            (tmp_path / "read").touch()
            _, stderr = run.communicate(timeout=60)
        assert run.returncode == 128 + (signal.SIGTERM if signum is signal.SIGTERM else signal.SIGINT), stderr
        assert (tmp_path / "done").read_text().split() == ["a"], stderr
    finally:
        run.kill()


def test_a_port_that_is_taken_while_it_begins_anew_is_no_reason_to_give_up_half_way(tmp_path: Path) -> None:
    listen = {"listen": f"127.0.0.1:{(port := free_port())}", "required": True}
    path = write(tmp_path, *agents(3), metrics=listen, **of_chain(1))
    result = renewed("start", path, "--json", env={"STOLEN": str(port)})
    assert result.code == 0, result.stderr
    assert (tmp_path / "done").read_text().split() == ["a", "b", "c"]
    assert "the run goes on, and serves figures once" in of(proven(result), "warned")[0]["message"]


def test_where_python_was_removed_meanwhile_it_goes_on_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, *agents(3), **of_chain(1))
    result = renewed("start", path, "--json", env={"GONE": "1"})
    assert result.code == 0, result.stderr
    events = proven(result)
    assert not of(events, "supervisor_renewed")
    assert [each["message"].endswith(".gone is gone") for each in of(events, "warned")] == [True, True]


def test_who_is_deaf_even_to_kill_is_not_forgotten_by_a_renewal(seqsup: Seqsup, stub: Stub, tmp_path: Path) -> None:
    (hung := tmp_path / "hung").mkdir()
    path = write(
        tmp_path,
        agent("a", stub("flees", "hung", hung / "file"), timeouts={"wall": "300ms", "grace": "100ms"}),
        shell("b", "true"),
        shell("c", "true"),
        run={"chain": 1, "on_failure": "continue"},
        drain={"timeout": "200ms", "on_timeout": "continue"},
    )
    through = [sys.executable, str(STUBS / "hung_mount.py"), str(hung)]
    run = renewing("start", path, env={"UNKILLABLE": "1"}, through=through)
    try:
        ended = wait_for(lambda: run.poll() == 77 or of(parsed(seqsup("events").stdout), "run_ended"), 60)
        if ended is True:
            pytest.skip("no hung mount can be made here")
        events = parsed(seqsup("events").stdout)
        (unkillable,) = of(events, "unkillable")
        (pid,) = [process["pid"] for process in unkillable["processes"]]
        assert alive(pid)
        assert len(of(events, "supervisor_renewed")) == 2
        assert all(f"pid {pid} took SIGKILL" in drained["why"] for drained in of(events, "drained"))
        assert any(f"still there after SIGKILL: pid {pid}" in event["message"] for event in of(events, "warned"))
        assert "left" in seqsup("sweep", "--dry-run").stdout
    finally:
        run.send_signal(signal.SIGUSR1)
        run.communicate(timeout=60)


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.2, 0.3])
def test_killed_around_its_renewal_nothing_is_lost(seqsup: Seqsup, tmp_path: Path, moment: float) -> None:
    path = write(tmp_path, *agents(4), companions=[SERVES], **of_chain(1))
    run = renewing("start", path, "--json")
    wait_for(lambda: (tmp_path / "done").exists(), 60)
    time.sleep(moment)  # somewhere around the first renewal
    run.kill()
    run.communicate()
    assert seqsup("sweep").code == 0
    result = seqsup("start", path, "--resume", "--json")
    assert result.code == 0, result.stderr
    ended: list[Event] = parsed(seqsup("events").stdout)
    assert {event["agent"] for event in of(ended, "attempt_ended") if event["ok"]} == set("abcd")
    assert parsed(result.stdout)[-1]["sequence_violations"] == 0


def test_a_forged_variable_leads_nowhere(seqsup: Seqsup, tmp_path: Path) -> None:
    refused = seqsup("start", write(tmp_path, *agents(1)), env={"SEQSUP_RENEWED": "99"})
    assert refused.code == 2
    assert "unset it" in refused.stderr


def test_what_another_version_left_for_itself_is_told(tmp_path: Path) -> None:
    """seqsup was upgraded while a run went on."""
    with TemporaryFile() as packet:
        packet.write(b'{"plan": {}}')
        packet.flush()
        fresh = subprocess.run(
            [sys.executable, "-m", "seqsup", "start", "x.toml"], pass_fds=[packet.fileno()], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "SEQSUP_RENEWED": str(packet.fileno())},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert fresh.returncode == 2
    assert "--resume" in fresh.stderr
    assert "Traceback" not in fresh.stderr
