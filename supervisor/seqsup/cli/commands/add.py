"""`seqsup add`: a profile, a command or a prompt into the queue."""

import time
from pathlib import Path
from typing import Any

import click

from seqsup.cli import complete
from seqsup.cli.arguments import command_options, job, queue_option, text, to_come, whole
from seqsup.cli.new_jobs import Made, Wanted, of_command, of_profile
from seqsup.cli.output import notice
from seqsup.cli.read_profile import profile_path
from seqsup.plan.repositories import as_seen_from
from seqsup.queue.address import EMBEDDED, open_queue, selected
from seqsup.queue.jobs import HIGHEST, LOWEST, CommandOptions, JobState, job_label
from seqsup.queue.table import NO_WORKER, PAUSED, sentence
from seqsup.state.run_folder import straight

_COMMAND = "command"  # in the context: what follows `--`
_LISTED = 8  # jobs of which stderr says what they wait for


class _Add(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows `--` apart: that is a command, and a word without it is a profile."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND], args = tuple(args[at + 1 :]), args[:at]
        return super().parse_args(ctx, args)


@click.command(cls=_Add, short_help="Queue a profile, a command or a prompt.")
@click.option("--task", default="", type=text, metavar="TEXT", help="Value of {task} in the profile.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Run only this agent of the profile. May be repeated.",
    shell_complete=complete.agent_of_profile,
)  # fmt: skip
@click.option("--spread", is_flag=True, help="One job for each item of for_each, and for each independent chain.")
@command_options
@click.option(
    "--after", "after", multiple=True, metavar="N", type=job, shell_complete=complete.job,
    help="Wait until job N is done. May be repeated.",
)  # fmt: skip
@click.option(
    "--at", "at", metavar="TIME", type=to_come, help="Wait until then: 02:00, the next one, or 2026-12-24T02:00."
)
@click.option(
    "--priority", metavar="N", type=whole(LOWEST, HIGHEST), default="0",
    help=f"Jobs of a higher one are first. {LOWEST} to {HIGHEST}. Default: 0.",
)  # fmt: skip
@click.option("--workspace", metavar="GIT[@REF]", type=text, help="Work in a fresh checkout of this repository.")
@queue_option
@click.argument("words", nargs=-1, metavar="[PROFILE | -- CMD [ARG]...]", shell_complete=complete.profile)
@click.pass_context
def add(
    context: click.Context, /, words: tuple[str, ...], task: str, only: tuple[str, ...], spread: bool,
    after: tuple[int, ...], at: float | None, priority: int, workspace: str | None, url: str | None, **options: Any,
) -> None:  # fmt: skip
    """Queue a job, and print its number, such as #12. `seqsup work` carries jobs out, one after another.

    \b
    seqsup add night.toml                        a profile, as `seqsup start` runs it
    seqsup add -- npm test                       a command, as `seqsup run` runs it
    seqsup add --preset claude "Fix the tests"   a prompt

    Without PROFILE: agents.toml, or the only profile of the current folder. The job takes the profile as it is now:
    later changes do not matter. Paths begin where they do for `start` and `run`.

    seqsup checks all of it first. After a mistake it queues nothing.
    """
    command: tuple[str, ...] | None = context.meta.get(_COMMAND)
    wanted = CommandOptions(**options)
    address = selected(url)
    if workspace is not None and address == EMBEDDED:
        workspace = as_seen_from(str(straight(Path())), workspace)
    common = Wanted(
        fleet=address != EMBEDDED, workspace=workspace, priority=priority, not_before=at,
        after=tuple(dict.fromkeys(after)),
    )  # fmt: skip
    if wanted.preset is not None or command is not None:
        _refuse(task=task, only=only, spread=spread)
        made = of_command(_words(words, command, wanted), common, wanted)
    else:
        for name, value in options.items():
            if value:
                raise click.UsageError(f"--{name} goes with a command: seqsup add --{name} … -- CMD")
        if len(words) > 1:
            raise click.UsageError(f"one profile at a time, or a command behind --: seqsup add -- {' '.join(words)}")
        path = profile_path(words[0] if words else None)
        made = of_profile(path, common, task=task, only=only, spread=spread)
    _queue(made, address)


def _refuse(*, task: str, only: tuple[str, ...], spread: bool) -> None:
    for name, value in (("task", task), ("only", only), ("spread", spread)):
        if value:
            raise click.UsageError(f"--{name} goes with a profile, not with a command")


def _words(words: tuple[str, ...], command: tuple[str, ...] | None, options: CommandOptions) -> tuple[str, ...]:
    """Return the words of the command or of the prompt."""
    if options.preset is not None:
        if not (prompt := (*words, *(command or ()))):
            raise click.UsageError(f'incomplete: seqsup add --preset {options.preset} "PROMPT"')
        return prompt
    if options.model is not None:
        raise click.UsageError("--model goes with --preset")
    if words:
        raise click.UsageError(f"unexpected argument: {words[0]}; give a profile, or a command behind --, not both")
    if not command:
        raise click.UsageError("incomplete: seqsup add -- CMD")
    return command


def _queue(made: Made, address: str) -> None:
    """Add the jobs and say what they wait for."""
    queue = open_queue(address)
    try:
        numbers = queue.add(made.jobs)
        click.echo("\n".join(map(job_label, numbers)))
        for note in made.notes:
            notice(note)
        for number in numbers[:_LISTED]:
            if (added := queue.job(number)).state is JobState.WAITING:
                notice(sentence(added, time.time()))
        if queue.paused():
            notice(PAUSED)
        elif not queue.workers():
            notice(NO_WORKER)
    finally:
        queue.close()
