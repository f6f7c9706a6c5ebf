"""Nothing gets away: every way out of a tree, in every tier that this machine has, through the real command line.

Each case prints how long its end took; nothing is asserted of that.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from helpers.command_line import MARK, Result, Started
from helpers.paths import STUBS
from helpers.profiles import Event, agent, of, parsed, write
from helpers.tiers import BEST, PATIENCE, TIERS, WEAKEST, environment, kept_by
from helpers.waiting import alive, wait_for

Cli = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]

CASES: dict[str, tuple[str, list[object]]] = {
    **{kind: ("flees", [kind]) for kind in (
        "fork", "double-fork", "setsid", "closed", "env-i", "zeroed", "renamed", "setuid", "subreaper", "vfork",
        "deaf", "stopped", "headless",
    )},
    "detached": ("detaches", []),
    "thread": ("works_in_thread", []),
    "elsewhere": ("elsewhere", [sys.executable, STUBS / "flees.py", "setsid"]),
    "bomb-tree": ("fork_bomb", ["tree", 200]),
    "bomb-setsid": ("fork_bomb", ["setsid", 200]),
    "bomb-comet": ("fork_bomb", ["comet", 200]),
}  # fmt: skip
# Processes of a bomb where 200 are too many: where all cases follow each other, as they keep a machine busy while they
# grow; without a group, as on a busy machine it takes over ten seconds to kill them; emulated, as they burn out first
QUICK = 40
STAYS = {"thread", "detached"}  # --stay is their word for what is the rule with the others
NEEDS_ROOT = {"setuid"}
ALONE = pytest.mark.memory  # beside other tests a bomb burns out, or outruns a watcher


@pytest.fixture(autouse=True)
def user_manager(test_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let systemd's user manager be found where it is; the other tests have a runtime folder of their own."""
    if (real := Path(f"/run/user/{os.geteuid()}")).is_dir():
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(real))


def command(stub: Stub, case: str, tier: str, *, leaves: bool) -> list[str]:
    name, args = CASES[case]
    if name == "fork_bomb" and (leaves or tier == WEAKEST or "SEQSUP_GUEST" in os.environ):
        args = [args[0], QUICK]
    if case == "thread":
        return stub(name)
    ending = ("--leave",) if leaves else ()
    if case in STAYS:
        ending = () if leaves else ("--stay",)
    return stub(name, *args, *ending)


def named(output: str) -> list[int]:
    word, *pids = output.split() or [""]
    assert word == "ready", output
    return [int(pid) for pid in pids]


def survivors(test_id: str) -> Iterator[str]:
    """Yield the processes with the test's mark, in the environment or, where that was cleared, as an argument."""
    marks = f"{MARK}={test_id}\0".encode(), f"--seqsup-test={test_id}\0".encode()
    for pid in psutil.pids():
        if pid == os.getpid() or not alive(pid):
            continue
        try:
            told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if any(mark in told for mark in marks):
            yield f"{pid} {told[-200:]!r}"


def nobody_survives(test_id: str, pids: list[int]) -> None:
    """Killed processes may still be exiting in the kernel, and no parent waits for them: give them a moment."""
    left: list[str] = []

    def gone() -> bool:
        left[:] = [*survivors(test_id), *(str(pid) for pid in pids if alive(pid))]
        return not left

    ends = time.monotonic() + 30
    while not gone() and time.monotonic() < ends:
        time.sleep(0.01)
    assert left == []


def took(tier: str, case: str, how: str, seconds: float) -> None:
    print(f"{tier:34} {case:14} {how:8} {seconds * 1000:7.0f} ms")


@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("tier", [BEST, WEAKEST])
def test_escaped_process_is_stopped_after_its_leader_exits_one_agent_after_another(
    seqsup: Cli, stub: Stub, tmp_path: Path, test_id: str, tier: str
) -> None:
    cases = [case for case in CASES if case != "thread" and not (case in NEEDS_ROOT and os.geteuid())]
    agents = [agent(case, command(stub, case, tier, leaves=True), timeouts={"grace": "300ms"}) for case in cases]
    result = seqsup("start", write(tmp_path, *agents), "--json", env=environment(tier), deadline=2 * PATIENCE)
    events = parsed(result.stdout)
    print(f"{tier}: {kept_by(tier, events)}")
    ended = {event["agent"]: event for event in of(events, "attempt_ended")}
    assert {case: event["reason"] for case, event in ended.items()} == dict.fromkeys(cases, "completed")
    pids: list[int] = []
    for case in cases:
        escaped = named(output(case).read_text())
        assert escaped or "bomb" in case
        assert set(escaped) <= {process["pid"] for process in ended[case]["left_over"]}, case
        pids += escaped
        (drained,) = (event for event in of(events, "drained") if event["agent"] == case)
        assert not drained["strays"], "found by the mark only"
        took(tier, case, "leaves", span(events, case))
    assert not of(events, "unkillable")
    nobody_survives(test_id, pids)


def output(case: str) -> Path:
    return Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", case, "1", "stdout.log")


def span(events: list[Event], case: str) -> float:
    """From TERM to the leftovers, to the end of the last of them."""
    times = [stamp(event) for event in of(events, "stop_sent", "attempt_ended") if event["agent"] == case]
    return max(times) - min(times)


def stamp(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def fled(run: Started, case: str) -> list[int]:
    """Wait until they have."""
    said = output(case)
    wait_for(lambda: run.process.poll() is not None or (said.exists() and "\n" in said.read_text()), PATIENCE)
    if run.process.poll() == 77:
        pytest.skip(run.stderr.strip())
    assert run.process.poll() is None, run.stderr
    return named(said.read_text())


def told(run: Started, kind: str) -> list[Event]:
    return of(parsed(run.stdout.rpartition("\n")[0]), kind)


@pytest.mark.long
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("case", [pytest.param(case, marks=ALONE if "bomb" in case else ()) for case in CASES])
@pytest.mark.parametrize("tier", TIERS)
def test_escaped_process_is_stopped_with_a_leader_that_holds(
    seqsup_started: Start, stub: Stub, tmp_path: Path, test_id: str, tier: str, case: str
) -> None:
    if case in NEEDS_ROOT and os.geteuid():
        pytest.skip("only root can make a setuid copy of another user's")
    words = command(stub, case, tier, leaves=False)
    profile = write(tmp_path, agent(case, words, timeouts={"grace": "300ms"}))
    run = seqsup_started("start", profile, "--json", env=environment(tier))
    pids = fled(run, case)
    kept_by(tier, parsed(run.stdout.rpartition("\n")[0]))
    began = time.monotonic()
    run.send(signal.SIGTERM)
    result = run.wait(PATIENCE)
    took(tier, case, "stopped", time.monotonic() - began)
    assert result.code == 128 + signal.SIGTERM, result.stderr
    assert not told(run, "unkillable")
    nobody_survives(test_id, pids)


# -- uninterruptible sleep


@pytest.mark.parametrize("tier", [BEST, pytest.param(WEAKEST, marks=pytest.mark.long)])
def test_process_deaf_to_sigkill_is_reported_awaited_and_not_forgotten(
    seqsup: Cli, seqsup_started: Start, stub: Stub, tmp_path: Path, test_id: str, tier: str
) -> None:
    """A server that takes a request and never answers holds its client asleep in the kernel, SIGKILL or not."""
    (hung := tmp_path / "hung").mkdir()
    flees = stub("flees", "hung", hung / "file")
    through = [sys.executable, str(STUBS / "hung_mount.py"), str(hung)]
    once = {"timeout": "500ms", "on_timeout": "continue"}
    profile = write(tmp_path, agent("hung", flees, timeouts={"grace": "300ms"}), drain=once)
    run = seqsup_started("start", profile, "--json", env=environment(tier), through=through)
    (pid,) = fled(run, "hung")
    run.send(signal.SIGTERM)
    (unkillable,) = wait_for(lambda: told(run, "unkillable"), PATIENCE)
    assert [process["pid"] for process in unkillable["processes"]] == [pid]
    assert f"pid {pid} (python" in unkillable["why"]
    assert "in uninterruptible sleep" in unkillable["why"]
    (drained,) = wait_for(lambda: told(run, "drained"), PATIENCE)
    assert not drained["reached"]
    assert f"pid {pid} is still running after SIGKILL" in drained["why"]
    wait_for(lambda: told(run, "run_ended"), PATIENCE)
    assert any(f"pid {pid} survived SIGKILL" in event["message"] for event in told(run, "warned"))
    assert "left" in seqsup("sweep", "--dry-run").stdout
    run.send(signal.SIGUSR1)
    wait_for(lambda: not alive(pid))
    assert run.wait().code == 128 + signal.SIGTERM
    seqsup("sweep")
    assert "Nothing to clean up" in seqsup("sweep", "--dry-run").stdout
    nobody_survives(test_id, [pid])
