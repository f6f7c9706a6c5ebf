"""`seqsup pause`: start no further agent of a run until `seqsup resume`."""

import click

from seqsup.cli import complete
from seqsup.cli.find_run import find
from seqsup.state.run_folder import PAUSED, write_private
from seqsup.text import named


@click.command(short_help="Start no further agent of a run until resume.")
@click.argument("run", required=False, shell_complete=complete.run)
def pause(run: str | None) -> int:
    """Start no further agent of RUN (the one that runs) until `seqsup resume`. The running agent runs on to its end.

    The run keeps the machine's turn meanwhile. A pause outlives the run's supervisor: `start --resume` finds it.
    """
    found = find(run)
    if not found.lives():
        click.echo(f"{found.label} {found.row.name} is not running", err=True)
        return 0
    write_private(found.folder / PAUSED, "")
    running = [agent.name for agent in found.view().at_turn]
    after = f"after {named(running)}" if running else "before its next agent"
    click.echo(f"{found.label} {found.row.name} pauses {after}; `seqsup resume {found.label}` continues it", err=True)
    return 0
