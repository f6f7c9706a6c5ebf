"""Nothing overshoots: every way to take memory, in every tier that this machine has, through the real command line."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.command_line import Result, Started
from helpers.paths import STUBS
from helpers.profiles import agent, of, proven, write
from helpers.tiers import BEST, LIMITING, PATIENCE, TIERS, WEAKEST, environment, kept_by
from helpers.waiting import alive, wait_for
from seqsup.containment.cgroup.group import backstop
from seqsup.units import MIB

pytestmark = pytest.mark.memory

Cli = Callable[..., Result]
Stub = Callable[..., list[str]]

HARD = 256 * MIB
TAKEN = 700  # MiB; no agent gets that far
FITS = 150  # MiB; shared by three, it fits when it is counted once
# Until all three have it, and once more as long as a watch may sleep
SHARED_FOR_A_WHILE = """
"$@" >said & until [ "$(grep -o ready said | wc -l)" = 3 ]; do sleep 0.1; done; sleep 2; kill $!
"""
FAST = ("pages", "huge", "ten", "grandchild", "shared")
IN_NODE = ("buffers", "objects", "strings")
WIDTH = [BEST, WEAKEST, *(pytest.param(tier, marks=pytest.mark.long) for tier in TIERS if tier != WEAKEST)]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A file in a tmpfs."""
    path = Path("/dev/shm") / f"seqsup-test-{secrets.token_hex(8)}"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def user_manager(test_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let systemd's user manager be found where it is; the other tests have a runtime folder of their own."""
    if (real := Path(f"/run/user/{os.geteuid()}")).is_dir():
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(real))


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("tier", WIDTH)
def test_agent_above_its_limit_is_killed_and_no_other_process(
    seqsup: Cli, stub: Stub, tmp_path: Path, in_memory: Path, tier: str
) -> None:
    too_much = {kind: stub("hoards", kind, TAKEN) for kind in FAST}
    too_much |= {kind: ["node", str(STUBS / "hoards.mjs"), kind, str(TAKEN)] for kind in IN_NODE}
    too_much |= {f"elsewhere-{kind}": stub("elsewhere", *stub("hoards", kind, TAKEN)) for kind in ("pages", "shared")}
    kept = kept_by(
        tier, proven(seqsup("start", write(tmp_path, agent("one", ["true"])), "--json", env=environment(tier)))
    )
    if kept in LIMITING:  # without a cgroup, a tmpfs file that no process maps is not seen
        too_much["tmpfs"] = stub("hoards", "tmpfs", TAKEN, in_memory)
    well = {"shared-once": ["sh", "-c", SHARED_FOR_A_WHILE, "sh", *stub("hoards", "shared", FITS)]}
    if on_disk(tmp_path):
        well["page-cache"] = stub("hoards", "cache", 400, tmp_path / "large")
    profile = write(
        tmp_path, *(agent(name, command) for name, command in {**well, **too_much}.items()),
        run={"on_failure": "continue"}, memory={"hard": HARD, "soft": "none", "warn": "none"},
        node={"max_old_space_size": "none"},
    )  # fmt: skip
    result = seqsup("start", profile, "--json", env=environment(tier), deadline=3 * PATIENCE)
    events = proven(result)
    ended = {event["agent"]: event for event in of(events, "attempt_ended")}
    in_memory.unlink(missing_ok=True)
    for name, event in ended.items():
        print(f"{tier:34} {name:12} {event['reason']:10} peak {event['peak'] / MIB:6.1f} MiB  {event['why']}")
    assert {name: ended[name]["reason"] for name in well} == dict.fromkeys(well, "completed")
    for name in ended.keys() - well.keys():
        event = ended[name]
        assert event["reason"] in (("hard", "kernel-oom") if kept in LIMITING else ("hard",)), (name, event["why"])
        assert event["peak"] >= (HARD if event["reason"] == "hard" else 0.9 * HARD), name
        if kept in LIMITING and not name.startswith("elsewhere"):  # there no kernel holds it
            assert event["peak"] <= backstop(HARD), name
    if "shared-once" in ended:
        assert FITS * MIB * 0.9 <= ended["shared-once"]["peak"] < HARD


@pytest.mark.timeout(2 * PATIENCE)
def test_process_that_the_kernel_killed_is_named_and_its_figures_are_shown_once(
    seqsup_started: Callable[..., Started], stub: Stub, tmp_path: Path
) -> None:
    script = '"$@" $PPID; exit $?'  # if the kernel kills one process only, the shell is there to report it
    profile = write(
        tmp_path, agent("one", ["sh", "-c", script, "sh", *stub("outruns")]),
        memory={"hard": 64 * MIB, "soft": "none", "warn": "none"},
    )  # fmt: skip
    run = seqsup_started("start", profile)
    folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1")
    wait_for(lambda: "started" in run.stderr, PATIENCE)
    if not any(f"in {kept}\n" in run.stderr for kept in LIMITING):
        pytest.skip("no kernel keeps a limit here")

    def told(file: str) -> str:
        return (folder / file).read_text() if (folder / file).exists() else ""

    pid = int(wait_for(lambda: told("one/1/stdout.log"), PATIENCE).split()[1])
    wait_for(lambda: "outruns" in told("memory.ndjson"), PATIENCE)
    os.kill(pid, signal.SIGUSR1)
    wait_for(lambda: not alive(pid), PATIENCE)
    run.send(signal.SIGCONT)
    log, _, table = run.wait(PATIENCE).stderr.partition("nightly  0 of 1")
    for said in (log, table):
        assert " ".join(said.split()).count("(gone since the last look: python outruns.py") == 1, said
    assert re.search(rf"^ +{pid} +4\d MiB +python outruns.py$", told("one/1/forensics.txt"), re.MULTILINE)


LOCKS = """
import sqlite3, sys, time
journal = sqlite3.connect(sys.argv[1], isolation_level=None)
journal.execute("BEGIN IMMEDIATE")
held = []
while sum(map(len, held)) < int(sys.argv[2]):
    held.append(bytes(1 << 20).replace(b"\\0", b"x"))
    time.sleep(0.002)
time.sleep(60)
"""


def test_agent_that_keeps_the_journal_locked_is_still_killed_at_the_limit(seqsup: Cli, tmp_path: Path) -> None:
    locks = [sys.executable, "-c", LOCKS, Path(os.environ["SEQSUP_STATE_DIR"], "journal.db"), TAKEN * MIB]
    limits = {"hard": HARD, "soft": "none", "warn": 64 * MIB, "enforce": "watch"}
    events = proven(seqsup("start", write(tmp_path, agent("one", locks), memory=limits), "--json"))
    ended = of(events, "attempt_ended")[0]
    assert ended["reason"] == "hard"
    assert HARD <= ended["peak"] < HARD * 1.2
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def on_disk(folder: Path) -> bool:
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout
    return kind.strip() not in ("tmpfs", "ramfs")
