"""Conversations: which attempt resumes one, under which id, and what its first prompt says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from seqsup.model.conversation import Conversation, Tokens
from seqsup.model.enums import ProcessKind, RetryHow
from seqsup.model.outcome import Outcome, PastAttempt
from seqsup.model.preset import PromptForm, prompt_presets, read_preset
from seqsup.model.process import ProcessMemory
from seqsup.model.reason import Reason
from seqsup.policy.sessions import ChosenSession, choose, is_lost, options, reminder
from seqsup.units import GIB, MIB

MINTS = PromptForm(command=("cli",), mint=("--session-id", "{id}"), resume=("--resume", "{id}"), lost=("No session",))
NAMES = PromptForm(command=("cli",), resume=("resume", "{id}"))  # the CLI chooses the id
FORGETS = PromptForm(command=("cli",))


def past(
    reason: Reason, session: str = "a", *, resumed: bool = False, lost: bool = False, seconds: float = 100.0
) -> PastAttempt:
    outcome = Outcome(reason=reason, why="why", exit=None, seconds=seconds, peak=0, session_lost=lost)
    return PastAttempt(content="content", session=session, resumed=resumed, outcome=outcome)


def new(session: str = "new") -> ChosenSession:
    return ChosenSession(session=session)


def resumes(session: str = "a") -> ChosenSession:
    return ChosenSession(session=session, resumed=True)


@pytest.mark.parametrize(("form", "session"), [(MINTS, "new"), (NAMES, ""), (FORGETS, "")])
def test_first_attempt_has_an_id_of_ours_where_the_cli_takes_one(form: PromptForm, session: str) -> None:
    assert choose(RetryHow.AUTO, form, [], "new") == new(session)


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.SKIPPED])
def test_auto_resumes_after_an_interruption_only(reason: Reason) -> None:
    own = (
        Reason.COMPLETED,
        Reason.FAILED,
        Reason.NO_RESULT,
        Reason.UNFINISHED,
        Reason.SPAWN_FAILED,
        Reason.MISCONFIGURED,
    )
    expected = new() if reason in own else resumes()
    assert choose(RetryHow.AUTO, MINTS, [past(reason)], "new") == expected


def test_resume_and_fresh_do_so_always() -> None:
    assert choose(RetryHow.RESUME, MINTS, [past(Reason.FAILED)], "new") == resumes()
    assert choose(RetryHow.RESUME, MINTS, [past(Reason.COMPLETED)], "new") == new()
    assert choose(RetryHow.FRESH, MINTS, [past(Reason.HARD)], "new") == new()


@pytest.mark.parametrize("how", RetryHow)
def test_next_round_resumes_if_all_rounds_are_one_conversation(how: RetryHow) -> None:
    round = past(Reason.UNFINISHED, resumed=True, seconds=1.0)
    assert choose(how, MINTS, [round] * 3, "new", one_for_all_rounds=True) == resumes()
    assert choose(how, MINTS, [round], "new") == new()


def test_attempt_without_a_known_conversation_starts_one() -> None:
    assert choose(RetryHow.RESUME, NAMES, [past(Reason.HARD, session="")], "new") == new("")
    assert choose(RetryHow.RESUME, FORGETS, [past(Reason.HARD)], "new") == new("")


def test_lost_session_starts_again_under_its_id_once() -> None:
    killed, lost = past(Reason.HARD), past(Reason.FAILED, resumed=True, lost=True)
    assert choose(RetryHow.AUTO, MINTS, [killed, lost], "new") == new("a")
    assert choose(RetryHow.RESUME, MINTS, [killed, lost], "new") == new("a")
    assert choose(RetryHow.AUTO, NAMES, [killed, lost], "new") == new("")
    assert choose(RetryHow.AUTO, MINTS, [killed, lost, killed, lost], "new") == new()


def test_attempt_that_never_began_changes_nothing() -> None:
    never = past(Reason.SPAWN_FAILED, session="b", seconds=0.0)
    assert choose(RetryHow.AUTO, MINTS, [past(Reason.HARD), never], "new") == resumes()
    assert choose(RetryHow.AUTO, MINTS, [never], "new") == new()
    assert reminder([past(Reason.HALTED), never]) == "You were stopped by the user. Continue."


def test_two_brief_resumes_in_a_row_lead_to_a_fresh_start() -> None:
    brief = past(Reason.HARD, resumed=True, seconds=59.0)
    assert choose(RetryHow.AUTO, MINTS, [past(Reason.HARD), brief], "new") == resumes()
    assert choose(RetryHow.AUTO, MINTS, [past(Reason.HARD), brief, brief], "new") == new()
    assert choose(RetryHow.RESUME, MINTS, [past(Reason.HARD), brief, brief], "new") == new()
    assert choose(RetryHow.AUTO, MINTS, [brief, past(Reason.HARD, resumed=True), brief], "new") == resumes()


@pytest.mark.parametrize("reason", [Reason.HALTED, Reason.USAGE_LIMIT, Reason.LOST])
def test_stops_from_outside_do_not_end_a_conversation(reason: Reason) -> None:
    brief = past(reason, resumed=True, seconds=1.0)
    assert choose(RetryHow.AUTO, MINTS, [brief] * 5, "new") == resumes()


FORMS = st.sampled_from((MINTS, NAMES, FORGETS))
PASTS = st.lists(
    st.builds(
        past, st.sampled_from(Reason), st.sampled_from(("", "a", "b")), resumed=st.booleans(), lost=st.booleans(),
        seconds=st.floats(0, 200),
    )
)  # fmt: skip


@given(how=st.sampled_from(RetryHow), form=FORMS, earlier=PASTS)
def test_only_the_last_known_conversation_is_resumed(
    how: RetryHow, form: PromptForm, earlier: list[PastAttempt]
) -> None:
    chosen = choose(how, form, earlier, "new")
    if chosen.resumed:
        assert how is not RetryHow.FRESH
        began = [each for each in earlier if each.outcome.reason not in (Reason.SPAWN_FAILED, Reason.MISCONFIGURED)]
        assert chosen.session == began[-1].session != ""
        assert form.resume
        assert not began[-1].outcome.session_lost
        assert choose(RetryHow.RESUME, form, earlier, "new") == chosen
        assert "Continue" in reminder(earlier)
    assert bool(chosen.session) <= bool(chosen.resumed or form.mint)


@given(how=st.sampled_from(RetryHow), form=FORMS, earlier=PASTS, reason=st.sampled_from(Reason))
def test_lost_session_costs_one_attempt_at_most(
    how: RetryHow, form: PromptForm, earlier: list[PastAttempt], reason: Reason
) -> None:
    """A loss is free, so two in a row would never end."""
    lost = past(Reason.FAILED, resumed=True, lost=True)
    assert not choose(how, form, [*earlier, lost], "new").resumed


def test_costs_of_a_conversation_are_those_since_its_start() -> None:
    def paid(session: str, usd: float | None, *, resumed: bool) -> PastAttempt:
        each = past(Reason.HARD, session, resumed=resumed)
        heard = Conversation(usd_of_session=usd, tokens=Tokens(input=10))
        return replace(each, outcome=replace(each.outcome, conversation=heard))

    attempts = [
        paid("a", 9.0, resumed=False),  # it was lost, and started again
        paid("a", 0.4, resumed=False),
        past(Reason.SPAWN_FAILED, "b"),
        paid("a", None, resumed=True),  # killed before it reported its cost
    ]
    chosen = choose(RetryHow.AUTO, MINTS, attempts, "new")
    assert (chosen.session, chosen.usd, chosen.tokens) == ("a", 0.4, Tokens(input=20))


def test_options_name_the_conversation() -> None:
    assert options(MINTS, new("x")) == ("--session-id", "x")
    assert options(MINTS, resumes("x")) == ("--resume", "x")
    assert options(NAMES, new("")) == ()


@pytest.mark.parametrize("preset", prompt_presets())
def test_every_preset_resumes_and_knows_a_lost_session(preset: str) -> None:
    form = read_preset(preset).prompt
    assert form is not None
    assert form.resume
    assert is_lost(form, ["", f"Error: {form.lost[0]} 1"])
    assert not is_lost(form, ["done", ""])


TREE = (
    ProcessMemory(pid=1, name="claude", command="claude -p", bytes=200 * MIB, kind=ProcessKind.AGENT),
    ProcessMemory(pid=2, name="node", command="node jest.js", bytes=3600 * MIB),
    ProcessMemory(pid=0, name="other", command="", bytes=300 * MIB),
)


@pytest.mark.parametrize(
    ("reason", "processes", "expected"),
    [
        (Reason.HARD, TREE,
         "You were stopped: your process tree reached 4 GiB (node jest.js 3.5 GiB)."
         " Continue, but do not run that again as it was."),
        (Reason.SOFT, TREE[:1], "You were stopped: your process tree reached 4 GiB. Continue, but use less memory."),
        (Reason.HOST_FLOOR, TREE[:1],
         "You were stopped: this machine had too little memory left, and your process tree used 4 GiB."
         " Continue, but use less memory."),
        (Reason.HEAP_OOM, (),
         "You were stopped: a process of yours reached its heap limit. Continue, but use less memory."),
        (Reason.PROCESSES, (), "You were stopped: why. Continue, but start fewer processes."),
        (Reason.TIMEOUT, (), "You were stopped after 1 h: your time was over. Continue."),
        (Reason.STALLED, (), "You were stopped: why. Continue, but do not run again what blocked you."),
        (Reason.USAGE_LIMIT, (), "You were stopped by the usage limit of your provider. Continue."),
        (Reason.HALTED, (), "You were stopped by the user. Continue."),
        (Reason.LOST, (),
         "You were stopped by a crash of your supervisor or of the machine."
         " Continue, but first check what your last command has done."),
        (Reason.CRASHED, (),
         "You were stopped: your program was ended (why). Continue, but first check what your last command has done."),
        (Reason.UNFINISHED, (), "Your work is not finished: why. Continue."),
        (Reason.NO_RESULT, (), "Your last turn failed: why. Continue."),
    ],
)  # fmt: skip
def test_reminder_says_why_the_last_turn_ended(
    reason: Reason, processes: tuple[ProcessMemory, ...], expected: str
) -> None:
    outcome = Outcome(reason=reason, why="why", exit=None, seconds=3600.0, peak=4 * GIB, processes=processes)
    assert reminder([PastAttempt(content="", session="a", resumed=False, outcome=outcome)]) == expected
