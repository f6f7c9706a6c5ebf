"""kill -9 of the supervisor at every event of a run: nothing lives on, nothing is lost, nothing done is done again."""

import json
import os
import shlex
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from helpers.command_line import Result, Started
from helpers.crashes import ONCE, bodies, completed, journal, killed, kinds, ledger, running
from helpers.profiles import shell, write
from helpers.tiers import WEAKEST
from helpers.waiting import alive, wait_for
from seqsup.containment.cgroup.files import run_name
from seqsup.model.events import AttemptEnded, AttemptLost, AttemptStarted, LeaderEnded, RunEnded, RunStarted
from seqsup.model.history import fold
from seqsup.state.journal import DURABLE as REACH_THE_DISK

Seqsup = Callable[..., Result]
Stub = Callable[..., list[str]]

AGENTS = ("one", "orphans", "twice", "env")
LEAVES = ["attempt_started", "spawned", "leader_ended", "stop_sent", "attempt_ended", "drained"]
STORY = [
    "run_started",
    *(*ONCE, "agent_ended"),
    *(*LEAVES, "agent_ended"),
    *(*ONCE, "retry_scheduled", *ONCE, "agent_ended"),
    *(*LEAVES, "agent_ended"),
    "run_ended",
]
DURABLE = {str(kind.__struct_config__.tag) for kind in REACH_THE_DISK}
SPAWNED = [at for at, kind in enumerate(STORY, 1) if kind == "spawned"]
STOPPED = [at for at, kind in enumerate(STORY, 1) if kind == "stop_sent"]
# Before an event means as late as possible after the one before it; after it means as early as possible. Without a
# cgroup a process that cleared its environment before the first look is not found: so no kill while `env` starts
MOMENTS = [
    *(("auto", "before", at) for at in range(1, len(STORY) + 1)),
    *(("auto", "after", at) for at in [SPAWNED[-1], STOPPED[-1], len(STORY)]),
    *(("watch", "before", at) for at in [SPAWNED[1], STOPPED[-1] + 1]),
    *(("watch", "after", at) for at in [SPAWNED[1], *STOPPED]),
]
# An agent's start, drain and end where one before it was killed at the same: all that is new are more done before
AS_BEFORE = {("auto", "before", at) for at in (7, 8, 13, 14, 15, 22, 23, 24, 29)}


def profile(folder: Path, stub: Stub, enforce: str) -> Path:
    """Write a profile of four quick agents. Each writes to the ledger when it reaches its end."""

    def done(name: str) -> str:
        return f"echo {name} >>ledger"

    orphans, env_cleared = (shlex.join(stub(name)) for name in ("orphans", "env_cleared"))
    return write(
        folder,
        shell("one", done("one")),
        shell("orphans", f"{orphans} && {done('orphans')}"),
        shell("twice", f"[ -e tried ] || {{ touch tried; exit 3; }}; {done('twice')}", retry={"attempts": 2}),
        shell("env", f"{env_cleared} && {done('env')}"),
        memory={"enforce": enforce},
    )


def best_tier(seqsup: Seqsup, nightly: Path) -> str:
    return str(json.loads(seqsup("plan", nightly, "--json").stdout)["containment"]["tier"])


def test_the_story_is_the_one_that_is_killed_at_every_event(seqsup: Seqsup, stub: Stub, tmp_path: Path) -> None:
    result = seqsup("start", profile(tmp_path, stub, "auto"))
    assert result.code == 0, result.stderr
    assert kinds(journal()) == STORY
    assert ledger(tmp_path) == Counter(AGENTS)
    assert seqsup("status").code == 0


@pytest.mark.parametrize(
    ("enforce", "side", "at"),
    [
        pytest.param(*moment, marks=pytest.mark.long if moment in AS_BEFORE else (),
                     id=f"{moment[0]}-{moment[1]}-{moment[2]}-{STORY[moment[2] - 1]}")
        for moment in MOMENTS
    ],
)  # fmt: skip
def test_run_is_swept_and_resumes_after_a_kill_at_any_event(
    seqsup: Seqsup, stub: Stub, tmp_path: Path, test_id: str, enforce: str, side: str, at: int
) -> None:
    nightly = profile(tmp_path, stub, enforce)
    if (enforce, at) == ("auto", SPAWNED[-1]) and best_tier(seqsup, nightly) == WEAKEST:
        pytest.skip("no cgroup here: nothing finds a process that cleared its environment before the first look")
    assert killed(side, at, "start", nightly) == -signal.SIGKILL
    before = journal()
    told = STORY[: at - (side == "before")]
    assert kinds(before) == told[: len(before)]
    assert not DURABLE & set(told[len(before) :])  # the others reach the journal before the next wait
    ended = at == len(STORY) and side == "after"
    done = completed(before) | {body.agent for body in bodies(before) if isinstance(body, LeaderEnded)}
    assert all(ledger(tmp_path)[agent] == 1 for agent in done)

    status = seqsup("status", "--json")
    assert (status.code, json.loads(status.stdout)["state"]) == ((0, "completed") if ended else (1, "died"))

    swept = seqsup("sweep")
    assert swept.code == 0, swept.stderr
    assert running(test_id) == []
    attempts = [type(body) for body in bodies(before) if isinstance(body, AttemptStarted | LeaderEnded | AttemptEnded)]
    ends = {AttemptStarted: [AttemptLost], LeaderEnded: [AttemptEnded], AttemptEnded: []}
    assert [type(body) for body in bodies(journal()[len(before) :])] == (ends[attempts[-1]] if attempts else [])

    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    after = journal()
    assert after[: len(before)] == before
    again = {body.agent for body in bodies(after[len(before) :]) if isinstance(body, AttemptStarted)}
    assert again == set(AGENTS) - done
    assert completed(after) == set(AGENTS)
    assert all(ledger(tmp_path)[agent] == 1 for agent in done)
    assert all(ledger(tmp_path)[agent] in (1, 2) for agent in again)  # 2: it was at its end, but not yet known to be
    assert fold(after).sequence_violations == 0
    last = bodies(after)[-1]
    assert isinstance(last, RunEnded)
    assert (last.exit_code, last.sequence_violations, last.completed) == (0, 0, len(AGENTS))
    assert running(test_id) == []

    runs = seqsup("runs", "--json")
    assert runs.code == 0
    assert [(run["state"], run["completed"]) for run in json.loads(runs.stdout)["runs"]] == [("completed", len(AGENTS))]


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("healer", ["sweep", "start"])
def test_recovery_that_is_killed_leaves_its_work_to_the_next(
    seqsup: Seqsup, stub: Stub, tmp_path: Path, test_id: str, healer: str, side: str
) -> None:
    nightly = profile(tmp_path, stub, "watch")
    assert killed("after", STOPPED[0], "start", nightly) == -signal.SIGKILL
    assert killed(side, 1, healer, *([nightly, "--resume"] if healer == "start" else [])) == -signal.SIGKILL
    resumed = seqsup("start", nightly, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert running(test_id) == []
    events = bodies(journal())
    assert [body.agent for body in events if isinstance(body, AttemptEnded)].count("orphans") == 1
    assert not any(isinstance(body, AttemptLost) for body in events)
    assert len([body for body in events if isinstance(body, RunStarted)]) == 2
    assert ledger(tmp_path) == Counter(AGENTS)
    assert fold(journal()).sequence_violations == 0


@pytest.mark.parametrize("side", ["before", "after"])
def test_without_a_group_too_a_leader_never_outlives_its_supervisor(
    seqsup: Seqsup, tmp_path: Path, test_id: str, side: str
) -> None:
    """Also one that had no time to ask the kernel for that."""
    nightly = write(tmp_path, shell("a", "exec sleep 60"), memory={"enforce": "watch"})
    assert killed(side, 3, "start", nightly) == -signal.SIGKILL
    wait_for(lambda: not running(test_id))
    assert seqsup("sweep").code == 0


def sentinel_of(cookie: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "seqsup-sentinel" in words and run_name(cookie) in " ".join(words):
            return process
    pytest.skip("no kernel kills groups here")


def test_a_leader_dies_with_its_supervisor_also_where_an_earlier_one_has_killed_the_sentinel(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], tmp_path: Path, test_id: str
) -> None:
    first = shell("a", "echo $SEQSUP_COOKIE; while [ ! -e gate ]; do sleep 0.01; done")
    run = seqsup_started("start", write(tmp_path, first, shell("b", "sleep 5 & echo $$; wait")))
    runs = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1")
    printed = {name: runs / name / "1" / "stdout.log" for name in "ab"}
    cookie = wait_for(lambda: printed["a"].read_text().strip())
    sentinel = sentinel_of(cookie)
    sentinel.kill()
    sentinel.wait()
    (tmp_path / "gate").touch()
    pid = wait_for(lambda: printed["b"].read_text().strip())
    run.process.kill()
    wait_for(lambda: not alive(int(pid)))
    seqsup("sweep")
    assert running(test_id) == []


def test_sentinel_kills_a_process_whose_first_thread_has_exited(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], stub: Stub, tmp_path: Path
) -> None:
    """The kernel's kill of a group passes them over."""
    flees = " ".join(stub("flees", "headless"))
    run = seqsup_started("start", write(tmp_path, shell("a", f"echo $SEQSUP_COOKIE; exec {flees}")))
    output = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", "a", "1", "stdout.log")
    cookie, ready, pid = wait_for(lambda: len(said := output.read_text().split()) == 3 and said)
    assert ready == "ready"
    sentinel_of(cookie)
    run.process.kill()
    wait_for(lambda: not alive(int(pid)))
    assert seqsup("sweep").code == 0


def test_late_sentinel_does_not_harm_the_resumed_run(seqsup_started: Callable[..., Started], tmp_path: Path) -> None:
    waits = "echo $SEQSUP_COOKIE > said.$SEQSUP_ATTEMPT; while [ ! -e gate ]; do sleep 0.01; done"
    nightly = write(tmp_path, shell("a", waits))
    run = seqsup_started("start", nightly)
    first, second = tmp_path / "said.1", tmp_path / "said.2"
    cookie = wait_for(lambda: first.read_text().strip())
    sentinel = sentinel_of(cookie)
    sentinel.suspend()
    run.process.kill()
    again = seqsup_started("start", nightly, "--resume")
    wait_for(second.exists)
    sentinel.resume()
    sentinel.wait(40)
    (tmp_path / "gate").touch()
    assert again.wait().code == 0
    assert not (tmp_path / "said.3").exists()


def test_exit_of_an_agent_is_recorded_before_its_leftovers_are_stopped_unless_it_may_be_retried(
    seqsup: Seqsup, tmp_path: Path
) -> None:
    left = "sleep 60 & "
    nightly = write(
        tmp_path,
        shell("leaves", f"{left} true"),
        shell("leaves-nothing", "true"),
        shell("to-be-checked", f"{left} true", success={"command": ["true"]}),
        shell("should-fail", f"{left} exit 3", expect=["failed"]),
        shell("fails", f"{left} exit 3"),
    )
    seqsup("start", nightly)
    noted = [body for body in bodies(journal()) if isinstance(body, LeaderEnded)]
    assert [(body.agent, body.outcome.reason, body.outcome.exit_code) for body in noted] == [
        ("leaves", "completed", 0), ("should-fail", "failed", 3)
    ]  # fmt: skip
