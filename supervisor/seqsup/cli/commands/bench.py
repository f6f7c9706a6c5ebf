"""`seqsup bench`: what one at a time is worth on this machine."""

import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

import click
import msgspec

from seqsup.cli import complete
from seqsup.cli.arguments import size, text, whole
from seqsup.cli.load_plan import load
from seqsup.cli.output import notice, put_object
from seqsup.cli.read_profile import profile_path
from seqsup.containment.cgroup.parent_limits import ceilings
from seqsup.containment.mark import COOKIE
from seqsup.errors import Refused
from seqsup.host.machine import LINUX, Host
from seqsup.model.plan import Plan, Step
from seqsup.plan.containment import contain
from seqsup.plan.select import Choice
from seqsup.runner.bench import ONE_BY_ONE, SUPERVISED, WAYS, Bench, Row, measure, of_plan, of_stubs, stub_size
from seqsup.runner.bench_box import STOPS, TICK, by_kernel
from seqsup.state.run_folder import RUNS, state_dir, surely_alive
from seqsup.text import counted, styled, wrap
from seqsup.units import GIB, MIB, format_duration, format_size
from seqsup.view.table import NONE, Column, render
from seqsup.view.terminal import width

_LEAST = 128 * MIB  # seqsup itself takes a quarter of it
_AGENTS = 5
_WATCHED = (
    f"limit kept by seqsup, as there is no cgroup (see seqsup doctor): it looks every {TICK * 1000:.0f} ms, so a peak"
    " can be above the limit"
)
_COLUMNS = (Column("way", right=False), Column("crashed"), Column("peak"), Column("time"))


@click.command(short_help="Measure agents at once, one after another and under seqsup.")
@click.argument("profile", required=False, shell_complete=complete.profile)
@click.option(
    "--agents", metavar="N", type=whole(1), help=f"Number of test agents without PROFILE. Default: {_AGENTS}."
)
@click.option(
    "--memory",
    metavar="SIZE",
    type=size,
    help="Limit for all agents together, at most half of the available memory. Default: 1GiB, with PROFILE that half.",
)
@click.option("--task", metavar="TEXT", type=text, default="", help="What {task} is in PROFILE.")
@click.option("--yes", is_flag=True, help="Run PROFILE's commands without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
def bench(profile: str | None, agents: int | None, memory: int | None, task: str, yes: bool, as_json: bool) -> int:
    """Run agents all at once, one after another, beside leftover processes, and under seqsup. Show what crashed.

    Without PROFILE it runs test agents, each with 60 % of the limit. With PROFILE it runs that profile's agents, each
    four times, so it asks first. All agents share one memory limit, so a crash harms no other program.

    Exit codes: 0 no agent crashed under seqsup, 1 at least one did.
    """
    if profile is None and task:
        raise click.UsageError("--task is for a PROFILE")
    if profile is not None and agents is not None:
        raise click.UsageError("--agents is for test agents: with PROFILE its own agents run")
    _must_be_alone()
    plan = load(profile_path(profile), Choice(task=task)) if profile is not None else None
    limit = _limit(memory, plan)
    if plan is not None and not yes:
        _ask(plan, limit)
    with _folder() as folder, closing(contain(None, secrets.token_hex(16))) as chosen:
        made = of_plan(plan, folder) if plan is not None else of_stubs(agents or _AGENTS, limit, folder)
        kernel = by_kernel(chosen)
        if not as_json:
            by = f"limit kept by the kernel ({chosen.tier})" if kernel else _WATCHED
            click.echo("\n".join([*wrap(_agents(made, plan, limit), width()), *wrap(by, width()), ""]))
        rows = list(_shown(measure(made, chosen, limit, folder)))
    if as_json:
        ways = msgspec.to_builtins(rows)
        put_object("seqsup.bench/1", {"limit": limit, "by_kernel": kernel, "tier": chosen.tier, "ways": ways})
    else:
        click.echo("\n".join(_table(rows)))
    return int(any(row.crashed for row in rows if row.way == SUPERVISED))


def _must_be_alone() -> None:
    if not LINUX:
        raise Refused("bench needs Linux: elsewhere nothing keeps a limit for all agents together")
    if COOKIE in os.environ:
        raise Refused("bench cannot run inside an agent: run it in a terminal")
    if any(surely_alive(lock.parent) for lock in (state_dir() / RUNS).glob("*/lock")):
        raise Refused("a run is active, and bench would take its memory: wait for its end (seqsup status)")


def _limit(asked: int | None, plan: Plan | None) -> int:
    """Return the limit in bytes; UsageError if it is too small, or more than half of what this machine has now."""
    with closing(Host(ceilings())) as host:
        available = host.room()
    most = available // 2 // MIB * MIB
    least = _LEAST if plan is None else max(_LEAST, *map(_needed, plan.steps))
    limit = asked if asked is not None else min(GIB, most) if plan is None else most
    if limit > most:
        raise click.UsageError(
            f"--memory {format_size(limit)} is more than half of the {format_size(available)} that is available:"
            f" give at most {format_size(most)}"
        )
    if limit < least:
        why = f" ({plan.name} needs its memory.host_floor and its drain.available)" if plan and least > _LEAST else ""
        raise click.UsageError(f"{format_size(limit)} is too small: give --memory at least {format_size(least)}{why}")
    return limit


def _needed(step: Step) -> int:
    """Return the memory in bytes with less of which seqsup starts no agent."""
    return (step.limits.host_floor or 0) + (step.drain.available or 0)


def _ask(plan: Plan, limit: int) -> None:
    """Ask before a profile's commands run: they may cost money. Refused: the answer was no."""
    told = (
        f"bench runs {counted(len(plan.steps), 'agent')} of {plan.profile} four times ({', '.join(WAYS)}), with"
        f" {format_size(limit)} for all together. Each time they may cost money and change files."
    )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{told} Add --yes to do so")
    click.echo("\n".join(wrap(told, width(sys.stderr))), err=True)
    if not click.confirm("Run them?", err=True):
        raise Refused("nothing was started")


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a temporary folder. The first signal that asks for an end raises, and no further one interrupts the end."""

    def end(signum: int, _: object) -> None:
        for each in STOPS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(128 + signum)

    before = [(each, signal.signal(each, end)) for each in STOPS if signal.getsignal(each) is not signal.SIG_IGN]
    folder = Path(mkdtemp(prefix="seqsup-bench-", dir="/var/tmp"))  # /tmp may be memory
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for each, handler in before:
            if signal.getsignal(each) is end:  # else a further signal would still cut off the end of this program
                signal.signal(each, handler)


def _agents(made: Bench, plan: Plan | None, limit: int) -> str:
    """Say what is measured."""
    count, together = len(made.plain), f"in {format_size(limit)} together"
    if plan is None:
        return f"{counted(count, 'test agent')} of {format_size(stub_size(limit))} {together}"
    return f"{counted(count, 'agent')} of {plan.name} {together}"


def _shown(rows: Iterator[Row]) -> Iterator[Row]:
    """Pass on the rows. On a terminal, say which way is measured; after a signal, what was stopped."""
    way = ""
    try:
        with closing(rows):  # type: ignore[type-var]
            for way in WAYS:
                if sys.stderr.isatty():
                    click.echo(styled("dim", f"measuring: {way}"), err=True)
                row = next(rows)
                if row.why and row.way == ONE_BY_ONE:
                    notice(f"{row.crashed} of {row.agents} crashed without any other agent: {row.why}")
                yield row
    except (KeyboardInterrupt, SystemExit):
        if sys.stderr.isatty():
            click.echo(err=True)  # behind the terminal's ^C
        notice(f'interrupted while measuring "{way}": bench stopped its agents, and no process of theirs is left')
        raise


def _table(rows: list[Row]) -> list[str]:
    return render(
        _COLUMNS,
        [
            (
                row.way,
                styled("red" if row.crashed else "green", f"{row.crashed} of {row.agents}"),
                NONE if row.peak is None else format_size(row.peak),
                format_duration(row.seconds),
            )
            for row in rows
        ],
        width(),
    )
