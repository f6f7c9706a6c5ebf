"""`seqsup queue`: the jobs that wait, run and ended, and what can be done with them."""

import sys
import time

import click

from seqsup.cli import complete, jobs
from seqsup.cli.app import Group
from seqsup.cli.arguments import duration, job, queue_option
from seqsup.cli.jobs import each_of, look, opened
from seqsup.cli.output import notice, put_object
from seqsup.queue.address import EMBEDDED, fleet_queue, selected, shown
from seqsup.queue.store import Queue
from seqsup.queue.table import MOST, object_of, table
from seqsup.text import printable
from seqsup.view.canvas import parts
from seqsup.view.terminal import redrawable, width

_LOOKED_EVERY = 1.0  # seconds
_ALL = 2**31  # jobs: none is left out
_FRAME = 8  # lines of a screen that are no rows: headline, column titles, remedies

numbers = click.argument(
    "numbers", nargs=-1, required=True, metavar="N...", type=job, shell_complete=complete.job
)  # fmt: skip


@click.group(cls=Group, invoke_without_command=True, short_help="Show the queue; drop, move and retry its jobs.")
@click.option("-w", "--watch", is_flag=True, help="Keep showing it. Ctrl-C stops no job.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all jobs that are not over.")
@queue_option
@click.pass_context
def queue(context: click.Context, watch: bool, as_json: bool, url: str | None) -> None:
    """Show what waits and for what, what runs, and what ended and how.

    N is the number of a job: 12, or '#12' in quotes, since # begins a comment in most shells.
    """
    if context.invoked_subcommand is not None:
        if watch or as_json:
            raise click.UsageError(f"{'--watch' if watch else '--json'} goes with no subcommand")
        return
    with opened(url) as found:
        if as_json:
            put_object(
                "seqsup.queue/1",
                {
                    "queue": found.address, "paused": found.paused(), "workers": found.workers(),
                    "counts": found.counts(), "jobs": [object_of(each) for each in found.jobs(waiting=_ALL)],
                },
            )  # fmt: skip
        elif watch:
            _watch(found)
        elif (seen := look(found)).empty:
            notice("no jobs yet: `seqsup add PROFILE` queues one")
        else:
            click.echo("\n".join(table(seen, time.time(), width())))


def _watch(found: Queue) -> None:
    """Show the queue until Ctrl-C, and take the view away again."""
    if not redrawable():
        raise click.UsageError("--watch needs a terminal, without CI and TERM=dumb; use `seqsup queue --json`")
    from seqsup.view.screen import Screen  # few commands draw

    screen = Screen(sys.stdout)
    try:
        while True:
            columns, lines = screen.size
            most = max(min(MOST, lines - _FRAME), 1)
            screen.draw([parts(line) for line in table(look(found), time.time(), columns, most)])
            time.sleep(_LOOKED_EVERY)
    finally:
        screen.close()


@queue.command(short_help="Take jobs out of the queue. One that runs ends after its agent.")
@numbers
@queue_option
def drop(numbers: tuple[int, ...], url: str | None) -> None:
    """Cancel jobs. A job that runs ends after its running agent; `seqsup stop '#N' --now` ends it now.

    Jobs that were added with --after such a job cannot start: drop them too, or `retry` the first one.
    """
    with opened(_address(url)) as found:
        for was in each_of(found, numbers):
            jobs.drop(found, was)


@queue.command(short_help="Run a job before the others.")
@click.argument("number", metavar="N", type=job, shell_complete=complete.job)
@click.option("--first", is_flag=True, help="Before all others of its priority.")
@queue_option
def move(number: int, first: bool, url: str | None) -> None:
    """Put a job before all others of its priority."""
    if not first:
        raise click.UsageError(f"incomplete: seqsup queue move {number} --first")
    with opened(_address(url)) as found:
        moved = found.first(number)
        notice(f"{moved.label} {printable(moved.name)} is first among the jobs of priority {moved.priority}")


@queue.command(short_help="Run failed or cancelled jobs again.")
@numbers
@queue_option
def retry(numbers: tuple[int, ...], url: str | None) -> None:
    """Run failed or cancelled jobs again, under the same numbers. Jobs that wait for them then can start."""
    with opened(_address(url)) as found:
        for was in jobs.retried(found, numbers):
            again = found.retry(was.number)
            notice(f"{again.label} {printable(again.name)} is {again.state} again")


@queue.command(short_help="Have workers take no further job.")
@queue_option
def pause(url: str | None) -> None:
    """Have workers take no further job until `seqsup queue resume`. Running jobs continue."""
    with opened(_address(url)) as found:
        found.pause(True)
    notice("the queue is paused: `seqsup queue resume` continues it")


@queue.command(short_help="Have workers take jobs again.")
@queue_option
def resume(url: str | None) -> None:
    """Have workers take jobs again after `seqsup queue pause`."""
    with opened(_address(url)) as found:
        was = found.paused()
        found.pause(False)
    notice("the queue continues" if was else "the queue is not paused")


@queue.command(short_help="Create the tables of a queue on PostgreSQL, or bring them up to date.")
@click.option(
    "--lease", metavar="DURATION", type=duration,
    help='A worker that was not heard of for so long is lost: its job runs elsewhere. Default: "2m".',
)  # fmt: skip
@click.option(
    "--on-lease-loss", type=click.Choice(["stop", "ride-out"]),
    help="What a worker does that cannot reach the server: stop its agent, or let it finish. Default: stop.",
)  # fmt: skip
@queue_option
def init(lease: float | None, on_lease_loss: str | None, url: str | None) -> None:
    """Create the tables of a queue on PostgreSQL, or bring them up to date. It is safe to repeat.

    What an option does not set stays as it is. stdout has the SQL of a role with the least rights that users and
    workers need.
    """
    address = selected(_address(url))
    if address == EMBEDDED:
        raise click.UsageError(
            "the queue of this machine needs no tables: give --queue postgresql://USER@HOST/DATABASE"
        )
    ride_out = None if on_lease_loss is None else on_lease_loss == "ride-out"
    role = fleet_queue(address).init(address, lease=lease, ride_out=ride_out)
    notice(f"the queue {shown(address)} is ready")
    click.echo(role.rstrip("\n"))


def _address(url: str | None) -> str | None:
    """Return --queue of the subcommand, or of the command before it."""
    parent = click.get_current_context().parent
    return url or (parent.params.get("url") if parent is not None else None)
