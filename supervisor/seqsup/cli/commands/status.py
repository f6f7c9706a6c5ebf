"""`seqsup status`: the run now, or the last one."""

import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from seqsup.cli import complete
from seqsup.cli.find_run import Found, NeverRan, find, in_queue, job_number
from seqsup.cli.output import put_object
from seqsup.cli.signals import suspended
from seqsup.model.conversation import Conversation
from seqsup.model.enums import HALTS
from seqsup.model.events import MemorySampled
from seqsup.model.preset import takeover
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import processes
from seqsup.model.run_view import AgentState, AgentView, CompanionView, HookView, Now, RunState, RunView, remaining
from seqsup.policy.passed_on import seen
from seqsup.state.run_folder import PAUSED, state_dir
from seqsup.state.samples import read
from seqsup.state.turn import Waiting, ahead, queued
from seqsup.text import at_a_time, counted, cut, named, printable, styled, wrap
from seqsup.units import format_duration, format_share, format_size
from seqsup.view.last_line import LastLines, results
from seqsup.view.progress import progress
from seqsup.view.run_fields import of_run
from seqsup.view.summary import RUN_STYLES, body, lead, next_steps, resume
from seqsup.view.terminal import here, width

SCHEMA = "seqsup.status/1"
_TAKEN_OVER = 3  # conversations for which the command is shown
DIED = "died"  # told by the lock of its folder, never by its events
UNKNOWN = "unknown"  # its end is not told, and its folder is closed to us
NEVER_RAN = "never-ran"
WAITING = "waiting"  # told by the queue


@click.command()
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("-w", "--watch", is_flag=True, help="Keep showing it, as `start` does. Ctrl-C does not stop the run.")
@click.option("-v", "--verbose", is_flag=True, help="Show also what memory each agent gave back.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
def status(run: str | None, watch: bool, verbose: bool, as_json: bool) -> int:
    """Show the active run, or the last one.

    RUN is a number (r42 or 42), a profile's name or its file; or q7, one that waits for its turn; or '#12' or j12, a
    job of the queue. Without it: the run that runs, else the last.

    Exit codes: 0 it runs, waits or completed, 1 it did not complete, 3 nothing ran yet.
    """
    if (job := job_number(run)) is not None and (code := _of_job(job, as_json)) is not None:
        return code
    if run is not None and job is None and (waiting := in_queue(run)):
        return _waits(waiting, as_json)
    try:
        found = find(run)
    except NeverRan as error:
        if as_json:
            put_object(SCHEMA, {"run": None, "state": NEVER_RAN})
        else:
            click.echo(f"seqsup: {error}", err=True)
        return 3
    if watch:
        from seqsup.cli.watch import watch as look_on

        look_on(found)
    state, view = state_of(found)
    tell_closed(found)
    if as_json:
        if state == RunState.RUNNING and not found.closed():
            _hear(view, found.folder)
        put_object(SCHEMA, _fields(found, view, state))
    else:
        pauses = state == RunState.RUNNING and (found.folder / PAUSED).exists()
        left: tuple[ProcessMemory, ...] | None = ()
        if state == DIED:
            from seqsup.runner.recover import survivors  # costs 60 ms, and supervisors seldom die

            left = None if found.closed() else survivors(found.journal, found.state_dir, found.row)
        elsewhere = found.state_dir != state_dir()
        now = Now(time.time(), time.monotonic())
        uses = _figures(view, found.folder, now) if state == RunState.RUNNING and not found.closed() else []
        said = results(view, found.folder) if state == RunState.COMPLETED and not found.closed() else None
        text = _text(
            view, state, now, left, pauses=pauses, elsewhere=elsewhere, uses=uses, said=said, verbose=verbose
        )  # fmt: skip
        click.echo(text)
        for each in queued(state_dir()):
            click.echo(_in_turn(each))
    return 0 if state in (RunState.COMPLETED, RunState.RUNNING, RunState.STARTING) else 1


def _waits(waiting: Waiting, as_json: bool) -> int:
    if as_json:
        put_object(SCHEMA, {"run": waiting.label, "name": waiting.name, "state": WAITING, "pid": waiting.pid})
    else:
        click.echo(_in_turn(waiting))
        click.echo(f"  behind {', '.join(ahead(state_dir(), waiting))}")
    return 0


def _of_job(number: int, as_json: bool) -> int | None:
    """Show a job of the queue. None: it has a run here, which is to be shown."""
    from seqsup.cli.jobs import opened, run_here, told
    from seqsup.queue.jobs import JobState
    from seqsup.queue.table import object_of

    with opened() as queue:
        job = queue.job(number)
        if run_here(job) is not None:
            if not as_json:
                click.echo(told(job))
            return None
        if as_json:
            put_object(SCHEMA, object_of(job))
        else:
            click.echo(told(job))
    return 1 if job.state in (JobState.FAILED, JobState.CANCELLED) else 0


def _in_turn(waiting: Waiting) -> str:
    return f"{waiting.label}  {waiting.name} waits for the machine's turn, pid {waiting.pid}, since {waiting.since}"


def state_of(found: Found) -> tuple[str, RunView]:
    """The run's state, with the one that no event can tell: its supervisor died."""
    try:
        otherwise = None if found.lives() else DIED
    except OSError:
        otherwise = UNKNOWN
    view = found.view()
    open_ended = view.state in (RunState.RUNNING, RunState.STARTING)
    return (otherwise if open_ended and otherwise else str(view.state)), view


def tell_closed(found: Found) -> None:
    if why := found.closed():
        click.echo(f"seqsup: {found.label} cannot be read: {why}", err=True)


def _text(
    view: RunView, state: str, now: Now, left: tuple[ProcessMemory, ...] | None, *, pauses: bool, elsewhere: bool,
    uses: list[str], said: Mapping[str, str] | None, verbose: bool,
) -> str:  # fmt: skip
    died = state == DIED
    columns, told = width(), _died(view, left) if died else _now(view, state, now, pauses=pauses)
    unswept = died and bool(left or view.count(AgentState.RUNNING))
    if died:
        view.lose()
    lines = wrap(f"{view.run}  {lead(view, None if state in (DIED, UNKNOWN) else now.mono)}", columns)
    lines += wrap(f"  {told}", columns)
    lines += [cut(line, columns or len(line)) for line in uses]
    if state == RunState.RUNNING and view.companions:
        lines += wrap(f"  beside it: {', '.join(map(_companion, view.companions.values()))}", columns)
    lines += _takeover(view, columns) if state != RunState.RUNNING else []
    below = [
        *body(
            view, width=columns, died=died, unswept=unswept, here=here(), elsewhere=elsewhere, said=said,
            memory=verbose,
        )
    ]  # fmt: skip
    if state == RunState.RUNNING and not elsewhere:
        below += next_steps(("seqsup status --watch", f"seqsup logs {view.run} -f", "seqsup stop"), columns)
    return "\n".join([*lines, *below])


def _samples(view: RunView, folder: Path) -> Iterator[tuple[AgentView, MemorySampled]]:
    """Yield the timeline of each attempt that runs."""
    running = {agent.name: agent for agent in view.at_turn if agent.state is AgentState.RUNNING}
    for sample in read(folder):
        agent = running.get(sample.agent)
        if agent is not None and sample.attempt == agent.attempt:
            yield agent, sample


def _hear(view: RunView, folder: Path) -> None:
    """Take the conversations of this moment into the view."""
    said = {agent.name: sample.conversation for agent, sample in _samples(view, folder) if sample.conversation}
    for name, conversation in said.items():
        view.agents[name].hear(conversation)


def _figures(view: RunView, folder: Path, now: Now) -> list[str]:
    """Say what each running agent uses, and what it printed last. Its peak and time so far go into the view."""
    used, conversations = dict[str, int](), dict[str, Conversation]()
    for agent, sample in _samples(view, folder):
        used[agent.name] = sample.used
        agent.peak = max(agent.peak, sample.peak)
        if sample.conversation is not None:
            conversations[agent.name] = sample.conversation
    lines, output = [], LastLines(folder)
    for agent in (each for each in view.at_turn if each.state is AgentState.RUNNING):
        agent.seconds += max(0.0, now.mono - agent.began) if agent.began is not None else 0.0
        if (size := used.get(agent.name)) is not None:
            of = f" of {format_size(agent.hard)} ({format_share(size / agent.hard)})" if agent.hard else ""
            lines.append(f"  {agent.name} uses {format_size(size)}{of}, peak {format_size(agent.peak)}")
        if (conversation := conversations.get(agent.name)) is not None:
            agent.hear(conversation)
            if told := progress(conversation, now.mono):
                lines.append(f"  {agent.name} works: {' · '.join(map(printable, told))}")
        if agent.folder is not None and (said := output.of(agent.folder)) is not None:
            lines.append(f"  {agent.name} said, {said.age(now.at)}: {printable(said.text)}")
    return lines


def _takeover(view: RunView, columns: int | None) -> list[str]:
    """Say how a person continues conversations of agents that did not complete, or else the last one.

    A command that does not fit gets a line of its own, and is never cut: it is there to be copied.
    """
    known = [agent for agent in view.agents.values() if agent.session and agent.dialect and not agent.before]
    open_ended = [agent for agent in known if agent.state is not AgentState.COMPLETED]
    lines: list[str] = []
    for agent in (open_ended or known[-1:])[:_TAKEN_OVER]:
        if words := takeover(agent.dialect, agent.session):
            told, command = f"  to continue with {agent.name} yourself:", shlex.join(words)
            fits = columns is None or len(f"{told} {command}") <= columns
            lines += [f"{told} {command}"] if fits else [*wrap(told, columns), f"    {command}"]
    return lines


def _died(view: RunView, left: tuple[ProcessMemory, ...] | None) -> str:
    text = f"its supervisor (pid {view.supervisor}) died" if view.supervisor else "its supervisor died"
    if running := [agent.label for agent in view.at_turn if agent.state is AgentState.RUNNING]:
        text += f" while {named(running)} ran"
    lives = f"still running: {processes(left)}; `seqsup sweep` stops them" if left else "no processes left"
    lives = "leftover processes are unknown" if left is None else lives
    return "; ".join([styled("red", text), lives, *(f"`{command}` resumes it" for command in resume(view, here()))])


def _now(view: RunView, state: str, now: Now, *, pauses: bool) -> str:
    if state == RunState.STARTING:
        return "about to start"
    if state == RunState.RUNNING:
        turns = (
            [styled("yellow", f"paused: {view.paused}")]
            if view.paused
            else [_turn(agent, now) for agent in view.awaited]
        )
        parts = [f"running, pid {view.supervisor}", *(turns or [view.between])]
        parts += [_hook(each, now.mono) for each in view.hooks.values()]
        if view.concurrency > 1:
            parts.insert(1, at_a_time(view.concurrency))
        if view.supervisor is not None and (remedy := suspended(view.supervisor)):
            parts.insert(1, styled("red", f"SUSPENDED: it watches nothing until `{remedy}`"))
        parts.append(_left(view, now.mono))
        parts += [f"stops {HALTS[view.halt]}"] if view.halt else []
        if pauses and not view.paused and not view.halt and (view.at_turn or view.count(AgentState.PENDING)):
            parts.append("will pause after this agent" if view.at_turn else "will pause before the next agent")
        return " · ".join(part for part in parts if part)
    if state == UNKNOWN:
        return styled("yellow", f"unknown whether its supervisor (pid {view.supervisor}) is running")
    ago = f" {format_duration(max(0.0, now.at - view.ended))} ago" if view.ended is not None else ""
    return styled(RUN_STYLES.get(state, ""), f"{state}{ago}, exit {seen(view)}")


def _companion(companion: CompanionView) -> str:
    told = [companion.state, f"pid {companion.pid}" if companion.pid else ""]
    if companion.starts > 1:
        told.append(f"started {companion.starts} times, the last for {companion.why}")
    return f"{companion.name} ({', '.join(filter(None, told))})"


def _hook(hook: HookView, now: float) -> str:
    of = f" of {hook.agent}" if hook.agent else ""
    time = format_duration(max(0.0, now - hook.began))
    return f"hook {hook.point}{of}: {printable(hook.command)}, pid {hook.pid}, for {time}"


def _left(view: RunView, now: float) -> str:
    seconds, unknown = remaining(view, now)
    if not view.expected or not seconds:
        return ""
    more = f", and {counted(unknown, 'agent')} that never ran" if unknown else ""
    return f"about {format_duration(max(seconds, 1.0))} left{more}"


def _turn(agent: AgentView, now: Now) -> str:
    if agent.delayed:
        return f"{agent.label} waits {agent.delayed}"
    if agent.state is AgentState.BACKOFF:
        wait = format_duration(agent.waits(now))
        return f"{agent.label}: attempt {(agent.attempt or 0) + 1} in {wait}, after {agent.reason}"
    if agent.state is AgentState.DRAINING:
        return f"{agent.label}: {agent.reason}, memory drains"
    text = f"{agent.label}: attempt {agent.attempt}"
    text += f", pid {agent.pid}" if agent.pid else ""
    text += f", for {format_duration(max(0.0, now.mono - agent.began))}" if agent.began is not None else ""
    return text + (f", hard {format_size(agent.hard)}" if agent.hard else "")


def _fields(found: Found, view: RunView, state: str) -> dict[str, object]:
    if state == DIED:
        view.lose()
    fields = of_run(view)
    seconds, unknown = remaining(view, time.monotonic())
    fields["passed_on"] = seen(view) if view.profile is None else None
    fields["remaining"] = {"seconds": seconds, "agents_unknown": unknown} if state == RunState.RUNNING else None
    for agent in view.agents.values():
        fields["agents"][agent.name]["expected"] = agent.expected
    running = state in (RunState.RUNNING, RunState.STARTING)
    fields["suspended"] = running and view.supervisor is not None and bool(suspended(view.supervisor))
    counts = {str(each): view.count(each) for each in AgentState}
    return {
        **fields,
        "state": state,
        "folder": str(found.folder),
        "counts": counts,
        "agents": list(fields["agents"].values()),
    }
