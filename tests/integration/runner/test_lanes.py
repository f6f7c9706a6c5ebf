"""Lanes: agents side by side where the user insists, each whole, none beyond the memory there is."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from helpers.command_line import Result, Started
from helpers.past import learned
from helpers.profiles import Event, of, parsed, proven, shell, write
from helpers.supervised import poking, step, supervised
from helpers.told import Told
from helpers.waiting import alive, wait_for
from seqsup.containment.keeper import Keeper
from seqsup.containment.mark import marks
from seqsup.containment.reaper import Reaper
from seqsup.host.machine import Host
from seqsup.host.wake import Wake
from seqsup.model.enums import Halt
from seqsup.model.events import Recorded
from seqsup.model.history import fold
from seqsup.model.reason import Reason
from seqsup.runner.admission import Admission
from seqsup.runner.attempt import Ended, attempt
from seqsup.runner.context import RunContext
from seqsup.runner.place import AttemptPaths, AttemptPlace
from seqsup.state.journal import Journal
from seqsup.units import MIB

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]


def lanes(number: int, **run: Any) -> dict[str, Any]:
    return {"run": {"concurrency": number, "allow_concurrency": True, **run}, "memory": {"hard": "64MiB"}}


def meet(name: str, other: str) -> str:
    """Ends only if the other runs at the same time."""
    return f"touch {name}; while [ ! -e {other} ]; do sleep 0.02; done"


def most_at_once(events: list[Event]) -> int:
    running = most = 0
    for event in events:
        running += (event["event"] == "attempt_started") - (event["event"] == "attempt_ended")
        most = max(most, running)
    return most


@pytest.mark.parametrize("tier", ["", "subreaper"])
def test_two_agents_run_side_by_side_and_the_risk_is_shown_everywhere(
    seqsup: Seqsup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    monkeypatch.setenv("SEQSUP_TIER", tier)
    path = write(tmp_path, shell("a", meet("a", "b")), shell("b", meet("b", "a")), shell("c", "true"), **lanes(2))
    plan = seqsup("plan", path)
    assert "2 at a time at your own risk" in plan.stdout
    assert json.loads(seqsup("plan", path, "--json").stdout)["execution_mode"] == "lanes"
    result = seqsup("start", path)
    assert result.code == 0, result.stderr
    assert "2 at a time" in result.stderr
    events = parsed(seqsup("events").stdout)
    assert most_at_once(events) == 2
    assert {event["lane"] for event in of(events, "attempt_started")} == {1, 2}
    assert events[-1]["sequence_violations"] == 0


class _Tight(Host):
    """A machine of 400 MiB, of which the processes of this one's children take."""

    def available(self) -> int:
        taken = 0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                taken += process.memory_info().rss
        return 400 * MIB - taken


@pytest.mark.memory
def test_below_the_hosts_floor_the_largest_is_stopped_and_the_other_lives(tmp_path: Path) -> None:
    """The small one looks first, and as often."""
    holds = (
        "import sys, time\nfrom pathlib import Path\nheld = b'x' * (int(sys.argv[1]) << 20)\n"
        "ends = time.monotonic() + 60\n"
        "while not Path('over').exists() and time.monotonic() < ends: time.sleep(0.05)\n"
    )
    ledger = os.open(tmp_path / "members", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def story(reaper: Reaper, wake: Wake) -> list[Ended]:
        async def unpaused() -> bool:
            return True

        admission = Admission(_Tight(), lambda _: None, unpaused)
        context = RunContext(
            reaper, _Tight(), wake, poking(wake), lambda _: None, spares=admission.spares,
            observe=admission.observe,
        )  # fmt: skip

        async def lane(name: str, mib: int) -> Ended:
            wanted = step(
                sys.executable, "-c", holds, str(mib), name=name, cwd=tmp_path, limits={"host_floor": 150 * MIB}
            )
            own = replace(context, keeper=Keeper(reaper, name), wake=wake.branch())
            await admission.admit(wanted, own, Halt.NOW, first=True)
            paths = AttemptPaths(tmp_path, tmp_path / name, name, ledger, marks("c" * 16, tmp_path, name))
            try:
                return await attempt(wanted, 1, None, AttemptPlace(wanted, 1, paths, own), own)
            finally:
                (tmp_path / "over").touch()
                admission.let_go(name)

        return list(await asyncio.gather(lane("small", 50), lane("large", 200)))

    small, large = supervised(story)
    os.close(ledger)
    assert (small.outcome.reason, large.outcome.reason) == (Reason.COMPLETED, Reason.HOST_FLOOR)


def test_agents_are_admitted_by_the_sum_of_their_limits(seqsup: Seqsup, tmp_path: Path) -> None:
    available = psutil.virtual_memory().available
    agents = [shell(name, "sleep 1", memory={"hard": int(available * 0.7), "soft": "none"}) for name in "abc"]
    events = proven(seqsup("start", write(tmp_path, *agents, **lanes(3)), "--json"))
    assert most_at_once(events) == 1
    waits = of(events, "admission_delayed")
    assert [event["agent"] for event in waits] == ["b", "c"]
    assert "running agents" in waits[0]["why"]
    assert {event["lane"] for event in of(events, "attempt_started")} == {1}


@pytest.mark.parametrize(("admit", "together"), [("limits", 1), ("learned", 2)])
def test_learned_peak_counts_only_if_it_is_known(seqsup: Seqsup, tmp_path: Path, admit: str, together: int) -> None:
    hard = int(psutil.virtual_memory().available * 0.7)
    scripts = {"a": meet("a", "b"), "b": meet("b", "a")} if together == 2 else dict.fromkeys("ab", "sleep 0.3")
    agents = [shell(name, script, memory={"hard": hard, "soft": "none"}) for name, script in scripts.items()]
    profile = write(tmp_path, *agents, **lanes(2, admit=admit))
    for name in "ab":
        learned(profile, name, 20, 21, 22)
    assert most_at_once(proven(seqsup("start", profile, "--json"))) == together


def test_more_agents_than_a_stack_is_deep_can_be_unable_to_run(seqsup: Seqsup, tmp_path: Path) -> None:
    skipped = [shell(f"s{n}", "true", needs=["bad"]) for n in range(1500)]
    agents = [shell("bad", "exit 3"), *skipped, shell("good", "true")]
    result = seqsup("start", write(tmp_path, *agents, **lanes(2, on_failure="continue")), "--json")
    assert result.code == 1, result.stderr[-500:]
    events = proven(result)
    assert len(of(events, "agent_skipped")) == 1500
    assert {event["agent"] for event in of(events, "agent_ended")} == {"bad", "good"}


def test_all_active_agents_are_named_with_the_risk(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], tmp_path: Path
) -> None:
    waits = [shell(name, f"touch {name}; while [ ! -e gate ]; do sleep 0.02; done") for name in "ab"]
    process = seqsup_started("start", write(tmp_path, *waits, **lanes(2)))
    wait_for(lambda: all((tmp_path / name).exists() for name in "ab"))
    status = " ".join(seqsup("status").stdout.split())
    assert "2 at a time at your own risk" in status
    assert all(f"{name}: attempt 1" in status for name in "ab")
    assert json.loads(seqsup("status", "--json").stdout)["concurrency"] == 2
    (tmp_path / "gate").touch()
    assert process.wait().code == 0


def test_more_than_one_at_a_time_is_refused_with_the_key_that_accepts_the_risk(seqsup: Seqsup, tmp_path: Path) -> None:
    refused = seqsup("plan", write(tmp_path, shell("a", "true"), run={"concurrency": 2}))
    assert (refused.code, "allow_concurrency = true" in refused.stderr) == (2, True)


def test_each_tree_is_its_own(seqsup: Seqsup, stub: Stub, tmp_path: Path) -> None:
    """Leftovers are found and stopped, those of another lane are not touched, reasons stay apart."""
    leaves = f"{' '.join(stub('escapes', 'double-fork-setsid', '--leave'))} >left"
    long = "; ".join(
        [f"{' '.join(stub('orphans', 2))} >orphans", "touch started", "while [ ! -e go ]; do sleep 0.02; done",
         "set -- $(cat orphans)", "kill -0 $2 $3"]
    )  # fmt: skip
    path = write(
        tmp_path,
        shell("long", long),
        shell("leaves", f"while [ ! -e started ]; do sleep 0.02; done; {leaves}"),
        shell("fails", "exit 3", expect=["failed"], needs=["leaves"]),
        shell("last", "touch go", needs=["fails"]),
        **lanes(2),
    )
    events = proven(seqsup("start", path, "--json"))
    ended = {event["agent"]: event for event in of(events, "attempt_ended")}
    assert {name: event["reason"] for name, event in ended.items()} == {
        "long": "completed", "leaves": "completed", "fails": "failed", "last": "completed",
    }  # fmt: skip
    assert len(ended["leaves"]["left_over"]) == 1
    assert len(ended["long"]["left_over"]) == 2
    assert not alive(int((tmp_path / "left").read_text().split()[1]))


@pytest.mark.parametrize("at_once", [1, 2])
def test_success_command_runs_for_each_agent(seqsup: Seqsup, tmp_path: Path, at_once: int) -> None:
    """Also if an agent has the name of another agent's check."""
    well = shell(
        "a",
        "sleep 0.2; echo approved",
        success={"output": "^approved$", "command": ["sh", "-c", "sleep 0.7; touch ran"]},
    )
    unlike = shell("b", "echo refused", success={"output": "^approved$"}, expect=["no-result"])
    fails = shell("c", "true", success={"command": ["sh", "-c", "sleep 0.7; exit 3"]}, expect=["no-result"])
    agents = [well, shell("a.check", "true"), unlike, shell("b.search", "true"), fails]
    events = proven(seqsup("start", write(tmp_path, *agents, **lanes(at_once)), "--json"))
    assert {event["agent"]: event["reason"] for event in of(events, "attempt_ended")} == {
        "a": "completed", "a.check": "completed", "b": "no-result", "b.search": "completed", "c": "no-result",
    }  # fmt: skip
    assert (tmp_path / "ran").exists()


def test_needs_hold_and_a_failure_stops_what_is_to_come(seqsup: Seqsup, tmp_path: Path) -> None:
    agents = [
        shell("a", "touch a"),
        shell("b", "[ -e a ] && exit 3", needs=["a"]),
        shell("c", "touch c", needs=["b"]),
        shell("d", "touch d", needs=["a"]),
    ]
    result = seqsup("start", write(tmp_path, *agents, **lanes(2, on_failure="continue")), "--json")
    events = proven(result)
    assert result.code == 1
    assert [event["agent"] for event in of(events, "agent_skipped")] == ["c"]
    assert (tmp_path / "d").exists()
    # its number is there until it is reaped
    outlives = "until [ -s pid ]; do sleep 0.02; done; while kill -0 $(cat pid); do sleep 0.02; done; sleep 0.5"
    stops = [shell("a", "echo $$ >pid; exit 3"), shell("b", outlives), shell("c", "touch c")]
    events = proven(seqsup("start", write(tmp_path, *stops, **lanes(2)), "--json"))
    assert {event["agent"] for event in of(events, "agent_ended")} == {"a", "b"}


def test_output_of_each_agent_is_followed_while_the_others_run(
    seqsup: Seqsup, seqsup_started: Start, tmp_path: Path
) -> None:
    says = "echo {item} begins; sleep 1.5; echo {item} ends; echo {item} fails >&2"
    path = write(tmp_path, shell("n", says, for_each=["a", "b", "c"]), **lanes(2))
    run = seqsup_started("start", path, "--follow")
    wait_for(lambda: "a begins" in run.stdout and "b begins" in run.stdout)
    logs = seqsup_started("logs", "-f")
    assert run.wait().code == logs.wait().code == 0
    for number, item in enumerate("abc", 1):
        for what in ("begins", "ends", "fails"):
            assert run.stdout.count(f"n.{number} | {item} {what}\n") == 1
        for what in ("begins", "ends"):  # each below its own heading
            assert logs.stdout.count(f"{item} {what}\n") == 1
            assert (
                logs.stdout.partition(f"{item} {what}\n")[0]
                .rpartition("==> ")[2]
                .startswith(f"n.{number} {item} <==\n")
            )
        assert logs.stderr.count(f"{item} fails\n") == 1


def test_agent_that_needs_another_waits_for_its_exit(seqsup: Seqsup, tmp_path: Path) -> None:
    path = write(
        tmp_path, shell("first", "printf early; sleep 0.5; printf ' late'"),
        shell("reader", "echo got {summary:first}"), shell("folder", "ls {artifacts:first}"), shell("apart", "true"),
        **lanes(4),
    )  # fmt: skip
    events = proven(seqsup("start", path, "--json"))
    ended = [event["agent"] for event in of(events, "attempt_ended")]
    assert ended.index("apart") < ended.index("first") < min(map(ended.index, ("reader", "folder")))
    assert seqsup("logs", "reader").stdout == "got early late\n"


def test_chains_end_and_companions_restart_while_none_runs(seqsup: Seqsup, tmp_path: Path) -> None:
    serves = {"name": "mcp", "command": ["sleep", "60"], "restart_every": 2}
    agents = [shell(name, "sleep 0.1") for name in "abcdef"]
    events = proven(seqsup("start", write(tmp_path, *agents, companions=[serves], **lanes(2, chain=4)), "--json"))
    running = 0
    for event in events:
        running += (event["event"] == "attempt_started") - (event["event"] == "drained")
        if event["event"] in ("companion_stopped", "companion_started", "chain_ended"):
            assert running == 0, event
    assert len(of(events, "chain_ended")) == 1
    assert {event["reason"] for event in of(events, "companion_restarted")} == {"every-n"}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_all_lanes_end_with_the_supervisor(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], stub: Stub, tmp_path: Path, how: str
) -> None:
    waits = f"{' '.join(stub('escapes', 'double-fork-setsid'))} >{{0}}"
    path = write(tmp_path, *[shell(name, waits.format(name)) for name in "ab"], **lanes(2))
    run = seqsup_started("start", path)
    pids = [int(wait_for(lambda: (tmp_path / n).read_text().split()[1:])[0]) for n in "ab"]
    run.send(signal.SIGKILL if how == "kill" else signal.SIGTERM)
    if how == "stop":
        assert run.wait().code == 143
    wait_for(lambda: not any(map(alive, pids)))
    assert seqsup("sweep").code == 0
    journal = Journal.open(Path(os.environ["SEQSUP_STATE_DIR"]))
    kinds = [type(recorded.body).__name__ for recorded in journal.events(1)]
    journal.close()
    assert kinds.count("AttemptLost" if how == "kill" else "AttemptEnded") == 2


def test_agent_without_a_limit_runs_alone(seqsup: Seqsup, tmp_path: Path) -> None:
    refused = seqsup("plan", write(tmp_path, shell("a", "true", memory={"hard": "none", "soft": "none"}), **lanes(2)))
    assert refused.code == 2
    assert "agents that run side by side need a limit" in refused.stderr


def test_two_in_one_lane_are_a_violation_and_two_in_two_are_none() -> None:
    def told(*lanes: int) -> list[Recorded]:
        history = Told()
        for n, lane in enumerate(lanes):
            history.attempt_started(str(n), lane=lane)
        for n, _ in enumerate(lanes):
            history.ended(str(n))
        return history.events

    assert fold(told(1, 1)).sequence_violations == 1
    assert fold(told(1, 2)).sequence_violations == 0
    assert fold(told(1, 2, 1)).sequence_violations == 1
