"""The words of a notification: what happened, and which command to run next. Pure text from an event and a view."""

import shlex
from collections.abc import Mapping

from seqsup.model import events
from seqsup.model.enums import Notice
from seqsup.model.process_names import processes
from seqsup.model.run_view import AgentState, RunView
from seqsup.text import cut, printable
from seqsup.units import format_duration
from seqsup.view.summary import headline, logs, reasons, resume

_LINES = 5  # about agents that failed
_LONG = 300  # characters of a line
_ENDINGS = {0: "done", 75: "stopped at a usage limit"}


def words(recorded: events.Recorded, view: RunView, held: Mapping[Notice, int], of: str) -> tuple[str, str]:
    """Return title and body. `of` is what commands find the run by; `held` was held back before this message."""
    what, lines = _said(recorded, view, of)
    if held:
        kinds = ", ".join(f"{number} × {kind}" for kind, number in held.items())
        lines.append(f"Not sent since the last message, at most one of a kind in 5 minutes: {kinds}")
    title = f"seqsup {view.name} {recorded.run}: {what}"
    return printable(title), "\n".join(cut(printable(line), _LONG) for line in lines if line)


def _said(recorded: events.Recorded, view: RunView, of: str) -> tuple[str, list[str]]:
    match event := recorded.body:
        case events.RunEnded():
            return _ended(event, recorded.mono, view, of)
        case events.LimitPaused(agent=agent, why=why):
            return f"{agent} is at a usage limit", [f"Paused {why}.", f"next: seqsup status {of}"]
        case events.RunPaused(why=why):
            return "paused", [f"No further agent starts: {why}", f"next: seqsup status {of}"]
        case events.Drained(agent=agent, why=why, seconds=seconds):
            body = f"Memory did not drain in {format_duration(seconds)}: {why}"
            return f"memory is not back after {agent}", [body, f"next: seqsup status {of}"]
        case events.Unkillable(agent=agent, processes=left, seconds=seconds, why=why):
            body = f"Still running {format_duration(seconds)} after SIGKILL: {processes(left)}"
            return f"{agent} cannot be killed", [body, why, "next: seqsup sweep"]
        case events.AgentEnded(agent=agent, why=why):
            return f"{agent} failed", [why, "The run continues.", f"next: {_logs(of, agent)}"]
        case events.AttemptEnded(agent=agent, attempt=attempt, outcome=outcome):
            lines = [f"Attempt {attempt}: {outcome.why}", processes(outcome.processes), f"next: {_logs(of, agent)}"]
            return f"{agent} was stopped ({outcome.reason})", lines
    raise TypeError(f"no notification for {event!r}")


def _ended(event: events.RunEnded, now: float, view: RunView, of: str) -> tuple[str, list[str]]:
    what = _ENDINGS.get(event.exit_code, "stopped" if event.exit_code > 128 else "failed")
    lines = [headline(view, now).removeprefix(f"{view.name}  "), event.why]
    failed = list(reasons(view))
    lines += [f"{about}: {why}" for about, why, _ in failed[:_LINES]]
    lines += [f"and {len(failed) - _LINES} more"] if len(failed) > _LINES else []
    gave_up = [agent.name for agent in view.agents.values() if agent.state is AgentState.GAVE_UP]
    following = logs(gave_up, of) + (resume(view) if event.exit_code else [])
    return what, [*lines, f"next: {' · '.join(following or [f'seqsup report {of}'])}"]


def _logs(of: str, agent: str) -> str:
    return f"seqsup logs {of} {shlex.quote(agent)}"
