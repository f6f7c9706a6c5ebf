"""`seqsup grafana`: the dashboard, the alerts, and what Prometheus and Grafana need to have them."""

import shutil
from importlib import metadata
from pathlib import Path

import click

from seqsup.errors import SeqsupError

_INSTALLED = "share/seqsup/grafana/compose.yml"
_PARTS = ("dashboards", "prometheus", "provisioning", "compose.yml")


@click.command(short_help="Write a Grafana dashboard and Prometheus alerts.")
@click.argument("folder", default="grafana")
def grafana(folder: str) -> None:
    """Write the Grafana dashboard, Prometheus' alerts and the configuration of both to FOLDER (grafana).

    \b
    dashboards/     to import in Grafana: Dashboards, New, Import
    prometheus/     scrape configuration and alert rules, with their tests
    provisioning/   data source and dashboards, for Grafana to find by itself
    compose.yml     both servers at once: docker compose -f grafana/compose.yml up

    It writes over nothing.
    """
    there, source = Path(folder), _source()
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
    click.echo(f"seqsup: wrote {there}: a dashboard, alerts, and the configuration of Prometheus and Grafana", err=True)
    click.echo(f"next: in Grafana, Dashboards, New, Import: {there}/dashboards/seqsup-memory.json", err=True)


def _source() -> Path:
    """The folder in a checkout, or where the installer has put it."""
    package = Path(__file__).parents[2]
    if (checkout := package.parents[1] / "grafana" / "make.py").exists():
        return checkout.parent
    installed = [Path(str(file.locate())) for file in metadata.files("seqsup") or () if file.match(_INSTALLED)]
    for file in (*installed, package.parent / _INSTALLED):  # pip --target writes down another place than this one
        if file.exists():
            return file.resolve().parent
    raise SeqsupError("this installation lacks the dashboard's files: install seqsup again")
