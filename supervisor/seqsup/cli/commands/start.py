"""`seqsup start`: the main job."""

import shlex
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from seqsup.cli.arguments import log_options
from seqsup.cli.choose import take, taking_options
from seqsup.runner.detached import detach as in_background
from seqsup.runner.readers import Display
from seqsup.runner.supervisor import supervise
from seqsup.state.run_folder import state_dir


@click.command(short_help="Run a profile's agents one at a time.")
@taking_options
@click.option("--no-wait", is_flag=True, help="Exit with 3 instead of waiting if another run is active.")
@click.option("--detach", is_flag=True, help="Run in the background. Return once the run has started or is queued.")
@click.option("--follow", is_flag=True, help="Show the agents' output, each line with the agent's name.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain"]),
    default="auto",
    show_default=True,
    help="plain: lines only, without redrawing, as in CI and pipes. Right for screen readers.",
)
@log_options
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines on stdout, and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Show also what memory each agent gave back.")
@click.option("-q", "--quiet", is_flag=True, help="Show only failures, pauses and the final table.")
def start(
    profile: str | None, no_wait: bool, detach: bool, as_json: bool, verbose: bool, quiet: bool, follow: bool,
    progress: str, log_level: str | None, log_format: str, **asked: Any,
) -> int:  # fmt: skip
    """Run PROFILE's agents one at a time, and prove that memory is back after each.

    Without PROFILE: agents.toml, or the only profile of the current folder. PROFILE may be another folder.

    \b
    Ctrl-C         stop after this agent
    Ctrl-C twice   stop it now with its grace period, and drain
    three times    kill
    Continue a stopped run with --resume.
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json both use stdout: follow with `seqsup logs -f` instead")
    taken = take(profile, may_ask=True, **asked)
    plan = taken.plan
    display = Display(
        note=taken.note, json=as_json, quiet=quiet or detach, verbose=verbose, follow=follow, plain=progress == "plain",
        log_level=log_level and log_level.upper(), log_json=log_format == "json",
    )  # fmt: skip
    of = taken.earlier and taken.earlier.run
    if not detach:
        return supervise(plan, display, resume=of, wait=not no_wait)
    if as_json or follow:
        raise click.UsageError("--detach has no output: follow the run with `seqsup events -f`")
    folder = Path(plan.state_dir)
    path = profile if profile and profile.endswith(".toml") else plan.profile or ""
    found_by = shlex.quote(path) if folder != state_dir() else ""
    return in_background(
        folder,
        lambda detached: supervise(plan, replace(display, detached=detached), resume=of, wait=not no_wait),
        found_by,
    )
