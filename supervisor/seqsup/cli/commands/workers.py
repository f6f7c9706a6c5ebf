"""`seqsup workers`: the machines that take jobs from a queue on PostgreSQL."""

import time

import click
from msgspec.structs import asdict

from seqsup.cli.arguments import queue_option
from seqsup.cli.output import notice, put_object
from seqsup.queue.address import EMBEDDED, fleet_queue, selected
from seqsup.queue.jobs import job_label
from seqsup.text import named, printable, styled
from seqsup.units import format_duration, format_size
from seqsup.view.table import NONE, Column, render
from seqsup.view.terminal import width

_COLUMNS = (
    Column("worker", right=False),
    Column("machine", right=False, optional=3),
    Column("state", right=False),
    Column("since"),
    Column("slots", optional=2),
    Column("free memory", optional=1),
    Column("runs", right=False),
)


@click.command(short_help="List the machines of a fleet, or drain one.")
@click.option("--drain", "host", metavar="HOST", help="Let this worker, or all of this machine, take no further job.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, sizes in bytes and times in seconds.")
@queue_option
def workers(host: str | None, as_json: bool, url: str | None) -> None:
    """List the workers of a queue on PostgreSQL: alive since when, their slots, their memory, and what they run.

    A drained worker finishes its jobs, and takes no other until it is started again.
    """
    address = selected(url)
    if address == EMBEDDED:
        raise click.UsageError(
            "the queue is that of this machine: give --queue postgresql://USER@HOST/DATABASE, or see `seqsup queue`"
        )
    queue = fleet_queue(address)(address)
    try:
        if host is not None:
            drained = queue.drain(host)
            notice(f"{named(drained)} {'takes' if len(drained) == 1 else 'take'} no further job until a restart")
            return
        machines = queue.machines()
    finally:
        queue.close()
    if as_json:
        put_object("seqsup.workers/1", {"queue": queue.address, "workers": [asdict(each) for each in machines]})
    elif not machines:
        notice("no workers: `seqsup work` on a machine starts one")
    else:
        now = time.time()
        rows = [
            (
                printable(each.name), printable(each.host), _state(each.alive, each.drain),
                format_duration(max(now - (each.since if each.alive else each.beat), 0)), str(each.slots),
                format_size(each.available) if each.alive else NONE, " ".join(map(job_label, each.jobs)) or NONE,
            )
            for each in machines
        ]  # fmt: skip
        click.echo("\n".join(render(_COLUMNS, rows, width())))


def _state(alive: bool, drain: bool) -> str:
    if not alive:
        return styled("red", "lost")
    return styled("yellow", "drained") if drain else styled("green", "alive")
