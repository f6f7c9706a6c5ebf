"""`seqsup sweep`: put in order what dead supervisors left."""

import asyncio
from pathlib import Path

import click

from ..journal import FILE as JOURNAL
from ..journal import Journal
from ..model import ProcessMemory
from ..recover import Recovered, look, look_elsewhere, recover, recover_elsewhere
from ..wait import Wake
from ..wording import processes
from ._load import state_dir
from ._output import put_object


@click.command(short_help="Find and stop what a dead supervisor left behind.")
@click.option("--dry-run", is_flag=True, help="Only name what is left; touch nothing.")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
def sweep(dry_run: bool, as_json: bool) -> int:
    """Find what dead supervisors left running, stop it, and mark their attempts as lost.

    `start` and `run` do the same before they begin. Live runs are never touched.
    """
    folder = state_dir()
    found = _look(folder) if dry_run else asyncio.run(_recover(folder))
    if as_json:
        put_object("seqsup.sweep/1", {"dry_run": dry_run, "runs": found})
    else:
        _print(found, "left" if dry_run else "stopped")
    return 1 if any(run.remaining for run in found) else 0


def _print(found: list[Recovered], verb: str) -> None:
    for run in found:
        lost = f", lost while {run.lost} ran" if run.lost else ""
        done = f"{verb} {processes(run.processes)}" if run.processes else "nothing of it was left"
        click.echo(f"{run.run} {run.name}{lost}: {done}")
        if run.remaining:
            click.echo(f"  still there after KILL: {processes(run.remaining)}")
    if not found:
        click.echo("no supervisor died and left anything")


def _look(folder: Path) -> list[Recovered]:
    journal = _journal(folder)
    found = look(journal, folder) if journal else []
    return found + _of_others(look_elsewhere(folder, folder))


async def _recover(folder: Path) -> list[Recovered]:
    wake = Wake()
    journal = _journal(folder)
    found = await recover(journal, folder, wake) if journal else []
    return found + _of_others(await recover_elsewhere(folder, folder, wake))


def _journal(folder: Path) -> Journal | None:
    return Journal.open(folder, write=True) if (folder / JOURNAL).exists() else None


def _of_others(left: tuple[ProcessMemory, ...]) -> list[Recovered]:
    return [Recovered("-", "of another state folder", None, left)] if left else []
