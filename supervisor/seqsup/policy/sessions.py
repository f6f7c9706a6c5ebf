"""Conversations of agent CLIs: which attempt resumes one, and the prompt of the resumed turn. Pure."""

import re
from collections.abc import Sequence

from msgspec import Struct

from seqsup.model.conversation import Tokens
from seqsup.model.enums import ProcessKind, RetryHow
from seqsup.model.outcome import Outcome, PastAttempt
from seqsup.model.preset import PromptForm, put
from seqsup.model.process_names import OTHER, by_program
from seqsup.model.reason import INTERRUPTED, OF_MEMORY, Reason
from seqsup.text import cut, printable
from seqsup.units import format_duration, format_size

_BRIEF = 60.0  # seconds: a resumed attempt that is over so soon has not helped
_NEVER_BEGAN = (Reason.SPAWN_FAILED, Reason.MISCONFIGURED)
# Ends that the conversation did not cause
_BLAMELESS = (Reason.HALTED, Reason.USAGE_LIMIT, Reason.NO_CREDIT, Reason.BUDGET, Reason.LOST, Reason.UNFINISHED)
_LARGE = 0.25  # share of a tree's memory from which a program is named
_WHY = 300  # characters


class ChosenSession(Struct, frozen=True, kw_only=True):
    """The conversation of an attempt."""

    session: str = ""  # its id; empty: the CLI chooses one, or has none
    resumed: bool = False  # it exists already
    usd: float = 0.0  # its cost so far
    tokens: Tokens = Tokens()  # and the tokens that it took


NONE_CHOSEN = ChosenSession()


def choose(
    how: RetryHow, form: PromptForm, past: Sequence[PastAttempt], new_id: str, *, one_for_all_rounds: bool = False
) -> ChosenSession:
    """Choose the conversation of the next attempt. `past` are the earlier ones of this agent, as it is now."""
    fresh = ChosenSession(session=new_id if form.mint else "")
    began = [each for each in past if each.outcome.reason not in _NEVER_BEGAN]
    if not began:
        return fresh
    last = began[-1]
    if last.outcome.session_lost:
        # Its id is free then, unless the CLI contradicts itself
        losses = sum(each.outcome.session_lost and each.session == last.session for each in began)
        return ChosenSession(session=last.session) if form.mint and losses == 1 else fresh
    unfinished = last.outcome.reason is Reason.UNFINISHED
    wanted = one_for_all_rounds if unfinished else _may_resume(how, last.outcome.reason)
    if not (wanted and form.resume and last.session) or _in_vain(began[-2:]):
        return fresh
    return _resumed(last.session, past)


def _resumed(session: str, past: Sequence[PastAttempt]) -> ChosenSession:
    """Add up what the conversation took: in the attempts since it was started."""
    usd, tokens = 0.0, Tokens()
    for each in reversed(past):
        if each.session != session:
            continue
        if (heard := each.outcome.conversation) is not None:
            usd, tokens = max(usd, heard.usd_of_session or 0.0), tokens + heard.tokens
        if not each.resumed:
            break
    return ChosenSession(session=session, resumed=True, usd=usd, tokens=tokens)


def _may_resume(how: RetryHow, after: Reason) -> bool:
    if how is RetryHow.RESUME:
        return after is not Reason.COMPLETED
    return how is RetryHow.AUTO and after in INTERRUPTED


def _in_vain(last_two: Sequence[PastAttempt]) -> bool:
    return len(last_two) == 2 and all(
        each.resumed and each.outcome.seconds < _BRIEF and each.outcome.reason not in _BLAMELESS
        for each in last_two
    )  # fmt: skip


def options(form: PromptForm, chosen: ChosenSession) -> tuple[str, ...]:
    """Return the words of the command line that name the conversation."""
    return put(form.resume if chosen.resumed else form.mint, "id", chosen.session) if chosen.session else ()


def is_lost(form: PromptForm, printed: Sequence[str]) -> bool:
    """Say whether a CLI reports that the conversation to resume does not exist. `printed` are its outputs."""
    return any(re.search(pattern, text) for pattern in form.lost for text in printed)


_CHECK = "Continue, but first check what your last command has done."
_REMINDERS = {
    Reason.HEAP_OOM: "You were stopped: a process of yours reached its heap limit. Continue, but use less memory.",
    Reason.PROCESSES: "You were stopped: {why}. Continue, but start fewer processes.",
    Reason.TIMEOUT: "You were stopped after {seconds}: your time was over. Continue.",
    Reason.STALLED: "You were stopped: {why}. Continue, but do not run again what blocked you.",
    Reason.BUDGET: "You were stopped because your budget was spent. It is larger now. Continue.",
    Reason.NO_CREDIT: "You were stopped because your provider's credit was used up. Continue.",
    Reason.USAGE_LIMIT: "You were stopped by the usage limit of your provider. Continue.",
    Reason.HALTED: "You were stopped by the user. Continue.",
    Reason.LOST: f"You were stopped by a crash of your supervisor or of the machine. {_CHECK}",
    Reason.UNFINISHED: "Your work is not finished: {why}. Continue.",
    Reason.CRASHED: f"You were stopped: your program was ended ({{why}}). {_CHECK}",
}
_FAILED = "Your last turn failed: {why}. Continue."


def reminder(past: Sequence[PastAttempt]) -> str:
    """Return the prompt of a resumed turn: why the last one ended, and what is to be different."""
    last = next(each.outcome for each in reversed(past) if each.outcome.reason not in _NEVER_BEGAN)
    if last.reason is Reason.HOST_FLOOR:
        return _after_memory("this machine had too little memory left, and your process tree used", last)
    if last.reason in OF_MEMORY and last.reason is not Reason.HEAP_OOM:
        return _after_memory("your process tree reached", last)
    why, seconds = cut(printable(last.why), _WHY), format_duration(last.seconds)
    return _REMINDERS.get(last.reason, _FAILED).format(why=why, seconds=seconds)


def _after_memory(what: str, last: Outcome) -> str:
    tools = by_program(each for each in last.processes if each.kind is not ProcessKind.AGENT)
    tools.pop(OTHER, None)
    name, size = next(iter(tools.items()), ("", 0))
    if not name or size < _LARGE * last.peak:
        return f"You were stopped: {what} {format_size(last.peak)}. Continue, but use less memory."
    held = f"{format_size(last.peak)} ({name} {format_size(size)})"
    return f"You were stopped: {what} {held}. Continue, but do not run that again as it was."
