"""Hooks as a user has them: when they run, their input, what their failure means, and that they leave no process."""

import asyncio
import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Result, Started
from helpers.paths import ROOT
from helpers.profiles import Event, of, parsed, proven, shell, write
from helpers.supervised import until
from helpers.waiting import alive, wait_for
from seqsup.host.wake import Wake
from seqsup.model.events import AgentDue, Recorded
from seqsup.runner.emitter import Emitter
from seqsup.state.journal import Journal

Seqsup = Callable[..., Result]
Start = Callable[..., Started]
Stub = Callable[..., list[str]]
NOTES = 'sh -c \'printf "%s %s\\n" "$SEQSUP_HOOK" "$SEQSUP_AGENT" >>notes; cat >>told\''
POINTS = ("before_run", "before_agent", "after_agent", "memory_high", "killed", "chain_end", "after_run")


def hooks(**points: Any) -> dict[str, Any]:
    return {"hooks": points}


def told(folder: Path) -> list[Event]:
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


def test_hooks_run_in_order_and_each_gets_its_event(seqsup: Seqsup, tmp_path: Path) -> None:
    everywhere = {point: [NOTES] for point in POINTS}
    profile = write(tmp_path, shell("a", "echo a >>notes"), shell("b", "exit 3"), **hooks(**everywhere))
    result = seqsup("start", profile, "--json")
    assert result.code == 1
    assert (tmp_path / "notes").read_text().splitlines() == [
        "before_run ", "before_agent a", "a", "after_agent a", "before_agent b", "after_agent b", "after_run ",
    ]  # fmt: skip
    heard = told(tmp_path)
    assert [event["event"] for event in heard] == [
        "run_started", "agent_due", "agent_ended", "agent_due", "agent_ended", "run_ended",
    ]  # fmt: skip
    assert [event.get("reason") for event in of(heard, "agent_ended")] == ["completed", "failed"]
    assert heard[-1]["exit_code"] == 1
    assert all(event["ok"] for event in of(proven(result), "hook_ended"))


def test_a_hook_knows_where_it_is(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), **hooks(after_agent=["sh -c 'env >env; pwd >pwd'"]))
    assert seqsup("start", profile).code == 0
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    expected = {
        "SEQSUP_HOOK": "after_agent", "SEQSUP_AGENT": "a", "SEQSUP_REASON": "completed", "SEQSUP_RUN": "r1",
        "SEQSUP_PROFILE": str(profile), "SEQSUP_FOLDER": f"{os.environ['SEQSUP_STATE_DIR']}/runs/r1",
    }  # fmt: skip
    assert {name: env.get(name) for name in expected} == expected
    assert (tmp_path / "pwd").read_text().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("point", "ran"),
    [("before_run", []), ("before_agent", []), ("after_agent", ["a"]), ("after_run", ["a", "b"])],
)
@pytest.mark.parametrize("on_error", ["warn", "stop"])
def test_failure_of_a_hook_has_its_documented_effect(
    seqsup: Seqsup, tmp_path: Path, point: str, ran: list[str], on_error: str
) -> None:
    agents = [shell(name, f"echo {name} >>done") for name in ("a", "b")]
    profile = write(tmp_path, *agents, **hooks(**{point: ["sh -c 'echo what it said; exit 9'"]}, on_error=on_error))
    result = seqsup("start", profile, "--json")
    events = proven(result)
    failed = of(events, "hook_ended")[0]
    assert (failed["ok"], failed["exit_code"], failed["why"], failed["output"]) == (False, 9, "exit 9", "what it said")
    made = (tmp_path / "done").read_text().split() if (tmp_path / "done").exists() else []
    if on_error == "warn":
        assert (result.code, made) == (0, ["a", "b"])
    else:
        assert (result.code, made) == (4, ran)
        assert events[-1]["why"] == f"the hook sh -c 'echo what it said; exit 9' ({point}) failed: exit 9"


def test_a_failure_is_shown_with_its_output_which_is_kept(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), **hooks(after_agent=["sh -c 'echo no such host >&2; exit 1'"]))
    result = seqsup("start", profile)
    assert result.code == 0
    assert "after_agent" in result.stderr
    assert "no such host" in result.stderr
    kept = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", "@hooks", "after_agent-1", "stderr.log")
    assert kept.read_text() == "no such host\n"


def test_a_hook_that_takes_too_long_is_ended_with_all_it_started(seqsup: Seqsup, tmp_path: Path) -> None:
    command = "sh -c 'sleep 60 & echo ready $! $$; wait'"
    profile = write(tmp_path, shell("a", "true"), **hooks(after_agent=[command], timeout="2s"))
    result = seqsup("start", profile, "--json")
    ended = of(proven(result), "hook_ended")[0]
    assert ended["why"] == "it took longer than hooks.timeout 2 s"
    pids = [int(word) for word in ended["output"].split()[1:]]
    assert pids
    assert not any(map(alive, pids))


def test_status_says_which_hook_a_run_waits_for(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    waits = "sh -c 'until [ -e gate ]; do sleep 0.05; done'"
    process = seqsup_started("start", write(tmp_path, shell("a", "true"), **hooks(before_agent=[waits])))
    wait_for(lambda: "hook before_agent" in " ".join(seqsup("status").stdout.split()))
    said = " ".join(seqsup("status").stdout.split())
    assert re.search(
        rf"before the first agent · hook before_agent of a: {re.escape(waits)}, pid [0-9]+, for [0-9.]+ m?s", said
    ), said
    (hook,) = json.loads(seqsup("status", "--json").stdout)["hooks"]
    assert (hook["point"], hook["command"], hook["agent"]) == ("before_agent", waits, "a")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", hook["started"])
    assert seqsup("pause").code == 0
    assert "will pause before the next agent" in " ".join(seqsup("status").stdout.split())
    assert seqsup("resume").code == 0
    assert "pauses before" not in " ".join(seqsup("status").stdout.split())
    (tmp_path / "gate").touch()
    assert process.wait().code == 0, process.stderr
    assert json.loads(seqsup("status", "--json").stdout)["hooks"] == []


def test_stop_says_which_hook_it_waits_for(seqsup: Seqsup, seqsup_started: Start, tmp_path: Path) -> None:
    """A hook after an agent may work for long: a silent minute looked like a fault."""
    waits = "sh -c 'until [ -e gate ]; do sleep 0.05; done'"
    process = seqsup_started("start", write(tmp_path, shell("a", "true"), **hooks(after_agent=[waits])))
    wait_for(lambda: "hook after_agent" in " ".join(seqsup("status").stdout.split()))
    stopping = seqsup_started("stop", "--now")
    wait_for(lambda: re.search(r"r1 \S+ ends when its hook after_agent \(pid \d+\) has finished", stopping.stderr))
    (tmp_path / "gate").touch()
    assert stopping.wait().code == 0
    assert process.wait().code == 0, process.stderr


def test_leftover_process_of_a_hook_is_stopped_and_named(seqsup: Seqsup, stub: Stub, tmp_path: Path) -> None:
    profile = write(tmp_path, shell("a", "true"), **hooks(after_agent=[" ".join(stub("orphans", 2))]))
    ended = of(proven(seqsup("start", profile, "--json")), "hook_ended")[0]
    assert ended["ok"]
    assert len(ended["left_over"]) == 2
    assert not any(alive(process["pid"]) for process in ended["left_over"])


def test_output_of_hooks_and_companions_is_cut_in_the_middle(seqsup: Seqsup, tmp_path: Path) -> None:
    """And a hook that does not read its stdin is not delayed by it."""
    loud = "head -c 3000000 /dev/zero | tr '\\0' x; echo end"
    (tmp_path / "loud.sh").write_text(f"#!/bin/sh\n{loud}\n")
    (tmp_path / "loud.sh").chmod(0o755)
    serves = {"name": "loud", "command": ["sh", "-c", f"{loud}; echo ready; exec sleep 60"], "ready": {"log": "ready"}}
    path = write(
        tmp_path, shell("a", "true"), companions=[serves], hooks={"before_run": ["./loud.sh"]}, output={"max": "1MiB"}
    )  # fmt: skip
    events = proven(seqsup("start", path, "--json"))
    for kind in ("hook_ended", "companion_started"):
        (event,) = of(events, kind)
        kept = Path(os.environ["SEQSUP_STATE_DIR"], "runs/r1", event["folder"], "stdout.log")
        assert kept.stat().st_size > 3_000_000
        assert kept.stat().st_blocks * 512 <= 1024**2
    shown = seqsup("logs", "loud").stdout
    assert "of output cut here" in shown
    assert shown.endswith("end\nready\n")


def test_missing_hook_is_a_failure_that_names_it(seqsup: Seqsup, tmp_path: Path) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    path = write(tmp_path, shell("a", "rm hook.sh"), hooks={"after_agent": ["./hook.sh"]})
    result = seqsup("start", path)
    assert result.code == 0
    (line,) = [line for line in result.stderr.splitlines() if "./hook.sh" in line]
    assert line.endswith("exec: ./hook.sh: not found")


def test_hooks_of_a_running_agent_do_not_hold_it_up(seqsup: Seqsup, tmp_path: Path) -> None:
    """memory_high runs while the agent waits for it to finish; it is killed once a limit has stopped the agent."""
    grows = "dd if=/dev/zero of=/dev/null bs=%sM count=1000000 2>/dev/null"
    script = f"{grows % 60} & until grep -q memory_high notes; do sleep 0.05; done 2>/dev/null; {grows % 300}"
    profile = write(
        tmp_path,
        shell("a", script, expect=["hard", "kernel-oom"], memory={"soft": "20MiB", "hard": "200MiB", "sustain": "10m"}),
        **hooks(memory_high=[NOTES], killed=[NOTES], after_agent=[NOTES]),
    )
    proven(seqsup("start", profile, "--json"))
    assert (tmp_path / "notes").read_text().split() == ["memory_high", "a", "killed", "a", "after_agent", "a"]
    high, stopped = of(told(tmp_path), "memory_high", "attempt_ended")
    assert high["used"] > high["soft"] == 20 * 1024**2
    assert stopped["reason"] in ("hard", "kernel-oom")  # whichever of the two comes first


def test_the_plan_shows_hooks_and_refuses_one_that_cannot_run(seqsup: Seqsup, tmp_path: Path) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text("#!/bin/sh\n")
    profile = write(tmp_path, shell("a", "true"), **hooks(after_agent=["./hook.sh"]))
    refused = seqsup("start", profile)
    assert refused.code == 2
    assert f"hooks.after_agent[0]: {hook} is not executable; fix it with: chmod +x {hook}" in refused.stderr
    hook.chmod(0o755)
    assert "after_agent  ./hook.sh" in seqsup("plan", profile, "-v").stdout
    assert seqsup("start", profile).code == 0


def test_a_hook_beside_the_profile_is_named_as_it_must_be_written(seqsup: Seqsup, tmp_path: Path) -> None:
    (tmp_path / "tell.sh").touch()
    refused = seqsup("plan", write(tmp_path, shell("a", "true"), hooks={"after_run": ["tell.sh"]}))
    assert "hooks.after_run[0]: no program tell.sh on PATH: write ./tell.sh" in refused.stderr


def test_a_killed_supervisor_takes_its_hook_along(
    seqsup: Seqsup, seqsup_started: Callable[..., Started], stub: Stub, tmp_path: Path
) -> None:
    command = " ".join(stub("escapes", "double-fork-setsid"))
    profile = write(tmp_path, shell("a", "true"), **hooks(before_agent=[command]))
    run = seqsup_started("start", profile)
    out = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", "@hooks", "before_agent-1", "stdout.log")
    pid = int(wait_for(lambda: out.read_text().split())[1])
    run.send(signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    assert seqsup("sweep").code == 0
    assert seqsup("status").code == 1


@pytest.mark.parametrize(("point", "interrupts"), [("before_run", 2), ("before_agent", 2), ("after_agent", 3)])
def test_hook_after_an_agent_is_stopped_only_by_the_third_interrupt(
    seqsup_started: Callable[..., Started], stub: Stub, tmp_path: Path, point: str, interrupts: int
) -> None:
    profile = write(
        tmp_path, shell("a", "true"), shell("b", "true"), **hooks(**{point: [" ".join(stub("deaf"))]}, on_error="stop")
    )
    run = seqsup_started("start", profile, "--json")
    out = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", "@hooks", f"{point}-1", "stdout.log")
    wait_for(out.read_text)
    for stops in range(1, interrupts + 1):
        run.send(signal.SIGINT)
        wait_for(lambda: len(of(parsed(run.stdout.rpartition("\n")[0]), "halt_requested")) == stops)
    assert run.wait().code == 130


def test_the_ready_made_hook_works(seqsup: Seqsup, tmp_path: Path) -> None:
    profile = write(
        tmp_path, shell("a", "true"), **hooks(after_agent=[f"{ROOT}/profiles/hooks/post-agent-execution.sh"])
    )
    told = of(proven(seqsup("start", profile, "--json")), "hook_ended")[0]
    assert told["ok"], told
    folder = Path(os.environ["SEQSUP_STATE_DIR"], "runs", "r1", told["folder"])
    assert "r1 a: completed; " in (folder / "stdout.log").read_text()
    low = seqsup("start", profile, "--json", env={"LEAST_AVAILABLE_MIB": "999999999"})
    told = of(proven(low), "hook_ended")[0]
    assert (told["ok"], told["exit_code"]) == (False, 1)
    assert "less than 999999999 MiB" in told["output"]


def test_event_for_a_hook_is_there_while_another_program_keeps_the_journal_locked(tmp_path: Path) -> None:
    """Hooks took it from what readers had heard, which then was nothing: the hook was skipped."""
    journal = Journal.open(tmp_path, write=True)
    emitter = Emitter(journal.begin("nightly", None, "c" * 32), journal)
    heard: list[Recorded] = []
    emitter.add_reader(heard.append)

    async def story() -> Recorded:
        other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        due = emitter.emit(AgentDue(agent="a", content="", command=("true",)))
        assert not heard
        other.close()
        await until(lambda: heard, Wake())
        return due

    assert asyncio.run(story()) == heard[0]
    journal.close()
