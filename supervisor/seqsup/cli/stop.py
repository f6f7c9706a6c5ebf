"""`seqsup stop`: tell the supervisor of a run to end it."""

import os
import signal
import time

import click

from . import _complete
from ._find import Found, find

_LOOK_AGAIN = 0.05  # seconds


@click.command(short_help="End a run after its running agent, or now.")
@click.argument("run", required=False, shell_complete=_complete.run)
@click.option("--now", is_flag=True, help="Stop the running agent too, with its grace, and wait for the end.")
def stop(run: str | None, now: bool) -> int:
    """End RUN (the one that runs) after its running agent. A stopped run goes on with `start --resume`."""
    found = find(run)
    if not _signal(found, signal.SIGTERM if now else signal.SIGUSR1):
        click.echo(f"{found.label} {found.row.name} does not run", err=True)
        return 0
    running = found.view().current
    after = f"after {running.name}" if running else "before its next agent"
    click.echo(f"{found.label} {found.row.name} ends {'now' if now else after}", err=True)
    while now and found.lives():
        time.sleep(_LOOK_AGAIN)
    return 0


def _signal(found: Found, signum: signal.Signals) -> bool:
    """Signal the run's supervisor; False when it is gone. Its lock, held before and after, vouches for the pid."""
    if not found.lives():
        return False
    try:
        pidfd = os.pidfd_open(found.row.pid)
    except ProcessLookupError:
        return False
    try:
        if not found.lives():
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
