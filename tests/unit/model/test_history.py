"""Fold of a run's events: tables for the cases, hypothesis for all the others."""

from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.told import Told, collected, process
from seqsup.model.conversation import Conversation, Tokens
from seqsup.model.enums import Halt, Restart
from seqsup.model.events import (
    AdmissionDelayed,
    AnyEvent,
    AttemptEnded,
    AttemptStarted,
    BriefWritten,
    CompanionExited,
    CompanionReady,
    CompanionRestarted,
    CompanionStarted,
    CompanionStopped,
    GcDone,
    HookEnded,
    HookStarted,
    LeaderEnded,
    Owner,
    Recorded,
    RunContinued,
    RunPaused,
    RunStarted,
    SessionReported,
    StopSent,
    WorkspaceDue,
    WorkspaceEnded,
    WorkspaceOpened,
    WorkspaceSaved,
)
from seqsup.model.history import History, fold
from seqsup.model.outcome import Exit, Outcome
from seqsup.model.reason import Reason
from seqsup.model.run_view import (
    AgentState,
    AgentView,
    AttemptView,
    CompanionLives,
    CompanionView,
    Completed,
    HookView,
    RunState,
    RunView,
    Stop,
)
from seqsup.state.unwritten import decode
from seqsup.units import MIB


def test_before_anything_happened_a_run_is_starting() -> None:
    assert fold([]) == RunView()
    assert fold([]).state is RunState.STARTING


def test_a_completed_agent_has_its_figures() -> None:
    told = Told().run("triage")
    told.attempt("triage", seconds=445, peak=374 * MIB, hard=1024 * MIB, exit_code=0)
    told.drained("triage", seconds=0.4).agent_ended("triage").run_ended(0)
    view = fold(told.events)
    triage = view.agents["triage"]
    assert (view.state, view.exit_code, view.name) == (RunState.COMPLETED, 0, "nightly")
    assert (triage.state, triage.reason, triage.attempts) == (AgentState.COMPLETED, Reason.COMPLETED, 1)
    assert (triage.seconds, triage.peak, triage.hard) == (445, 374 * MIB, 1024 * MIB)
    assert (triage.drained, triage.drain_reached, triage.exit_code, triage.pid) == (0.4, True, 0, None)
    assert {name: each.content for name, each in view.completed.items()} == {"triage": "content of triage"}


def test_past_attempts_are_kept_with_their_conversations_over_a_crash() -> None:
    told = Told().run("embed")
    told.attempt_started("embed", session="a").spawned("embed").ended("embed", Reason.HARD).drained("embed")
    told.retry("embed").attempt_started("embed", 2, session="a", resumed=True).lost("embed", 2).run("embed")
    embed = fold(told.events).agents["embed"]
    assert (embed.session, embed.resumed) == ("a", True)
    past = [(each.session, each.resumed, each.outcome.reason, each.content) for each in embed.past]
    assert past == [("a", False, Reason.HARD, "content of embed"), ("a", True, Reason.LOST, "content of embed")]


def test_attempts_seconds_peaks_and_leftovers_add_up_over_the_attempts() -> None:
    told = Told().run("embed")
    left = (process(7), process(8))
    told.attempt("embed", Reason.SOFT, seconds=3, peak=1031 * MIB, left_over=left)
    told.drained("embed", strays=(process(8), process(9)))  # 8 is counted already
    told.retry("embed").attempt("embed", Reason.HARD, number=2, seconds=4, peak=900 * MIB)
    embed = fold(told.agent_ended("embed", Reason.HARD, attempts=2).events).agents["embed"]
    assert (embed.state, embed.reason, embed.attempts) == (AgentState.GAVE_UP, Reason.HARD, 2)
    assert (embed.seconds, embed.peak, embed.left_over) == (7, 1031 * MIB, 3)


def test_each_leftover_process_counts_once_and_entries_without_a_process_do_not() -> None:
    left = (process(7), replace(process(8), count=33), replace(process(0), count=0))
    told = Told().run("a").started("a").ended("a", left_over=left)
    told.drained("a", strays=(process(7), replace(process(9), count=5)))
    assert fold(told.events).agents["a"].left_over == 39


def test_leftover_process_is_counted_once_though_another_exited_meanwhile() -> None:
    """As in lanes."""
    told = Told().run("a", "b").started("a").started("b")
    told.ended("a", left_over=(process(7),)).ended("b", left_over=(process(8),))
    agents = fold(told.drained("a", strays=(process(7),)).drained("b", strays=(process(9),)).events).agents
    assert (agents["a"].left_over, agents["b"].left_over) == (1, 2)


def test_running_agent_has_its_pid_and_a_waiting_one_its_next_attempt() -> None:
    told = Told().run("a", "b").started("a", pid=42)
    view = fold(told.events)
    (current,) = view.at_turn
    assert current is view.agents["a"]
    assert (current.state, current.pid, current.folder) == (AgentState.RUNNING, 42, "a/1")
    told.ended("a", Reason.FAILED)
    assert fold(told.events).agents["a"].state is AgentState.DRAINING
    told.retry("a", wait=20)
    (waiting,) = fold(told.events).at_turn
    assert (waiting.state, waiting.retry_at) == (AgentState.BACKOFF, told.events[-1].at + 20)


def test_run_of_a_dead_supervisor_has_neither_pid_nor_next_attempt() -> None:
    """Pids are reused: a user who kills a reported one may kill a stranger."""
    start = CompanionStarted(companion="mcp", number=1, pid=7, command=("mcp",), folder="@companions/mcp/1")
    told = Told().run("a", "b").tell(start).tell(CompanionReady(companion="mcp", number=1, seconds=0.1))
    for died in (fold(told.started("a", pid=8).events), fold(told.ended("a", Reason.FAILED).retry("a").events)):
        died.lose()
        agent, companion = died.agents["a"], died.companions["mcp"]
        assert (agent.state, agent.pid, agent.retry_at) == (AgentState.LOST, None, None)
        assert (companion.state, companion.pid) == ("lost", None)


def test_a_companion_that_starts_again_says_why_before_it_is_ready() -> None:
    start = CompanionStarted(companion="mcp", number=1, pid=7, command=("mcp",), folder="@companions/mcp/1")
    stop = CompanionStopped(companion="mcp", number=1, reason=Restart.EVERY_N, seconds=0.1, processes=())
    told = Told().run("a").tell(start).tell(CompanionReady(companion="mcp", number=1, seconds=0.1)).tell(stop)
    companion = fold(told.tell(start).events).companions["mcp"]
    assert (companion.state, companion.starts, companion.why) == ("starting", 2, "every-n")
    told.tell(CompanionRestarted(companion="mcp", number=2, reason=Restart.EVERY_N, why="5 agents since"))
    told.tell(CompanionStopped(companion="mcp", number=2, reason=Restart.RUN_ENDED, seconds=0.1, processes=()))
    companion = fold(told.events).companions["mcp"]
    assert (companion.state, companion.why) == ("stopped", "every-n: 5 agents since")


def test_attempts_and_companions_of_every_part_are_kept_though_the_profile_has_them_no_more() -> None:
    start = CompanionStarted(companion="mcp", number=1, pid=7, command=("mcp",), folder="@companions/mcp/1")
    exited = CompanionExited(
        companion="mcp", number=1, why="exit 1", exit_code=1, signal=None, seconds=2.0, folder="@companions/mcp/1",
        output="",
    )  # fmt: skip
    told = Told().run("a", "gone").tell(start).tell(exited).tell(start)
    told.attempt("gone", Reason.HARD).drained("gone").started("a").lost("a").run("a", resumed=True).started("a", 2)
    view = fold(told.events)
    assert [(each.agent, each.number, each.reason) for each in view.attempts] == [
        ("gone", 1, Reason.HARD), ("a", 1, Reason.LOST), ("a", 2, None),
    ]  # fmt: skip
    assert (view.attempts[0].over, view.attempts[0].draining) == (True, 0.1)
    assert (view.companions, list(view.agents)) == ({}, ["a"])
    assert (view.lives["mcp"].starts, view.lives["mcp"].exits, view.lives["mcp"].why) == (2, 1, "exit 1")


def test_a_reason_that_the_profile_expects_counts_as_completed() -> None:
    told = Told().run("leak").attempt("leak", Reason.HARD, ok=True).agent_ended("leak", Reason.HARD, ok=True)
    view = fold(told.events)
    assert view.agents["leak"].state is AgentState.COMPLETED
    assert view.agents["leak"].expected
    assert set(view.completed) == {"leak"}


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.HARD, AgentState.GAVE_UP),
        (Reason.SPAWN_FAILED, AgentState.GAVE_UP),
        (Reason.HALTED, AgentState.HALTED),
        (Reason.SKIPPED, AgentState.SKIPPED),
        (Reason.LOST, AgentState.LOST),
    ],
)
def test_an_agents_state_follows_from_its_reason(reason: Reason, state: AgentState) -> None:
    assert fold(Told().run("a").attempt("a", reason).agent_ended("a", reason).events).agents["a"].state is state


def test_resumed_run_knows_until_when_a_usage_limit_holds() -> None:
    told = Told().run("a").attempt("a", Reason.USAGE_LIMIT).paused("a", wait=600.0)
    until = told.events[-1].at + 600.0
    agent = fold(told.events).agents["a"]
    assert (agent.state, agent.retry_at, agent.limit_until) == (AgentState.BACKOFF, until, until)
    assert (
        fold(told.agent_ended("a", Reason.HALTED).run_ended(130).run("a", resumed=True).events).agents["a"].limit_until
    )
    assert fold(told.attempt("a", number=2).events).agents["a"].limit_until is None


def test_agent_that_keeps_waiting_for_a_usage_limit_has_that_reason() -> None:
    told = Told().run("a").attempt("a", Reason.USAGE_LIMIT).paused("a").run("a", resumed=True).paused("a")
    agent = fold(told.events).agents["a"]
    assert (agent.state, agent.reason) == (AgentState.BACKOFF, Reason.USAGE_LIMIT)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, RunState.COMPLETED),
        (1, RunState.FAILED),
        (4, RunState.STOPPED),
        (70, RunState.FAILED),
        (75, RunState.STOPPED),
        (130, RunState.STOPPED),
        (143, RunState.STOPPED),
    ],
)
def test_a_runs_state_follows_from_its_exit_code(code: int, state: RunState) -> None:
    assert fold(Told().run("a").run_ended(code).events).state is state


def test_the_wish_to_stop_only_grows_and_ends_with_the_start_it_was_meant_for() -> None:
    told = Told().run("a").halt(Halt.NOW).halt(Halt.AFTER_AGENT)
    assert fold(told.events).halt is Halt.NOW
    assert fold(told.run("a", resumed=True).events).halt is Halt.NONE


def test_a_resumed_run_keeps_what_was_completed_and_takes_the_rest_again() -> None:
    told = Told().run("a", "b", "c").attempt("a", seconds=5).agent_ended("a").started("b", pid=42).lost("b")
    assert fold(told.events).agents["b"].state is AgentState.LOST
    told.run("a", "b", "c", resumed=True, before=("a",))
    view = fold(told.events)
    states = {name: agent.state for name, agent in view.agents.items()}
    assert states == {"a": AgentState.COMPLETED, "b": AgentState.PENDING, "c": AgentState.PENDING}
    assert (view.state, view.resumes, view.agents["a"].before) == (RunState.RUNNING, 1, True)
    told.attempt("b", number=2).agent_ended("b")
    assert fold(told.events).agents["b"].attempts == 2, "the lost one counts, and its folder is not used again"


def test_resumed_run_follows_the_present_profile() -> None:
    told = Told().run("a", "b").attempt("b").agent_ended("b")
    told.run("c", "b", resumed=True)
    view = fold(told.events)
    assert list(view.agents) == ["c", "b"]
    assert view.agents["b"].state is AgentState.PENDING, "it changed, or it would be among the completed"
    brought_back = fold(told.run("a", "b", resumed=True).events)
    assert brought_back.agents["b"].attempts == 1


def test_an_agent_that_completed_is_known_even_if_the_supervisor_died_in_its_drain() -> None:
    view = fold(Told().run("a").attempt("a").events)
    assert view.agents["a"].state is AgentState.DRAINING
    assert {name: each.content for name, each in view.completed.items()} == {"a": "content of a"}


def test_agents_between_attempts_of_a_dead_supervisor_are_lost_and_completed_ones_are_not() -> None:
    told = Told().run("ended", "drains", "waits", "halted", "to come").attempt("ended").agent_ended("ended")
    told.attempt("drains").attempt("waits", Reason.FAILED).retry("waits").attempt("halted", Reason.HALTED)
    view = fold(told.events)
    view.lose()
    assert {name: str(agent.state) for name, agent in view.agents.items()} == {
        "ended": "completed", "drains": "completed", "waits": "lost", "halted": "halted", "to come": "pending",
    }  # fmt: skip
    assert list(view.failed) == ["waits"], "the one that --retry-failed takes"
    told.run("ended", "drains", resumed=True, before=("ended",)).attempt("drains", Reason.FAILED, number=2)
    view = fold(told.events)
    view.lose()
    assert view.agents["drains"].state is AgentState.LOST, "what it completed was another content"


def test_agents_that_the_plan_leaves_out_are_skipped_from_the_start() -> None:
    view = fold(Told().run("a", skips={"b": "not in the task"}).events)
    assert (view.agents["b"].state, view.agents["b"].why) == (AgentState.SKIPPED, "not in the task")


# -- what each event changes


ENDED_AT = "exit 1: it broke"


def gc_done(name: str, freed: int, *, companion: bool = False) -> GcDone:
    return GcDone(owner=Owner(name=name, number=1, companion=companion), used=9, collection=collected(freed))


def test_running_attempt_has_all_facts_of_its_start() -> None:
    told = Told().run("a").attempt_started("a", number=3, hard=400 * MIB, heap=300 * MIB)
    view, began = fold(told.events), told.events[-1]
    agent = AgentView(
        name="a", state=AgentState.RUNNING, attempts=1, soft=300 * MIB, hard=400 * MIB, heap=300 * MIB, attempt=3,
        folder="a/3", started=began.at, began=began.mono, host_before=2048 * MIB,
    )  # fmt: skip
    assert view.agents == {"a": agent}
    assert view.attempts == [
        AttemptView(
            agent="a", number=3, command=("node", "a.js"), folder="a/3", started=began.at, ended=began.at,
            soft=300 * MIB, hard=400 * MIB, host_before=2048 * MIB,
        )
    ]  # fmt: skip


def test_ended_attempt_has_all_facts_of_its_end() -> None:
    outcome = Outcome(
        reason=Reason.FAILED, why=ENDED_AT, exit=Exit(code=None, signal=11), seconds=4.5, peak=70 * MIB,
        processes=(process(7),), left_over=(process(8), process(9)), forensics="forensics.json",
    )  # fmt: skip
    told = Told().run("a").started("a")
    told.tell(AttemptEnded(agent="a", attempt=1, content="x", ok=False, hard=90 * MIB, outcome=outcome))
    view, now = fold(told.events), told.events[-1].at
    agent, attempt = view.agents["a"], view.attempts[0]
    assert (agent.state, agent.reason, agent.why) == (AgentState.DRAINING, Reason.FAILED, ENDED_AT)
    assert (agent.exit_code, agent.signal, agent.pid) == (None, 11, None)
    assert (agent.seconds, agent.peak, agent.hard, agent.left_over) == (4.5, 70 * MIB, 90 * MIB, 2)
    assert (agent.forensics, agent.processes) == ("a/1/forensics.json", (process(7),))
    assert (attempt.ended, attempt.over, attempt.seconds, attempt.ok) == (now, True, 4.5, False)
    assert (attempt.peak, attempt.reason, attempt.why) == (70 * MIB, Reason.FAILED, ENDED_AT)
    assert attempt.forensics == "a/1/forensics.json"
    again = fold(told.attempt("a", number=2).events)
    assert (again.agents["a"].forensics, again.attempts[1].forensics) == (None, "")
    assert (again.agents["a"].signal, again.agents["a"].processes, again.attempts[1].ok) == (None, (), True)


def test_attempt_that_begins_forgets_how_the_last_one_ended_and_what_it_waited_for() -> None:
    told = Told().run("a").attempt("a", Reason.USAGE_LIMIT, exit_code=1).paused("a")
    told.tell(AdmissionDelayed(agent="a", need=MIB, room=0, why="too little memory"))
    assert fold(told.events).agents["a"].delayed == "for memory: too little memory"
    agent = fold(told.started("a", number=2).events).agents["a"]
    assert (agent.reason, agent.why, agent.delayed, agent.exit_code, agent.signal) == (None, "", "", None, None)
    assert (agent.retry_at, agent.due, agent.limit_until, agent.pid) == (None, None, None, 4712)


def test_drained_attempt_knows_when_memory_was_back_or_that_it_is_not() -> None:
    told = Told().run("a").attempt("a").drained("a", seconds=0.4)
    attempt = fold(told.events).attempts[0]
    assert (attempt.drained, attempt.draining, attempt.drain_reached) == (told.events[-1].at, 0.4, True)
    view = fold(told.attempt("a", number=2).drained("a", number=2, seconds=30, why="not back").events)
    assert (view.attempts[1].draining, view.attempts[1].drain_reached) == (30, False)
    assert (view.agents["a"].drained, view.agents["a"].drain_reached) == (30, False)
    assert view.attempts[0].draining == 0.4


def test_memory_figures_are_those_of_the_last_attempt() -> None:
    told = Told().run("a").attempt_started("a", companions_before=9).spawned("a").ended("a", end=7)
    told.drained("a", gave_back=8)
    view = fold(told.events)
    for each in (view.agents["a"], view.attempts[0]):
        assert (each.host_before, each.companions_before, each.end) == (2048 * MIB, 9, 7)
        assert (each.gave_back, each.host_after) == (8, 4096 * MIB)
    agent = fold(told.attempt_started("a", number=2).events).agents["a"]
    assert (agent.host_before, agent.companions_before, agent.end) == (2048 * MIB, None, None)
    assert (agent.gave_back, agent.host_after) == (None, None)


def test_events_of_an_older_journal_have_no_memory_figures() -> None:
    def older(body: AnyEvent, *missing: str) -> AnyEvent:
        facts = msgspec.json.decode(msgspec.json.encode(body))
        facts.get("outcome", {}).pop("end", None)
        return decode(msgspec.json.encode({name: fact for name, fact in facts.items() if name not in missing}))

    told = Told().run("a").attempt_started("a").ended("a", end=7).drained("a", gave_back=8)
    began, ended, drained = (each.body for each in told.events[1:])
    old = Told().run("a").tell(older(began, "host_before", "companions_before")).tell(older(ended))
    old.tell(older(drained, "end", "gave_back"))
    agent = fold(old.events).agents["a"]
    assert (agent.host_before, agent.companions_before, agent.end, agent.gave_back) == (None, None, None, None)
    assert agent.host_after == 4096 * MIB


def test_agent_that_waits_knows_until_when_by_both_clocks() -> None:
    told = Told().run("a").attempt("a", Reason.FAILED).retry("a", wait=20)
    agent, event = fold(told.events).agents["a"], told.events[-1]
    assert (agent.retry_at, agent.due) == (event.at + 20, event.mono + 20)
    assert fold(told.paused("a").events).agents["a"].due == event.mono + 20


def test_agent_that_ended_waits_for_nothing_and_has_its_last_words() -> None:
    told = Told().run("a").attempt("a", Reason.FAILED).retry("a")
    told.tell(AdmissionDelayed(agent="a", need=MIB, room=0, why="too little memory"))
    agent = fold(told.agent_ended("a", Reason.HALTED, why="you stopped it").events).agents["a"]
    assert (agent.reason, agent.why, agent.retry_at, agent.delayed) == (Reason.HALTED, "you stopped it", None, "")


def test_agent_that_could_not_be_tried_has_the_figures_of_its_end() -> None:
    agent = fold(Told().run("a").agent_ended("a", Reason.SPAWN_FAILED, attempts=3).events).agents["a"]
    assert (agent.attempts, agent.seconds, agent.peak) == (3, 1.0, MIB)


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        (Reason.HARD, ["a"]), (Reason.SKIPPED, ["a"]), (Reason.LOST, ["a"]), (Reason.HALTED, []),
        (Reason.COMPLETED, []),
    ],
)  # fmt: skip
def test_retry_failed_takes_agents_that_gave_up_or_were_skipped_or_lost(reason: Reason, failed: list[str]) -> None:
    told = Told().run("a").attempt("a", reason).agent_ended("a", reason)
    assert list(fold(told.events).failed) == failed
    assert not fold(told.attempt("a", number=2).events).failed, "it completed since"


def test_skipped_agent_has_its_reason_and_is_what_it_was_no_more() -> None:
    told = Told().run("a", "b").attempt("b", Reason.FAILED).skipped("b", "it needs a")
    view = fold(told.events)
    agent = view.agents["b"]
    assert (agent.state, agent.reason, agent.why) == (AgentState.SKIPPED, Reason.SKIPPED, "it needs a")
    assert list(view.failed) == ["b"]


def test_lost_attempt_and_its_agent_say_why() -> None:
    view = fold(Told().run("a").started("a", pid=7).lost("a").events)
    agent, attempt = view.agents["a"], view.attempts[0]
    assert (agent.state, agent.reason, agent.why) == (AgentState.LOST, Reason.LOST, "its supervisor died")
    assert (agent.pid, list(view.failed)) == (None, ["a"])
    assert (attempt.reason, attempt.why) == (Reason.LOST, "its supervisor died")


def test_brief_completes_an_agent_without_any_attempt() -> None:
    told = Told().run("a").skipped("a").tell(BriefWritten(agent="a", content="x", folder="a/brief", stands=""))
    view = fold(told.events)
    agent = view.agents["a"]
    assert (agent.state, agent.reason, agent.folder) == (AgentState.COMPLETED, Reason.COMPLETED, "a/brief")
    assert not view.failed


def test_collections_of_an_agent_add_up_and_a_companions_are_not_its_own() -> None:
    told = Told().run("a").tell(gc_done("a", 5)).tell(gc_done("a", 7)).tell(gc_done("a", 100, companion=True))
    assert fold(told.events).agents["a"].gc_freed == 12


def test_signals_are_kept_with_their_attempt() -> None:
    def stop(signal: str, reason: Reason | None) -> StopSent:
        return StopSent(agent="a", attempt=1, signal=signal, reason=reason, why=f"{signal}!", processes=(process(7),))

    told = Told().run("a").tell(stop("TERM", None)).started("a").tell(stop("TERM", Reason.SOFT))
    first = told.events[-1].at
    told.tell(stop("KILL", Reason.SOFT))
    assert fold(told.events).attempts[0].stops == (
        Stop(at=first, signal="TERM", reason=Reason.SOFT, why="TERM!", processes=(process(7),)),
        Stop(at=first + 1, signal="KILL", reason=Reason.SOFT, why="KILL!", processes=(process(7),)),
    )


def leader_ended(agent: str = "a", reason: Reason = Reason.HARD) -> LeaderEnded:
    outcome = Outcome(reason=reason, why="", exit=None, seconds=1.0, peak=0)
    return LeaderEnded(agent=agent, attempt=1, content="x", hard=None, outcome=outcome)


def test_agent_that_ended_well_is_leaving_until_its_attempt_ends() -> None:
    told = Told().run("a").started("a").tell(leader_ended())
    view = fold(told.events)
    assert view.leaving == {"a": (Reason.HARD, Completed("x", told.events[-1].seq, "a/1", Reason.HARD))}
    view.lose()
    assert view.agents["a"].state is AgentState.COMPLETED
    assert fold(told.ended("a").events).leaving == {}
    unseen = fold(Told().tell(leader_ended("b")).events)
    assert unseen.leaving["b"][1].folder == "b/1"


def test_completed_attempt_is_known_by_its_content_its_folder_and_the_event() -> None:
    told = Told().run("a").attempt("a", Reason.HARD, ok=True)
    ended = told.events[-1]
    assert fold(told.events).completed == {"a": Completed("content of a", ended.seq, "a/1", Reason.HARD)}
    unseen = fold(Told().ended("b").events)
    assert unseen.completed["b"].folder == "b/1"


def test_hook_is_known_while_it_runs() -> None:
    started = HookStarted(point="before_run", command="sync", agent="a", pid=7, folder="@hooks/1")
    ended = HookEnded(
        point="before_run", command="sync", agent="a", ok=True, why="", exit_code=0, signal=None, seconds=1.0,
        folder="@hooks/1", output="",
    )  # fmt: skip
    told = Told().run("a").tell(started)
    now = told.events[-1]
    hook = HookView(point="before_run", command="sync", agent="a", pid=7, started=now.at, began=now.mono)
    assert fold(told.events).hooks == {"@hooks/1": hook}
    assert fold(told.run("a", resumed=True).events).hooks == {}, "no hook outlives its supervisor"
    assert fold(told.tell(started).tell(ended).tell(ended).events).hooks == {}


def test_pause_of_a_run_ends_when_it_resumes_or_is_over() -> None:
    told = Told().run("a").tell(RunPaused(why="the disk is full"))
    assert fold(told.events).paused == "the disk is full"
    for after in (told.events, *([*told.events, each] for each in _one_more(told))):
        assert fold(after).paused == ("the disk is full" if len(after) == len(told.events) else "")


def _one_more(told: Told) -> Iterator[Recorded]:
    """Yield each event that ends a pause, after the earlier ones."""
    for more in (Told().tell(RunContinued(seconds=5.0)), Told().run_ended(0), Told().run("a", resumed=True)):
        yield replace(more.events[0], seq=len(told.events) + 1)


def test_started_run_has_all_facts_of_its_start() -> None:
    started = Told().run("a", "b", skips={"c": "not in the task"}).events[0]
    assert isinstance(started.body, RunStarted)
    body = replace(
        started.body, task="mend it", expected={"a": 5.0}, concurrency=2, only=("a",), start_from="b",
        listen="127.0.0.1:9",
    )  # fmt: skip
    view = fold([replace(started, body=body)])
    assert (view.run, view.name, view.profile, view.task) == ("r42", "nightly", "nightly.toml", "mend it")
    assert (view.supervisor, view.version, view.containment) == (4711, "1", "subreaper")
    assert (view.expected, view.concurrency) == ({"a": 5.0}, 2)
    assert (view.asked, view.only, view.start_from) == (("a", "b"), ("a",), "b")
    assert (view.state, view.halt, view.resumes) == (RunState.RUNNING, Halt.NONE, 0)
    assert (view.started, view.resumed, view.began) == (started.at, started.at, started.mono)
    assert {name: agent.left_out for name, agent in view.agents.items()} == {"a": False, "b": False, "c": True}
    assert view.agents["c"].reason is Reason.SKIPPED


def test_resumed_run_keeps_its_first_start_and_its_options() -> None:
    told = Told().run("a", "b").attempt("a").run_ended(4, why="memory is not back", seconds=9.0)
    ended = fold(told.events)
    assert (ended.state, ended.exit_code, ended.seconds) == (RunState.STOPPED, 4, 9.0)
    assert (ended.ended, ended.why) == (told.events[-1].at, "memory is not back")
    view = fold(told.run("b", resumed=True).events)
    first, now = told.events[0], told.events[-1]
    assert (view.started, view.resumed, view.began, view.resumes) == (first.at, now.at, now.mono, 1)
    assert (view.asked, view.state, view.why) == (("a", "b"), RunState.RUNNING, "")
    assert (view.ended, view.seconds, view.exit_code) == (None, None, None)


def test_agent_that_is_resumed_has_neither_its_pid_nor_its_last_reason() -> None:
    told = Told().run("a").attempt("a", Reason.FAILED, why="exit 1").retry("a").started("a", number=2)
    agent = fold(told.run("a", resumed=True).events).agents["a"]
    assert (agent.state, agent.reason, agent.why) == (AgentState.PENDING, None, "")
    assert (agent.pid, agent.retry_at, agent.due) == (None, None, None)


def test_agent_that_an_earlier_start_completed_keeps_its_reason() -> None:
    told = Told().run("a", "b").attempt("a", Reason.HARD, ok=True).agent_ended("a", Reason.HARD, ok=True)
    told.run("a", "b", resumed=True, before=("a", "b"), skips={"a": "not in the task"})
    view = fold(told.events)
    assert [(each.state, each.reason, each.before) for each in view.agents.values()] == [
        (AgentState.COMPLETED, Reason.HARD, True), (AgentState.COMPLETED, Reason.COMPLETED, True),
    ]  # fmt: skip


def taking_over(told: Told, *agents: str, **folders: str) -> Told:
    told.run(*agents, resumed=True, before=tuple(folders))
    body = told.events[-1].body
    assert isinstance(body, RunStarted)
    told.events[-1] = replace(told.events[-1], body=replace(body, taken_over=folders))
    return told


def test_attempt_of_a_renamed_agent_brings_its_figures() -> None:
    told = Told().run("old", "b").attempt("old", peak=70 * MIB, seconds=7).agent_ended("old")
    view = fold(taking_over(told, "new", "b", new="old/1").events)
    new = view.agents["new"]
    assert (new.name, new.state, new.folder) == ("new", AgentState.COMPLETED, "old/1")
    assert (new.attempts, new.seconds, new.peak) == (1, 7, 70 * MIB)
    assert (new.attempt, new.limit_until) == (None, None), "its own folders begin at 1"
    assert view.completed["new"] == view.completed["old"]
    assert fold(told.attempt("new").events).agents["new"].attempts == 2


def test_agents_that_change_names_change_figures_too() -> None:
    told = Told().run("a", "b").attempt("a", peak=70 * MIB).attempt("b", peak=90 * MIB)
    view = fold(taking_over(told, "a", "b", a="b/1", b="a/1").events)
    assert {name: (each.peak, each.folder) for name, each in view.agents.items()} == {
        "a": (90 * MIB, "b/1"), "b": (70 * MIB, "a/1"),
    }  # fmt: skip


def test_agent_that_uses_the_attempt_of_another_continues_its_own_numbers() -> None:
    told = Told().run("a", "b").attempt("a").attempt("b", Reason.FAILED).attempt("b", Reason.FAILED, number=2)
    agent = fold(taking_over(told, "b", b="a/1").events).agents["b"]
    assert (agent.folder, agent.attempts, agent.attempt) == ("a/1", 1, 2)


def test_agent_that_completed_before_keeps_its_folder() -> None:
    told = Told().run("a").attempt("a").agent_ended("a").run("a", resumed=True, before=("a",))
    assert fold(told.events).agents["a"].folder == "a/1"


def test_reused_attempt_without_a_record_counts() -> None:
    view = fold(taking_over(Told().run("a"), "a", a="elsewhere/1").events)
    agent = view.agents["a"]
    assert (agent.name, agent.state, agent.folder, agent.attempts) == ("a", AgentState.COMPLETED, "elsewhere/1", 0)
    assert view.completed == {}


def test_agent_that_reuses_its_own_attempt_keeps_its_figures() -> None:
    told = Told().run("a").attempt("a", peak=70 * MIB).agent_ended("a")
    agent = fold(taking_over(told, "a", a="a/1").events).agents["a"]
    assert (agent.peak, agent.attempt, agent.folder) == (70 * MIB, 1, "a/1")


def test_attempt_of_an_agent_that_no_start_named_is_known() -> None:
    view = fold(Told().attempt("a").events)
    assert view.agents["a"].attempts == 1


def test_left_over_is_counted_once_however_often_the_drain_names_it() -> None:
    told = Told().run("a").attempt("a", left_over=(process(7),)).drained("a", strays=(process(7), process(8)))
    assert fold(told.drained("a", strays=(process(8), process(9))).events).agents["a"].left_over == 3


def test_companion_tells_its_life() -> None:
    start = CompanionStarted(companion="mcp", number=1, pid=7, command=("mcp",), folder="@companions/mcp/1")
    told = Told().run("a").tell(start)
    assert fold(told.events).companions == {"mcp": CompanionView(name="mcp", state="starting", pid=7, starts=1)}
    view = fold(told.tell(CompanionReady(companion="mcp", number=1, seconds=0.3)).events)
    assert (view.companions["mcp"].state, view.lives["mcp"].ready) == ("ready", 0.3)
    exited = CompanionExited(
        companion="mcp", number=1, why="exit 1", exit_code=1, signal=None, seconds=2.0, folder="@companions/mcp/1",
        output="",
    )  # fmt: skip
    view = fold(told.tell(exited).events)
    assert view.companions["mcp"] == CompanionView(name="mcp", state="exited", starts=1, why="exit 1")
    restarts = [(Restart.CRASHED, "exit 1"), (Restart.CRASHED, "exit 2"), (Restart.MEMORY, "600 MiB")]
    for number, (reason, why) in enumerate(restarts, 2):
        told.tell(start).tell(CompanionRestarted(companion="mcp", number=number, reason=reason, why=why))
    told.tell(CompanionStopped(companion="mcp", number=4, reason=Restart.MEMORY, seconds=0.1, processes=()))
    view = fold(told.events)
    assert view.companions["mcp"] == CompanionView(name="mcp", state="stopped", starts=4, why="memory")
    assert view.lives == {
        "mcp": CompanionLives(
            name="mcp", starts=4, restarts={Restart.CRASHED: 2, Restart.MEMORY: 1}, exits=1, ready=0.3, why="600 MiB"
        )
    }


def test_companion_that_never_started_has_no_life() -> None:
    ready = CompanionReady(companion="mcp", number=1, seconds=0.3)
    view = fold(Told().run("a").tell(ready).events)
    assert (view.companions["mcp"].state, view.lives) == ("ready", {})


# -- one at a time ------------------------------------------------------------------------------------------------


def _at(*moments: tuple[float, str, str]) -> Iterator[Recorded]:
    """Events from `(mono, "+" or "-" or "lost", agent)`."""
    told = Told(tick=0)
    for mono, what, agent in moments:
        told.clock = mono
        match what:
            case "+":
                told.attempt_started(agent)
            case "-":
                told.ended(agent)
            case "lost":
                told.lost(agent)
            case "boot":
                told.run(boot_id=agent)
    yield from told.events


@pytest.mark.parametrize(
    ("pairs", "moments"),
    [
        (0, [(1, "+", "a"), (2, "-", "a"), (2, "+", "b"), (3, "-", "b")]),
        (1, [(1, "+", "a"), (2, "+", "b"), (3, "-", "a"), (4, "-", "b")]),
        (3, [(1, "+", "a"), (2, "+", "b"), (3, "+", "c"), (4, "-", "a"), (4, "-", "b"), (4, "-", "c")]),
        (1, [(1, "+", "a"), (2, "+", "b"), (2, "-", "b"), (3, "-", "a")]),  # an instant within another counts
        (1, [(1, "+", "a"), (2, "+", "b"), (3, "-", "b")]),  # the end of a was not seen
        (0, [(1, "+", "a"), (5, "lost", "a"), (6, "+", "a"), (7, "-", "a")]),
        (0, [(0, "boot", "x"), (100, "+", "a"), (5, "lost", "a"), (6, "boot", "y"), (7, "+", "a"), (8, "-", "a")]),
        (0, [(0, "boot", "x"), (100, "+", "a"), (6, "boot", "y"), (200, "+", "a"), (201, "-", "a")]),
    ],
)
def test_pairs_of_attempts_at_the_same_time_are_counted(pairs: int, moments: list[tuple[float, str, str]]) -> None:
    assert fold(_at(*moments)).sequence_violations == pairs


def test_an_attempt_begins_before_its_process() -> None:
    told = Told(tick=0)
    told.clock = 1.0
    told.attempt_started("a")
    told.attempt_started("b")
    told.clock = 2.0
    told.ended("a")
    told.clock = 3.0
    told.spawned("b").ended("b")
    assert fold(told.events).sequence_violations == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=12))
def test_counting_agrees_with_comparing_every_pair(spans: list[tuple[int, int]]) -> None:
    intervals = [(start, start + length) for start, length in spans]
    moments = [(end, 0, "-", f"a{at}") for at, (_, end) in enumerate(intervals)]
    moments += [(start, 1, "+", f"a{at}") for at, (start, _) in enumerate(intervals)]
    expected = sum(a[0] < b[1] and b[0] < a[1] for at, a in enumerate(intervals) for b in intervals[at + 1 :])
    told = _at(*((moment[0], moment[2], moment[3]) for moment in sorted(moments)))
    assert fold(told).sequence_violations == expected


# -- any history ---------------------------------------------------------------------------------------------------

_REASONS = st.sampled_from(list(Reason))


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    """A valid history: starts that end, stop, or die at any point, each resumed by the next."""
    told = Told()
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    done: set[str] = set()
    for part in range(draw(st.integers(1, 3))):
        told.run(*names, resumed=part > 0, before=tuple(sorted(done)))
        for name in names:
            if name not in done and not _live(draw, told, name, done):
                break
        else:
            told.run_ended(0 if done == set(names) else 1)
    return told.events


def _live(draw: st.DrawFn, told: Told, name: str, done: set[str]) -> bool:
    """One agent's way; False when its supervisor died on it."""
    if draw(st.integers(0, 5)) == 0:
        told.skipped(name)
        return True
    reason = Reason.COMPLETED
    for number in range(1, draw(st.integers(1, 3)) + 1):
        told.started(name, number=number, pid=draw(st.integers(2, 50)))
        if draw(st.integers(0, 9)) == 0:
            told.lost(name, number)
            return False
        reason = draw(_REASONS)
        told.ended(name, reason, number=number, left_over=tuple(map(process, draw(st.sets(st.integers(2, 9))))))
        if reason is Reason.COMPLETED:
            done.add(name)
        if draw(st.integers(0, 9)) == 0:
            return False
        told.drained(name, number=number)
        if reason is Reason.COMPLETED:
            break
        told.retry(name, number=number + 1)
    told.agent_ended(name, reason)
    return True


@given(histories(), st.data())
def test_folding_bit_by_bit_is_folding_the_whole(events: list[Recorded], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    history = History()
    for recorded in events[:cut]:
        history.apply(recorded)
    assert history.view == fold(events[:cut]), "any prefix is a history"
    for recorded in events[cut:]:
        history.apply(recorded)
    assert history.view == fold(events)


@given(histories())
def test_the_view_agrees_with_a_plain_count_of_the_events(events: list[Recorded]) -> None:
    view = fold(events)
    bodies = [recorded.body for recorded in events]
    assert sum(agent.attempts for agent in view.agents.values()) == _count(bodies, AttemptStarted)
    assert set(view.completed) == {b.agent for b in bodies if isinstance(b, AttemptEnded) and b.ok}
    assert sum(agent.left_over for agent in view.agents.values()) == sum(
        len(body.outcome.left_over) for body in bodies if isinstance(body, AttemptEnded)
    )
    running = [agent for agent in view.agents.values() if agent.state is AgentState.RUNNING]
    assert len(running) <= 1
    assert fold(events).sequence_violations == 0


def _count(bodies: Iterable[object], kind: type) -> int:
    return sum(isinstance(body, kind) for body in bodies)


def test_conversations_of_all_attempts_add_up() -> None:
    heard = Conversation(session="s", turns=2, tokens=Tokens(output=5), usd=0.5, usd_of_session=0.5)
    told = Told().run("a").attempt("a", Reason.HARD, conversation=heard).attempt_started("a", 2, session="s")
    assert fold(told.events).agents["a"].session == "s"
    told.tell(SessionReported(agent="a", attempt=2, session="t"))
    assert fold(told.events).agents["a"].session == "t"
    later = Conversation(session="t", turns=1, tokens=Tokens(output=1), usd=0.25, usd_is_partial=True)
    told.ended("a", number=2, conversation=later)
    agent = fold(told.events).agents["a"]
    assert (agent.session, agent.turns, agent.tokens.output, agent.usd, agent.usd_is_partial) == ("t", 3, 6, 0.75, True)


def due(owner: str) -> WorkspaceDue:
    return WorkspaceDue(
        agent=owner, folder="/w/shop", branch="seqsup/r1/x", git="/shop", user=None, remote=False, home="/shop",
        common="/shop/.git",
    )  # fmt: skip


def opened(agent: str, attempt: int, head: str, snapshot: str = "", *, shared: bool) -> WorkspaceOpened:
    return WorkspaceOpened(
        agent=agent, attempt=attempt, shared=shared, folder="/w/shop", branch="seqsup/r1/x", base="c0", head=head,
        snapshot=snapshot,
    )  # fmt: skip


def test_workspace_remembers_what_the_agent_in_it_began_with() -> None:
    told: list[AnyEvent] = [due(""), opened("a", 1, "c0", shared=True), opened("a", 2, "c1", shared=True)]
    (own,) = folded(told).workspaces.values()
    assert (own.last, own.head, own.snapshot) == ("a", "c0", "")
    (own,) = folded([*told, opened("b", 1, "c2", "s", shared=True)]).workspaces.values()
    assert (own.last, own.head, own.snapshot) == ("b", "c2", "s")


def test_workspace_that_is_over_has_its_branches() -> None:
    saved = WorkspaceSaved(agent="a", attempt=1, branch="seqsup/r1/x-attempt-1", commits=0, files=1)
    end = WorkspaceEnded(
        agent="a", folder="/w/shop", branch="seqsup/r1/x", commits=2, changed=0, pushed=False, removed=True, why="",
        holds="", next=("git merge seqsup/r1/x",),
    )  # fmt: skip
    own = folded([due("a"), opened("a", 1, "c0", shared=False), saved, end]).workspaces["a"]
    assert (own.ended, own.holder, own.commits, own.saved) == (True, "seqsup/r1/x", 2, ("seqsup/r1/x-attempt-1",))
    resumed: list[AnyEvent] = [due("a"), opened("a", 1, "c0", shared=False), end, opened("a", 2, "c0", shared=False)]
    assert not folded(resumed).workspaces["a"].ended


def folded(bodies: Iterable[AnyEvent]) -> RunView:
    return fold(Recorded(run="r1", seq=n, at=n, mono=n, body=body) for n, body in enumerate(bodies, 1))
