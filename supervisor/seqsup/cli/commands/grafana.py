"""`seqsup grafana`: the dashboards, the alerts, and what Prometheus and Grafana need to have them."""

import shutil
from pathlib import Path

import click

from seqsup.cli.output import notice
from seqsup.cli.shipped import shipped
from seqsup.errors import SeqsupError

_PARTS = ("dashboards", "prometheus", "provisioning", "compose.yml")


@click.command(short_help="Write Grafana dashboards and Prometheus alerts.")
@click.argument("folder", default="grafana")
def grafana(folder: str) -> None:
    """Write the Grafana dashboards, Prometheus' alerts and the configuration of both to FOLDER (grafana).

    \b
    dashboards/     to import in Grafana: Dashboards, New, Import
    prometheus/     scrape configuration and alert rules, with their tests
    provisioning/   data source and dashboards, for Grafana to find by itself
    compose.yml     both servers at once: docker compose -f grafana/compose.yml up

    It writes over nothing.
    """
    there, source = Path(folder), shipped("grafana", "compose.yml")
    for part in _PARTS:
        if (there / part).exists():
            raise SeqsupError(f"{there / part} exists already: choose another folder")
    try:
        there.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SeqsupError(f"{error.filename}: a file is in the way: choose another folder") from None
    except FileNotFoundError:
        raise SeqsupError(f"{there}: cannot create a folder in {there.parent}: choose another") from None
    for part in _PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, there / part)
        else:
            shutil.copyfile(source / part, there / part)
    notice(f"wrote {there}: dashboards, alerts, and the configuration of Prometheus and Grafana")
    click.echo(f"next: in Grafana, Dashboards, New, Import: {there}/dashboards/seqsup-memory.json", err=True)
    click.echo(f"for a queue and its workers also: {there}/dashboards/seqsup-fleet.json", err=True)
