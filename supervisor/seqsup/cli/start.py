"""`seqsup start`: the main job."""

from pathlib import Path

import click
from msgspec.structs import replace

from ..history import failed
from . import _complete
from ._detach import detach as in_background
from ._load import earlier, load
from ._logging import log_options
from ._supervise import Manner, go_on, supervise


@click.command(short_help="Run a profile's agents one at a time.")
@click.argument("profile", required=False, shell_complete=_complete.profile)
@click.option("--task", default="", metavar="TEXT", help="Fills {task}; agents with `when` are taken by its words.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Take only this agent (may be given more than once).",
    shell_complete=_complete.agent_of_profile,
)
@click.option(
    "--from", "start_from", metavar="NAME", help="Begin with this agent.", shell_complete=_complete.agent_of_profile
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with the profile's last run (or RUN): what completed is not run again.",
    shell_complete=_complete.run,
)
@click.option(
    "--retry-failed", is_flag=True, help="Go on with the last run, but only with what gave up in it, or needed that."
)
@click.option("--no-wait", is_flag=True, help="If another run has the machine, exit 3 instead of waiting.")
@click.option("--detach", is_flag=True, help="In the background: return as soon as it runs, or waits for its turn.")
@click.option("--follow", is_flag=True, help="Show what the agents print, each line with its agent's name.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain"]),
    default="auto",
    show_default=True,
    help="plain: lines only, nothing redrawn, as in CI and pipes; right for screen readers.",
)
@log_options
@click.option("--json", "as_json", is_flag=True, help="Events as lines of JSON on stdout, nothing for people.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures, and the table at the end.")
def start(
    profile: str | None, task: str, only: tuple[str, ...], start_from: str | None, resume: str | None,
    retry_failed: bool, no_wait: bool, detach: bool, as_json: bool, quiet: bool, follow: bool, progress: str,
    log_level: str | None, log_format: str,
) -> int:  # fmt: skip
    """Run PROFILE's agents one at a time, and prove that memory is back after each.

    \b
    Ctrl-C         stop after this agent
    Ctrl-C twice   stop it now, with its grace, and drain
    three times    kill
    A stopped run goes on with --resume.
    """
    if (code := go_on()) is not None:
        return code
    if profile is None and resume:  # `start --resume nightly.toml`: the name was meant for PROFILE
        profile, resume = resume, ""
    if profile is None:
        raise click.UsageError("which profile? (seqsup start PROFILE)", click.get_current_context())
    if follow and as_json:
        raise click.UsageError("--follow and --json both want stdout: `seqsup logs -f` follows beside")
    if retry_failed:
        resume = resume or ""
    view = earlier(profile, resume) if resume is not None else None
    if view is not None:
        task = task or view.task
    if retry_failed:
        only = (*only, *(failed(view) if view is not None else ()))
        if not only:
            click.echo("seqsup: nothing to retry: no agent gave up", err=True)
            return 0
    manner = Manner(
        resume=resume, wait=not no_wait, json=as_json, quiet=quiet or detach, follow=follow, plain=progress == "plain",
        log_level=log_level and log_level.upper(), log_json=log_format == "json",
    )  # fmt: skip
    plan = load(profile, task=task, only=only, start_from=start_from)
    if not detach:
        return supervise(plan, manner)
    if as_json or follow:
        raise click.UsageError(
            "--detach has no output; `seqsup events -f` follows the run", click.get_current_context()
        )
    return in_background(Path(plan.state_dir), lambda detached: supervise(plan, replace(manner, detached=detached)))
