"""An event, a line: in words for people. Pure."""

from functools import singledispatch

from msgspec import Struct

from seqsup.model import events
from seqsup.model.enums import DEBUG, ERROR, HALTS, INFO, WARNING, Verdict
from seqsup.model.events import Event
from seqsup.model.outcome import ending
from seqsup.model.process_names import how_many, processes
from seqsup.model.reason import KILLED, OF_MEMORY, STOPPED_BY_US, Reason
from seqsup.policy.classify import last_words
from seqsup.policy.workspaces import work
from seqsup.text import at_a_time, counted, labelled, named, narrowed
from seqsup.units import MIB, format_age, format_duration, format_size

SUCCESS = "SUCCESS"
_COMMAND = 300  # characters: a prompt may be pages long
_SLOW = 1.0  # seconds: a drain that takes longer is worth a line on the terminal
_MUCH = 32 * MIB  # and so is an agent that gave back as much; a bare Node process uses 40 MiB


class Message(Struct, frozen=True):
    """One line of the log."""

    level: str
    mark: str
    word: str
    text: str = ""
    more: str = ""  # details: a terminal shows as much of them as the rest of the line holds
    table: bool = False  # the final table says it too: not for the terminal
    told: bool = False  # an earlier line says it, unless only errors are shown


@singledispatch
def say(event: Event) -> Message | None:
    """Put an event into words, unless others say it already. A stop, kill, wait or retry comes with its reason and
    numbers. Events that need more than one sentence have a function of their own below."""
    match event:
        case events.HaltRequested(halt=halt, by=by):
            return Message(WARNING, "■", "stop", f"{by}: the run stops {HALTS[halt]}")
        case events.Spawned(attempt=attempt):
            return Message(INFO, "▶", "started", f"attempt {attempt}" if attempt > 1 else "")
        case events.SessionReported(session=session):
            return Message(DEBUG, "▶", "session", session)
        case events.AgentProgress(conversation=conversation):
            return Message(DEBUG, "▶", "works", f"turn {conversation.turns}")
        case events.LeaderEnded(outcome=outcome):
            ended = ending(outcome.exit)
            text = f"{ended}, as expected; checking for leftover processes"
            return Message(DEBUG, "■", "ended", text)
        case events.BriefWritten(folder=folder, stands=stands):
            summary = f"later agents get the summary from {stands}" if stands else "no summary from an earlier run"
            return Message(INFO, "✔", "brief", f"{folder}/artifacts/brief.md; {summary}")
        case events.AgentDue():
            return Message(DEBUG, "▶", "its turn")
        case events.AgentSkipped(why=why):
            return Message(INFO, "–", "skipped", why)
        case events.AdmissionDelayed(why=why):
            return Message(WARNING, "…", "waits", f"for memory: {why}")
        case events.LimitPaused(why=why):
            return Message(ERROR, "…", "paused", why)  # for hours, so --quiet says it too
        case events.StartDelayed(why=why):
            return Message(ERROR, "…", "waits", why)
        case events.RunPaused(why=why):
            return Message(ERROR, "■", "paused", why)  # for as long as the user likes, so --quiet shows it too
        case events.RunContinued(seconds=seconds):
            return Message(INFO, "▶", "continues", f"after {format_duration(seconds)}")
        case events.HookStarted(point=point, pid=pid, command=command):
            return Message(DEBUG, "▶", "hook", f"{point}: pid {pid}  {command[:_COMMAND]}")
        case events.Warned(message=message):
            return Message(WARNING, "!", message)
    raise TypeError(f"no words for {event!r}")


@say.register
def _(event: events.MemoryWarned | events.MemoryHigh) -> Message:
    name, limit = ("warn", event.warn) if isinstance(event, events.MemoryWarned) else ("soft", event.soft)
    return Message(WARNING, "!", "memory", f"{format_size(event.used)} above {name} ({format_size(limit)})")


@say.register
def _(event: events.ToolKilled) -> Message:
    over = f"{format_size(event.used)} above {event.key} ({format_size(event.limit)})"
    return Message(WARNING, "☠", "tool", f"{over}: ended {processes((event.process,))}, not the agent", event.why)


@say.register
def _(event: events.OutputCut) -> Message:
    most = format_size(event.most)
    text = f"{event.stream} above output.max ({most}): its middle is discarded"
    return Message(WARNING, "!", "output", text)


@say.register
def _(event: events.RunStarted) -> Message:
    agents = f"{counted(len(event.agents), 'agent')}, {at_a_time(event.concurrency).partition(' at your')[0]}"
    text = f"{event.name}: {agents}, in {event.containment}"
    if event.waited >= _SLOW:
        text += f"; waited {format_duration(event.waited)} for the machine's turn"
    if those := narrowed(event.only, event.start_from):
        text += f"; {those}"
    if event.resumed:
        before = len(set(event.agents) & set(event.completed_before))  # an agent outside this selection may have, too
        text += f"; {before or 'none'} of them completed before"
    if event.again:
        text += f"; again: {named(f'{agent} ({why})' for agent, why in event.again.items())}"
    if event.gone:
        text += f"; no longer in the profile: {named(labelled(name, event.items.get(name)) for name in event.gone)}"
    return Message(INFO, "▶", "resumed" if event.resumed else "started", text)


@say.register
def _(event: events.AttemptStarted) -> Message:
    limits = [f"{name} {format_size(size)}" for name, size in (("hard", event.hard), ("heap", event.heap)) if size]
    how = [event.runtime, *limits, " ".join(event.options), f"log {event.folder}", " ".join(event.command)[:_COMMAND]]
    if event.resumed:
        return Message(INFO, "↻", "resumes", f"its conversation {event.session}", "  ".join(filter(None, how)))
    return Message(DEBUG, "▶", "starts", "  ".join(filter(None, how)))


@say.register
def _(event: events.WorkspaceDue | events.WorkspaceOpened | events.WorkspaceSaved) -> Message:
    match event:
        case events.WorkspaceDue(branch=branch, git=git, folder=folder):
            return Message(DEBUG, "▶", "workspace", f"of {git}, branch {branch}, in {folder}")
        case events.WorkspaceOpened(branch=branch, folder=folder):
            return Message(DEBUG, "▶", "workspace", f"branch {branch}, in {folder}")
        case events.WorkspaceSaved(attempt=attempt, branch=branch, commits=commits, files=files):
            of = " and ".join(
                counted(number, what) for number, what in ((commits, "commit"), (files, "uncommitted file")) if number
            )  # fmt: skip
            return Message(INFO, "↻", "workspace", f"work of attempt {attempt} ({of}) is on branch {branch}")


@say.register
def _(event: events.WorkspaceEnded) -> Message:
    text = work(
        event.branch, commits=event.commits, changed=event.changed, pushed=event.pushed, removed=event.removed,
        folder=event.folder, holds=event.holds, why=event.why,
    )  # fmt: skip
    next_step = event.next[0] if event.next else ""
    return Message(WARNING if event.why else INFO, "✔", "workspace", text, next_step, table=not event.why)


@say.register
def _(event: events.PeakRose) -> Message:
    factor = f"{event.peak / event.usual:.1f} × " if event.usual else ""
    usual = f"{format_size(event.usual)} of {event.attempts} attempts"
    text = f"peak {format_size(event.peak)} is {factor}its median {usual}"
    return Message(WARNING, "!", "more", text)


@say.register
def _(event: events.GcRequested) -> Message:
    asked = counted(event.processes, "Node process", "Node processes")
    above = "between agents" if event.limit is None else f"above {event.key} ({format_size(event.limit)})"
    text = f"{format_size(event.used)} {above}: GC in {asked}"
    return _collection(event.owner, "memory", text)


@say.register
def _(event: events.GcDone) -> Message:
    done, before, after = event.collection, event.collection.before, event.collection.after
    text = (
        f"freed {format_size(done.freed)} in {format_duration(done.seconds)}, the tree uses {format_size(event.used)}"
    )
    more = (
        f"heap {format_size(before.used)} → {format_size(after.used)},"
        f" external {format_size(before.external)} → {format_size(after.external)}"
    )
    more += f"; {done.verdict}" if done.verdict is not Verdict.NONE else ""
    if done.answered < done.asked:
        more += f"; {done.asked - done.answered} of {done.asked} Node processes did not answer"
    return _collection(event.owner, "collected", text, more)


def _collection(owner: events.Owner, word: str, text: str, more: str = "") -> Message:
    if owner.companion:
        return Message(INFO, "↻", "companion", f"{owner.name}: {text}", more)
    return Message(INFO, "↻", word, text, more)


@say.register
def _(event: events.StopSent) -> Message:
    held = processes(event.processes)
    if event.reason is None:
        left = counted(how_many(event.processes), "leftover process", "leftover processes")
        return Message(INFO, "↻", "leftovers", f"{event.signal} to {left}", held or event.why)
    # The end of the attempt says it on the terminal, a moment or a grace period later
    return Message(DEBUG, "☠", event.reason, f"{event.signal}: {event.why}", held)


@say.register
def _(event: events.AttemptEnded) -> Message:
    outcome, reason = event.outcome, event.outcome.reason
    how, seconds = ending(outcome.exit), format_duration(outcome.seconds)
    of = f" of {format_size(event.hard)}" if event.hard else ""
    peak = f"peak {format_size(outcome.peak)}{of}" if outcome.peak else ""
    if reason is Reason.COMPLETED:
        return Message(SUCCESS, "✔", reason, _spaced(how, seconds, peak))
    if reason in STOPPED_BY_US or reason is Reason.KERNEL_OOM:
        text = f"{'stopped' if outcome.signal is None else 'killed'} after {seconds}"
        more = "" if reason is Reason.HALTED else _spaced(outcome.why, processes(outcome.processes))
    else:
        text = _spaced(how, seconds)
        more = outcome.why.removeprefix(how).lstrip(":, ")
    # Of what does not fit, the log's file and the table have all
    first = peak if reason in OF_MEMORY else ""
    rest = _spaced(more, "" if first else peak)
    return Message(WARNING, "☠" if reason in KILLED else "✖", reason, _spaced(text, first), rest)


def _spaced(*parts: str) -> str:
    return "  ".join(filter(None, parts))


@say.register
def _(event: events.RetryScheduled) -> Message:
    bare = ", without seqsup's Node options" if event.bare else ""
    soon = f" in {format_duration(event.wait)}" if event.wait else ""
    text = f"attempt {event.attempt}{soon}, after {event.after}{bare}"
    if event.resumes is not None:
        text += ", resumes its conversation" if event.resumes else ", starts a fresh conversation"
    return Message(INFO, "↻", "retry", text, event.outlook)


@say.register
def _(event: events.AgentEnded) -> Message | None:
    if event.reason is Reason.COMPLETED and event.attempts == 1:
        return None  # its attempt did
    if event.reason is Reason.COMPLETED:
        return Message(DEBUG, "✔", "done", f"after {counted(event.attempts, 'attempt')}")
    if event.ok:
        return Message(SUCCESS, "✔", event.reason, "as the profile expects")
    if event.reason is Reason.HALTED:
        return Message(WARNING, "■", event.reason, event.why, told=event.attempts > 0)
    if event.attempts <= 1:
        return Message(ERROR, "✖", "failed", event.reason, event.why, told=event.attempts > 0)
    reason = "" if event.reason is Reason.FAILED else f": {event.reason}"
    text = f"after {event.attempts} attempts{reason}"
    return Message(ERROR, "✖", "failed", "; ".join(filter(None, (text, event.not_retried))))


@say.register
def _(event: events.Drained) -> Message:
    sizes = {"end": event.end, "gave back": event.gave_back}
    told = ", ".join(f"{name} {format_size(size)}" for name, size in sizes.items() if size is not None)
    host = f"available {format_size(event.before)} → {format_size(event.after)}"
    strays = f"found outside its tree: {processes(event.strays)}" if event.strays else ""
    if event.reached:
        slow = f"in {format_duration(event.seconds)}" if event.seconds >= _SLOW else ""
        text = "; ".join(filter(None, (slow, told, strays)))
        shown = slow or strays or (event.gave_back or 0) >= _MUCH
        return Message(INFO if shown else DEBUG, "✔", "drained", text, host)
    text = "; ".join(filter(None, (told, host, f"the run uses {format_size(event.owned)}", strays)))
    then = f"; next: {event.on_timeout}" if event.on_timeout else ""
    return Message(ERROR, "!", "undrained", f"after {format_duration(event.seconds)}: {event.why} ({text}){then}")


@say.register
def _(event: events.CompanionEvent) -> Message:
    name = event.companion
    match event:
        case events.CompanionStarted(command=command):
            return Message(INFO, "▶", "companion", f"{name} is starting", " ".join(command)[:_COMMAND])
        case events.CompanionReady(seconds=seconds):
            return Message(INFO, "✔", "companion", f"{name} is ready after {format_duration(seconds)}")
        case events.CompanionExited(seconds=seconds, why=why, folder=folder, output=output):
            said = last_words(output.encode())  # of Node's stack too: it may be told several times
            more = f"{said}; output in {folder}" if said else f"output in {folder}"
            return Message(WARNING, "✖", "companion", f"{name} after {format_duration(seconds)}: {why}", more)
        case events.CompanionStopped(seconds=seconds, reason=reason, processes=stopped):
            held = f": {processes(stopped)}" if stopped else ""
            text = f"{name} stopped in {format_duration(seconds)} ({reason}){held}"
            return Message(DEBUG, "■", "companion", text)
        case events.CompanionRestarted(reason=reason, why=why):
            return Message(INFO, "↻", "companion", f"{name} restarted ({reason})", why)


@say.register
def _(event: events.ChainEnded) -> Message:
    over = f"{event.chain} done ({counted(event.agents, 'agent')})"
    had, holds = format_size(event.baseline), f"the run uses {format_size(event.owned)}"
    if event.reached:
        text = f"{over}: {format_size(event.available)} available"
        return Message(INFO, "✔", "chain", text, f"before the first agent {had}; {holds}")
    text = f"{over}, but memory is not back: {event.why}; before the first agent {had} available; {holds}"
    return Message(ERROR, "!", "chain", text)


@say.register
def _(event: events.HookEnded) -> Message:
    text = f"{event.point}: {event.command}  {format_duration(event.seconds)}"
    if event.left_over:
        text += f"; stopped leftover {processes(event.left_over)}"
    if event.ok:
        return Message(DEBUG, "✔", "hook", text)
    said = f"; output in {event.folder}: {event.output}" if event.output else ""
    return Message(WARNING, "✖", "hook", f"{text}  {event.why}{said}")


@say.register
def _(event: events.Unkillable) -> Message:
    details = event.why or ", ".join(f"pid {each.pid}" for each in event.processes)
    text = f"still running {format_duration(event.seconds)} after SIGKILL: {details}"
    return Message(ERROR, "!", "unkillable", text)


@say.register
def _(event: events.AttemptLost) -> Message:
    stopped = f"; stopped {processes(event.stopped)}" if event.stopped else "; no processes were left"
    return Message(ERROR, "✖", "lost", f"its supervisor died{stopped}")


@say.register
def _(event: events.RunsRemoved) -> Message:
    text = f"{', '.join(event.runs)}: older than run.keep {format_age(event.keep)}; {format_size(event.bytes)} freed"
    return Message(INFO, "–", "removed", text)


@say.register
def _(event: events.RunEnded) -> Message:
    text = (
        f"exit {event.exit_code}  {format_duration(event.seconds)}  {event.completed} completed,"
        f" {event.gave_up} failed, {event.skipped} skipped, {event.not_run} not run"
    )
    if event.sequence_violations:
        pairs = counted(event.sequence_violations, "pair")
        text += f"; {pairs} of attempts ran at the same time: internal error"
        return Message(ERROR, "✖", "ended", text)
    text += f"  {event.why}" if event.why else ""
    return Message(ERROR if event.exit_code else SUCCESS, "■", "ended", text, table=True)
