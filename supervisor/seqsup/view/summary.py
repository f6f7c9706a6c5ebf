"""What a run came to: headline, table, reasons and what to do next. Pure text from a view."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from seqsup.model.process_names import processes
from seqsup.model.reason import CONSEQUENCES, KILLED, Reason
from seqsup.model.run_view import AgentState, AgentView, MemoryFigures, RunState, RunView
from seqsup.policy.workspaces import work
from seqsup.text import columns, counted, cut, named, printable, styled, unpainted, wrap
from seqsup.units import format_duration, format_share, format_size, format_usd
from seqsup.view.table import NONE, Column, render

COLUMNS = (
    Column("agent", right=False),
    Column("attempts", optional=2),
    Column("reason", right=False),
    Column("time", optional=1),
    Column("turns", optional=7),
    Column("cost", optional=1),
    Column("peak"),
    Column("of limit", optional=5),
    Column("gc freed", optional=6),
    Column("left over", optional=4),
    Column("drained", optional=3),
)
_MEMORY = (
    Column("agent", right=False),
    Column("host before", optional=3),
    Column("companions", optional=4),
    Column("peak"),
    Column("end", optional=1),
    Column("gave back"),
    Column("host after", optional=2),
)
_DIM = ("attempts", "turns", "of limit", "gc freed", "left over", "drained")  # the secondary figures
_STYLES = {
    AgentState.COMPLETED: "green",
    AgentState.GAVE_UP: "red",
    AgentState.LOST: "red",
    AgentState.HALTED: "yellow",
    AgentState.SKIPPED: "yellow",
    AgentState.BACKOFF: "yellow",
    AgentState.PENDING: "dim",
}
RUN_STYLES = {"completed": "green", "failed": "red", "died": "red", "stopped": "yellow", "unknown": "yellow"}
_LEAST = 20  # characters that stay of a result
_NAMED = 3  # agents that a hint lists
_STEPS, _NARROW = 3, 60  # lines of hints; one more on a terminal of fewer columns, where a line holds one hint
_TEXT = 100  # characters of a line of prose where the width is not known


def summary(
    view: RunView, *, width: int | None = None, here: str = "", elsewhere: bool = False,
    said: Mapping[str, str] | None = None, memory: bool = False,
) -> str:  # fmt: skip
    """Say all of it, of a run that is over. `said` is the result of each agent, in a line."""
    below = body(view, width=width, here=here, elsewhere=elsewhere, said=said, memory=memory)
    return "\n".join([*wrap("  ".join(filter(None, (view.run, lead(view)))), width), *below])


def body(
    view: RunView, *, width: int | None = None, died: bool = False, unswept: bool = False, here: str = "",
    elsewhere: bool = False, said: Mapping[str, str] | None = None, memory: bool = False,
) -> Iterator[str]:  # fmt: skip
    """What stands below the headline.

    `died`: its supervisor is gone, and `unswept`: has left something. `here` is the folder where commands would be
    typed; `elsewhere`: the profile keeps its runs in a folder of its own. `memory` adds a table of the agents' memory.
    """
    yield ""
    yield from table(view, width)
    if memory and (ran := [agent for agent in view.agents.values() if agent.attempts]):
        yield ""
        yield from render(_MEMORY, [(agent.label, *figures(agent, agent.peak)) for agent in ran], width)
    for line in branches(view):
        yield line
    for name, line in (said or {}).items():
        head = f"{name} said: "
        yield styled("bold", head.rstrip()) + " " + cut(printable(line), max((width or _TEXT) - columns(head), _LEAST))
    for what, why, held in reasons(view):
        told = f"{styled('bold', f'why {what}:')} {printable(why)}" + (";" if held else "")
        yield from wrap(told, width or _TEXT)
        yield from wrap(f"  {held}", width or _TEXT) if held else ()
    if view.sequence_violations:
        pairs = counted(view.sequence_violations, "pair")
        fault = f"internal error: {pairs} of attempts ran at the same time; please report this"
        yield from wrap(styled("red", fault), width or _TEXT)
    if view.state not in (RunState.STARTING, RunState.RUNNING) or died:
        of = _shown(view.profile, here) if elsewhere and view.profile else view.run
        yield from _hints(view, of, width, unswept, here)


def headline(view: RunView, now: float | None = None) -> str:
    """One line: `nightly  11 of 12 completed · 1 failed · 1 h 5 min · highest peak 1031 MiB (embed)`.

    `now` (monotonic) is for an active run.
    """
    return unpainted(lead(view, now))


def lead(view: RunView, now: float | None = None) -> str:
    """Return the headline with its name bold and its failures in red."""
    before = sum(agent.before for agent in view.agents.values())
    briefs = sum(agent.briefed for agent in view.agents.values())
    parts = [f"{counted(briefs, 'brief')} written, no agent started"] if briefs else []
    if before or not briefs:
        completed = f"{view.count(AgentState.COMPLETED) - briefs} of {len(view.agents)} completed"
        parts.append(completed + (f" ({before} before)" if before else ""))
    words = {
        AgentState.GAVE_UP: "failed",
        AgentState.HALTED: "halted",
        AgentState.LOST: "lost",
        AgentState.SKIPPED: "skipped",
    }
    parts += [
        styled(_STYLES[state], f"{number} {word}") for state, word in words.items() if (number := view.count(state))
    ]
    if view.ended is not None and (number := view.count(AgentState.PENDING)):
        parts.append(f"{number} not run")
    seconds = view.seconds
    if seconds is None and now is not None and view.began is not None:
        seconds = max(0.0, now - view.began)
    if seconds is not None:
        parts.append(format_duration(seconds))
    if highest := view.highest:
        parts.append(f"highest peak {format_size(highest.peak)} ({highest.label})")
    return f"{styled('bold', view.name)}  " + " · ".join(parts)


def table(view: RunView, width: int | None = None) -> list[str]:
    """One line an agent, in the plan's order."""
    over = view.ended is not None
    agents = list(view.agents.values())
    columns = shown(agents)
    return render(columns, [_painted(columns, agent, over) for agent in agents], width)


def shown(agents: Sequence[AgentView]) -> list[Column]:
    """Return the columns: turns and cost only if any agent has them."""
    unknown = {"turns": not any(agent.turns for agent in agents), "cost": all(agent.usd is None for agent in agents)}
    return [column for column in COLUMNS if not unknown.get(column.title)]


def _painted(columns: Sequence[Column], agent: AgentView, over: bool) -> list[str]:
    """The cells of a line, with the reason in the colour of the agent's state."""
    styles = dict.fromkeys(_DIM, "dim") | {"reason": _STYLES.get(agent.state, "")}
    cells = zip(columns, row(columns, agent, over), strict=True)
    return [styled(styles.get(each.title, ""), cell) for each, cell in cells]


def row(columns: Sequence[Column], agent: AgentView, over: bool) -> tuple[str, ...]:
    """The cells of these of COLUMNS; `over` says that the run has ended."""
    cells = dict(zip((column.title for column in COLUMNS), _cells(agent, over), strict=True))
    return tuple(cells[column.title] for column in columns)


def _cells(agent: AgentView, over: bool) -> tuple[str, ...]:
    return (
        agent.label,
        str(agent.attempts or NONE),
        _reason(agent, over),
        format_duration(agent.seconds) if agent.seconds else NONE,
        str(agent.turns or NONE),
        NONE if agent.usd is None else format_usd(agent.usd, partial=agent.usd_is_partial),
        format_size(agent.peak) if agent.peak else NONE,
        share(agent.peak, agent.hard),
        NONE if agent.gc_freed is None else format_size(agent.gc_freed),
        str(agent.left_over or NONE),
        drained(agent.drained, agent.drain_reached),
    )


def branches(view: RunView) -> Iterator[str]:
    """Say in a line for each workspace where the work is, and what to type next: a commit, a merge or a push."""
    for each in view.workspaces.values():
        agent = view.agents.get(each.agent)
        if not each.base or not each.ended or (agent is not None and agent.left_out):
            continue
        told = work(
            each.holder, commits=each.commits, changed=each.changed, pushed=each.pushed, removed=each.removed,
            folder=each.folder, holds=each.holds, why=each.why,
        )  # fmt: skip
        saved = f"; work of failed attempts: {', '.join(each.saved)}" if each.saved else ""
        name = printable(agent.label if agent is not None else each.agent or view.name)
        yield f"{name}: {printable('; '.join((told + saved, *each.next)))}"


def figures(around: MemoryFigures, peak: int) -> tuple[str, ...]:
    """Cells: the host before, companions, peak, end, what came back, and the host after."""
    sizes = (
        around.host_before, around.companions_before, peak or None, around.end, around.gave_back, around.host_after
    )  # fmt: skip
    return tuple(NONE if size is None else format_size(size) for size in sizes)


def share(peak: int, hard: int | None) -> str:
    """A cell: how much of its limit an agent took."""
    return format_share(peak / hard) if peak and hard else NONE


def drained(seconds: float | None, reached: bool | None) -> str:
    """A cell: the time until memory was back, or was given up."""
    return NONE if seconds is None else ("" if reached else "> ") + format_duration(seconds)


def _reason(agent: AgentView, over: bool) -> str:
    if agent.briefed:
        return "brief written"
    if agent.expected:
        return f"{agent.reason} (expected)"
    if agent.state is AgentState.PENDING and over:
        return "not run"
    if agent.state is AgentState.BACKOFF:
        return f"{agent.reason}, retries"
    if agent.state is AgentState.DRAINING:
        return f"{agent.reason}, drains"
    ended = agent.state in (AgentState.GAVE_UP, AgentState.COMPLETED)
    return str(agent.reason if ended and agent.reason else agent.state)


def reasons(view: RunView) -> Iterator[tuple[str, str, str]]:
    """Say what did not complete, why, and what held its memory; also why the run ended where that is no agent's."""
    for agent in view.agents.values():
        if agent.state is AgentState.GAVE_UP:
            yield f"{agent.label} failed", agent.why, processes(agent.processes)
    skipped: dict[str, list[str]] = {}
    for agent in view.agents.values():
        if agent.state is AgentState.SKIPPED:
            skipped.setdefault(agent.why, []).append(agent.label)
    for why, names in skipped.items():
        yield f"{named(names)} {_were(names)} skipped", why, ""
    if lost := [agent.label for agent in view.agents.values() if agent.state is AgentState.LOST]:
        yield f"{named(lost)} {_were(lost)} lost", "the supervisor died", ""
    if view.state is RunState.STOPPED and view.why:
        yield "the run stopped", view.why, ""


def _were(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def resume(view: RunView, here: str = "") -> list[str]:
    """The command that resumes a run; none for a run without a profile, or that has completed."""
    if view.profile is None or (view.state is RunState.COMPLETED and not view.owed):
        return []
    return [f"seqsup start {_shown(view.profile, here)} --resume"]


def _shown(profile: str, here: str) -> str:
    path = PurePath(profile)
    return shlex.quote(str(path.relative_to(here) if here and path.is_relative_to(here) else path))


def _fills(agent: AgentView) -> bool:
    """Say whether V8 ran out of what auto makes of memory.hard: a larger heap may pass that before V8 ends it."""
    if agent.reason is not Reason.HEAP_OOM or agent.heap is None:
        return False
    from seqsup.profile.limits import auto_heap  # which no other summary waits for

    return agent.heap == auto_heap(agent.hard)


def advice(agent: AgentView) -> str:
    """Say what to do about the code that leaks; empty where no line of code is known."""
    if agent.leak is None:
        return ""
    return f"{'fix the leak at' if agent.leak.proven else 'look for a leak at'} {agent.leak.at}"


def _hints(view: RunView, of: str, width: int | None, unswept: bool, here: str) -> Iterator[str]:
    gave_up = [agent for agent in view.agents.values() if agent.state is AgentState.GAVE_UP]
    leaks = {agent.leak.at: agent for agent in reversed(gave_up) if agent.leak is not None}  # of each line the first
    hints = ["seqsup sweep"] if unswept else []
    hints += [
        f"{advice(agent)} (seqsup logs {of} {shlex.quote(agent.name)} shows the allocations)"
        for agent in gave_up if agent in leaks.values()
    ]  # fmt: skip
    hints += [f"seqsup report {of}"] if any(agent.reason in KILLED for agent in gave_up) else []
    hints += logs([agent.name for agent in gave_up if agent.folder and not agent.leak], of)
    exited = [each.name for each in view.companions.values() if each.state == "exited"]
    hints += [f"seqsup logs {of} {shlex.quote(name)}" for name in exited]
    hints += resume(view, here)
    hints += _raises(view, gave_up)
    briefed = next((agent.name for agent in view.agents.values() if agent.briefed), None)
    hints += [f"seqsup artifacts show {shlex.quote(briefed)} --file brief.md"] if briefed is not None else []
    for command in ("logs", "report") if briefed is None else ():
        hints += [] if any(hint.startswith(f"seqsup {command} ") for hint in hints) else [f"seqsup {command} {of}"]
    yield from next_steps(hints, width)


def logs(failed: Sequence[str], of: str) -> list[str]:
    """The command that shows what agents of a run printed that failed; none if none did."""
    return [f"seqsup logs {of} {'--failed' if len(failed) > 1 else shlex.quote(failed[0])}"] if failed else []


def _raises(view: RunView, gave_up: Sequence[AgentView]) -> Iterator[str]:
    """Say which limits to raise, each once, and for which agents."""
    limits: dict[str, list[str]] = {}
    for agent in gave_up:
        if agent.reason is None or agent.leak is not None:  # a higher limit only delays a leak
            continue
        follows = CONSEQUENCES[Reason.HARD if _fills(agent) else agent.reason]
        limits.setdefault(follows.option if view.profile is None else follows.limit, []).append(agent.name)
    for limit, agents in limits.items():
        if limit:
            yield f"raise {limit}" + (f" for {named(agents, _NAMED)}" if view.profile is not None else "")


def next_steps(hints: Sequence[str], width: int | None) -> Iterator[str]:
    """A few lines of commands, of which none is broken if a line can hold it: they are there to be copied."""
    most = _STEPS if (width or _TEXT) >= _NARROW else _STEPS + 1
    told = [f"{styled('bold', 'next:')} {hints[0]}"]
    for hint in hints[1:]:
        if columns(told[-1]) + 3 + len(hint) > (width or _TEXT):
            if len(told) == most:
                break
            told.append(" " * 6 + hint)
        else:
            told[-1] += f" · {hint}"
    for line in told:
        yield from wrap(line, width, " " * 8)
