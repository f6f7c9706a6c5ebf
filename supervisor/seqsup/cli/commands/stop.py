"""`seqsup stop`: tell the supervisor of a run to end it."""

import signal
import time

import click

from seqsup.cli import complete
from seqsup.cli.find_run import Found, find, in_queue, job_number
from seqsup.cli.signals import send, suspended
from seqsup.state.run_folder import state_dir
from seqsup.state.turn import Waiting, queued
from seqsup.text import named
from seqsup.units import format_duration

_LOOK_AGAIN, _TOLD_EVERY = 0.05, 3.0  # seconds


@click.command(short_help="Stop a run after its running agent, or now.")
@click.argument("run", required=False, shell_complete=complete.run)
@click.option("--now", is_flag=True, help="Stop the running agent too, with its grace period, and wait for the end.")
def stop(run: str | None, now: bool) -> int:
    """End RUN (the one that runs; or q7, one that waits for its turn; or '#12', a job) after its running agent.

    A stopped run exits with 130, after --now with 143. `start --resume` resumes it.
    """
    if (job := job_number(run)) is not None:
        return _stop_job(job, now)
    if run is not None and (waiting := in_queue(run)):
        return _turn_away(waiting)
    found = find(run)
    was_suspended = suspended(found.row.pid)
    if not send(found.row.pid, found.lives, signal.SIGTERM if now else signal.SIGUSR1, signal.SIGCONT):
        last = f"{found.label} {found.row.name}"
        click.echo(f"no run is active; the last one is {last}" if run is None else f"{last} is not running", err=True)
        for each in queued(state_dir()):
            if each.name == found.row.name:
                click.echo(f"{each.label} {each.name} waits for its turn: seqsup stop {each.label}", err=True)
        return 0
    if was_suspended:
        click.echo(
            f"its supervisor (pid {found.row.pid}) was suspended and watched nothing: it continues now", err=True
        )
    view = found.view()
    running = [agent.name for agent in view.at_turn if agent.limit_until is None]  # a pause at a limit ends at once
    when = f"after {named(running)}" if running else "before its next agent"
    if now:  # hooks that come after something have their work to do
        hooks = [
            f"{each.point} (pid {each.pid})" for each in view.hooks.values() if not each.point.startswith("before")
        ]
        when = f"when its hook {named(hooks)} has finished" if hooks else "now"
    click.echo(f"{found.label} {found.row.name} ends {when}", err=True)
    if now:
        _wait(found)
    return 0


def _wait(found: Found) -> None:
    """Wait for the end of a run. At once, and then every few seconds, say what it still waits for."""
    began, told = time.monotonic(), 0.0
    while found.lives():
        if time.monotonic() >= told:
            seconds, told = time.monotonic() - began, time.monotonic() + _TOLD_EVERY
            running = [f"{agent.name} (pid {agent.pid})" for agent in found.view().at_turn if agent.pid]
            if running:
                since = f", {format_duration(seconds)} so far" if seconds >= 1 else ""
                click.echo(f"waiting for {named(running)} to exit within its grace period{since}", err=True)
        time.sleep(_LOOK_AGAIN)
    click.echo(f"{found.label} {found.row.name} ended after {format_duration(time.monotonic() - began)}", err=True)


def _stop_job(number: int, now: bool) -> int:
    """Cancel a job of the queue. Wait for the end of its run if that is wanted, and is here."""
    from seqsup.cli.jobs import drop, opened, run_here

    with opened() as queue:
        job = queue.job(number)
        drop(queue, job, now=now)
        found = run_here(job) if now and not job.state.over else None
    if found is not None:
        _wait(found)
    return 0


def _turn_away(waiting: Waiting) -> int:
    send(waiting.pid, lambda: waiting in queued(state_dir()), signal.SIGTERM, signal.SIGCONT)
    click.echo(f"{waiting.label} {waiting.name} (pid {waiting.pid}) left the queue", err=True)
    return 0
