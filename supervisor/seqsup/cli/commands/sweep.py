"""`seqsup sweep`: put in order what dead supervisors left."""

import asyncio
from pathlib import Path

import click

from seqsup.cli.output import put_object
from seqsup.host.wake import Wake
from seqsup.model.process_names import processes
from seqsup.runner.recover import Recovered, look, look_elsewhere, recover, recover_elsewhere
from seqsup.state.journal import Journal
from seqsup.state.journal_schema import kept
from seqsup.state.run_folder import state_dir
from seqsup.text import styled


@click.command(short_help="Find and stop processes that a dead supervisor left behind.")
@click.option("--dry-run", is_flag=True, help="Only list leftover processes; stop nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sweep(dry_run: bool, as_json: bool) -> int:
    """Find what dead supervisors left running, stop it, remove its cgroups, and mark their attempts as lost.

    `start` and `run` do the same before they begin. Live runs are never touched.
    """
    folder = state_dir()
    found = asyncio.run(_find(folder, dry_run))
    if as_json:
        put_object("seqsup.sweep/1", {"dry_run": dry_run, "runs": found})
    else:
        _print(found, "left" if dry_run else "stopped")
    return 1 if any(run.remains for run in found) else 0


def _print(found: list[Recovered], verb: str) -> None:
    for run in found:
        name = f"{run.run} {styled('bold', run.name)}"
        if run.unknown:
            click.echo(f"{name}: {styled('yellow', 'may have left processes behind')}, {run.unknown}")
            continue
        lost = f", lost while {run.lost} ran" if run.lost else ""
        click.echo(f"{name}{lost}: {_done(run, verb)}")
        for group in run.groups:
            click.echo(styled("dim", f"  {'left' if verb == 'left' else 'removed'} cgroup {group}"))
        if run.remaining:
            click.echo(styled("red", f"  still running after SIGKILL: {processes(run.remaining)}"))
        for group in run.groups_remaining:
            click.echo(styled("red", f"  could not be removed: cgroup {group}"))
    if not found:
        click.echo("Nothing to clean up.")


def _done(run: Recovered, verb: str) -> str:
    if run.processes:
        return f"{verb} {processes(run.processes)}"
    if run.remaining:
        return "not ended"
    if run.killed:
        return "its processes were killed when the supervisor died"
    return "only cgroups were left" if run.groups or run.groups_remaining else "no processes were left"


async def _find(folder: Path, dry_run: bool) -> list[Recovered]:
    journal = Journal.open(folder, write=True) if kept(folder) else None
    if dry_run:
        found = look(journal, folder) if journal else []
        others = look_elsewhere(journal, folder, folder)
    else:
        wake = Wake()
        found = await recover(journal, folder, wake) if journal else []
        others = await recover_elsewhere(journal, folder, folder, wake)
    return [*found, others] if others is not None else found
