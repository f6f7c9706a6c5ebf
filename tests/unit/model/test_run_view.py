"""The view of a run: active agents, agents to come, durations."""

import json
from typing import Any

import pytest
from msgspec.json import encode

from seqsup.model.enums import Halt
from seqsup.model.reason import Reason
from seqsup.model.run_view import (
    AgentState,
    AgentView,
    AttemptView,
    CompanionLives,
    CompanionView,
    Completed,
    HookView,
    Now,
    RunState,
    RunView,
    Stop,
    remaining,
    run_state,
)

PENDING, RUNNING, DRAINING, BACKOFF = (
    AgentState.PENDING, AgentState.RUNNING, AgentState.DRAINING, AgentState.BACKOFF,
)  # fmt: skip
COMPLETED, SKIPPED, GAVE_UP = AgentState.COMPLETED, AgentState.SKIPPED, AgentState.GAVE_UP


def view_of(*states: AgentState, **fields: object) -> RunView:
    """A run of agents a, b and so on in these states."""
    agents = {name: AgentView(name=name, state=state) for name, state in zip("abcdefghi", states, strict=False)}
    return RunView(agents=agents, **fields)  # type: ignore[arg-type]


def attempt(agent: str = "a", **fields: object) -> AttemptView:
    return AttemptView(
        agent=agent, number=1, command=("a",), folder=f"{agent}/1", started=10.0, ended=14.0, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def test_agents_at_turn_run_drain_or_wait_between_attempts() -> None:
    view = view_of(*AgentState)
    assert [agent.state for agent in view.at_turn] == [RUNNING, DRAINING, BACKOFF]
    assert view.count(RUNNING, PENDING) == 2
    assert view.count(RUNNING) == 1
    assert view.count() == 0


def test_agent_that_waits_for_memory_is_awaited_before_its_first_attempt() -> None:
    view = view_of(RUNNING, PENDING, PENDING)
    view.agents["b"].delayed = "it may take 4 GiB"
    assert [agent.name for agent in view.awaited] == ["a", "b"]
    view.stop_waiting()
    assert [agent.name for agent in view.awaited] == ["a"]


def test_owed_agents_are_those_of_the_start_that_did_not_complete() -> None:
    view = view_of(COMPLETED, PENDING, GAVE_UP, SKIPPED, asked=("a", "b", "c", "gone"))
    assert view.owed == ["b", "c"]


@pytest.mark.parametrize(
    ("states", "halt", "where"),
    [
        ((PENDING, PENDING), Halt.NONE, "before the first agent"),
        ((PENDING, SKIPPED), Halt.NONE, "before the first agent"),
        ((COMPLETED, PENDING), Halt.NONE, "between agents"),
        ((COMPLETED, PENDING), Halt.AFTER_AGENT, "after the last agent: hooks and notifications"),
        ((COMPLETED, GAVE_UP), Halt.NONE, "after the last agent: hooks and notifications"),
        ((COMPLETED, SKIPPED), Halt.NONE, "after the last agent: hooks and notifications"),
    ],
)
def test_run_says_where_it_is_between_agents(states: tuple[AgentState, ...], halt: Halt, where: str) -> None:
    assert view_of(*states, halt=halt).between == where


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (COMPLETED, Reason.HARD, True),
        (COMPLETED, Reason.COMPLETED, False),
        (COMPLETED, None, False),
        (GAVE_UP, Reason.HARD, False),
    ],
)
def test_agent_ended_as_expected_if_it_completed_for_another_reason(
    state: AgentState, reason: Reason | None, expected: bool
) -> None:
    assert AgentView(name="a", state=state, reason=reason).expected is expected


@pytest.mark.parametrize(
    ("retry_at", "due", "seconds"),
    [(None, None, 0.0), (1030.0, None, 30.0), (990.0, None, 0.0), (5000.0, 70.0, 20.0), (5000.0, 40.0, 0.0)],
    ids=["does not wait", "a time of day", "which is over", "by the clock that only counts", "which is over too"],
)
def test_agent_waits_for_its_next_attempt_by_the_clock_that_counts(
    retry_at: float | None, due: float | None, seconds: float
) -> None:
    assert AgentView(name="a", retry_at=retry_at, due=due).waits(Now(at=1000.0, mono=50.0)) == seconds


def test_attempt_took_what_the_clock_that_only_counts_says() -> None:
    assert attempt().took == 4.0
    assert attempt(seconds=3.5).took == 3.5
    assert attempt(seconds=0.0).took == 0.0


def test_attempt_was_stopped_when_the_first_signal_with_a_reason_was_sent() -> None:
    def stop(at: float, reason: Reason | None) -> Stop:
        return Stop(at=at, signal="TERM", reason=reason, why="", processes=())

    assert attempt().stopped is None
    assert attempt(stops=(stop(1.0, None),)).stopped is None
    assert attempt(stops=(stop(1.0, None), stop(2.0, Reason.SOFT), stop(3.0, Reason.SOFT))).stopped == 2.0


def test_highest_is_the_agent_with_the_largest_peak_that_was_measured() -> None:
    view = view_of(COMPLETED, RUNNING, PENDING)
    assert view.highest is None
    view.agents["a"].peak, view.agents["b"].peak = 5, 9
    assert view.highest is view.agents["b"]


def test_remaining_time_is_what_agents_to_come_usually_take() -> None:
    view = view_of(RUNNING, BACKOFF, PENDING, PENDING, DRAINING, COMPLETED, SKIPPED)
    view.agents["a"].began = 100.0
    view.expected = {"a": 30.0, "b": 7.0, "c": 5.0, "e": 1000.0, "f": 1000.0, "g": 1000.0}
    assert remaining(view, 110.0) == (20.0 + 7.0 + 5.0, 1)
    assert remaining(view, 130.0) == (12.0, 1)
    assert remaining(view, 170.0) == (12.0, 1), "no agent takes less than nothing"
    assert remaining(view, 90.0) == (42.0, 1), "nor more than it usually does"
    view.agents["a"].began = None
    assert remaining(view, 110.0) == (42.0, 1)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, RunState.COMPLETED), (1, RunState.FAILED), (3, RunState.FAILED), (4, RunState.STOPPED),
        (5, RunState.FAILED), (74, RunState.FAILED), (75, RunState.STOPPED), (76, RunState.FAILED),
        (128, RunState.FAILED), (129, RunState.STOPPED), (130, RunState.STOPPED),
    ],
)  # fmt: skip
def test_state_of_a_run_follows_from_its_exit_code(code: int, state: RunState) -> None:
    assert run_state(code) is state


def test_programs_get_no_moment_of_the_monotonic_clock() -> None:
    view = view_of(RUNNING, began=1.0, attempts=[attempt()])
    view.hooks["@hooks/1"] = HookView(point="before_run", command="x", agent="", pid=7, started=5.0, began=1.0)
    told = view.fields()
    assert not {"attempts", "lives", "completed", "contents", "began"} & set(told)
    assert {"run", "state", "agents", "hooks", "failed", "companions"} <= set(told)
    assert not {"began", "due"} & set(told["agents"]["a"])
    assert {"name", "state", "started", "retry_at"} <= set(told["agents"]["a"])
    assert told["hooks"] == [{"point": "before_run", "command": "x", "agent": "", "pid": 7, "started": 5.0}]


# -- a run whose supervisor died


def test_lost_run_waits_for_nothing_and_has_no_pid() -> None:
    view = view_of(RUNNING, PENDING)
    view.agents["a"].pid, view.agents["b"].delayed = 7, "too little memory"
    view.companions = {
        "up": CompanionView(name="up", state="ready", pid=8), "down": CompanionView(name="down", state="exited"),
    }  # fmt: skip
    view.hooks["@hooks/1"] = HookView(point="before_run", command="x", agent="", pid=9, started=5.0, began=1.0)
    view.lose()
    assert not view.hooks
    assert [(each.delayed, each.pid) for each in view.agents.values()] == [("", None), ("", None)]
    assert [(each.state, each.pid) for each in view.companions.values()] == [("lost", None), ("exited", None)]
    assert (view.agents["a"].state, view.agents["a"].reason) == (AgentState.LOST, Reason.LOST)
    assert (view.agents["b"].state, view.agents["b"].reason) == (PENDING, None)
    assert list(view.failed) == ["a"]


def test_lost_agent_between_attempts_has_no_next_one() -> None:
    view = view_of(BACKOFF)
    view.agents["a"].retry_at, view.agents["a"].due = 5.0, 6.0
    view.lose()
    agent = view.agents["a"]
    assert (agent.state, agent.retry_at, agent.due) == (AgentState.LOST, None, None)


def test_agent_of_a_lost_run_that_had_ended_well_has_completed_though_leftovers_were_being_stopped() -> None:
    done = Completed("content", 5, "a/1", Reason.HARD)
    view = view_of(RUNNING, leaving={"a": (Reason.HARD, done)})
    view.lose()
    assert (view.agents["a"].state, view.agents["a"].reason) == (COMPLETED, Reason.HARD)
    assert view.completed == {"a": done}
    assert view.failed == {}


@pytest.mark.parametrize(
    ("folder", "reason", "state"),
    [
        ("a/1", Reason.COMPLETED, COMPLETED),
        ("a/2", Reason.FAILED, AgentState.LOST),
        ("a/2", Reason.HALTED, AgentState.HALTED),
    ],
)
def test_agent_of_a_lost_run_that_drained_keeps_how_it_ended(folder: str, reason: Reason, state: AgentState) -> None:
    view = view_of(DRAINING, completed={"a": Completed("content", 5, "a/1")})
    view.agents["a"].folder, view.agents["a"].reason = folder, reason
    view.lose()
    assert view.agents["a"].state is state


def test_attempts_of_a_lost_run_ended_as_their_agents_did() -> None:
    done = Completed("content", 5, "b/1", Reason.COMPLETED)
    view = view_of(RUNNING, RUNNING, COMPLETED, leaving={"b": (Reason.COMPLETED, done)})
    view.attempts = [attempt("a"), attempt("b"), attempt("c", reason=Reason.HARD, ok=False), attempt("gone")]
    view.lose()
    assert [(each.reason, each.ok) for each in view.attempts] == [
        (Reason.LOST, False), (Reason.COMPLETED, True), (Reason.HARD, False), (None, False),
    ]  # fmt: skip


def as_json(view: RunView) -> dict[str, Any]:
    told = json.loads(encode(view.fields()))
    assert isinstance(told, dict)
    return told


def test_agent_before_its_first_attempt_has_no_figures() -> None:
    """As in `seqsup status --json`."""
    [agent] = as_json(view_of(PENDING))["agents"].values()
    known = {"name": "a", "state": "pending", "left_out": False, "before": False, "briefed": False}
    known |= {"resumed": False}
    empty = {
        "attempts": 0,
        "rounds": 0,
        "seconds": 0,
        "peak": 0,
        "left_over": 0,
        "why": "",
        "delayed": "",
        "processes": [],
    }
    tokens = {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0}
    conversation = {"session": "", "model": "", "turns": 0, "tokens": tokens, "usd_is_partial": False}
    assert agent == dict.fromkeys(agent) | known | empty | conversation


def test_run_before_its_first_event_has_no_figures() -> None:
    told = as_json(RunView())
    known = {"state": "starting", "halt": 0, "concurrency": 1, "resumes": 0, "sequence_violations": 0}
    texts = dict.fromkeys(("run", "name", "task", "paused", "version", "containment", "why"), "")
    tables: dict[str, object] = {key: {} for key in ("agents", "companions", "expected", "failed", "leaving")}
    assert told == dict.fromkeys(told) | known | texts | tables | {
        "hooks": [],
        "workspaces": [],
        "asked": [],
        "only": [],
    }


def test_states_have_the_words_that_programs_get() -> None:
    assert list(map(str, AgentState)) == [
        "pending", "running", "draining", "backoff", "completed", "gave-up", "skipped", "lost", "halted",
    ]  # fmt: skip
    assert list(map(str, RunState)) == ["starting", "running", "completed", "failed", "stopped"]


def test_companion_before_its_first_start_has_no_figures() -> None:
    view, lives = CompanionView(name="mcp"), CompanionLives(name="mcp")
    assert (view.state, view.pid, view.starts, view.why) == ("starting", None, 0, "")
    assert (lives.starts, lives.restarts, lives.exits, lives.peak, lives.why) == (0, {}, 0, 0, "")
    assert lives.ready is None


def test_attempt_that_runs_has_neither_reason_nor_end() -> None:
    fresh = attempt()
    assert (fresh.over, fresh.ok, fresh.drain_reached, fresh.peak) == (False, False, True, 0)
    assert (fresh.reason, fresh.why, fresh.forensics, fresh.stops, fresh.samples) == (None, "", "", (), ())
    assert (fresh.soft, fresh.hard, fresh.drained, fresh.draining, fresh.seconds) == (None,) * 5
