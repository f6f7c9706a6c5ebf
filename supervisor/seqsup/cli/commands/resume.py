"""`seqsup resume`: continue a paused run."""

import signal

import click

from seqsup.cli import complete
from seqsup.cli.find_run import find
from seqsup.cli.signals import send
from seqsup.state.run_folder import PAUSED
from seqsup.view.summary import resume as command
from seqsup.view.terminal import here


@click.command(short_help="Continue a paused run.")
@click.argument("run", required=False, shell_complete=complete.run)
def resume(run: str | None) -> int:
    """Continue RUN (default: the active run), which `seqsup pause` has paused, with its next agent.

    Resume a stopped run with `seqsup start PROFILE --resume`.
    """
    found = find(run)
    paused = found.folder / PAUSED
    was_paused = paused.exists()
    paused.unlink(missing_ok=True)
    if send(found.row.pid, found.lives, signal.SIGUSR2):
        click.echo(f"{found.label} {found.row.name} {'continues' if was_paused else 'is not paused'}", err=True)
        return 0
    hints = "".join(f"; `{line}` resumes it" for line in command(found.view(), here()))
    click.echo(f"{found.label} {found.row.name} is not running{hints}", err=True)
    return 0
